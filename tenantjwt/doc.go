// Package tenantjwt answers who sent a request, from a signed JSON Web Token: it verifies
// signature, algorithm, issuer, audience and times, and hands over the claims as a
// [tenancy.Identity].
//
//	verifier, err := tenantjwt.New(tenantjwt.Config{
//		Algorithms: []string{tenantjwt.RS256},
//		Keys:       map[string]any{"2026-01": publicKey},
//		Issuer:     "https://id.example.com/",
//		Audience:   []string{"https://app.example.com"},
//	})
//	// tenanthttp.Config{Identity: verifier.Identity}
//
// Everything that a token could choose for itself is fixed by the configuration: an
// algorithm that is not listed, a key of another kind, an unknown kid and the header
// parameters that bring a key along (jwk, jku, x5c, x5u) never lead to a key. A Verifier
// trusts one issuer, so that one issuer's key cannot speak for another; an application with
// several issuers makes one Verifier each.
//
// It does not fetch keys, start sessions or issue refresh tokens, and does not look at which
// tenant a claim names: that is the work of the resolver jwt_claim.
package tenantjwt
