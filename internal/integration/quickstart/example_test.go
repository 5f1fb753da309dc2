package quickstart_test

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenanthttp"
	"lexigram.dev/tenancy/tenantjwt"
	"lexigram.dev/tenancy/tenantpgx"
)

// The program of the README: it compiles, and readme_test.go compares the two.
func Example() {
	ctx := context.Background()
	catalogue := must(sql.Open("pgx", os.Getenv("CATALOGUE_URL")))
	// README begins
	store := must(sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.PostgreSQL}))
	db := must(isolation.Open(isolation.Config{Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
		App: must(tenantpgx.NewConnector(os.Getenv("APP_URL"))), // a role that row security holds back
		RLS: &isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{{Name: "orders"}}},
	}}}))
	tn := must(tenancy.New(tenancy.Config{Store: store})) // every zero value is the safe one
	check(db.Check(ctx))                                  // roles and policies; each problem names its remedy
	check(tn.Start(ctx))
	defer func() { check(tn.Stop(ctx)) }()

	tokens := must(tenantjwt.New(tenantjwt.Config{
		Algorithms: []string{tenantjwt.HS256}, Key: []byte(os.Getenv("JWT_SECRET")),
		Issuer: "https://login.app.com/", Audience: []string{"app"},
	}))
	mux := http.NewServeMux()
	mux.Handle("GET /orders", tenanthttp.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rows, err := db.QueryContext(r.Context(), "SELECT id, total FROM orders ORDER BY id") // no WHERE tenant_id
		render(w, r, rows, err)
	})))
	check(http.ListenAndServe(":8080", tenanthttp.Middleware(tn, tenanthttp.Config{Identity: tokens.Identity})(mux)))
	// README ends
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func render(w http.ResponseWriter, r *http.Request, rows *sql.Rows, err error) {
	if err != nil {
		tenanthttp.WriteError(w, r, err)
		return
	}
	check(rows.Close())
}
