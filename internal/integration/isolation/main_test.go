package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

// schema is the application's table on PostgreSQL.
const schema = `CREATE TABLE notes (
	id bigint GENERATED ALWAYS AS IDENTITY,
	tenant_id text NOT NULL,
	body text NOT NULL,
	PRIMARY KEY (tenant_id, id))`

// ownSchema is the application's table where each tenant has its own on PostgreSQL.
const ownSchema = `CREATE TABLE IF NOT EXISTS notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)`

// key is what the logins of tenants' databases are derived from.
var key = []byte("0123456789abcdef0123456789abcdef")

// fileSchema is the application's table on SQLite: no word about tenants.
const fileSchema = `CREATE TABLE IF NOT EXISTS notes (id integer PRIMARY KEY AUTOINCREMENT, body text NOT NULL)`

// migration is a Migrator of one statement.
type migration string

func (m migration) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	_, err := target.DB.ExecContext(ctx, string(m))
	return 1, err
}

func (m migration) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// cell is a strategy on an engine by an access path, with two tenants that have one note each.
type cell struct {
	db        *isolation.DB
	config    isolation.Config
	migration isolation.Migrator
	admin     *sql.DB // past all walls; nil for SQLite
	acme      context.Context
	globex    context.Context
	server    *servers.PostgresServer
	name      string // of the database
	roles     isolation.Roles
}

// access is a way to a cell.
type access struct {
	name   string
	pooled bool // a pooler in transaction mode is between
	shared bool // tenants share connections
	rows   bool // and tables
	engine isolation.Engine
	bound  bool // one network write per statement
	views  bool // tenants share tables and not connections
	open   func(t testing.TB, options ...func(*isolation.Config)) *cell
}

var accesses = []access{
	{name: "row_level by tenantpgx", shared: true, rows: true, bound: true, open: openDirect},
	{name: "row_level by tenantpgx through PgBouncer", shared: true, rows: true, pooled: true, bound: true, open: openPooled},
	{name: "row_level by pgx stdlib", shared: true, rows: true, open: openStdlib},
	{name: "schema by tenantpgx", shared: true, bound: true, open: openSchemas},
	{name: "schema by tenantpgx through PgBouncer", shared: true, pooled: true, bound: true, open: openPooledSchemas},
	{name: "schema by pgx stdlib", shared: true, open: openStdlibSchemas},
	{name: "database on PostgreSQL", open: openDatabases},
	{name: "row_level on MariaDB", engine: isolation.EngineMariaDB, views: true, open: openMariaDBRows},
	{name: "schema on MariaDB", engine: isolation.EngineMariaDB, open: openMariaDBSchemas},
	{name: "database on MariaDB", engine: isolation.EngineMariaDB, open: openMariaDBDatabases},
	{name: "database on SQLite", engine: isolation.EngineSQLite, open: openSQLite},
}

// each runs a test for every access that is wanted.
func each(t *testing.T, want func(a access) bool, test func(t *testing.T, a access)) {
	for _, a := range accesses {
		if want == nil || want(a) {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				test(t, a)
			})
		}
	}
}

func isShared(a access) bool { return a.shared }

func isPostgreSQL(a access) bool { return a.engine == "" }

func isRows(a access) bool { return a.rows }

// one lets a cell have a single inner connection, so that every use is a reuse.
func one(c *isolation.Config) { c.Pool.MaxConns, c.Pool.MaxPerTenant = 1, 1 }

func quiet(c *isolation.Config) { c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil)) }

func openDirect(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openPostgres(t, tenancy.StrategyRowLevel, servers.Postgres(t), nil, pipelined(t), options)
}

func openSchemas(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openPostgres(t, tenancy.StrategySchema, servers.Postgres(t), nil, pipelined(t), options)
}

func openDatabases(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openPostgres(t, tenancy.StrategyDatabase, servers.Postgres(t), nil, pipelined(t), options)
}

func openStdlib(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openPostgres(t, tenancy.StrategyRowLevel, servers.Postgres(t), nil, plain(t), options)
}

func openStdlibSchemas(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openPostgres(t, tenancy.StrategySchema, servers.Postgres(t), nil, plain(t), options)
}

func openPooled(t testing.TB, options ...func(*isolation.Config)) *cell {
	pg := servers.Postgres(t)
	return openPostgres(t, tenancy.StrategyRowLevel, pg, servers.PgBouncer(t, pg), pipelined(t), options)
}

func openPooledSchemas(t testing.TB, options ...func(*isolation.Config)) *cell {
	pg := servers.Postgres(t)
	return openPostgres(t, tenancy.StrategySchema, pg, servers.PgBouncer(t, pg), pipelined(t), options)
}

// plain makes connectors of a driver that is no BoundConn.
func plain(t testing.TB) func(url string) driver.Connector {
	return func(url string) driver.Connector {
		config, err := pgx.ParseConfig(url)
		must(t, err)
		return stdlib.GetConnector(*config)
	}
}

func pipelined(t testing.TB) func(url string) driver.Connector {
	return func(url string) driver.Connector {
		c, err := tenantpgx.NewConnector(url)
		must(t, err)
		return c
	}
}

func openPostgres(t testing.TB, strategy string, pg *servers.PostgresServer, bouncer *servers.PgBouncerServer,
	connector func(url string) driver.Connector, options []func(*isolation.Config),
) *cell {
	t.Helper()
	ctx := t.Context()
	c := &cell{server: pg, name: pg.CreateDatabase(t)}
	c.admin = sql.OpenDB(connector(pg.URL(c.name)))
	t.Cleanup(func() { _ = c.admin.Close() })
	c.roles = isolation.Roles{App: c.name + "_app", System: c.name + "_system", Migrator: c.name + "_migrator", Creates: true}
	must(t, c.roles.Create(ctx, c.admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
	t.Cleanup(func() {
		for _, role := range []string{c.roles.App, c.roles.System, c.roles.Migrator} {
			_, err := c.admin.ExecContext(context.Background(), fmt.Sprintf(`DROP OWNED BY "%[1]s" CASCADE`, role))
			if err == nil {
				_, err = c.admin.ExecContext(context.Background(), fmt.Sprintf(`DROP ROLE "%s"`, role))
			}
			if err != nil {
				t.Logf("drop role: %v", err)
			}
		}
	})
	url := func(user, password string) string { return pg.URLFor(user, password, c.name) }
	if bouncer != nil {
		bouncer.AddUser(t, c.roles.App, "a")
		bouncer.AddUser(t, c.roles.System, "s")
		url = func(user, password string) string { return bouncer.URLFor(user, password, c.name) }
	}
	c.config = isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
			App:      connector(url(c.roles.App, "a")),
			System:   connector(url(c.roles.System, "s")),
			Migrator: pipelined(t)(pg.URLFor(c.roles.Migrator, "m", c.name)),
		}},
		Strategy: strategy,
	}
	tables := schema
	server := c.config.Servers["main"].(isolation.PostgreSQL)
	switch strategy {
	case tenancy.StrategyRowLevel:
		server.RLS = &isolation.RLS{Roles: c.roles, Tables: []isolation.Table{{Name: "notes"}}}
	case tenancy.StrategySchema:
		server.Schemas, tables = &isolation.Schemas{Roles: c.roles}, ownSchema
	case tenancy.StrategyDatabase:
		opener, err := tenantpgx.Opener(pg.URLFor(c.roles.Migrator, "m", c.name))
		must(t, err)
		server.Databases, tables = &isolation.Databases{Open: opener, Key: key}, ownSchema
	}
	c.config.Servers["main"] = server
	c.start(t, migration(tables), options)
	return c
}

func openSQLite(t testing.TB, options ...func(*isolation.Config)) *cell {
	t.Helper()
	c := &cell{config: isolation.Config{
		Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: filepath.Join(t.TempDir(), "tenants"), Driver: "sqlite"}},
		Strategy: tenancy.StrategyDatabase,
	}}
	c.start(t, migration(fileSchema), options)
	return c
}

// start sets the server up, provisions the tenants and opens the DB.
func (c *cell) start(t testing.TB, m isolation.Migrator, options []func(*isolation.Config)) {
	t.Helper()
	ctx := t.Context()
	quiet(&c.config)
	c.migration = m
	provisioner, err := isolation.NewProvisioner(c.config, m)
	must(t, err)
	_, err = provisioner.Setup(ctx)
	must(t, err)
	for _, option := range options {
		option(&c.config)
	}
	c.db, err = isolation.Open(c.config)
	must(t, err)
	t.Cleanup(func() {
		if err := c.db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	c.acme = provision(t, provisioner, tenant("acme"))
	c.globex = provision(t, provisioner, tenant("globex"))
	c.add(t, c.acme, "of acme")
	c.add(t, c.globex, "of globex")
}

// placementOf returns where the tenant of a context lives.
func placementOf(t testing.TB, ctx context.Context) tenancy.Placement {
	t.Helper()
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	return scope.Tenant.Placement
}

func tenant(id string) tenancy.Tenant {
	return tenancy.Tenant{ID: id, Slug: "slug", Status: tenancy.StatusActive}
}

// provision gives a tenant its place and returns its context.
func provision(t testing.TB, p *isolation.Provisioner, tn tenancy.Tenant) context.Context {
	t.Helper()
	var err error
	tn.Placement, err = p.Place(t.Context(), tn)
	must(t, err)
	tn.Placement, err = p.Provision(t.Context(), tn)
	must(t, err)
	if tn.Placement.Strategy != tenancy.StrategyRowLevel || tn.Placement.Schema != "" {
		t.Cleanup(func() {
			if err := p.Deprovision(context.Background(), tn); err != nil {
				t.Logf("deprovision: %v", err)
			}
		})
	}
	return tenancy.UnsafeBind(t.Context(), tn, "test")
}

// placeholder writes the parameters of a statement as the engine wants them; both take $1.
func (c *cell) add(t testing.TB, ctx context.Context, body string) {
	t.Helper()
	_, err := c.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", body)
	must(t, err)
}

// querier is *isolation.DB, *sql.Tx, *sql.Conn.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// bodies returns what a tenant sees.
func bodies(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT body FROM notes ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		all = append(all, body)
	}
	return all, rows.Err()
}

// sees fails the test unless the tenant of ctx sees exactly these notes.
func sees(t testing.TB, ctx context.Context, q querier, want ...string) {
	t.Helper()
	got, err := bodies(ctx, q)
	must(t, err)
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("saw %q, want %q", got, want)
	}
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
