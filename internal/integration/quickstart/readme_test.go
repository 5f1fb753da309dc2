package quickstart_test

import (
	"os"
	"strings"
	"testing"
)

func TestTheReadmeShowsTheProgramThatCompiles(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(source), "\t// README begins\n")
	program, _, found := strings.Cut(program, "\t// README ends\n")
	if !found {
		t.Fatal("the example has lost its markers")
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+strings.ReplaceAll("\n"+program, "\n\t", "\n")[1:]+"```\n") {
		t.Error("README.md does not show the lines between the markers of example_test.go, without their first tab")
	}
}
