package tenancy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// eventBatch is how many events are read at once, holdBatch how many held tenants are tried between
	// new events.
	eventBatch = 100
	holdBatch  = 10
	// maxHeld is how many tenants wait for a further attempt before a sink counts as out of order: then
	// it collects no more of them but, at growing intervals, probeTenants to see whether it works again.
	maxHeld      = 100
	probeTenants = 25
	// saveTimeout bounds the save of what was delivered although the delivery was ended.
	saveTimeout = 5 * time.Second
)

// sink is one sink in this process.
type sink struct {
	relay *relay
	name  string
	hand  Subscriber
	wake  chan struct{}

	again   atomic.Bool // something was committed since the outbox was read
	failing atomic.Bool // the last delivery could not read or save

	delivering sync.Mutex
	refused    int           // hand-overs without success, since the last one with
	probeAt    time.Time     // of a sink out of order: when it is tried next
	probeWait  time.Duration // until the try after that
}

func newSink(r *relay, name string, hand Subscriber) *sink {
	return &sink{relay: r, name: name, hand: hand, wake: make(chan struct{}, 1)}
}

// run delivers when woken, and every interval, until ctx ends.
func (s *sink) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.wake:
		}
		s.report(ctx, s.deliver(ctx))
	}
}

// report logs when deliveries begin to fail and when they work again.
func (s *sink) report(ctx context.Context, err error) {
	if ctx.Err() != nil || s.failing.Swap(err != nil) == (err != nil) {
		return
	}
	if err != nil {
		s.relay.log.ErrorContext(ctx, "tenancy: cannot deliver events; they are kept, will go on trying", "sink", s.name, "error", err)
	} else {
		s.relay.log.InfoContext(ctx, "tenancy: delivering events again", "sink", s.name)
	}
}

// deliver hands over what waits. While this process delivers already, perhaps to a subscriber that is
// the caller, it returns at once, and whoever delivers reads again.
func (s *sink) deliver(ctx context.Context) error {
	if s.relay.outbox == nil || s.name == SubscribersSink && s.relay.subscribers.empty() {
		return nil
	}
	s.again.Store(true)
	var err error
	for err == nil && s.again.Load() && ctx.Err() == nil {
		if !s.delivering.TryLock() {
			return nil
		}
		err = s.deliverOnce(ctx)
	}
	return err
}

func (s *sink) deliverOnce(ctx context.Context) error {
	defer s.delivering.Unlock()
	s.again.Store(false)
	r, now := s.relay, s.relay.now()
	if waits, err := r.outbox.SinkWaits(ctx, s.name, now); err != nil || !waits {
		return err
	}
	claim, err := r.outbox.ClaimSink(ctx, s.name, r.owner, now, now.Add(r.cfg.Lease))
	if err != nil || claim.Owner != r.owner {
		return err // another node delivers
	}
	d := &delivery{
		sink: s, from: claim.Cursor, cursor: claim.Cursor, until: claim.Until, held: claim.Held,
		saved: map[string]*Hold{}, holds: map[string]*Hold{},
	}
	return d.run(ctx)
}

// guarded calls a subscriber or publisher. A panic counts as a refusal.
func (r *relay) guarded(ctx context.Context, e Event, to Subscriber) error {
	return guarded(ctx, r.log, "a subscriber or publisher", func() error { return to(ctx, e) },
		"event", string(e.Type), "id", e.ID, "tenant_id", e.TenantID)
}

// delivery is one claim of a sink, from its begin to its end.
type delivery struct {
	*sink
	cursor Position         // as reached
	held   int              // tenants that wait for a further attempt
	room   int              // how many more may come to do so now
	holds  map[string]*Hold // by tenant, nil for one that was held; what is not here is as stored
	saved  map[string]*Hold // the same as stored

	mu    sync.Mutex
	from  Position  // the cursor as stored
	until time.Time // when the claim ends
}

// errLost ends a delivery whose claim another node has, or may have.
var errLost = errors.New("another process may deliver now")

// run delivers until nothing is left to do, and lets go of the claim.
func (d *delivery) run(ctx context.Context) error {
	claimed, end := context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		d.keep(claimed, end)
	}()
	defer func() { // also when a subscriber ends this goroutine
		end(nil)
		<-kept
	}()
	err := d.all(claimed)
	end(nil)
	<-kept
	if errors.Is(err, errLost) || errors.Is(err, ErrConflict) {
		return d.overtaken(ctx, err)
	}
	save, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if ctx.Err() != nil { // a delivery that was ended is no failure
		err = nil
	}
	saved := d.save(save, d.relay.now())
	if errors.Is(saved, ErrConflict) {
		return errors.Join(err, d.overtaken(ctx, saved))
	}
	return errors.Join(err, saved)
}

// overtaken ends a delivery that another node, or an operator, got in the way of.
func (d *delivery) overtaken(ctx context.Context, err error) error {
	d.relay.log.WarnContext(ctx, "tenancy: another process changed a sink during a delivery; some events may come twice",
		"sink", d.name, "error", err)
	return nil
}

// keep renews the claim until ctx ends, and ends the delivery when it is lost.
func (d *delivery) keep(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(d.relay.cfg.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := d.renew(ctx); err != nil && (errors.Is(err, errLost) || !d.relay.now().Before(d.claimedUntil())) {
			end(fmt.Errorf("%w: %w", errLost, err))
			return
		}
	}
}

func (d *delivery) claimedUntil() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.until
}

// renew makes the claim last longer. What another node has taken in between is lost.
func (d *delivery) renew(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.relay.now()
	claim, err := d.relay.outbox.ClaimSink(ctx, d.name, d.relay.owner, now, now.Add(d.relay.cfg.Lease))
	if err != nil {
		return err
	}
	if claim.Owner != d.relay.owner || claim.Cursor != d.from {
		return errLost
	}
	d.until = claim.Until
	return nil
}

// save stores how far the delivery came, and until when the claim lasts.
func (d *delivery) save(ctx context.Context, until time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := SinkProgress{Sink: d.name, Owner: d.relay.owner, From: d.from, To: d.cursor, Until: until}
	for _, id := range slices.Sorted(maps.Keys(d.holds)) {
		if from, to := d.saved[id], d.holds[id]; from != to {
			p.Holds = append(p.Holds, HoldChange{From: from, To: to})
		}
	}
	if err := d.relay.outbox.SaveSink(ctx, p); err != nil {
		return err
	}
	d.from, d.until = d.cursor, until
	maps.Copy(d.saved, d.holds)
	return nil
}

// all delivers what is new and what is held and due, by turns, until both are at their end.
func (d *delivery) all(ctx context.Context) error {
	for {
		went, err := d.goOn(ctx)
		if err != nil {
			return err
		}
		retried, err := d.retryHeld(ctx)
		if err != nil || !retried && !went {
			return err
		}
		if err := d.save(ctx, d.claimedUntil()); err != nil {
			return err
		}
	}
}

// retryHeld tries again what is due. It reports whether there may be more.
func (d *delivery) retryHeld(ctx context.Context) (more bool, _ error) {
	due, err := d.relay.outbox.Holds(ctx, d.name, HoldQuery{DueBy: d.relay.now(), Limit: holdBatch})
	if err != nil {
		return false, err
	}
	for _, h := range due {
		if _, known := d.holds[h.TenantID]; !known {
			d.saved[h.TenantID], d.holds[h.TenantID] = &h, &h
		}
		if err := d.retry(ctx, h); err != nil {
			return false, err
		}
	}
	return len(due) == holdBatch, nil
}

// retry hands over a held tenant's events up to the cursor, and lets it go when all were taken.
func (d *delivery) retry(ctx context.Context, h Hold) error {
	for {
		events, err := d.relay.outbox.ReadEvents(ctx, h.Position.previous(), h.TenantID, eventBatch)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Position.Compare(d.cursor) > 0 {
				break // it comes as a new one
			}
			refusal, err := d.handOver(ctx, e)
			if err != nil {
				return err
			}
			if refusal != nil {
				d.held--
				d.hold(ctx, e, h.Attempts+1, refusal)
				return nil
			}
			h = Hold{TenantID: h.TenantID, Position: e.Position.Next(), Due: d.relay.now()}
			d.holds[h.TenantID] = &h
		}
		if len(events) < eventBatch || events[len(events)-1].Position.Compare(d.cursor) > 0 {
			d.held--
			d.holds[h.TenantID] = nil
			return nil
		}
	}
}

// goOn delivers the events after the cursor, and passes those of held tenants. It reports whether
// there may be more.
func (d *delivery) goOn(ctx context.Context) (more bool, _ error) {
	if d.room = d.allowance(); d.room <= 0 {
		return false, nil
	}
	events, err := d.relay.outbox.ReadEvents(ctx, d.cursor, "", eventBatch)
	if err != nil {
		return false, err
	}
	held, err := d.heldOf(ctx, events)
	if err != nil {
		return false, err
	}
	tries := 0
	for _, e := range events {
		if !held[e.TenantID] {
			if d.room <= 0 {
				break
			}
			refusal, err := d.handOver(ctx, e)
			if err != nil {
				return false, err
			}
			if tries++; refusal != nil {
				held[e.TenantID] = true
				d.room--
				d.hold(ctx, e, 1, refusal)
			}
		}
		d.cursor = e.Position
	}
	if tries > 0 && d.outOfOrder() {
		d.probeWait = min(max(2*d.probeWait, firstRetry), lastRetry)
		d.probeAt = d.relay.now().Add(d.probeWait)
		return false, nil
	}
	return len(events) == eventBatch, nil
}

// outOfOrder reports whether the sink refuses so much, and takes nothing, that it is not the events' fault.
func (d *delivery) outOfOrder() bool { return d.held >= maxHeld && d.refused >= maxHeld }

// allowance returns how many more tenants may come to be held before the sink has to take something
// again: one that is out of order keeps its cursor, but for a try now and then.
func (d *delivery) allowance() int {
	switch {
	case !d.outOfOrder():
		return max(maxHeld-d.held, maxHeld-d.refused)
	case d.relay.now().Before(d.probeAt):
		return 0
	default:
		return probeTenants
	}
}

// heldOf tells of the tenants of some events whether they are held.
func (d *delivery) heldOf(ctx context.Context, events []StoredEvent) (map[string]bool, error) {
	held := map[string]bool{}
	var ask []string
	for _, e := range events {
		if _, seen := held[e.TenantID]; seen {
			continue
		}
		h, known := d.holds[e.TenantID]
		held[e.TenantID] = h != nil
		if !known {
			ask = append(ask, e.TenantID)
		}
	}
	if len(ask) == 0 {
		return held, nil
	}
	holds, err := d.relay.outbox.Holds(ctx, d.name, HoldQuery{Tenants: ask, Limit: len(ask)})
	for _, h := range holds {
		held[h.TenantID] = true
	}
	return held, err
}

// handOver hands an event over. A refusal is the taker's; an error ends the delivery.
func (d *delivery) handOver(ctx context.Context, e StoredEvent) (refusal, _ error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	timeout := d.relay.cfg.Lease * 2 / 3
	if d.claimedUntil().Sub(d.relay.now()) < timeout {
		if err := d.renew(ctx); err != nil {
			return nil, err
		}
	}
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := d.hand(call, e.Event)
	switch {
	case err == nil:
		d.refused, d.room, d.probeAt, d.probeWait = 0, maxHeld, time.Time{}, 0
		return nil, nil
	case ctx.Err() != nil: // so the delivery was ended, and not the event refused
		return nil, context.Cause(ctx)
	default:
		d.refused++
		return err, nil
	}
}

// hold notes a refusal. While the sink is out of order it is not the event's fault, and nothing is
// parked.
func (d *delivery) hold(ctx context.Context, e StoredEvent, attempts int, refusal error) {
	h := &Hold{TenantID: e.TenantID, Position: e.Position, Attempts: attempts, Error: holdError(refusal)}
	d.holds[e.TenantID] = h
	log := d.relay.log.With("sink", d.name, "event", string(e.Type), "id", e.ID, "tenant_id", e.TenantID,
		"attempts", attempts, "error", refusal)
	limit := d.relay.cfg.MaxAttempts
	if limit > 0 && attempts >= limit && !d.outOfOrder() {
		log.ErrorContext(ctx, "tenancy: an event is parked, and its tenant's later ones wait: fix what refuses it, "+
			"then Events.Retry, or give it up with Events.Discard")
		return
	}
	d.held++
	h.Due = d.relay.now().Add(backoff(attempts))
	if attempts&(attempts-1) == 0 { // not each of hundreds
		log.ErrorContext(ctx, "tenancy: a sink refused an event; it will come again", "due", h.Due)
	}
}

// holdError returns the text of an error as every store can keep it.
func holdError(err error) string {
	return truncate(strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "�"), "\x00", "�"), maxReason)
}
