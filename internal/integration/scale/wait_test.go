package scale_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// TestWaitersEndWithTheirContext has all connections leased, and far more callers wait for one than there
// are connections. None is given back before the last of them has ended, so that nothing but its own
// context can have ended a wait.
func TestWaitersEndWithTheirContext(t *testing.T) {
	const maxConns, late = 40, time.Second
	pool := isolation.PoolConfig{MaxConns: maxConns, MaxPools: maxConns, MaxPerTenant: 2, MaxWait: 20 * time.Second}
	for name, open := range map[string]func(t *testing.T) *fleet{
		"database on SQLite": func(t *testing.T) *fleet {
			return open(t, isolation.Config{
				Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: filepath.Join(t.TempDir(), "tenants"), Driver: "sqlite"}},
				Strategy: tenancy.StrategyDatabase, Pool: pool,
			}, 200, 4)
		},
		"row_level on PostgreSQL": func(t *testing.T) *fleet {
			config, _ := postgres(t, tenancy.StrategyRowLevel, pool)
			return open(t, config, 200, 4)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			release := f.leaseAll(t, maxConns)
			before := f.db.PoolStats()
			waiters := size(2_000, 10_000)
			lateness := make([]time.Duration, waiters)
			each(waiters, func(w int) {
				random := rand.New(rand.NewPCG(uint64(w), 11))
				i := random.IntN(len(f.tenants))
				patience := time.Duration(500+random.IntN(size(1_000, 3_000))) * time.Millisecond
				ctx, cancel := context.WithCancel(f.tenants[i])
				defer cancel()
				var ended time.Time
				want := context.Canceled
				if w%2 == 0 {
					want = context.DeadlineExceeded
					ctx, cancel = context.WithTimeout(ctx, patience)
					defer cancel()
					ended, _ = ctx.Deadline()
				} else {
					time.AfterFunc(patience, func() { ended = time.Now(); cancel() })
				}
				err := f.own(ctx, i)
				back := time.Now()
				if !errors.Is(err, want) {
					t.Errorf("waiter %d ends with %v, want %v", w, err, want)
					return
				}
				lateness[w] = back.Sub(ended)
			})
			after := f.db.PoolStats()
			if after.Waiting != 0 || after.Open != maxConns || after.Idle != 0 || after.Opened != before.Opened {
				t.Errorf("beside %d waiters the pool went from %+v to %+v, want no connection given or taken", waiters, before, after)
			}
			waited := after.Waits - before.Waits
			if waited < int64(waiters)*9/10 || after.Exhausted-before.Exhausted != waited {
				t.Errorf("%d of %d waited and %d of them in vain", waited, waiters, after.Exhausted-before.Exhausted)
			}
			slices.Sort(lateness)
			t.Logf("%d waiters end after their context by %v (half), %v (99 of 100), %v (all)",
				waiters, lateness[waiters/2], lateness[waiters*99/100], lateness[waiters-1])
			if lateness[waiters-1] > late {
				t.Errorf("a wait ends %v after its context, want at most %v", lateness[waiters-1], late)
			}
			release()
			for i := range f.tenants { // the pool has lost nothing
				if err := f.own(f.tenants[i], i); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// leaseAll takes every connection there may be. The function gives them back.
func (f *fleet) leaseAll(t *testing.T, n int) (release func()) {
	t.Helper()
	var leases []*isolation.Lease
	for i := range n {
		l, err := f.db.Lease(f.tenants[i], false)
		must(t, err)
		leases = append(leases, l)
	}
	release = sync.OnceFunc(func() {
		for _, l := range leases {
			l.Release()
		}
	})
	t.Cleanup(release)
	return release
}
