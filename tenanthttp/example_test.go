package tenanthttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenanthttp"
)

func Example() {
	ctx := context.Background()
	store := memstore.New()
	tn, err := tenancy.New(tenancy.Config{
		Store:      store,
		Resolution: tenancy.ResolutionConfig{SubdomainPattern: "app.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	acme, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme", Name: "ACME Corp"})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.SetMember(ctx, "alice", acme.ID, tenancy.Member{Roles: []string{"owner"}}); err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /login", tenanthttp.Public(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := tenancy.FromContext(r.Context()); ok {
			fmt.Fprintf(w, "Welcome to %s", b.Tenant.Name)
			return
		}
		fmt.Fprint(w, "Welcome")
	})))
	mux.Handle("GET /orders", tenanthttp.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := tenancy.Require(r.Context())
		if err != nil {
			tenanthttp.WriteError(w, r, err)
			return
		}
		fmt.Fprintf(w, "orders of %s for %s, %v", b.Tenant.Name, b.UserID, b.Roles)
	})))
	app := tenanthttp.Middleware(tn, tenanthttp.Config{
		// The application's own authentication has verified the user; package tenantjwt does
		// it for tokens.
		Identity: func(r *http.Request) (tenancy.Identity, error) {
			user, _, _ := r.BasicAuth()
			return tenancy.Identity{UserID: user}, nil
		},
	})(mux)

	for _, a := range []struct{ user, url string }{
		{"", "http://acme.app.com/login"},
		{"", "http://app.com/login"},
		{"alice", "http://acme.app.com/orders"},
		{"mallory", "http://acme.app.com/orders"},
		{"", "http://app.com/orders"},
	} {
		r := httptest.NewRequest(http.MethodGet, a.url, nil)
		if a.user != "" {
			r.SetBasicAuth(a.user, "secret")
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 200 Welcome to ACME Corp
	// 200 Welcome
	// 200 orders of ACME Corp for alice, [owner]
	// 403 {"type":"https://lexigram.dev/tenancy/problems/forbidden","title":"Forbidden","status":403,"detail":"There is no such tenant, or the caller may not use it.","code":"LEX_ERR_TENANT_001"}
	//
	// 401 {"type":"https://lexigram.dev/tenancy/problems/unauthenticated","title":"Authentication required","status":401,"detail":"The request carries no credentials and names no tenant.","code":"LEX_ERR_TENANT_005"}
}

func ExampleProblem() {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/notes/7", nil)
	tenanthttp.Problem{
		Type: "https://app.com/problems/note-not-found", Title: "Note not found", Status: http.StatusNotFound,
	}.Write(w, r)
	fmt.Println(w.Header().Get("Content-Type"), w.Body)
	// Output:
	// application/problem+json {"type":"https://app.com/problems/note-not-found","title":"Note not found","status":404}
}
