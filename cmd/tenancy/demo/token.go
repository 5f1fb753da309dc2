package demo

import (
	"time"

	"lexigram.dev/tenancy/tenantjwt"
)

// tokenTTL is how long the tokens are good that the demo prints.
const tokenTTL = 24 * time.Hour

// Token returns an HS256 token of the form that the demo accepts, for the user and, unless
// tenant is empty, with the tenant's id or slug as the claim tenant_id.
func Token(secret, user, tenant string, expires time.Time) (string, error) {
	return tenantjwt.SignHS256([]byte(secret), tenantjwt.Claims{UserID: user, Tenant: tenant, ExpiresAt: expires})
}

// newVerifier accepts what [Token] signs. A fixed secret may be short: this is a demo.
func newVerifier(secret string) (*tenantjwt.Verifier, error) {
	return tenantjwt.New(tenantjwt.Config{
		Algorithms:        []string{tenantjwt.HS256},
		Key:               []byte(secret),
		UnsafeShortSecret: true,
		AnyIssuer:         true,
		AnyAudience:       true,
		// A browser cannot set a header on a WebSocket: it offers the token as a subprotocol,
		// beside the one that is selected.
		WebSocketProtocolPrefix: "bearer.",
	})
}
