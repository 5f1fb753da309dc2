package sqlc_test

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgoose"
)

func TestMain(m *testing.M) { servers.Main(m) }

// The migrations of the shop by engine. The folder rows has what tables need that tenants share.
//
//go:embed postgres/shop postgres/rows mariadb/shop mariadb/rows sqlite/shop sqlite/rows
var migrations embed.FS

// engine is the shop on a kind of database.
type engine struct {
	engine isolation.Engine
	folder string
	tables []string
	layers []layer
}

var engines = []engine{
	{isolation.EnginePostgreSQL, "postgres", []string{"customers", "products", "orders", "lines", "visits"}, []layer{sqlcPgx, sqlcSQL, sqlxPgx}},
	{isolation.EngineMariaDB, "mariadb", []string{"customers", "products", "orders", "items", "visits"}, []layer{sqlcMariaDB}},
	{isolation.EngineSQLite, "sqlite", []string{"customers", "products", "orders", "items", "visits"}, []layer{sqlcSQLite}},
}

// layer is a way to write queries, and a shop's day by it.
type layer struct {
	name string
	// plain runs the day on a database that is the shop's own.
	plain func(t *testing.T, db cells.Plain) *diary
	// scoped runs it inside the tenant of ctx.
	scoped func(ctx context.Context, t *testing.T, db *isolation.DB) *diary
	// pgxOnly says that it needs tenantpgx's connections.
	pgxOnly bool
}

// migrator returns one of the shop, with shared tables or without.
func (e engine) migrator(t *testing.T, shared bool) isolation.Migrator {
	t.Helper()
	files := merged{}
	for _, folder := range []string{"shop", "rows"}[:1+count(shared)] {
		sub, err := fs.Sub(migrations, e.folder+"/"+folder)
		must(t, err)
		files = append(files, sub)
	}
	m, err := tenantgoose.New(map[isolation.Engine]fs.FS{e.engine: files})
	must(t, err)
	return m
}

// Every layer sees the same in every cell as over a database that nobody shares, while two tenants use
// it at once and a third one's rows have the same keys.
func TestTheShopSeesNoDifference(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		want := map[string][]string{}
		for _, l := range e.layers {
			db := cells.OpenPlain(t, e.engine)
			_, err := e.migrator(t, false).Migrate(t.Context(), db.Target(e.engine))
			must(t, err)
			want[l.name] = l.plain(t, db).entries
			t.Logf("%s:\n%s", l.name, strings.Join(want[l.name], "\n"))
			if len(want[l.name]) < 20 {
				t.Fatalf("%s: a short day: %q", l.name, want[l.name])
			}
		}
		for _, c := range cells.All() {
			if c.Engine != e.engine || c.Fence {
				continue
			}
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				o := c.Open(t, e.migrator(t, c.Shares()), e.tables...)
				hooli := e.foreign(t, o)
				before := e.dump(hooli, t, o.DB)
				for i, l := range e.layers {
					if l.pgxOnly && c.Stdlib {
						continue // TestSqlcForPgxNeedsItsConnections
					}
					t.Run(l.name, func(t *testing.T) {
						var wg sync.WaitGroup
						for _, name := range []string{"acme", "globex"} {
							ctx := o.Tenant(t, fmt.Sprintf("%s-%d", name, i))
							wg.Go(func() { same(t, name, l.scoped(ctx, t, o.DB).entries, want[l.name]) })
						}
						wg.Wait()
						same(t, "hooli", e.dump(hooli, t, o.DB), before)
					})
				}
			})
		}
	}
}

// foreign gives a tenant a shop's day and marks its rows.
func (e engine) foreign(t *testing.T, o *cells.Opened) context.Context {
	t.Helper()
	ctx := o.Tenant(t, "hooli")
	last := e.layers[len(e.layers)-1]
	last.scoped(ctx, t, o.DB)
	for table, column := range map[string]string{"customers": "name", "products": "title", "orders": "note", "visits": "path"} {
		result, err := o.DB.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET %s = 'of hooli'", table, column))
		must(t, err)
		if affected(result) < 1 {
			t.Fatalf("hooli has no %s", table)
		}
	}
	return ctx
}

// dump returns all rows of a tenant.
func (e engine) dump(ctx context.Context, t *testing.T, db *isolation.DB) (all []string) {
	t.Helper()
	for _, table := range e.tables {
		rows := queryRows(ctx, t, db, "SELECT * FROM "+table)
		if len(rows) == 0 {
			t.Fatalf("no %s", table)
		}
		slices.Sort(rows)
		all = append(all, rows...)
	}
	return all
}

// queryRows returns what a query answers, a text for each row.
func queryRows(ctx context.Context, t *testing.T, db *isolation.DB, query string) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(ctx, query)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	for rows.Next() {
		values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		must(t, rows.Scan(dest...))
		all = append(all, fmt.Sprint(columns, values))
	}
	must(t, rows.Err())
	return all
}

// same fails the test for each entry that differs.
func same(t *testing.T, who string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if g, w := at(got, i), at(want, i); g != w {
			t.Errorf("%s, entry %d:\n got %s\nwant %s", who, i, g, w)
		}
	}
}

func at(entries []string, i int) string {
	if i < len(entries) {
		return entries[i]
	}
	return "nothing"
}

// merged is the files of several folders.
type merged []fs.FS

func (m merged) Open(name string) (fs.File, error) {
	for _, folder := range m {
		if f, err := folder.Open(name); err == nil {
			return f, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (m merged) ReadDir(name string) (all []fs.DirEntry, err error) {
	for _, folder := range m {
		entries, err := fs.ReadDir(folder, name)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
