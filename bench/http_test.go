package bench_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenancytest"
	"lexigram.dev/tenancy/tenanthttp"
)

// counted counts the questions to a catalogue.
type counted struct {
	*memstore.Store
	calls atomic.Int64
}

func (c *counted) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	c.calls.Add(1)
	return c.Store.Lookup(ctx, ref)
}

func (c *counted) Member(ctx context.Context, userID, tenantID string) (tenancy.Member, error) {
	c.calls.Add(1)
	return c.Store.Member(ctx, userID, tenantID)
}

var contentType = []string{"text/plain"}

// discard is a response that nobody reads.
type discard struct{ header http.Header }

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (w *discard) WriteHeader(int)             {}

// BenchmarkMiddleware is middleware and guard in front of a handler, against the handler alone.
// The tenant and the membership are cached; signatures are verified before, by others.
func BenchmarkMiddleware(b *testing.B) {
	alice := tenancy.Identity{UserID: "alice"}
	claimed := tenancy.Identity{UserID: "alice", Claims: map[string]any{"sub": "alice", "tenant_id": "acme"}}
	for _, source := range []struct {
		resolver string
		url      string
		header   string
		identity tenancy.Identity
	}{
		{tenancy.ResolverJWTClaim, "http://app.com/notes", "", claimed},
		{tenancy.ResolverHeader, "http://app.com/notes", "acme", alice},
		{tenancy.ResolverSubdomain, "http://acme.app.com/notes", "", alice},
		{tenancy.ResolverPath, "http://app.com/tenants/acme/notes", "", alice},
	} {
		b.Run(source.resolver, func(b *testing.B) {
			store := &counted{Store: memstore.New()}
			tn := tenancytest.New(b, func(cfg *tenancy.Config) {
				cfg.Store = store
				cfg.Resolution.SubdomainPattern = "app.com"
				// No reload within a run.
				cfg.Resolution.ValidatorCacheTTL, cfg.Resolution.MembershipCacheTTL = time.Hour, time.Hour
				cfg.Resolution.PollInterval = -1
			})
			tenancytest.AddMember(b, tn, "alice", "acme", "admin")
			bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = contentType // so that both sides clear a header that is not empty
				w.WriteHeader(http.StatusNoContent)
			})
			wrapped := tenanthttp.Middleware(tn, tenanthttp.Config{
				Identity: func(*http.Request) (tenancy.Identity, error) { return source.identity, nil },
			})(tenanthttp.Guard(bare))
			r := httptest.NewRequest(http.MethodGet, source.url, http.NoBody)
			r.Header.Set("Authorization", "Bearer token")
			if source.header != "" {
				r.Header.Set("X-Tenant-Id", source.header)
			}
			rec := httptest.NewRecorder()
			if wrapped.ServeHTTP(rec, r); rec.Code != http.StatusNoContent {
				b.Fatalf("status %d: %s", rec.Code, rec.Body)
			}
			w := &discard{header: http.Header{}}
			serve := func(h http.Handler) func() error {
				return func() error {
					clear(w.header)
					h.ServeHTTP(w, r)
					return nil
				}
			}
			compare(b, map[string]float64{"added-cpu-ns": 300, "added-allocs": 3, "store-calls/op": 0},
				side{op: serve(bare)},
				side{op: serve(wrapped), measured: perOp("store-calls/op", store.calls.Load)},
			)
		})
	}
}

// BenchmarkMiddlewareByHand is the least that a middleware of one's own does: read the header, look
// up tenant and member in maps that nobody writes to, put them into the context, say Vary. It is
// what the numbers of [BenchmarkMiddleware] are to be read against.
func BenchmarkMiddlewareByHand(b *testing.B) {
	type tenantKey struct{}
	tenants := map[string]*tenancy.Tenant{"acme": {ID: "1", Slug: "acme", Status: tenancy.StatusActive}}
	members := map[[2]string]*tenancy.Member{{"alice", "1"}: {Roles: []string{"admin"}}}
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = contentType
		w.WriteHeader(http.StatusNoContent)
	})
	next := []http.Handler{bare} // out of the compiler's sight, as a router's handlers are
	wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := tenants[r.Header.Get("X-Tenant-Id")]
		if t == nil || members[[2]string{"alice", t.ID}] == nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Add("Vary", "X-Tenant-Id")
		next[0].ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, t)))
	})
	r := httptest.NewRequest(http.MethodGet, "http://app.com/notes", http.NoBody)
	r.Header.Set("X-Tenant-Id", "acme")
	w := &discard{header: http.Header{}}
	serve := func(h http.Handler) func() error {
		return func() error {
			clear(w.header)
			h.ServeHTTP(w, r)
			return nil
		}
	}
	compare(b, nil, side{op: serve(bare)}, side{op: serve(wrapped)})
}
