package pgx_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

// wire counts what happens at the sockets of a config: a round trip is a write, or several in a
// row, that is followed by a read.
type wire struct {
	trips, writes, dials atomic.Int64
	slow                 atomic.Int64 // nanoseconds that a write takes longer
}

func (w *wire) attach(config *pgx.ConnConfig) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w.dials.Add(1)
		return &countedConn{TCPConn: c.(*net.TCPConn), wire: w}, nil
	}
}

type countedConn struct {
	*net.TCPConn
	wire  *wire
	wrote atomic.Bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.wire.writes.Add(1)
	c.wrote.Store(true)
	n, err := c.TCPConn.Write(b)
	time.Sleep(time.Duration(c.wire.slow.Load()))
	return n, err
}

func (c *countedConn) Read(b []byte) (int, error) {
	if c.wrote.Swap(false) {
		c.wire.trips.Add(1)
	}
	return c.TCPConn.Read(b)
}

// count returns what fn costs at the socket.
func (w *wire) count(fn func()) (trips, writes int64) {
	trips, writes = w.trips.Load(), w.writes.Load()
	fn()
	return w.trips.Load() - trips, w.writes.Load() - writes
}

// world is a database with a walled table, reached by one of several ways.
type world struct {
	db     *isolation.DB
	pool   *tenantpgx.Pool // over db
	config isolation.Config
	plain  *sql.DB // pgx stdlib over the same network path and login, as a yardstick
	admin  *sql.DB
	wire   *wire
	made   *made
	acme   context.Context
	other  context.Context
	name   string // of the database
	roles  isolation.Roles
	url    string
}

// through says how the application reaches the server.
type through string

const (
	direct    through = "direct"
	pgbouncer through = "PgBouncer"
)

var paths = []through{direct, pgbouncer}

const schema = `CREATE TABLE notes (
	id bigint GENERATED ALWAYS AS IDENTITY,
	tenant_id text NOT NULL,
	body text NOT NULL,
	PRIMARY KEY (tenant_id, id))`

func open(t testing.TB, path through, more ...string) *world {
	t.Helper()
	return openWith(t, path, options{ddl: more})
}

// options are what a world may have beside the usual.
type options struct {
	ddl    []string
	tables []isolation.Table // walled beside notes
	pool   isolation.PoolConfig
	config func(*pgx.ConnConfig)
	server int // connections of PgBouncer to the server; 0 is its default
}

func openWith(t testing.TB, path through, o options) *world {
	t.Helper()
	ctx := context.Background()
	pg := servers.Postgres(t)
	w := &world{wire: &wire{}, made: &made{}, name: pg.CreateDatabase(t)}
	admin, err := sql.Open("pgx", pg.URL(w.name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	w.admin = admin
	w.roles = isolation.Roles{App: w.name + "_app", System: w.name + "_system"}
	must(t, w.roles.Create(ctx, admin, isolation.Passwords{App: "a", System: "s"}))
	t.Cleanup(func() {
		for _, role := range []string{w.roles.App, w.roles.System} {
			_, _ = admin.ExecContext(ctx, fmt.Sprintf(`DROP OWNED BY "%[1]s" CASCADE; DROP ROLE "%[1]s"`, role))
		}
	})
	for _, ddl := range append([]string{schema}, o.ddl...) {
		_, err := admin.ExecContext(ctx, ddl)
		must(t, err)
	}
	rls := isolation.RLS{Roles: w.roles, Tables: append([]isolation.Table{{Name: "notes"}}, o.tables...)}
	must(t, rls.Apply(ctx, admin))
	url := func(user, password string) string { return pg.URLFor(user, password, w.name) }
	if path == pgbouncer {
		bouncer := servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: o.server})
		bouncer.Supervise(t)
		bouncer.AddUser(t, w.roles.App, "a")
		bouncer.AddUser(t, w.roles.System, "s")
		url = func(user, password string) string { return bouncer.URLFor(user, password, w.name) }
	}
	w.url = url(w.roles.App, "a")
	config, err := pgx.ParseConfig(w.url)
	must(t, err)
	plain := config.Copy()
	if path == pgbouncer {
		plain.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	w.plain = stdlib.OpenDB(*plain)
	t.Cleanup(func() { _ = w.plain.Close() })
	w.wire.attach(config)
	if o.config != nil {
		o.config(config)
	}
	app, err := tenantpgx.NewConnectorConfig(config)
	must(t, err)
	system, err := tenantpgx.NewConnector(url(w.roles.System, "s"))
	must(t, err)
	w.config = isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{App: making{app, w.made}, System: system, RLS: &rls}},
		Pool:    o.pool,
		Logger:  slog.New(slog.DiscardHandler),
	}
	w.db, err = isolation.Open(w.config)
	must(t, err)
	w.pool = tenantpgx.New(w.db)
	t.Cleanup(func() { _ = w.pool.Close() })
	w.acme, w.other = bind("acme"), bind("other")
	return w
}

// made are the connections that a world's app role has opened, so that a test can look at the
// state in which they were left.
type made struct {
	mu    sync.Mutex
	conns []*tenantpgx.Conn
}

type making struct {
	driver.Connector
	to *made
}

func (m making) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := m.Connector.Connect(ctx)
	if err == nil {
		m.to.mu.Lock()
		m.to.conns = append(m.to.conns, c.(*tenantpgx.Conn))
		m.to.mu.Unlock()
	}
	return c, err
}

// clean fails the test if a connection that is still open is bound, or can read a note unbound.
func (m *made) clean(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		if c.Conn().IsClosed() {
			continue // nobody will use it again
		}
		if !c.IsValid() {
			t.Error("a connection was left in the middle of something")
			continue
		}
		var bound string
		err := c.Conn().QueryRow(context.Background(), "SELECT coalesce(current_setting('app.tenant_id', true), '')").Scan(&bound)
		if err != nil && c.Conn().IsClosed() {
			continue // killed, and nobody had used it since
		}
		must(t, err)
		if bound != "" {
			t.Errorf("a connection is still bound to %q", bound)
		}
		var n int
		err = c.Conn().QueryRow(context.Background(), "SELECT count(*) FROM notes").Scan(&n)
		if err == nil {
			t.Errorf("an unbound connection counted %d notes", n)
		}
	}
}

func bind(id string) context.Context {
	return tenancy.UnsafeBind(context.Background(),
		tenancy.Tenant{ID: id, Slug: "slug", Status: tenancy.StatusActive}, "test")
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

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var _ driver.Connector = (*tenantpgx.Connector)(nil)
