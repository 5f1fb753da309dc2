package tenancy_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// onNodes runs two nodes over one store; with a bus or by polling.
func onNodes(t *testing.T, withBus bool, test func(t *testing.T, a, b *tenancy.Tenancy, store *failing)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memstore.New()}
		cfg := tenancy.Config{
			Store: store, Logger: slog.New(slog.DiscardHandler), Keys: []tenancy.AnyKey{seats, theme, apiToken},
			SealingKeys: []tenancy.SealingKey{sealingKey(t, "k1", 'a')},
			Overrides:   tenancy.OverridesConfig{CacheTTL: time.Hour, Plans: map[string]map[string]any{"gold": {"seats": 100}}},
		}
		if withBus {
			cfg.Bus, cfg.Resolution.PollInterval = &memstore.Bus{}, -1
		}
		a, b := must[*tenancy.Tenancy](t)(tenancy.New(cfg)), must[*tenancy.Tenancy](t)(tenancy.New(cfg))
		must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "t1", Slug: "acme"}))
		for _, tn := range []*tenancy.Tenancy{a, b} {
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		test(t, a, b, store)
		for _, tn := range []*tenancy.Tenancy{a, b} {
			if err := tn.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}) // synctest fails when a goroutine is left behind
}

// failing is a store whose overrides cannot be read while err is set. hold, if set, is waited for
// after they were read.
type failing struct {
	*memstore.Store
	err  error
	hold chan struct{}
}

func (s *failing) LoadConfig(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	if s.err != nil {
		return nil, s.err
	}
	values, err := s.Store.LoadConfig(ctx, tenantID)
	if s.hold != nil {
		<-s.hold
	}
	return values, err
}

func TestL10AnotherNodeReadsAChangeAtOnceOrWithinASecond(t *testing.T) {
	t.Parallel()
	for name, withBus := range map[string]bool{"by a bus": true, "by polling": false} {
		t.Run(name, func(t *testing.T) {
			onNodes(t, withBus, func(t *testing.T, a, b *tenancy.Tenancy, _ *failing) {
				read := func() int { return must[int](t)(seats.Of(t.Context(), b.Overrides(), "t1")) }
				if n := read(); n != 5 {
					t.Fatal(n)
				}
				for i := 6; i < 16; i++ {
					if err := seats.Set(t.Context(), a.Overrides(), "t1", i); err != nil {
						t.Fatal(err)
					}
					if !withBus {
						time.Sleep(time.Second)
					}
					synctest.Wait()
					if n := read(); n != i {
						t.Errorf("the other node reads %d; want %d", n, i)
					}
				}
			})
		})
	}
}

// While the catalogue cannot be read, settings that are known serve for the grace and no longer.
func TestSettingsServeThroughAnOutageForTheGrace(t *testing.T) {
	onNodes(t, false, func(t *testing.T, a, b *tenancy.Tenancy, store *failing) {
		if err := seats.Set(t.Context(), a.Overrides(), "t1", 7); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait() // the poll of this second has been answered: it would take away what the read below keeps
		read := func() (int, error) { return seats.Of(t.Context(), b.Overrides(), "t1") }
		if n, err := read(); n != 7 || err != nil {
			t.Fatal(n, err)
		}
		down := errors.New("connection refused")
		store.err = down
		time.Sleep(time.Hour + 30*time.Second) // the TTL, and half of the grace
		if n, err := read(); n != 7 || err != nil {
			t.Errorf("in the grace: %d, %v", n, err)
		}
		time.Sleep(time.Minute)
		if n, err := read(); !errors.Is(err, down) || !errors.Is(err, tenancy.ErrUnavailable) {
			t.Errorf("after the grace: %d, %v", n, err)
		}
		store.err = nil
		if n, err := read(); n != 7 || err != nil {
			t.Errorf("after the outage: %d, %v", n, err)
		}
	})
}

func TestALoadThatRacesAChangeDoesNotCacheTheOldValue(t *testing.T) {
	onNodes(t, true, func(t *testing.T, a, b *tenancy.Tenancy, store *failing) {
		store.hold = make(chan struct{})
		was := make(chan int)
		go func() {
			n, err := seats.Of(t.Context(), b.Overrides(), "t1")
			if err != nil {
				t.Error(err)
			}
			was <- n
		}()
		synctest.Wait() // the old value has been read and is held up
		if err := seats.Set(t.Context(), a.Overrides(), "t1", 6); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the other node has heard of it
		close(store.hold)
		<-was
		synctest.Wait()
		if n, err := seats.Of(t.Context(), b.Overrides(), "t1"); n != 6 || err != nil {
			t.Errorf("after the race: %d, %v", n, err)
		}
	})
}

func TestWatchHearsOfChangesOnEveryNode(t *testing.T) {
	t.Parallel()
	for name, withBus := range map[string]bool{"by a bus": true, "by polling": false} {
		t.Run(name, func(t *testing.T) {
			onNodes(t, withBus, func(t *testing.T, a, b *tenancy.Tenancy, _ *failing) {
				ctx, cancel := context.WithCancel(t.Context())
				var seen []int
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n, err := range seats.Watch(ctx, b.Overrides(), "t1") {
						if err != nil {
							t.Error(err)
						}
						seen = append(seen, n)
					}
				}()
				settle := func() {
					if !withBus {
						time.Sleep(1001 * time.Millisecond)
					}
					synctest.Wait()
				}
				settle()
				for _, n := range []int{6, 7, 8} { // coalesced by polling
					if err := seats.Set(ctx, a.Overrides(), "t1", n); err != nil {
						t.Fatal(err)
					}
					if withBus {
						synctest.Wait()
					}
				}
				settle()
				if err := a.Overrides().Set(ctx, "t1", "theme", "dark"); err != nil { // another key
					t.Fatal(err)
				}
				settle()
				if err := seats.Unset(ctx, a.Overrides(), "t1"); err != nil {
					t.Fatal(err)
				}
				settle()
				acme := must[tenancy.Tenant](t)(a.Lifecycle().Get(ctx, "t1"))
				acme.Metadata = map[string]string{"plan": "gold"} // the plan changes the value, too
				must[tenancy.Tenant](t)(a.Config().Store.Update(ctx, acme))
				if err := a.Changed(ctx, "t1"); err != nil {
					t.Fatal(err)
				}
				settle()
				want := []int{5, 6, 7, 8, 5, 100}
				if !withBus {
					want = []int{5, 8, 5, 100}
				}
				if !equal(seen, want) {
					t.Errorf("seen %v; want %v", seen, want)
				}
				cancel()
				<-done
			})
		})
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A change between the look and the wait for news is the one that a careless watch misses.
func TestWatchMissesNoChangeWhileItsLoopWorks(t *testing.T) {
	onNodes(t, true, func(t *testing.T, a, b *tenancy.Tenancy, _ *failing) {
		var seen []int
		began := time.Now()
		for n, err := range seats.Watch(t.Context(), b.Overrides(), "t1") {
			if err != nil {
				t.Fatal(err)
			}
			if seen = append(seen, n); n == 9 {
				break
			}
			if err := seats.Set(t.Context(), a.Overrides(), "t1", n+1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // news has come while the loop's body runs
		}
		if !equal(seen, []int{5, 6, 7, 8, 9}) {
			t.Errorf("seen %v", seen)
		}
		if took := time.Since(began); took > 0 { // of simulated time
			t.Errorf("it took %v", took)
		}
	})
}

func TestWatchGoesOnAfterAnError(t *testing.T) {
	onNodes(t, true, func(t *testing.T, a, b *tenancy.Tenancy, store *failing) {
		broken := errors.New("broken")
		var failures int
		var last int
		for n, err := range seats.Watch(t.Context(), b.Overrides(), "t1") {
			switch {
			case errors.Is(err, broken):
				if failures++; failures == 3 {
					store.err = nil
				}
				continue
			case err != nil:
				t.Fatal(err)
			}
			if last = n; n == 6 {
				break
			}
			if err := seats.Set(t.Context(), a.Overrides(), "t1", 6); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			store.err = broken
		}
		if failures != 3 || last != 6 {
			t.Errorf("%d failures, then %d", failures, last)
		}
	})
}

// Nobody tells of a change that was made past the library; the TTL bounds how long it stays unseen.
func TestWatchLooksAgainAfterTheTTL(t *testing.T) {
	onNodes(t, true, func(t *testing.T, _, b *tenancy.Tenancy, store *failing) {
		began := time.Now()
		for n, err := range seats.Watch(t.Context(), b.Overrides(), "t1") {
			if err != nil {
				t.Fatal(err)
			}
			if n == 6 {
				break
			}
			err = store.SaveConfig(t.Context(), "t1", func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"seats": json.RawMessage(`6`)}}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > time.Hour+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWatchOfASecret(t *testing.T) {
	onNodes(t, true, func(t *testing.T, a, b *tenancy.Tenancy, _ *failing) {
		var seen []string
		for s, err := range apiToken.Watch(t.Context(), b.Overrides(), "t1") {
			if err != nil {
				t.Fatal(err)
			}
			if seen = append(seen, s.Reveal()); s.Reveal() == shopToken {
				break
			}
			if err := apiToken.Set(t.Context(), a.Overrides(), "t1", shopToken); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != 2 || seen[0] != "" {
			t.Errorf("seen %d values", len(seen))
		}
	})
}
