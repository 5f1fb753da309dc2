package pgx_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// mixed is a deployment whose tenants live by all three strategies, two by each.
type mixed struct {
	pool  *tenantpgx.Pool
	wire  *wire
	trace *tracer // of all connections but the migrator's
	// contexts of the tenants by strategy.
	contexts map[string][2]context.Context
}

var strategies = []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase}

// ownTables are tables with or without a column for the tenant, as the target needs them.
type ownTables struct{}

func (ownTables) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	ddl := []string{strings.Replace(schema, "CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)}
	if target.Tenant != "" {
		ddl = []string{
			"CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)",
			"CREATE TYPE mood AS ENUM ('sad', 'glad')", "CREATE TABLE moods (m mood)",
		}
	}
	for _, text := range ddl {
		if _, err := target.DB.ExecContext(ctx, text); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func (ownTables) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

func openMixed(t *testing.T, path through, conns int) *mixed {
	t.Helper()
	ctx := context.Background()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	admin, err := sql.Open("pgx", pg.URL(name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	roles := isolation.Roles{App: name + "_app", Migrator: name + "_migrator", Creates: true}
	must(t, roles.Create(ctx, admin, isolation.Passwords{App: "a", Migrator: "m"}))
	url := pg.URLFor(roles.App, "a", name)
	if path == pgbouncer {
		bouncer := servers.PgBouncer(t, pg)
		bouncer.AddUser(t, roles.App, "a")
		url = bouncer.URLFor(roles.App, "a", name)
	}
	m := &mixed{wire: &wire{}, trace: &tracer{}, contexts: make(map[string][2]context.Context)}
	config, err := pgx.ParseConfig(url)
	must(t, err)
	m.wire.attach(config)
	config.Tracer = m.trace
	app, err := tenantpgx.NewConnectorConfig(config)
	must(t, err)
	migrator, err := tenantpgx.NewConnector(pg.URLFor(roles.Migrator, "m", name))
	must(t, err)
	config, err = pgx.ParseConfig(pg.URLFor(roles.Migrator, "m", name))
	must(t, err)
	config.Tracer = m.trace
	opener := tenantpgx.OpenerConfig(config)
	settings := isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
			App: app, Migrator: migrator,
			RLS:       &isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}},
			Schemas:   &isolation.Schemas{Roles: roles},
			Databases: &isolation.Databases{Open: opener, Key: []byte("0123456789abcdef0123456789abcdef")},
		}},
		Pool:   isolation.PoolConfig{MaxConns: conns, MaxPerTenant: conns},
		Logger: slog.New(slog.DiscardHandler),
	}
	p, err := isolation.NewProvisioner(settings, ownTables{})
	must(t, err)
	_, err = p.Setup(ctx)
	must(t, err)
	db, err := isolation.Open(settings)
	must(t, err)
	m.pool = tenantpgx.New(db)
	t.Cleanup(func() { _ = m.pool.Close() })
	for _, strategy := range strategies {
		var pair [2]context.Context
		for i := range pair {
			id := fmt.Sprintf("%s-%d", strategy, i)
			tn := tenancy.Tenant{ID: id, Slug: "slug", Status: tenancy.StatusActive}
			tn.Placement.Strategy = strategy
			tn.Placement, err = p.Place(ctx, tn)
			must(t, err)
			tn.Placement, err = p.Provision(ctx, tn)
			must(t, err)
			if seen := m.trace.took(); len(seen) > 0 {
				t.Errorf("the tracer sees statements of the library: %q", seen)
			}
			pair[i] = tenancy.UnsafeBind(ctx, tn, "test") //nolint:fatcontext // one context each
			add(t, pair[i], m.pool, "of "+id)
			if seen := m.trace.took(); len(seen) != 2 {
				t.Errorf("the tracer sees of one statement %q", seen)
			}
		}
		m.contexts[strategy] = pair
	}
	return m
}

// each runs fn for every tenant; own is the note that it has.
func (m *mixed) each(fn func(ctx, other context.Context, strategy, own string)) {
	for strategy, pair := range m.contexts {
		for i, ctx := range pair {
			fn(ctx, pair[1-i], strategy, fmt.Sprintf("of %s-%d", strategy, i))
		}
	}
}

func TestPoolUnderEveryStrategy(t *testing.T) {
	t.Parallel()
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			t.Parallel()
			m := openMixed(t, path, 4)
			t.Run("sees its own", func(t *testing.T) {
				for range 3 {
					m.each(func(ctx, _ context.Context, _, own string) { sees(t, ctx, m.pool, own) })
				}
			})
			t.Run("traces what the caller wrote", func(t *testing.T) { // without the version of the tenant's tables
				m.each(func(ctx, _ context.Context, strategy, _ string) {
					m.trace.took()
					for range 2 {
						must(t, m.pool.DB().QueryRowContext(ctx, "SELECT 42").Scan(new(int)))
					}
					want := strings.Repeat("start SELECT 42 []; end SELECT 42: SELECT 1 ; ", 2)
					if got := strings.Join(append(m.trace.took(), ""), "; "); got != want {
						t.Errorf("%s: traced %q, want %q", strategy, got, want)
					}
				})
			})
			t.Run("copies and batches", func(t *testing.T) {
				m.each(func(ctx, other context.Context, strategy, own string) {
					n, err := m.pool.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows([][]any{{"copied"}, {"copied"}}))
					must(t, err)
					if n != 2 {
						t.Errorf("%s: copied %d", strategy, n)
					}
					sees(t, ctx, m.pool, own, "copied", "copied")
					var b pgx.Batch
					b.Queue("DELETE FROM notes WHERE body = $1", "copied")
					b.Queue("INSERT INTO notes (body) VALUES ($1)", "batch")
					b.Queue("DELETE FROM notes WHERE body = 'batch'")
					must(t, m.pool.SendBatch(ctx, &b).Close())
					tx, err := m.pool.Begin(ctx)
					must(t, err)
					sees(t, ctx, tx, own)
					_, err = bodies(other, tx)
					mustBe(t, err, tenancy.ErrTenantMismatch)
					must(t, tx.Rollback(ctx))
				})
			})
			t.Run("tells types of the same name apart", func(t *testing.T) {
				for range 3 {
					m.each(func(ctx, _ context.Context, strategy, _ string) {
						if strategy == tenancy.StrategyRowLevel {
							return
						}
						must(t, second(m.pool.Exec(ctx, "INSERT INTO moods VALUES ($1)", "glad")))
						var b pgx.Batch
						b.Queue("SELECT m::text FROM moods WHERE m = $1 LIMIT 1", "glad")
						must(t, m.pool.SendBatch(ctx, &b).Close())
					})
				}
			})
			t.Run("tells the server the tenant", func(t *testing.T) {
				pool := m.pool.WithApplicationName(func(tenant string) string { return tenant })
				m.each(func(ctx, _ context.Context, strategy, own string) {
					var name string
					must(t, pool.QueryRow(ctx, "SHOW application_name").Scan(&name))
					if named := "of "+name == own; named != (strategy != tenancy.StrategyDatabase) {
						t.Errorf("%s is %q", own, name)
					}
					sees(t, ctx, pool, own)
					must(t, m.pool.QueryRow(ctx, "SHOW application_name").Scan(&name))
					if "of "+name == own {
						t.Errorf("%q stays", name)
					}
				})
			})
			t.Run("many at once", func(t *testing.T) {
				var wg sync.WaitGroup
				m.each(func(ctx, _ context.Context, _, own string) {
					for range 3 {
						wg.Go(func() {
							for range 20 {
								all, err := bodies(ctx, m.pool)
								if err != nil || len(all) != 1 || all[0] != own {
									t.Errorf("%s: saw %q, %v", own, all, err)
									return
								}
							}
						})
					}
				})
				wg.Wait()
			})
			t.Run("costs one round trip", func(t *testing.T) {
				for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema} {
					for _, ctx := range m.contexts[strategy] {
						must(t, second(bodies(ctx, m.pool)))
						trips, writes := m.wire.count(func() { must(t, second(bodies(ctx, m.pool))) })
						if trips != 1 || writes != 1 {
							t.Errorf("%s: %d round trips and %d writes", strategy, trips, writes)
						}
					}
				}
			})
		})
	}
}

// TestC18PoolQualifiedNameReachesNobodyElse names another tenant's schema.
func TestC18PoolQualifiedNameReachesNobodyElse(t *testing.T) {
	t.Parallel()
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			t.Parallel()
			m := openMixed(t, path, 2)
			pair := m.contexts[tenancy.StrategySchema]
			scope, err := tenancy.ScopeOf(pair[1])
			must(t, err)
			theirs := pgx.Identifier{scope.Tenant.Placement.Schema, "notes"}
			text := "SELECT body FROM " + theirs.Sanitize()
			var b pgx.Batch
			b.Queue(text)
			for _, strategy := range strategies {
				ctx := m.contexts[strategy][0]
				for name, err := range map[string]error{
					"Exec":      second(m.pool.Exec(ctx, text)),
					"Query":     second(bodiesOf(ctx, m.pool, text)),
					"SendBatch": m.pool.SendBatch(ctx, &b).Close(),
					"CopyFrom":  second(m.pool.CopyFrom(ctx, theirs, []string{"body"}, pgx.CopyFromRows([][]any{{"never"}}))),
					"a transaction": pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
						return second(tx.Conn().Exec(ctx, text))
					}),
				} {
					if want := "42501"; state(err) != want && strategy != tenancy.StrategyDatabase || err == nil {
						t.Errorf("%s as %s: %v", name, strategy, err)
					}
				}
			}
			sees(t, pair[1], m.pool, "of schema-1")
		})
	}
}
