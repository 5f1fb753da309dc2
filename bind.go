package tenancy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// boundRequest is everything that one request needs, in one allocation.
type boundRequest struct {
	scopeContext
	decision Decision
	live     liveness

	revocations *revocations
	asked       bool                    // whether a membership is wanted: no trusted source named the tenant
	seen        uint64                  // how many changes the caches had heard of before this request was decided
	watched     atomic.Pointer[watched] // nil until somebody asks whether the request has ended
}

// Done is closed when the request ends, or is ended because its tenant or member may not work any
// more; [context.Cause] tells which.
func (b *boundRequest) Done() <-chan struct{} { return b.ending().Done() }

// Err returns nil until Done is closed.
func (b *boundRequest) Err() error { return b.ending().Err() }

// Value finds the scope, and what package context keeps to join contexts.
func (b *boundRequest) Value(key any) any {
	if _, ok := key.(scopeKey); ok {
		return &b.scope
	}
	if w := b.watched.Load(); w != nil {
		return w.Value(key)
	}
	return b.Context.Value(key)
}

// ending is the context that ends with the request. One that never ends, as a test's may be, is
// not watched: nobody would tell when to forget it.
func (b *boundRequest) ending() context.Context {
	if w := b.watched.Load(); w != nil {
		return w
	}
	if b.scope.kind != scopeBound || b.Context.Done() == nil {
		return b.Context
	}
	return b.revocations.watch(b)
}

// Bind decides which tenant a request belongs to and returns a context that carries the
// binding, or carries none and the reason why not. It never rejects: that is the guard's.
// [DecisionFrom] tells what was decided. req is not kept.
//
// A bound context is cancelled when the tenant is suspended, deactivated or archived meanwhile,
// or the user's membership ends: at once when this process does it, else as soon as it hears of
// it. Its [context.Cause] then is what [Status.Err] answers, or [ErrNotMember]. [KeepRunning]
// opts out. ctx must end when the request does, as that of an [net/http.Request] does.
func (tn *Tenancy) Bind(ctx context.Context, req *Request) context.Context {
	b := &boundRequest{scopeContext: scopeContext{Context: ctx}, revocations: tn.revocations, seen: tn.validator.gens.changes()}
	d := &b.decision
	b.scope.decision, b.scope.live = d, &b.live
	tn.decide(ctx, req, b)
	b.scope.resolver, b.scope.userID = d.Resolver, d.UserID
	if d.Outcome == OutcomeBound {
		b.scope.kind = scopeBound
	} else if b.scope.tenant != nil {
		b.scope.kind = scopeCandidate
	}
	tn.report(b, d)
	return b
}

// decide fills in b's decision, tenant and member.
func (tn *Tenancy) decide(ctx context.Context, req *Request, b *boundRequest) {
	d := &b.decision
	if tn.cfg.Disabled {
		d.Outcome, d.Err = OutcomeDisabled, ErrDisabled
		return
	}
	identity := req.Identity
	if req.IdentityErr != nil { // the credentials say nothing, but a public route may still greet
		identity = Identity{}
		anonymous := *req
		anonymous.Identity = identity
		req = &anonymous
	}
	d.UserID, d.Issuer = identity.UserID, identity.Issuer
	named, answerErr := tn.ask(ctx, req, d)
	if req.IdentityErr != nil {
		if named >= 0 && answerErr == nil {
			b.scope.tenant, _, _ = tn.validator.lookup(ctx, d.Ref, tn.validator.gens.clock())
		}
		d.Outcome, d.Err = OutcomeUnauthenticated, fmt.Errorf("%w: %w", ErrUnauthenticated, req.IdentityErr)
		return
	}
	if named < 0 {
		d.Outcome, d.Err = OutcomeNoTenant, ErrNoTenant
		if identity.Anonymous() {
			d.Err = ErrUnauthenticated
			if req.Header != nil && len(req.Header.Values("Authorization")) > 0 {
				d.Hint = "the request has an Authorization header but no identity: does authentication run before this middleware?"
			}
		}
		return
	}
	if answerErr != nil {
		d.Outcome, d.Err = OutcomeAmbiguous, answerErr
		return
	}
	tn.authorize(ctx, &identity, named, b)
	if tn.chain.askAll {
		tn.reconcile(ctx, named, b)
	}
}

// ask asks the resolvers, and returns the index and the error of the answer that counts; -1
// when none does.
func (tn *Tenancy) ask(ctx context.Context, req *Request, d *Decision) (int, error) {
	d.chain = tn.chain
	if !tn.chain.askAll {
		i, ref, err := tn.chain.first(ctx, req)
		d.asked = min(i+1, len(tn.chain.resolvers))
		if i == len(tn.chain.resolvers) {
			return -1, nil
		}
		d.Resolver, d.Ref = tn.chain.resolvers[i].Name(), ref
		if err != nil {
			answers := d.Answers()
			answers[i] = Answer{Resolver: d.Resolver, Err: err}
			d.answers = answers
		}
		return i, err
	}
	d.answers = tn.chain.Resolve(ctx, req, nil)
	d.asked = len(d.answers)
	for i := range d.answers {
		if a := &d.answers[i]; a.Err != nil || !a.Ref.IsZero() {
			d.Resolver, d.Ref = a.Resolver, a.Ref
			return i, a.Err
		}
	}
	return -1, nil
}

// authorize looks the tenant up and decides whether the caller may have it. For outsiders it
// asks the same questions whether or not the tenant exists and whatever state it is in.
func (tn *Tenancy) authorize(ctx context.Context, identity *Identity, named int, b *boundRequest) {
	d := &b.decision
	now := tn.validator.gens.clock()
	t, stale, err := tn.validator.lookup(ctx, d.Ref, now)
	d.Stale = stale
	trusted := tn.chain.trusted[named]
	key := memberKey{userID: identity.UserID, of: d.Ref}
	if err != nil && !errors.Is(err, ErrNotFound) {
		d.Outcome, d.Err = OutcomeUnavailable, err
		if !trusted && tn.validator.isOutsider(key, now) {
			// Of a name in use this caller would hear the same, from the cache of memberships.
			d.Outcome, d.Err = OutcomeNotFound, ErrNotFound
		}
		return
	}
	if t != nil {
		d.TenantID, d.Slug = t.ID, t.Slug
		b.scope.tenant = t
		key = memberKey{userID: identity.UserID, of: Ref{value: t.ID}}
	}
	if !trusted && d.Ref.kind != RefMalformed {
		member, memberErr := tn.validator.member(ctx, key, now)
		switch {
		case memberErr == nil:
			b.scope.member = member
		case errors.Is(memberErr, ErrNotMember):
			d.Outcome, d.Err = OutcomeNotMember, ErrNotMember
			if identity.Anonymous() {
				d.Hint = "nobody is authenticated, so no membership can be looked up"
			}
		case tn.cfg.Resolution.LaxMembership:
		case errors.Is(memberErr, ErrUnverifiable):
			d.Outcome, d.Err = OutcomeUnverifiable, ErrUnverifiable
			d.Hint = "resolver " + d.Resolver + " is not trusted and there is no Membership to ask"
		default:
			d.Outcome, d.Err = OutcomeUnavailable, memberErr
		}
	}
	if t == nil { // whatever the membership said, there is nothing to be a member of
		if d.Outcome != OutcomeUnavailable {
			d.Outcome, d.Err = OutcomeNotFound, ErrNotFound
		}
		return
	}
	if pin, pinned := tn.pins[identity.Issuer]; pinned && !pin.Matches(*t) {
		d.Outcome, d.Err = OutcomeNotMember, ErrIssuerPinned
		b.scope.member = nil
	}
	if d.Err != nil {
		return
	}
	d.Insider = true
	if err := t.Status.Err(); err != nil {
		d.Outcome, d.Err = OutcomeNotActive, err
		return
	}
	if tn.cfg.Hooks != nil {
		if err := tn.hook(ctx, HookResolved, *t); err != nil {
			d.Outcome, d.Err = OutcomeVetoed, err
			return
		}
	}
	d.Outcome, b.asked = OutcomeBound, !trusted
}

// reconcile refuses a request whose sources name different tenants. Whether two names are
// one tenant's is told to insiders only; for others names that differ are a conflict, so
// that nobody can learn by trying which id goes with which slug.
func (tn *Tenancy) reconcile(ctx context.Context, named int, b *boundRequest) {
	d := &b.decision
	for _, a := range d.answers[named+1:] {
		if a.Err == nil && (a.Ref.IsZero() || a.Ref.Key() == d.Ref.Key()) {
			continue
		}
		if a.Err == nil && d.Insider {
			t, _, err := tn.validator.lookup(ctx, a.Ref, tn.validator.gens.clock())
			if err == nil && t.ID == d.TenantID {
				continue
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				d.Outcome, d.Err = OutcomeUnavailable, err
				return
			}
		}
		d.Outcome, d.Err = OutcomeConflict, ErrConflictingSources
		d.Hint = "resolvers " + d.Resolver + " and " + a.Resolver + " differ"
		b.scope.tenant, b.scope.member = nil, nil
		return
	}
}

// report tells the operators.
func (tn *Tenancy) report(ctx context.Context, d *Decision) {
	if tn.cfg.OnDecision != nil {
		tn.cfg.OnDecision(ctx, *d)
	}
	level := slog.LevelDebug
	switch d.Outcome {
	case OutcomeBound, OutcomeNoTenant:
	case OutcomeUnavailable:
		level = slog.LevelError
	default:
		level = slog.LevelInfo
	}
	if tn.log.Enabled(ctx, level) {
		tn.log.LogAttrs(ctx, level, "tenancy: request", slog.Any("decision", *d))
	}
}
