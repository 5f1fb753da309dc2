package pgx_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	db    *isolation.DB
	plain *sql.DB // pgx stdlib over the same network path and login, as a yardstick
	admin *sql.DB
	wire  *wire
	acme  context.Context
	other context.Context
	url   string
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
	ctx := context.Background()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	w := &world{wire: &wire{}}
	admin, err := sql.Open("pgx", pg.URL(name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	w.admin = admin
	roles := isolation.Roles{App: name + "_app"}
	must(t, roles.Create(ctx, admin, isolation.Passwords{App: "a"}))
	t.Cleanup(func() {
		_, _ = admin.ExecContext(ctx, fmt.Sprintf(`DROP OWNED BY "%[1]s" CASCADE; DROP ROLE "%[1]s"`, roles.App))
	})
	for _, ddl := range append([]string{schema}, more...) {
		_, err := admin.ExecContext(ctx, ddl)
		must(t, err)
	}
	rls := isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}}
	must(t, rls.Apply(ctx, admin))
	w.url = pg.URLFor(roles.App, "a", name)
	if path == pgbouncer {
		bouncer := servers.PgBouncer(t, pg)
		bouncer.AddUser(t, roles.App, "a")
		w.url = bouncer.URLFor(roles.App, "a", name)
	}
	config, err := pgx.ParseConfig(w.url)
	must(t, err)
	plain := config.Copy()
	if path == pgbouncer {
		plain.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	w.plain = stdlib.OpenDB(*plain)
	t.Cleanup(func() { _ = w.plain.Close() })
	w.wire.attach(config)
	connector, err := tenantpgx.NewConnectorConfig(config)
	must(t, err)
	w.db, err = isolation.Open(isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{App: connector, RLS: &rls}},
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	must(t, err)
	t.Cleanup(func() { _ = w.db.Close() })
	w.acme, w.other = bind("acme"), bind("other")
	return w
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

var _ driver.Connector = (*tenantpgx.Connector)(nil)
