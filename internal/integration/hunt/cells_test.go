package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

// cells are the strategies, engines and access paths that are searched for leaks.
var cells = []struct {
	name string
	open func(t testing.TB) isolationtest.Handle
}{
	{"row_level by tenantpgx", func(t testing.TB) isolationtest.Handle {
		return rowLevel(t, nil, pipelined)
	}},
	{"row_level by tenantpgx through PgBouncer", func(t testing.TB) isolationtest.Handle {
		pg := servers.NewPostgres(t, servers.PostgresConfig{})
		return rowLevelOn(t, pg, servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: 6}), pipelined)
	}},
	{"row_level by pgx stdlib", func(t testing.TB) isolationtest.Handle {
		h := rowLevel(t, nil, standard)
		h.Migrate = nil // pgx stdlib itself fails once after a change of a table
		return h
	}},
	{"row_level by pgx stdlib through PgBouncer", func(t testing.TB) isolationtest.Handle {
		pg := servers.NewPostgres(t, servers.PostgresConfig{})
		h := rowLevelOn(t, pg, servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: 6}), unnamed)
		h.Migrate = nil
		return h
	}},
	{"database on SQLite", onSQLite},
}

const table = "leak_hunt"

// migration is a Migrator of one statement.
type migration string

func (m migration) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	_, err := target.DB.ExecContext(ctx, string(m))
	return 1, err
}

func (m migration) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// connect makes the connector of a URL.
type connect func(t testing.TB, url string) driver.Connector

func pipelined(t testing.TB, url string) driver.Connector {
	c, err := tenantpgx.NewConnector(url)
	must(t, err)
	return c
}

func standard(t testing.TB, url string) driver.Connector {
	config, err := pgx.ParseConfig(url)
	must(t, err)
	return stdlib.GetConnector(*config)
}

// unnamed is standard without prepared statements, which PgBouncer loses.
func unnamed(t testing.TB, url string) driver.Connector {
	config, err := pgx.ParseConfig(url)
	must(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return stdlib.GetConnector(*config)
}

// plain opens the application's login past the library. It works behind a pooler too.
func plain(t testing.TB, text string) *sql.DB {
	db := sql.OpenDB(unnamed(t, text))
	db.SetMaxOpenConns(3)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func rowLevel(t testing.TB, bouncer *servers.PgBouncerServer, c connect) isolationtest.Handle {
	return rowLevelOn(t, servers.NewPostgres(t, servers.PostgresConfig{}), bouncer, c)
}

// rowLevelOn sets a database up on a server of the test's own, which may be restarted.
func rowLevelOn(t testing.TB, pg *servers.PostgresServer, bouncer *servers.PgBouncerServer, c connect) isolationtest.Handle {
	t.Helper()
	ctx := t.Context()
	name := pg.CreateDatabase(t)
	admin := sql.OpenDB(standard(t, pg.URL(name)))
	t.Cleanup(func() { _ = admin.Close() })
	roles := isolation.Roles{App: name + "_app", System: name + "_system", Migrator: name + "_migrator"}
	must(t, roles.Create(ctx, admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
	at := func(user, password string) string { return pg.URLFor(user, password, name) }
	if bouncer != nil {
		bouncer.AddUser(t, roles.App, "a")
		bouncer.AddUser(t, roles.System, "s")
		at = func(user, password string) string { return bouncer.URLFor(user, password, name) }
	}
	config := isolation.Config{Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
		App:      c(t, at(roles.App, "a")),
		System:   c(t, at(roles.System, "s")),
		Migrator: standard(t, pg.URLFor(roles.Migrator, "m", name)),
		RLS:      &isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: table}}},
	}}}
	h := handle(t, config, isolation.EnginePostgreSQL, "tenant_id")
	h.System = func(ctx context.Context) context.Context { return tenancy.AsSystem(ctx, "leak hunt") }
	h.Plain = plain(t, at(roles.App, "a"))
	h.Pooled = bouncer != nil
	h.Setting = "app.tenant_id"
	h.Qualified = func(string) string { return "public." + table }
	h.Keeps = map[string]string{"SHOW search_path": `"$user", public`}
	h.Kill = func(ctx context.Context, most int) (killed int, err error) {
		err = admin.QueryRowContext(ctx, `SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
			WHERE datname = $1 AND usename = $2 ORDER BY random() LIMIT nullif($3, 0)) AS x`, name, roles.App, most).Scan(&killed)
		return killed, err
	}
	h.Restart = func(context.Context) error { return pg.Restart() }
	h.Migrate = func(ctx context.Context, _, statement string) error {
		_, err := admin.ExecContext(ctx, statement)
		return err
	}
	return h
}

func onSQLite(t testing.TB) isolationtest.Handle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tenants")
	config := isolation.Config{
		Servers: map[string]isolation.Server{"files": isolation.SQLite{
			Dir: dir, Driver: "sqlite", Options: url.Values{"_pragma": {"synchronous(0)"}}, // the machine does not crash
		}},
		Strategy: tenancy.StrategyDatabase,
	}
	h := handle(t, config, isolation.EngineSQLite, "")
	h.Migrate = func(ctx context.Context, tenant, statement string) error {
		scope, err := tenancy.ScopeOf(h.Bind(ctx, tenant))
		if err != nil {
			return err
		}
		path := "file:" + filepath.Join(dir, scope.Tenant.Placement.Database) + "?" + url.Values{"_pragma": {"busy_timeout(5000)"}}.Encode()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.ExecContext(ctx, statement)
		return err
	}
	return h
}

// handle sets the server up, provisions three tenants and opens the handle.
func handle(t testing.TB, config isolation.Config, engine isolation.Engine, column string) isolationtest.Handle {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	provisioner, err := isolation.NewProvisioner(config, migration(isolationtest.CreateTable(engine, table, column)))
	must(t, err)
	_, err = provisioner.Setup(t.Context())
	must(t, err)
	var tenants []tenancy.Tenant
	for _, id := range []string{"acme", "globex", "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d"} {
		tn := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}
		tn.Placement, err = provisioner.Place(t.Context(), tn)
		must(t, err)
		tn.Placement, err = provisioner.Provision(t.Context(), tn)
		must(t, err)
		tenants = append(tenants, tn)
	}
	const perTenant = 4
	open := func(conns, perTenant int) (*isolation.DB, error) {
		config := config
		config.Pool.MaxConns, config.Pool.MaxPerTenant = conns, perTenant
		return isolation.Open(config)
	}
	db, err := open(2*perTenant, perTenant)
	must(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h := isolationtest.NewHandle(db, engine, tenants...)
	h.TenantColumn, h.PerTenant = column, perTenant
	h.Open = func(conns int) (isolationtest.DB, error) {
		db, err := open(conns, conns)
		if err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
		return db, nil
	}
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
