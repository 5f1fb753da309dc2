package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

// busPatience is how long news may take.
const busPatience = 10 * time.Second

// RunBus tests a bus. The function returns the handles of two nodes on one bus that nobody else
// uses; it cleans up with t.Cleanup. The subtests run in parallel.
func RunBus(t *testing.T, open func(t *testing.T) (a, b tenancy.Bus)) {
	for _, e := range busExamples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			a, b := open(t)
			e.run(&busFixture{T: t, a: a, b: b})
		})
	}
}

var busExamples = []struct {
	name string
	run  func(f *busFixture)
}{
	{"every node hears, the publisher's too", func(f *busFixture) {
		subs := []tenancy.Subscription{f.subscribe(f.a), f.subscribe(f.b), f.subscribe(f.b)}
		want := []tenancy.Change{
			{TenantID: "acme", Revision: 3}, {TenantID: strings.Repeat("x", 128), Revision: 1 << 60}, {TenantID: "A.b~c_d-9"}, {},
		}
		for i, c := range want {
			f.publish([]tenancy.Bus{f.a, f.b}[i%2], c)
		}
		for _, s := range subs {
			f.hears(s, want...)
		}
	}},
	{"nothing is lost among many who publish at once", func(f *busFixture) {
		near, far := f.subscribe(f.a), f.subscribe(f.b)
		var want []tenancy.Change
		var group sync.WaitGroup
		for i := range 8 {
			for j := range 25 {
				want = append(want, tenancy.Change{TenantID: fmt.Sprintf("t-%d", i), Revision: int64(j + 1)})
			}
			group.Go(func() {
				for j := range 25 {
					if err := f.a.Publish(f.Context(), tenancy.Change{TenantID: fmt.Sprintf("t-%d", i), Revision: int64(j + 1)}); err != nil {
						f.Error(err)
					}
				}
			})
		}
		group.Wait()
		f.hears(near, want...)
		f.hears(far, want...)
	}},
	{"what comes and goes disturbs nobody", func(f *busFixture) {
		stays := f.subscribe(f.b)
		for i := range 5 {
			leaves := f.subscribe(f.b)
			f.publish(f.a, tenancy.Change{TenantID: "acme", Revision: int64(i)})
			if err := errors.Join(leaves.Close(), leaves.Close()); err != nil {
				f.Errorf("close: %v", err)
			}
			if _, err := f.next(leaves, f.Context()); err == nil {
				f.Error("a closed subscription hears")
			}
			f.hears(stays, tenancy.Change{TenantID: "acme", Revision: int64(i)})
		}
	}},
	{"an ended context ends what waits", func(f *busFixture) {
		ended, cancel := context.WithCancel(f.Context())
		cancel()
		if err := f.a.Publish(ended, tenancy.Change{TenantID: "acme"}); !errors.Is(err, context.Canceled) {
			f.Errorf("Publish: %v", err)
		}
		if _, err := f.a.Subscribe(ended); !errors.Is(err, context.Canceled) {
			f.Errorf("Subscribe: %v", err)
		}
		brief, cancel := context.WithTimeout(f.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := f.next(f.subscribe(f.b), brief); !errors.Is(err, context.DeadlineExceeded) {
			f.Errorf("Next: %v", err)
		}
		s := f.subscribe(f.b) // the bus is none the worse for it
		f.publish(f.a, tenancy.Change{TenantID: "acme"})
		f.hears(s, tenancy.Change{TenantID: "acme"})
	}},
}

type busFixture struct {
	*testing.T
	a, b tenancy.Bus
}

func (f *busFixture) subscribe(b tenancy.Bus) tenancy.Subscription {
	f.Helper()
	s, err := b.Subscribe(f.Context())
	if err != nil {
		f.Fatalf("subscribe: %v", err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Errorf("close: %v", err)
		}
	})
	return s
}

func (f *busFixture) publish(b tenancy.Bus, c tenancy.Change) {
	f.Helper()
	if err := b.Publish(f.Context(), c); err != nil {
		f.Fatalf("publish %+v: %v", c, err)
	}
}

// next is Next that fails the test when it does not return.
func (f *busFixture) next(s tenancy.Subscription, ctx context.Context) (tenancy.Change, error) { //nolint:revive // like s.Next(ctx)
	f.Helper()
	type answer struct {
		c   tenancy.Change
		err error
	}
	done := make(chan answer, 1)
	go func() {
		c, err := s.Next(ctx)
		done <- answer{c, err}
	}()
	select {
	case got := <-done:
		return got.c, got.err
	case <-time.After(busPatience):
		f.Fatal("Next does not return")
		return tenancy.Change{}, nil
	}
}

// hears waits until each of the changes was heard at least once, in any order.
func (f *busFixture) hears(s tenancy.Subscription, want ...tenancy.Change) {
	f.Helper()
	missing := map[tenancy.Change]bool{}
	for _, c := range want {
		missing[c] = true
	}
	ctx, cancel := context.WithTimeout(f.Context(), busPatience/2)
	defer cancel()
	for len(missing) > 0 {
		c, err := f.next(s, ctx)
		if err != nil {
			f.Fatalf("%d of %d changes were not heard: %v", len(missing), len(want), err)
		}
		delete(missing, c)
	}
}
