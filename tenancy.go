package tenancy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Tenancy is the composed library: it binds requests to tenants and keeps the tenants. It
// is safe for concurrent use.
type Tenancy struct {
	cfg       Config
	chain     *Chain
	pins      map[string]Ref // by issuer
	validator *Validator
	lifecycle *Lifecycle
	overrides *Overrides
	relay     *relay
	log       *slog.Logger

	revocations *revocations

	mu   sync.Mutex
	stop func() // of the goroutines that Start started; nil when not running
}

// New composes a Tenancy. It fills defaults, reports all problems joined, does no I/O and
// starts no goroutine.
func New(cfg Config) (*Tenancy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	clock := cfg.Now // nil for the system's: the caches then read it cheaper
	cfg = cfg.withDefaults()
	chain, err := NewChain(cfg.Resolution, cfg.Resolvers...)
	if err != nil {
		return nil, err
	}
	gens := newGenerations(clock)
	validator, err := NewValidator(ValidatorConfig{
		Directory: cfg.Directory, Membership: cfg.Membership, Resolution: cfg.Resolution, Now: clock, gens: gens,
	})
	if err != nil {
		return nil, err
	}
	tn := &Tenancy{cfg: cfg, chain: chain, validator: validator, log: cfg.Logger, pins: map[string]Ref{}}
	for issuer, name := range cfg.Resolution.IssuerTenants {
		tn.pins[issuer] = ByIDOrSlug(name)
	}
	tn.relay = newRelay(cfg)
	if tn.overrides, err = newOverrides(tn, gens); err != nil {
		return nil, err
	}
	tn.lifecycle = &Lifecycle{tn: tn}
	tn.revocations = newRevocations(tn)
	validator.changed = func(tenantID string) {
		tn.revocations.changed(tenantID)
		tn.overrides.watchers.changed(tenantID)
	}
	return tn, nil
}

// Config returns the configuration with its defaults filled in.
func (tn *Tenancy) Config() Config { return tn.cfg }

// Chain returns the resolvers.
func (tn *Tenancy) Chain() *Chain { return tn.chain }

// Validator returns the cached view of tenants and memberships.
func (tn *Tenancy) Validator() *Validator { return tn.validator }

// Lifecycle returns the management of tenants.
func (tn *Tenancy) Lifecycle() *Lifecycle { return tn.lifecycle }

// Overrides returns the tenants' own settings.
func (tn *Tenancy) Overrides() *Overrides { return tn.overrides }

// Members returns the management of memberships.
func (tn *Tenancy) Members() *Members { return &Members{tn: tn} }

// Subscribe adds a subscriber to the domain events and returns the function that removes
// it. Events that happened before may arrive, if nobody took them yet.
func (tn *Tenancy) Subscribe(s Subscriber) (cancel func()) { return tn.relay.subscribe(s) }

// Start follows the catalogue's changes, if it is a [ChangeFeed], and those that the bus tells, and
// delivers events that an earlier process left. It returns an error when the catalogue cannot be
// asked; then nothing runs. A bus out of reach is no error: it is tried again. The context bounds the start only: [Tenancy.Stop] ends what was started.
func (tn *Tenancy) Start(ctx context.Context) error {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if tn.stop != nil {
		return errors.New("tenancy: Start was called twice: call Stop first")
	}
	feed, _ := tn.cfg.Directory.(ChangeFeed)
	var revision int64
	var pulse *pulse
	if feed != nil {
		changes, err := feed.Changes(ctx, -1)
		if err != nil {
			return unavailable(ctx, err)
		}
		revision = changes.Revision
		pulse = tn.newPulse(revision)
		pulse.beat(ctx, revision)
		// What was cached before was not followed. Whoever waits for nodes and does not see this one yet
		// has made its change before this.
		tn.validator.InvalidateAll()
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	if feed != nil {
		group.Go(func() { pulse.run(run) })
	}
	if feed != nil && tn.cfg.Resolution.PollInterval > 0 {
		group.Go(func() { tn.follow(run, feed, revision, pulse) })
	}
	group.Go(func() { tn.runner(run) })
	group.Go(func() { tn.relay.run(run, tn.pollInterval()) })
	if tn.cfg.Bus != nil {
		group.Go(func() { tn.listen(run) })
	}
	tn.stop = func() {
		cancel()
		group.Wait()
	}
	return nil
}

// Stop ends what Start started and waits for it. It is idempotent and may be called without
// a Start. When ctx ends first it returns the context's error; the work still winds down.
func (tn *Tenancy) Stop(ctx context.Context) error {
	tn.mu.Lock()
	stop := tn.stop
	tn.stop = nil
	tn.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if stop != nil {
			stop()
		}
		tn.revocations.stop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pollInterval is how often the catalogue is asked what there is to do.
func (tn *Tenancy) pollInterval() time.Duration {
	if interval := tn.cfg.Resolution.PollInterval; interval > 0 {
		return interval
	}
	return defaultPollInterval
}

// follow polls the feed until ctx ends.
func (tn *Tenancy) follow(ctx context.Context, feed ChangeFeed, revision int64, pulse *pulse) {
	ticker := time.NewTicker(tn.pollInterval())
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		next, err := tn.poll(ctx, feed, revision)
		if err == nil {
			revision = next
			pulse.reach(revision)
		}
		if (err != nil) != failing && ctx.Err() == nil {
			if failing = err != nil; failing {
				tn.log.ErrorContext(ctx, "tenancy: cannot follow the catalogue's changes; will go on trying", "error", err)
			} else {
				tn.log.InfoContext(ctx, "tenancy: following the catalogue's changes again")
			}
		}
	}
}

// poll applies what changed since revision and returns the revision that it reached.
func (tn *Tenancy) poll(ctx context.Context, feed ChangeFeed, revision int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	changes, err := feed.Changes(ctx, revision)
	if err != nil {
		return revision, err
	}
	if changes.Lost {
		tn.validator.InvalidateAll()
	}
	for _, id := range changes.Tenants {
		tn.validator.Invalidate(id)
	}
	return changes.Revision, nil
}
