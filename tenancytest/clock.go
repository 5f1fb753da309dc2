package tenancytest

import (
	"sync"
	"time"
)

// Clock is a clock that moves only when told. It moves what asks for the time, such as the
// caches and their TTLs; it does not fire timers. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows start; for the zero time, 1 January 2030 in UTC.
func NewClock(start time.Time) *Clock {
	if start.IsZero() {
		start = time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	return &Clock{now: start}
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d, which may be negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
