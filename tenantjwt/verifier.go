package tenantjwt

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lexigram.dev/tenancy"
)

const (
	defaultLeeway   = 30 * time.Second
	maxLeeway       = 5 * time.Minute
	defaultMaxBytes = 16 << 10
	// maxDate is the last second of the year 9999, beyond which a date is a mistake.
	maxDate = 253402300799
)

// Config says which tokens a [Verifier] believes. Algorithms, one of Key, Keys and KeySource,
// Issuer and Audience are required; the last two can be waived by AnyIssuer and AnyAudience.
type Config struct {
	// Algorithms are the algorithms that a token may be signed with. Required; see
	// [Algorithms]. Each must fit at least one key.
	Algorithms []string

	// Key verifies every token, whatever its kid: a []byte secret, an *rsa.PublicKey, an
	// *ecdsa.PublicKey or an ed25519.PublicKey.
	Key any
	// Keys are keys by kid. A token without a kid, or with another, is refused.
	Keys map[string]any
	// KeySource looks keys up by kid.
	KeySource KeySource
	// UnsafeShortSecret accepts HMAC secrets that are short enough to be guessed offline by
	// whoever has one token. An empty secret is refused all the same.
	UnsafeShortSecret bool

	// Issuer is the iss that tokens must carry.
	Issuer string
	// AnyIssuer leaves iss unchecked: whoever signs with the key may write any issuer.
	AnyIssuer bool
	// Audience are the recipients that this application is known as; a token must name at
	// least one in its aud.
	Audience []string
	// AnyAudience leaves aud unchecked: a token made for another application of the same
	// issuer is believed here too.
	AnyAudience bool
	// UserClaim is the claim, a non-empty string, that names the user. Defaults to sub.
	UserClaim string
	// Leeway is how far the clocks of issuer and application may differ. Defaults to 30 s; at
	// most 5 minutes; a negative one means none.
	Leeway time.Duration
	// MaxBytes is the length of the longest token that is looked at. Defaults to 16 KiB.
	MaxBytes int
	// Now is the clock. Defaults to the system's.
	Now func() time.Time

	// Cookie is the name of a cookie that may carry the token. Defaults to none. Browsers
	// send cookies by themselves: protect unsafe methods with [http.CrossOriginProtection].
	// On a WebSocket handshake the cookie counts only if the Origin is the request's own host
	// or one of AllowedOrigins.
	Cookie string
	// AllowedOrigins are further origins, such as https://app.example.com, whose WebSocket
	// handshakes may use the cookie.
	AllowedOrigins []string
	// WebSocketProtocolPrefix, such as "bearer.", lets a WebSocket handshake carry the token
	// as a subprotocol of that prefix: new WebSocket(url, ["notes.v1", "bearer." + token]).
	// The server must select its own protocol, here notes.v1, never this one; browsers close
	// a connection for which none is selected. Defaults to none.
	WebSocketProtocolPrefix string
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg       Config
	keys      KeySource
	methods   map[string]jwt.SigningMethod
	validator *jwt.Validator
}

// New returns a Verifier, or all problems of cfg joined, each a [tenancy.ConfigError] that
// names the field. It copies cfg, secrets included.
func New(cfg Config) (*Verifier, error) {
	var problems []error
	problem := func(field, format string, args ...any) {
		problems = append(problems, &tenancy.ConfigError{Key: "tenantjwt.Config." + field, Err: fmt.Errorf(format, args...)})
	}

	v := &Verifier{methods: make(map[string]jwt.SigningMethod, len(cfg.Algorithms))}
	if len(cfg.Algorithms) == 0 {
		problem("Algorithms", "is empty: list the algorithms that your issuer signs with")
	}
	for _, alg := range cfg.Algorithms {
		if !slices.Contains(Algorithms(), alg) {
			problem("Algorithms", "%q cannot be used: list some of %s", alg, strings.Join(Algorithms(), ", "))
			continue
		}
		v.methods[alg] = jwt.GetSigningMethod(alg)
	}

	keys := map[string]any{}
	switch {
	case cfg.Key == nil && cfg.Keys == nil && cfg.KeySource == nil:
		problem("Key", "is nil: set Key, Keys or KeySource")
	case cfg.Key != nil && cfg.Keys != nil, (cfg.Key != nil || cfg.Keys != nil) && cfg.KeySource != nil:
		problem("Key", "is one of several: set only one of Key, Keys and KeySource")
	case cfg.KeySource != nil:
		v.keys = cfg.KeySource
	case cfg.Keys != nil:
		byID := make(map[string]any, len(cfg.Keys))
		for kid, key := range cfg.Keys {
			if kid == "" {
				problem("Keys", "a kid is empty: name each key, or set Key")
			}
			byID[kid] = secretCopy(key)
			keys[fmt.Sprintf("Keys[%q]", kid)] = byID[kid]
		}
		if len(byID) == 0 {
			problem("Keys", "is empty: give at least one key")
		}
		v.keys = staticKeys{byID: byID}
	default:
		key := secretCopy(cfg.Key)
		keys["Key"] = key
		v.keys = staticKeys{single: key}
	}
	for _, field := range slices.Sorted(maps.Keys(keys)) {
		if err := v.usable(keys[field], cfg.UnsafeShortSecret); err != nil {
			problem(field, "%w", err)
		}
	}
	if cfg.KeySource == nil && len(keys) > 0 {
		for _, alg := range cfg.Algorithms {
			if v.methods[alg] != nil && !anyFits(alg, keys, cfg.UnsafeShortSecret) {
				problem("Algorithms", "%s fits none of the keys: remove it", alg)
			}
		}
	}

	if cfg.Issuer == "" && !cfg.AnyIssuer {
		problem("Issuer", "is empty: set the iss of your issuer, or AnyIssuer")
	}
	if cfg.Issuer != "" && cfg.AnyIssuer {
		problem("AnyIssuer", "contradicts Issuer: set only one of them")
	}
	if len(cfg.Audience) == 0 && !cfg.AnyAudience {
		problem("Audience", "is empty: set the aud of this application, or AnyAudience")
	}
	if len(cfg.Audience) > 0 && cfg.AnyAudience {
		problem("AnyAudience", "contradicts Audience: set only one of them")
	}
	if slices.Contains(cfg.Audience, "") {
		problem("Audience", "has an empty entry: remove it")
	}
	if cfg.Leeway > maxLeeway {
		problem("Leeway", "%s is too much: synchronise the clocks and allow at most %s", cfg.Leeway, maxLeeway)
	}
	if cfg.MaxBytes < 0 {
		problem("MaxBytes", "%d is negative: leave it 0 for the default", cfg.MaxBytes)
	}
	for _, origin := range cfg.AllowedOrigins {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			problem("AllowedOrigins", "%q is not an origin: write it as https://app.example.com", origin)
		}
	}
	if p := cfg.WebSocketProtocolPrefix; p != "" && !isToken(p) {
		problem("WebSocketProtocolPrefix", "%q has characters that a subprotocol cannot have: use for example \"bearer.\"", p)
	}
	if cfg.Cookie != "" && !isToken(cfg.Cookie) {
		problem("Cookie", "%q is not the name of a cookie", cfg.Cookie)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}

	switch {
	case cfg.Leeway == 0:
		cfg.Leeway = defaultLeeway
	case cfg.Leeway < 0:
		cfg.Leeway = 0
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Audience = slices.Clone(cfg.Audience)
	cfg.AllowedOrigins = slices.Clone(cfg.AllowedOrigins)
	options := []jwt.ParserOption{
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithTimeFunc(cfg.Now),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	}
	if !cfg.AnyIssuer {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if !cfg.AnyAudience {
		options = append(options, jwt.WithAudience(cfg.Audience...))
	}
	v.validator = jwt.NewValidator(options...)
	v.cfg = cfg
	return v, nil
}

// usable reports why key can verify no token of v's algorithms, or nil.
func (v *Verifier) usable(key any, shortSecret bool) error {
	if err := checkKey(key); err != nil {
		return err
	}
	var reasons []string
	for alg := range v.methods {
		err := fits(alg, key, shortSecret)
		if err == nil {
			return nil
		}
		reasons = append(reasons, err.Error())
	}
	if len(reasons) == 0 {
		return nil // no algorithm is known, which is a problem of its own
	}
	slices.Sort(reasons)
	return errors.New(strings.Join(reasons, "; "))
}

func anyFits(alg string, keys map[string]any, shortSecret bool) bool {
	for _, key := range keys {
		if checkKey(key) != nil || fits(alg, key, shortSecret) == nil {
			return true // a key that is no key has been reported already
		}
	}
	return false
}

// Verify returns whom the token identifies. Claims holds all claims, numbers as json.Number.
// An error wraps [tenancy.ErrUnauthenticated] and gives a reason that is fit for a log: it
// never contains the token, nor what the token claims. ctx bounds the lookup of the key.
func (v *Verifier) Verify(ctx context.Context, token string) (tenancy.Identity, error) {
	claims, err := v.claims(ctx, token)
	if err != nil {
		return tenancy.Identity{}, fmt.Errorf("%w: token refused: %w", tenancy.ErrUnauthenticated, err)
	}
	user, _ := claims[v.cfg.UserClaim].(string)
	if strings.TrimSpace(user) == "" {
		return tenancy.Identity{}, fmt.Errorf("%w: token refused: its claim %s names no user",
			tenancy.ErrUnauthenticated, v.cfg.UserClaim)
	}
	issuer, _ := claims["iss"].(string)
	return tenancy.Identity{UserID: user, Issuer: issuer, Claims: claims}, nil
}

// claims returns the claims of a token. Nothing but the header is decoded before the
// signature is verified.
func (v *Verifier) claims(ctx context.Context, token string) (map[string]any, error) {
	if len(token) > v.cfg.MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", len(token), v.cfg.MaxBytes)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("it has not the three parts of a signed token")
	}
	header, err := decodeSegment(parts[0])
	if err != nil {
		return nil, fmt.Errorf("its header is %w", err)
	}
	if _, ok := header["crit"]; ok {
		return nil, errors.New("its header demands extensions (crit), none are supported")
	}
	alg, _ := header["alg"].(string)
	method, ok := v.methods[alg]
	if !ok {
		return nil, errors.New("its algorithm is not one of the allowed")
	}
	kid, isString := header["kid"].(string)
	if _, present := header["kid"]; present && !isString {
		return nil, errors.New("its kid is not a string")
	}
	key, err := v.keys.Key(ctx, alg, kid)
	if err != nil {
		return nil, fmt.Errorf("its key was not found: %w", err)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := fits(alg, key, v.cfg.UnsafeShortSecret); err != nil {
		return nil, err
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return nil, errors.New("its signature is not base64url")
	}
	if err := method.Verify(token[:len(parts[0])+1+len(parts[1])], signature, key); err != nil {
		return nil, errors.New("its signature does not match")
	}

	claims, err := decodeSegment(parts[1])
	if err != nil {
		return nil, fmt.Errorf("its payload is %w", err)
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if err := checkDate(name, claims); err != nil {
			return nil, err
		}
	}
	if err := v.validator.Validate(jwt.MapClaims(claims)); err != nil {
		return nil, err
	}
	return claims, nil
}

// checkDate refuses dates that have no place on a calendar, which a conversion to an integer
// could turn into any other.
func checkDate(name string, claims map[string]any) error {
	value, ok := claims[name]
	if !ok {
		return nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return fmt.Errorf("its %s is not a number", name)
	}
	seconds, err := number.Float64()
	if err != nil || !(seconds >= 0 && seconds <= maxDate) {
		return fmt.Errorf("its %s is not a date", name)
	}
	return nil
}

// decodeSegment decodes a part of a token. Its errors complete "the part is …".
func decodeSegment(segment string) (map[string]any, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	object, err := decodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("unreadable: %w", err)
	}
	return object, nil
}
