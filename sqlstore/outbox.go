package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// PendingEvents returns up to limit undelivered events in the order of their commits.
func (s *Store) PendingEvents(ctx context.Context, limit int) (events []tenancy.Event, err error) {
	fail := func(err error) ([]tenancy.Event, error) {
		return nil, fmt.Errorf("read pending events: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT event FROM tenancy.outbox ORDER BY revision, position LIMIT ?`), max(0, limit))
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return fail(err)
		}
		var e tenancy.Event
		if err := json.Unmarshal(text, &e); err != nil {
			return fail(fmt.Errorf("column event: %w", err))
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return events, nil
}

// EventsDelivered removes events from the outbox. An unknown id is no error.
func (s *Store) EventsDelivered(ctx context.Context, ids ...string) error {
	fail := func(err error) error {
		return fmt.Errorf("remove delivered events: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	var known []any
	for _, id := range ids {
		if storable.IsUserID(id) { // the same limits hold for both
			known = append(known, id)
		}
	}
	// In parts: engines bound the number of parameters.
	for part := range slices.Chunk(known, 500) {
		remove := s.query(`DELETE FROM tenancy.outbox WHERE event_id IN (` + list(len(part), "?") + `)`)
		if err := s.race(ctx, func() error {
			_, err := s.db.ExecContext(ctx, remove, part...)
			return err
		}); err != nil {
			return fail(err)
		}
	}
	return nil
}
