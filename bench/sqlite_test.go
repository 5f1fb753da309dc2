package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

const sqliteTable = `CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)`

// tenantFiles makes the databases of n tenants and returns a context inside each.
func tenantFiles(b *testing.B, db isolation.Config, dir string, n int) []context.Context {
	b.Helper()
	provisioner, err := isolation.NewProvisioner(db, migrator{})
	must(b, err)
	var template []byte
	tenants := make([]context.Context, n)
	for i := range tenants {
		t := tenancy.Tenant{ID: fmt.Sprintf("t%d", i), Slug: fmt.Sprintf("t%d", i), Status: tenancy.StatusProvisioning}
		t.Placement, err = provisioner.Place(b.Context(), t)
		must(b, err)
		path := filepath.Join(dir, t.Placement.Database)
		if i == 0 {
			t.Placement, err = provisioner.Provision(b.Context(), t)
			must(b, err)
			template, err = os.ReadFile(path)
		} else {
			must(b, os.MkdirAll(filepath.Dir(path), 0o750))
			err = os.WriteFile(path, template, 0o600)
		}
		must(b, err)
		t.Placement.SchemaVersion = 1
		tenants[i] = inTenant(t.ID, t.Placement) //nolint:fatcontext // each begins anew
	}
	return tenants
}

// migrator fills a tenant's database.
type migrator struct{}

func (migrator) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	if _, err := target.DB.ExecContext(ctx, sqliteTable); err != nil {
		return 0, err
	}
	_, err := target.DB.ExecContext(ctx, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO notes (id, body) SELECT i, 'note ' || i FROM n`, rowsPerTenant))
	if err == nil { // the whole database is in its one file
		_, err = target.DB.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return 1, err
}

func (migrator) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// BenchmarkSQLite is isolation.DB with one file per tenant, against the same file opened by
// hand.
func BenchmarkSQLite(b *testing.B) {
	open := func(b *testing.B, tenants int, pool isolation.PoolConfig) (*isolation.DB, string, []context.Context) {
		b.Helper()
		dir := b.TempDir()
		config := isolation.Config{
			Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: dir, Driver: "sqlite"}},
			Strategy: tenancy.StrategyDatabase, Pool: pool, Logger: slog.New(slog.DiscardHandler),
		}
		contexts := tenantFiles(b, config, dir, tenants)
		db, err := isolation.Open(config)
		must(b, err)
		b.Cleanup(func() { _ = db.Close() })
		return db, dir, contexts
	}
	const selectOne, change = "SELECT id, body FROM notes WHERE id = ?", "UPDATE notes SET body = ?2 WHERE id = ?1"

	b.Run("one tenant", func(b *testing.B) {
		db, dir, tenants := open(b, 1, isolation.PoolConfig{})
		s, err := tenancy.ScopeOf(tenants[0])
		must(b, err)
		plain, err := sql.Open("sqlite", "file:"+filepath.Join(dir, s.Tenant.Placement.Database)+
			"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_txlock=immediate")
		must(b, err)
		defer plain.Close()
		ctx := tenants[0]
		b.Run("select-one", func(b *testing.B) {
			compare(b, nil,
				side{op: func() error { return one(ctx, plain, selectOne, 50) }},
				side{op: func() error { return one(ctx, db, selectOne, 50) }})
		})
		b.Run("update", func(b *testing.B) {
			compare(b, nil,
				side{op: func() error { return update(ctx, plain, change, 50, "new") }},
				side{op: func() error { return update(ctx, db, change, 50, "new") }})
		})
	})

	b.Run("10000 tenants", func(b *testing.B) {
		if testing.Short() {
			b.Skip("makes 10 000 files")
		}
		const tenants, most = 10_000, 200
		db, _, contexts := open(b, tenants, isolation.PoolConfig{MaxConns: most, MaxPools: most})
		zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, tenants-1)
		for range rounds {
			b.Run("scoped", func(b *testing.B) {
				opened := 0
				measure(b, side{op: func() error {
					err := one(contexts[zipf.Uint64()], db, selectOne, 50)
					opened = max(opened, db.PoolStats().Places)
					return err
				}})
				b.ReportMetric(float64(opened), "databases")
				b.ReportMetric(most, "max-databases")
				if descriptors, err := os.ReadDir("/proc/self/fd"); err == nil {
					b.ReportMetric(float64(len(descriptors)), "descriptors")
				}
			})
		}
	})
}
