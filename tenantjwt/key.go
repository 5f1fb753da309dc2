package tenantjwt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms that [Config.Algorithms] may list, by their names in RFC 7518 and RFC 8037.
const (
	HS256 = "HS256" // HMAC, a secret of at least 32 bytes
	HS384 = "HS384" // HMAC, a secret of at least 48 bytes
	HS512 = "HS512" // HMAC, a secret of at least 64 bytes
	RS256 = "RS256" // RSA PKCS #1 v1.5, an *rsa.PublicKey of at least 2048 bits
	RS384 = "RS384"
	RS512 = "RS512"
	PS256 = "PS256" // RSA PSS, an *rsa.PublicKey of at least 2048 bits
	PS384 = "PS384"
	PS512 = "PS512"
	ES256 = "ES256" // an *ecdsa.PublicKey on P-256
	ES384 = "ES384" // an *ecdsa.PublicKey on P-384
	ES512 = "ES512" // an *ecdsa.PublicKey on P-521
	EdDSA = "EdDSA" // an ed25519.PublicKey
)

// Algorithms returns the names of all algorithms that [Config.Algorithms] may list.
func Algorithms() []string {
	return []string{HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA}
}

// minSecret is the length in bytes below which RFC 7518 §3.2 forbids an HMAC secret.
var minSecret = map[string]int{HS256: 32, HS384: 48, HS512: 64}

// minRSA is the size in bits below which RFC 7518 §3.3 forbids an RSA key.
const minRSA = 2048

// ErrUnknownKey is what a [KeySource] returns for a kid that names none of its keys.
var ErrUnknownKey = errors.New("no key has the token's kid")

// KeySource answers the key that may verify a token. It is called concurrently.
type KeySource interface {
	// Key returns the key named kid for tokens signed with alg, one of the configured
	// algorithms: a []byte secret, an *rsa.PublicKey, an *ecdsa.PublicKey or an
	// ed25519.PublicKey. kid is "" when the token has none, and comes from whoever sent the
	// token: an unknown one must be answered with [ErrUnknownKey] at once, not by waiting for
	// a refresh of the keys. The key is checked against alg again, whatever the source says.
	Key(ctx context.Context, alg, kid string) (any, error)
}

// staticKeys are the keys of a Config: one for every token, or by kid.
type staticKeys struct {
	single any
	byID   map[string]any
}

func (k staticKeys) Key(_ context.Context, _, kid string) (any, error) {
	if k.byID == nil {
		return k.single, nil
	}
	key, ok := k.byID[kid]
	if !ok {
		return nil, ErrUnknownKey
	}
	return key, nil
}

// checkKey reports why key can never verify a token, whatever the algorithm, or nil.
func checkKey(key any) error {
	switch key := key.(type) {
	case []byte:
		if len(key) == 0 {
			return errors.New("the secret is empty: generate one, for example with openssl rand -base64 48")
		}
		if bytes.Contains(key, []byte("-----BEGIN ")) {
			return errors.New("the secret is a PEM file, which anybody may have: " +
				"parse it with x509.ParsePKIXPublicKey and list an RS, PS, ES or EdDSA algorithm")
		}
	case *rsa.PublicKey:
		if key == nil || key.N == nil {
			return errors.New("the *rsa.PublicKey is nil")
		}
		if bits := key.N.BitLen(); bits < minRSA {
			return fmt.Errorf("the RSA key has %d bits: use one of at least %d", bits, minRSA)
		}
		if key.E < 3 || key.E%2 == 0 {
			return fmt.Errorf("the RSA key's exponent %d is not usable: use 65537", key.E)
		}
	case *ecdsa.PublicKey:
		if key == nil || key.Curve == nil {
			return errors.New("the *ecdsa.PublicKey is nil")
		}
		if _, err := key.ECDH(); err != nil {
			return fmt.Errorf("the *ecdsa.PublicKey is not valid: %w", err)
		}
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("the ed25519.PublicKey has %d bytes: it must have %d", len(key), ed25519.PublicKeySize)
		}
	case nil:
		return errors.New("the key is nil")
	case string:
		return errors.New("the key is a string: give a secret as []byte, and parse a PEM with x509.ParsePKIXPublicKey")
	case crypto.Signer:
		return fmt.Errorf("the key is private (%T): give its public half, key.Public()", key)
	default:
		return fmt.Errorf("a key cannot be a %T: give []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey", key)
	}
	return nil
}

// fits reports why alg may not use key, or nil. It is what makes it impossible to verify an
// HMAC with the bytes of a public key: each algorithm takes one Go type only.
func fits(alg string, key any, shortSecret bool) error {
	kind := errors.New("the key is of another kind than the algorithm " + alg + " needs")
	switch {
	case strings.HasPrefix(alg, "HS"):
		secret, ok := key.([]byte)
		if !ok {
			return kind
		}
		if n := minSecret[alg]; len(secret) < n && !shortSecret {
			return fmt.Errorf("the secret has %d bytes, %s needs at least %d: "+
				"generate one, for example with openssl rand -base64 %d", len(secret), alg, n, n)
		}
	case strings.HasPrefix(alg, "RS"), strings.HasPrefix(alg, "PS"):
		if _, ok := key.(*rsa.PublicKey); !ok {
			return kind
		}
	case strings.HasPrefix(alg, "ES"):
		public, ok := key.(*ecdsa.PublicKey)
		if !ok {
			return kind
		}
		method, ok := jwt.GetSigningMethod(alg).(*jwt.SigningMethodECDSA)
		if !ok || public.Params().BitSize != method.CurveBits {
			return fmt.Errorf("the key's curve %s is not the one of %s", public.Params().Name, alg)
		}
	case alg == EdDSA:
		if _, ok := key.(ed25519.PublicKey); !ok {
			return kind
		}
	default:
		return errors.New("the algorithm is not known")
	}
	return nil
}

// secretCopy returns key, a secret as a copy.
func secretCopy(key any) any {
	if secret, ok := key.([]byte); ok {
		return slices.Clone(secret)
	}
	return key
}
