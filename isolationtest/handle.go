package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// DB is what an application gives its handlers: an [isolation.DB], or another library's handle.
// The tenant is in the context of each call.
//
// A DB may also have InTx, as isolation.DB has it, and PoolStats or Stats, by which the suites
// see whether connections come back.
type DB interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
	Conn(ctx context.Context) (*sql.Conn, error)
}

// callbackDB is a DB with transactions by callback.
type callbackDB interface {
	InTx(ctx context.Context, opts *sql.TxOptions, fn func(tx *sql.Tx) error) error
}

var (
	_ DB         = (*isolation.DB)(nil)
	_ callbackDB = (*isolation.DB)(nil)
	_ DB         = (*sql.DB)(nil)
)

// Handle is what is tested, and what the test may do to it. A field that is not required and
// empty makes the suites leave out what needs it; they say so by name.
type Handle struct {
	// DB is the handle. Required.
	DB DB
	// Bind returns a context inside a tenant. Required.
	Bind func(ctx context.Context, tenant string) context.Context
	// Tenants are the ids of two tenants or more that belong to the test. Required.
	Tenants []string
	// Engine is the kind of database. Required. An engine that the package isolation does not
	// name is spoken to as MySQL.
	Engine isolation.Engine
	// Table is the table to work on, see [CreateTable]; its rows are deleted. A table with other
	// columns is refused. Where tenants have tables of their own, a missing one is made for the test
	// and dropped after it. Defaults to leak_hunt.
	Table string
	// TenantColumn is the column of a shared table that holds the tenant's id. Empty when each
	// tenant has a table of its own.
	TenantColumn string
	// Related says that the tables of [CreateRelated] are there as well, walled like Table. It is set
	// where the suites make the tables.
	Related bool

	// Open returns a handle on the same tables with that many connections to the database, so
	// that every use is a reuse. The suites close it. Its Close must end what Open began.
	Open func(conns int) (DB, error)
	// System returns a context in which DB sees the rows of all tenants.
	System func(ctx context.Context) context.Context
	// Plain is the login of the application without the handle. It must not reach any row.
	Plain *sql.DB
	// Pooled says that a pooler in transaction mode is between DB and server.
	Pooled bool
	// PerTenant is the number of connections that one tenant can use, less than there are.
	PerTenant int
	// OwnConns says that no connection is shared between tenants, so that what a tenant's statements
	// leave on a session may stay for itself.
	OwnConns bool
	// SetSession returns statements by which application code could bind the session, or what it is
	// bound by, to a tenant, such as SELECT set_config('app.tenant_id', '…', false).
	SetSession func(tenant string) []string
	// Qualified returns the name by which a tenant's table could be reached from another's place.
	Qualified func(tenant string) string
	// Keeps are queries for one value, such as SHOW search_path, and what each must answer in
	// every tenant after any use.
	Keeps map[string]string
	// Kill ends connections of the handle from the server's side, no more than most unless it is
	// 0, and returns how many.
	Kill func(ctx context.Context, most int) (killed int, err error)
	// Restart restarts the server and returns when it answers.
	Restart func(ctx context.Context) error
	// Migrate runs a statement where the table of a tenant is, as its owner. Where contexts carry the
	// version of a tenant's tables, Bind must tell the new one from then on.
	Migrate func(ctx context.Context, tenant, statement string) error
	// FailsOnce says that a statement may fail once after its table has changed, as those of pgx and of
	// GORM's prepared statements do.
	FailsOnce bool
	// Copies are ways to write many rows at once past INSERT, by name, such as pgx's CopyFrom. Each
	// writes rows into Table in the tenant of ctx, or fails.
	Copies map[string]func(ctx context.Context, db DB, columns []string, rows [][]any) error
	// Refuses reports that DB would not run a statement because it cannot keep it inside the tenant.
	// Set it for layers that do not take every text; such an answer is then as good as another.
	Refuses func(err error) bool

	// ErrNoTenant and ErrMismatch are what a call without a tenant and a call of another tenant
	// inside a transaction must fail with. Nil accepts any error.
	ErrNoTenant, ErrMismatch error
}

// NewHandle returns the handle of an isolation.DB. The tenants must have been provisioned. The
// table is theirs; see [Handle.Table] and [Handle.TenantColumn].
func NewHandle(db *isolation.DB, engine isolation.Engine, tenants ...tenancy.Tenant) Handle {
	h := Handle{
		DB: db, Engine: engine,
		ErrNoTenant: tenancy.ErrNoTenant, ErrMismatch: tenancy.ErrTenantMismatch,
	}
	byID := make(map[string]tenancy.Tenant, len(tenants))
	for _, t := range tenants {
		byID[t.ID] = t
		h.Tenants = append(h.Tenants, t.ID)
	}
	h.Bind = func(ctx context.Context, tenant string) context.Context {
		return tenancy.UnsafeBind(ctx, byID[tenant], "isolationtest")
	}
	return h
}

const defaultTable = "leak_hunt"

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

func (h Handle) withDefaults() Handle {
	if h.Table == "" {
		h.Table = defaultTable
	}
	h.Tenants = slices.Clone(h.Tenants)
	return h
}

func (h Handle) validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("isolationtest.Handle."+format, args...))
	}
	if h.DB == nil {
		fail("DB is nil: give the handle that is to be tested")
	}
	if h.Bind == nil {
		fail("Bind is nil: return a context that is bound to the tenant")
	}
	if h.Engine == "" {
		fail("Engine is empty: name the database, such as isolation.EnginePostgreSQL")
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(h.Tenants))); len(distinct) < max(2, len(h.Tenants)) {
		fail("Tenants are %q: name at least two, each once", h.Tenants)
	}
	for _, name := range []string{h.Table, h.TenantColumn} {
		if name != "" && !plainName.MatchString(name) {
			fail("Table and TenantColumn are names of a-z, 0-9 and _, not %q", name)
		}
	}
	if h.PerTenant < 0 {
		fail("PerTenant is negative: leave it 0 if it is not known")
	}
	return errors.Join(errs...)
}

// start returns the handle with its defaults and its tables. The function drops those that it made.
func start(t testing.TB, h Handle) (Handle, func()) {
	t.Helper()
	h = h.withDefaults()
	if err := h.validate(); err != nil {
		t.Fatal(err)
	}
	if h.Plain != nil {
		// A login that fails for another reason would pass for one that is refused.
		if err := h.Plain.PingContext(t.Context()); err != nil {
			t.Fatalf("isolationtest.Handle.Plain does not work: %v", err)
		}
		if _, err := h.Plain.ExecContext(t.Context(), "SELECT 1"); err != nil {
			t.Fatalf("isolationtest.Handle.Plain does not work: %v", err)
		}
	}
	var made []string // tenants
	end := func() { h.drop(t, made) }
	ready := false
	defer func() {
		if !ready {
			end()
		}
	}()
	for _, tenant := range h.Tenants {
		missing := h.look(t, tenant)
		if missing == nil {
			continue
		}
		if h.TenantColumn != "" {
			t.Fatalf("isolationtest: the table %s cannot be read as tenant %q: make it by CreateTable, and wall it as the application's tables are: %v",
				h.Table, tenant, missing)
		}
		made = append(made, tenant)
		for _, ddl := range append([]string{CreateTable(h.Engine, h.Table, "")}, CreateRelated(h.Engine, h.Table, "")...) {
			if _, err := h.DB.ExecContext(h.Bind(t.Context(), tenant), ddl); err != nil {
				t.Fatalf("isolationtest: tenant %q has no table %s (%v), and making it fails: let the tenant's migrations make it by CreateTable: %v",
					tenant, h.Table, missing, err)
			}
		}
	}
	h.Related = h.Related || len(made) == len(h.Tenants)
	ready = true
	return h, end
}

// look returns why a tenant cannot read the table, nil if it can. It ends the test at a table with
// other columns than the suites', whose rows are not to be deleted.
func (h Handle) look(t testing.TB, tenant string) error {
	t.Helper()
	rows, err := h.DB.QueryContext(h.Bind(t.Context(), tenant), "SELECT * FROM "+h.Table+" WHERE 1 = 0")
	if err != nil {
		return err
	}
	got, err := rows.Columns()
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return err
	}
	want := strings.Split(columns, ", ")
	if h.TenantColumn != "" {
		want = append(want, h.TenantColumn)
	}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Fatalf("isolationtest: the table %s of tenant %q is not the suites': it has the columns %q, not %q: name another in Handle.Table, see CreateTable",
			h.Table, tenant, got, want)
	}
	return nil
}

// drop drops the tables of tenants.
func (h Handle) drop(t testing.TB, tenants []string) {
	t.Helper()
	for _, tenant := range tenants {
		ctx := h.Bind(context.WithoutCancel(t.Context()), tenant)
		for _, suffix := range []string{child, parent, ""} {
			if _, err := h.DB.ExecContext(ctx, "DROP TABLE IF EXISTS "+h.Table+suffix); err != nil {
				t.Logf("isolationtest: the table %s%s of tenant %q stays: %v", h.Table, suffix, tenant, err)
			}
		}
	}
}
