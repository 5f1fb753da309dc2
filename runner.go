package tenancy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DueStore is an optional interface of a [Store]: it finds tenants that have something to do.
// Without it, work that a node left behind goes on only when somebody asks for it.
type DueStore interface {
	// DueTenants returns up to limit tenants whose [Tenant.Due] is not after now and not zero, the
	// oldest first.
	DueTenants(ctx context.Context, now time.Time, limit int) ([]Tenant, error)
}

// dueBatch is how many tenants with something to do are read at once.
const dueBatch = 100

// RunOnce does what is due for all tenants: it goes on with works that failed or that a node left
// behind, and frees names whose quarantine is over. It returns how many tenants it did something
// for, and the errors. [Tenancy.Start] does the same all the time; RunOnce is for tests, for jobs
// and for deployments that leave the work to one place.
func (tn *Tenancy) RunOnce(ctx context.Context) (int, error) {
	var mu sync.Mutex
	var n int
	var problems []error
	seen := map[string]int64{} // the revisions that were worked on: what cannot be written is not tried for ever
	slots := make(chan struct{}, tn.cfg.Lifecycle.Workers)
	for ctx.Err() == nil {
		var group sync.WaitGroup
		fresh := func(t Tenant) bool {
			revision, known := seen[t.ID]
			seen[t.ID] = t.Revision
			return !known || revision != t.Revision
		}
		worked, err := tn.runDue(ctx, slots, &group, fresh, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if n++; err != nil {
				problems = append(problems, err)
			}
		})
		group.Wait()
		if err != nil || worked == 0 {
			return n, errors.Join(append(problems, err)...)
		}
	}
	return n, errors.Join(append(problems, context.Cause(ctx))...)
}

// Due returns up to limit tenants that have something to do now, the oldest first: for those who do it
// with [Tenancy.RunTenant], as jobs of a queue.
func (tn *Tenancy) Due(ctx context.Context, limit int) ([]Tenant, error) {
	store, ok := tn.cfg.Store.(DueStore)
	if !ok {
		return nil, fmt.Errorf("find what is due: %w: the Store has no method DueTenants", errors.ErrUnsupported)
	}
	return store.DueTenants(ctx, tn.lifecycle.now(), limit)
}

// RunTenant does what is due for one tenant and returns the error of the step that failed. When nothing
// is due, or another node is at it, it does nothing.
func (tn *Tenancy) RunTenant(ctx context.Context, id string) error {
	t, err := tn.lifecycle.Get(ctx, id)
	if err != nil {
		return err
	}
	return tn.lifecycle.goOn(ctx, t)
}

// runDue starts what is due and wanted, each on a goroutine of group, as slots become free, and returns
// how much it started.
func (tn *Tenancy) runDue(ctx context.Context, slots chan struct{}, group *sync.WaitGroup, wanted func(Tenant) bool, done func(error)) (int, error) {
	due, err := tn.Due(ctx, dueBatch)
	if err != nil {
		return 0, err
	}
	started := 0
	for _, t := range due {
		if !wanted(t) {
			continue
		}
		select {
		case <-ctx.Done():
			return started, nil
		case slots <- struct{}{}:
		}
		started++
		group.Go(func() {
			defer func() { <-slots }()
			done(tn.lifecycle.goOn(ctx, t))
		})
	}
	return started, nil
}

// goOn does what is due for one tenant. That another node is faster is no error.
func (l *Lifecycle) goOn(ctx context.Context, t Tenant) error {
	now := l.now()
	if len(t.Former) > 0 {
		freed := t.Clone()
		if freed.free(now); len(freed.Former) < len(t.Former) {
			stored, err := l.store(ctx, freed)
			if errors.Is(err, ErrConflict) {
				return nil // it is looked at again
			}
			if err != nil {
				return fmt.Errorf("free names that tenant %q had: %w", t.Slug, err)
			}
			t = stored
		}
	}
	if t.Journal == nil || t.Journal.held(now) || now.Before(t.Journal.Due) {
		return nil
	}
	leased, err := l.store(ctx, l.leased(t))
	if errors.Is(err, ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over the work on tenant %q: %w", t.Slug, err)
	}
	_, err = l.carryOut(ctx, leased)
	if errors.Is(err, ErrLeaseLost) {
		return nil
	}
	return err
}

// runner does what is due until ctx ends, and waits for what it began.
func (tn *Tenancy) runner(ctx context.Context) {
	if _, ok := tn.cfg.Store.(DueStore); !ok || tn.cfg.Lifecycle.NoRunner {
		return
	}
	slots := make(chan struct{}, tn.cfg.Lifecycle.Workers)
	var group sync.WaitGroup
	defer group.Wait()
	failing := false
	for {
		all := func(Tenant) bool { return true }
		_, err := tn.runDue(ctx, slots, &group, all, func(err error) {
			if err != nil && ctx.Err() == nil {
				tn.log.WarnContext(ctx, "tenancy: the work on a tenant failed; it will be tried again", "error", err)
			}
		})
		if (err != nil) != failing && ctx.Err() == nil {
			if failing = err != nil; failing {
				tn.log.ErrorContext(ctx, "tenancy: cannot find out what is due; will go on trying", "error", err)
			} else {
				tn.log.InfoContext(ctx, "tenancy: doing what is due again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tn.pollInterval()):
		}
	}
}
