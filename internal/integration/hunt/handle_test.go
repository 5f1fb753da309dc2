package hunt_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// TestThreeLines is what an application writes for tenants with files of their own: the suites
// make their table and drop it again, and there is one handle with one pool.
func TestThreeLines(t *testing.T) {
	config := isolation.Config{
		Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: t.TempDir(), Driver: "sqlite"}},
		Strategy: tenancy.StrategyDatabase,
	}
	provisioner, err := isolation.NewProvisioner(config, nil)
	must(t, err)
	var tenants []tenancy.Tenant
	for _, id := range []string{"acme", "globex"} {
		tn := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}
		tn.Placement, err = provisioner.Place(t.Context(), tn)
		must(t, err)
		tn.Placement, err = provisioner.Provision(t.Context(), tn)
		must(t, err)
		tenants = append(tenants, tn)
	}
	db, err := isolation.Open(config)
	must(t, err)
	defer db.Close()

	h := isolationtest.NewHandle(db, isolation.EngineSQLite, tenants...)
	s := isolationtest.Hunt(t, h, func(p *isolationtest.Plan) { p.Operations, p.Duration = 500, time.Minute })
	for _, name := range tables {
		if _, err := db.ExecContext(h.Bind(t.Context(), "acme"), "SELECT * FROM "+name); err == nil {
			t.Errorf("the table %s is left", name)
		}
	}
	if s.Operations < 500 || s.Written == 0 || s.RowsRead == 0 || s.Elapsed >= time.Minute {
		t.Errorf("the hunt did not do its work: %v", s)
	}
}

func TestHandleIsChecked(t *testing.T) {
	good := newLibrary(t, "")
	for _, tenant := range good.Tenants {
		must(t, good.Migrate(t.Context(), tenant, "CREATE TABLE leak_hunt_customers (id int)"))
		must(t, good.Migrate(t.Context(), tenant, "INSERT INTO leak_hunt_customers VALUES (1)"))
		must(t, good.Migrate(t.Context(), tenant, isolationtest.CreateTable(good.Engine, "leak_hunt_wide", "")))
		must(t, good.Migrate(t.Context(), tenant, "ALTER TABLE leak_hunt_wide ADD COLUMN address text"))
	}
	for name, test := range map[string]struct {
		change func(h *isolationtest.Handle)
		plan   func(p *isolationtest.Plan)
		want   string
	}{
		"no DB":              {change: func(h *isolationtest.Handle) { h.DB = nil }, want: "DB is nil"},
		"no Bind":            {change: func(h *isolationtest.Handle) { h.Bind = nil }, want: "Bind is nil"},
		"no engine":          {change: func(h *isolationtest.Handle) { h.Engine = "" }, want: "Engine is empty"},
		"one tenant":         {change: func(h *isolationtest.Handle) { h.Tenants = h.Tenants[:1] }, want: "at least two"},
		"one tenant twice":   {change: func(h *isolationtest.Handle) { h.Tenants = []string{"acme", "globex", "acme"} }, want: "each once"},
		"a name with a hole": {change: func(h *isolationtest.Handle) { h.Table = "x; DROP TABLE y" }, want: "names of a-z"},
		"a dead login":       {change: func(h *isolationtest.Handle) { h.Plain = closed(t) }, want: "Plain does not work"},
		"a fault that cannot be done": {
			plan: func(p *isolationtest.Plan) { p.Faults = []isolationtest.Fault{isolationtest.RestartedServer} },
			want: "cannot do",
		},
		"a negative number": {plan: func(p *isolationtest.Plan) { p.Workers = -1 }, want: "negative"},
		"a handle that never answers": {
			change: func(h *isolationtest.Handle) {
				bind := h.Bind
				h.Bind = func(ctx context.Context, tenant string) context.Context {
					ctx, cancel := context.WithCancel(bind(ctx, tenant))
					cancel()
					return ctx
				}
			},
			want: "making it fails",
		},
		"a shared table that is not there": {
			change: func(h *isolationtest.Handle) { h.TenantColumn, h.Table = "tenant_id", "missing" }, want: "make it by CreateTable",
		},
		"a table of the application's":     {change: func(h *isolationtest.Handle) { h.Table = "leak_hunt_customers" }, want: "is not the suites'"},
		"a table of the suites' with more": {change: func(h *isolationtest.Handle) { h.Table = "leak_hunt_wide" }, want: "is not the suites'"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			if test.change != nil {
				test.change(&h)
			}
			r := newRecorder(t)
			r.run(func(tb testing.TB) {
				isolationtest.Hunt(tb, h, func(p *isolationtest.Plan) {
					p.Duration = time.Second
					if test.plan != nil {
						test.plan(p)
					}
				})
			})
			if text := strings.Join(r.texts, "\n"); !r.Failed() || !strings.Contains(text, test.want) {
				t.Errorf("got %q; want %q", text, test.want)
			}
		})
	}
	for _, tenant := range good.Tenants { // which nobody has emptied
		var n int
		must(t, good.DB.(*library).direct.QueryRowContext(t.Context(), "SELECT count(*) FROM leak_hunt_"+tenant+"_customers").Scan(&n))
		if n != 1 {
			t.Errorf("the table of tenant %q has %d rows", tenant, n)
		}
	}
}

func closed(t *testing.T) *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	must(t, err)
	must(t, db.Close())
	return db
}
