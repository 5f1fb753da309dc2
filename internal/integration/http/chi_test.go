package http_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

func TestChi(t *testing.T) {
	t.Parallel()
	_, bind := newTenancy(t)
	show := func(w http.ResponseWriter, r *http.Request) {
		b, _ := tenancy.FromContext(r.Context())
		fmt.Fprintf(w, "%s %t %s", b.Tenant.Slug, b.Verified, chi.URLParam(r, "id"))
	}
	r := chi.NewRouter()
	r.Use(middleware.Compress(5), middleware.Recoverer, bind)
	r.With(tenanthttp.Public).Get("/login", show)
	r.With(tenanthttp.Guard).Get("/notes/{id}", show)
	r.Route("/tenants/{tenant_id}", func(r chi.Router) {
		r.Use(tenanthttp.Guard)
		r.Get("/notes/{id}", show)
	})
	r.Group(func(r chi.Router) {
		r.Use(tenanthttp.Guard)
		r.Post("/notes", show)
	})
	r.Get("/health", show)

	for name, c := range map[string]struct {
		method, target, user, tenant string
		status                       int
		body                         string
	}{
		"public greets":                {"GET", "http://acme.app.com/login", "", "", 200, "acme false "},
		"guarded by subdomain":         {"GET", "http://acme.app.com/notes/7", "alice", "", 200, "acme true 7"},
		"guarded by path":              {"GET", "http://app.com/tenants/acme/notes/7", "alice", "", 200, "acme true 7"},
		"guarded by header, in groups": {"POST", "http://app.com/notes", "bob", "globex", 200, "globex true "},
		"outsider":                     {"GET", "http://app.com/tenants/acme/notes/7", "bob", "", 403, ""},
		"suspended":                    {"GET", "http://app.com/tenants/initech/notes/7", "dave", "", 403, ""},
		"two readings of a path":       {"GET", "http://app.com/tenants/acme/../globex/notes/7", "alice", "", 400, ""},
		"anonymous":                    {"GET", "http://app.com/notes/7", "", "", 401, ""},
		"without a guard":              {"GET", "http://acme.app.com/health", "", "", 200, " false "},
		"not found":                    {"GET", "http://acme.app.com/nothing", "alice", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequest(c.method, c.target, nil)
			req.Header.Set("Accept-Encoding", "gzip") // problem documents go through the compressor as they are
			if c.user != "" {
				req.Header.Set("Authorization", "Bearer "+c.user)
			}
			if c.tenant != "" {
				req.Header.Set("X-Tenant-ID", c.tenant)
			}
			rec := httptest.NewRecorder()
			r.ServeHTTP(rec, req)
			if rec.Code != c.status || c.body != "" && rec.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", rec.Code, rec.Body, c.status, c.body)
			}
		})
	}
}
