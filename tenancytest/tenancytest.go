package tenancytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

const reason = "tenancytest"

// stopTimeout bounds the stop at the end of a test.
const stopTimeout = 10 * time.Second

// Option changes the configuration before [New] composes it.
type Option func(cfg *tenancy.Config)

// WithClock makes the tenancy and its catalogue tell the time by c.
func WithClock(c *Clock) Option { return func(cfg *tenancy.Config) { cfg.Now = c.Now } }

// New returns a started tenancy with an empty catalogue in memory and an otherwise default
// configuration, which is as strict as in production. Options may change all of it. Its log
// goes to the test's. It is stopped when the test and its cleanups registered later end. What
// cannot work ends the test.
func New(t testing.TB, opts ...Option) *tenancy.Tenancy {
	t.Helper()
	store := memstore.New()
	cfg := tenancy.Config{
		Store:  store,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	if cfg.Now != nil {
		store.Now = cfg.Now
	}
	tn, err := tenancy.New(cfg)
	if err != nil {
		t.Fatalf("tenancytest.New: %v", err)
	}
	ctx := context.WithoutCancel(t.Context())
	if err := tn.Start(ctx); err != nil {
		t.Fatalf("tenancytest.New: start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		if err := tn.Stop(ctx); err != nil {
			t.Errorf("tenancytest.New: stop: %v", err)
		}
	})
	return tn
}

// Tenant returns the tenant with this slug, and creates it when there is none. Its id follows
// from the slug, see [ID].
func Tenant(t testing.TB, tn *tenancy.Tenancy, slug string) tenancy.Tenant {
	t.Helper()
	ctx := t.Context()
	tenant, err := tn.Lifecycle().Find(ctx, tenancy.BySlug(slug))
	if errors.Is(err, tenancy.ErrNotFound) {
		tenant, err = tn.Lifecycle().Create(ctx, tenancy.CreateTenant{ID: ID(slug), Slug: slug, Name: slug})
		if _, taken := errors.AsType[*tenancy.SlugConflictError](err); taken { // by a parallel test
			if won, findErr := tn.Lifecycle().Find(ctx, tenancy.BySlug(slug)); findErr == nil {
				tenant, err = won, nil
			}
		}
	}
	if err != nil {
		t.Fatalf("tenancytest.Tenant: %v", err)
	}
	return tenant
}

// WithTenant returns the test's context inside the tenant with this slug, which it creates
// when there is none. It is bound and verified, without a user, and ends with the test. A
// tenant that is not active ends the test.
func WithTenant(t testing.TB, tn *tenancy.Tenancy, slug string) context.Context {
	t.Helper()
	return bind(t, Tenant(t, tn, slug))
}

// Context returns the test's context inside an active tenant with this slug and nothing
// behind it: no tenancy and no catalogue. Equal slugs are the same tenant, also as
// [WithTenant] would create it.
func Context(t testing.TB, slug string) context.Context {
	t.Helper()
	canonical, err := tenancy.CanonicalSlug(slug)
	if err != nil {
		t.Fatalf("tenancytest.Context: %v", err)
	}
	return bind(t, tenancy.Tenant{
		ID: ID(canonical), Slug: canonical, Name: canonical, Status: tenancy.StatusActive, Revision: 1,
	})
}

func bind(t testing.TB, tenant tenancy.Tenant) context.Context {
	t.Helper()
	ctx := tenancy.UnsafeBind(t.Context(), tenant, reason)
	if _, err := tenancy.Require(ctx); err != nil {
		t.Fatalf("tenancytest: enter tenant %q: %v", tenant.Slug, err)
	}
	return ctx
}

// AddMember makes the user a member of the tenant with this slug, which it creates when there
// is none, or replaces the roles. The tenancy's Membership must be a [tenancy.MemberStore], as
// it is by default.
func AddMember(t testing.TB, tn *tenancy.Tenancy, userID, slug string, roles ...string) {
	t.Helper()
	members, ok := tn.Config().Membership.(tenancy.MemberStore)
	if !ok {
		t.Fatalf("tenancytest.AddMember: %T is no tenancy.MemberStore", tn.Config().Membership)
	}
	tenant := Tenant(t, tn, slug)
	if err := members.SetMember(t.Context(), userID, tenant.ID, tenancy.Member{Roles: roles}); err != nil {
		t.Fatalf("tenancytest.AddMember: %v", err)
	}
	tn.Validator().Invalidate(tenant.ID)
}

// AsMember returns the test's context inside the tenant with this slug as a request of the
// user has it: bound because the user is a member, with the user's id and roles. It makes the
// user a member as [AddMember] does.
func AsMember(t testing.TB, tn *tenancy.Tenancy, userID, slug string, roles ...string) context.Context {
	t.Helper()
	AddMember(t, tn, userID, slug, roles...)
	cfg := tn.Config()
	request, err := tenancy.New(tenancy.Config{
		Directory: cfg.Directory, Membership: cfg.Membership, Logger: cfg.Logger, Now: cfg.Now,
		Resolvers: []tenancy.Resolver{tenancy.Static{Tenant: slug}},
	})
	if err != nil {
		t.Fatalf("tenancytest.AsMember: %v", err)
	}
	ctx := request.Bind(t.Context(), &tenancy.Request{Identity: tenancy.Identity{UserID: userID}})
	if _, err := tenancy.Require(ctx); err != nil {
		d, _ := tenancy.DecisionFrom(ctx)
		t.Fatalf("tenancytest.AsMember: %v\n%s", err, d.Explain())
	}
	return ctx
}

// ID returns the id that this package gives to the tenant with this slug: a UUID, always the
// same.
func ID(slug string) string {
	if canonical, err := tenancy.CanonicalSlug(slug); err == nil {
		slug = canonical
	}
	sum := sha256.Sum256([]byte("lexigram.dev/tenancy/tenancytest:" + slug))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // version 8: made by a rule of our own
	id[8] = id[8]&0x3f | 0x80 // RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
