package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pool keeps the inner connections of all placements. Its invariant: whenever its lock is free,
// no waiter could be served; so a newcomer that finds something takes nothing from anybody.
type pool struct {
	config PoolConfig
	now    func() time.Time

	mu      sync.Mutex
	closed  bool
	places  map[Pool]*place
	idle    list[*inner] // all idle connections, the one unused longest first
	open    int          // connections open or being dialled
	tenants map[string]*share
	waiting list[*share] // tenants with waiters, in the order in which they are served next
	reaper  *time.Timer
	stats   PoolStats
}

// place is the pool of one placement. It is forgotten when its last connection is.
type place struct {
	key  Pool
	open int
	idle []*inner // the one used last is taken first
}

// share is what one tenant has of the pool.
type share struct {
	tenant  string
	inUse   int
	streak  int // connections it kept in a row while others waited
	waiters list[*waiter]
	element *element[*share] // in pool.waiting
}

type waiter struct {
	key   Pool
	grant chan grant // has room for one
}

// grant is an idle connection, or the permission to dial one in its place.
type grant struct {
	conn  *inner
	place *place
}

// inner is a driver's connection in the pool.
type inner struct {
	driver.Conn
	place   *place
	tenant  string // who uses it
	born    time.Time
	used    time.Time
	element *element[*inner] // in pool.idle
	dirty   bool             // the session was changed and must be reset before another use
	broken  bool             // must not be used again
}

// PoolStats are the counts of a [DB]'s connections.
type PoolStats struct {
	Open    int // connections open or being opened
	Idle    int // of these, unused
	Places  int // placements with a connection, such as open SQLite files
	Waiting int // callers that wait for a connection

	Opened    int64 // connections opened so far
	Waits     int64 // callers that had to wait
	Exhausted int64 // callers that waited in vain
	Evicted   int64 // unused connections closed to make room
	Destroyed int64 // connections closed because their state was not known to be clean
}

func newPool(config PoolConfig) *pool {
	return &pool{
		config: config, now: time.Now,
		places: make(map[Pool]*place), tenants: make(map[string]*share),
	}
}

// acquire returns a connection of route's pool for the tenant. The caller releases it.
func (p *pool) acquire(ctx context.Context, route *Route, tenant string) (*inner, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		g, err := p.admit(ctx, route.Pool, tenant)
		if err != nil {
			return nil, err
		}
		if g.conn == nil {
			return p.dial(ctx, g.place, route.Connector, tenant)
		}
		if alive(ctx, g.conn) {
			return g.conn, nil
		}
		p.destroy(g.conn)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// alive asks the driver, as database/sql does, whether an idle connection can be used again.
func alive(ctx context.Context, c *inner) bool {
	switch conn := c.Conn.(type) {
	case LiveConn:
		return conn.Live(ctx) == nil
	case driver.SessionResetter:
		if conn.ResetSession(ctx) != nil {
			return false
		}
	}
	if v, ok := c.Conn.(driver.Validator); ok {
		return v.IsValid()
	}
	return true
}

// admit waits until the tenant may use or open a connection of the placement.
func (p *pool) admit(ctx context.Context, key Pool, tenant string) (grant, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return grant{}, ErrClosed
	}
	s := p.tenants[tenant]
	if s == nil {
		s = &share{tenant: tenant}
		p.tenants[tenant] = s
	}
	g, victim, ok := p.take(key, s)
	if ok {
		p.mu.Unlock()
		closeConn(victim)
		return g, nil
	}
	w := &waiter{key: key, grant: make(chan grant, 1)}
	element := s.waiters.pushBack(w)
	if s.element == nil {
		s.element = p.waiting.pushBack(s)
	}
	p.stats.Waits++
	p.mu.Unlock()

	timer := time.NewTimer(p.config.MaxWait)
	defer timer.Stop()
	var err error
	select {
	case g, ok := <-w.grant:
		if !ok {
			return grant{}, ErrClosed
		}
		return g, nil
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrPoolExhausted, ctx.Err())
	case <-timer.C:
		err = fmt.Errorf("%w (waited %v)", ErrPoolExhausted, p.config.MaxWait)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case g, ok := <-w.grant: // it came at the same moment
		if !ok {
			return grant{}, ErrClosed
		}
		if ctx.Err() == nil {
			return g, nil
		}
		p.giveBack(g, s)
	default:
		s.waiters.remove(element)
		p.forget(s)
	}
	p.stats.Exhausted++
	return grant{}, err
}

// take serves a tenant now, if that is possible. The victim is an idle connection that had to
// make room, to be closed outside the lock.
func (p *pool) take(key Pool, s *share) (g grant, victim *inner, ok bool) {
	if s.inUse >= p.config.MaxPerTenant {
		return grant{}, nil, false
	}
	at := p.places[key]
	if at != nil && len(at.idle) > 0 {
		c := at.idle[len(at.idle)-1]
		at.idle = at.idle[:len(at.idle)-1]
		p.idle.remove(c.element)
		c.tenant = s.tenant
		s.inUse++
		return grant{conn: c, place: at}, nil, true
	}
	switch {
	case at == nil && len(p.places) >= p.config.MaxPools:
		if victim = p.evictPlace(); victim == nil {
			return grant{}, nil, false
		}
	case p.open >= p.config.MaxConns:
		if p.idle.len == 0 {
			return grant{}, nil, false
		}
		victim = p.idle.front().value
		p.detach(victim)
		p.stats.Evicted++
	}
	if at == nil {
		if at = p.places[key]; at == nil {
			at = &place{key: key}
			p.places[key] = at
		}
	}
	at.open++
	p.open++
	p.stats.Opened++
	s.inUse++
	return grant{place: at}, victim, true
}

// evictPlace gives up the placement unused longest of those with nothing but one idle
// connection. Of those with several it drops idle ones until one has a single one left.
func (p *pool) evictPlace() *inner {
	for e := p.idle.front(); e != nil; e = e.next {
		if at := e.value.place; at.open == 1 {
			p.detach(e.value)
			p.stats.Evicted++
			return e.value
		}
	}
	for e := p.idle.front(); e != nil; e = e.next {
		at := e.value.place
		if len(at.idle) < at.open {
			continue // in use
		}
		for len(at.idle) > 1 {
			extra := at.idle[0]
			p.detach(extra)
			p.stats.Evicted++
			go closeConn(extra)
		}
		last := at.idle[0]
		p.detach(last)
		p.stats.Evicted++
		return last
	}
	return nil
}

// detach takes an idle connection out of the pool.
func (p *pool) detach(c *inner) {
	p.idle.remove(c.element)
	for i, other := range c.place.idle {
		if other == c {
			c.place.idle = append(c.place.idle[:i], c.place.idle[i+1:]...)
			break
		}
	}
	p.drop(c.place)
}

// drop counts one connection of a placement down.
func (p *pool) drop(at *place) {
	at.open--
	p.open--
	if at.open == 0 {
		delete(p.places, at.key)
	}
}

func (p *pool) dial(ctx context.Context, at *place, connector driver.Connector, tenant string) (*inner, error) {
	dialled := false
	defer func() {
		if !dialled { // a failed dial, or a driver that panics
			p.mu.Lock()
			p.drop(at)
			p.finish(tenant)
			p.mu.Unlock()
		}
	}()
	conn, err := connector.Connect(ctx)
	if err != nil {
		if errors.Is(err, driver.ErrBadConn) {
			// database/sql would repeat at once; the pool is where that is decided.
			err = fmt.Errorf("connect: %v", err) //nolint:errorlint // it must not look like driver.ErrBadConn
		}
		return nil, endOf(ctx, err)
	}
	dialled = true
	now := p.now()
	return &inner{Conn: conn, place: at, tenant: tenant, born: now, used: now}, nil
}

// endOf adds the deadline of ctx to the error of a dial that ended with it. A socket's own clock can be
// a moment ahead of the context's, and drivers then tell of a timeout of the network.
func endOf(ctx context.Context, err error) error {
	deadline, ok := ctx.Deadline()
	if !ok || time.Now().Before(deadline) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
}

// release gives a clean connection back.
func (p *pool) release(c *inner) {
	now := p.now()
	p.mu.Lock()
	if p.closed || now.Sub(c.born) > p.config.MaxLifetime {
		p.drop(c.place)
		p.finish(c.tenant)
		p.mu.Unlock()
		closeConn(c)
		return
	}
	tenant := c.tenant
	c.used, c.tenant = now, ""
	c.place.idle = append(c.place.idle, c)
	c.element = p.idle.pushBack(c)
	p.keep(c.place.key, p.tenants[tenant])
	p.finish(tenant)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.config.MaxIdleTime, p.reap)
	}
	p.mu.Unlock()
}

// destroy closes a connection that is not known to be clean.
func (p *pool) destroy(c *inner) {
	closeConn(c)
	p.mu.Lock()
	p.drop(c.place)
	p.stats.Destroyed++
	p.finish(c.tenant)
	p.mu.Unlock()
}

// giveBack returns a grant that nobody wants any more.
func (p *pool) giveBack(g grant, s *share) {
	switch {
	case g.conn == nil:
		p.drop(g.place)
	case p.closed:
		p.drop(g.place)
		go closeConn(g.conn)
	default:
		g.conn.tenant = ""
		g.place.idle = append(g.place.idle, g.conn)
		g.conn.element = p.idle.pushBack(g.conn)
	}
	p.finish(s.tenant)
}

// maxStreak bounds how often a tenant keeps a connection while others wait for their turn.
const maxStreak = 16

// keep serves the next waiter of the tenant that has just given a connection back, if the one whose
// turn it is would need a connection of another placement and has as many in use already: to
// close one and dial another for each statement would be slow for all. It must be called before
// finish.
func (p *pool) keep(key Pool, s *share) {
	if s.waiters.len == 0 || s.waiters.front().value.key != key {
		return
	}
	next := p.waiting.front().value
	if next == s || next.waiters.front().value.key == key {
		return // it is its turn, or the connection serves the other as well
	}
	if left := s.inUse - 1; next.inUse < left || s.streak >= maxStreak {
		s.streak = 0
		return
	}
	s.streak++
	s.inUse-- // of the connection given back: take counts the new use, finish the old one
	g, _, ok := p.take(key, s)
	s.inUse++
	if !ok {
		return // it cannot be: the connection is idle
	}
	s.waiters.front().value.grant <- g
	s.waiters.remove(s.waiters.front())
}

// finish ends one use by a tenant and serves whoever can be served now.
func (p *pool) finish(tenant string) {
	s := p.tenants[tenant]
	s.inUse--
	p.forget(s)
	p.dispatch()
}

// forget drops a tenant's share when nothing is left of it.
func (p *pool) forget(s *share) {
	if s.waiters.len == 0 && s.element != nil {
		p.waiting.remove(s.element)
		s.element = nil
	}
	if s.inUse == 0 && s.waiters.len == 0 {
		delete(p.tenants, s.tenant)
	}
}

// dispatch serves waiters, one tenant after the other, until nobody can be served.
func (p *pool) dispatch() {
	for blocked := 0; blocked < p.waiting.len; {
		s := p.waiting.front().value
		w := s.waiters.front().value
		g, victim, ok := p.take(w.key, s)
		p.waiting.remove(s.element)
		if !ok {
			s.element = p.waiting.pushBack(s)
			blocked++
			continue
		}
		blocked = 0
		s.waiters.remove(s.waiters.front())
		if s.element = nil; s.waiters.len > 0 {
			s.element = p.waiting.pushBack(s)
		}
		w.grant <- g
		if victim != nil {
			go closeConn(victim)
		}
	}
}

// reap closes connections that were unused for long.
func (p *pool) reap() {
	var victims []*inner
	p.mu.Lock()
	p.reaper = nil
	limit := p.now().Add(-p.config.MaxIdleTime)
	for e := p.idle.front(); e != nil && !e.value.used.After(limit); e = p.idle.front() {
		victims = append(victims, e.value)
		p.detach(e.value)
	}
	if e := p.idle.front(); e != nil && !p.closed {
		p.reaper = time.AfterFunc(max(e.value.used.Sub(limit), time.Millisecond), p.reap)
	}
	p.dispatch()
	p.mu.Unlock()
	for _, c := range victims {
		closeConn(c)
	}
}

// close closes what is idle and refuses whoever waits. Connections in use close as they are
// released. It is idempotent.
func (p *pool) close() error {
	var victims []*inner
	p.mu.Lock()
	p.closed = true
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
	for e := p.idle.front(); e != nil; e = p.idle.front() {
		victims = append(victims, e.value)
		p.detach(e.value)
	}
	for e := p.waiting.front(); e != nil; e = p.waiting.front() {
		s := e.value
		for w := s.waiters.front(); w != nil; w = s.waiters.front() {
			s.waiters.remove(w)
			close(w.value.grant)
		}
		p.forget(s)
	}
	p.mu.Unlock()
	var errs []error
	for _, c := range victims {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (p *pool) snapshot() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Open, s.Idle, s.Places = p.open, p.idle.len, len(p.places)
	for e := p.waiting.front(); e != nil; e = e.next {
		s.Waiting += e.value.waiters.len
	}
	return s
}

// closeConn closes a connection whose end interests nobody.
func closeConn(c *inner) {
	if c != nil {
		_ = c.Close()
	}
}
