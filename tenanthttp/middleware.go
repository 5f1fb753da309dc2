package tenanthttp

import (
	"context"
	"net/http"

	"lexigram.dev/tenancy"
)

// Config says what [Middleware] needs to know about the application. The zero value treats
// every caller as anonymous.
type Config struct {
	// Identity returns who asks, as the application's authentication verified it: the zero
	// Identity when there are no credentials, an error when there are and they are not valid.
	// A request with such an error is never bound and a guard answers 401, or 503 if the error
	// is [tenancy.ErrUnavailable]. It is called once per request, concurrently. Defaults to
	// nobody.
	Identity func(r *http.Request) (tenancy.Identity, error)
	// Credentials are the request headers that Identity depends on, for the Vary header.
	// Defaults to Authorization and Cookie where Identity is set.
	Credentials []string
	// Realm is named in the WWW-Authenticate header of a 401. Defaults to none.
	Realm string
	// OnRefusal writes a guard's answer instead of [Problem.Write], for example a redirect to
	// the login page. The headers Cache-Control, WWW-Authenticate and Retry-After are set
	// before. What p says is fit for outsiders; an answer that depends on more than p may tell
	// them which tenants exist. Defaults to p.Write(w, r).
	OnRefusal func(w http.ResponseWriter, r *http.Request, p Problem)
}

// Middleware returns the middleware that decides which tenant a request belongs to. A
// request that cannot be verified goes on unbound, with the reason in its context for [Guard]
// and [tenancy.DecisionFrom]. It belongs after the application's authentication.
//
// The host is r.Host. X-Forwarded-Host replaces it only when the direct peer is one of
// resolution.trusted_proxies, and only with exactly one value: a proxy must overwrite the
// header, not append to it. With more values the request names no host at all.
//
// Answers get a Vary header for what the decision depended on; other Vary values are kept. A
// handler that adds its own must use Header.Add, not Set.
//
// Middleware panics when tn is nil or the realm cannot be sent in a header.
func Middleware(tn *tenancy.Tenancy, cfg Config) func(http.Handler) http.Handler {
	if tn == nil {
		panic("tenanthttp.Middleware: no Tenancy: make one with tenancy.New")
	}
	resolution := tn.Config().Resolution
	proxies, err := resolution.ProxyPrefixes()
	if err != nil {
		panic("tenanthttp.Middleware: " + err.Error()) // tenancy.New has refused it before
	}
	m := &middleware{
		tn:       tn,
		identity: cfg.Identity,
		proxies:  proxies,
		vary:     varyByAnswers(tn.Chain().Resolvers(), cfg.credentials(), len(proxies) > 0),
		refusals: newRefusals(cfg, resolution.TrustedResolvers),
	}
	m.refusals.log = tn.Config().Logger
	return func(next http.Handler) http.Handler {
		mustHandle("Middleware", next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, m.bind(w, r))
		})
	}
}

func (c Config) credentials() []string {
	if c.Credentials == nil && c.Identity != nil {
		return []string{"Authorization", "Cookie"}
	}
	return c.Credentials
}

type middleware struct {
	tn       *tenancy.Tenancy
	identity func(*http.Request) (tenancy.Identity, error)
	proxies  proxies
	vary     []string // the Vary value, by the number of resolvers that were asked
	refusals *refusals
}

// call is the context of one request and what else the request needs, in one allocation.
type call struct {
	context.Context
	refusals *refusals
	request  tenancy.Request
	vary     [1]string
}

// Value returns the middleware's own value, else that of the context beneath.
func (c *call) Value(key any) any {
	if key == (refusalsKey{}) {
		return c.refusals
	}
	return c.Context.Value(key)
}

// String keeps the caller and the request's headers out of a log that prints the context.
func (c *call) String() string { return "context of a request behind tenanthttp.Middleware" }

// bind returns r with the decision, and the binding if there is one, in its context.
func (m *middleware) bind(w http.ResponseWriter, r *http.Request) *http.Request {
	c := &call{
		refusals: m.refusals,
		request:  tenancy.Request{Host: m.proxies.host(r), Path: r.URL.EscapedPath(), Header: r.Header},
	}
	if m.identity != nil {
		c.request.Identity, c.request.IdentityErr = m.identity(r)
	}
	c.Context = m.tn.Bind(r.Context(), &c.request)
	asked := len(m.vary) - 1 // refusals name every source, so that they do not tell by which one a tenant was named
	if d, _ := tenancy.DecisionFrom(c.Context); d.Outcome == tenancy.OutcomeBound {
		asked = d.Asked()
	}
	c.vary[0] = m.vary[asked]
	addVary(w.Header(), c.vary[:])
	return r.WithContext(c)
}

func mustHandle(what string, next http.Handler) {
	if next == nil {
		panic("tenanthttp." + what + ": the next handler is nil")
	}
}
