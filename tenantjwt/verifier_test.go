package tenantjwt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantjwt"
)

var (
	now    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secret = []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
	testTime = func() time.Time { return now }
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// claims returns the claims of a good token, changed by change.
func claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "alice", "iss": "https://id.test/", "aud": "app", "exp": now.Add(time.Hour).Unix(), "tenant_id": "acme"}
	for name, value := range change {
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
	}
	return c
}

func sign(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, header)
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// raw returns an HS256 token of exactly these two JSON texts.
func raw(header, payload string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func config() tenantjwt.Config {
	return tenantjwt.Config{
		Algorithms: []string{tenantjwt.HS256}, Key: secret,
		Issuer: "https://id.test/", Audience: []string{"app", "app-v2"}, Now: testTime,
	}
}

func verifier(t testing.TB, change func(*tenantjwt.Config)) *tenantjwt.Verifier {
	t.Helper()
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	v, err := tenantjwt.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refused checks that token identifies nobody, for the reason given, without quoting it.
func refused(t *testing.T, v *tenantjwt.Verifier, token, reason string) {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	if !errors.Is(err, tenancy.ErrUnauthenticated) {
		t.Fatalf("Verify = %+v, %v; want an error that wraps ErrUnauthenticated", id, err)
	}
	if !id.Anonymous() || id.Claims != nil {
		t.Errorf("a refused token identifies %+v", id)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("reason %q does not say %q", err, reason)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 4 && strings.Contains(err.Error(), part) {
			t.Errorf("reason %q quotes the token", err)
		}
	}
}

func accepted(t *testing.T, v *tenantjwt.Verifier, token string) tenancy.Identity {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if id.UserID != "alice" {
		t.Errorf("user = %q, want alice", id.UserID)
	}
	return id
}

func TestVerifyHandsOverTheClaims(t *testing.T) {
	t.Parallel()
	id := accepted(t, verifier(t, nil), sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"org": 9007199254740993})))
	if id.Issuer != "https://id.test/" || id.Claims["tenant_id"] != "acme" {
		t.Errorf("identity = %+v", id)
	}
	if id.Claims["org"] != json.Number("9007199254740993") {
		t.Errorf("number = %#v, want every digit", id.Claims["org"])
	}
}

func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	keys := map[string]struct{ private, public any }{
		"HS256": {secret, secret}, "HS384": {secret, secret}, "HS512": {secret, secret},
		"RS256": {rsaKey(), &rsaKey().PublicKey}, "RS384": {rsaKey(), &rsaKey().PublicKey}, "RS512": {rsaKey(), &rsaKey().PublicKey},
		"PS256": {rsaKey(), &rsaKey().PublicKey}, "PS384": {rsaKey(), &rsaKey().PublicKey}, "PS512": {rsaKey(), &rsaKey().PublicKey},
		"ES256": {ecKey(), &ecKey().PublicKey}, "ES384": {p384, &p384.PublicKey}, "ES512": {p521, &p521.PublicKey},
		"EdDSA": {edKey(), edKey().Public()},
	}
	for _, alg := range tenantjwt.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, func(c *tenantjwt.Config) { c.Algorithms, c.Key = []string{alg}, keys[alg].public })
			token := sign(t, jwt.GetSigningMethod(alg), keys[alg].private, nil, claims(nil))
			accepted(t, v, token)
			header, rest, _ := strings.Cut(token, ".")
			_, signature, _ := strings.Cut(rest, ".")
			payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"alice","iss":"https://id.test/","aud":"app","exp":1803988800,"tenant_id":"globex"}`))
			refused(t, v, header+"."+payload+"."+signature, "signature does not match")
			refused(t, v, strings.TrimSuffix(token, signature), "signature does not match")
		})
	}
}

func TestB12NoneIsNoAlgorithm(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	payload := base64.RawURLEncoding.EncodeToString(must(json.Marshal(claims(nil))))
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None"}`, `{"alg":"NONE"}`, `{"alg":"nOnE","typ":"JWT"}`, `{"alg":""}`, `{"alg":" none"}`,
		`{}`, `{"alg":null}`, `{"alg":["none"]}`, `{"alg":0}`, `{"ALG":"HS256"}`,
	} {
		for _, signature := range []string{"", "AAAA"} {
			refused(t, v, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+payload+"."+signature, "algorithm is not one of the allowed")
		}
	}
	for _, alg := range []string{"none", "None", "", "HS255", "hs256"} {
		cfg := config()
		cfg.Algorithms = []string{tenantjwt.HS256, alg}
		if _, err := tenantjwt.New(cfg); err == nil {
			t.Errorf("New allows the algorithm %q", alg)
		}
	}
}

func TestB12AlgorithmOutsideTheList(t *testing.T) {
	t.Parallel()
	refused(t, verifier(t, nil), sign(t, jwt.SigningMethodHS512, secret, nil, claims(nil)), "algorithm is not one of the allowed")
}

// The forger signs an HMAC with what everybody knows: the public key, in any encoding.
func TestB12KeyConfusion(t *testing.T) {
	t.Parallel()
	public := &rsaKey().PublicKey
	der := must(x509.MarshalPKIXPublicKey(public))
	forgeries := map[string][]byte{
		"pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "der": der,
		"pkcs1": x509.MarshalPKCS1PublicKey(public), "modulus": public.N.Bytes(),
	}
	onlyRSA := verifier(t, func(c *tenantjwt.Config) { c.Algorithms, c.Key = []string{tenantjwt.RS256}, public })
	both := verifier(t, func(c *tenantjwt.Config) {
		c.Algorithms, c.Key = []string{tenantjwt.RS256, tenantjwt.HS256}, nil
		c.Keys = map[string]any{"rsa": public, "hmac": secret}
	})
	for name, forged := range forgeries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := sign(t, jwt.SigningMethodHS256, forged, map[string]any{"kid": "rsa"}, claims(nil))
			refused(t, onlyRSA, token, "algorithm is not one of the allowed")
			refused(t, both, token, "the key is of another kind")
		})
	}
	refused(t, both, sign(t, jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": "hmac"}, claims(nil)), "the key is of another kind")

	cfg := config()
	cfg.Key = forgeries["pem"]
	if _, err := tenantjwt.New(cfg); err == nil || !strings.Contains(err.Error(), "is a PEM file") {
		t.Errorf("New with a PEM file as secret: %v", err)
	}
}

// anyKey answers whatever key it holds, as a careless KeySource would.
type anyKey struct{ key any }

func (k anyKey) Key(context.Context, string, string) (any, error) { return k.key, nil }

func TestB12KeyOfAnotherKind(t *testing.T) {
	t.Parallel()
	weak := must(rsa.GenerateKey(rand.Reader, 2048)).PublicKey
	weak.N = weak.N.Rsh(weak.N, 1100)
	for name, test := range map[string]struct {
		key    any
		reason string
	}{
		"none":            {nil, "the key is nil"},
		"text":            {string(secret), "the key is a string"},
		"empty secret":    {[]byte{}, "the secret is empty"},
		"short secret":    {secret[:31], "the secret has 31 bytes, HS256 needs at least 32"},
		"RSA":             {&rsaKey().PublicKey, "the key is of another kind"},
		"weak RSA":        {&weak, "use one of at least 2048"},
		"private":         {rsaKey(), "the key is private"},
		"ECDSA":           {&ecKey().PublicKey, "the key is of another kind"},
		"Ed25519":         {edKey().Public(), "the key is of another kind"},
		"Ed25519 private": {edKey(), "the key is private"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, func(c *tenantjwt.Config) { c.Key, c.KeySource = nil, anyKey{test.key} })
			refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil)), test.reason)
			cfg := config()
			if cfg.Key = test.key; cfg.Key == nil {
				return
			}
			if _, err := tenantjwt.New(cfg); err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("New = %v, want %q", err, test.reason)
			}
		})
	}
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	v := verifier(t, func(c *tenantjwt.Config) {
		c.Algorithms, c.Key, c.KeySource = []string{tenantjwt.ES256}, nil, anyKey{&p384.PublicKey}
	})
	refused(t, v, sign(t, jwt.SigningMethodES256, ecKey(), nil, claims(nil)), "curve")
}

func TestB12Issuer(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, iss := range []any{nil, "", "https://id.test", "https://evil.test/", 7, []string{"https://id.test/"}} {
		refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"iss": iss})), "iss")
	}
	lax := verifier(t, func(c *tenantjwt.Config) { c.Issuer, c.AnyIssuer = "", true })
	if id := accepted(t, lax, sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil))); id.Issuer != "https://id.test/" {
		t.Errorf("issuer = %q", id.Issuer)
	}
	accepted(t, lax, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"iss": nil})))
}

// A customer's own identity provider has a valid key, but for its own issuer only.
func TestB16AnIssuerSpeaksForItself(t *testing.T) {
	t.Parallel()
	ours := verifier(t, func(c *tenantjwt.Config) {
		c.Algorithms, c.Key = []string{tenantjwt.RS256}, &rsaKey().PublicKey
	})
	theirs := must(rsa.GenerateKey(rand.Reader, 2048))
	customer := verifier(t, func(c *tenantjwt.Config) {
		c.Algorithms, c.Key, c.Issuer = []string{tenantjwt.RS256}, &theirs.PublicKey, "https://id.globex.test/"
	})
	forged := sign(t, jwt.SigningMethodRS256, theirs, nil, claims(nil))
	refused(t, ours, forged, "signature does not match")
	refused(t, customer, forged, "issuer")
}

func TestB12Audience(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, aud := range []any{nil, "", "other", []string{}, []string{"other"}, 7} {
		refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"aud": aud})), "aud")
	}
	for _, aud := range []any{"app-v2", []string{"other", "app"}} {
		accepted(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"aud": aud})))
	}
	accepted(t, verifier(t, func(c *tenantjwt.Config) { c.Audience, c.AnyAudience = nil, true }),
		sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"aud": "other"})))
}

func TestB12Expired(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) string {
		return sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"exp": now.Add(d).Unix()}))
	}
	for leeway, allowed := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Minute: time.Minute, -1: 0} {
		v := verifier(t, func(c *tenantjwt.Config) { c.Leeway = leeway })
		accepted(t, v, at(-allowed+time.Second))
		refused(t, v, at(-allowed), "expired")
	}
}

func TestB12WithoutExpiry(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"exp": nil})), "exp")
	for _, exp := range []any{"never", true, -1, 0, 1e300, json.Number("1e999"), json.Number("99999999999999999999"), map[string]any{}} {
		refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"exp": exp})), "")
	}
	refused(t, v, raw(`{"alg":"HS256"}`, `{"sub":"alice","iss":"https://id.test/","aud":"app","exp":null}`), "exp is not a number")
}

func TestB12NotYetValid(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, name := range []string{"nbf", "iat"} {
		at := func(d time.Duration) string {
			return sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{name: now.Add(d).Unix()}))
		}
		accepted(t, v, at(30*time.Second))
		refused(t, v, at(31*time.Second), "token")
		refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{name: "soon"})), name+" is not a number")
	}
}

func TestB12UnknownKidIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *tenantjwt.Config) { c.Key, c.Keys = nil, map[string]any{"k1": secret} })
	accepted(t, v, sign(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": "k1"}, claims(nil)))
	for _, kid := range []any{"k2", "K1", "", "../../dev/null", "' OR 1=1", strings.Repeat("k", 5000)} {
		token := sign(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": kid}, claims(nil))
		refused(t, v, token, tenantjwt.ErrUnknownKey.Error())
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, tenantjwt.ErrUnknownKey) {
			t.Errorf("kid %v: %v", kid, err)
		}
	}
	refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil)), tenantjwt.ErrUnknownKey.Error())
	refused(t, v, sign(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": 1}, claims(nil)), "kid is not a string")
}

// A token may bring its own key, or say where to get it; both must be of no effect.
func TestB12KeysInTheHeaderAreIgnored(t *testing.T) {
	t.Parallel()
	own := []byte("the forger's own secret, which is long enough")
	v := verifier(t, nil)
	for name, value := range map[string]any{
		"jwk": map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(own)},
		"jku": "https://evil.test/keys", "x5u": "https://evil.test/cert", "x5c": []string{"MIIB"},
	} {
		refused(t, v, sign(t, jwt.SigningMethodHS256, own, map[string]any{name: value}, claims(nil)), "signature does not match")
	}
}

func TestB12CriticalExtensions(t *testing.T) {
	t.Parallel()
	for _, crit := range []any{[]string{"b64"}, []string{}, "exp", false} {
		refused(t, verifier(t, nil), sign(t, jwt.SigningMethodHS256, secret, map[string]any{"crit": crit, "b64": false}, claims(nil)), "crit")
	}
}

func TestB12TwoReadings(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	const payload = `{"sub":"alice","iss":"https://id.test/","aud":"app","exp":1803988800`
	accepted(t, v, raw(`{"alg":"HS256"}`, payload+`}`))
	for name, token := range map[string]string{
		"a claim twice":         raw(`{"alg":"HS256"}`, payload+`,"tenant_id":"acme","tenant_id":"globex"}`),
		"escaped":               raw(`{"alg":"HS256"}`, payload+`,"\u0073ub":"bob"}`),
		"a nested name twice":   raw(`{"alg":"HS256"}`, payload+`,"app":{"tenant":"acme","tenant":"globex"}}`),
		"a header twice":        raw(`{"alg":"none","alg":"HS256"}`, payload+`}`),
		"two objects":           raw(`{"alg":"HS256"}`, payload+`}{"sub":"bob"}`),
		"trailing text":         raw(`{"alg":"HS256"}`, payload+`} x`),
		"not UTF-8":             raw(`{"alg":"HS256"}`, payload+",\"x\":\"\xff\"}"),
		"an array":              raw(`{"alg":"HS256"}`, `[`+payload+`}]`),
		"null":                  raw(`{"alg":"HS256"}`, `null`),
		"cut off":               raw(`{"alg":"HS256"}`, payload),
		"nested without end":    raw(`{"alg":"HS256"}`, payload+`,"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`),
		"an empty payload":      raw(`{"alg":"HS256"}`, ``),
		"padding":               raw(`{"alg":"HS256"}`, payload+`}`) + "=",
		"four parts":            raw(`{"alg":"HS256"}`, payload+`}`) + ".x",
		"five parts (JWE)":      "a.b.c.d.e",
		"one part":              "abc",
		"nothing":               "",
		"a space":               raw(`{"alg":"HS256"}`, payload+`}`) + " ",
		"base64 with loose end": looseEnd(raw(`{"alg":"HS256"}`, payload+`}`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, v, token, "token refused")
		})
	}
}

// looseEnd changes the unused bits at the end of a signature of 32 bytes.
func looseEnd(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + alphabet[last+1:last+2]
}

func TestB12UserIsRequired(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, sub := range []any{nil, "", "  ", 42, []string{"alice"}} {
		refused(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"sub": sub})), "")
	}
	byEmail := verifier(t, func(c *tenantjwt.Config) { c.UserClaim = "email" })
	refused(t, byEmail, sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil)), "claim email names no user")
	accepted(t, byEmail, sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"email": "alice", "sub": "u1"})))
}

func TestHugeTokenIsNotLookedAt(t *testing.T) {
	t.Parallel()
	token := sign(t, jwt.SigningMethodHS256, secret, nil, claims(map[string]any{"x": strings.Repeat("x", 16<<10)}))
	refused(t, verifier(t, nil), token, "more than the 16384 allowed")
	accepted(t, verifier(t, func(c *tenantjwt.Config) { c.MaxBytes = len(token) }), token)
}

func TestShortSecretNeedsItsName(t *testing.T) {
	t.Parallel()
	short := []byte("dev")
	token := must(tenantjwt.SignHS256(short, tenantjwt.Claims{UserID: "alice", ExpiresAt: now.Add(time.Hour)}))
	cfg := tenantjwt.Config{Algorithms: []string{tenantjwt.HS256}, Key: short, AnyIssuer: true, AnyAudience: true, Now: testTime}
	if _, err := tenantjwt.New(cfg); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("New with 3 bytes: %v", err)
	}
	cfg.UnsafeShortSecret = true
	accepted(t, must(tenantjwt.New(cfg)), token)
	cfg.Key = []byte{}
	if _, err := tenantjwt.New(cfg); err == nil {
		t.Error("New accepts an empty secret")
	}
}

func TestNewCopiesTheConfiguration(t *testing.T) {
	t.Parallel()
	cfg := config()
	mine := append([]byte(nil), secret...)
	cfg.Key = mine
	v := must(tenantjwt.New(cfg))
	clear(mine)
	cfg.Audience[0], cfg.Algorithms[0] = "x", "none"
	accepted(t, v, sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil)))
}

func TestNewReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, err := tenantjwt.New(tenantjwt.Config{
		Algorithms: []string{"none", tenantjwt.RS256, tenantjwt.HS256}, Keys: map[string]any{"": secret, "x": 7},
		Leeway: time.Hour, MaxBytes: -1, AllowedOrigins: []string{"app.test/"}, Cookie: "a b", WebSocketProtocolPrefix: "bearer ",
	})
	for _, want := range []string{
		`"none" cannot be used`, "a kid is empty", "cannot be a int", "Issuer: is empty", "Audience: is empty",
		"1h0m0s is too much", "MaxBytes: -1", `"app.test/" is not an origin`, `"a b" is not the name`, `"bearer " has characters`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems lack %q:\n%v", want, err)
		}
	}
	if tenancy.CodeOf(err) != tenancy.CodeConfig {
		t.Errorf("code = %q", tenancy.CodeOf(err))
	}
	for name, change := range map[string]func(*tenantjwt.Config){
		"no key":                func(c *tenantjwt.Config) { c.Key = nil },
		"no keys":               func(c *tenantjwt.Config) { c.Key, c.Keys = nil, map[string]any{} },
		"two sources of keys":   func(c *tenantjwt.Config) { c.KeySource = anyKey{} },
		"key and keys":          func(c *tenantjwt.Config) { c.Keys = map[string]any{"a": secret} },
		"algorithm fits no key": func(c *tenantjwt.Config) { c.Algorithms = append(c.Algorithms, tenantjwt.RS256) },
		"issuer and any":        func(c *tenantjwt.Config) { c.AnyIssuer = true },
		"audience and any":      func(c *tenantjwt.Config) { c.AnyAudience = true },
		"empty audience":        func(c *tenantjwt.Config) { c.Audience = []string{""} },
		"no algorithm":          func(c *tenantjwt.Config) { c.Algorithms = nil },
	} {
		cfg := config()
		change(&cfg)
		if _, err := tenantjwt.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSourceOfKeysFails(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *tenantjwt.Config) { c.Key, c.KeySource = nil, failing{} })
	_, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secret, nil, claims(nil)))
	if !errors.Is(err, tenancy.ErrUnauthenticated) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

type failing struct{}

func (failing) Key(context.Context, string, string) (any, error) {
	return nil, fmt.Errorf("fetch keys: %w", context.DeadlineExceeded)
}

func TestSignHS256(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *tenantjwt.Config) { c.Key, c.Keys = nil, map[string]any{"k": secret} })
	id := accepted(t, v, must(tenantjwt.SignHS256(secret, tenantjwt.Claims{
		UserID: "alice", Tenant: "acme", Issuer: "https://id.test/", Audience: []string{"app"}, KeyID: "k",
		ExpiresAt: now.Add(time.Minute), NotBefore: now, IssuedAt: now, Extra: map[string]any{"role": "admin"},
	})))
	if id.Claims["tenant_id"] != "acme" || id.Claims["role"] != "admin" {
		t.Errorf("claims = %v", id.Claims)
	}
	for name, c := range map[string]tenantjwt.Claims{
		"no user":    {ExpiresAt: now},
		"no expiry":  {UserID: "alice"},
		"repetition": {UserID: "alice", ExpiresAt: now, Extra: map[string]any{"sub": "bob"}},
	} {
		if _, err := tenantjwt.SignHS256(secret, c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := tenantjwt.SignHS256(nil, tenantjwt.Claims{UserID: "alice", ExpiresAt: now}); err == nil {
		t.Error("an empty secret signs")
	}
}

func FuzzVerify(f *testing.F) {
	v := verifier(f, nil)
	f.Add(sign(f, jwt.SigningMethodHS256, secret, nil, claims(nil)))
	f.Add(raw(`{"alg":"HS256","kid":"x"}`, `{"sub":"a"}`))
	f.Add("a.b.c")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), token)
		if err != nil && (!errors.Is(err, tenancy.ErrUnauthenticated) || id.UserID != "" || id.Claims != nil) {
			t.Fatalf("Verify = %+v, %v", id, err)
		}
		if err == nil && id.UserID != "alice" {
			t.Fatalf("a forged token identifies %+v", id)
		}
	})
}

// FuzzSignedClaims goes past the signature, which FuzzVerify cannot forge.
func FuzzSignedClaims(f *testing.F) {
	v := verifier(f, nil)
	f.Add(`{"alg":"HS256"}`, string(must(json.Marshal(claims(nil)))))
	f.Add(`{"alg":"HS256","crit":[]}`, `{"sub":"a","exp":1e9}`)
	f.Add(`{"alg":"HS256","kid":7}`, `{"exp":null,"nbf":[],"iat":"x","aud":[1]}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		id, err := v.Verify(t.Context(), raw(header, payload))
		if err != nil {
			if !errors.Is(err, tenancy.ErrUnauthenticated) {
				t.Fatal(err)
			}
			return
		}
		var c map[string]any
		if json.Unmarshal([]byte(payload), &c) != nil || c["sub"] != id.UserID || id.UserID == "" || c["iss"] != "https://id.test/" {
			t.Fatalf("%s identifies %+v", payload, id)
		}
	})
}
