package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The fixture is a repository with one defended function and a nested module.
var fixture = map[string]string{
	".gitignore":        "ignored.go\n",
	"go.mod":            "module example.com/fixture\n\ngo 1.26\n",
	"go.work":           "go 1.26\n\nuse (\n\t.\n\t./nested\n)\n",
	"ignored.go":        "this does not compile and must not be copied",
	"guard/guard.go":    "package guard\n\nfunc Allowed(tenant string) bool {\n\tif tenant == \"\" {\n\t\treturn false\n\t}\n\tif tenant == \"evil\" {\n\t\treturn false\n\t}\n\treturn true\n}\n",
	"guard/doc.txt":     "read by the test\n",
	"nested/go.mod":     "module example.com/fixture/nested\n\ngo 1.26\n",
	"nested/nested.go":  "package nested\n\nfunc One() int {\n\treturn 1\n}\n",
	"nested/go_test.go": "package nested\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif One() != 1 {\n\t\tt.Fatal(\"not one\")\n\t}\n}\n",
	"guard/guard_test.go": `package guard

import (
	"os"
	"testing"
)

func TestAllowed(t *testing.T) {
	if _, err := os.Stat("doc.txt"); err != nil {
		t.Fatal(err)
	}
	t.Run("no tenant", func(t *testing.T) {
		if Allowed("") {
			t.Error("allowed")
		}
	})
	t.Run("good", func(t *testing.T) {
		if !Allowed("acme") {
			t.Error("refused")
		}
	})
}

// TestSkipped is a fixture: a mutant whose test is skipped must not count as killed.
func TestSkipped(t *testing.T) { t.Skip("no server") }

func TestBroken(t *testing.T) { t.Error("always") }

func TestPanics(t *testing.T) {
	if Allowed("") {
		panic("allowed")
	}
}
`,
}

const (
	withoutEmpty = `diff --git a/guard/guard.go b/guard/guard.go
--- a/guard/guard.go
+++ b/guard/guard.go
@@ -1,9 +1,6 @@
 package guard
 
 func Allowed(tenant string) bool {
-	if tenant == "" {
-		return false
-	}
 	if tenant == "evil" {
 		return false
 	}
`
	withoutEvil = `--- a/guard/guard.go
+++ b/guard/guard.go
@@ -4,7 +4,4 @@ func Allowed(tenant string) bool {
 	if tenant == "" {
 		return false
 	}
-	if tenant == "evil" {
-		return false
-	}
 	return true
`
	nestedTwo = `--- a/nested/nested.go
+++ b/nested/nested.go
@@ -1,5 +1,5 @@
 package nested
 
 func One() int {
-	return 1
+	return 2
 }
`
)

var (
	stale     = strings.Replace(withoutEmpty, `"evil"`, `"bad"`, 1)
	noCompile = strings.Replace(nestedTwo, "+	return 2", "+	return two", 1)
)

func patch(module, pkg, test, diff string) string {
	return "defence: B4 somebody is refused\nmodule: " + module + "\npackage: " + pkg + "\ntest: " + test + "\n\n" + diff
}

func repository(t *testing.T, patches map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range fixture {
		write(name, text)
	}
	for name, text := range patches {
		write("patches/"+name, text)
	}
	if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	return root
}

func TestRun(t *testing.T) {
	t.Parallel()
	killed := patch(".", "./guard", "TestAllowed/no_tenant", withoutEmpty)
	for _, tt := range []struct {
		name    string
		patches map[string]string
		run     string
		rows    []string // regular expressions for lines of the output
		err     string   // regular expression for the error, empty for none
	}{
		{
			name: "kills mutants in two modules, by a panic as well",
			patches: map[string]string{
				"01-empty.patch":  killed,
				"02-nested.patch": patch("nested", ".", "^TestOne$", nestedTwo),
				"03-panic.patch":  patch(".", "./guard", "TestPanics", withoutEmpty),
				"04-flags.patch":  "flags: -tags=x\n" + patch(".", "./guard", "TestAllowed/no tenant|TestPanics", withoutEmpty),
			},
			rows: []string{
				`^B4 .* 01-empty\.patch +guard TestAllowed/no_tenant +killed by TestAllowed/no_tenant$`,
				`02-nested\.patch +nested \^TestOne\$ +killed by TestOne$`,
				`03-panic\.patch .* killed by TestPanics`,
				`04-flags\.patch .* killed by TestAllowed/no_tenant`,
				`^4 mutants, 0 survived, 0 broken`,
			},
		},
		{
			name:    "reports a survivor",
			patches: map[string]string{"01-empty.patch": killed, "02-evil.patch": patch(".", "./guard", "TestAllowed", withoutEvil)},
			rows:    []string{`01-empty.* killed`, `02-evil\.patch .* SURVIVED$`},
			err:     `^survived.*: 02-evil\.patch$`,
		},
		{
			name:    "reports a test that guards something else",
			patches: map[string]string{"01-empty.patch": patch(".", "./guard", "TestAllowed/good", withoutEmpty)},
			rows:    []string{`SURVIVED$`},
			err:     `survived`,
		},
		{
			name:    "refuses a patch that no longer applies",
			patches: map[string]string{"01-stale.patch": patch(".", "./guard", "TestAllowed", stale)},
			rows:    []string{`BROKEN: does not apply`},
			err:     `broken.*01-stale`,
		},
		{
			name:    "refuses a mutant that does not compile",
			patches: map[string]string{"01-nonsense.patch": patch("nested", ".", "TestOne", noCompile)},
			rows:    []string{`BROKEN: does not compile`},
			err:     `broken.*01-nonsense`,
		},
		{
			name:    "refuses a test that does not exist",
			patches: map[string]string{"01-empty.patch": patch(".", "./guard", "TestNobody", withoutEmpty)},
			err:     `(?s)without any patch.*"TestNobody" names no test`,
		},
		{
			name:    "refuses a subtest that does not exist",
			patches: map[string]string{"01-empty.patch": patch(".", "./guard", "TestPanics|TestAllowed/nobody", withoutEmpty)},
			err:     `"TestAllowed/nobody" names no test`,
		},
		{
			name:    "refuses a test that is skipped",
			patches: map[string]string{"01-empty.patch": patch(".", "./guard", "TestSkipped", withoutEmpty)},
			err:     `TestSkipped is skipped`,
		},
		{
			name:    "refuses a test that fails anyway",
			patches: map[string]string{"01-empty.patch": patch(".", "./guard", "TestBroken", withoutEmpty)},
			err:     `(?s)without any patch.*TestBroken: fails`,
		},
		{
			name:    "runs the selected patches only",
			patches: map[string]string{"01-empty.patch": killed, "02-evil.patch": patch(".", "./guard", "TestAllowed", withoutEvil)},
			run:     "empty",
			rows:    []string{`^1 mutants, 0 survived`},
		},
		{
			name:    "refuses a selection of nothing",
			patches: map[string]string{"01-empty.patch": killed},
			run:     "nobody",
			err:     `no patch .* matches "nobody"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := run(t.Context(), config{root: repository(t, tt.patches), patches: "patches", run: tt.run, parallel: 2, timeout: time.Minute}, &out)
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("error: %v", err)
			case tt.err != "" && err == nil:
				t.Errorf("no error, want %s", tt.err)
			case tt.err != "" && !regexp.MustCompile(tt.err).MatchString(err.Error()):
				t.Errorf("error: %v\nwant %s", err, tt.err)
			}
			for _, row := range tt.rows {
				if !regexp.MustCompile("(?m)" + row).MatchString(out.String()) {
					t.Errorf("no line like %s in:\n%s", row, out.String())
				}
			}
		})
	}
}

func TestParsePatch(t *testing.T) {
	t.Parallel()
	m, err := parsePatch("01-a.patch", "# why\ndefence: B1, B3 a: b\nmodule: .\npackage: ./x\ntest: TestX/a|TestY\nflags: -race  -tags=x\n\n"+withoutEvil)
	if err != nil {
		t.Fatal(err)
	}
	if m.defence != "B1, B3 a: b" || m.test != "TestX/a|TestY" || strings.Join(m.flags, ",") != "-race,-tags=x" || m.diff != withoutEvil {
		t.Errorf("parsed as %+v", m)
	}
	for text, want := range map[string]string{
		"module: .\n" + withoutEvil: "defence is missing\n01-a.patch: package is missing\n01-a.patch: test is missing",
		"defense: x\n" + killable:   `01-a.patch:1: unknown key "defense"`,
		killableHeader:              "there is no diff",
		"module: x\n" + killable:    "module is given twice",
		killableHeader + strings.ReplaceAll(withoutEvil, "guard.go", "guard_test.go"): "changes the test file b/guard/guard_test.go",
		strings.Replace(killable, "TestX", "Test(", 1):                                "error parsing regexp",
	} {
		if _, err := parsePatch("01-a.patch", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q, for:\n%s", err, want, text)
		}
	}
}

const (
	killableHeader = "defence: B1 x\nmodule: .\npackage: ./x\ntest: TestX\n"
	killable       = killableHeader + withoutEvil
)

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression, test string
		want             int
	}{
		{"TestA", "TestA", 0},
		{"TestA", "TestAB/c", 0},
		{"^TestA$", "TestAB", -1},
		{"TestA/b c", "TestA/b_c", 0},
		{"TestA/b", "TestA", -1},
		{"TestA/b|TestC", "TestC", 1},
		{"Test(A|B)/x[/|]y", "TestB/x|y", 0},
		{`TestA/b\|c`, "TestA/b|c", 0},
	} {
		p, err := parsePattern(tt.expression)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.match(tt.test); got != tt.want {
			t.Errorf("%s matches %s: %d, want %d", tt.expression, tt.test, got, tt.want)
		}
	}
}
