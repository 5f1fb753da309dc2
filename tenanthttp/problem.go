package tenanthttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"lexigram.dev/tenancy"
)

// Problem is an answer in the form of RFC 9457. Applications may use it for their own errors.
type Problem struct {
	// Type is a URI that identifies the kind of problem. Those of this package begin with
	// [ProblemTypes] and do not change. Defaults to about:blank.
	Type string `json:"type"`
	// Title is the same for every problem of a type. Defaults to the status's text.
	Title string `json:"title"`
	// Status is the HTTP status. Defaults to 500.
	Status int `json:"status"`
	// Detail is for people. Empty leaves it out.
	Detail string `json:"detail,omitempty"`
	// Code is the stable code of the error. Empty leaves it out.
	Code tenancy.Code `json:"code,omitempty"`
}

// ProblemTypes is what the types of this package's problems begin with. They are names;
// nothing has to be served there.
const ProblemTypes = "https://lexigram.dev/tenancy/problems/"

// retryAfter is in seconds. The catalogue's caches retry every second.
const retryAfter = "1"

// The answers. None says more than an outsider may know, except those of a tenant's state.
var (
	problemUnauthenticated = Problem{
		Type: ProblemTypes + "unauthenticated", Title: "Authentication required", Status: http.StatusUnauthorized,
		Detail: "The request carries no credentials and names no tenant.", Code: tenancy.CodeResolution,
	}
	problemInvalidCredentials = Problem{
		Type: ProblemTypes + "invalid-credentials", Title: "Invalid credentials", Status: http.StatusUnauthorized,
		Detail: "The credentials of the request are not valid.", Code: tenancy.CodeResolution,
	}
	problemTenantRequired = Problem{
		Type: ProblemTypes + "tenant-required", Title: "Tenant required", Status: http.StatusBadRequest,
		Detail: "The request does not name a tenant.", Code: tenancy.CodeResolution,
	}
	problemAmbiguous = Problem{
		Type: ProblemTypes + "ambiguous-tenant", Title: "Ambiguous tenant", Status: http.StatusBadRequest,
		Detail: "The request names its tenant in a way that has more than one reading.", Code: tenancy.CodeResolution,
	}
	problemConflicting = Problem{
		Type: ProblemTypes + "conflicting-tenants", Title: "Conflicting tenants", Status: http.StatusBadRequest,
		Detail: "The request names different tenants in different places.", Code: tenancy.CodeResolution,
	}
	problemForbidden = Problem{
		Type: ProblemTypes + "forbidden", Title: "Forbidden", Status: http.StatusForbidden,
		Detail: "There is no such tenant, or the caller may not use it.", Code: tenancy.CodeTenant,
	}
	problemSuspended = Problem{
		Type: ProblemTypes + "tenant-suspended", Title: "Tenant suspended", Status: http.StatusForbidden,
		Detail: "The tenant is suspended.", Code: tenancy.CodeSuspended,
	}
	problemInactive = Problem{
		Type: ProblemTypes + "tenant-inactive", Title: "Tenant inactive", Status: http.StatusForbidden,
		Detail: "The tenant is not active.", Code: tenancy.CodeInactive,
	}
	problemProvisioning = Problem{
		Type: ProblemTypes + "tenant-provisioning", Title: "Tenant being provisioned", Status: http.StatusForbidden,
		Detail: "The tenant is not ready yet.", Code: tenancy.CodeProvisioning,
	}
	problemNotFound = Problem{
		Type: ProblemTypes + "tenant-not-found", Title: "Tenant not found", Status: http.StatusNotFound,
		Code: tenancy.CodeNotFound,
	}
	problemSlugConflict = Problem{
		Type: ProblemTypes + "slug-conflict", Title: "Tenant name taken", Status: http.StatusConflict,
		Code: tenancy.CodeSlugConflict,
	}
	problemConflict = Problem{
		Type: ProblemTypes + "conflict", Title: "Changed meanwhile", Status: http.StatusConflict,
		Detail: "The record has changed since it was read: read it again and repeat.", Code: tenancy.CodeTenant,
	}
	problemTransition = Problem{
		Type: ProblemTypes + "invalid-transition", Title: "Not possible in this state", Status: http.StatusConflict,
		Code: tenancy.CodeTenant,
	}
	problemInvalid = Problem{
		Type: ProblemTypes + "invalid-value", Title: "Invalid value", Status: http.StatusUnprocessableEntity,
		Code: tenancy.CodeTenant,
	}
	problemTooLarge = Problem{
		Type: ProblemTypes + "body-too-large", Title: "Body too large", Status: http.StatusRequestEntityTooLarge,
	}
	problemUnavailable = Problem{
		Type: ProblemTypes + "unavailable", Title: "Temporarily unavailable", Status: http.StatusServiceUnavailable,
		Detail: "The request cannot be answered at the moment: try again.", Code: tenancy.CodeResolution,
	}
	problemInternal = Problem{
		Type: ProblemTypes + "internal", Title: "Internal error", Status: http.StatusInternalServerError,
		Code: tenancy.CodeTenant,
	}
)

// Write answers r with p as application/problem+json and Cache-Control: no-store. An answer
// to HEAD has the same headers and no body. Nothing else may have been written to w.
func (p Problem) Write(w http.ResponseWriter, r *http.Request) {
	p.Type = cmp.Or(p.Type, "about:blank")
	p.Status = cmp.Or(p.Status, http.StatusInternalServerError)
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	body, err := json.Marshal(p)
	if err != nil { // not for these types
		body = []byte("{}")
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client has gone
	}
}

// WriteError answers r with the problem that err is: 404 for [tenancy.ErrNotFound], 409 for a
// taken name, a lost race and a transition that is not possible, 422 for a
// [tenancy.InvalidError] or a [tenancy.ConfigError], 413 for [http.MaxBytesError], 503 with
// Retry-After for [tenancy.ErrUnavailable] and a deadline that passed. That the context has no
// verified tenant is answered as [Guard] does. The state of a tenant is told only to a caller
// with a verified binding, or in system scope. A cancellation because the tenant or the member may
// not work any more, see [tenancy.Tenancy.Bind], is answered as the next request will be. All else
// is 500.
//
// The client never sees the text of an error that it did not cause. Errors that are answered
// with 500 go to the Logger of the [tenancy.Config] whose [Middleware] the request passed, or to
// slog.Default where it passed none.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	bound, err := endedBecause(ctx, err)
	bound = bound || isBound(ctx)
	unbound := errors.Is(err, tenancy.ErrNoTenant) || errors.Is(err, tenancy.ErrUnverified)
	if _, decided := tenancy.DecisionFrom(ctx); unbound && decided && !bound {
		refuse(w, r)
		return
	}
	p := problemOf(ctx, err, bound)
	f := *refusalsOf(ctx)
	if p.Status == http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		f.logger().ErrorContext(ctx, "tenanthttp: request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	f.write = defaultRefusals.write // a handler's error is not a guard's refusal
	f.answer(w, r, p)
}

// endedBecause returns why a request was ended in place of the cancellation that its handler met,
// and whether the caller may be told: a member of a tenant may, a former member may not.
func endedBecause(ctx context.Context, err error) (told bool, _ error) {
	cause := context.Cause(ctx)
	d, _ := tenancy.DecisionFrom(ctx)
	if d.Outcome != tenancy.OutcomeBound || cause == nil || tenancy.CodeOf(cause) == "" {
		return false, err
	}
	if errors.Is(err, context.Canceled) {
		err = cause
	}
	return !errors.Is(cause, tenancy.ErrNotMember), err
}

// isBound reports whether the caller may be told about the tenant.
func isBound(ctx context.Context) bool {
	if b, ok := tenancy.FromContext(ctx); ok {
		return b.Verified
	}
	scope, err := tenancy.ScopeOf(ctx)
	return err == nil && scope.System()
}

// problemOf is where errors become answers.
func problemOf(ctx context.Context, err error, bound bool) Problem {
	if e, ok := errors.AsType[*tenancy.SlugConflictError](err); ok {
		return problemSlugConflict.with(e)
	}
	if e, ok := errors.AsType[*tenancy.TransitionError](err); ok {
		return problemTransition.with(e)
	}
	if _, ok := errors.AsType[*tenancy.ProvisionError](err); ok {
		p := problemInternal
		p.Code = tenancy.CodeProvisioning
		return p
	}
	if e, ok := errors.AsType[*tenancy.ConfigError](err); ok {
		return problemOfSetting(e)
	}
	if e, ok := errors.AsType[*tenancy.InvalidError](err); ok {
		return problemInvalid.with(e)
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p := problemTooLarge
		p.Detail = fmt.Sprintf("The body may have at most %d bytes.", e.Limit)
		return p
	}
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case is(tenancy.ErrUnavailable, context.DeadlineExceeded):
		return problemUnavailable
	case is(tenancy.ErrReasonRequired):
		return problemInvalid.with(tenancy.ErrReasonRequired)
	case is(tenancy.ErrNotFound):
		return problemNotFound
	case is(tenancy.ErrConflict):
		return problemConflict
	case is(tenancy.ErrSuspended, tenancy.ErrInactive, tenancy.ErrProvisioning):
		if bound {
			return problemOfState(err)
		}
		return problemForbidden
	case is(tenancy.ErrNotMember, tenancy.ErrUnverifiable, tenancy.ErrIssuerPinned, tenancy.ErrDisabled):
		return problemForbidden
	case is(tenancy.ErrAmbiguous):
		return problemAmbiguous
	case is(tenancy.ErrConflictingSources):
		return problemConflicting
	case is(tenancy.ErrUnauthenticated):
		return problemUnauthenticated
	case ctx.Err() != nil: // the client has gone; nobody reads this
		return problemUnavailable
	}
	p := problemInternal
	p.Code = cmp.Or(tenancy.CodeOf(err), p.Code)
	return p
}

// problemOfState returns what somebody who belongs to a tenant learns of its state.
func problemOfState(err error) Problem {
	switch {
	case errors.Is(err, tenancy.ErrSuspended):
		return problemSuspended
	case errors.Is(err, tenancy.ErrProvisioning):
		return problemProvisioning
	default:
		return problemInactive
	}
}

// problemOfSetting tells a value that a client gave from one that was stored or configured.
func problemOfSetting(e *tenancy.ConfigError) Problem {
	if e.Source != "" {
		p := problemInternal
		p.Code = tenancy.CodeConfig
		return p
	}
	p := problemInvalid
	p.Code = tenancy.CodeConfig
	p.Detail = fmt.Sprintf("The setting %q cannot have this value.", e.Key)
	if invalid, ok := errors.AsType[*tenancy.InvalidError](e.Err); ok {
		p.Detail = invalid.Error()
	}
	return p
}

// with returns p with the text of an error that the client caused.
func (p Problem) with(err error) Problem {
	p.Detail = err.Error()
	return p
}
