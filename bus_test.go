package tenancy_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// brittleBus is a bus whose connections can be cut.
type brittleBus struct {
	memstore.Bus
	mu   sync.Mutex
	down error
	open []tenancy.Subscription
}

func (b *brittleBus) Publish(ctx context.Context, c tenancy.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return b.down
	}
	return b.Bus.Publish(ctx, c)
}

func (b *brittleBus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	s, err := b.Bus.Subscribe(ctx)
	b.open = append(b.open, s)
	return s, err
}

func (b *brittleBus) cut(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
	for _, s := range b.open {
		_ = s.Close()
	}
	b.open = nil
}

// onTwoNodes runs two nodes that know of each other's changes by the bus alone, and acme on them.
func onTwoNodes(t *testing.T, test func(t *testing.T, a, b *tenancy.Tenancy, bus *brittleBus, store *memstore.Store)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, bus := memstore.New(), &brittleBus{}
		node := func() *tenancy.Tenancy {
			tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{
				Store: store, Bus: bus, Logger: slog.New(slog.DiscardHandler),
				Resolution: tenancy.ResolutionConfig{PollInterval: -1},
			}))
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return tn
		}
		a, b := node(), node()
		synctest.Wait()
		must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "t1", Slug: "acme"}))
		if err := store.SetMember(t.Context(), "alice", "t1", tenancy.Member{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		test(t, a, b, bus, store)
		for _, tn := range []*tenancy.Tenancy{a, b} {
			if err := tn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBusTellsOtherNodesAtOnce(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, a, b *tenancy.Tenancy, _ *brittleBus, store *memstore.Store) {
		alice, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(alice, t, "a request")
		if limit, err := maxUsers.Of(t.Context(), b.Overrides(), "t1"); err != nil || limit != 50 {
			t.Fatal(limit, err)
		}
		if err := maxUsers.Set(t.Context(), a.Overrides(), "t1", 80); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if limit, err := maxUsers.Of(t.Context(), b.Overrides(), "t1"); err != nil || limit != 80 {
			t.Errorf("the other node's override: %d, %v", limit, err)
		}
		if err := store.RemoveMember(t.Context(), "alice", "t1"); err != nil {
			t.Fatal(err)
		}
		goesOn(alice, t, "a request of which nobody has said anything")
		if err := a.Changed(t.Context(), "t1"); err != nil {
			t.Fatal(err)
		}
		ended(alice, t, "the former member's request", tenancy.ErrNotMember)
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil { // and it is cached
			t.Fatal(err)
		}
		must[tenancy.Tenant](t)(a.Lifecycle().Suspend(t.Context(), "t1", "unpaid"))
		synctest.Wait()
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("the other node: %v", err)
		}
	})
}

func TestBrokenBusDropsWhatMayHaveChanged(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, a, b *tenancy.Tenancy, bus *brittleBus, _ *memstore.Store) {
		alice, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(alice, t, "a request")
		down := errors.New("the bus is down")
		bus.cut(down)
		time.Sleep(time.Minute)
		if err := a.Changed(t.Context(), "t1"); !errors.Is(err, down) {
			t.Errorf("Changed: %v", err)
		}
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil { // and it is cached
			t.Fatal(err)
		}
		goesOn(alice, t, "a request while the bus is down")
		must[tenancy.Tenant](t)(a.Lifecycle().Suspend(t.Context(), "t1", "unpaid")) // the bus is no reason to fail
		bus.cut(nil)
		time.Sleep(1100 * time.Millisecond)
		ended(alice, t, "a request after the bus has come back", tenancy.ErrSuspended)
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("the other node: %v", err)
		}
	})
}

// TestLostSubscriptionDropsAtOnce loses the subscription and the news in it; a new one stands at once.
func TestLostSubscriptionDropsAtOnce(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, a, b *tenancy.Tenancy, bus *brittleBus, store *memstore.Store) {
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Fatal(err)
		}
		acme := must[tenancy.Tenant](t)(store.Lookup(t.Context(), tenancy.ByID("t1")))
		acme.Status = tenancy.StatusSuspended
		must[tenancy.Tenant](t)(store.Update(t.Context(), acme)) // nobody says so
		bus.cut(nil)
		synctest.Wait()
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("the other node: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := a.Lifecycle().Activate(t.Context(), "t1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := b.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Errorf("the new subscription is deaf: %v", err)
		}
	})
}

// TestLostSubscriptionDropsSettingsAndMembers: what else was cached is asked for again, and who watches
// hears.
func TestLostSubscriptionDropsSettingsAndMembers(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, _, b *tenancy.Tenancy, bus *brittleBus, store *memstore.Store) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var heard []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n, err := range seats.Watch(ctx, b.Overrides(), "t1") {
				if err == nil {
					heard = append(heard, n)
				}
			}
		}()
		synctest.Wait()
		if n := must[int](t)(seats.Of(t.Context(), b.Overrides(), "t1")); n != 5 {
			t.Fatal(n)
		}
		if _, err := b.Validator().Authorize(t.Context(), "alice", "t1"); err != nil {
			t.Fatal(err)
		}
		// Nobody says so.
		err := store.SaveConfig(t.Context(), "t1", func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"seats": json.RawMessage("9")}}, nil
		})
		if err := errors.Join(err, store.RemoveMember(t.Context(), "alice", "t1")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := must[int](t)(seats.Of(t.Context(), b.Overrides(), "t1")); n != 5 {
			t.Fatalf("the setting was not cached: %d", n)
		}
		bus.cut(nil)
		synctest.Wait()
		if n := must[int](t)(seats.Of(t.Context(), b.Overrides(), "t1")); n != 9 {
			t.Errorf("the setting is %d", n)
		}
		if _, err := b.Validator().Authorize(t.Context(), "alice", "t1"); !errors.Is(err, tenancy.ErrNotMember) {
			t.Errorf("the former member: %v", err)
		}
		stop()
		<-done
		if !slices.Equal(heard, []int{5, 9}) {
			t.Errorf("who watches heard %v", heard)
		}
	})
}

// TestB14OldAndNewNamesOnAnotherNode: after a rename the old name is nobody's there and the new one, which
// was nobody's, is the tenant's.
func TestB14OldAndNewNamesOnAnotherNode(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, a, b *tenancy.Tenancy, _ *brittleBus, _ *memstore.Store) {
		find := func(ref tenancy.Ref) error {
			_, err := b.Validator().Validate(t.Context(), ref)
			return err
		}
		oldSlug, newSlug := tenancy.BySlug("acme"), tenancy.BySlug("apex")
		oldAlias, newAlias := tenancy.Alias("stripe", "cus_1"), tenancy.Alias("stripe", "cus_2")
		must[tenancy.Tenant](t)(a.Lifecycle().Update(t.Context(), tenancy.UpdateTenant{ID: "t1", Aliases: &[]tenancy.Ref{oldAlias}}))
		synctest.Wait()
		for ref, want := range map[tenancy.Ref]error{oldSlug: nil, oldAlias: nil, newSlug: tenancy.ErrNotFound, newAlias: tenancy.ErrNotFound} {
			if err := find(ref); !errors.Is(err, want) {
				t.Errorf("before, %s: %v", ref, err)
			}
		}
		slug := "apex"
		must[tenancy.Tenant](t)(a.Lifecycle().Update(t.Context(), tenancy.UpdateTenant{ID: "t1", Slug: &slug, Aliases: &[]tenancy.Ref{newAlias}}))
		synctest.Wait()
		for ref, want := range map[tenancy.Ref]error{oldSlug: tenancy.ErrNotFound, oldAlias: tenancy.ErrNotFound, newSlug: nil, newAlias: nil} {
			if err := find(ref); !errors.Is(err, want) {
				t.Errorf("after, %s: %v", ref, err)
			}
		}
	})
}

func TestNewsOfEverybody(t *testing.T) {
	onTwoNodes(t, func(t *testing.T, _, b *tenancy.Tenancy, bus *brittleBus, store *memstore.Store) {
		alice, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(alice, t, "a request")
		if err := store.RemoveMember(t.Context(), "alice", "t1"); err != nil {
			t.Fatal(err)
		}
		if err := bus.Publish(t.Context(), tenancy.Change{}); err != nil {
			t.Fatal(err)
		}
		ended(alice, t, "the former member's request", tenancy.ErrNotMember)
	})
}
