package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// TestB09OtherNodesFollowWithinASecond runs two nodes on one catalogue.
func TestB09OtherNodesFollowWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		node := func() *tenancy.Tenancy {
			tn, err := tenancy.New(tenancy.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return tn
		}
		a, b := node(), node()
		acme := must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		enter := func(tn *tenancy.Tenancy) error {
			return tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(context.Context) error { return nil })
		}
		time.Sleep(1100 * time.Millisecond)
		if err := enter(b); err != nil {
			t.Fatal(err)
		}
		limit, err := maxUsers.Of(t.Context(), b.Overrides(), acme.ID)
		if err != nil || limit != 50 {
			t.Fatal(limit, err)
		}
		must[tenancy.Tenant](t)(a.Lifecycle().Suspend(t.Context(), acme.ID, "unpaid"))
		if err := maxUsers.Set(t.Context(), a.Overrides(), acme.ID, 80); err != nil {
			t.Fatal(err)
		}
		if err := store.SetMember(t.Context(), "alice", acme.ID, tenancy.Member{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		if err := enter(b); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("the other node: %v", err)
		}
		if limit, err := maxUsers.Of(t.Context(), b.Overrides(), acme.ID); err != nil || limit != 80 {
			t.Errorf("the other node's override: %d, %v", limit, err)
		}
		for _, tn := range []*tenancy.Tenancy{a, b} {
			if err := tn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}) // synctest fails when a goroutine is left behind
}

func TestEventsLeftBehindAreDeliveredAfterAStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		quiet := slog.New(slog.DiscardHandler)
		crashed, err := tenancy.New(tenancy.Config{Store: store, Logger: quiet}) // nobody listens in this process
		if err != nil {
			t.Fatal(err)
		}
		must[tenancy.Tenant](t)(crashed.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		got := 0
		next, err := tenancy.New(tenancy.Config{Store: store, Logger: quiet, Subscribers: []tenancy.Subscriber{
			func(context.Context, tenancy.Event) error { got++; return nil },
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := next.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got != 1 {
			t.Errorf("%d events", got)
		}
	})
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	tn, err := tenancy.New(tenancy.Config{Store: memstore.New(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := tn.Stop(t.Context()); err != nil {
		t.Errorf("Stop without Start: %v", err)
	}
	if err := tn.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tn.Start(t.Context()); err == nil {
		t.Error("a second Start was accepted")
	}
	for range 2 {
		if err := tn.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := tn.Start(t.Context()); err != nil {
		t.Errorf("a restart: %v", err)
	}
	if err := tn.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfigReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := tenancy.New(tenancy.Config{
		Resolution: tenancy.ResolutionConfig{
			Resolvers: []string{"nope"}, OnConflict: "sometimes", CacheSize: -1,
			TrustedProxies: []string{"10.0.0.0/8", "nowhere"}, IssuerTenants: map[string]string{"https://idp": "a b"},
		},
		Lifecycle: tenancy.LifecycleConfig{ReservedSlugs: []string{"a b"}},
		Overrides: tenancy.OverridesConfig{Defaults: map[string]any{"a b": 1}},
	})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 8 {
		t.Errorf("%v", err)
	}
}
