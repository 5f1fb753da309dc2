package tenancy

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// outboxBatch is how many events are read at once.
const outboxBatch = 100

// relay hands the events of the outbox to the subscribers of this process. Without
// subscribers it leaves the outbox alone: another process may have some.
type relay struct {
	outbox Outbox // nil when the store has none
	log    *slog.Logger

	mu          sync.Mutex
	subscribers []*Subscriber

	delivering sync.Mutex
	again      atomic.Bool // something was committed since the outbox was read
}

func newRelay(store Store, log *slog.Logger, subscribers []Subscriber) *relay {
	r := &relay{log: log}
	r.outbox, _ = store.(Outbox)
	for _, s := range subscribers {
		r.subscribe(s)
	}
	return r
}

func (r *relay) subscribe(s Subscriber) (cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := &s
	r.subscribers = append(slices.Clone(r.subscribers), entry)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.subscribers = slices.DeleteFunc(slices.Clone(r.subscribers), func(e *Subscriber) bool { return e == entry })
	}
}

// deliver hands over what waits, oldest first. An event that a subscriber refuses stays, and
// so do the later ones of its tenant.
func (r *relay) deliver(ctx context.Context) {
	r.mu.Lock()
	subscribers := r.subscribers
	r.mu.Unlock()
	if r.outbox == nil || len(subscribers) == 0 {
		return
	}
	r.again.Store(true)
	for r.again.Load() && ctx.Err() == nil {
		if !r.delivering.TryLock() {
			return // whoever delivers, a subscriber of ours perhaps, reads again
		}
		r.again.Store(false)
		r.drain(ctx, subscribers)
		r.delivering.Unlock()
	}
}

// drain delivers until nothing is left but what subscribers refuse.
func (r *relay) drain(ctx context.Context, subscribers []*Subscriber) {
	held := map[string]bool{} // tenants with a refused event
	for ctx.Err() == nil {
		events, err := r.outbox.PendingEvents(ctx, outboxBatch)
		if err != nil {
			r.log.ErrorContext(ctx, "tenancy: cannot read the outbox; will try again", "error", err)
			return
		}
		delivered := r.handOver(ctx, subscribers, events, held)
		if len(delivered) == 0 {
			return
		}
		if err := r.outbox.EventsDelivered(ctx, delivered...); err != nil {
			r.log.ErrorContext(ctx, "tenancy: events will be delivered again", "error", err)
			return
		}
	}
}

// handOver returns the ids of the events that every subscriber took, and adds to held.
func (r *relay) handOver(ctx context.Context, subscribers []*Subscriber, events []Event, held map[string]bool) []string {
	var delivered []string
next:
	for _, e := range events {
		if held[e.TenantID] {
			continue
		}
		for _, s := range subscribers {
			if err := (*s)(ctx, e); err != nil {
				held[e.TenantID] = true
				r.log.ErrorContext(ctx, "tenancy: a subscriber refused an event; it will come again",
					"event", string(e.Type), "id", e.ID, "tenant_id", e.TenantID, "error", err)
				continue next
			}
		}
		delivered = append(delivered, e.ID)
	}
	return delivered
}
