package tenancy

import (
	"context"
	"strings"
	"sync/atomic"
)

// Binding ties a piece of work to a tenant.
type Binding struct {
	// Tenant is the tenant. Its Aliases and Metadata are shared: read only.
	Tenant Tenant
	// Resolver is the name of the resolver that named the tenant; "within" or "each" for
	// work bound by hand.
	Resolver string
	// UserID is the user that the request was authenticated as, or "".
	UserID string
	// Roles are the user's roles in the tenant, as [Membership] answered. Read only.
	Roles []string
	// Verified is false only on a route marked public, where the client's word is not checked.
	Verified bool
	// Reason is what was given to Within or Each.
	Reason string
}

// Scope is what a context allows: the work of one tenant, or of the whole system. The
// libraries that touch data ask for it on every call.
type Scope struct {
	// Tenant is the tenant that the work belongs to; nil in system scope. It is shared
	// between requests and must not be changed.
	Tenant *Tenant
	// Reason says why, for system scope and for work bound by hand.
	Reason string
}

// System reports whether the scope is the whole system's.
func (s Scope) System() bool { return s.Tenant == nil }

type scopeKind uint8

const (
	scopeNone      scopeKind = iota // a request passed the middleware and nothing was bound
	scopeCandidate                  // named, not verified, visible to nobody before Promote
	scopePromoted                   // the candidate of a public route
	scopeBound
	scopeSystem
	scopeInvalid // AsSystem or UnsafeBind was called wrongly; err says how
)

// scope is the one value that this package keeps in a context. It is immutable once the
// context is handed out.
type scope struct {
	kind     scopeKind
	tenant   *Tenant
	member   *Member // of a request's user, or nil
	resolver string
	userID   string
	reason   string
	err      error
	ended    *atomic.Bool // of Within and Each: set when their function has returned
	decision *Decision
	live     *liveness // of a request
}

type (
	scopeKey           struct{}
	allowUnverifiedKey struct{}
	readOnlyKey        struct{}
)

// scopeContext carries a scope in one allocation.
type scopeContext struct {
	context.Context
	scope scope
}

func (c *scopeContext) Value(key any) any {
	if _, ok := key.(scopeKey); ok {
		return &c.scope
	}
	return c.Context.Value(key)
}

func withScope(ctx context.Context, s scope) context.Context {
	return &scopeContext{Context: ctx, scope: s}
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// FromContext returns the binding of ctx: verified, or on a public route unverified. It
// returns false when nothing is bound, in system scope, after the end of the Within or Each that
// bound it, and when the request was ended because the tenant or the member may not work any more.
func FromContext(ctx context.Context) (Binding, bool) {
	s := scopeOf(ctx)
	if s == nil || (s.kind != scopeBound && s.kind != scopePromoted) || s.hasEnded() || s.revoked() != nil {
		return Binding{}, false
	}
	return s.binding(), true
}

// Require returns the verified binding of ctx. Without one it fails with [ErrNoTenant],
// [ErrUnverified] (unless inside [AllowUnverified]), [ErrSystemScope] or [ErrScopeEnded]; in a
// request that was ended with the cause of it, such as [ErrSuspended].
func Require(ctx context.Context) (Binding, error) {
	s, err := usable(ctx)
	if err != nil {
		return Binding{}, err
	}
	if s.kind == scopeSystem {
		return Binding{}, ErrSystemScope
	}
	return s.binding(), nil
}

// ScopeOf returns the scope of ctx: one verified tenant, or the system. It fails as
// [Require] does, except that system scope is an answer. It allocates nothing.
func ScopeOf(ctx context.Context) (Scope, error) {
	s, err := usable(ctx)
	if err != nil {
		return Scope{}, err
	}
	return Scope{Tenant: s.tenant, Reason: s.reason}, nil
}

func usable(ctx context.Context) (*scope, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, ErrNoTenant
	}
	if s.hasEnded() {
		return nil, ErrScopeEnded
	}
	if cause := s.revoked(); cause != nil {
		return nil, cause
	}
	switch s.kind {
	case scopeBound, scopeSystem:
		return s, nil
	case scopePromoted:
		switch reason, said := ctx.Value(allowUnverifiedKey{}).(string); {
		case !said:
			return nil, ErrUnverified
		case reason == "":
			return nil, ErrReasonRequired
		}
		return s, nil
	case scopeInvalid:
		return nil, s.err
	default:
		return nil, ErrNoTenant
	}
}

func (s *scope) hasEnded() bool { return s.ended != nil && s.ended.Load() }

// revoked returns why the request was ended, for work that outlives its context; nil when it was
// not.
func (s *scope) revoked() error {
	if s.live == nil {
		return nil
	}
	if cause := s.live.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

func (s *scope) binding() Binding {
	b := Binding{
		Tenant: *s.tenant, Resolver: s.resolver, UserID: s.userID,
		Verified: s.kind == scopeBound, Reason: s.reason,
	}
	if s.member != nil {
		b.Roles = s.member.Roles
	}
	return b
}

// AsSystem returns a context for work on behalf of the whole system: no tenant, all
// tenants' data, through the system login. The reason is recorded where the context is used;
// an empty one makes every use fail with [ErrReasonRequired]. The innermost of AsSystem and
// Within counts.
func AsSystem(ctx context.Context, reason string) context.Context {
	if strings.TrimSpace(reason) == "" {
		return withScope(ctx, scope{kind: scopeInvalid, err: ErrReasonRequired})
	}
	return withScope(ctx, scope{kind: scopeSystem, reason: reason})
}

// AllowUnverified returns a context in which [Require] and [ScopeOf] accept a public
// route's tenant although only the client named it. An empty reason makes them fail with
// [ErrReasonRequired]. It never binds a tenant by itself.
func AllowUnverified(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, allowUnverifiedKey{}, strings.TrimSpace(reason))
}

// ReadOnly returns a context whose statements may go to a read replica.
func ReadOnly(ctx context.Context) context.Context {
	return context.WithValue(ctx, readOnlyKey{}, true)
}

// IsReadOnly reports whether ctx comes from [ReadOnly].
func IsReadOnly(ctx context.Context) bool {
	v, _ := ctx.Value(readOnlyKey{}).(bool)
	return v
}

// UnsafeBind binds ctx to a tenant without any check. It is for tests and for transports
// that resolve by themselves; [Tenancy.Within] is the checked way. The reason is required,
// and so is a tenant that is active, has an id and a slug.
func UnsafeBind(ctx context.Context, t Tenant, reason string) context.Context {
	err := t.Status.Err()
	switch {
	case strings.TrimSpace(reason) == "":
		err = ErrReasonRequired
	case t.ID == "":
		err = ErrNotFound
	}
	if err != nil {
		return withScope(ctx, scope{kind: scopeInvalid, err: err})
	}
	t = t.Clone()
	return withScope(ctx, scope{kind: scopeBound, tenant: &t, resolver: "unsafe", reason: reason})
}

// Promote makes the tenant that a request named, but nobody verified, visible to
// [FromContext] with Verified false. It is what tenanthttp.Public does. A context without
// such a candidate, or with a tenant that is not active, comes back unchanged.
func Promote(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	if s == nil || s.kind != scopeCandidate || s.tenant == nil || s.tenant.Status != StatusActive {
		return ctx
	}
	promoted := *s
	promoted.kind = scopePromoted
	return withScope(ctx, promoted)
}

// DecisionFrom returns how the request's tenant was decided, and false where no middleware
// ran.
func DecisionFrom(ctx context.Context) (Decision, bool) {
	s := scopeOf(ctx)
	if s == nil || s.decision == nil {
		return Decision{}, false
	}
	return *s.decision, true
}
