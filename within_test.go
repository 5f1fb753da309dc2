package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"lexigram.dev/tenancy"
)

func TestWithinBindsForTheTimeOfItsFunction(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	var kept context.Context
	boom := errors.New("boom")
	err := tn.Within(t.Context(), tenancy.Alias("stripe", "cus_1"), "stripe evt_1", func(ctx context.Context) error {
		kept = ctx //nolint:fatcontext // that it is kept is what is tested
		b, err := tenancy.Require(ctx)
		if err != nil || b.Tenant.Slug != "acme" || b.Reason != "stripe evt_1" || b.Resolver != "within" {
			t.Errorf("%+v, %v", b, err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("the function's error became %v", err)
	}
	if _, err := tenancy.ScopeOf(kept); !errors.Is(err, tenancy.ErrScopeEnded) {
		t.Errorf("the context outlives its function: %v", err)
	}
	if !errors.Is(context.Cause(kept), tenancy.ErrScopeEnded) {
		t.Errorf("its cause is %v", context.Cause(kept))
	}
	if _, ok := tenancy.FromContext(kept); ok {
		t.Error("FromContext still answers")
	}
}

func TestWithinEndsAlsoWhenItsFunctionPanics(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	var kept context.Context
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(ctx context.Context) error {
			kept = ctx //nolint:fatcontext // that it is kept is what is tested
			panic("boom")
		})
	}()
	if _, err := tenancy.ScopeOf(kept); !errors.Is(err, tenancy.ErrScopeEnded) {
		t.Error(err)
	}
}

func TestWithinRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	for _, tc := range []struct {
		ref    tenancy.Ref
		reason string
		want   error
	}{
		{tenancy.BySlug("acme"), "", tenancy.ErrReasonRequired},
		{tenancy.BySlug("nobody"), "test", tenancy.ErrNotFound},
		{tenancy.BySlug("not a slug"), "test", tenancy.ErrNotFound},
		{tenancy.Ref{}, "test", tenancy.ErrNotFound},
		{tenancy.BySlug("initech"), "test", tenancy.ErrSuspended},
	} {
		err := tn.Within(t.Context(), tc.ref, tc.reason, func(context.Context) error { t.Error("it ran"); return nil })
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.ref, err, tc.want)
		}
	}
}

func TestEachVisitsEveryActiveTenantAndIsolatesFailures(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	for i := range 250 {
		created := must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: fmt.Sprintf("s%d", i)}))
		if i%10 == 0 {
			must[tenancy.Tenant](t)(tn.Lifecycle().Suspend(t.Context(), created.ID, "unpaid"))
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	running, most := 0, 0
	err := tn.Each(t.Context(), tenancy.EachOptions{Reason: "nightly", Parallel: 4, List: tenancy.ListOptions{Limit: 20}}, func(ctx context.Context) error {
		b, err := tenancy.Require(ctx)
		if err != nil {
			return err
		}
		mu.Lock()
		seen[b.Tenant.Slug]++
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		switch b.Tenant.Slug {
		case "s1":
			return errors.New("boom")
		case "s2":
			panic("bang")
		}
		return nil
	})
	if len(seen) != 225 || most > 4 {
		t.Errorf("%d tenants, %d at once", len(seen), most)
	}
	var failure *tenancy.TenantError
	if !errors.As(err, &failure) {
		t.Fatal(err)
	}
	joined, _ := err.(interface{ Unwrap() []error })
	if len(joined.Unwrap()) != 2 {
		t.Errorf("%v", err)
	}
	if err := tn.Each(t.Context(), tenancy.EachOptions{}, nil); !errors.Is(err, tenancy.ErrReasonRequired) {
		t.Errorf("without a reason: %v", err)
	}
}

func TestEachStopsWithItsContext(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	for i := range 20 {
		must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: fmt.Sprintf("s%d", i)}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := tn.Each(ctx, tenancy.EachOptions{Reason: "test"}, func(context.Context) error {
		calls++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls > 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
