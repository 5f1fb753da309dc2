package isolation_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// fake is a database server that knows transactions and settings, and nothing else. It records
// each statement with the tenant that was bound when it ran.
type fake struct {
	mu    sync.Mutex
	log   []string
	open  int
	fail  map[string]error // by the text of a statement, once
	dials chan struct{}    // if not nil, each Connect takes one
}

func (f *fake) Connect(ctx context.Context) (driver.Conn, error) {
	if f.dials != nil {
		select {
		case <-f.dials:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["connect"]; err != nil {
		delete(f.fail, "connect")
		return nil, err
	}
	f.open++
	return &fakeConn{server: f}, nil
}

func (f *fake) Driver() driver.Driver { return nil }

func (f *fake) failOnce(text string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = map[string]error{text: err}
}

// took returns what was run since it was last asked.
func (f *fake) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// fakeConn binds in one write, so that it shows what the library asks of a driver.
type fakeConn struct {
	server *fake
	tx     bool
	bound  string
	closed bool
	rows   int
}

var (
	_ isolation.BoundConn   = (*fakeConn)(nil)
	_ isolation.StatusConn  = (*fakeConn)(nil)
	_ isolation.SessionConn = (*fakeConn)(nil)
)

func (c *fakeConn) run(query string) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.closed {
		return driver.ErrBadConn
	}
	c.server.log = append(c.server.log, fmt.Sprintf("%s [%s]", query, c.bound))
	if err := c.server.fail[query]; err != nil {
		delete(c.server.fail, query)
		return err
	}
	return nil
}

func (c *fakeConn) Close() error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.server.open--
	}
	return nil
}

func (c *fakeConn) Idle() bool                           { return !c.tx && c.rows == 0 && !c.closed }
func (c *fakeConn) Direct(context.Context) (bool, error) { return true, nil }
func (c *fakeConn) Prepare(string) (driver.Stmt, error)  { return nil, errors.ErrUnsupported }
func (c *fakeConn) Begin() (driver.Tx, error)            { return nil, errors.ErrUnsupported }

func (c *fakeConn) CheckNamedValue(v *driver.NamedValue) error {
	if v.Value == "removed" {
		return driver.ErrRemoveArgument
	}
	if v.Value == "refused" {
		return errors.New("the driver refuses it")
	}
	return driver.ErrSkip
}

func (c *fakeConn) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	for _, a := range args {
		query += fmt.Sprintf(" %v", a.Value)
	}
	return driver.RowsAffected(1), c.run(query)
}

func (c *fakeConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	if err := c.run(query); err != nil {
		return nil, err
	}
	c.rows++
	return &fakeRows{conn: c}, nil
}

func (c *fakeConn) ExecBound(ctx context.Context, bind []isolation.Setting, _ bool, query string, args []driver.NamedValue) (driver.Result, error) {
	c.bound = bind[0].Value
	defer func() { c.bound = "" }()
	return c.ExecContext(ctx, query, args)
}

func (c *fakeConn) QueryBound(ctx context.Context, bind []isolation.Setting, _ bool, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.bound = bind[0].Value
	rows, err := c.QueryContext(ctx, query, args)
	if err != nil {
		c.bound = ""
	}
	return rows, err
}

func (c *fakeConn) BeginBound(_ context.Context, bind []isolation.Setting, _ driver.TxOptions) (driver.Tx, error) {
	if err := c.run("BEGIN"); err != nil {
		return nil, err
	}
	c.tx, c.bound = true, bind[0].Value
	return fakeTx{c}, nil
}

type fakeTx struct{ conn *fakeConn }

func (t fakeTx) Commit() error   { return t.end("COMMIT") }
func (t fakeTx) Rollback() error { return t.end("ROLLBACK") }

func (t fakeTx) end(how string) error {
	err := t.conn.run(how)
	t.conn.tx, t.conn.bound = err != nil, ""
	return err
}

type fakeRows struct {
	conn *fakeConn
	n    int
}

func (r *fakeRows) Columns() []string { return []string{"x"} }

func (r *fakeRows) Next(dest []driver.Value) error {
	if r.n++; r.n > 3 {
		return io.EOF
	}
	dest[0] = int64(r.n)
	return nil
}

func (r *fakeRows) Close() error {
	r.conn.rows--
	if !r.conn.tx {
		r.conn.bound = ""
	}
	return nil
}

// open returns a DB over a fake server.
func open(t testing.TB, pool isolation.PoolConfig) (*isolation.DB, *fake) {
	t.Helper()
	return openBy(t, nil, pool)
}

// ownPools is row_level with connections of each tenant's own, as strategies have that open a
// database per tenant.
type ownPools struct{ isolation.Strategy }

func (ownPools) Name() string { return "own_pools" }

func (o ownPools) Route(s isolation.Server, t *tenancy.Tenant, p tenancy.Placement, r *isolation.Route) error {
	err := o.Strategy.Route(s, t, p, r)
	r.Pool.Database = t.ID
	return err
}

func openOwnPools(t testing.TB, pool isolation.PoolConfig) (*isolation.DB, *fake) {
	t.Helper()
	shipped, err := isolation.NewRegistry()
	must(t, err)
	rows, err := shipped.Strategy(tenancy.StrategyRowLevel)
	must(t, err)
	registry, err := isolation.NewRegistry(ownPools{rows})
	must(t, err)
	return openBy(t, registry, pool)
}

// openBy takes nil for row_level, else a registry with ownPools.
func openBy(t testing.TB, registry *isolation.Registry, pool isolation.PoolConfig) (*isolation.DB, *fake) {
	t.Helper()
	server := &fake{}
	strategy := ""
	if registry != nil {
		strategy = ownPools{}.Name()
	}
	db, err := isolation.Open(isolation.Config{
		Registry: registry, Strategy: strategy,
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
			App: server, RLS: &isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{{Name: "notes"}}},
		}},
		Pool:   pool,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	must(t, err)
	t.Cleanup(func() {
		must(t, db.Close())
		if n := server.connections(); n != 0 {
			t.Errorf("%d connections are left open", n)
		}
	})
	return db, server
}

func bind(ctx context.Context, id string) context.Context {
	return tenancy.UnsafeBind(ctx, tenancy.Tenant{ID: id, Slug: "slug", Status: tenancy.StatusActive}, "test")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func ran(t testing.TB, server *fake, want ...string) {
	t.Helper()
	if got := server.took(); !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
