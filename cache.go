package tenancy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// loadTimeout ends a load that nobody waits for any more, and one that hangs.
const loadTimeout = 10 * time.Second

// retryAfter is how long a failed refresh is not repeated while a stale answer serves.
const retryAfter = time.Second

// maxReloads bounds how often one load is repeated because its subject changed meanwhile.
const maxReloads = 3

// generations decides which cached answers still hold. Each tenant has a stripe, a counter
// that goes up with each change of the tenant; an answer holds while the stripe is as it was
// when the answer was loaded. Two tenants on one stripe cost a reload, never a wrong answer.
//
// A change that comes while a load is under way is kept in a ring, so that the load's result
// is not cached over it.
type generations struct {
	seed    maphash.Seed
	stripes [4096]atomic.Uint64
	unknown atomic.Uint64 // stripe of names that belonged to nobody: any change may give them an owner

	mu     sync.Mutex
	epoch  uint64       // counts changes
	ring   [1024]uint32 // the stripes of the latest changes, by epoch
	oldest uint64       // the epoch before which the ring says nothing

	// The clock of all caches, as the time since started: a request reads it once.
	now      func() time.Time
	started  time.Time
	realTime bool // now is the system's clock: take the cheaper monotonic reading

	// forget empties the caches' tables of loads under way, so that nobody who asks after a
	// change joins a load from before it.
	forget []func()
}

// newGenerations takes nil for the system's clock.
func newGenerations(now func() time.Time) *generations {
	g := &generations{seed: maphash.MakeSeed(), now: now, realTime: now == nil}
	if g.realTime {
		g.now = time.Now
	}
	g.started = g.now()
	return g
}

// clock returns the time since the caches were made.
func (g *generations) clock() time.Duration {
	if g.realTime {
		return time.Since(g.started)
	}
	return g.now().Sub(g.started)
}

func (g *generations) index(owner string) uint32 {
	return uint32(maphash.String(g.seed, owner) % uint64(len(g.stripes)))
}

// invalidate ends every answer about a tenant, and every "unknown".
func (g *generations) invalidate(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.index(owner)
	g.ring[g.epoch%uint64(len(g.ring))] = i
	g.epoch++
	g.stripes[i].Add(1)
	g.unknown.Add(1)
	for _, f := range g.forget {
		f()
	}
}

// invalidateAll ends every answer.
func (g *generations) invalidateAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.epoch++
	g.oldest = g.epoch
	for i := range g.stripes {
		g.stripes[i].Add(1)
	}
	g.unknown.Add(1)
	for _, f := range g.forget {
		f()
	}
}

// changes counts what invalidate and invalidateAll were told.
func (g *generations) changes() uint64 { return g.unknown.Load() }

// changedSince reports whether the owner, or for "" anybody, changed after epoch. It must be
// called with mu held.
func (g *generations) changedSince(epoch uint64, owner string) bool {
	if epoch == g.epoch {
		return false
	}
	if owner == "" || epoch < g.oldest || g.epoch-epoch > uint64(len(g.ring)) {
		return true
	}
	i := g.index(owner)
	for e := epoch; e < g.epoch; e++ {
		if g.ring[e%uint64(len(g.ring))] == i {
			return true
		}
	}
	return false
}

func (g *generations) stripe(owner string) *atomic.Uint64 {
	if owner == "" {
		return &g.unknown
	}
	return &g.stripes[g.index(owner)]
}

// loaded is the answer of a load.
type loaded[V any] struct {
	value V
	// owner is the id of the tenant whose changes end the answer; "" for any tenant's.
	owner string
	// absence is the error to answer for something that does not exist, or nil.
	absence error
}

// cache keeps answers of one kind. Hits take no lock and allocate nothing. A miss loads once
// however many ask, in a goroutine of its own, so that one caller's cancellation does not
// fail the others.
type cache[K comparable, V any] struct {
	gens    *generations
	present *otter.Cache[K, *cacheEntry[V]]
	absent  *otter.Cache[K, *cacheEntry[V]] // apart, so that guesses cannot push out tenants
	ttl     time.Duration
	absTTL  time.Duration
	stale   time.Duration

	flights map[K]*flight[V] // by gens.mu
}

type cacheEntry[V any] struct {
	loaded[V]
	stripe *atomic.Uint64
	gen    uint64
	at     time.Duration
	failed atomic.Int64 // when the latest refresh failed, as at; 0 for never
}

func (e *cacheEntry[V]) holds() bool { return e.stripe.Load() == e.gen }

type flight[V any] struct {
	done  chan struct{}
	entry *cacheEntry[V] // nil after an error
	err   error
	// panicked is what load panicked with. It goes on in those who wait, where the
	// application's own recovery stands, instead of ending the process.
	panicked any
}

type cacheConfig struct {
	size               int
	ttl, absent, stale time.Duration
}

func newCache[K comparable, V any](gens *generations, cfg cacheConfig) (*cache[K, V], error) {
	c := &cache[K, V]{
		gens: gens, ttl: cfg.ttl, absTTL: cfg.absent, stale: cfg.stale, flights: map[K]*flight[V]{},
	}
	var err error
	if c.present, err = otter.New(&otter.Options[K, *cacheEntry[V]]{MaximumSize: cfg.size}); err != nil {
		return nil, err
	}
	if c.absent, err = otter.New(&otter.Options[K, *cacheEntry[V]]{MaximumSize: max(1000, cfg.size/10)}); err != nil {
		return nil, err
	}
	gens.mu.Lock()
	defer gens.mu.Unlock()
	gens.forget = append(gens.forget, func() { clear(c.flights) })
	return c, nil
}

// hit returns a cached answer that holds and is fresh at the time now of the clock.
func (c *cache[K, V]) hit(key K, now time.Duration) (*cacheEntry[V], bool) {
	if e, ok := c.present.GetIfPresent(key); ok && e.holds() && now-e.at < c.ttl {
		return e, true
	}
	return nil, false
}

// remembered returns a cached absence that holds and is fresh at the time now of the clock.
func (c *cache[K, V]) remembered(key K, now time.Duration) (*cacheEntry[V], bool) {
	if e, ok := c.absent.GetIfPresent(key); ok && e.holds() && now-e.at < c.absTTL {
		return e, true
	}
	return nil, false
}

// get returns the answer for key, loading it when there is no fresh one. When the load fails
// and an answer that still holds is not older than the grace, it returns that one and true.
func (c *cache[K, V]) get(ctx context.Context, key K, load func(context.Context) (loaded[V], error)) (*cacheEntry[V], bool, error) {
	now := c.gens.clock()
	if e, ok := c.hit(key, now); ok {
		return e, false, nil
	}
	if e, ok := c.remembered(key, now); ok {
		return e, false, nil
	}
	old, serveable := c.present.GetIfPresent(key)
	serveable = serveable && old.holds() && c.ttl > 0 && now-old.at < c.ttl+c.stale
	if serveable {
		if failed := time.Duration(old.failed.Load()); failed != 0 && now-failed < retryAfter {
			return old, true, nil
		}
	}
	e, err := c.join(ctx, key, load)
	if err == nil {
		return e, false, nil
	}
	if ctx.Err() == nil && serveable && old.holds() {
		old.failed.Store(int64(max(1, c.gens.clock())))
		return old, true, nil
	}
	return nil, false, err
}

// join waits for the load of key that is under way, or starts one.
func (c *cache[K, V]) join(ctx context.Context, key K, load func(context.Context) (loaded[V], error)) (*cacheEntry[V], error) {
	c.gens.mu.Lock()
	f, ok := c.flights[key]
	if !ok {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		epoch := c.gens.epoch
		go c.run(context.WithoutCancel(ctx), key, f, epoch, load)
	}
	c.gens.mu.Unlock()
	select {
	case <-f.done:
		if f.panicked != nil {
			panic(f.panicked)
		}
		return f.entry, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run loads and publishes. A result whose subject changed during the load is loaded again;
// after maxReloads it is answered but not cached.
func (c *cache[K, V]) run(ctx context.Context, key K, f *flight[V], epoch uint64, load func(context.Context) (loaded[V], error)) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	f.err = errNoAnswer // stands if load panics or exits its goroutine
	defer func() {
		if p := recover(); p != nil {
			f.panicked = fmt.Sprintf("%v\n\n%s", p, debug.Stack())
		}
		if f.err != nil {
			c.gens.mu.Lock()
			if c.flights[key] == f {
				delete(c.flights, key)
			}
			c.gens.mu.Unlock()
		}
		close(f.done)
	}()
	for attempt := 1; ; attempt++ {
		answer, err := load(ctx)
		c.gens.mu.Lock()
		changed := err == nil && c.gens.changedSince(epoch, answer.owner)
		if changed && attempt < maxReloads {
			epoch = c.gens.epoch
			c.gens.mu.Unlock()
			continue
		}
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		if err != nil {
			f.err = err
		} else {
			stripe := c.gens.stripe(answer.owner)
			f.entry, f.err = &cacheEntry[V]{loaded: answer, stripe: stripe, gen: stripe.Load(), at: c.gens.clock()}, nil
			if !changed {
				c.keep(key, f.entry)
			}
		}
		c.gens.mu.Unlock()
		return
	}
}

var errNoAnswer = errors.New("the lookup ended without an answer")

func (c *cache[K, V]) keep(key K, e *cacheEntry[V]) {
	switch {
	case e.absence == nil && c.ttl > 0:
		c.present.Set(key, e)
		c.absent.Invalidate(key)
	case e.absence != nil:
		c.present.Invalidate(key)
		if c.absTTL > 0 {
			c.absent.Set(key, e)
		}
	}
}
