package scale_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

// full says that the tests run at full size.
var full = os.Getenv("TENANCY_SCALE") != ""

func size(ordinary, atFullSize int) int {
	if full {
		return atFullSize
	}
	return ordinary
}

const table = `CREATE TABLE notes (id bigint PRIMARY KEY, tenant text NOT NULL)`

// marked makes a tenant's table with one row that tells whose it is.
type marked struct{}

func (marked) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	if _, err := target.DB.ExecContext(ctx, table); err != nil {
		return 0, err
	}
	_, err := target.DB.ExecContext(ctx, "INSERT INTO notes VALUES (1, '"+target.Tenant+"')")
	return 1, err
}

func (marked) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// fleet is a handle and its tenants.
type fleet struct {
	db      *isolation.DB
	tenants []context.Context
	names   []string
}

// open provisions n tenants by several workers.
func open(t *testing.T, config isolation.Config, n, workers int) *fleet {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	p, err := isolation.NewProvisioner(config, marked{})
	must(t, err)
	_, err = p.Setup(t.Context())
	must(t, err)
	f := &fleet{tenants: make([]context.Context, n), names: make([]string, n)}
	made := make([]tenancy.Tenant, n)
	var next atomic.Int64
	begun := time.Now()
	each(workers, func(int) {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			tn := tenancy.Tenant{ID: fmt.Sprintf("tenant-%d", i), Slug: fmt.Sprintf("t%d", i), Status: tenancy.StatusActive}
			if err := provision(t.Context(), p, &tn); err != nil {
				t.Error(err)
				return
			}
			made[i], f.names[i] = tn, tn.ID
			f.tenants[i] = tenancy.UnsafeBind(t.Context(), tn, "test") //nolint:fatcontext // each begins anew
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d tenants provisioned by %d workers in %v", n, workers, time.Since(begun).Round(time.Millisecond))
	f.db, err = isolation.Open(config)
	must(t, err)
	t.Cleanup(func() {
		must(t, f.db.Close())
		var next atomic.Int64
		each(workers, func(int) {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := p.Deprovision(context.Background(), made[i]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	})
	return f
}

func provision(ctx context.Context, p *isolation.Provisioner, tn *tenancy.Tenant) (err error) {
	if tn.Placement, err = p.Place(ctx, *tn); err == nil {
		tn.Placement, err = p.Provision(ctx, *tn)
	}
	return err
}

// each runs fn in n goroutines.
func each(n int, fn func(worker int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// own reads the tenant's row and fails when it is another's.
func (f *fleet) own(ctx context.Context, i int) error {
	var tenant string
	if err := f.db.QueryRowContext(ctx, "SELECT tenant FROM notes WHERE id = 1").Scan(&tenant); err != nil {
		return err
	}
	if tenant != f.names[i] {
		return fmt.Errorf("%s reads the row of %s", f.names[i], tenant)
	}
	return nil
}

// zipf has workers ask for tenants, some far more often than others, some with little patience.
func (f *fleet) zipf(t *testing.T, workers, operations int, bound func(isolation.PoolStats) error) {
	t.Helper()
	var done, impatient atomic.Int64
	begun := time.Now()
	each(workers, func(w int) {
		random := rand.New(rand.NewPCG(uint64(w), 7))
		choose := rand.NewZipf(random, 1.1, 1, uint64(len(f.tenants)-1))
		for range operations / workers {
			i := int(choose.Uint64())
			ctx, cancel := f.tenants[i], context.CancelFunc(func() {})
			hurried := random.IntN(50) == 0
			if hurried {
				ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(2000))*time.Microsecond)
			}
			err := f.own(ctx, i)
			cancel()
			switch {
			case err == nil:
				done.Add(1)
			case hurried && ctx.Err() != nil:
				impatient.Add(1)
			default:
				t.Error(err)
				return
			}
			if err := bound(f.db.PoolStats()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	s := f.db.PoolStats()
	t.Logf("%d operations, %d gave up with their context, %v; %+v", done.Load(), impatient.Load(), time.Since(begun).Round(time.Millisecond), s)
	if s.Open != s.Idle || s.Waiting != 0 {
		t.Errorf("connections are left in use: %+v", s)
	}
}

func TestManyFilesFewOpen(t *testing.T) {
	const maxPools = 200
	f := open(t, isolation.Config{
		Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: filepath.Join(t.TempDir(), "tenants"), Driver: "sqlite"}},
		Strategy: tenancy.StrategyDatabase, Pool: isolation.PoolConfig{MaxConns: maxPools, MaxPools: maxPools},
	}, size(500, 10_000), 4)
	f.zipf(t, 32, size(5_000, 100_000), func(s isolation.PoolStats) error {
		if s.Places > maxPools || s.Open > maxPools {
			return fmt.Errorf("%d databases open by %d connections, want at most %d", s.Places, s.Open, maxPools)
		}
		return nil
	})
}

// postgres returns a server on which each tenant gets a database of its own, and the one that is there
// before them.
func postgres(t *testing.T, pool isolation.PoolConfig) (config isolation.Config, db database) {
	t.Helper()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	admin, err := sql.Open("pgx", pg.URL(name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	roles := isolation.Roles{App: name + "_app", Migrator: name + "_migrator", Creates: true}
	must(t, roles.Create(t.Context(), admin, isolation.Passwords{App: "a", Migrator: "m"}))
	migrator := pg.URLFor(roles.Migrator, "m", name)
	opener, err := tenantpgx.Opener(migrator)
	must(t, err)
	server := isolation.PostgreSQL{Databases: &isolation.Databases{Open: opener, Key: make([]byte, 32)}}
	server.App, err = tenantpgx.NewConnector(pg.URLFor(roles.App, "a", name))
	must(t, err)
	server.Migrator, err = tenantpgx.NewConnector(migrator)
	must(t, err)
	config = isolation.Config{
		Servers: map[string]isolation.Server{"main": server}, Strategy: tenancy.StrategyDatabase, Pool: pool,
	}
	return config, database{admin: admin, url: pg.URL(name)}
}

// database is the one of the server that is no tenant's.
type database struct {
	admin *sql.DB
	url   string
}

// connections returns how many connections of tenants the server has.
func (d database) connections(t *testing.T) (n int) {
	t.Helper()
	must(t, d.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 't\\_tenant\\_%'").Scan(&n))
	return n
}

func TestManyDatabasesUnderACap(t *testing.T) {
	const maxConns = 40
	config, pg := postgres(t, isolation.PoolConfig{MaxConns: maxConns})
	f := open(t, config, size(20, 500), 4)
	f.zipf(t, 64, size(1_000, 20_000), func(s isolation.PoolStats) error {
		if s.Open > maxConns {
			return fmt.Errorf("%d connections, want at most %d", s.Open, maxConns)
		}
		return nil
	})
	// A server process that was told to end takes a moment to be gone.
	for deadline := time.Now().Add(10 * time.Second); pg.connections(t) > maxConns; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server has %d connections of tenants, want at most %d", pg.connections(t), maxConns)
		}
	}
}

// TestAFloodDelaysOthersByItsShare measures four quiet tenants alone, and beside one that floods. In an
// ordinary run it looks for deadlocks only. At full size the quiet tenants' 99th percentile may be three
// times that of alone, where the flood takes what the pool divides, which is connections. A flood that
// takes the machine's processors may cost them no more than the same statements through as many
// connections of pgx, past the pool.
func TestAFloodDelaysOthersByItsShare(t *testing.T) {
	const quiet, share, most = 4, 2, 3
	config, pg := postgres(t, isolation.PoolConfig{MaxConns: 8, MaxPerTenant: share})
	f := open(t, config, quiet+1, 2)
	plain, err := sql.Open("pgx", pg.url)
	must(t, err)
	defer plain.Close()
	plain.SetMaxOpenConns(share)
	plain.SetMaxIdleConns(share)
	measure := func() time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		each(quiet, func(w int) {
			for range size(100, 3_000) {
				begun := time.Now()
				if err := f.own(f.tenants[w], w); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, time.Since(begun))
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	measure() // connections are opened
	alone := measure()
	beside := func(name string, db *sql.DB, query string) time.Duration {
		ctx, stop := context.WithCancel(f.tenants[quiet])
		var statements atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for ctx.Err() == nil {
					var answer string
					err := db.QueryRowContext(ctx, query).Scan(&answer)
					switch {
					case err == nil && answer == f.names[quiet]:
						statements.Add(1)
					case ctx.Err() == nil:
						t.Errorf("the flood got %q, %v", answer, err)
						return
					}
				}
			})
		}
		p99 := measure()
		stop()
		wg.Wait()
		t.Logf("p99 alone %v, beside %s of %d statements %v: %.1f times", alone, name, statements.Load(), p99, float64(p99)/float64(alone))
		return p99
	}
	waiting := beside("a flood that waits", f.db.DB, "SELECT tenant FROM notes, pg_sleep(0.005) WHERE id = 1")
	busy := beside("a busy flood", f.db.DB, "SELECT tenant FROM notes WHERE id = 1")
	past := beside("a busy flood past the pool", plain, "SELECT '"+f.names[quiet]+"'")
	if full && waiting > most*alone {
		t.Errorf("the quiet tenants' p99 is %v beside a flood and %v alone, want at most %d times", waiting, alone, most)
	}
	if full && busy > most*alone && busy > past*3/2 {
		t.Errorf("the quiet tenants' p99 is %v beside a busy flood and %v beside one past the pool", busy, past)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
