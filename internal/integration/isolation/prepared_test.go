package isolation_test

import (
	"database/sql/driver"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// pgx's own driver keeps named statements, which PgBouncer before 1.21 loses in transaction mode.
func TestCheckFindsStatementsThatAPoolerLoses(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	bouncer := servers.PgBouncer(t, pg)
	c := openPostgres(t, tenancy.StrategyRowLevel, pg, bouncer, pipelined(t), nil)
	mode := func(mode pgx.QueryExecMode) func(url string) driver.Connector {
		return func(url string) driver.Connector {
			config, err := pgx.ParseConfig(url)
			must(t, err)
			config.DefaultQueryExecMode = mode
			return stdlib.GetConnector(*config)
		}
	}
	libpq := func(url string) driver.Connector {
		connector, err := pq.NewConnector(url)
		must(t, err)
		return connector
	}
	direct := func(role, password string) string { return pg.URLFor(role, password, c.name) }
	pooled := func(role, password string) string { return bouncer.URLFor(role, password, c.name) }
	for name, by := range map[string]struct {
		url     func(role, password string) string
		driver  func(url string) driver.Connector
		refused bool
	}{
		"pgx as it is, through PgBouncer":            {pooled, plain(t), true},
		"pgx as it is, direct":                       {direct, plain(t), false},
		"pgx in the mode exec, through PgBouncer":    {pooled, mode(pgx.QueryExecModeExec), false},
		"pgx in the simple mode, through PgBouncer":  {pooled, mode(pgx.QueryExecModeSimpleProtocol), false},
		"pgx that describes only, through PgBouncer": {pooled, mode(pgx.QueryExecModeCacheDescribe), false},
		"lib/pq, through PgBouncer":                  {pooled, libpq, false},
		"tenantpgx, through PgBouncer":               {pooled, pipelined(t), false},
		"tenantpgx, direct":                          {direct, pipelined(t), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, field := range []string{"App", "System", "Replica"} {
				config := c.config
				server := config.Servers["main"].(isolation.PostgreSQL)
				switch field {
				case "App":
					server.App = by.driver(by.url(c.roles.App, "a"))
				case "System":
					server.System = by.driver(by.url(c.roles.System, "s"))
				default:
					server.Replica = by.driver(by.url(c.roles.App, "a"))
				}
				config.Servers = map[string]isolation.Server{"main": server}
				db, err := isolation.Open(config)
				must(t, err)
				for range 3 { // every time, and not by luck
					err = db.Check(t.Context())
					switch {
					case !by.refused:
						must(t, err)
					case err == nil || !strings.Contains(err.Error(), "PostgreSQL."+field+": its driver prepares named statements") || !strings.Contains(err.Error(), "default_query_exec_mode=exec"):
						t.Errorf("%s: got %v", field, err)
					}
				}
				must(t, db.Close())
			}
		})
	}
}

// Others keep PgBouncer's connections busy, so that the two of the check meet at no process for sure.
func TestCheckFindsLostStatementsInABusyPooler(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	bouncer := servers.PgBouncer(t, pg)
	c := openPostgres(t, tenancy.StrategyRowLevel, pg, bouncer, pipelined(t), nil)
	busy := make(chan struct{})
	var group sync.WaitGroup
	acme := c.db
	for range 6 {
		group.Go(func() {
			for {
				select {
				case <-busy:
					return
				default:
				}
				if _, err := acme.ExecContext(tenancy.AsSystem(t.Context(), "test"), "SELECT 1"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer group.Wait()
	defer close(busy)
	config := c.config
	server := config.Servers["main"].(isolation.PostgreSQL)
	server.System = plain(t)(bouncer.URLFor(c.roles.System, "s", c.name))
	config.Servers = map[string]isolation.Server{"main": server}
	db, err := isolation.Open(config)
	must(t, err)
	defer db.Close()
	for range 20 {
		if err := db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "PostgreSQL.System: its driver prepares named statements") {
			t.Errorf("got %v", err)
		}
	}
}
