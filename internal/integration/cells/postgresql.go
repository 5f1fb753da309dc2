package cells

import (
	"database/sql"
	"database/sql/driver"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

func (c Cell) postgreSQL(t testing.TB, tables []string) isolation.PostgreSQL {
	t.Helper()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	admin, err := sql.Open("pgx", pg.URL(name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	roles := isolation.Roles{App: name + "_app", System: name + "_system", Migrator: name + "_migrator", Creates: true}
	must(t, roles.Create(t.Context(), admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
	url := pg.URLFor
	if c.Pooled {
		bouncer := servers.PgBouncer(t, pg)
		bouncer.AddUser(t, roles.App, "a")
		bouncer.AddUser(t, roles.System, "s")
		url = bouncer.URLFor
	}
	migrator, err := tenantpgx.NewConnector(pg.URLFor(roles.Migrator, "m", name))
	must(t, err)
	app, err := c.connector(url(roles.App, "a", name))
	must(t, err)
	system, err := c.connector(url(roles.System, "s", name))
	must(t, err)
	server := isolation.PostgreSQL{App: app, System: system, Migrator: migrator}
	switch c.Strategy {
	case tenancy.StrategyRowLevel:
		server.RLS = &isolation.RLS{Roles: roles}
		for _, table := range tables {
			server.RLS.Tables = append(server.RLS.Tables, isolation.Table{Name: table})
		}
	case tenancy.StrategySchema:
		server.Schemas = &isolation.Schemas{Roles: roles}
	case tenancy.StrategyDatabase:
		server.Databases = &isolation.Databases{Open: c.opener(t, pg, pg.URLFor(roles.Migrator, "m", name)), Key: key()}
	}
	return server
}

// connector connects by the cell's path.
func (c Cell) connector(url string) (driver.Connector, error) {
	if !c.Stdlib {
		return tenantpgx.NewConnector(url)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if c.Pooled {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec // PgBouncer before 1.21 loses prepared statements
	}
	return stdlib.GetConnector(*config), nil
}

// opener opens what tenants' logins open by the cell's path. The migrator's way is direct.
func (c Cell) opener(t testing.TB, pg *servers.PostgresServer, migrator string) func(isolation.Login) (driver.Connector, error) {
	t.Helper()
	direct, err := tenantpgx.Opener(migrator)
	must(t, err)
	url, admit := pg.URLFor, func(isolation.Login) {}
	if c.Pooled {
		bouncer := servers.PgBouncer(t, pg)
		var known sync.Map
		url, admit = bouncer.URLFor, func(l isolation.Login) {
			add, _ := known.LoadOrStore(l.User, sync.OnceFunc(func() { bouncer.AddUser(t, l.User, l.Password) }))
			add.(func())()
		}
	}
	tenants, err := tenantpgx.Opener(url("", "", ""))
	must(t, err)
	if c.Stdlib {
		tenants = func(l isolation.Login) (driver.Connector, error) {
			return c.connector(url(l.User, l.Password, l.Database))
		}
	}
	return func(l isolation.Login) (driver.Connector, error) {
		if l.User == "" {
			return direct(l)
		}
		admit(l)
		return tenants(l)
	}
}
