package tenancy

import (
	"context"
	"time"
)

// publishTimeout bounds how long a change waits for the bus. Whoever is not told finds out by
// polling.
const publishTimeout = 2 * time.Second

// Bus tells all nodes of a deployment at once that a tenant changed. It is news, not truth: nodes
// look the tenant up again, so that news may come late, twice or in any order. It is safe for
// concurrent use.
type Bus interface {
	// Publish hands a change over to all who subscribed, on this node and others. It does not wait
	// until they have heard it.
	Publish(ctx context.Context, c Change) error
	// Subscribe returns when every change that is published from now on will be heard. ctx bounds
	// the wait only.
	Subscribe(ctx context.Context) (Subscription, error)
}

// Subscription hears what is published on a [Bus]. It is for one goroutine.
type Subscription interface {
	// Next waits for a change and returns the context's error when ctx ends first. After any other
	// error changes may have been missed, and the subscription hears nothing more.
	Next(ctx context.Context) (Change, error)
	// Close ends the subscription. It may be repeated.
	Close() error
}

// Change is news of a tenant: its record, names, overrides or members.
type Change struct {
	// TenantID is the tenant; "" means that any tenant may have changed.
	TenantID string `json:"tenant_id,omitempty"`
	// Revision is the tenant's after the change, 0 where it is not known.
	Revision int64 `json:"revision,omitempty"`
}

// Changed makes this node and, by the bus, the others look a tenant up again. Call it after the
// application has changed by itself what a [Directory] or a [Membership] answers. The error is the
// bus's; this node has been told then.
func (tn *Tenancy) Changed(ctx context.Context, tenantID string) error {
	tn.validator.Invalidate(tenantID)
	return tn.tell(ctx, Change{TenantID: tenantID})
}

// tell publishes a change.
func (tn *Tenancy) tell(ctx context.Context, c Change) error {
	if tn.cfg.Bus == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	err := tn.cfg.Bus.Publish(ctx, c)
	if err != nil {
		tn.log.ErrorContext(ctx, "tenancy: cannot tell other nodes of a change; they find out by polling", "tenant_id", c.TenantID, "error", err)
	}
	return err
}

// listen applies what the bus tells until ctx ends. What was missed while nobody listened is
// unknown, so that everything is looked up again when a subscription ends and when a new one stands.
func (tn *Tenancy) listen(ctx context.Context) {
	for failing := false; ctx.Err() == nil; failing = true {
		subscribed, err := tn.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		if subscribed {
			tn.validator.InvalidateAll()
		}
		if subscribed || !failing {
			tn.log.ErrorContext(ctx, "tenancy: not subscribed to the bus; will go on trying", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// hear subscribes once. It returns whether it could, and why that ended.
func (tn *Tenancy) hear(ctx context.Context) (subscribed bool, _ error) {
	bounded, cancel := context.WithTimeout(ctx, loadTimeout)
	sub, err := tn.cfg.Bus.Subscribe(bounded)
	cancel()
	if err != nil {
		return false, err
	}
	defer func() {
		if err := sub.Close(); err != nil {
			tn.log.WarnContext(ctx, "tenancy: cannot close a subscription", "error", err)
		}
	}()
	tn.validator.InvalidateAll()
	tn.log.InfoContext(ctx, "tenancy: subscribed to the bus")
	for {
		c, err := sub.Next(ctx)
		switch {
		case err != nil:
			return true, err
		case c.TenantID == "":
			tn.validator.InvalidateAll()
		default:
			tn.validator.Invalidate(c.TenantID)
		}
	}
}
