package tenancytest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenancytest"
)

func TestNewIsStartedAndStopped(t *testing.T) {
	t.Parallel()
	var tn *tenancy.Tenancy
	t.Run("during the test", func(t *testing.T) {
		tn = tenancytest.New(t)
		if err := tn.Start(t.Context()); err == nil {
			t.Error("a second Start succeeded: New did not start")
		}
		created, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme", Name: "ACME Corp"})
		if err != nil || created.Slug != "acme" || created.Status != tenancy.StatusActive {
			t.Errorf("Create = %+v, %v", created, err)
		}
	})
	if err := tn.Start(t.Context()); err != nil {
		t.Errorf("Start after the test: %v: the test did not stop it", err)
	}
	if err := tn.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewTakesOptions(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	clock := tenancytest.NewClock(time.Time{})
	tn := tenancytest.New(t, tenancytest.WithClock(clock), func(cfg *tenancy.Config) {
		cfg.Store = store
		cfg.Overrides.Defaults = map[string]any{"max_users": 7}
	})
	tenant := tenancytest.Tenant(t, tn, "acme")
	if _, err := store.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
		t.Errorf("the tenant is not in the given store: %v", err)
	}
	if !tenant.CreatedAt.Equal(clock.Now()) {
		t.Errorf("CreatedAt = %s, want the clock's %s", tenant.CreatedAt, clock.Now())
	}
	maxUsers := tenancy.NewKey("max_users", 1)
	if got, err := maxUsers.Get(tenancytest.WithTenant(t, tn, "acme"), tn.Overrides()); got != 7 || err != nil {
		t.Errorf("max_users = %d, %v", got, err)
	}
}

func TestContextIsBound(t *testing.T) {
	t.Parallel()
	ctx := tenancytest.Context(t, "acme")
	b, err := tenancy.Require(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if b.Tenant.Slug != "acme" || b.Tenant.ID == "" || !b.Verified {
		t.Errorf("binding = %+v", b)
	}
	if err := tenancy.CheckID(b.Tenant.ID); err != nil {
		t.Error(err)
	}

	t.Run("and equal slugs are one tenant, with a tenancy too", func(t *testing.T) {
		again, _ := tenancy.Require(tenancytest.Context(t, "ACME"))
		other, _ := tenancy.Require(tenancytest.Context(t, "globex"))
		stored, _ := tenancy.Require(tenancytest.WithTenant(t, tenancytest.New(t), "acme"))
		if again.Tenant.ID != b.Tenant.ID || stored.Tenant.ID != b.Tenant.ID {
			t.Errorf("ids differ: %s, %s, %s", b.Tenant.ID, again.Tenant.ID, stored.Tenant.ID)
		}
		if other.Tenant.ID == b.Tenant.ID {
			t.Error("two slugs have one id")
		}
	})
}

func TestContextEndsWithTheTest(t *testing.T) {
	t.Parallel()
	var ctx context.Context
	t.Run("test", func(t *testing.T) { ctx = tenancytest.Context(t, "acme") }) //nolint:fatcontext // it is to outlive the test
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("ctx.Err() = %v after the test", ctx.Err())
	}
}

func TestTenantFindsWhatExists(t *testing.T) {
	t.Parallel()
	tn := tenancytest.New(t)
	created, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "42", Slug: "acme", Name: "ACME Corp"})
	if err != nil {
		t.Fatal(err)
	}
	if got := tenancytest.Tenant(t, tn, "acme"); got.ID != created.ID || got.Name != "ACME Corp" {
		t.Errorf("Tenant = %+v", got)
	}
}

func TestAsMemberIsARequestOfTheUser(t *testing.T) {
	t.Parallel()
	tn := tenancytest.New(t)
	ctx := tenancytest.AsMember(t, tn, "alice", "acme", "admin", "billing")
	b, err := tenancy.Require(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if b.UserID != "alice" || !slices.Equal(b.Roles, []string{"admin", "billing"}) || b.Tenant.Slug != "acme" {
		t.Errorf("binding = %+v", b)
	}
	if m, err := tn.Validator().Authorize(ctx, "alice", b.Tenant.ID); err != nil || len(m.Roles) != 2 {
		t.Errorf("Authorize = %+v, %v", m, err)
	}
	if _, err := tn.Validator().Authorize(ctx, "mallory", b.Tenant.ID); !errors.Is(err, tenancy.ErrNotMember) {
		t.Errorf("mallory: %v", err)
	}
}

func TestAddMemberIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	tn := tenancytest.New(t)
	tenant := tenancytest.Tenant(t, tn, "acme")
	if _, err := tn.Validator().Authorize(t.Context(), "alice", tenant.ID); !errors.Is(err, tenancy.ErrNotMember) {
		t.Fatalf("before: %v", err)
	}
	tenancytest.AddMember(t, tn, "alice", "acme", "admin")
	if _, err := tn.Validator().Authorize(t.Context(), "alice", tenant.ID); err != nil {
		t.Errorf("after: %v", err)
	}
}

// fatal records what a helper does to a test that it must end.
type fatal struct {
	testing.TB
	failed bool
}

func (f *fatal) Helper()               {}
func (f *fatal) Fatalf(string, ...any) { f.failed = true; panic(f) }

func TestMistakesEndTheTest(t *testing.T) {
	t.Parallel()
	suspended := tenancytest.New(t)
	tenant := tenancytest.Tenant(t, suspended, "initech")
	if _, err := suspended.Lifecycle().Suspend(t.Context(), tenant.ID, "unpaid"); err != nil {
		t.Fatal(err)
	}
	noMembers := tenancytest.New(t, func(cfg *tenancy.Config) {
		cfg.Membership = tenancy.MembershipFunc(func(context.Context, string, string) (tenancy.Member, error) {
			return tenancy.Member{}, tenancy.ErrNotMember
		})
	})
	for name, mistake := range map[string]func(t testing.TB){
		"a malformed slug":          func(t testing.TB) { tenancytest.Context(t, "no such slug") },
		"a malformed slug, created": func(t testing.TB) { tenancytest.WithTenant(t, suspended, "no such slug") },
		"a suspended tenant":        func(t testing.TB) { tenancytest.WithTenant(t, suspended, "initech") },
		"a suspended tenant's user": func(t testing.TB) { tenancytest.AsMember(t, suspended, "dave", "initech") },
		"no store of members":       func(t testing.TB) { tenancytest.AddMember(t, noMembers, "alice", "acme") },
		"a wrong configuration": func(t testing.TB) {
			tenancytest.New(t, func(cfg *tenancy.Config) { cfg.Store = nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fatal{TB: t}
			defer func() {
				if p := recover(); p != nil && p != any(f) {
					panic(p)
				}
				if !f.failed {
					t.Error("the test went on")
				}
			}()
			mistake(f)
		})
	}
}

func TestClockMovesWhenTold(t *testing.T) {
	t.Parallel()
	start := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	clock := tenancytest.NewClock(start)
	clock.Advance(time.Minute)
	if got := clock.Now(); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("Now = %s", got)
	}
}

func TestClockEndsCachedAnswers(t *testing.T) {
	t.Parallel()
	clock := tenancytest.NewClock(time.Time{})
	lookups := 0
	tn := tenancytest.New(t, tenancytest.WithClock(clock), func(cfg *tenancy.Config) {
		store := cfg.Store
		cfg.Directory = tenancy.DirectoryFunc(func(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
			lookups++
			return store.Lookup(ctx, ref)
		})
	})
	tenancytest.Tenant(t, tn, "acme")
	validate := func() {
		t.Helper()
		if _, err := tn.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Fatal(err)
		}
	}
	validate()
	validate()
	if lookups != 1 {
		t.Errorf("%d lookups within the TTL, want 1", lookups)
	}
	clock.Advance(tn.Config().Resolution.ValidatorCacheTTL)
	validate()
	if lookups != 2 {
		t.Errorf("%d lookups after the TTL, want 2", lookups)
	}
}
