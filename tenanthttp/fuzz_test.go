package tenanthttp_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

// FuzzMiddleware sends anything: it must not panic, bind only whom the fixtures allow and
// answer all others as the table says.
func FuzzMiddleware(f *testing.F) {
	f.Add("acme.app.com", "/", "", "", "alice", "acme.app.com", byte(0))
	f.Add("app.com:80", "/tenants/acme/notes", "acme", "", "alice:acme", "", byte(1))
	f.Add("[::1]", "/tenants/%2e%2e/acme", "acme\x00", "globex", "carol:t-globex", "a, b", byte(2))
	f.Add("www.app.com", "//tenants//x", "pg_catalog", "xn--a", "mallory", "\n", byte(3))
	f.Add("аcme.app.com", "/tenants/initech", "ACME", "acme", "dave:initech", "acme.app.com.", byte(4))
	f.Add("acme.app.com.", "*", "", "", "bad", "", byte(5))
	strict := newWorld(f, func(c *tenancy.Config) { c.Resolution.TrustedProxies = []string{"10.0.0.1"} })
	reject := newWorld(f, func(c *tenancy.Config) { c.Resolution.OnConflict = tenancy.Reject })
	f.Fuzz(func(t *testing.T, host, path, tenant, another, token, forwarded string, how byte) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		header := http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-Host": {forwarded}}
		if how&1 != 0 {
			header.Del("Authorization")
		}
		if tenant != "" {
			header.Add("X-Tenant-Id", tenant)
		}
		if another != "" {
			header.Add("X-Tenant-Id", another)
		}
		w, remote := strict, "10.0.0.1:1234"
		if how&2 != 0 {
			w = reject
		}
		if how&4 != 0 {
			remote = "192.0.2.1:1234"
		}
		method := []string{http.MethodGet, http.MethodHead, http.MethodPost}[int(how>>3)%3]
		r := &http.Request{Method: method, URL: u, Host: host, Header: header, RemoteAddr: remote}
		id, idErr := identityOf(r)
		claim, _ := id.Claims["tenant_id"].(string)
		reached := false
		h := w.wrap(tenanthttp.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			reached = true
			b, err := tenancy.Require(r.Context())
			if err != nil {
				t.Fatal("behind the guard:", err)
			}
			byClaim := claim != "" && tenancy.ByIDOrSlug(claim).Matches(b.Tenant)
			byMembership := id.UserID != "" && slices.Contains(membersOf[id.UserID], b.Tenant.Slug)
			if idErr != nil || !byClaim && !byMembership || states[b.Tenant.Slug] != tenancy.StatusActive {
				t.Fatalf("%q with claim %q is bound to %s by %s", id.UserID, claim, b.Tenant.Slug, b.Resolver)
			}
			if claim != "" && !byClaim {
				t.Fatalf("the claim %q did not win: %s by %s", claim, b.Tenant.Slug, b.Resolver)
			}
		})))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if reached {
			return
		}
		switch rec.Code {
		case 400, 401, 403:
		default:
			t.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
		if rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("Vary") == "" {
			t.Fatalf("headers %v", rec.Header())
		}
		if (rec.Body.Len() == 0) != (method == http.MethodHead) {
			t.Fatalf("%s with the body %q", method, rec.Body)
		}
	})
}
