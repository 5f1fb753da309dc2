package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNotHeld says that a sink has refused no event of the tenant, so that there is nothing to decide.
var ErrNotHeld = NewError(CodeTenant, "the sink holds no event of the tenant: Events.Held lists what it holds")

// Events shows an operator how the domain events reach their sinks, and takes decisions where one
// refuses an event for good. Who may call it is the application's to check. It is safe for concurrent
// use. Without a store that is an [Outbox] its methods answer [errors.ErrUnsupported].
type Events struct {
	tn *Tenancy
}

// Events returns the deliveries of domain events.
func (tn *Tenancy) Events() *Events { return &Events{tn} }

func (ev *Events) outbox() (Outbox, error) {
	if ev.tn.relay.outbox == nil {
		return nil, fmt.Errorf("the deliveries of events: %w: configure a tenancy.Config.Store that is an Outbox", errors.ErrUnsupported)
	}
	return ev.tn.relay.outbox, nil
}

// Deliver hands what waits to the subscribers and publishers of this process, once, and returns what
// kept it from doing so; refusals are no error, see [Events.Held]. A started Tenancy does so by itself.
func (ev *Events) Deliver(ctx context.Context) error {
	if _, err := ev.outbox(); err != nil {
		return err
	}
	return ev.tn.relay.deliverAll(ctx)
}

// Prune removes what every sink has taken and events.retention is over for. A started Tenancy does so
// each minute.
func (ev *Events) Prune(ctx context.Context) error {
	if _, err := ev.outbox(); err != nil {
		return err
	}
	return ev.tn.relay.prune(ctx)
}

// Sinks returns all sinks that any process of the deployment ever had, by name.
func (ev *Events) Sinks(ctx context.Context) ([]Sink, error) {
	outbox, err := ev.outbox()
	if err != nil {
		return nil, err
	}
	return outbox.Sinks(ctx)
}

// Held returns the tenants whose next event a sink refused, those that are tried again and those that
// are parked.
func (ev *Events) Held(ctx context.Context, sink string, q HoldQuery) ([]Hold, error) {
	outbox, err := ev.outbox()
	if err != nil {
		return nil, err
	}
	return outbox.Holds(ctx, sink, q)
}

// Retry makes a sink's refused event of a tenant, parked or not, due now, and its attempts none. A
// tenant that is not held is [ErrNotHeld].
func (ev *Events) Retry(ctx context.Context, sink, tenantID string) error {
	fail := func(err error) error {
		return fmt.Errorf("retry events of tenant %q for sink %q: %w", tenantID, sink, err)
	}
	h, err := ev.hold(ctx, sink, tenantID)
	if err != nil {
		return fail(err)
	}
	if err := ev.retry(ctx, sink, h); err != nil {
		return fail(err)
	}
	ev.tn.relay.deliver(ctx)
	return nil
}

func (ev *Events) retry(ctx context.Context, sink string, h Hold) error {
	again := h
	again.Attempts, again.Due = 0, ev.tn.relay.now()
	return ev.tn.relay.outbox.SaveHold(ctx, sink, HoldChange{From: &h, To: &again})
}

// RetryParked makes every parked event of a sink due now, and returns how many. One that changed
// meanwhile is left alone.
func (ev *Events) RetryParked(ctx context.Context, sink string) (n int, _ error) {
	fail := func(err error) (int, error) {
		return n, fmt.Errorf("retry parked events of sink %q: %w", sink, err)
	}
	for after := ""; ; {
		parked, err := ev.Held(ctx, sink, HoldQuery{Parked: true, After: after})
		if err != nil {
			return fail(err)
		}
		if len(parked) == 0 {
			break
		}
		for _, h := range parked {
			after = h.TenantID
			switch err := ev.retry(ctx, sink, h); {
			case err == nil:
				n++
			case !errors.Is(err, ErrConflict):
				return fail(err)
			}
		}
	}
	ev.tn.relay.deliver(ctx)
	return n, nil
}

// Discard gives up the one event of a tenant that a sink refuses, and returns it; the tenant's later
// events go on. It is logged with the reason, which is required. A tenant that is not held is
// [ErrNotHeld].
func (ev *Events) Discard(ctx context.Context, sink, tenantID, reason string) (Event, error) {
	fail := func(err error) (Event, error) {
		return Event{}, fmt.Errorf("discard an event of tenant %q for sink %q: %w", tenantID, sink, err)
	}
	if strings.TrimSpace(reason) == "" {
		return fail(ErrReasonRequired)
	}
	h, err := ev.hold(ctx, sink, tenantID)
	if err != nil {
		return fail(err)
	}
	events, err := ev.tn.relay.outbox.ReadEvents(ctx, h.Position.previous(), tenantID, 1)
	if err != nil {
		return fail(err)
	}
	if len(events) == 0 || events[0].Position != h.Position { // it was discarded already and the next one not tried yet
		return fail(ErrNotHeld)
	}
	next := Hold{TenantID: tenantID, Position: h.Position.Next(), Error: h.Error, Due: ev.tn.relay.now()}
	if err := ev.tn.relay.outbox.SaveHold(ctx, sink, HoldChange{From: &h, To: &next}); err != nil {
		return fail(err)
	}
	e := events[0].Event
	ev.tn.log.WarnContext(ctx, "tenancy: an event was discarded", "sink", sink, "event", string(e.Type), "id", e.ID,
		"tenant_id", tenantID, "reason", reason, "attempts", h.Attempts, "refusal", h.Error)
	ev.tn.relay.deliver(ctx)
	return e, nil
}

// hold returns the hold of a tenant.
func (ev *Events) hold(ctx context.Context, sink, tenantID string) (Hold, error) {
	holds, err := ev.Held(ctx, sink, HoldQuery{Tenants: []string{tenantID}})
	if err == nil && len(holds) == 0 {
		err = ErrNotHeld
	}
	if err != nil {
		return Hold{}, err
	}
	return holds[0], nil
}

// Forget removes a sink that exists no more, with what it holds, so that events are not kept for it.
// An unknown one is [ErrNoSink]. A sink that a process still has comes back at its next delivery, and
// gets every event that is kept; one that this process has is refused.
func (ev *Events) Forget(ctx context.Context, sink string) error {
	fail := func(err error) error { return fmt.Errorf("forget sink %q: %w", sink, err) }
	outbox, err := ev.outbox()
	if err != nil {
		return fail(err)
	}
	if ev.tn.relay.serves(sink) {
		return fail(errors.New("this process delivers to it: take it out of the configuration first, on every node"))
	}
	if err := outbox.ForgetSink(ctx, sink, ev.tn.relay.now()); err != nil {
		return fail(err)
	}
	ev.tn.log.WarnContext(ctx, "tenancy: a sink of events was forgotten", "sink", sink)
	return nil
}
