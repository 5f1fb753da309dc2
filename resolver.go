package tenancy

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/textproto"
	"net/url"
	"path"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Resolver reads from a request which tenant it names. It only reads: what it answers is a
// claim, and whether it is believed is decided later. Resolvers are called concurrently.
type Resolver interface {
	// Name identifies the resolver in configuration, decisions and logs.
	Name() string
	// Resolve returns the tenant that the request names, or the zero Ref when the request
	// does not name one here. An error, such as [ErrAmbiguous], refuses the request: a guard
	// answers 400, or 503 to one that is [ErrUnavailable].
	Resolve(ctx context.Context, req *Request) (Ref, error)
}

// VaryingResolver is an optional interface of a [Resolver]: the request headers on which
// its answer depends, for the Vary header of answers. A resolver that reads headers and does not
// say so lets a shared cache serve one tenant's answer to another.
type VaryingResolver interface {
	Vary() []string
}

// builtin is a resolver of this package. Only these may carry the built-in names, so that
// nothing else becomes trusted by its name.
type builtin interface {
	Resolver
	// compile returns the resolver with defaults filled in and everything precomputed.
	compile(cfg *ResolutionConfig) (Resolver, error)
}

// JWTClaim names the tenant by a claim of the verified identity, by id or slug.
type JWTClaim struct {
	// Key is the claim. Defaults to resolution.jwt_claim_key.
	Key string
	// Alias makes the claim's value an alias of this kind instead of an id or slug.
	Alias string
	// Issuer accepts the claim from this issuer only; the claims of others are ignored.
	Issuer string
}

// Name returns "jwt_claim".
func (JWTClaim) Name() string { return ResolverJWTClaim }

// Vary returns the headers that carry credentials.
func (JWTClaim) Vary() []string { return []string{"Authorization", "Cookie"} }

// Resolve implements [Resolver]. A claim that is absent, null or empty names nobody; one
// that is neither a string nor a whole number is [ErrAmbiguous].
func (r JWTClaim) Resolve(_ context.Context, req *Request) (Ref, error) {
	if r.Issuer != "" && r.Issuer != req.Identity.Issuer {
		return Ref{}, nil
	}
	var value string
	switch claim := req.Identity.Claims[r.Key].(type) {
	case nil:
		return Ref{}, nil
	case string:
		value = claim
	case json.Number:
		value = claim.String()
	case float64:
		if claim != math.Trunc(claim) || math.Abs(claim) >= 1<<53 {
			return Ref{}, fmt.Errorf("%w: the claim %s is no whole number", ErrAmbiguous, r.Key)
		}
		value = strconv.FormatInt(int64(claim), 10)
	case int:
		value = strconv.Itoa(claim)
	case int64:
		value = strconv.FormatInt(claim, 10)
	default:
		return Ref{}, fmt.Errorf("%w: the claim %s is a %T", ErrAmbiguous, r.Key, claim)
	}
	switch {
	case value == "":
		return Ref{}, nil
	case r.Alias != "":
		return Alias(r.Alias, value), nil
	default:
		return ByIDOrSlug(value), nil
	}
}

func (r JWTClaim) compile(cfg *ResolutionConfig) (Resolver, error) {
	if r.Key == "" {
		r.Key = cfg.JWTClaimKey
	}
	if r.Alias != "" && !isAliasKind(r.Alias) {
		return nil, &InvalidError{Field: "alias kind", Value: r.Alias, Remedy: "use 1 to 32 of a-z 0-9 _ -"}
	}
	return r, nil
}

// Header names the tenant by a request header, by id or slug.
type Header struct {
	// Key is the header. Defaults to resolution.header_name.
	Key string
}

// Name returns "header".
func (Header) Name() string { return ResolverHeader }

// Vary returns the header.
func (r Header) Vary() []string { return []string{r.Key} }

// Resolve implements [Resolver]. An absent or empty header names nobody; two values that
// differ are [ErrAmbiguous].
func (r Header) Resolve(_ context.Context, req *Request) (Ref, error) {
	if req.Header == nil {
		return Ref{}, nil
	}
	var found Ref
	for _, value := range req.Header.Values(r.Key) {
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		ref := ByIDOrSlug(value)
		if !found.IsZero() && found.Key() != ref.Key() {
			return Ref{}, fmt.Errorf("%w: the header %s has two values", ErrAmbiguous, r.Key)
		}
		found = ref
	}
	return found, nil
}

func (r Header) compile(cfg *ResolutionConfig) (Resolver, error) {
	if r.Key == "" {
		r.Key = cfg.HeaderName
	}
	for i := range len(r.Key) {
		if c := r.Key[i]; !isAlnum(c) && c != '-' && c != '_' {
			return nil, &InvalidError{Field: "header name", Value: r.Key, Remedy: "use letters, digits, - and _"}
		}
	}
	r.Key = textproto.CanonicalMIMEHeaderKey(r.Key)
	return r, nil
}

// Subdomain names the tenant by the first label of the host, by slug: acme.app.com is acme
// under app.com. Other hosts, deeper names and reserved labels such as www name nobody.
type Subdomain struct {
	// Of is the domain above the tenants. Defaults to resolution.subdomain_pattern.
	Of string
}

// Name returns "subdomain".
func (Subdomain) Name() string { return ResolverSubdomain }

// Resolve implements [Resolver].
func (r Subdomain) Resolve(_ context.Context, req *Request) (Ref, error) {
	host := req.Host
	if host == "" || host[0] == '[' { // an IPv6 address
		return Ref{}, nil
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	dot := len(host) - len(r.Of) - 1
	if dot < 1 || host[dot] != '.' || !strings.EqualFold(host[dot+1:], r.Of) {
		return Ref{}, nil
	}
	label := host[:dot]
	if strings.IndexByte(label, '.') >= 0 || isReserved(strings.ToLower(label)) {
		return Ref{}, nil
	}
	return BySlug(label), nil
}

func (r Subdomain) compile(cfg *ResolutionConfig) (Resolver, error) {
	if r.Of == "" {
		r.Of = cfg.SubdomainPattern
	}
	of, err := canonicalDomain(r.Of)
	if err != nil {
		return nil, err
	}
	r.Of = of
	return r, nil
}

func canonicalDomain(domain string) (string, error) {
	invalid := &InvalidError{
		Field: "subdomain pattern", Value: domain,
		Remedy: "name the domain above the tenants, such as app.com, without * or a port",
	}
	ascii, err := idna.Lookup.ToASCII(strings.Trim(strings.TrimSpace(domain), "."))
	if err != nil || ascii == "" || len(ascii) > 253 {
		return "", invalid
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if !isSlug(label) {
			return "", invalid
		}
	}
	return ascii, nil
}

// Path names the tenant by a segment of the path, by id or slug.
type Path struct {
	// Pattern is anchored at the start and has one segment in braces, such as
	// /tenants/{tenant_id}/. Defaults to resolution.path_pattern.
	Pattern string

	before, after []string // the literal segments around the tenant's
}

// Name returns "path".
func (Path) Name() string { return ResolverPath }

// Resolve implements [Resolver]. A path that reads differently after decoding or cleaning,
// such as /tenants/a/../b/, is [ErrAmbiguous]: the router may see another tenant than we do.
func (r Path) Resolve(_ context.Context, req *Request) (Ref, error) {
	segment := r.match(req.Path)
	if !plain(req.Path) {
		decoded, err := url.PathUnescape(req.Path)
		if err != nil {
			return Ref{}, fmt.Errorf("%w: the path is not well encoded", ErrAmbiguous)
		}
		cleaned := path.Clean(strings.ReplaceAll(decoded, `\`, "/"))
		if segment != r.match(decoded) || segment != r.match(cleaned) {
			return Ref{}, fmt.Errorf("%w: the path has more than one reading", ErrAmbiguous)
		}
	}
	if segment == "" {
		return Ref{}, nil
	}
	return ByIDOrSlug(segment), nil
}

// plain reports whether p has nothing in it that decoding or cleaning would change.
func plain(p string) bool {
	for i := range len(p) {
		switch p[i] {
		case '%', '\\':
			return false
		case '.', '/':
			if i > 0 && p[i-1] == '/' {
				return false
			}
		}
	}
	return true
}

// match returns the tenant's segment of p, or "" when p does not match.
func (r Path) match(p string) string {
	rest, ok := cutSegments(p, r.before)
	if !ok || rest == "" {
		return ""
	}
	segment, rest, _ := strings.Cut(rest[1:], "/")
	if len(r.after) > 0 {
		if _, ok := cutSegments("/"+rest, r.after); !ok {
			return ""
		}
	}
	return segment
}

// cutSegments removes the leading segments from p and returns the rest: "" or from the
// next slash on.
func cutSegments(p string, segments []string) (rest string, ok bool) {
	for _, s := range segments {
		if len(p) <= len(s) || p[0] != '/' || p[1:len(s)+1] != s {
			return "", false
		}
		if p = p[len(s)+1:]; p != "" && p[0] != '/' {
			return "", false
		}
	}
	return p, p == "" || p[0] == '/'
}

func (r Path) compile(cfg *ResolutionConfig) (Resolver, error) {
	if r.Pattern == "" {
		r.Pattern = cfg.PathPattern
	}
	invalid := &InvalidError{
		Field: "path pattern", Value: r.Pattern,
		Remedy: "write plain segments and one in braces, such as /tenants/{tenant_id}/",
	}
	if !strings.HasPrefix(r.Pattern, "/") {
		return nil, invalid
	}
	found := false
	for s := range strings.SplitSeq(strings.Trim(r.Pattern, "/"), "/") {
		switch {
		case len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}' && !found:
			found = true
		case s == "" || s == "." || s == ".." || strings.ContainsAny(s, "{}%*\\?#"):
			return nil, invalid
		case found:
			r.after = append(r.after, s)
		default:
			r.before = append(r.before, s)
		}
	}
	if !found {
		return nil, invalid
	}
	return r, nil
}

// Static names the same tenant for every request: a single-tenant installation. It binds
// only users who are members unless "static" is one of the trusted resolvers.
type Static struct {
	// Tenant is the id or slug. Required.
	Tenant string
}

// Name returns "static".
func (Static) Name() string { return ResolverStatic }

// Resolve implements [Resolver].
func (r Static) Resolve(context.Context, *Request) (Ref, error) { return ByIDOrSlug(r.Tenant), nil }

func (r Static) compile(*ResolutionConfig) (Resolver, error) {
	if ByIDOrSlug(r.Tenant).Kind() == RefMalformed {
		return nil, &InvalidError{Field: "static tenant", Value: r.Tenant, Remedy: "name the tenant by its id or slug"}
	}
	return r, nil
}

var _ = []builtin{JWTClaim{}, Header{}, Subdomain{}, Path{}, Static{}}
