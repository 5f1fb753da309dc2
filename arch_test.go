package tenancy_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "lexigram.dev/tenancy"

// allowed is the import map of the root module: what each package may import beside the
// standard library. A package that is missing here may import nothing. Test files count as
// well, because their modules end in the users' go.sum.
var allowed = map[string][]string{
	".": {
		"github.com/google/uuid", "github.com/maypok86/otter/v2", "golang.org/x/net/idna",
		module, module + "/memstore", module + "/tenancytest",
	},
	"tenanthttp":                 {module, module + "/memstore", module + "/tenancytest", module + "/tenanthttp"},
	"tenantcache":                {"github.com/maypok86/otter/v2", module, module + "/memstore", module + "/tenancytest", module + "/tenantcache"},
	"tenancytest":                {"github.com/google/uuid", module, module + "/memstore", module + "/tenancytest"},
	"memstore":                   {module, module + "/memstore", module + "/storetest", module + "/internal/storable"},
	"sqlstore":                   {module, module + "/sqlstore", module + "/internal/storable", module + "/internal/mariadb"},
	"storetest":                  {module, module + "/memstore", module + "/storetest"},
	"isolation":                  {module, module + "/isolation", module + "/isolation/internal/dialect", module + "/internal/mariadb"},
	"isolation/internal/dialect": {},
	"isolationtest":              {module, module + "/isolation", module + "/isolationtest"},
	"internal/mariadb":           {module + "/internal/mariadb"},
	"internal/storable":          {module},
	"internal/news":              {module, module + "/internal/news"},
	"internal/mutants":           {},
}

func TestPackagesImportOnlyWhatTheMapAllows(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != "." && (isModule(path) || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		seen[dir] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name := strings.Trim(spec.Path.Value, `"`)
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") && !slices.Contains(allowed[dir], name) {
				t.Errorf("%s imports %s: the import map does not allow it", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["."] {
		t.Error("the walk found no file of the root package")
	}
}

func TestRootPackageDoesNotKnowHTTPOrSQL(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if name := strings.Trim(spec.Path.Value, `"`); name == "net/http" || strings.HasPrefix(name, "database/") {
				t.Errorf("%s imports %s", path, name)
			}
		}
	}
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
