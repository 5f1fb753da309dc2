package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// entry is an event in the outbox.
type entry struct {
	tenancy.StoredEvent
	storedAt time.Time
}

// sink is a sink and its holds, by tenant.
type sink struct {
	tenancy.Sink
	holds map[string]tenancy.Hold
}

// ReadEvents returns up to limit events after a position, oldest first; of one tenant only, unless
// tenantID is "".
func (s *Store) ReadEvents(ctx context.Context, after tenancy.Position, tenantID string, limit int) ([]tenancy.StoredEvent, error) {
	if err := alive(ctx, "read events"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var events []tenancy.StoredEvent
	for _, e := range s.outbox[s.following(after):] {
		if len(events) >= limit {
			break
		}
		if tenantID == "" || e.TenantID == tenantID {
			events = append(events, tenancy.StoredEvent{Event: e.Clone(), Position: e.Position})
		}
	}
	return events, nil
}

// following returns the index of the first event after a position. The caller holds mu.
func (s *Store) following(p tenancy.Position) int {
	at, found := slices.BinarySearchFunc(s.outbox, p, func(e entry, p tenancy.Position) int { return e.Position.Compare(p) })
	if found {
		at++
	}
	return at
}

// SinkWaits reports whether a claim would find something to do: an event after the sink's cursor, a
// hold that is due by now, or no such sink yet.
func (s *Store) SinkWaits(ctx context.Context, name string, now time.Time) (bool, error) {
	if err := alive(ctx, "ask what sink %q waits for", name); err != nil {
		return false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.sinks[name]
	if k == nil || s.following(k.Cursor) < len(s.outbox) {
		return true, nil
	}
	for _, h := range k.holds {
		if !h.Parked() && !h.Due.After(storable.Time(now)) {
			return true, nil
		}
	}
	return false, nil
}

// ClaimSink gives a sink to owner until then, unless it belongs to another until later than now, and
// returns the sink, whosever it is. One that is not registered is; it begins before the oldest event.
func (s *Store) ClaimSink(ctx context.Context, name, owner string, now, until time.Time) (tenancy.Sink, error) {
	if err := storable.CheckSink(name); err != nil {
		return tenancy.Sink{}, fmt.Errorf("claim sink: %w", err)
	}
	if err := storable.CheckOwner(owner); err != nil {
		return tenancy.Sink{}, fmt.Errorf("claim sink %q: %w", name, err)
	}
	if err := alive(ctx, "claim sink %q", name); err != nil {
		return tenancy.Sink{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sinks[name]
	if k == nil {
		k = &sink{Sink: tenancy.Sink{Name: name}, holds: map[string]tenancy.Hold{}}
		s.sinks[name] = k
	}
	if k.Owner == owner || !k.Until.After(storable.Time(now)) {
		k.Owner, k.Until = owner, storable.Time(until)
	}
	return k.counted(), nil
}

// counted returns the sink with its holds counted.
func (k *sink) counted() tenancy.Sink {
	answer := k.Sink
	for _, h := range k.holds {
		if h.Parked() {
			answer.Parked++
		} else {
			answer.Held++
		}
	}
	return answer
}

// SaveSink keeps what a delivery came to, all of it or nothing. [tenancy.ErrConflict] says that the sink
// does not belong to the owner any more, that its cursor is not the one given, or that a hold is not.
func (s *Store) SaveSink(ctx context.Context, p tenancy.SinkProgress) error {
	fail := func(err error) error { return fmt.Errorf("save sink %q: %w", p.Sink, err) }
	for _, c := range p.Holds {
		if err := storable.HoldChange(c); err != nil {
			return fail(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sinks[p.Sink]
	if k == nil || k.Owner != p.Owner || k.Cursor != p.From {
		return fail(tenancy.ErrConflict)
	}
	for _, c := range p.Holds {
		if !k.has(c) {
			return fail(tenancy.ErrConflict)
		}
	}
	for _, c := range p.Holds {
		k.change(c)
	}
	k.Cursor, k.Until = p.To, storable.Time(p.Until)
	return nil
}

// has reports whether a hold is the one that a change is based on.
func (k *sink) has(c tenancy.HoldChange) bool {
	h, found := k.holds[storable.HoldTenant(c)]
	if !found {
		return c.From == nil
	}
	return storable.SameHold(&h, c.From)
}

func (k *sink) change(c tenancy.HoldChange) {
	delete(k.holds, storable.HoldTenant(c))
	if c.To != nil {
		h := *c.To
		h.Due = storable.Time(h.Due)
		k.holds[h.TenantID] = h
	}
}

// Sinks returns all sinks, by name.
func (s *Store) Sinks(ctx context.Context) ([]tenancy.Sink, error) {
	if err := alive(ctx, "list sinks"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []tenancy.Sink
	for _, name := range slices.Sorted(maps.Keys(s.sinks)) {
		k := s.sinks[name]
		answer := k.counted()
		for _, e := range s.outbox {
			if !k.took(e) {
				answer.Backlog++
			}
		}
		all = append(all, answer)
	}
	return all, nil
}

// took reports whether the sink has taken an event.
func (k *sink) took(e entry) bool {
	if e.Position.Compare(k.Cursor) > 0 {
		return false
	}
	h, held := k.holds[e.TenantID]
	return !held || e.Position.Compare(h.Position) < 0
}

// Holds returns the holds of a sink that match. An unknown sink has none.
func (s *Store) Holds(ctx context.Context, name string, q tenancy.HoldQuery) ([]tenancy.Hold, error) {
	if err := alive(ctx, "list holds of sink %q", name); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.sinks[name]
	if k == nil {
		return nil, nil
	}
	var found []tenancy.Hold
	for _, h := range k.holds {
		switch {
		case q.Tenants != nil && !slices.Contains(q.Tenants, h.TenantID),
			q.Parked && !h.Parked(),
			!q.DueBy.IsZero() && (h.Parked() || h.Due.After(storable.Time(q.DueBy))),
			q.DueBy.IsZero() && h.TenantID <= q.After:
			continue
		}
		found = append(found, h)
	}
	slices.SortFunc(found, func(a, b tenancy.Hold) int {
		byTenant := strings.Compare(a.TenantID, b.TenantID)
		if q.DueBy.IsZero() {
			return byTenant
		}
		return cmp.Or(a.Due.Compare(b.Due), byTenant)
	})
	return found[:min(len(found), q.PageLimit())], nil
}

// SaveHold changes one hold for an operator, whoever the sink belongs to. [tenancy.ErrConflict] says
// that the hold is not the one given, [tenancy.ErrNoSink] that the sink is not registered.
func (s *Store) SaveHold(ctx context.Context, name string, c tenancy.HoldChange) error {
	fail := func(err error) error { return fmt.Errorf("save a hold of sink %q: %w", name, err) }
	if err := storable.HoldChange(c); err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sinks[name]
	if k == nil {
		return fail(tenancy.ErrNoSink)
	}
	if !k.has(c) {
		return fail(tenancy.ErrConflict)
	}
	k.change(c)
	return nil
}

// ForgetSink removes a sink with its holds. One that is not registered is [tenancy.ErrNoSink], one that
// belongs to somebody until later than now [tenancy.ErrConflict].
func (s *Store) ForgetSink(ctx context.Context, name string, now time.Time) error {
	if err := alive(ctx, "forget sink %q", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.sinks[name]
	if k == nil {
		return fmt.Errorf("forget sink %q: %w", name, tenancy.ErrNoSink)
	}
	if k.Until.After(storable.Time(now)) {
		return fmt.Errorf("forget sink %q, for which %q delivers: %w", name, k.Owner, tenancy.ErrConflict)
	}
	delete(s.sinks, name)
	return nil
}

// PruneEvents removes up to limit events that were stored before a time and that every sink has taken,
// and returns how many. Without a sink, every event counts as taken.
func (s *Store) PruneEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := alive(ctx, "prune events"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := 0
	s.outbox = slices.DeleteFunc(s.outbox, func(e entry) bool {
		if removed >= limit || !e.storedAt.Before(storable.Time(before)) {
			return false
		}
		for _, k := range s.sinks {
			if !k.took(e) {
				return false
			}
		}
		removed++
		return true
	})
	return removed, nil
}
