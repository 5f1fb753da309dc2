package tenantjwt

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims are what [SignHS256] writes into a token.
type Claims struct {
	// UserID is the user: the claim sub. Required.
	UserID string
	// Tenant is the tenant, by id or slug: the claim tenant_id. It is left out when empty.
	Tenant string
	// Issuer is the claim iss, left out when empty.
	Issuer string
	// Audience is the claim aud, left out when empty.
	Audience []string
	// ExpiresAt is the claim exp, in whole seconds. Required.
	ExpiresAt time.Time
	// NotBefore and IssuedAt are the claims nbf and iat, left out when zero.
	NotBefore, IssuedAt time.Time
	// KeyID is the kid of the header, left out when empty.
	KeyID string
	// Extra are further claims. They cannot replace the above.
	Extra map[string]any
}

// SignHS256 returns a token signed with a shared secret, for command lines, demonstrations
// and tests. It refuses an empty secret; a short one is for the [Verifier] to judge.
func SignHS256(secret []byte, c Claims) (string, error) {
	switch {
	case len(secret) == 0:
		return "", errors.New("sign token: the secret is empty")
	case c.UserID == "":
		return "", errors.New("sign token: Claims.UserID is empty")
	case c.ExpiresAt.IsZero():
		return "", errors.New("sign token: Claims.ExpiresAt is zero: a token must expire")
	}
	claims := jwt.MapClaims{"sub": c.UserID, "exp": c.ExpiresAt.Unix()}
	optional := func(name string, value any, present bool) {
		if present {
			claims[name] = value
		}
	}
	optional("tenant_id", c.Tenant, c.Tenant != "")
	optional("iss", c.Issuer, c.Issuer != "")
	optional("aud", c.Audience, len(c.Audience) > 0)
	optional("nbf", c.NotBefore.Unix(), !c.NotBefore.IsZero())
	optional("iat", c.IssuedAt.Unix(), !c.IssuedAt.IsZero())
	for name, value := range c.Extra {
		if _, taken := claims[name]; taken {
			return "", fmt.Errorf("sign token: Claims.Extra repeats %s", name)
		}
		claims[name] = value
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	if c.KeyID != "" {
		token.Header["kid"] = c.KeyID
	}
	signed, err := token.SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}
