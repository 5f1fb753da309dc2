package bench_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// access is how the two sides speak to a PostgreSQL server.
type access struct {
	connector func(config *pgx.ConnConfig) (driver.Connector, error) // of scoped
	mode      pgx.QueryExecMode                                      // of plain
}

var (
	// pipelined is this library's connector, against the fastest mode of pgx that works there.
	pipelined       = access{byTenantpgx, pgx.QueryExecModeCacheStatement}
	pipelinedPooled = access{byTenantpgx, pgx.QueryExecModeCacheDescribe}
	// standard is pgx's own driver on both sides, in the same mode.
	standard       = access{byStdlib(pgx.QueryExecModeCacheStatement), pgx.QueryExecModeCacheStatement}
	standardPooled = access{byStdlib(pgx.QueryExecModeExec), pgx.QueryExecModeExec}
)

func byTenantpgx(config *pgx.ConnConfig) (driver.Connector, error) {
	return tenantpgx.NewConnectorConfig(config)
}

func byStdlib(mode pgx.QueryExecMode) func(config *pgx.ConnConfig) (driver.Connector, error) {
	return func(config *pgx.ConnConfig) (driver.Connector, error) {
		config.DefaultQueryExecMode = mode
		return stdlib.GetConnector(*config), nil
	}
}

// direct and pooled say whether PgBouncer, in transaction mode, is in between.
const direct, pooled = false, true

// postgres is a database on a PostgreSQL server.
type postgres struct {
	server   *servers.PostgresServer
	bouncer  *servers.PgBouncerServer // nil when clients connect directly
	database string
	roles    isolation.Roles
	strategy string
}

func onPostgreSQL(strategy string, pool bool) func(b *testing.B) *site {
	return func(b *testing.B) *site {
		b.Helper()
		server := servers.Postgres(b)
		p := &postgres{server: server, database: server.CreateDatabase(b), strategy: strategy}
		if pool {
			p.bouncer = servers.PgBouncer(b, server)
		}
		admin, err := sql.Open("pgx", server.URL(p.database))
		must(b, err)
		defer admin.Close()
		p.roles = isolation.Roles{App: p.database + "_app", Migrator: p.database + "_migrator", Creates: true}
		must(b, p.roles.Create(b.Context(), admin, isolation.Passwords{App: "app", Migrator: "migrator"}))
		s := &site{engine: isolation.EnginePostgreSQL, wired: true}
		own := fmt.Sprintf(`DO $$ BEGIN
			CREATE TABLE notes (id bigint PRIMARY KEY, body text NOT NULL);
			INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, %d) n; END $$`, rowsPerTenant)
		shared := "CREATE TABLE notes (tenant_id text NOT NULL, id bigint NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id))"
		s.settle(b, p.config(b, pipelined, &wire{}), notes{map[bool][]string{
			true:  {shared},
			false: {own},
		}})
		if pool && strategy == tenancy.StrategyDatabase { // its connections would keep a tenant's database from being dropped
			b.Cleanup(func() { must(b, p.bouncer.Stop()) })
		}
		for i, t := range s.tenants {
			s.tables[i] = "notes"
			if t.Placement.Schema != "" {
				s.tables[i] = t.Placement.Schema + ".notes"
			}
		}
		if s.shared {
			_, err := admin.ExecContext(b.Context(), fmt.Sprintf(`INSERT INTO notes (tenant_id, id, body)
				SELECT 't' || t, n, 'note ' || n FROM generate_series(1, %d) t, generate_series(1, %d) n`, sharedTenants, rowsPerTenant))
			must(b, err)
		}
		for i := range s.tenants {
			db := stdlib.OpenDB(*p.plain(b, s.tenants[i], pipelinedPooled, &wire{}))
			_, err := db.ExecContext(b.Context(), "ANALYZE "+s.tables[i])
			must(b, err)
			must(b, db.Close())
		}
		s.scoped = func(b *testing.B, a access, w *wire) *isolation.DB { return handle(b, p.config(b, a, w)) }
		s.plain = func(b *testing.B, a access, w *wire) [2]*sql.DB {
			return opened(b, s, func(t tenancy.Tenant) *sql.DB {
				db := stdlib.OpenDB(*p.plain(b, t, a, w))
				b.Cleanup(func() { _ = db.Close() })
				return db
			})
		}
		s.plainPool = func(b *testing.B, a access, w *wire) [2]*pgxpool.Pool {
			return opened(b, s, func(t tenancy.Tenant) *pgxpool.Pool {
				config, err := pgxpool.ParseConfig("")
				must(b, err)
				config.ConnConfig = p.plain(b, t, a, w)
				pool, err := pgxpool.NewWithConfig(context.Background(), config)
				must(b, err)
				b.Cleanup(pool.Close)
				return pool
			})
		}
		return s
	}
}

// opened opens a database for each tenant, or one for both if they share it.
func opened[T any](b *testing.B, s *site, open func(t tenancy.Tenant) T) (all [2]T) {
	b.Helper()
	for i, t := range s.tenants {
		if i > 0 && t.Placement.Database == s.tenants[0].Placement.Database {
			all[i] = all[0]
			continue
		}
		all[i] = open(t)
	}
	return all
}

// url returns the URL of a login, which reaches the server through the pooler if there is one.
func (p *postgres) url(b *testing.B, user, password, database string) string {
	if p.bouncer == nil {
		return p.server.URLFor(user, password, database)
	}
	p.bouncer.AddUser(b, user, password)
	return p.bouncer.URLFor(user, password, database)
}

// plain is the superuser in the tenant's database. Nothing is checked for it.
func (p *postgres) plain(b *testing.B, t tenancy.Tenant, a access, w *wire) *pgx.ConnConfig {
	b.Helper()
	database := p.database
	if t.Placement.Database != "" {
		database = t.Placement.Database
	}
	url := p.server.URL(database)
	if p.bouncer != nil {
		url = p.bouncer.URL(database)
	}
	config, err := pgx.ParseConfig(url)
	must(b, err)
	config.DefaultQueryExecMode = a.mode
	w.attach(config)
	return config
}

// config describes the database to the library.
func (p *postgres) config(b *testing.B, a access, w *wire) isolation.Config {
	b.Helper()
	connect := func(user, password, database string) (driver.Connector, error) {
		config, err := pgx.ParseConfig(p.url(b, user, password, database))
		if err != nil {
			return nil, err
		}
		w.attach(config)
		return a.connector(config)
	}
	main := isolation.PostgreSQL{}
	var err error
	main.App, err = connect(p.roles.App, "app", p.database)
	must(b, err)
	migrator := p.server.URLFor(p.roles.Migrator, "migrator", p.database)
	main.Migrator, err = tenantpgx.NewConnector(migrator)
	must(b, err)
	switch p.strategy {
	case tenancy.StrategyRowLevel:
		main.RLS = &isolation.RLS{Roles: p.roles, Tables: []isolation.Table{{Name: "notes"}}}
	case tenancy.StrategySchema:
		main.Schemas = &isolation.Schemas{Roles: p.roles}
	case tenancy.StrategyDatabase:
		asMigrator, err := tenantpgx.Opener(migrator)
		must(b, err)
		// One connector for each login, as tenantpgx.Opener has it.
		var mu sync.Mutex
		connectors := make(map[isolation.Login]driver.Connector)
		main.Databases = &isolation.Databases{Key: make([]byte, 32), Open: func(l isolation.Login) (c driver.Connector, err error) {
			if l.User == "" {
				return asMigrator(l)
			}
			mu.Lock()
			defer mu.Unlock()
			if connectors[l] == nil {
				if connectors[l], err = connect(l.User, l.Password, l.Database); err != nil {
					return nil, err
				}
			}
			return connectors[l], nil
		}}
	}
	return isolation.Config{Servers: map[string]isolation.Server{"main": main}, Strategy: p.strategy, Logger: quiet}
}
