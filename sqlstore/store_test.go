package sqlstore_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"lexigram.dev/tenancy/sqlstore"
)

func TestNewReportsAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := sqlstore.New(nil, sqlstore.Config{Dialect: "oracle", History: -1})
	for _, want := range []string{"no database", `dialect "oracle"`, "history -1", "sqlstore.PostgreSQL"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want it to say %q", err, want)
		}
	}
	for _, cfg := range []sqlstore.Config{
		{},
		{Dialect: sqlstore.SQLite, Schema: "tenancy"},
		{Dialect: sqlstore.PostgreSQL, Schema: strings.Repeat("x", 64)},
		{Dialect: sqlstore.PostgreSQL, Schema: "a\x00b"},
	} {
		if _, err := sqlstore.New(new(sql.DB), cfg); err == nil {
			t.Errorf("New accepts %+v", cfg)
		}
	}
}

func TestSchemaHasNumberedFilesThatRecordTheirVersion(t *testing.T) {
	t.Parallel()
	for _, dialect := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.SQLite} {
		names, err := fs.Glob(sqlstore.Schema(dialect), "*.sql")
		if err != nil || len(names) == 0 || names[0] != "0001_catalogue.sql" {
			t.Fatalf("%s has files %q, error %v", dialect, names, err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(sqlstore.Schema(dialect), name)
			if err != nil {
				t.Fatal(err)
			}
			version := strings.TrimLeft(strings.SplitN(name, "_", 2)[0], "0")
			if !strings.HasSuffix(string(text), "schema_versions (version) VALUES ("+version+");\n") {
				t.Errorf("%s of %s does not end with its version", name, dialect)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "--") && strings.HasSuffix(line, ";\n") {
					t.Errorf("%s of %s: a comment that ends with a semicolon would split a statement: %s", name, dialect, line)
				}
			}
		}
	}
	if names, _ := fs.Glob(sqlstore.Schema("oracle"), "*"); len(names) > 0 {
		t.Errorf("an unknown dialect has files %q", names)
	}
}

func TestAProgramRunsOnItsOwnSchemaAndTheOneBefore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		have, want int
		ok         bool
		remedy     string
	}{
		{0, 1, false, "Store.Migrate"},
		{1, 1, true, ""},
		{2, 1, false, "newer version of the program"},
		{0, 2, false, "Store.Migrate"},
		{1, 2, true, ""},
		{1, 3, false, "Store.Migrate"},
		{3, 3, true, ""},
		{4, 3, false, "newer version of the program"},
	} {
		err := sqlstore.CheckVersion(c.have, c.want)
		if c.ok != (err == nil) {
			t.Errorf("version %d of %d: %v", c.have, c.want, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*sqlstore.SchemaError](err); !ok || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("version %d of %d: %v; want a SchemaError that says %q", c.have, c.want, err, c.remedy)
			}
		}
	}
}
