package tenancy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// How often a failing step is tried again: after a second, then twice as long each time.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// clearTimeout bounds the removal of what was made too late.
const clearTimeout = time.Minute

// waitForLease is how often somebody who waits for a tenant's work looks again.
const waitForLease = 50 * time.Millisecond

var (
	// ErrLeaseLost says that a node may not go on with the work on a tenant: another one has it, or may
	// take it, since the lease could not be renewed. The work goes on by itself.
	ErrLeaseLost = NewError(CodeProvisioning, "the lease of the work on the tenant is lost: another node has it or may take it, and goes on")
	// errNested says that a step or a hook of a tenant's work waits for that work itself.
	errNested = NewError(CodeProvisioning, "the work on the tenant is under way, and this is called from inside it: "+
		"leave the change of state to the work, or make it in a Subscriber, which hears of the work when it is over")
)

// worker does the steps of one tenant's journal. While it does, it keeps the lease.
type worker struct {
	l     *Lifecycle
	id    string
	work  Work
	fence int64

	mu     sync.Mutex // held while tenant is written
	tenant Tenant     // as it was stored last
}

type workKey struct{}

// inWork reports whether ctx is that of a step, or of a hook, of a tenant's work.
func inWork(ctx context.Context) bool { return ctx.Value(workKey{}) != nil }

// acquire takes the lease of a tenant's work and waits for who has it. prepare gets the tenant as it
// is and gives it the journal; when it leaves none there is nothing to do.
func (l *Lifecycle) acquire(ctx context.Context, id string, prepare func(*Tenant) error) (Tenant, error) {
	if nested, _ := ctx.Value(workKey{}).(string); nested == id {
		return Tenant{}, errNested
	}
	for owner := ""; ; {
		t, err := l.Get(ctx, id)
		if err != nil && owner != "" && ctx.Err() != nil {
			err = fmt.Errorf("wait for node %s, which works on it: %w", owner, context.Cause(ctx))
		}
		if err != nil {
			return Tenant{}, err
		}
		if t.Journal == nil || !t.Journal.held(l.now()) {
			if err := prepare(&t); err != nil || t.Journal == nil {
				return t, err
			}
			stored, err := l.store(ctx, l.leased(t))
			if !errors.Is(err, ErrConflict) {
				return stored, err
			}
			continue // somebody was faster
		}
		owner = t.Journal.Owner
		select {
		case <-ctx.Done():
		case <-time.After(waitForLease):
		}
	}
}

// leased returns t with the lease of its journal given to this node.
func (l *Lifecycle) leased(t Tenant) Tenant {
	t.Journal = t.Journal.clone()
	t.Journal.Owner, t.Journal.Until = l.tn.cfg.NodeID, l.now().Add(l.tn.cfg.Lifecycle.Lease)
	t.Journal.Fence = t.Revision + 1
	return t
}

// carryOut does what is left of the journal, whose lease this node has, and ends the work. After an
// error the tenant keeps its state, and the journal says what failed. Subscribers hear of it when the
// lease is given back: they may change the tenant again.
func (l *Lifecycle) carryOut(ctx context.Context, t Tenant) (Tenant, error) {
	w := &worker{l: l, id: t.ID, work: t.Journal.Work, fence: t.Journal.Fence, tenant: t}
	t, err := w.carryOut(context.WithValue(ctx, workKey{}, t.ID), t)
	l.tn.relay.deliver(ctx)
	return t, err
}

// carryOut keeps the lease until it returns, or its goroutine ends.
func (w *worker) carryOut(ctx context.Context, t Tenant) (Tenant, error) {
	l := w.l
	ctx, stop := w.keep(ctx, t.Journal.Until)
	defer stop()
	steps := slices.DeleteFunc(slices.Clone(l.steps(t.Journal.Work)), func(s Step) bool { return slices.Contains(t.Journal.Done, s.Name) })
	last := func(*Tenant) {}
	for i, step := range steps {
		at := w.copy()
		if err := l.run(ctx, step, &at); err != nil {
			return w.failed(ctx, step.Name, err)
		}
		done := func(t *Tenant) {
			t.Placement = at.Placement
			t.Journal.Manifest = at.Journal.Manifest
			t.Journal.Done = append(t.Journal.Done, step.Name)
			t.Journal.Attempts, t.Journal.LastError = 0, ""
		}
		if i == len(steps)-1 { // it is recorded with the outcome
			last = done
		} else if err := w.save(ctx, nil, done); err != nil {
			return w.failed(ctx, step.Name, err)
		}
	}
	return w.finish(ctx, last)
}

// run runs a step. One that panics has failed.
func (l *Lifecycle) run(ctx context.Context, step Step, t *Tenant) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return guarded(ctx, l.tn.log, "a step", func() error { return step.Run(ctx, t) }, "tenant_id", t.ID, "step", step.Name)
}

// finish makes the work's outcome the tenant's state and tells it, all at once, with what the last
// step changed.
func (w *worker) finish(ctx context.Context, last func(*Tenant)) (Tenant, error) {
	status, typ := w.work.outcome()
	err := w.save(ctx, &typ, func(t *Tenant) {
		last(t)
		t.Status, t.StatusReason, t.Journal = status, "", nil
		switch status {
		case StatusArchived:
			w.l.archived(t)
		case StatusPurged:
			t.Name, t.Metadata, t.PurgeAfter = "", nil, time.Time{}
		}
	})
	if err == nil {
		return w.copy(), nil
	}
	// The write may have been committed all the same, and whoever has the lease now may have brought
	// the work to its end.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	t, getErr := w.l.Get(asking, w.id)
	if getErr == nil && (t.Status == status || errors.Is(err, ErrLeaseLost) && t.Journal == nil && t.Status != StatusProvisioning && t.Status != StatusPurged) {
		return t, nil
	}
	return w.failed(ctx, "finish", err)
}

// failed records why the work stopped, and gives the lease back. It goes on later by itself; at once
// when it was only told to stop.
func (w *worker) failed(ctx context.Context, step string, cause error) (Tenant, error) {
	l := w.l
	t := w.copy()
	err := provisionError(t, step, cause)
	stopped := errors.Is(ctx.Err(), context.Canceled) // a step that needs more time than it is given has failed
	if errors.Is(cause, ErrLeaseLost) || errors.Is(context.Cause(ctx), ErrLeaseLost) {
		w.clearAway(ctx)
		return t, fmt.Errorf("%s tenant %q: %w", step, t.Slug, ErrLeaseLost)
	}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	saveErr := w.save(recording, nil, func(t *Tenant) {
		j, now := t.Journal, l.now()
		j.Owner, j.Until, j.Due = "", time.Time{}, now
		if stopped {
			return
		}
		j.Attempts++
		j.LastError = truncate(cause.Error(), maxReason)
		j.Due = now.Add(backoff(j.Attempts))
		if give := l.tn.cfg.Lifecycle.GiveUpAfter; j.Work == WorkProvision && give > 0 && now.Sub(j.Started) >= give {
			t.Journal = &Journal{Work: WorkPurge, Reason: truncate("the provisioning was given up: "+j.LastError, maxReason), Started: now, Due: now, Fence: j.Fence}
		}
	})
	if saveErr != nil {
		l.tn.log.ErrorContext(ctx, "tenancy: cannot record why the work on a tenant stopped; it goes on when the lease ends",
			"tenant_id", w.id, "cause", cause, "error", saveErr)
	}
	return w.copy(), err
}

// clearAway removes what this node made after its lease was lost, if the tenant is purged by now: the
// purge cannot have seen it. What a process leaves that is killed here, or makes later still, stays.
func (w *worker) clearAway(ctx context.Context) {
	if w.work != WorkProvision || w.l.tn.cfg.Provisioner == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	defer cancel()
	t, err := w.l.Get(ctx, w.id)
	if err == nil && t.Status == StatusPurged {
		err = w.l.tn.cfg.Provisioner.Deprovision(ctx, t)
	}
	if err != nil {
		w.l.tn.log.ErrorContext(ctx, "tenancy: cannot make sure that nothing is left of a tenant that was purged while this node worked on it: "+
			"look for its place by hand", "tenant_id", w.id, "error", err)
	}
}

// backoff returns how long to wait after so many failures, a fifth more or less.
func backoff(attempts int) time.Duration {
	d := lastRetry
	if shift := attempts - 1; shift < 10 {
		d = min(d, firstRetry<<shift)
	}
	return d - d/5 + rand.N(2*d/5) //nolint:gosec // G404: it spreads load and keeps no secret
}

// keep renews the lease, which ends at until, until stop is called. When it is lost, or cannot be
// renewed in time, the context that it returns ends. What counts is when a lease was written down, not
// when that write came back.
func (w *worker) keep(ctx context.Context, until time.Time) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	lease := w.l.tn.cfg.Lifecycle.Lease
	renewed := time.Now().Add(until.Sub(w.l.now()) - lease)
	var group sync.WaitGroup
	group.Go(func() {
		next := renewed.Add(lease / 3)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(next)):
			}
			began := time.Now()
			next = began.Add(lease / 3)
			bounded, done := context.WithDeadline(ctx, renewed.Add(lease*9/10))
			err := w.save(bounded, nil, func(t *Tenant) { t.Journal.Until = w.l.now().Add(lease) })
			done()
			switch {
			case err == nil:
				renewed = began
			case errors.Is(err, ErrLeaseLost), time.Since(renewed) > lease*2/3:
				cancel(fmt.Errorf("%w (%w)", ErrLeaseLost, err))
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		group.Wait()
	}
}

func (w *worker) copy() Tenant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tenant.Clone()
}

// save changes the tenant's record, with an event or without, if this node still has the lease;
// otherwise ErrLeaseLost. What others changed of the record meanwhile stays.
func (w *worker) save(ctx context.Context, typ *EventType, change func(*Tenant)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.tenant.Journal == nil || w.tenant.Journal.Fence != w.fence {
			return ErrLeaseLost // or given back, at the end
		}
		t := w.tenant.Clone()
		j := t.Journal
		change(&t)
		var stored Tenant
		var err error
		if typ == nil {
			stored, err = w.l.store(ctx, t)
		} else {
			stored, err = w.l.change(ctx, t, *typ, j.Reason, j.Manifest)
		}
		if err == nil {
			w.tenant = stored
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		latest, err := w.l.Get(ctx, w.id)
		if err != nil {
			return err
		}
		w.tenant = latest
	}
}
