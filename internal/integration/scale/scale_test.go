package scale_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
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

const (
	table = `CREATE TABLE notes (id bigint PRIMARY KEY, tenant varchar(100) NOT NULL)`
	// sharedTable is that of all tenants together.
	sharedTable = `CREATE TABLE IF NOT EXISTS notes (tenant_id text NOT NULL, id bigint, tenant text NOT NULL, PRIMARY KEY (tenant_id, id))`
)

// marked makes a tenant's table with one row that tells whose it is. What all tenants share begins
// empty.
type marked struct{}

func (marked) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	if target.Tenant == "" {
		_, err := target.DB.ExecContext(ctx, sharedTable)
		return 1, err
	}
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
	if config.Strategy == tenancy.StrategyRowLevel {
		for i, ctx := range f.tenants {
			_, err := f.db.ExecContext(ctx, "INSERT INTO notes (id, tenant) VALUES (1, '"+f.names[i]+"')")
			must(t, err)
		}
	}
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
			case hurried && errors.Is(err, context.DeadlineExceeded):
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

// postgres returns a server for the strategies row_level and database, and the database that is there
// before any tenant's.
func postgres(t *testing.T, strategy string, pool isolation.PoolConfig) (config isolation.Config, db database) {
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
	if strategy == tenancy.StrategyRowLevel {
		server.RLS = &isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}}
	}
	server.App, err = tenantpgx.NewConnector(pg.URLFor(roles.App, "a", name))
	must(t, err)
	server.Migrator, err = tenantpgx.NewConnector(migrator)
	must(t, err)
	config = isolation.Config{
		Servers: map[string]isolation.Server{"main": server}, Strategy: strategy, Pool: pool,
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
	config, pg := postgres(t, tenancy.StrategyDatabase, isolation.PoolConfig{MaxConns: maxConns})
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
