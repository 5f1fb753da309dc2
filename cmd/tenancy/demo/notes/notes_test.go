package notes_test

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// What the demo claims: who writes handlers and SQL need not think of tenants.
func TestHandlersSayNoWordAboutTenants(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("notes.go")
	if err != nil {
		t.Fatal(err)
	}
	if at := strings.Index(strings.ToLower(string(source)), "tenan"); at >= 0 {
		t.Errorf("notes.go says %q", source[at:min(at+40, len(source))])
	}
	file, err := parser.ParseFile(token.NewFileSet(), "notes.go", source, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range file.Imports {
		if path, err := strconv.Unquote(imported.Path.Value); err != nil || strings.HasPrefix(path, "lexigram.dev/") {
			t.Errorf("notes.go imports %s", path)
		}
	}
}
