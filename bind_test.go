package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

func newTenancy(t testing.TB, d *directory, change func(*tenancy.Config)) *tenancy.Tenancy {
	t.Helper()
	cfg := tenancy.Config{
		Directory: d, Logger: slog.New(slog.DiscardHandler),
		Resolution: tenancy.ResolutionConfig{SubdomainPattern: "app.com"},
	}
	change(&cfg)
	tn, err := tenancy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tn
}

// ask is a request with the usual places to name a tenant.
type ask struct {
	user, claim, header, host, path, issuer string
	identityErr                             error
}

func (a ask) request() *tenancy.Request {
	h := http.Header{}
	if a.header != "" {
		h.Set("X-Tenant-Id", a.header)
	}
	req := &tenancy.Request{Host: a.host, Path: a.path, Header: h, IdentityErr: a.identityErr}
	req.Identity = tenancy.Identity{UserID: a.user, Issuer: a.issuer, Claims: map[string]any{}}
	if a.claim != "" {
		req.Identity.Claims["tenant_id"] = a.claim
	}
	return req
}

func bind(tn *tenancy.Tenancy, a ask) (context.Context, tenancy.Decision) {
	ctx := tn.Bind(context.Background(), a.request())
	d, _ := tenancy.DecisionFrom(ctx)
	return ctx, d
}

func TestRequestsAreBoundOrExplained(t *testing.T) {
	t.Parallel()
	badToken := errors.New("the token has expired")
	for _, tc := range []struct {
		name    string
		ask     ask
		outcome tenancy.Outcome
		err     error
		slug    string
		insider bool
	}{
		{"a claim binds", ask{user: "alice", claim: "acme"}, tenancy.OutcomeBound, nil, "acme", true},
		{"the claim wins over the header", ask{user: "bob", claim: "globex", header: "acme"}, tenancy.OutcomeBound, nil, "globex", true},
		{"a member chooses by header", ask{user: "carol", header: "globex"}, tenancy.OutcomeBound, nil, "globex", true},
		{"a member chooses by subdomain", ask{user: "carol", host: "acme.app.com"}, tenancy.OutcomeBound, nil, "acme", true},
		{"a member chooses by path", ask{user: "carol", path: "/tenants/t2/notes"}, tenancy.OutcomeBound, nil, "globex", true},
		{"nobody names nothing", ask{}, tenancy.OutcomeNoTenant, tenancy.ErrUnauthenticated, "", false},
		{"a user names nothing", ask{user: "alice"}, tenancy.OutcomeNoTenant, tenancy.ErrNoTenant, "", false},
		{"an outsider", ask{user: "mallory", header: "acme"}, tenancy.OutcomeNotMember, tenancy.ErrNotMember, "acme", false},
		{"nobody names a tenant", ask{header: "acme"}, tenancy.OutcomeNotMember, tenancy.ErrNotMember, "acme", false},
		{"an unknown tenant", ask{user: "mallory", header: "nobody"}, tenancy.OutcomeNotFound, tenancy.ErrNotFound, "", false},
		{"an outsider of a suspended tenant", ask{user: "mallory", header: "initech"}, tenancy.OutcomeNotMember, tenancy.ErrNotMember, "initech", false},
		{"a member of a suspended tenant", ask{user: "dave", header: "initech"}, tenancy.OutcomeNotActive, tenancy.ErrSuspended, "initech", true},
		{"a claim of a suspended tenant", ask{user: "dave", claim: "initech"}, tenancy.OutcomeNotActive, tenancy.ErrSuspended, "initech", true},
		{"no fall-through after a refusal", ask{user: "carol", header: "nobody", path: "/tenants/acme/"}, tenancy.OutcomeNotFound, tenancy.ErrNotFound, "", false},
		{"an ambiguous path", ask{user: "carol", path: "/tenants/acme/../globex"}, tenancy.OutcomeAmbiguous, tenancy.ErrAmbiguous, "", false},
		{"a bad token", ask{identityErr: badToken, header: "acme"}, tenancy.OutcomeUnauthenticated, badToken, "", false},
		{"a bad token with a user left in it", ask{user: "alice", claim: "acme", identityErr: badToken}, tenancy.OutcomeUnauthenticated, tenancy.ErrUnauthenticated, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
			ctx, d := bind(tn, tc.ask)
			if d.Outcome != tc.outcome || !errors.Is(d.Err, tc.err) || d.Slug != tc.slug || d.Insider != tc.insider {
				t.Errorf("decided %s", d.Explain())
			}
			b, ok := tenancy.FromContext(ctx)
			if ok != (tc.outcome == tenancy.OutcomeBound) || (ok && (b.Tenant.Slug != tc.slug || !b.Verified || b.UserID != tc.ask.user)) {
				t.Errorf("bound %+v, %v", b, ok)
			}
			if _, err := tenancy.ScopeOf(ctx); (err == nil) != ok {
				t.Errorf("ScopeOf: %v", err)
			}
		})
	}
}

func TestB11OutsidersCostTheSameCallsWhateverTheyName(t *testing.T) {
	t.Parallel()
	count := func(user, slug string) [2]int64 {
		d := newDirectory()
		tn := newTenancy(t, d, func(*tenancy.Config) {})
		bind(tn, ask{user: "alice", header: "acme"}) // warm: some tenant has been seen
		lookups, asked := d.lookups.Load(), d.asked.Load()
		bind(tn, ask{user: user, path: "/tenants/" + slug + "/"})
		bind(tn, ask{user: user, path: "/tenants/" + slug + "/"})
		return [2]int64{d.lookups.Load() - lookups, d.asked.Load() - asked}
	}
	for _, user := range []string{"mallory", ""} {
		want := count(user, "globex")
		for _, slug := range []string{"initech", "nobody", "nobody-else"} {
			if got := count(user, slug); got != want {
				t.Errorf("user %q naming %s causes %v calls, naming globex %v", user, slug, got, want)
			}
		}
	}
}

func TestB13CandidateIsInvisibleUntilPromotedAndNeverUsable(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	ctx, _ := bind(tn, ask{host: "acme.app.com"})
	if _, ok := tenancy.FromContext(ctx); ok {
		t.Fatal("the candidate is visible")
	}
	ctx = tenancy.Promote(ctx)
	if b, ok := tenancy.FromContext(ctx); !ok || b.Verified || b.Tenant.Slug != "acme" {
		t.Fatalf("promoted: %+v, %v", b, ok)
	}
	for name, err := range map[string]error{
		"Require": second(tenancy.Require(ctx)), "ScopeOf": second(tenancy.ScopeOf(ctx)),
	} {
		if !errors.Is(err, tenancy.ErrUnverified) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tenancy.ScopeOf(tenancy.AllowUnverified(ctx, "")); !errors.Is(err, tenancy.ErrReasonRequired) {
		t.Errorf("allowed without a reason: %v", err)
	}
	if s, err := tenancy.ScopeOf(tenancy.AllowUnverified(ctx, "login page texts")); err != nil || s.Tenant.Slug != "acme" {
		t.Errorf("allowed: %v, %v", s, err)
	}
	suspended, _ := bind(tn, ask{host: "initech.app.com"})
	if _, ok := tenancy.FromContext(tenancy.Promote(suspended)); ok {
		t.Error("a suspended tenant was promoted")
	}
	expired, _ := bind(tn, ask{host: "acme.app.com", identityErr: errors.New("expired")})
	if _, ok := tenancy.FromContext(tenancy.Promote(expired)); !ok {
		t.Error("a stale cookie hides the login page's tenant")
	}
}

func second[T any](_ T, err error) error { return err }

func TestB16PinnedIssuerSpeaksForItsTenantOnly(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) {
		c.Resolution.IssuerTenants = map[string]string{"https://idp.globex.example": "globex"}
	})
	const idp = "https://idp.globex.example"
	for _, a := range []ask{
		{user: "alice", issuer: idp, claim: "acme"},  // names another customer in a claim
		{user: "alice", issuer: idp, header: "acme"}, // borrows the name of another customer's member
		{user: "alice", issuer: idp, claim: "t1"},
	} {
		if _, d := bind(tn, a); d.Outcome == tenancy.OutcomeBound || d.Insider || !errors.Is(d.Err, tenancy.ErrIssuerPinned) {
			t.Errorf("%+v: %s", a, d.Explain())
		}
	}
	if _, d := bind(tn, ask{user: "bob", issuer: idp, claim: "globex"}); d.Outcome != tenancy.OutcomeBound {
		t.Errorf("its own tenant: %s", d.Explain())
	}
	if _, d := bind(tn, ask{user: "alice", issuer: "https://other", claim: "acme"}); d.Outcome != tenancy.OutcomeBound {
		t.Errorf("another issuer: %s", d.Explain())
	}
}

func TestConflictingSourcesAreRefusedWhenAsked(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) { c.Resolution.OnConflict = tenancy.Reject })
	for _, tc := range []struct {
		ask     ask
		outcome tenancy.Outcome
	}{
		{ask{user: "carol", claim: "acme", header: "acme"}, tenancy.OutcomeBound},
		{ask{user: "carol", claim: "acme", header: "t1"}, tenancy.OutcomeBound}, // one tenant by two names
		{ask{user: "carol", claim: "acme", header: "globex"}, tenancy.OutcomeConflict},
		{ask{user: "carol", claim: "acme", header: "nobody"}, tenancy.OutcomeConflict},
		{ask{user: "carol", claim: "acme", path: "/tenants/a/../b"}, tenancy.OutcomeConflict},
		// Outsiders must not learn which id goes with which slug.
		{ask{user: "mallory", header: "acme", path: "/tenants/t1/"}, tenancy.OutcomeConflict},
		{ask{user: "mallory", header: "acme", path: "/tenants/t2/"}, tenancy.OutcomeConflict},
		{ask{user: "mallory", header: "acme", path: "/tenants/nobody/"}, tenancy.OutcomeConflict},
		{ask{user: "mallory", header: "acme", path: "/tenants/acme/"}, tenancy.OutcomeNotMember},
	} {
		ctx, d := bind(tn, tc.ask)
		if d.Outcome != tc.outcome {
			t.Errorf("%+v: %s", tc.ask, d.Explain())
		}
		if _, ok := tenancy.FromContext(tenancy.Promote(ctx)); ok && d.Outcome == tenancy.OutcomeConflict {
			t.Errorf("%+v: a conflict left a candidate", tc.ask)
		}
	}
}

func TestWithoutMembershipOnlyTrustedSourcesBind(t *testing.T) {
	t.Parallel()
	lookup := func(c *tenancy.Config) {
		d := newDirectory()
		c.Directory = tenancy.DirectoryFunc(d.Lookup)
	}
	strict := newTenancy(t, newDirectory(), lookup)
	if _, d := bind(strict, ask{user: "alice", header: "acme"}); d.Outcome != tenancy.OutcomeUnverifiable || d.Insider {
		t.Errorf("strict: %s", d.Explain())
	}
	if _, d := bind(strict, ask{user: "alice", claim: "acme"}); d.Outcome != tenancy.OutcomeBound {
		t.Errorf("a claim: %s", d.Explain())
	}
	lax := newTenancy(t, newDirectory(), func(c *tenancy.Config) { lookup(c); c.Resolution.LaxMembership = true })
	if _, d := bind(lax, ask{user: "alice", header: "acme"}); d.Outcome != tenancy.OutcomeBound {
		t.Errorf("lax: %s", d.Explain())
	}
	if _, d := bind(lax, ask{header: "acme"}); d.Outcome == tenancy.OutcomeBound {
		t.Errorf("lax and anonymous: %s", d.Explain())
	}
	negative := newTenancy(t, newDirectory(), func(c *tenancy.Config) { c.Resolution.LaxMembership = true })
	if _, d := bind(negative, ask{user: "mallory", header: "acme"}); d.Outcome != tenancy.OutcomeNotMember {
		t.Errorf("lax does not outweigh a no: %s", d.Explain())
	}
}

func TestNoSourceNeedsToBeTrusted(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) { c.Resolution.TrustedResolvers = []string{} })
	if _, d := bind(tn, ask{user: "mallory", claim: "acme"}); d.Outcome != tenancy.OutcomeNotMember {
		t.Errorf("a claim without a membership: %s", d.Explain())
	}
	if _, d := bind(tn, ask{user: "alice", claim: "acme"}); d.Outcome != tenancy.OutcomeBound {
		t.Errorf("a claim with a membership: %s", d.Explain())
	}
}

func TestOutageIsNotARefusal(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.err = errors.New("connection refused")
	tn := newTenancy(t, d, func(*tenancy.Config) {})
	for _, a := range []ask{{user: "alice", claim: "acme"}, {user: "alice", header: "acme"}, {header: "nobody"}} {
		if _, got := bind(tn, a); got.Outcome != tenancy.OutcomeUnavailable || !errors.Is(got.Err, tenancy.ErrUnavailable) {
			t.Errorf("%+v: %s", a, got.Explain())
		}
	}
}

func TestDisabledBindsNothing(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) { c.Disabled = true })
	if _, d := bind(tn, ask{user: "alice", claim: "acme"}); d.Outcome != tenancy.OutcomeDisabled || !errors.Is(d.Err, tenancy.ErrDisabled) {
		t.Error(d.Explain())
	}
	if err := tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(context.Context) error { return nil }); !errors.Is(err, tenancy.ErrDisabled) {
		t.Errorf("Within: %v", err)
	}
}

func TestDecisionsAreToldToTheOperators(t *testing.T) {
	t.Parallel()
	var told []tenancy.Decision
	var log strings.Builder
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) {
		c.OnDecision = func(_ context.Context, d tenancy.Decision) { told = append(told, d) }
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	bind(tn, ask{user: "mallory", header: "acme"})
	req := ask{}.request()
	req.Header.(http.Header).Set("Authorization", "Bearer secret-token")
	tn.Bind(t.Context(), req)
	if len(told) != 2 {
		t.Fatalf("%d decisions", len(told))
	}
	explained := told[0].Explain()
	for _, want := range []string{"not a member", "acme (t1)", "user mallory", "jwt_claim: not mine", "header: id-or-slug:acme  <- this counted"} {
		if !strings.Contains(explained, want) {
			t.Errorf("%s\ndoes not say %q", explained, want)
		}
	}
	if !strings.Contains(told[1].Hint, "does authentication run before this middleware?") {
		t.Errorf("the hint is %q", told[1].Hint)
	}
	if !strings.Contains(log.String(), "decision.outcome=\"not a member\"") || strings.Contains(log.String(), "secret-token") {
		t.Errorf("the log is %s", log.String())
	}
}

func TestBindAllocatesOnce(t *testing.T) {
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	req, ctx := ask{user: "carol", header: "acme"}.request(), t.Context()
	tn.Bind(ctx, req)
	if n := testing.AllocsPerRun(1000, func() { tn.Bind(ctx, req) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
