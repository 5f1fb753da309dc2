package tenantjwt_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"lexigram.dev/tenancy/tenantjwt"
)

// The verifier's method Identity is what tenanthttp.Config.Identity asks for.
func ExampleVerifier_Identity() {
	secret := []byte("keep-this-out-of-your-repository-please")
	verifier, err := tenantjwt.New(tenantjwt.Config{
		Algorithms: []string{tenantjwt.HS256},
		Key:        secret,
		Issuer:     "https://id.example.com/",
		Audience:   []string{"https://app.example.com"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := tenantjwt.SignHS256(secret, tenantjwt.Claims{
		UserID: "alice", Tenant: "acme", Issuer: "https://id.example.com/",
		Audience: []string{"https://app.example.com"}, ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	r := httptest.NewRequest(http.MethodGet, "/notes", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	id, err := verifier.Identity(r)
	fmt.Println(id.UserID, id.Claims["tenant_id"], err)
	// Output: alice acme <nil>
}
