package tenancy

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// checkers bounds how many tenants are looked up at once after a change.
const checkers = 8

// revocations ends requests whose tenant or member may not work any more. A request is watched
// from the moment that somebody asks its context whether it ended, so that one that never asks
// costs nothing.
type revocations struct {
	tn *Tenancy

	mu       sync.Mutex
	live     map[string]map[*boundRequest]struct{} // what is watched, by tenant
	marked   map[string]struct{}                   // tenants that changed and are to be looked up
	checking int                                   // goroutines that do so
	group    sync.WaitGroup
	run      context.Context // ends with Stop
	end      context.CancelFunc
}

func newRevocations(tn *Tenancy) *revocations {
	r := &revocations{tn: tn, live: map[string]map[*boundRequest]struct{}{}, marked: map[string]struct{}{}}
	r.run, r.end = context.WithCancel(context.Background())
	return r
}

// stop ends the look-ups that are under way. The next change begins new ones.
func (r *revocations) stop() {
	r.mu.Lock()
	r.end()
	r.mu.Unlock()
	r.group.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run, r.end = context.WithCancel(context.Background())
}

// watched is the context of a request that can be ended.
type watched struct {
	context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // goes off when the membership expires; nil when it does not
}

// watch begins to watch a request.
func (r *revocations) watch(b *boundRequest) *watched {
	id := b.scope.tenant.ID
	r.mu.Lock()
	if w := b.watched.Load(); w != nil { // somebody else was faster
		r.mu.Unlock()
		return w
	}
	w := &watched{}
	w.Context, w.cancel = context.WithCancelCause(b.Context)
	if m := b.scope.member; m != nil && !m.Expires.IsZero() {
		w.timer = time.AfterFunc(r.until(m.Expires), func() { r.changed(id) })
	}
	if r.live[id] == nil {
		r.live[id] = map[*boundRequest]struct{}{}
	}
	r.live[id][b] = struct{}{}
	b.watched.Store(w)
	r.mu.Unlock()
	context.AfterFunc(w.Context, func() { r.forget(id, b, w) })
	if r.tn.validator.gens.changes() != b.seen { // perhaps this tenant, after the request was bound
		r.changed(id)
	}
	return w
}

// until returns how long it is to the end of a membership; a little more, since timers and the
// clock need not agree.
func (r *revocations) until(expires time.Time) time.Duration {
	return max(0, expires.Sub(r.tn.cfg.Now())) + time.Millisecond
}

func (r *revocations) forget(id string, b *boundRequest, w *watched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	delete(r.live[id], b)
	if len(r.live[id]) == 0 {
		delete(r.live, id)
	}
}

// changed looks up again what a tenant, for "" every tenant, and its members may do, if anything
// of it is watched. It does not wait.
func (r *revocations) changed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		if len(r.live[id]) == 0 {
			return
		}
		r.marked[id] = struct{}{}
	} else {
		for id := range r.live {
			r.marked[id] = struct{}{}
		}
	}
	for r.run.Err() == nil && r.checking < min(checkers, len(r.marked)) {
		r.checking++
		run := r.run
		r.group.Go(func() { r.check(run) })
	}
}

// settled reports whether no tenant is to be looked up.
func (r *revocations) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.marked) == 0 && r.checking == 0
}

// check looks marked tenants up until there are none. While the catalogue is out of reach their
// requests go on, as those of known tenants do, and the tenants stay marked.
func (r *revocations) check(run context.Context) {
	for {
		r.mu.Lock()
		id, more := "", false
		for id = range r.marked {
			more = true
			break
		}
		if !more || run.Err() != nil {
			r.checking--
			r.mu.Unlock()
			return
		}
		delete(r.marked, id)
		r.mu.Unlock()
		err := r.revoke(run, id)
		if err == nil {
			continue
		}
		r.tn.log.ErrorContext(run, "tenancy: cannot tell whether requests may go on; will ask again", "tenant_id", id, "error", err)
		select {
		case <-run.Done():
		case <-time.After(retryAfter):
		}
		r.mu.Lock()
		if len(r.live[id]) > 0 {
			r.marked[id] = struct{}{}
		}
		r.mu.Unlock()
	}
}

// revoke ends what may not go on. An error means that nobody can tell.
func (r *revocations) revoke(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	r.mu.Lock()
	requests := maps.Clone(r.live[id])
	r.mu.Unlock()
	if len(requests) == 0 {
		return nil
	}
	v := r.tn.validator
	t, _, err := v.lookup(ctx, ByID(id), v.gens.clock())
	switch {
	case errors.Is(err, ErrNotFound):
		r.cancel(ctx, id, requests, "", err)
		return nil
	case err != nil:
		return err
	case t.Status.Err() != nil:
		r.cancel(ctx, id, requests, "", t.Status.Err())
		return nil
	}
	members := map[string]*Member{} // who was asked
	for b := range requests {
		if b.scope.tenant.Placement.place() != t.Placement.place() {
			r.cancel(ctx, id, map[*boundRequest]struct{}{b: {}}, "", ErrMoved)
			continue
		}
		user := b.scope.userID
		if !b.asked {
			continue
		}
		m, asked := members[user]
		if !asked {
			m, err = v.member(ctx, memberKey{userID: user, of: Ref{value: id}}, v.gens.clock())
			if err != nil && !errors.Is(err, ErrNotMember) && !errors.Is(err, ErrUnverifiable) {
				return err
			}
			if members[user] = m; errors.Is(err, ErrNotMember) {
				r.cancel(ctx, id, requests, user, ErrNotMember)
			}
		}
		if w := b.watched.Load(); m != nil && w.timer != nil {
			if m.Expires.IsZero() {
				w.timer.Stop()
			} else {
				w.timer.Reset(r.until(m.Expires))
			}
		}
	}
	return nil
}

// cancel ends the requests that a user made as a member, for "" all, that have not opted out.
func (r *revocations) cancel(ctx context.Context, id string, requests map[*boundRequest]struct{}, user string, cause error) {
	n := 0
	for b := range requests {
		w := b.watched.Load()
		if user != "" && (!b.asked || b.scope.userID != user) {
			continue
		}
		if b.scope.live.keep.Load() && !errors.Is(cause, ErrMoved) { // what goes on would write where nobody looks
			continue
		}
		b.scope.live.cause.CompareAndSwap(nil, &cause)
		if w.Err() == nil { // its parent may have been ended just now
			w.cancel(cause)
			n++
		}
	}
	if n > 0 {
		r.tn.log.InfoContext(ctx, "tenancy: ended what was under way", "tenant_id", id, "user_id", user, "requests", n, "cause", cause)
	}
}

// liveness is what becomes of a bound request.
type liveness struct {
	keep  atomic.Bool           // it goes on whatever happens
	cause atomic.Pointer[error] // why it was ended
}

// KeepRunning lets the request of ctx go on to its own end although its tenant is suspended,
// deactivated or archived meanwhile, or its user's membership ends; [Require] and the data stay
// open to it. It does not outlive a move of the data ([ErrMoved]). Without it such a request's context is cancelled, with [ErrSuspended],
// [ErrInactive], [ErrNotMember] and so on as its [context.Cause]. A context that no request is
// bound to is left alone.
func KeepRunning(ctx context.Context) {
	if s := scopeOf(ctx); s != nil && s.live != nil {
		s.live.keep.Store(true)
	}
}
