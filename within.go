package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Within runs fn inside a tenant: for webhooks, jobs and scripts, where no request names
// one. The tenant must exist and be active; who asks is the caller's to check, and the
// reason says so. The scope ends with fn: its context is cancelled and refuses to be used
// afterwards. It returns fn's error, or why fn did not run.
func (tn *Tenancy) Within(ctx context.Context, ref Ref, reason string, fn func(ctx context.Context) error) error {
	if strings.TrimSpace(reason) == "" {
		return ErrReasonRequired
	}
	if tn.cfg.Disabled {
		return ErrDisabled
	}
	t, _, err := tn.validator.lookup(ctx, ref, tn.validator.gens.clock())
	if err != nil {
		return fmt.Errorf("enter tenant %s: %w", ref, err)
	}
	if err := t.Status.Err(); err != nil {
		return fmt.Errorf("enter tenant %q: %w", t.Slug, err)
	}
	return runWithin(ctx, t, "within", reason, fn)
}

// runWithin binds ctx for the duration of fn, also when fn panics.
func runWithin(ctx context.Context, t *Tenant, resolver, reason string, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := new(atomic.Bool)
	defer func() {
		ended.Store(true)
		cancel(ErrScopeEnded)
	}()
	return fn(withScope(ctx, scope{
		kind: scopeBound, tenant: t, resolver: resolver, reason: reason, ended: ended,
	}))
}

// EachOptions chooses tenants for [Tenancy.Each].
type EachOptions struct {
	// Reason is required.
	Reason string
	// List chooses the tenants. Statuses defaults to active only; no other can be entered.
	List ListOptions
	// Parallel is how many tenants are worked on at once. Defaults to 1.
	Parallel int
}

// TenantError is the failure of one tenant in [Tenancy.Each].
type TenantError struct {
	TenantID, Slug string
	Err            error
}

func (e *TenantError) Error() string { return fmt.Sprintf("tenant %q: %v", e.Slug, e.Err) }

func (e *TenantError) Unwrap() error { return e.Err }

// Code returns CodeTenant, or the code of the failure.
func (e *TenantError) Code() Code {
	if code := CodeOf(e.Err); code != "" {
		return code
	}
	return CodeTenant
}

// Each runs fn inside every active tenant. One tenant's failure, a panic included, does not
// keep the others from their turn; all failures come back joined, each a [*TenantError]. It
// stops early only when ctx ends.
func (tn *Tenancy) Each(ctx context.Context, opts EachOptions, fn func(ctx context.Context) error) error {
	if strings.TrimSpace(opts.Reason) == "" {
		return ErrReasonRequired
	}
	if tn.cfg.Disabled {
		return ErrDisabled
	}
	if tn.cfg.Store == nil {
		return fmt.Errorf("list tenants: %w: configure tenancy.Config.Store", errors.ErrUnsupported)
	}
	opts.List.Statuses = []Status{StatusActive}
	slots := make(chan struct{}, max(1, opts.Parallel))
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		failures []error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err)
	}
	for {
		page, err := tn.cfg.Store.List(ctx, opts.List)
		if err != nil {
			fail(fmt.Errorf("list tenants: %w", err))
			break
		}
		for _, t := range page.Tenants {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				break
			}
			group.Go(func() {
				defer func() { <-slots }()
				if err := eachOne(ctx, &t, opts.Reason, fn); err != nil {
					fail(&TenantError{TenantID: t.ID, Slug: t.Slug, Err: err})
				}
			})
		}
		if opts.List.After = page.Next; page.Next == "" || ctx.Err() != nil {
			break
		}
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// eachOne turns a panic into the tenant's failure: it is reported, not hidden, and the other
// tenants get their turn.
func eachOne(ctx context.Context, t *Tenant, reason string, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return runWithin(ctx, t, "each", reason, fn)
}
