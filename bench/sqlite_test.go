package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// sqliteNotes makes the table, and leaves the whole database in its one file.
func sqliteNotes() notes {
	numbers := func(n int) string {
		return fmt.Sprintf("(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n)", n)
	}
	const checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
	return notes{map[bool][]string{
		true: {
			"CREATE TABLE notes (tenant_id TEXT NOT NULL, id INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant_id, id))",
			"INSERT INTO notes SELECT 't' || t.i, n.i, 'note ' || n.i FROM " + numbers(sharedTenants) + " t, " + numbers(rowsPerTenant) + " n",
			checkpoint,
		},
		false: {
			"CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)",
			"INSERT INTO notes SELECT i, 'note ' || i FROM " + numbers(rowsPerTenant),
			checkpoint,
		},
	}}
}

func onSQLite(strategy string) func(b *testing.B) *site {
	return func(b *testing.B) *site {
		b.Helper()
		server := isolation.SQLite{Dir: b.TempDir(), Driver: "sqlite"}
		if strategy == tenancy.StrategyRowLevel {
			server.Rows = &isolation.SQLiteRows{Tables: map[string]string{"notes": ""}}
		}
		config := isolation.Config{Servers: map[string]isolation.Server{"files": server}, Strategy: strategy, Logger: quiet}
		s := &site{engine: isolation.EngineSQLite, tables: [2]string{"notes", "notes"}}
		s.settle(b, config, sqliteNotes())
		s.scoped = func(b *testing.B, _ access, _ *wire) *isolation.DB { return handle(b, config) }
		s.plain = func(b *testing.B, _ access, _ *wire) [2]*sql.DB {
			return opened(b, s, func(t tenancy.Tenant) *sql.DB {
				file := t.Placement.Database
				if s.shared {
					file = "shared.sqlite"
				}
				db, err := sql.Open("sqlite", "file:"+filepath.Join(server.Dir, file)+ // as the library opens it
					"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate")
				must(b, err)
				b.Cleanup(func() { _ = db.Close() })
				return db
			})
		}
		return s
	}
}

// BenchmarkSQLiteFiles is 10 000 tenants with a file each, asked for with Zipf's frequencies, of which
// 200 are open at most. There is nothing plain to compare it with.
func BenchmarkSQLiteFiles(b *testing.B) {
	if testing.Short() {
		b.Skip("makes 10 000 files")
	}
	const tenants, most = 10_000, 200
	dir := b.TempDir()
	config := isolation.Config{
		Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: dir, Driver: "sqlite"}},
		Strategy: tenancy.StrategyDatabase, Pool: isolation.PoolConfig{MaxConns: most, MaxPools: most}, Logger: quiet,
	}
	contexts := tenantFiles(b, config, dir, tenants)
	db := handle(b, config)
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, tenants-1)
	for range rounds {
		b.Run("scoped", func(b *testing.B) {
			opened := 0
			measure(b, side{op: func() error {
				err := one(contexts[zipf.Uint64()], db, "SELECT id, body FROM notes WHERE id = ?", 50)
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
}

// tenantFiles makes the databases of n tenants and returns a context inside each.
func tenantFiles(b *testing.B, config isolation.Config, dir string, n int) []context.Context {
	b.Helper()
	provisioner, err := isolation.NewProvisioner(config, sqliteNotes())
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
