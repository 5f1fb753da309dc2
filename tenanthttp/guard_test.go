package tenanthttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

func TestGuardAnswers(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	const types = tenanthttp.ProblemTypes
	for name, c := range map[string]struct {
		a         ask
		status    int
		problem   string
		code      tenancy.Code
		challenge string
	}{
		"nobody, no tenant":                 {ask{}, 401, "unauthenticated", tenancy.CodeResolution, "Bearer"},
		"bad credentials":                   {ask{token: "bad"}, 401, "invalid-credentials", tenancy.CodeResolution, `Bearer error="invalid_token"`},
		"bad credentials for a tenant":      {ask{token: "bad", host: "acme.app.com"}, 401, "invalid-credentials", tenancy.CodeResolution, `Bearer error="invalid_token"`},
		"bad credentials for an unknown":    {ask{token: "bad", host: "unknown.app.com"}, 401, "invalid-credentials", tenancy.CodeResolution, `Bearer error="invalid_token"`},
		"a user, no tenant":                 {ask{token: "alice"}, 400, "tenant-required", tenancy.CodeResolution, ""},
		"ambiguous":                         {ask{token: "alice", tenant: []string{"acme", "globex"}}, 400, "ambiguous-tenant", tenancy.CodeResolution, ""},
		"a claim that cannot be a tenant":   {ask{token: "alice:ac me"}, 403, "forbidden", tenancy.CodeTenant, ""},
		"nobody, a tenant":                  {ask{host: "acme.app.com"}, 403, "forbidden", tenancy.CodeTenant, ""},
		"an outsider":                       {ask{token: "mallory", host: "acme.app.com"}, 403, "forbidden", tenancy.CodeTenant, ""},
		"an outsider, suspended":            {ask{token: "mallory", host: "initech.app.com"}, 403, "forbidden", tenancy.CodeTenant, ""},
		"a member, suspended":               {ask{token: "dave", host: "initech.app.com"}, 403, "tenant-suspended", tenancy.CodeSuspended, ""},
		"a member, inactive":                {ask{token: "dave", host: "hooli.app.com"}, 403, "tenant-inactive", tenancy.CodeInactive, ""},
		"a member, being provisioned":       {ask{token: "dave", host: "umbrella.app.com"}, 403, "tenant-provisioning", tenancy.CodeProvisioning, ""},
		"no fall-through after a refusal":   {ask{token: "alice", tenant: []string{"globex"}, host: "acme.app.com"}, 403, "forbidden", tenancy.CodeTenant, ""},
		"no fall-through after a bad claim": {ask{token: "alice:unknown", tenant: []string{"acme"}}, 403, "forbidden", tenancy.CodeTenant, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := c.a.of(h)
			refused(c.status, c.code).check(t, rec)
			if p := problemIn(t, rec); p.Type != types+c.problem {
				t.Errorf("type %s, want %s", p.Type, c.problem)
			}
			if got := rec.Header().Get("WWW-Authenticate"); got != c.challenge {
				t.Errorf("WWW-Authenticate: %q, want %q", got, c.challenge)
			}
			c.a.method = http.MethodHead
			head := c.a.of(h)
			if head.Code != rec.Code || head.Body.Len() > 0 || len(head.Header()) != len(rec.Header()) {
				t.Errorf("HEAD: status %d, body %q, headers %v", head.Code, head.Body, head.Header())
			}
			for name := range rec.Header() {
				if head.Header().Get(name) != rec.Header().Get(name) {
					t.Errorf("HEAD: %s: %q", name, head.Header().Get(name))
				}
			}
		})
	}
}

func TestGuardRejectsConflictsByName(t *testing.T) {
	t.Parallel()
	h := newWorld(t, func(c *tenancy.Config) { c.Resolution.OnConflict = tenancy.Reject }).guarded()
	rec := ask{token: "carol:acme", tenant: []string{"globex"}}.of(h)
	noTenant.check(t, rec)
	if p := problemIn(t, rec); p.Type != tenanthttp.ProblemTypes+"conflicting-tenants" {
		t.Errorf("type %s", p.Type)
	}
}

func TestGuardsMayBeNested(t *testing.T) {
	t.Parallel()
	h := newWorld(t).wrap(tenanthttp.Guard(tenanthttp.Public(tenanthttp.Guard(whoami))))
	bound("acme").check(t, ask{token: "alice:acme"}.of(h))
	outsider.check(t, ask{token: "mallory", host: "acme.app.com"}.of(h))
	if rec := (ask{}).of(h); len(rec.Header().Values("WWW-Authenticate")) != 1 {
		t.Error(rec.Header())
	}
}

func TestGuardAcceptsABindingMadeByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := tenanthttp.Guard(whoami)
	err := w.tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(ctx context.Context) error {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, ask{}.request().WithContext(ctx))
		bound("acme").check(t, rec)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	rec := httptest.NewRecorder()
	ctx := tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: "t-acme", Slug: "acme", Status: tenancy.StatusActive}, "test")
	h.ServeHTTP(rec, ask{}.request().WithContext(ctx))
	bound("acme").check(t, rec)
}

func TestGuardWithoutADecisionSaysHowToRepairIt(t *testing.T) { // changes slog.Default
	w := newWorld(t)
	var ended context.Context
	if err := w.tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(ctx context.Context) error {
		ended = ctx //nolint:fatcontext // kept on purpose, to be used after its end
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ctx    context.Context
		remedy string
	}{
		"no middleware":      {t.Context(), "put tenanthttp.Middleware before tenanthttp.Guard"},
		"system scope":       {tenancy.AsSystem(t.Context(), "test"), "use Tenancy.Within"},
		"a scope that ended": {ended, "the tenant scope of this context has ended"},
		"a bad bind":         {tenancy.UnsafeBind(t.Context(), tenancy.Tenant{}, ""), "a reason is required"},
	} {
		t.Run(name, func(t *testing.T) {
			log := captureLog(t)
			rec := httptest.NewRecorder()
			tenanthttp.Guard(whoami).ServeHTTP(rec, ask{}.request().WithContext(c.ctx))
			refused(500, tenancy.CodeTenant).check(t, rec)
			if p := problemIn(t, rec); p.Detail != "" {
				t.Errorf("detail %q", p.Detail)
			}
			if !strings.Contains(log.String(), c.remedy) {
				t.Errorf("log %q does not say %q", log, c.remedy)
			}
		})
	}
}

func TestGuardNamesTheRealm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Realm = "notes"
	for token, want := range map[string]string{"": `Bearer realm="notes"`, "bad": `Bearer realm="notes", error="invalid_token"`} {
		if got := (ask{token: token}).of(w.guarded()).Header().Get("WWW-Authenticate"); got != want {
			t.Errorf("WWW-Authenticate: %s, want %s", got, want)
		}
	}
}

func TestGuardLetsTheApplicationWriteTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.OnRefusal = func(rw http.ResponseWriter, r *http.Request, p tenanthttp.Problem) {
		if p.Status == http.StatusUnauthorized {
			http.Redirect(rw, r, "/login", http.StatusSeeOther)
			return
		}
		p.Write(rw, r)
	}
	rec := ask{}.of(w.guarded())
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, %v", rec.Code, rec.Header())
	}
	outsider.check(t, ask{host: "acme.app.com"}.of(w.guarded()))
	unguarded := w.wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		tenanthttp.WriteError(rw, r, errors.New("boom"))
	}))
	if rec := (ask{}).of(unguarded); rec.Code != 500 {
		t.Errorf("a handler's own error: status %d", rec.Code)
	}
}

func TestPublicKeepsAVerifiedBindingAndNeverRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.wrap(tenanthttp.Public(whoami))
	for _, a := range []ask{
		{token: "alice:acme"}, {token: "alice", host: "acme.app.com"},
	} {
		if got := a.of(h).Body.String(); !strings.HasSuffix(got, "verified true") {
			t.Error(got)
		}
	}
	for _, a := range []ask{{}, {token: "alice"}, {token: "bad"}, {tenant: []string{"acme", "globex"}}, {host: "unknown.app.com"}} {
		if rec := a.of(h); rec.Code != 200 || rec.Body.String() != "nobody" {
			t.Errorf("%+v: %d %s", a, rec.Code, rec.Body)
		}
	}
	if rec := (ask{}).of(tenanthttp.Public(whoami)); rec.Body.String() != "nobody" {
		t.Errorf("without a middleware: %s", rec.Body)
	}
	w.down.Store(true)
	if rec := (ask{host: "globex.app.com"}).of(h); rec.Code != 200 || rec.Body.String() != "nobody" {
		t.Errorf("during an outage: %d %s", rec.Code, rec.Body)
	}
}

func TestPublicWithBadCredentialsForgetsTheUser(t *testing.T) {
	t.Parallel()
	h := newWorld(t).wrap(tenanthttp.Public(whoami))
	got := ask{token: "bad", host: "acme.app.com"}.of(h).Body.String()
	if got != `acme by subdomain for "" verified false` {
		t.Error(got)
	}
}
