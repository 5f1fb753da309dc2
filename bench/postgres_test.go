package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// wire counts round trips at the socket: a write, or several in a row, followed by a read.
type wire struct{ trips atomic.Int64 }

func (w *wire) attach(config *pgx.ConnConfig) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			return &countedConn{TCPConn: tcp, wire: w}, nil
		}
		return nil, fmt.Errorf("dialled a %T", c)
	}
}

// countedConn embeds the TCPConn itself, so that its socket can still be looked at.
type countedConn struct {
	*net.TCPConn
	wire  *wire
	wrote atomic.Bool
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	return c.TCPConn.Write(p)
}

func (c *countedConn) Read(p []byte) (int, error) {
	if c.wrote.Swap(false) {
		c.wire.trips.Add(1)
	}
	return c.TCPConn.Read(p)
}

const rowsPerTenant = 100

// postgres is one table twice: walled, and bare for the same statements by hand.
type postgres struct {
	plain, scoped         *sql.DB
	plainWire, scopedWire wire
}

func openPostgres(b *testing.B, throughPgBouncer bool) *postgres {
	b.Helper()
	ctx := b.Context()
	server := servers.Postgres(b)
	database := server.CreateDatabase(b)
	admin, err := sql.Open("pgx", server.URL(database))
	must(b, err)
	defer admin.Close()
	roles := isolation.Roles{App: database + "_app"}
	must(b, roles.Create(ctx, admin, isolation.Passwords{App: "app"}))
	rls := isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}}
	for _, table := range []string{"notes", "bare"} {
		_, err := admin.ExecContext(ctx, fmt.Sprintf(`
			CREATE TABLE %[1]s (tenant_id text NOT NULL, id bigint NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id));
			INSERT INTO %[1]s SELECT 't' || t, n, 'note ' || n FROM generate_series(1, 50) t, generate_series(1, %[2]d) n;
			GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s TO "%[3]s"`, table, rowsPerTenant, roles.App))
		must(b, err)
	}
	must(b, rls.Apply(ctx, admin))
	_, err = admin.ExecContext(ctx, "ANALYZE")
	must(b, err)

	url := server.URLFor(roles.App, "app", database)
	if throughPgBouncer {
		bouncer := servers.PgBouncer(b, server)
		bouncer.AddUser(b, roles.App, "app")
		url = bouncer.URLFor(roles.App, "app", database)
	}
	config, err := pgx.ParseConfig(url)
	must(b, err)
	pg := &postgres{}
	plain := config.Copy()
	pg.plainWire.attach(plain)
	if throughPgBouncer {
		plain.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // what a pooler can stand
	}
	pg.plain = stdlib.OpenDB(*plain)
	b.Cleanup(func() { _ = pg.plain.Close() })
	pg.scopedWire.attach(config)
	connector, err := tenantpgx.NewConnectorConfig(config)
	must(b, err)
	db, err := isolation.Open(isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{App: connector, RLS: &rls}},
		Logger:  slog.New(slog.DiscardHandler),
	})
	must(b, err)
	b.Cleanup(func() { _ = db.Close() })
	pg.scoped = db.DB
	return pg
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// The statements, by hand with the tenant and scoped without a word about it.
const (
	selectOnePlain   = "SELECT id, body FROM bare WHERE tenant_id = $1 AND id = $2"
	selectOneScoped  = "SELECT id, body FROM notes WHERE id = $1"
	selectManyPlain  = "SELECT id, body FROM bare WHERE tenant_id = $1 ORDER BY id"
	selectManyScoped = "SELECT id, body FROM notes ORDER BY id"
	updatePlain      = "UPDATE bare SET body = $3 WHERE tenant_id = $1 AND id = $2"
	updateScoped     = "UPDATE notes SET body = $2 WHERE id = $1"
)

func one(ctx context.Context, q queryer, query string, args ...any) error {
	var id int64
	var body string
	return q.QueryRowContext(ctx, query, args...).Scan(&id, &body)
}

func many(ctx context.Context, q queryer, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id int64
		var body string
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
	}
	if n != rowsPerTenant && rows.Err() == nil {
		return fmt.Errorf("%d rows, want %d", n, rowsPerTenant)
	}
	return rows.Err()
}

func update(ctx context.Context, q queryer, query string, args ...any) error {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		return fmt.Errorf("%d rows updated, %w", n, err)
	}
	return nil
}

func inTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// ownTables are the notes of one tenant, where tenants have tables of their own.
type ownTables string

func (s ownTables) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	_, err := target.DB.ExecContext(ctx, string(s))
	return 1, err
}

func (ownTables) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// openOwn opens a server on which two tenants have a schema or a database each. The plain side
// asks the first one's tables by name, or in its own database, as a login of its own.
func openOwn(b *testing.B, strategy string) (pg *postgres, tenants [2]context.Context, schema string) {
	b.Helper()
	ctx := b.Context()
	server := servers.Postgres(b)
	database := server.CreateDatabase(b)
	admin, err := sql.Open("pgx", server.URL(database))
	must(b, err)
	b.Cleanup(func() { _ = admin.Close() })
	roles := isolation.Roles{App: database + "_app", Migrator: database + "_migrator", Creates: true}
	must(b, roles.Create(ctx, admin, isolation.Passwords{App: "app", Migrator: "migrator"}))
	migrator := server.URLFor(roles.Migrator, "migrator", database)
	pg = &postgres{}
	config, err := pgx.ParseConfig(server.URLFor(roles.App, "app", database))
	must(b, err)
	pg.scopedWire.attach(config)
	connector, err := tenantpgx.NewConnectorConfig(config)
	must(b, err)
	main := isolation.PostgreSQL{App: connector, Schemas: &isolation.Schemas{Roles: roles}}
	main.Migrator, err = tenantpgx.NewConnector(migrator)
	must(b, err)
	opener, err := tenantpgx.Opener(migrator)
	must(b, err)
	main.Databases = &isolation.Databases{Open: opener, Key: make([]byte, 32)}
	where := isolation.Config{
		Servers: map[string]isolation.Server{"main": main}, Strategy: strategy, Logger: slog.New(slog.DiscardHandler),
	}
	provisioner, err := isolation.NewProvisioner(where, ownTables(fmt.Sprintf(`DO $$ BEGIN
		CREATE TABLE notes (id bigint PRIMARY KEY, body text NOT NULL);
		INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, %d) n; END $$`, rowsPerTenant)))
	must(b, err)
	_, err = provisioner.Setup(ctx)
	must(b, err)
	for i := range tenants {
		t := tenancy.Tenant{ID: fmt.Sprint("t", i), Slug: fmt.Sprint("t", i), Status: tenancy.StatusActive}
		t.Placement, err = provisioner.Place(ctx, t)
		must(b, err)
		t.Placement, err = provisioner.Provision(ctx, t)
		must(b, err)
		b.Cleanup(func() { must(b, provisioner.Deprovision(context.Background(), t)) })
		tenants[i] = tenancy.UnsafeBind(ctx, t, "benchmark") //nolint:fatcontext // each begins anew
		if i == 0 && strategy == tenancy.StrategySchema {
			schema = t.Placement.Schema
		}
		if i == 0 && strategy == tenancy.StrategyDatabase {
			database = t.Placement.Database
		}
	}
	plain, err := pgx.ParseConfig(server.URL(database)) // the superuser: nothing is checked for it
	must(b, err)
	pg.plainWire.attach(plain)
	pg.plain = stdlib.OpenDB(*plain)
	b.Cleanup(func() { _ = pg.plain.Close() })
	db, err := isolation.Open(where)
	must(b, err)
	b.Cleanup(func() { _ = db.Close() })
	pg.scoped = db.DB
	return pg, tenants, schema
}

// BenchmarkOwnTables is isolation.DB over tenantpgx.Connector with schema and database, against
// pgx's stdlib that is told where the table is.
func BenchmarkOwnTables(b *testing.B) {
	for _, strategy := range []string{tenancy.StrategySchema, tenancy.StrategyDatabase} {
		b.Run(strategy, func(b *testing.B) {
			pg, tenants, schema := openOwn(b, strategy)
			ctx := tenants[0]
			table := "notes"
			if schema != "" {
				table = schema + ".notes"
			}
			budgets := map[string]float64{"ratio": 1.5}
			scoped := side{op: func() error { return one(ctx, pg.scoped, selectOneScoped, 50) }}
			if strategy == tenancy.StrategySchema { // whose connections are counted
				budgets["round-trips/op"] = 1
				scoped.measured = perOp("round-trips/op", pg.scopedWire.trips.Load)
			}
			plain := side{
				op:       func() error { return one(ctx, pg.plain, "SELECT id, body FROM "+table+" WHERE id = $1", 50) },
				measured: perOp("round-trips/op", pg.plainWire.trips.Load),
			}
			b.Run("one-tenant", func(b *testing.B) { compare(b, budgets, plain, scoped) })
			turn := 0
			scoped.op = func() error {
				turn++
				return one(tenants[turn%2], pg.scoped, selectOneScoped, 50)
			}
			b.Run("two-tenants-in-turn", func(b *testing.B) { compare(b, budgets, plain, scoped) })
		})
	}
}

// BenchmarkPostgres is isolation.DB over tenantpgx.Connector with row_level, against pgx's
// stdlib with the tenant in the WHERE clause, direct and through PgBouncer in transaction mode.
func BenchmarkPostgres(b *testing.B) {
	const k = 3 // statements of a transaction
	for _, path := range []struct {
		name      string
		pgBouncer bool
	}{{"direct", false}, {"pgbouncer", true}} {
		b.Run(path.name, func(b *testing.B) {
			pg := openPostgres(b, path.pgBouncer)
			ctx := inTenant("t7", tenancy.Placement{})
			trips := func(w *wire) func(*testing.B, int) { return perOp("round-trips/op", w.trips.Load) }
			statement := func(name string, plain, scoped func() error) {
				b.Run(name, func(b *testing.B) {
					compare(b, map[string]float64{"ratio": 1.5, "round-trips/op": 1},
						side{op: plain, measured: trips(&pg.plainWire)},
						side{op: scoped, measured: trips(&pg.scopedWire)})
				})
			}
			statement("select-one",
				func() error { return one(ctx, pg.plain, selectOnePlain, "t7", 50) },
				func() error { return one(ctx, pg.scoped, selectOneScoped, 50) })
			statement("select-100",
				func() error { return many(ctx, pg.plain, selectManyPlain, "t7") },
				func() error { return many(ctx, pg.scoped, selectManyScoped) })
			statement("update",
				func() error { return update(ctx, pg.plain, updatePlain, "t7", 50, "new") },
				func() error { return update(ctx, pg.scoped, updateScoped, 50, "new") })
			b.Run(fmt.Sprintf("tx-of-%d", k), func(b *testing.B) {
				repeat := func(db *sql.DB, query string, args ...any) func() error {
					return func() error {
						return inTx(ctx, db, func(tx *sql.Tx) error {
							for range k {
								if err := one(ctx, tx, query, args...); err != nil {
									return err
								}
							}
							return nil
						})
					}
				}
				compare(b, map[string]float64{"round-trips/op": k + 1},
					side{op: repeat(pg.plain, selectOnePlain, "t7", 50), measured: trips(&pg.plainWire)},
					side{op: repeat(pg.scoped, selectOneScoped, 50), measured: trips(&pg.scopedWire)})
			})
		})
	}
}
