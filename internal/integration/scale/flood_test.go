package scale_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// floodCells are where a flood is measured. Each returns a handle's config, and a pool of the driver's
// own to the same engine.
var floodCells = []struct {
	name string
	open func(t *testing.T, pool isolation.PoolConfig) (config isolation.Config, plain *sql.DB)
}{
	{"database on PostgreSQL", func(t *testing.T, pool isolation.PoolConfig) (isolation.Config, *sql.DB) {
		config, db := postgres(t, tenancy.StrategyDatabase, pool)
		return config, openPlain(t, "pgx", db.url)
	}},
	{"row_level on PostgreSQL", func(t *testing.T, pool isolation.PoolConfig) (isolation.Config, *sql.DB) {
		config, db := postgres(t, tenancy.StrategyRowLevel, pool)
		return config, openPlain(t, "pgx", db.url)
	}},
	{"database on MariaDB", mariaDB},
	{"database on SQLite", func(t *testing.T, pool isolation.PoolConfig) (isolation.Config, *sql.DB) {
		dir := t.TempDir()
		return isolation.Config{
			Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: filepath.Join(dir, "tenants"), Driver: "sqlite"}},
			Strategy: tenancy.StrategyDatabase, Pool: pool,
		}, openPlain(t, "sqlite", filepath.Join(dir, "plain.db"))
	}},
}

func openPlain(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// mariaDB returns a server on which each tenant gets a database of its own.
func mariaDB(t *testing.T, pool isolation.PoolConfig) (isolation.Config, *sql.DB) {
	t.Helper()
	server := servers.MariaDB(t)
	migrator, migratorPassword := server.CreateUser(t, "CREATE USER ON *.*", "ALL PRIVILEGES ON `t\\_%`.*", "GRANT OPTION ON `t\\_%`.*")
	open := func(l isolation.Login) (driver.Connector, error) {
		config := mysql.NewConfig()
		config.Net, config.Addr, config.Logger = "tcp", server.Addr(), &mysql.NopLogger{}
		config.User, config.Passwd, config.DBName = l.User, l.Password, l.Database
		if l.User == "" {
			config.User, config.Passwd = migrator, migratorPassword
		}
		return mysql.NewConnector(config)
	}
	user, password := server.CreateUser(t)
	app, err := open(isolation.Login{User: user, Password: password})
	must(t, err)
	return isolation.Config{
		Servers:  map[string]isolation.Server{"main": isolation.MariaDB{App: app, Open: open, Key: make([]byte, 32)}},
		Strategy: tenancy.StrategyDatabase, Pool: pool,
	}, openPlain(t, "mysql", server.DSN(""))
}

// TestAFloodDelaysOthersByItsShare measures four quiet tenants alone, and beside one that floods. In an
// ordinary run it looks for deadlocks only. At full size the quiet tenants' 99th percentile may be three
// times that of alone, where the flood takes what the pool divides, which is connections: its clients
// keep one for five milliseconds each and compute nothing. A flood that takes the machine's processors
// may cost them no more than the same statements through as many connections of the driver's own pool.
func TestAFloodDelaysOthersByItsShare(t *testing.T) {
	for _, c := range floodCells {
		t.Run(c.name, func(t *testing.T) {
			config, plain := c.open(t, isolation.PoolConfig{MaxConns: 8, MaxPerTenant: floodShare})
			plain.SetMaxOpenConns(floodShare)
			plain.SetMaxIdleConns(floodShare)
			f := open(t, config, quiet+1, 2)
			f.quietP99(t) // connections are opened
			alone := f.quietP99(t)
			waiting := f.beside(t, alone, "a flood that waits", func(ctx context.Context) (answer string, err error) {
				err = f.db.InTx(ctx, nil, func(tx *sql.Tx) error {
					err := tx.QueryRowContext(ctx, "SELECT tenant FROM notes WHERE id = 1").Scan(&answer)
					time.Sleep(5 * time.Millisecond)
					return err
				})
				return answer, err
			})
			one := func(db *sql.DB, query string) func(context.Context) (string, error) {
				return func(ctx context.Context) (answer string, err error) {
					err = db.QueryRowContext(ctx, query).Scan(&answer)
					return answer, err
				}
			}
			busy := f.beside(t, alone, "a busy flood", one(f.db.DB, "SELECT tenant FROM notes WHERE id = 1"))
			past := f.beside(t, alone, "a busy flood past the pool", one(plain, "SELECT '"+f.names[quiet]+"'"))
			again := f.quietP99(t)
			t.Logf("p99 alone %v before the floods and %v after them", alone, again)
			alone = max(alone, again) // other programs share the machine
			const most = 3
			if full && waiting > most*alone {
				t.Errorf("the quiet tenants' p99 is %v beside a flood and %v alone, want at most %d times", waiting, alone, most)
			}
			if full && busy > most*alone && busy > past*3/2 {
				t.Errorf("the quiet tenants' p99 is %v beside a busy flood and %v beside one past the pool", busy, past)
			}
		})
	}
}

const (
	quiet      = 4 // tenants; the next one floods
	floodShare = 2 // connections of one tenant
)

// quietP99 has the quiet tenants work and returns how long the slowest hundredth of their statements
// took.
func (f *fleet) quietP99(t *testing.T) time.Duration {
	t.Helper()
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
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// beside is quietP99 while 64 clients of one tenant ask for what that tenant's row says.
func (f *fleet) beside(t *testing.T, alone time.Duration, name string, ask func(context.Context) (string, error)) time.Duration {
	t.Helper()
	ctx, stop := context.WithCancel(f.tenants[quiet])
	var statements atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				answer, err := ask(ctx)
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
	p99 := f.quietP99(t)
	stop()
	wg.Wait()
	if statements.Load() == 0 {
		t.Errorf("%s did nothing", name)
	}
	t.Logf("p99 alone %v, beside %s of %d statements %v: %.1f times", alone, name, statements.Load(), p99, float64(p99)/float64(alone))
	return p99
}
