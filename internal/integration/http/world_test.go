package http_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenanthttp"
)

// newTenancy returns a tenancy with acme (alice), globex (bob) and the suspended initech
// (dave), and its middleware, which takes a cookie or a bearer token for the user's name.
func newTenancy(t *testing.T) (*tenancy.Tenancy, func(http.Handler) http.Handler) {
	t.Helper()
	ctx := context.Background()
	store := memstore.New()
	for slug, user := range map[string]string{"acme": "alice", "globex": "bob", "initech": "dave"} {
		tenant := tenancy.Tenant{ID: "t-" + slug, Slug: slug, Name: slug, Status: tenancy.StatusActive}
		if slug == "initech" {
			tenant.Status = tenancy.StatusSuspended
		}
		if _, err := store.Create(ctx, tenant); err != nil {
			t.Fatal(err)
		}
		if err := store.SetMember(ctx, user, tenant.ID, tenancy.Member{}); err != nil {
			t.Fatal(err)
		}
	}
	tn, err := tenancy.New(tenancy.Config{
		Store:      store,
		Resolution: tenancy.ResolutionConfig{SubdomainPattern: "app.com"},
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tn, tenanthttp.Middleware(tn, tenanthttp.Config{Identity: func(r *http.Request) (tenancy.Identity, error) {
		if user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			return tenancy.Identity{UserID: user}, nil
		}
		if session, err := r.Cookie("session"); err == nil {
			return tenancy.Identity{UserID: session.Value}, nil
		}
		return tenancy.Identity{}, nil
	}})
}
