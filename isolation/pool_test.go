package isolation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy/isolation"
)

func TestPoolWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{MaxConns: 2, MaxPerTenant: 2})
	acme, globex := bind(t.Context(), "acme"), bind(t.Context(), "globex")
	first, err := db.QueryContext(acme, "SELECT")
	must(t, err)
	second, err := db.QueryContext(acme, "SELECT")
	must(t, err)
	t.Run("the caller's context ends the wait", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(globex, 10*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(ctx, "INSERT")
		mustBe(t, err, isolation.ErrPoolExhausted)
		mustBe(t, err, context.DeadlineExceeded)
	})
	t.Run("a free connection ends the wait, one tenant after the other", func(t *testing.T) {
		server.took()
		var wg sync.WaitGroup
		start := func(ctx context.Context) {
			waiting := db.PoolStats().Waiting
			wg.Go(func() {
				if _, err := db.ExecContext(ctx, "INSERT"); err != nil {
					t.Error(err)
				}
			})
			eventually(t, "a waiter", func() bool { return db.PoolStats().Waiting == waiting+1 })
		}
		for range 3 {
			start(acme)
		}
		start(globex)
		must(t, first.Close())
		wg.Wait()
		must(t, second.Close())
		if order := server.took(); !slices.Contains(order[:2], "INSERT [globex]") {
			t.Errorf("a flood was served before the tenant that waited behind it: %q", order)
		}
	})
	if s := db.PoolStats(); s.Open != s.Idle || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPoolKeepsConnectionsWhereTheyAre(t *testing.T) {
	t.Parallel()
	db, _ := openOwnPools(t, isolation.PoolConfig{MaxConns: 4})
	const workers, statements = 4, 60
	var wg sync.WaitGroup
	for _, id := range []string{"acme", "globex", "initech"} {
		for range workers {
			wg.Go(func() {
				for range statements {
					rows, err := db.QueryContext(bind(t.Context(), id), "SELECT")
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond) // others come to wait
					if err := rows.Close(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if s := db.PoolStats(); s.Opened > 3*workers*statements/4 {
		t.Errorf("%d connections were opened for %d statements", s.Opened, 3*workers*statements)
	}
}

func TestPoolOthersGetTheirTurn(t *testing.T) {
	t.Parallel()
	db, server := openOwnPools(t, isolation.PoolConfig{MaxConns: 1})
	acme, globex := bind(t.Context(), "acme"), bind(t.Context(), "globex")
	held, err := db.QueryContext(acme, "SELECT")
	must(t, err)
	server.took()
	var wg sync.WaitGroup
	start := func(ctx context.Context) {
		waiting := db.PoolStats().Waiting
		wg.Go(func() {
			if _, err := db.ExecContext(ctx, "INSERT"); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "a waiter", func() bool { return db.PoolStats().Waiting == waiting+1 })
	}
	start(globex)
	for range 60 {
		start(acme)
	}
	must(t, held.Close())
	wg.Wait()
	order := server.took()
	if i := slices.Index(order, "INSERT [globex]"); i < 0 || i > 20 {
		t.Errorf("who waited behind a flood of 60 was served as number %d", i)
	}
	if s := db.PoolStats(); s.Open != s.Idle || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPoolMaxWait(t *testing.T) {
	t.Parallel()
	db, _ := open(t, isolation.PoolConfig{MaxConns: 1, MaxWait: 10 * time.Millisecond})
	acme := bind(t.Context(), "acme")
	rows, err := db.QueryContext(acme, "SELECT")
	must(t, err)
	_, err = db.ExecContext(acme, "INSERT") // it would wait for itself
	mustBe(t, err, isolation.ErrPoolExhausted)
	must(t, rows.Close())
	_, err = db.ExecContext(acme, "INSERT")
	must(t, err)
}

func TestPoolDialFailsAndIsCancelled(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{MaxConns: 1})
	acme := bind(t.Context(), "acme")
	sentinel := errors.New("no server")
	server.failOnce("connect", sentinel)
	_, err := db.ExecContext(acme, "INSERT")
	mustBe(t, err, sentinel)

	server.dials = make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(acme, 10*time.Millisecond)
	defer cancel()
	_, err = db.ExecContext(ctx, "INSERT")
	mustBe(t, err, context.DeadlineExceeded)
	server.dials <- struct{}{}
	_, err = db.ExecContext(acme, "INSERT") // what the failures had reserved is free again
	must(t, err)
}

// expired is a context past its deadline that has not heard of it yet.
type expired struct{ context.Context }

func (expired) Deadline() (time.Time, bool) { return time.Now().Add(-time.Microsecond), true }

func TestPoolDialEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{MaxConns: 1})
	acme := bind(t.Context(), "acme")
	server.failOnce("connect", os.ErrDeadlineExceeded)
	_, err := db.ExecContext(acme, "INSERT")
	mustBe(t, err, os.ErrDeadlineExceeded)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a timeout of the network alone is %v", err)
	}
	server.failOnce("connect", os.ErrDeadlineExceeded)
	_, err = db.ExecContext(expired{acme}, "INSERT")
	mustBe(t, err, context.DeadlineExceeded)
	mustBe(t, err, os.ErrDeadlineExceeded)
}

func TestPoolClosesWhatIsUnused(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{MaxIdleTime: 5 * time.Millisecond})
	_, err := db.ExecContext(bind(t.Context(), "acme"), "INSERT")
	must(t, err)
	eventually(t, "the connection closed", func() bool { return server.connections() == 0 })
	_, err = db.ExecContext(bind(t.Context(), "acme"), "INSERT")
	must(t, err)
}

func TestPoolCloseWhileInUse(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{MaxConns: 1})
	acme := bind(t.Context(), "acme")
	rows, err := db.QueryContext(acme, "SELECT")
	must(t, err)
	failed := make(chan error, 1)
	go func() { _, err := db.ExecContext(acme, "INSERT"); failed <- err }()
	eventually(t, "a waiter", func() bool { return db.PoolStats().Waiting == 1 })
	must(t, db.Close())
	if err := <-failed; err == nil {
		t.Error("a waiter of a closed pool was served")
	}
	must(t, rows.Close())
	if n := server.connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// TestPoolUnderLoad runs many tenants through few connections, with cancellations and failures,
// and looks for what is left behind.
func TestPoolUnderLoad(t *testing.T) {
	before := runtime.NumGoroutine()
	db, server := open(t, isolation.PoolConfig{MaxConns: 4, MaxPerTenant: 2})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				ctx, cancel := context.WithTimeout(bind(context.Background(), fmt.Sprint(r.IntN(7))), time.Duration(r.IntN(2000))*time.Microsecond)
				if rows, err := db.QueryContext(ctx, "SELECT"); err == nil {
					for rows.Next() {
					}
					_ = rows.Close()
				}
				if r.IntN(10) == 0 {
					_, _ = db.ExecContext(ctx, "SET x = 1")
				}
				cancel()
			}
		})
	}
	wg.Wait()
	eventually(t, "all connections came back", func() bool {
		s := db.PoolStats()
		return s.Open == s.Idle && s.Waiting == 0 && s.Open <= 4
	})
	if n := server.connections(); n > 4 {
		t.Errorf("%d connections are open", n)
	}
	must(t, db.Close())
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before+1 })
}
