package isolation_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// tenants provisions n more tenants on SQLite.
func tenants(t *testing.T, c *cell, n int) []context.Context {
	t.Helper()
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	all := make([]context.Context, n)
	for i := range all {
		all[i] = provision(t, p, tenant(fmt.Sprintf("tenant-%d", i))) //nolint:fatcontext // one context each
	}
	return all
}

func TestL05FullPoolDoesNotDeadlock(t *testing.T) {
	t.Parallel()
	c := openSQLite(t, func(config *isolation.Config) {
		config.Pool = isolation.PoolConfig{MaxConns: 4, MaxPools: 2, MaxPerTenant: 2, MaxWait: 20 * time.Second}
	})
	all := tenants(t, c, 3)
	t.Run("at capacity + 1 the caller waits as long as its context", func(t *testing.T) {
		var open []*sql.Tx
		for _, ctx := range all[:2] {
			tx, err := c.db.BeginTx(ctx, nil)
			must(t, err)
			open = append(open, tx)
		}
		ctx, cancel := context.WithTimeout(all[2], 50*time.Millisecond)
		defer cancel()
		_, err := bodies(ctx, c.db)
		mustBe(t, err, isolation.ErrPoolExhausted)
		mustBe(t, err, context.DeadlineExceeded)
		for i, tx := range open { // a pool in use was not closed
			_, err := tx.ExecContext(all[i], "INSERT INTO notes (body) VALUES ('kept')")
			must(t, err)
		}
		done := make(chan error, 1)
		go func() { _, err := bodies(all[2], c.db); done <- err }()
		eventually(t, "a waiter", func() bool { return c.db.PoolStats().Waiting == 1 })
		for i, tx := range open {
			must(t, tx.Commit())
			sees(t, all[i], c.db, "kept")
		}
		must(t, <-done)
	})
	t.Run("more tenants than pools", func(t *testing.T) {
		all := append(all, c.acme, c.globex)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for j := range 20 {
					if _, err := bodies(all[(i+j)%len(all)], c.db); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if s := c.db.PoolStats(); s.Places > 2 || s.Open > 4 || s.Open != s.Idle {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestL06EveryIDGetsAPlace(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		for _, id := range []string{
			"0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d", "UPPER", "a.b.c", "a~b_c", "con", "9", "x..", "a" + string(make128()),
		} {
			ctx := provision(t, p, tenant(id))
			c.add(t, ctx, "of "+id)
			sees(t, ctx, c.db, "of "+id)
		}
		sees(t, c.acme, c.db, "of acme")
	})
}

func make128() []byte {
	b := make([]byte, 127)
	for i := range b {
		b[i] = 'z'
	}
	return b
}

func TestL07HostileNames(t *testing.T) {
	t.Parallel()
	t.Run("a placement outside of the folder", func(t *testing.T) {
		t.Parallel()
		c := openSQLite(t)
		p, err := isolation.NewProvisioner(c.config, nil)
		must(t, err)
		dir := c.config.Servers["files"].(isolation.SQLite).Dir
		precious := filepath.Join(filepath.Dir(dir), "precious.db")
		acme, err := sql.Open("sqlite", filepath.Join(dir, placementOf(t, c.acme).Database))
		must(t, err)
		defer acme.Close()
		_, err = acme.Exec("VACUUM INTO ?", precious) // a file that could be read
		must(t, err)
		for _, name := range []string{"../precious.db", precious, "..", ".db", "a/b.db", "a\x00.db", "a.db?mode=rwc", "A.DB", ""} {
			tn := tenant("evil")
			tn.Placement = tenancy.Placement{Strategy: tenancy.StrategyDatabase, Server: "files", Database: name}
			if err := p.Deprovision(t.Context(), tn); err == nil {
				t.Errorf("deprovisioned %q", name)
			}
			if _, err := p.Provision(t.Context(), tn); err == nil {
				t.Errorf("provisioned %q", name)
			}
			if _, err := bodies(tenancy.UnsafeBind(t.Context(), tn, "test"), c.db); err == nil {
				t.Errorf("opened %q", name)
			}
		}
		if _, err := os.Stat(precious); err != nil {
			t.Error(err)
		}
	})
	each(t, isRows, func(t *testing.T, a access) {
		c := a.open(t)
		const evil = `x'; DELETE FROM notes; -- \' || "`
		p, err := isolation.NewProvisioner(c.config, nil)
		must(t, err)
		tn := tenant(evil)
		tn.Placement = tenancy.Placement{Strategy: tenancy.StrategyRowLevel, Server: "main"}
		if err := p.Deprovision(t.Context(), tn); err == nil {
			t.Error("an id that cannot be was accepted")
		}
		ctx := tenancy.UnsafeBind(t.Context(), tn, "test") // what it is bound to is quoted all the same
		c.add(t, ctx, "evil")
		must(t, c.db.InTx(ctx, nil, func(tx *sql.Tx) error {
			sees(t, ctx, tx, "evil")
			return nil
		}))
		sees(t, c.acme, c.db, "of acme")
		sees(t, c.globex, c.db, "of globex")
	})
}

func TestDeprovisionRemovesOneTenant(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		scope, err := tenancy.ScopeOf(c.acme)
		must(t, err)
		for range 2 { // it is idempotent
			must(t, p.Deprovision(t.Context(), *scope.Tenant))
		}
		sees(t, c.globex, c.db, "of globex")
		must(t, c.db.Close())
		c.db, err = isolation.Open(c.config)
		must(t, err)
		defer c.db.Close()
		all, err := bodies(c.acme, c.db)
		if a.rows && (err != nil || len(all) != 0) {
			t.Errorf("after deprovisioning: %q, %v", all, err)
		}
		if !a.rows {
			mustBe(t, err, isolation.ErrMissing)
		}
		if a.engine == isolation.EngineSQLite {
			files, _ := os.ReadDir(c.config.Servers["files"].(isolation.SQLite).Dir)
			for _, f := range files {
				if f.Name()[:4] == "acme" {
					t.Errorf("%s is left", f.Name())
				}
			}
		}
	})
}
