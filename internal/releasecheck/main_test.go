package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fixture is a workspace like the real one: a core, a satellite that needs it, a program that
// needs both, and a module that is never tagged.
var fixture = map[string]string{
	".gitignore":              "ignored/\n",
	"go.work":                 "go 1.26\n\nuse (\n\t.\n\t./satellite\n\t./cmd/tool\n\t./internal/tests\n\t./bench\n)\n",
	"go.mod":                  "module example.org/lib\n\ngo 1.26\n",
	"lib.go":                  "package lib\n\nconst Answer = 42\n",
	"room/room.go":            "package room\n\nimport _ \"example.org/lib/internal/secret\"\n",
	"internal/secret/s.go":    "package secret\n",
	"satellite/go.mod":        "module example.org/lib/satellite\n\ngo 1.26\n\nrequire example.org/lib v0.0.0\n\nreplace example.org/lib => ..\n",
	"satellite/satellite.go":  "package satellite\n\nimport _ \"example.org/lib\"\n",
	"cmd/tool/go.mod":         "module example.org/lib/cmd/tool\n\ngo 1.26\n\nrequire (\n\texample.org/lib v0.0.0 // indirect\n\texample.org/lib/satellite v0.0.0\n)\n\nreplace (\n\texample.org/lib => ../..\n\texample.org/lib/satellite => ../../satellite\n)\n",
	"cmd/tool/main.go":        "package main\n\nimport _ \"example.org/lib/satellite\"\n\nfunc main() { println(\"x\"); print2() }\n",
	"cmd/tool/print.go":       "package main\n\nimport \"fmt\"\n\nfunc print2() { fmt.Println(\"usage: tool\") }\n",
	"internal/tests/go.mod":   "module example.org/lib/internal/tests\n\ngo 1.26\n",
	"internal/tests/tests.go": "package tests\n",
	"bench/go.mod":            "module example.org/lib/bench\n\ngo 1.26\n",
	"bench/bench.go":          "package bench\n",
	"ignored/ignored.go":      "package ignored\n",
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		change  map[string]string
		modules int
		want    []string // in the output, or in the error when err is set
		err     bool
	}{
		{
			name:    "passes",
			modules: 1,
			want: []string{
				"ok  example.org/lib (2 packages and programs)", "ok  example.org/lib/satellite (1 ",
				"ok  go install example.org/lib/cmd/tool", "1 of at most 1 modules: example.org/lib", "passed",
			},
		},
		{
			name: "refuses a core that needs too much",
			want: []string{"linked with 1 modules, at most 0"}, err: true,
		},
		{
			name:   "refuses a package that only the workspace resolves",
			change: map[string]string{"satellite/go.mod": "module example.org/lib/satellite\n\ngo 1.26\n\nrequire example.org/lib v0.0.0\n\nreplace example.org/lib => ..\n", "satellite/satellite.go": "package satellite\n\nimport _ \"example.org/lib/internal/tests\"\n"},
			want:   []string{"example.org/lib/internal/tests"}, err: true,
		},
		{
			name:   "refuses a package whose files are ignored",
			change: map[string]string{"room/room.go": "package room\n\nimport _ \"example.org/lib/ignored\"\n"},
			want:   []string{"example.org/lib/ignored"}, err: true,
		},
		{
			name:   "refuses a requirement of a module that is never tagged",
			change: map[string]string{"satellite/go.mod": "module example.org/lib/satellite\n\ngo 1.26\n\nrequire example.org/lib/internal/tests v0.0.0\n\nreplace example.org/lib => ..\n"},
			want:   []string{"example.org/lib/internal/tests, which is never tagged"}, err: true,
		},
		{
			name:   "refuses a replacement of a stranger",
			change: map[string]string{"go.mod": "module example.org/lib\n\ngo 1.26\n\nreplace example.net/other => ../other\n"},
			want:   []string{"replaces example.net/other"}, err: true,
		},
		{
			name:   "refuses a module without packages",
			change: map[string]string{"satellite/satellite.go": "", "satellite/internal/x/x.go": "package x\n", "cmd/tool/main.go": "package main\n\nfunc main() { print2() }\n"},
			want:   []string{"example.org/lib/satellite has no package for users"}, err: true,
		},
		{
			name:   "refuses a program without help",
			change: map[string]string{"cmd/tool/print.go": "package main\n\nfunc print2() {}\n"},
			want:   []string{"--help prints nothing"}, err: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			files := maps.Clone(fixture)
			maps.Copy(files, tt.change)
			maps.DeleteFunc(files, func(_, text string) bool { return text == "" })
			for name, text := range files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.CommandContext(t.Context(), "git", "-C", root, "init", "-q").CombinedOutput(); err != nil {
				t.Fatalf("git init: %v: %s", err, out)
			}
			var out strings.Builder
			err := check(t.Context(), config{root: root, coreModules: tt.modules}, &out)
			got := out.String()
			if (err != nil) != tt.err {
				t.Fatalf("error: %v\n%s", err, got)
			}
			if err != nil {
				got = err.Error()
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in:\n%s", want, got)
				}
			}
		})
	}
}
