package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// onMariaDBRows sets a server of the test's own up, on which tenants share the table.
func onMariaDBRows(t testing.TB) isolationtest.Handle {
	t.Helper()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{})
	open := func(l isolation.Login) (driver.Connector, error) {
		dsn := server.DSN(l.Database)
		if l.User != "" {
			dsn = server.DSNFor(l.User, l.Password, l.Database)
		}
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		config.Logger = &mysql.NopLogger{} // a lost connection is what is tested
		return mysql.NewConnector(config)
	}
	const base, views = "base", "views"
	login := func(grants ...string) (driver.Connector, string) {
		user, password := server.CreateUser(t, grants...)
		database := ""
		if len(grants) > 0 {
			database = base
		}
		c, err := open(isolation.Login{User: user, Password: password, Database: database})
		must(t, err)
		return c, user
	}
	app, user := login()
	system, _ := login("SELECT, INSERT, UPDATE, DELETE ON " + base + ".*")
	root, err := open(isolation.Login{})
	must(t, err)
	admin := sql.OpenDB(root)
	t.Cleanup(func() { _ = admin.Close() })
	rows := &isolation.MariaDBRows{Base: base, Views: views, Tables: tablesOf()}
	config := isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.MariaDB{
			App: app, System: system, Open: open, Key: []byte("0123456789abcdef0123456789abcdef"), Rows: rows,
		}},
		Strategy: tenancy.StrategyRowLevel,
	}
	h, _ := handle(t, config, isolation.EngineMariaDB, "tenant_id")
	h.Plain = sql.OpenDB(app)
	t.Cleanup(func() { _ = h.Plain.Close() })
	h.System = func(ctx context.Context) context.Context { return tenancy.AsSystem(ctx, "leak hunt") }
	h.Restart = func(context.Context) error { return server.Restart() }
	h.SetSession = func(string) []string { return []string{"USE " + base} }
	h.Qualified = func(string) string { return base + "." + table }
	h.Migrate = func(ctx context.Context, _, statement string) error {
		if _, err := admin.ExecContext(ctx, strings.ReplaceAll(statement, table, base+"."+table)); err != nil {
			return err
		}
		return rows.Apply(ctx, admin)
	}
	h.Copies = loads
	h.Kill = func(ctx context.Context, most int) (int, error) { return killMariaDB(ctx, admin, user, most) }
	return h
}
