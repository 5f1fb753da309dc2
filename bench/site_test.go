package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// site is a server with tenants of one strategy. Both sides work on the same tables: scoped as the
// tenant of its context, plain as an administrator who says which table or which rows.
type site struct {
	engine  isolation.Engine
	tenants [2]tenancy.Tenant
	tables  [2]string // where an administrator finds the tenants' notes
	shared  bool      // the tenants' rows are in one table: plain says whose it wants
	wired   bool      // there is a network, whose round trips are counted
	// scoped opens the handle.
	scoped func(b *testing.B, a access, w *wire) *isolation.DB
	// plain opens the database of each tenant; it is one database where they share it.
	plain func(b *testing.B, a access, w *wire) [2]*sql.DB
	// plainPool is plain by pgx's own pool; nil where there is none.
	plainPool func(b *testing.B, a access, w *wire) [2]*pgxpool.Pool
}

// context returns a context inside the ith tenant.
func (s *site) context(i int) context.Context {
	return tenancy.UnsafeBind(context.Background(), s.tenants[i], "benchmark")
}

const (
	rowsPerTenant = 100
	// sharedTenants is how many tenants' rows are in a shared table: t1, t2, …
	sharedTenants = 50
)

// statements are what the cases run on the notes of one tenant.
type statements struct {
	one, many, update string
	tenant            []any // the first argument where the text says whose rows it wants
}

// statements returns those of the ith tenant. Only plain ones say whose rows they want, and where.
func (s *site) statements(i int, scoped bool) statements {
	table, mine := "notes", s.shared && !scoped
	if !scoped {
		table = s.tables[i]
	}
	var out statements
	if mine {
		out.tenant = []any{s.tenants[i].ID}
	}
	out.one = s.text("SELECT id, body FROM "+table+" WHERE ", mine, "id = ?")
	out.update = s.text("UPDATE "+table+" SET body = ? WHERE ", mine, "id = ?")
	out.many = "SELECT id, body FROM " + table + " ORDER BY id"
	if mine {
		out.many = s.text("SELECT id, body FROM "+table+" WHERE tenant_id = ? ORDER BY id", false, "")
	}
	return out
}

// text joins a statement and numbers its parameters, where the engine wants that.
func (s *site) text(before string, mine bool, after string) string {
	text := before
	if mine {
		text += "tenant_id = ? AND "
	}
	text += after
	for i := 1; s.engine == isolation.EnginePostgreSQL && strings.Contains(text, "?"); i++ {
		text = strings.Replace(text, "?", fmt.Sprint("$", i), 1)
	}
	return text
}

func (q statements) oneArgs() []any            { return append(q.tenant[:len(q.tenant):len(q.tenant)], 50) }
func (q statements) updateArgs(body any) []any { return append([]any{body}, q.oneArgs()...) }

// notes is a Migrator: it makes the table, and fills it.
type notes struct{ statements map[bool][]string } // by whether tenants share it

func (n notes) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	for _, statement := range n.statements[target.Tenant == ""] {
		if _, err := target.DB.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func (notes) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// settle sets the server up and provisions the tenants t1 and t2, whose places go with b.
func (s *site) settle(b *testing.B, config isolation.Config, migrator isolation.Migrator) {
	b.Helper()
	provisioner, err := isolation.NewProvisioner(config, migrator)
	must(b, err)
	_, err = provisioner.Setup(b.Context())
	must(b, err)
	s.shared = config.Strategy == tenancy.StrategyRowLevel
	for i := range s.tenants {
		t := tenancy.Tenant{ID: fmt.Sprint("t", i+1), Slug: fmt.Sprint("t", i+1), Status: tenancy.StatusActive}
		t.Placement, err = provisioner.Place(b.Context(), t)
		must(b, err)
		t.Placement, err = provisioner.Provision(b.Context(), t)
		must(b, err)
		b.Cleanup(func() { must(b, provisioner.Deprovision(context.Background(), t)) })
		s.tenants[i] = t
	}
}

// handle opens config until the end of b.
func handle(b *testing.B, config isolation.Config) *isolation.DB {
	b.Helper()
	db, err := isolation.Open(config)
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	return db
}

var quiet = slog.New(slog.DiscardHandler)
