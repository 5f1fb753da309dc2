package isolation_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/memstore"
)

// receipts are the manifests of the events TenantPurged, by the events' ids.
type receipts map[string]*tenancy.Manifest

// hear makes a node tell them.
func (r receipts) hear(cfg *tenancy.Config) {
	cfg.Subscribers = append(cfg.Subscribers, func(_ context.Context, e tenancy.Event) error {
		if e.Type == tenancy.TenantPurged {
			r[e.ID] = e.Manifest
		}
		return nil
	})
}

// archivedWith creates a tenant with one note and archives it.
func archivedWith(t testing.TB, c *cell, l *tenancy.Lifecycle, id string) tenancy.Tenant {
	t.Helper()
	tn, err := l.Create(t.Context(), tenancy.CreateTenant{ID: id, Slug: id})
	must(t, err)
	db, err := isolation.Open(c.config)
	must(t, err)
	byHand{db}.add(t, tenancy.UnsafeBind(t.Context(), tn, "test"), "of "+id)
	must(t, db.Close())
	_, err = l.Deactivate(t.Context(), id)
	must(t, err)
	tn, err = l.Archive(t.Context(), id)
	must(t, err)
	return tn
}

// TestTheReceiptIsTheDryRun stops a purge between its manifest and the removal, and after the removal,
// before that is recorded. Each time another node goes on. What the event tells is what the dry run told.
func TestTheReceiptIsTheDryRun(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		store, told, stop := memstore.New(), receipts{}, errors.New("stopped")
		stopped := map[string]bool{}
		once := func(at string) error {
			if stopped[at] {
				return nil
			}
			stopped[at] = true
			return stop
		}
		node := func() *tenancy.Tenancy {
			p := crashing{provisionerOf(t, c), func(step string) error {
				if step != "remove" {
					return nil
				}
				return once(step)
			}}
			return openTenancy(t, c, store, p, told.hear, func(cfg *tenancy.Config) {
				cfg.Steps.Purge = []tenancy.Step{{Name: "export", Run: func(context.Context, *tenancy.Tenant) error { return once("export") }}}
			})
		}
		l := node().Lifecycle()
		tn := archivedWith(t, c, l, "new")
		dry, err := l.Manifest(t.Context(), "new")
		must(t, err)
		if got := kindsOf(dry); !slices.Equal(got, wanted(c)) {
			t.Fatalf("the dry run is %q, want %q", got, wanted(c))
		}
		if len(left(t, c, tn)) == 0 {
			t.Fatal("the dry run removed it")
		}
		_, err = l.Purge(t.Context(), "new")
		mustBe(t, err, stop)
		due(t, store, "new")
		if _, err := node().RunOnce(t.Context()); !errors.Is(err, stop) {
			t.Fatalf("the second node was not stopped: %v", err)
		}
		if got := left(t, c, tn); len(got) != 0 || len(told) != 0 {
			t.Fatalf("the removal left %q; told is %v", got, told)
		}
		due(t, store, "new")
		_, err = node().RunOnce(t.Context())
		must(t, err)
		if len(told) != 1 || len(stopped) != 2 {
			t.Fatalf("%d purges were told, after the stops %v", len(told), stopped)
		}
		for _, m := range told {
			if m == nil || !slices.Equal(m.Items, dry.Items) {
				t.Errorf("what went is told as %+v, the dry run was %+v", m, dry)
			}
		}
		after, err := l.Manifest(t.Context(), "new")
		must(t, err)
		if len(after.Items) != 0 {
			t.Errorf("after the purge there is %+v", after.Items)
		}
	})
}

// leftovers makes a table that is in none of the server's lists, and returns a config that has it in
// Tables.
func leftovers(t testing.TB, c *cell) isolation.Config {
	t.Helper()
	name, classified := onlyServer(c), c.config
	maker, column := c.admin, "text NOT NULL"
	var server isolation.Server
	switch s := c.config.Servers[name].(type) {
	case isolation.PostgreSQL:
		maker = sql.OpenDB(s.Migrator) // who walls it must own it
		defer maker.Close()
		rls := *s.RLS
		rls.Tables = append(slices.Clone(rls.Tables), isolation.Table{Name: "leftovers"})
		s.RLS = &rls
		server = s
	case isolation.MariaDB:
		column = "varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
		rows := *s.Rows
		rows.Tables = maps.Clone(rows.Tables)
		rows.Tables["leftovers"] = ""
		s.Rows = &rows
		server = s
	case isolation.SQLite:
		rows := *s.Rows
		rows.Tables = maps.Clone(rows.Tables)
		rows.Tables["leftovers"] = ""
		s.Rows = &rows
		server = s
	}
	_, err := maker.ExecContext(t.Context(), "CREATE TABLE leftovers (id integer PRIMARY KEY, tenant_id "+column+", body text NOT NULL)")
	must(t, err)
	_, err = c.admin.ExecContext(t.Context(), "INSERT INTO leftovers (id, tenant_id, body) VALUES (1, 'new', 'n'), (2, 'globex', 'g')")
	must(t, err)
	classified.Servers = map[string]isolation.Server{name: server}
	return classified
}

// TestPurgeWaitsForEveryTableToBeClassified: nothing of a tenant's rows goes while there is a table of
// which nobody knows whether they are in it.
func TestPurgeWaitsForEveryTableToBeClassified(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t testing.TB, options ...func(*isolation.Config)) *cell{
		"PostgreSQL": openDirect, "MariaDB": openMariaDBRows, "SQLite": openSQLiteRows,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			store, told := memstore.New(), receipts{}
			first := openTenancy(t, c, store, provisionerOf(t, c), told.hear)
			tn := archivedWith(t, c, first.Lifecycle(), "new")
			classified := leftovers(t, c)
			held := func(ids ...string) {
				t.Helper()
				rows, err := c.admin.QueryContext(t.Context(), "SELECT tenant_id FROM leftovers ORDER BY id")
				must(t, err)
				defer rows.Close()
				var got []string
				for rows.Next() {
					var id string
					must(t, rows.Scan(&id))
					got = append(got, id)
				}
				must(t, rows.Err())
				if !slices.Equal(got, ids) {
					t.Errorf("leftovers has rows of %q, want %q", got, ids)
				}
			}
			refuse := func(err error) {
				t.Helper()
				now, getErr := first.Lifecycle().Get(t.Context(), "new")
				must(t, getErr)
				if err == nil || !strings.Contains(err.Error(), "leftovers") {
					t.Fatalf("the purge answered %v", err)
				}
				if now.Status != tenancy.StatusArchived || now.Journal == nil || !strings.Contains(now.Journal.LastError, "leftovers") {
					t.Fatalf("the tenant is %s with the journal %+v", now.Status, now.Journal)
				}
				if got := left(t, c, tn); !slices.Contains(got, "of new") || len(told) != 0 {
					t.Fatalf("of its rows there is %q; told is %v", got, told)
				}
				held("new", "globex")
			}
			_, err := first.Lifecycle().Manifest(t.Context(), "new")
			if err == nil || !strings.Contains(err.Error(), "leftovers") {
				t.Errorf("the dry run answered %v", err)
			}
			_, err = first.Lifecycle().Purge(t.Context(), "new")
			refuse(err)
			due(t, store, "new")
			_, err = first.RunOnce(t.Context())
			refuse(err)

			p, err := isolation.NewProvisioner(classified, nil) // the tables are there
			must(t, err)
			_, err = p.Setup(t.Context())
			must(t, err)
			due(t, store, "new")
			_, err = openTenancy(t, c, store, p, told.hear).RunOnce(t.Context())
			must(t, err)
			now, err := first.Lifecycle().Get(t.Context(), "new")
			must(t, err)
			if now.Status != tenancy.StatusPurged || len(left(t, c, tn)) != 0 || len(told) != 1 {
				t.Errorf("the tenant is %s, of its rows there is %q, told is %v", now.Status, left(t, c, tn), told)
			}
			held("globex")
			for _, m := range told {
				if m == nil || !slices.ContainsFunc(m.Items, func(i tenancy.ManifestItem) bool { return strings.Contains(i.Name, "leftovers") && i.Rows == 1 }) {
					t.Errorf("what went is told as %+v", m)
				}
			}
			sees(t, c.globex, byHand{c.db}, "of globex")
		})
	}
}
