package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
)

// directory is a catalogue that counts and can be stopped, broken and changed.
type directory struct {
	mu      sync.Mutex
	tenants []tenancy.Tenant
	members map[string]tenancy.Member // "user/tenant id"
	err     error
	gate    chan struct{} // when not nil, a lookup takes the record, then waits for it
	lookups atomic.Int64
	asked   atomic.Int64 // memberships
}

func (d *directory) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	d.lookups.Add(1)
	d.mu.Lock()
	found, err, gate := tenancy.Tenant{}, d.err, d.gate
	if err == nil {
		err = tenancy.ErrNotFound
		for _, t := range d.tenants {
			if ref.Matches(t) {
				found, err = t, nil
			}
		}
	}
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return found, err
}

func (d *directory) Member(_ context.Context, userID, tenantID string) (tenancy.Member, error) {
	d.asked.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return tenancy.Member{}, d.err
	}
	m, ok := d.members[userID+"/"+tenantID]
	if !ok {
		return tenancy.Member{}, tenancy.ErrNotMember
	}
	return m, nil
}

func (d *directory) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func newDirectory() *directory {
	return &directory{
		tenants: []tenancy.Tenant{
			{ID: "t1", Slug: "acme", Status: tenancy.StatusActive, Aliases: []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}},
			{ID: "t2", Slug: "globex", Status: tenancy.StatusActive},
			{ID: "t3", Slug: "initech", Status: tenancy.StatusSuspended},
		},
		members: map[string]tenancy.Member{
			"alice/t1": {Roles: []string{"admin"}}, "bob/t2": {}, "carol/t1": {}, "carol/t2": {}, "dave/t3": {},
		},
	}
}

func newValidator(t testing.TB, d *directory, cfg tenancy.ResolutionConfig) *tenancy.Validator {
	t.Helper()
	v, err := tenancy.NewValidator(tenancy.ValidatorConfig{Directory: d, Membership: d, Resolution: cfg, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestB05EveryNameFindsItsTenant(t *testing.T) {
	t.Parallel()
	v := newValidator(t, newDirectory(), tenancy.ResolutionConfig{})
	for _, ref := range []tenancy.Ref{
		tenancy.ByID("t1"), tenancy.BySlug("acme"), tenancy.ByIDOrSlug("t1"), tenancy.ByIDOrSlug("ACME"), tenancy.Alias("stripe", "cus_1"),
	} {
		if got, err := v.Validate(t.Context(), ref); err != nil || got.ID != "t1" {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if got, err := v.Validate(t.Context(), tenancy.BySlug("initech")); !errors.Is(err, tenancy.ErrSuspended) || got.ID != "t3" {
		t.Errorf("a suspended tenant: %v, %v", got, err)
	}
}

func TestB08UnknownAndMalformedNamesCostNoLookups(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	v := newValidator(t, d, tenancy.ResolutionConfig{})
	for range 10 {
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("nobody")); !errors.Is(err, tenancy.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("not a slug")); !errors.Is(err, tenancy.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := v.Authorize(t.Context(), "mallory", "t1"); !errors.Is(err, tenancy.ErrNotMember) {
			t.Fatal(err)
		}
	}
	if d.lookups.Load() != 1 || d.asked.Load() != 1 {
		t.Errorf("%d lookups and %d memberships, want 1 each", d.lookups.Load(), d.asked.Load())
	}
}

func TestManyWhoAskAtOnceCauseOneLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		d.gate = make(chan struct{})
		v := newValidator(t, d, tenancy.ResolutionConfig{})
		impatient, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := v.Lookup(impatient, tenancy.BySlug("acme")); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			group.Go(func() {
				if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel() // the first one's end must not fail the others
		synctest.Wait()
		close(d.gate)
		group.Wait()
		if n := d.lookups.Load(); n != 1 {
			t.Errorf("%d lookups", n)
		}
	})
}

func TestB10InvalidationBeatsALoadUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		d.gate = make(chan struct{})
		v := newValidator(t, d, tenancy.ResolutionConfig{})
		var group sync.WaitGroup
		group.Go(func() {
			got, err := v.Validate(t.Context(), tenancy.BySlug("acme"))
			if !errors.Is(err, tenancy.ErrSuspended) {
				t.Errorf("who asked before the change got %v, %v", got.Status, err)
			}
		})
		synctest.Wait() // the old record is read and not yet cached
		gate := d.gate
		d.set(func() { d.tenants[0].Status, d.gate = tenancy.StatusSuspended, nil })
		v.Invalidate("t1")
		if _, err := v.Validate(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("who asked after the change joined the old load: %v", err)
		}
		close(gate)
		group.Wait()
		if _, err := v.Validate(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrSuspended) {
			t.Errorf("the old record was cached: %v", err)
		}
	})
}

func TestB10ChangeOfOneTenantLeavesAnothersLoadAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		d.gate = make(chan struct{})
		v := newValidator(t, d, tenancy.ResolutionConfig{})
		var group sync.WaitGroup
		group.Go(func() { _, _ = v.Lookup(t.Context(), tenancy.BySlug("acme")) })
		synctest.Wait()
		v.Invalidate("t2")
		close(d.gate)
		group.Wait()
		before := d.lookups.Load()
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil || d.lookups.Load() != before {
			t.Errorf("acme was loaded again: %v, %d lookups", err, d.lookups.Load())
		}
	})
}

func TestB14NewTenantIsNotHiddenByAnOldAnswer(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	v := newValidator(t, d, tenancy.ResolutionConfig{NegativeCacheTTL: time.Hour})
	if _, err := v.Lookup(t.Context(), tenancy.BySlug("hooli")); !errors.Is(err, tenancy.ErrNotFound) {
		t.Fatal(err)
	}
	d.set(func() {
		d.tenants = append(d.tenants, tenancy.Tenant{ID: "t4", Slug: "hooli", Status: tenancy.StatusActive})
	})
	v.Invalidate("t4")
	if _, err := v.Lookup(t.Context(), tenancy.BySlug("hooli")); err != nil {
		t.Errorf("the new tenant: %v", err)
	}
}

func TestB14OldNamesOfARenamedTenantEndAtOnce(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	v := newValidator(t, d, tenancy.ResolutionConfig{})
	old := []tenancy.Ref{tenancy.BySlug("acme"), tenancy.ByIDOrSlug("acme"), tenancy.ByIDOrSlug("ACME"), tenancy.Alias("stripe", "cus_1")}
	for _, ref := range old {
		if _, err := v.Lookup(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	d.set(func() { d.tenants[0].Slug, d.tenants[0].Aliases = "apex", nil })
	v.Invalidate("t1")
	for _, ref := range old {
		if got, err := v.Lookup(t.Context(), ref); !errors.Is(err, tenancy.ErrNotFound) {
			t.Errorf("%s still finds %v, %v", ref, got.Slug, err)
		}
	}
}

func TestAnswersEndWithTheirTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		v := newValidator(t, d, tenancy.ResolutionConfig{})
		start := time.Now()
		_, _ = v.Lookup(t.Context(), tenancy.BySlug("acme"))
		_, _ = v.Lookup(t.Context(), tenancy.BySlug("nobody"))
		_, _ = v.Authorize(t.Context(), "alice", "t1")
		for _, step := range []struct {
			at             time.Duration
			lookups, asked int64
		}{
			{4 * time.Second, 2, 1}, {6 * time.Second, 3, 1}, {31 * time.Second, 4, 2}, {299 * time.Second, 5, 3}, {301 * time.Second, 6, 3},
		} {
			time.Sleep(step.at - time.Since(start))
			_, _ = v.Lookup(t.Context(), tenancy.BySlug("acme"))
			if step.at != 301*time.Second {
				_, _ = v.Lookup(t.Context(), tenancy.BySlug("nobody"))
			}
			_, _ = v.Authorize(t.Context(), "alice", "t1")
			if d.lookups.Load() != step.lookups || d.asked.Load() != step.asked {
				t.Errorf("after %v: %d lookups, %d memberships; want %d, %d", step.at, d.lookups.Load(), d.asked.Load(), step.lookups, step.asked)
			}
		}
	})
}

func TestKnownTenantsSurviveAnOutageForTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		v := newValidator(t, d, tenancy.ResolutionConfig{ValidatorCacheTTL: 10 * time.Second, StaleIfError: time.Minute})
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.err = errors.New("connection refused") })
		time.Sleep(15 * time.Second)
		for range 50 {
			if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
				t.Fatalf("within the grace: %v", err)
			}
		}
		if n := d.lookups.Load(); n != 2 {
			t.Errorf("%d lookups: a failed refresh is repeated for every caller", n)
		}
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("globex")); !errors.Is(err, tenancy.ErrUnavailable) {
			t.Errorf("a tenant that was never seen: %v", err)
		}
		v.Invalidate("t1")
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrUnavailable) {
			t.Errorf("a stale answer that was called back serves: %v", err)
		}
		d.set(func() { d.err = nil })
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		d.set(func() { d.err = errors.New("connection refused") })
		time.Sleep(71 * time.Second)
		if _, err := v.Lookup(t.Context(), tenancy.BySlug("acme")); !errors.Is(err, tenancy.ErrUnavailable) {
			t.Errorf("after the grace: %v", err)
		}
	})
}

func TestMembershipEndsWithItsExpiryThoughCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		d.members["eve/t1"] = tenancy.Member{Roles: []string{"support"}, Expires: time.Now().Add(5 * time.Second)}
		v := newValidator(t, d, tenancy.ResolutionConfig{})
		m, err := v.Authorize(t.Context(), "eve", "t1")
		if err != nil || len(m.Roles) != 1 {
			t.Fatal(m, err)
		}
		time.Sleep(5 * time.Second)
		if _, err := v.Authorize(t.Context(), "eve", "t1"); !errors.Is(err, tenancy.ErrNotMember) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestPanicOfADirectoryReachesTheCaller(t *testing.T) {
	t.Parallel()
	v, err := tenancy.NewValidator(tenancy.ValidatorConfig{
		Directory: tenancy.DirectoryFunc(func(context.Context, tenancy.Ref) (tenancy.Tenant, error) { panic("boom") }),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time too: nothing is left behind
		func() {
			defer func() {
				if p := recover(); p == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = v.Lookup(t.Context(), tenancy.BySlug("acme"))
		}()
	}
}

func TestIdThatNoKeyCanCarryIsRefused(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "a:b", "../a"} {
		d := &directory{tenants: []tenancy.Tenant{{ID: id, Slug: "acme", Status: tenancy.StatusActive}}}
		if got, err := newValidator(t, d, tenancy.ResolutionConfig{}).Lookup(t.Context(), tenancy.BySlug("acme")); err == nil {
			t.Errorf("the id %q was accepted: %v", id, got)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	d := &directory{}
	for i := range 1500 {
		d.tenants = append(d.tenants, tenancy.Tenant{ID: fmt.Sprintf("id%d", i), Slug: fmt.Sprintf("s%d", i), Status: tenancy.StatusActive})
	}
	v := newValidator(t, d, tenancy.ResolutionConfig{CacheSize: 100})
	for range 2 {
		for i := range 1500 {
			if _, err := v.Lookup(t.Context(), tenancy.BySlug(fmt.Sprintf("s%d", i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := d.lookups.Load(); n < 2700 {
		t.Errorf("only %d of 3000 lookups reached the directory: the cache of 100 holds more", n)
	}
}

func TestCachedLookupAllocatesNothing(t *testing.T) {
	v := newValidator(t, newDirectory(), tenancy.ResolutionConfig{})
	ref, ctx := tenancy.BySlug("acme"), t.Context()
	_, _ = v.Lookup(ctx, ref)
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Lookup(ctx, ref) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
