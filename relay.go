package tenancy

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// SubscribersSink is the name of the sink that the subscribers of all processes are together.
const SubscribersSink = "subscribers"

const (
	// pruneInterval is how often old events are removed, pruneBatch how many at once.
	pruneInterval = time.Minute
	pruneBatch    = 1000
	// longBacklog is how many waiting events are worth a warning.
	longBacklog = 1000
)

// relay hands the events of the outbox to the sinks of this process.
type relay struct {
	outbox Outbox // nil when the store has none
	cfg    EventsConfig
	owner  string // this process: the node's name, and what no other has if two are named alike
	log    *slog.Logger
	clock  func() time.Time

	subscribers *fanOut
	sinks       []*sink // the subscribers, then the publishers

	mu      sync.Mutex
	backlog map[string]bool // sinks whose long backlog was warned about
}

func newRelay(cfg Config) *relay {
	r := &relay{cfg: cfg.Events, owner: cfg.NodeID + " " + rand.Text(), log: cfg.Logger, clock: cfg.Now, backlog: map[string]bool{}}
	r.outbox, _ = cfg.Store.(Outbox)
	r.subscribers = &fanOut{taken: map[string]takenEvent{}}
	for _, s := range cfg.Subscribers {
		r.subscribers.add(s)
	}
	r.sinks = []*sink{newSink(r, SubscribersSink, r.hear)}
	for _, p := range cfg.Publishers {
		r.sinks = append(r.sinks, newSink(r, p.Name(), func(ctx context.Context, e Event) error { return r.guarded(ctx, e, p.Publish) }))
	}
	return r
}

func (r *relay) subscribe(s Subscriber) (cancel func()) { return r.subscribers.add(s) }

func (r *relay) now() time.Time { return r.clock().UTC().Truncate(time.Microsecond) }

// deliver hands what waits to the subscribers of this process, though ctx ends, and wakes those who
// hand it to the publishers. A failure is logged. Inside a tenant's work it does nothing: a subscriber
// may wait for that work's end, and who carries it out delivers afterwards.
func (r *relay) deliver(ctx context.Context) {
	if r.outbox == nil || inWork(ctx) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for _, s := range r.sinks[1:] {
		select {
		case s.wake <- struct{}{}:
		default: // it is awake
		}
	}
	s := r.sinks[0]
	s.report(ctx, s.deliver(ctx))
}

// deliverAll hands what waits to every sink.
func (r *relay) deliverAll(ctx context.Context) error {
	var errs []error
	for _, s := range r.sinks {
		err := s.deliver(ctx)
		s.report(ctx, err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// run delivers, every interval at least, until ctx ends. Each sink has a goroutine of its own, so that
// a slow one keeps nobody waiting.
func (r *relay) run(ctx context.Context, interval time.Duration) {
	if r.outbox == nil {
		return
	}
	var group sync.WaitGroup
	for _, s := range r.sinks {
		group.Go(func() { s.run(ctx, interval) })
	}
	group.Go(func() { r.maintain(ctx) })
	group.Wait()
}

// maintain removes old events and looks after backlogs until ctx ends.
func (r *relay) maintain(ctx context.Context) {
	ticker := time.NewTicker(pruneInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := errors.Join(r.prune(ctx), r.watchBacklogs(ctx))
		if (err != nil) != failing && ctx.Err() == nil {
			if failing = err != nil; failing {
				r.log.ErrorContext(ctx, "tenancy: cannot look after the outbox; will go on trying", "error", err)
			} else {
				r.log.InfoContext(ctx, "tenancy: looking after the outbox again")
			}
		}
	}
}

// prune removes what every sink has taken and nobody keeps any longer.
func (r *relay) prune(ctx context.Context) error {
	if r.cfg.Retention < 0 {
		return nil
	}
	for {
		n, err := r.outbox.PruneEvents(ctx, r.now().Add(-r.cfg.Retention), pruneBatch)
		if err != nil || n < pruneBatch {
			return err
		}
	}
}

// watchBacklogs says when a sink begins to have a long backlog, and when that is over.
func (r *relay) watchBacklogs(ctx context.Context) error {
	sinks, err := r.outbox.Sinks(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range sinks {
		long := s.Backlog >= longBacklog
		if long == r.backlog[s.Name] {
			continue
		}
		r.backlog[s.Name] = long
		if long {
			r.log.WarnContext(ctx, "tenancy: many events wait for a sink: is a process with it running? "+
				"See Events.Held for what it refuses, and Events.Forget if it is not used any more",
				"sink", s.Name, "backlog", s.Backlog, "held", s.Held, "parked", s.Parked)
		} else {
			r.log.InfoContext(ctx, "tenancy: a sink has caught up", "sink", s.Name, "backlog", s.Backlog)
		}
	}
	return nil
}

// hear hands an event to the subscribers of this process.
func (r *relay) hear(ctx context.Context, e Event) error {
	return r.subscribers.handle(ctx, e, r.guarded)
}

// fanOut hands events to subscribers. Of an event that only some took, it remembers which, so that
// these do not get it again from this process.
type fanOut struct {
	mu    sync.Mutex
	all   []*Subscriber
	taken map[string]takenEvent // by tenant
}

type takenEvent struct {
	id string
	by []*Subscriber
}

func (f *fanOut) add(s Subscriber) (cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entry := &s
	f.all = append(slices.Clone(f.all), entry)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all = slices.DeleteFunc(slices.Clone(f.all), func(e *Subscriber) bool { return e == entry })
	}
}

func (f *fanOut) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all) == 0
}

// handle calls, guarded, every subscriber that has not taken the event yet.
func (f *fanOut) handle(ctx context.Context, e Event, guarded func(context.Context, Event, Subscriber) error) error {
	f.mu.Lock()
	all, before := f.all, f.taken[e.TenantID]
	f.mu.Unlock()
	now := takenEvent{id: e.ID}
	var errs []error
	for _, s := range all {
		if before.id == e.ID && slices.Contains(before.by, s) {
			now.by = append(now.by, s)
		} else if err := guarded(ctx, e.Clone(), *s); err != nil {
			errs = append(errs, err)
		} else {
			now.by = append(now.by, s)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(errs) == 0 {
		delete(f.taken, e.TenantID)
	} else {
		f.taken[e.TenantID] = now
	}
	return errors.Join(errs...)
}

// serves reports whether this process delivers to a sink.
func (r *relay) serves(name string) bool {
	if name == SubscribersSink {
		return !r.subscribers.empty()
	}
	return slices.ContainsFunc(r.sinks, func(s *sink) bool { return s.name == name })
}
