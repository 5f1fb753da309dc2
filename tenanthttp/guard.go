package tenanthttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
)

// Guard lets a request through to next only with a verified binding, whether [Middleware]
// made it or [tenancy.Tenancy.Within] or [tenancy.UnsafeBind] further up. It answers all
// others itself, with a problem document and Cache-Control: no-store:
//
//	401 nobody is authenticated and nothing names a tenant, or the credentials are not valid
//	400 nothing names a tenant, or the request names it ambiguously
//	403 everything else; only who belongs to a tenant learns that it is suspended, inactive
//	    or being provisioned, all others get one answer that is the same to the byte
//	503 the catalogue cannot be asked
//
// A request that did not pass Middleware gets 500, and slog.Default the remedy. A guard
// below [Public] still refuses, and so does one inside [tenancy.AllowUnverified]. Guards may
// be nested.
func Guard(next http.Handler) http.Handler {
	mustHandle("Guard", next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := tenancy.FromContext(r.Context()); ok && b.Verified {
			next.ServeHTTP(w, r)
			return
		}
		refuse(w, r)
	})
}

// Public marks a route for everybody: the tenant that the request names, if there is one and
// it is active, becomes visible to [tenancy.FromContext] with Verified false, although nobody
// checked whether the caller belongs to it. SQL, caches and jobs still refuse it with
// [tenancy.ErrUnverified]. A verified binding stays one. Public never refuses.
func Public(next http.Handler) http.Handler {
	mustHandle("Public", next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(tenancy.Promote(r.Context())))
	})
}

// refusals is what guards and [WriteError] need to know of the configuration. It travels in the
// context of requests that passed [Middleware].
type refusals struct {
	log                *slog.Logger // nil for slog.Default
	challenge, invalid string       // values of WWW-Authenticate
	trusted            []string     // names of resolvers
	write              func(w http.ResponseWriter, r *http.Request, p Problem)
}

type refusalsKey struct{}

func newRefusals(cfg Config, trusted []string) *refusals {
	f := &refusals{challenge: "Bearer", invalid: `Bearer error="invalid_token"`, trusted: trusted, write: cfg.OnRefusal}
	if cfg.Realm != "" {
		if strings.ContainsFunc(cfg.Realm, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
			panic("tenanthttp.Middleware: the realm must be printable ASCII without quotes and backslashes")
		}
		f.challenge = `Bearer realm="` + cfg.Realm + `"`
		f.invalid = f.challenge + `, error="invalid_token"`
	}
	if f.write == nil {
		f.write = func(w http.ResponseWriter, r *http.Request, p Problem) { p.Write(w, r) }
	}
	return f
}

var defaultRefusals = newRefusals(Config{}, nil)

func refusalsOf(ctx context.Context) *refusals {
	if f, ok := ctx.Value(refusalsKey{}).(*refusals); ok {
		return f
	}
	return defaultRefusals
}

func (f *refusals) logger() *slog.Logger {
	if f.log == nil {
		return slog.Default()
	}
	return f.log
}

// refuse answers a request that has no verified binding.
func refuse(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	f := refusalsOf(ctx)
	d, decided := tenancy.DecisionFrom(ctx)
	if !decided {
		_, err := tenancy.Require(ctx)
		slog.ErrorContext(ctx, "tenanthttp: a guarded route was called without a decision: "+
			"put tenanthttp.Middleware before tenanthttp.Guard", "method", r.Method, "path", r.URL.Path, "error", err)
		f.answer(w, r, problemInternal)
		return
	}
	f.answer(w, r, f.problem(&d))
}

// problem returns the answer to a request that was not bound.
func (f *refusals) problem(d *tenancy.Decision) Problem {
	switch d.Outcome {
	case tenancy.OutcomeNoTenant:
		if d.UserID == "" {
			return problemUnauthenticated
		}
		return problemTenantRequired
	case tenancy.OutcomeUnauthenticated:
		if errors.Is(d.Err, tenancy.ErrUnavailable) {
			return problemUnavailable
		}
		return problemInvalidCredentials
	case tenancy.OutcomeAmbiguous:
		if errors.Is(d.Err, tenancy.ErrUnavailable) {
			return problemUnavailable
		}
		return problemAmbiguous
	case tenancy.OutcomeConflict:
		return problemConflicting
	case tenancy.OutcomeUnavailable:
		if d.UserID == "" && !d.Insider && !slices.Contains(f.trusted, d.Resolver) {
			// No answer of the catalogue could let this caller in. A 503 would tell which names
			// are in the cache, and so exist.
			return problemForbidden
		}
		return problemUnavailable
	case tenancy.OutcomeNotActive:
		if d.Insider {
			return problemOfState(d.Err)
		}
	}
	return problemForbidden
}

// answer sends p with the headers that belong to its status.
func (f *refusals) answer(w http.ResponseWriter, r *http.Request, p Problem) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	switch {
	case p.Type == problemInvalidCredentials.Type:
		h.Set("WWW-Authenticate", f.invalid)
	case p.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", f.challenge)
	case p.Status == http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	}
	f.write(w, r, p)
}
