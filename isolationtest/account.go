package isolationtest

import (
	"maps"
	"slices"
	"sync"
)

// absent is the version of a row that is not there.
const absent int64 = -1

// entry is what one worker knows of one of its rows. Nobody else writes it.
type entry struct {
	body string
	now  int64   // the version that was acknowledged
	also []int64 // further versions that it may have, for an answer was lost
}

// frozen reports that the outcome of a write is not known. The row is not written again: a
// statement that was given up may still take effect.
func (e *entry) frozen() bool { return len(e.also) > 0 }

func (e *entry) allows(version int64) bool {
	return e.now == version || slices.Contains(e.also, version)
}

// view is what a transaction has made of rows so far, by id.
type view map[string]int64

// change is one write of one row.
type change struct {
	row
	from, to int64
}

// account is everything that one worker has written and not yet seen buried.
type account struct {
	entries map[string]*entry
	live    []string // ids of rows that are there and not frozen, in the order of their inserts
}

func newAccount() *account { return &account{entries: map[string]*entry{}} }

// version returns what a row is inside a transaction.
func (a *account) version(v view, id string) int64 {
	if version, ok := v[id]; ok {
		return version
	}
	if e := a.entries[id]; e != nil {
		return e.now
	}
	return absent
}

// acknowledge books what a view made of rows.
func (a *account) acknowledge(v view, bodies map[string]string) {
	for _, id := range slices.Sorted(maps.Keys(v)) {
		e := a.entry(id, bodies)
		e.now = v[id]
		a.list(id, e)
	}
}

// doubt books that a view may have been made of rows, or not.
func (a *account) doubt(v view, bodies map[string]string) {
	for id, version := range v {
		e := a.entry(id, bodies)
		e.also = append(e.also, version)
		a.list(id, e)
	}
}

func (a *account) entry(id string, bodies map[string]string) *entry {
	e := a.entries[id]
	if e == nil {
		e = &entry{body: bodies[id], now: absent}
		a.entries[id] = e
	}
	return e
}

// list keeps live in step with an entry.
func (a *account) list(id string, e *entry) {
	at := slices.Index(a.live, id)
	switch is := e.now != absent && !e.frozen(); {
	case is && at < 0:
		a.live = append(a.live, id)
	case !is && at >= 0:
		a.live = slices.Delete(a.live, at, at+1)
	}
}

// ledger is what is known of a tenant's rows by all of its workers.
type ledger struct {
	mu     sync.RWMutex
	bodies map[string]string // of every id that may be there
	doubts map[string]bool   // ids that may come back after they were deleted
	recent string            // an id for others to try
}

func newLedger() *ledger { return &ledger{bodies: map[string]string{}, doubts: map[string]bool{}} }

// issue notes a row before it is sent.
func (l *ledger) issue(r row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies[r.id] = r.body
	l.recent = r.id
}

// forget notes that a row cannot be there.
func (l *ledger) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.bodies, id)
}

// bury notes that a row was deleted whose last write may still take effect.
func (l *ledger) bury(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts[id] = true
}

// knows reports whether a row can be there with that body.
func (l *ledger) knows(r row) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	body, ok := l.bodies[r.id]
	return ok && body == r.body
}

func (l *ledger) doubtful(id string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.doubts[id]
}

func (l *ledger) aRecent() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.recent
}
