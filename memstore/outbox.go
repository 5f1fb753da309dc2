package memstore

import (
	"context"
	"slices"

	"lexigram.dev/tenancy"
)

// PendingEvents returns up to limit undelivered events in the order of their writes.
func (s *Store) PendingEvents(ctx context.Context, limit int) ([]tenancy.Event, error) {
	if err := alive(ctx, "read pending events"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var events []tenancy.Event
	for _, e := range s.outbox[:max(0, min(limit, len(s.outbox)))] {
		events = append(events, cloneEvent(e))
	}
	return events, nil
}

// EventsDelivered removes events from the outbox. An unknown id is no error.
func (s *Store) EventsDelivered(ctx context.Context, ids ...string) error {
	if err := alive(ctx, "remove delivered events"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox = slices.DeleteFunc(s.outbox, func(e tenancy.Event) bool { return slices.Contains(ids, e.ID) })
	return nil
}

func cloneEvent(e tenancy.Event) tenancy.Event {
	if e.Config != nil {
		change := *e.Config
		change.Old, change.New = slices.Clone(change.Old), slices.Clone(change.New)
		e.Config = &change
	}
	return e
}
