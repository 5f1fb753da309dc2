package bench_test

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

func onMariaDB(strategy string) func(b *testing.B) *site {
	return func(b *testing.B) *site {
		b.Helper()
		server := servers.MariaDB(b)
		base := server.CreateDatabase(b)
		// The driver's own defaults: it prepares each statement that has arguments.
		connect := func(dsn string, w *wire) (driver.Connector, error) {
			config, err := mysql.ParseDSN(dsn)
			if err != nil {
				return nil, err
			}
			config.ParseTime, config.ClientFoundRows = true, true // as GORM wants it
			w.attachMySQL(config)
			return mysql.NewConnector(config)
		}
		user, password := server.CreateUser(b)
		config := func(b *testing.B, w *wire) isolation.Config {
			app, err := connect(server.DSNFor(user, password, ""), w)
			must(b, err)
			main := isolation.MariaDB{App: app, Key: make([]byte, 32), Open: func(l isolation.Login) (driver.Connector, error) {
				if l.User == "" {
					return connect(server.DSN(l.Database), w)
				}
				return connect(server.DSNFor(l.User, l.Password, l.Database), w)
			}}
			if strategy == tenancy.StrategyRowLevel {
				main.Rows = &isolation.MariaDBRows{Base: base, Views: base + "_views", Tables: map[string]string{"notes": ""}}
			}
			return isolation.Config{Servers: map[string]isolation.Server{"main": main}, Strategy: strategy, Logger: quiet}
		}
		s := &site{engine: isolation.EngineMariaDB, wired: true}
		const body = "id bigint NOT NULL DEFAULT 0, body varchar(200) NOT NULL DEFAULT '', "
		numbers := fmt.Sprintf("FROM seq_1_to_%d n", rowsPerTenant)
		s.settle(b, config(b, &wire{}), notes{map[bool][]string{
			true: {
				"CREATE TABLE notes (tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL, " + body + "PRIMARY KEY (tenant_id, id))",
				fmt.Sprintf("INSERT INTO notes SELECT concat('t', t.seq), n.seq, concat('note ', n.seq) %s, seq_1_to_%d t", numbers, sharedTenants),
			},
			false: {
				"CREATE TABLE notes (" + body + "PRIMARY KEY (id))",
				"INSERT INTO notes SELECT n.seq, concat('note ', n.seq) " + numbers,
			},
		}})
		database := func(t tenancy.Tenant) string {
			if s.shared {
				return base
			}
			return t.Placement.Schema + t.Placement.Database // one of them is empty
		}
		if s.shared {
			root, err := sql.Open("mysql", server.DSN(""))
			must(b, err)
			b.Cleanup(func() {
				_, err := root.Exec("DROP DATABASE " + base + "_views")
				must(b, err)
				must(b, root.Close())
			})
		}
		for i, t := range s.tenants {
			s.tables[i] = database(t) + ".notes"
		}
		s.scoped = func(b *testing.B, _ access, w *wire) *isolation.DB { return handle(b, config(b, w)) }
		s.plain = func(b *testing.B, _ access, w *wire) [2]*sql.DB {
			return opened(b, s, func(t tenancy.Tenant) *sql.DB {
				c, err := connect(server.DSN(database(t)), w)
				must(b, err)
				db := sql.OpenDB(c)
				b.Cleanup(func() { _ = db.Close() })
				return db
			})
		}
		return s
	}
}
