package tenanthttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

// quietWriter is a writer that can be used again.
type quietWriter struct{ header http.Header }

func (w *quietWriter) Header() http.Header         { return w.header }
func (w *quietWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *quietWriter) WriteHeader(int)             {}

// bare stands for the application's handler.
var bare = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })

// bySource are requests of a member, one for each built-in resolver.
var bySource = []struct {
	name string
	a    ask
}{
	{"jwt_claim", ask{token: "alice:acme"}},
	{"header", ask{token: "alice", tenant: []string{"acme"}}},
	{"subdomain", ask{token: "alice", host: "acme.app.com:8080"}},
	{"path", ask{token: "alice", path: "/tenants/acme/notes"}},
}

// measured returns a function that sends one request through h, and through the middleware
// that knows the caller already: verifying signatures is not what is measured.
func measured(tb testing.TB, a ask, public bool) (guarded, plain func(), w *world) {
	tb.Helper()
	w = newWorld(tb)
	r := a.request()
	id, err := identityOf(r)
	if err != nil {
		tb.Fatal(err)
	}
	w.cfg.Identity = func(*http.Request) (tenancy.Identity, error) { return id, nil }
	gate := tenanthttp.Guard
	if public {
		gate = tenanthttp.Public
	}
	serve := func(h http.Handler) func() {
		rw := &quietWriter{header: http.Header{}}
		return func() {
			clear(rw.header)
			h.ServeHTTP(rw, r)
		}
	}
	if rec := (ask{}).of(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.wrap(gate(bare)).ServeHTTP(rw, r)
	})); rec.Code != http.StatusNoContent { // also fills the caches
		tb.Fatalf("status %d", rec.Code)
	}
	w.calls()
	return serve(w.wrap(gate(bare))), serve(bare), w
}

func TestMiddlewareAndGuardAllocateThriceAndAskNobody(t *testing.T) { // counts allocations: not parallel
	for _, source := range bySource {
		t.Run(source.name, func(t *testing.T) {
			guarded, plain, w := measured(t, source.a, false)
			if got := testing.AllocsPerRun(1000, guarded) - testing.AllocsPerRun(1000, plain); got > 3 {
				t.Errorf("%.0f allocations over a bare handler, want at most 3", got)
			}
			if lookups, members := w.calls(); lookups+members > 0 {
				t.Errorf("%d lookups and %d membership questions, want none", lookups, members)
			}
		})
	}
}

// BenchmarkMiddleware measures middleware and guard beside the same handler without them.
func BenchmarkMiddleware(b *testing.B) {
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	for i, source := range bySource {
		guarded, plain, _ := measured(b, source.a, false)
		if i == 0 {
			run("bare", plain)
		}
		run(source.name, guarded)
	}
	public, _, _ := measured(b, ask{host: "acme.app.com"}, true)
	run("public", public)
}

// BenchmarkRefusal measures what an outsider costs.
func BenchmarkRefusal(b *testing.B) {
	w := newWorld(b)
	h := w.guarded()
	r := ask{token: "mallory", host: "acme.app.com"}.request()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden {
		b.Fatal(rec.Code)
	}
	rw := &quietWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(rw.header)
		h.ServeHTTP(rw, r)
	}
}
