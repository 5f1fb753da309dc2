package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

func TestMiddlewareHandsOnTheWriterItWasGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rec := httptest.NewRecorder()
	for _, wrap := range []func(http.Handler) http.Handler{tenanthttp.Guard, tenanthttp.Public} {
		w.wrap(wrap(http.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) {
			if got != http.ResponseWriter(rec) {
				t.Errorf("the handler got a %T", got)
			}
		}))).ServeHTTP(rec, ask{token: "alice:acme"}.request())
	}
}

func TestMiddlewareLetsHandlersFlushAndHijack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(w.wrap(tenanthttp.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(rw).Flush(); err != nil {
			t.Error(err)
		}
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		b, err := tenancy.Require(r.Context())
		fmt.Fprint(buffered, "hijacked for ", b.Tenant.Slug, err)
		_ = buffered.Flush()
	}))))
	defer server.Close()
	got := onTheWire(t, server.Listener.Addr().String(), ask{token: "alice:acme"})
	if !strings.HasSuffix(got, "hijacked for acme<nil>") {
		t.Error(got)
	}
}

func TestMiddlewareKeepsPatternsAndPathValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := tenancy.Require(r.Context())
		fmt.Fprint(rw, b.Tenant.Slug, " ", r.PathValue("tenant_id"), " ", r.PathValue("id"), " ", r.Pattern, " ", err)
	})
	const pattern = "GET /tenants/{tenant_id}/notes/{id}"
	const want = "acme acme 7 " + pattern + " <nil>"
	inside, outside := http.NewServeMux(), http.NewServeMux()
	inside.Handle(pattern, tenanthttp.Guard(handler))
	outside.Handle(pattern, w.wrap(tenanthttp.Guard(handler)))
	a := ask{token: "alice", path: "/tenants/acme/notes/7"}
	for name, h := range map[string]http.Handler{"around the mux": w.wrap(inside), "inside the mux": outside} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := a.of(h).Body.String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestMiddlewareAsksForTheIdentityOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	times := 0
	w.cfg.Identity = func(r *http.Request) (tenancy.Identity, error) { times++; return identityOf(r) }
	bound("acme").check(t, ask{token: "alice:acme"}.of(w.wrap(tenanthttp.Guard(tenanthttp.Guard(whoami)))))
	if times != 1 {
		t.Errorf("asked %d times", times)
	}
}

func TestMiddlewareLeavesTheRequestAsItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := ask{token: "alice:acme", host: "acme.app.com"}.request()
	before := r.Clone(r.Context())
	w.guarded().ServeHTTP(httptest.NewRecorder(), r)
	if fmt.Sprint(r.Header) != fmt.Sprint(before.Header) || r.Context() != before.Context() {
		t.Error("the caller's request has changed")
	}
}

func TestMiddlewareReportsEachDecision(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	w := newWorld(t, func(c *tenancy.Config) {
		c.OnDecision = func(_ context.Context, d tenancy.Decision) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, string(d.Outcome))
		}
	})
	h := w.guarded()
	for _, a := range []ask{
		{token: "alice:acme"}, {token: "mallory", host: "acme.app.com"}, {host: "unknown.app.com"}, {token: "bad"}, {},
	} {
		a.of(h)
	}
	want := "[bound not a member unknown tenant credentials not valid no tenant named]"
	if got := fmt.Sprint(seen); got != want {
		t.Errorf("decisions %s, want %s", got, want)
	}
}

// tag is a resolver that somebody wrote.
type tag struct{ err error }

func (tag) Name() string { return "tag" }

func (g tag) Resolve(_ context.Context, req *tenancy.Request) (tenancy.Ref, error) {
	values := req.Header.Values("X-Tag")
	if len(values) == 0 {
		return tenancy.Ref{}, nil
	}
	return tenancy.BySlug(values[0]), g.err
}

type varyingTag struct{ tag }

func (varyingTag) Vary() []string { return []string{"x-tag", "X-TAG", "Cookie"} }

func TestMiddlewareWorksWithResolversOfTheApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *tenancy.Config) {
		c.Resolvers = []tenancy.Resolver{varyingTag{}}
		c.Resolution.Resolvers = []string{"tag", "header"}
		c.Resolution.TrustedResolvers = []string{"tag"}
		c.Resolution.TrustedProxies = []string{"10.0.0.1"}
	})
	h := w.guarded()
	tagged := http.Header{"X-Tag": {"acme"}}
	rec := ask{header: tagged}.of(h) // trusted: no user is needed
	bound("acme").check(t, rec)
	if got := rec.Header().Get("Vary"); got != "X-Tag, Cookie, X-Forwarded-Host, Authorization" {
		t.Errorf("Vary: %s", got)
	}
	refused(403, tenancy.CodeSuspended).check(t, ask{header: http.Header{"X-Tag": {"initech"}}}.of(h))
	outsider.check(t, ask{header: http.Header{"X-Tag": {"unknown"}}}.of(h))
	refused(401, tenancy.CodeResolution).check(t, ask{header: tagged, token: "bad"}.of(h))
	rec = ask{token: "alice", tenant: []string{"acme"}}.of(h)
	bound("acme").check(t, rec)
	if got := rec.Header().Get("Vary"); got != "X-Tag, Cookie, X-Forwarded-Host, X-Tenant-Id, Authorization" {
		t.Errorf("Vary: %s", got)
	}

	for cause, want := range map[error]answer{
		tenancy.ErrAmbiguous: noTenant, errors.New("boom"): noTenant,
		fmt.Errorf("tags: %w", tenancy.ErrUnavailable): unavailable,
	} {
		w := newWorld(t, func(c *tenancy.Config) { c.Resolvers = []tenancy.Resolver{tag{err: cause}} })
		rec := ask{token: "alice", header: tagged}.of(w.guarded())
		want.check(t, rec)
		if strings.Contains(rec.Body.String(), "boom") {
			t.Errorf("the resolver's error is shown: %s", rec.Body)
		}
	}
}

func TestMiddlewareWithTwoSourcesThatDiffer(t *testing.T) {
	t.Parallel()
	h := newWorld(t, func(c *tenancy.Config) { c.Resolution.OnConflict = tenancy.Reject }).guarded()
	for name, c := range map[string]struct {
		a    ask
		want answer
	}{
		"they agree":                       {ask{token: "alice:acme", tenant: []string{"acme"}, host: "acme.app.com"}, bound("acme")},
		"id and slug of one tenant":        {ask{token: "alice:t-acme", tenant: []string{"acme"}}, bound("acme")},
		"claim and header":                 {ask{token: "carol:acme", tenant: []string{"globex"}}, noTenant},
		"claim and an unknown name":        {ask{token: "carol:acme", tenant: []string{"unknown"}}, noTenant},
		"claim and an unreadable header":   {ask{token: "carol:acme", tenant: []string{"acme", "globex"}}, noTenant},
		"header and subdomain":             {ask{token: "carol", tenant: []string{"acme"}, host: "globex.app.com"}, noTenant},
		"header and path, by an outsider":  {ask{token: "mallory", tenant: []string{"acme"}, path: "/tenants/globex/"}, noTenant},
		"both unknown, by an outsider":     {ask{token: "mallory", tenant: []string{"x"}, path: "/tenants/y/"}, noTenant},
		"id and slug, by an outsider":      {ask{token: "mallory", tenant: []string{"acme"}, path: "/tenants/t-acme/"}, noTenant},
		"the same twice, by an outsider":   {ask{token: "mallory", tenant: []string{"acme"}, path: "/tenants/acme/"}, outsider},
		"the same unknown, by an outsider": {ask{token: "mallory", tenant: []string{"x"}, path: "/tenants/x/"}, outsider},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.check(t, c.a.of(h))
		})
	}
}

func TestMiddlewareInATreeOfMiddlewares(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	other.cfg.Identity = nil // knows nobody
	outsider.check(t, ask{token: "alice:acme", tenant: []string{"acme"}}.of(w.wrap(other.guarded())))
	bound("acme").check(t, ask{token: "alice:acme"}.of(other.wrap(w.guarded())))
}

func TestMiddlewareAfterACancelledRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.guarded()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, ask{token: "alice", tenant: []string{"acme"}}.request().WithContext(ctx))
	unavailable.check(t, rec)
	// The next one is not held to it.
	bound("acme").check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h))
}

func TestMiddlewareDuringAnOutage(t *testing.T) {
	t.Parallel()
	var offset time.Duration
	start := time.Now()
	w := newWorld(t, func(c *tenancy.Config) { c.Now = func() time.Time { return start.Add(offset) } })
	h := w.guarded()
	w.down.Store(true)
	rec := ask{token: "alice", tenant: []string{"acme"}}.of(h)
	unavailable.check(t, rec)
	if rec.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", rec.Header().Get("Retry-After"))
	}
	if strings.Contains(rec.Body.String(), "10.9.8.7") {
		t.Errorf("the cause is shown: %s", rec.Body)
	}
	w.down.Store(false)
	bound("acme").check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h))
	w.down.Store(true)
	offset = 40 * time.Second // the membership has expired, its grace has not
	bound("acme").check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h))
	offset = 10 * time.Minute
	unavailable.check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h))
	unavailable.check(t, ask{token: "alice:acme"}.of(h))
}

func TestMiddlewareWithTenancyDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *tenancy.Config) { c.Disabled = true })
	for _, a := range []ask{{token: "alice:acme"}, {token: "mallory", tenant: []string{"acme"}}, {}} {
		outsider.check(t, a.of(w.guarded()))
		if got := a.of(w.wrap(tenanthttp.Public(whoami))).Body.String(); got != "nobody" {
			t.Errorf("public: %s", got)
		}
	}
	if lookups, members := w.calls(); lookups+members > 0 {
		t.Error("the catalogue was asked")
	}
}

func TestMiddlewareWhenTheIdentityCannotBeChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Identity = func(*http.Request) (tenancy.Identity, error) {
		return tenancy.Identity{}, fmt.Errorf("fetch keys: %w", tenancy.ErrUnavailable)
	}
	unavailable.check(t, ask{tenant: []string{"acme"}}.of(w.guarded()))
}

func TestMiddlewareMisuseStopsTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, misuse := range map[string]func(){
		"no tenancy":           func() { tenanthttp.Middleware(nil, tenanthttp.Config{}) },
		"middleware of nobody": func() { tenanthttp.Middleware(w.tn, tenanthttp.Config{})(nil) },
		"guard of nobody":      func() { tenanthttp.Guard(nil) },
		"public for nobody":    func() { tenanthttp.Public(nil) },
		"quote in the realm":   func() { tenanthttp.Middleware(w.tn, tenanthttp.Config{Realm: `a"b`}) },
		"line feed in a realm": func() { tenanthttp.Middleware(w.tn, tenanthttp.Config{Realm: "a\nb"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "tenanthttp.") {
					t.Errorf("panic: %v", p)
				}
			}()
			misuse()
		})
	}
}

func TestMiddlewareConcurrently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(w.guarded())
	defer server.Close()
	var group sync.WaitGroup
	for i := range 16 {
		user, slug := "alice", "acme"
		if i%2 == 1 {
			user, slug = "bob", "globex"
		}
		group.Go(func() {
			for range 50 {
				r, err := http.NewRequest(http.MethodGet, server.URL+"/tenants/"+slug+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer "+user)
				resp, err := server.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := fmt.Sprintf("%s by path for %q verified true", slug, user); string(body) != want {
					t.Errorf("got %s, want %s", body, want)
				}
			}
		})
	}
	group.Wait()
}

func TestContextDoesNotPrintCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, token := range []string{"alice:acme", "mallory"} {
		ask{token: token}.of(w.wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			if text := fmt.Sprintf("%v %+v", ctx, r.Context()); strings.Contains(text, token) {
				t.Errorf("the context prints as %s", text)
			}
		})))
	}
}

func captureLog(t *testing.T) *strings.Builder {
	t.Helper()
	var text strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&text, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &text
}
