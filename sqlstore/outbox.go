package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// Conditions on positions. Written so, and not as rows, every engine finds the range in its index.
const (
	afterPosition = `o.revision >= ? AND (o.revision > ? OR o.position > ?)`
	afterCursor   = `o.revision >= s.revision AND (o.revision > s.revision OR o.position > s.position)`
	notBeforeHold = `o.revision >= h.revision AND (o.revision > h.revision OR o.position >= h.position)`
)

// ReadEvents returns up to limit events after a position, oldest first; of one tenant only, unless
// tenantID is "".
func (s *Store) ReadEvents(ctx context.Context, after tenancy.Position, tenantID string, limit int) (events []tenancy.StoredEvent, err error) {
	fail := func(err error) ([]tenancy.StoredEvent, error) {
		return nil, fmt.Errorf("read events: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	where, args := afterPosition, []any{after.Revision, after.Revision, after.Index}
	if tenantID != "" {
		if err := s.adoptEvents(ctx); err != nil {
			return fail(err)
		}
		where, args = `o.tenant_id = ? AND `+where, append([]any{tenantID}, args...)
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT o.revision, o.position, o.event FROM tenancy.outbox AS o
		WHERE `+where+` ORDER BY o.revision, o.position LIMIT ?`), append(args, max(0, limit))...)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return fail(err)
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return events, nil
}

func scanEvent(rows *sql.Rows) (e tenancy.StoredEvent, err error) {
	var text []byte
	if err := rows.Scan(&e.Position.Revision, &e.Position.Index, &text); err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e.Event); err != nil {
		return e, fmt.Errorf("column event: %w", err)
	}
	return e, nil
}

// adoptEvents fills in what a program of version 1, which may still run beside this one, does not
// write of its events. Whoever asks by tenant or by time calls it first.
func (s *Store) adoptEvents(ctx context.Context) error {
	if err := s.needSecond(); err != nil {
		return err
	}
	for {
		orphans, err := s.orphans(ctx)
		if err != nil || len(orphans) == 0 {
			return err
		}
		for _, e := range orphans {
			if err := s.exec(ctx, `UPDATE tenancy.outbox SET tenant_id = ?, stored_at = ? WHERE revision = ? AND position = ?`,
				e.TenantID, s.dialect.time(s.now()), e.Position.Revision, e.Position.Index); err != nil {
				return err
			}
		}
	}
}

// orphans returns some of the events that have no tenant's id in their row.
func (s *Store) orphans(ctx context.Context) (events []tenancy.StoredEvent, err error) {
	rows, err := s.db.QueryContext(ctx, s.query(
		`SELECT o.revision, o.position, o.event FROM tenancy.outbox AS o WHERE o.tenant_id IS NULL LIMIT 100`))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// exec runs one statement as a transaction of its own.
func (s *Store) exec(ctx context.Context, query string, args ...any) error {
	return s.inTx(ctx, func(w *write) error {
		_, err := w.exec(query, args...)
		return err
	})
}

// inTx runs fn in a transaction that is no write of the catalogue. On SQLite its first statement has
// to write, so that it waits for its turn. fn runs again when the engine undid it for others.
func (s *Store) inTx(ctx context.Context, fn func(*write) error) error {
	return s.race(ctx, func() error {
		tx, err := s.db.BeginTx(ctx, s.dialect.txOptions)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after the commit
		if err := fn(&write{ctx: ctx, store: s, tx: tx}); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// durable is called by everything that works with sinks.
func (s *Store) durable(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.needSecond()
}

// SinkWaits reports whether a claim would find something to do: an event after the sink's cursor, a
// hold that is due by now, or no such sink yet.
func (s *Store) SinkWaits(ctx context.Context, sink string, now time.Time) (bool, error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("ask what sink %q waits for: %w", sink, withCause(ctx, err))
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	var idle int
	err := s.row(ctx, `SELECT count(*) FROM tenancy.sinks AS s WHERE s.name = ?
		AND NOT EXISTS (SELECT 1 FROM tenancy.outbox AS o WHERE `+afterCursor+`)
		AND NOT EXISTS (SELECT 1 FROM tenancy.holds AS h WHERE h.sink = s.name AND h.due <= ?)`,
		sink, s.dialect.time(storable.Time(now))).Scan(&idle)
	if err != nil {
		return fail(err)
	}
	return idle == 0, nil
}

// ClaimSink gives a sink to owner until then, unless it belongs to another until later than now, and
// returns the sink, whosever it is. One that is not registered is; it begins before the oldest event.
func (s *Store) ClaimSink(ctx context.Context, sink, owner string, now, until time.Time) (answer tenancy.Sink, err error) {
	fail := func(err error) (tenancy.Sink, error) {
		return tenancy.Sink{}, fmt.Errorf("claim sink %q: %w", sink, withCause(ctx, err))
	}
	if err := storable.CheckSink(sink); err != nil {
		return fail(err)
	}
	if err := storable.CheckOwner(owner); err != nil {
		return fail(err)
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	err = s.inTx(ctx, func(w *write) error {
		if err := w.lockSink(sink); errors.Is(err, tenancy.ErrNoSink) {
			err = w.register(sink, owner, until)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		if _, err := w.exec(`UPDATE tenancy.sinks SET owner = ?, until = ? WHERE name = ? AND (owner = ? OR until <= ?)`,
			owner, s.dialect.time(storable.Time(until)), sink, owner, s.dialect.time(storable.Time(now))); err != nil {
			return err
		}
		answer, err = w.sink(sink)
		return err
	})
	if err != nil {
		return fail(err)
	}
	return answer, nil
}

// lockSink keeps others from changing a sink and its holds.
func (w *write) lockSink(name string) error {
	if _, err := w.exec(`UPDATE tenancy.sinks SET owner = owner WHERE name = ?`, name); err != nil {
		return err
	}
	var count int // since the number of changed rows is 0 on MariaDB
	if err := w.row(`SELECT count(*) FROM tenancy.sinks WHERE name = ?`, name).Scan(&count); err != nil {
		return err
	}
	if count == 0 {
		return tenancy.ErrNoSink
	}
	return nil
}

// register adds a sink, unless somebody else just did. The revision's lock makes others wait, so that
// no error of a driver has to be understood.
func (w *write) register(name, owner string, until time.Time) error {
	if _, err := w.exec(`UPDATE tenancy.meta SET revision = revision`); err != nil {
		return err
	}
	err := w.lockSink(name)
	if !errors.Is(err, tenancy.ErrNoSink) {
		return err
	}
	_, err = w.exec(`INSERT INTO tenancy.sinks (name, revision, position, owner, until) VALUES (?, 0, 0, ?, ?)`,
		name, owner, w.store.dialect.time(storable.Time(until)))
	return err
}

// sinkColumns are scanned by scanSink.
const sinkColumns = `s.name, s.revision, s.position, s.owner, s.until,
	(SELECT count(*) FROM tenancy.holds AS h WHERE h.sink = s.name AND h.due IS NOT NULL),
	(SELECT count(*) FROM tenancy.holds AS h WHERE h.sink = s.name AND h.due IS NULL)`

func scanSink(scan func(...any) error) (k tenancy.Sink, err error) {
	err = scan(&k.Name, &k.Cursor.Revision, &k.Cursor.Index, &k.Owner, instant{&k.Until}, &k.Held, &k.Parked)
	return k, err
}

func (w *write) sink(name string) (tenancy.Sink, error) {
	return scanSink(w.row(`SELECT `+sinkColumns+` FROM tenancy.sinks AS s WHERE s.name = ?`, name).Scan)
}

// SaveSink keeps what a delivery came to, all of it or nothing. [tenancy.ErrConflict] says that the sink
// does not belong to the owner any more, that its cursor is not the one given, or that a hold is not.
func (s *Store) SaveSink(ctx context.Context, p tenancy.SinkProgress) error {
	fail := func(err error) error { return fmt.Errorf("save sink %q: %w", p.Sink, withCause(ctx, err)) }
	for _, c := range p.Holds {
		if err := storable.HoldChange(c); err != nil {
			return fail(err)
		}
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	err := s.inTx(ctx, func(w *write) error {
		if err := w.lockSink(p.Sink); errors.Is(err, tenancy.ErrNoSink) {
			return tenancy.ErrConflict
		} else if err != nil {
			return err
		}
		k, err := w.sink(p.Sink)
		if err != nil {
			return err
		}
		if k.Owner != p.Owner || k.Cursor != p.From {
			return tenancy.ErrConflict
		}
		for _, c := range p.Holds {
			if err := w.changeHold(p.Sink, c); err != nil {
				return err
			}
		}
		_, err = w.exec(`UPDATE tenancy.sinks SET revision = ?, position = ?, until = ? WHERE name = ?`,
			p.To.Revision, p.To.Index, s.dialect.time(storable.Time(p.Until)), p.Sink)
		return err
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// changeHold compares a hold and replaces it. The sink is locked.
func (w *write) changeHold(sink string, c tenancy.HoldChange) error {
	tenantID := storable.HoldTenant(c)
	found, err := w.holds(sink, tenantID)
	if err != nil {
		return err
	}
	if !storable.SameHold(found, c.From) {
		return tenancy.ErrConflict
	}
	if found != nil {
		if _, err := w.exec(`DELETE FROM tenancy.holds WHERE sink = ? AND tenant_id = ?`, sink, tenantID); err != nil {
			return err
		}
	}
	if c.To == nil {
		return nil
	}
	_, err = w.exec(`INSERT INTO tenancy.holds (sink, tenant_id, revision, position, attempts, error, due) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		sink, tenantID, c.To.Position.Revision, c.To.Position.Index, c.To.Attempts, c.To.Error, w.store.dialect.time(storable.Time(c.To.Due)))
	return err
}

const holdColumns = `h.tenant_id, h.revision, h.position, h.attempts, h.error, h.due`

func scanHold(scan func(...any) error) (h tenancy.Hold, err error) {
	err = scan(&h.TenantID, &h.Position.Revision, &h.Position.Index, &h.Attempts, &h.Error, instant{&h.Due})
	return h, err
}

// holds returns a tenant's hold, nil when there is none.
func (w *write) holds(sink, tenantID string) (*tenancy.Hold, error) {
	h, err := scanHold(w.row(`SELECT `+holdColumns+` FROM tenancy.holds AS h WHERE h.sink = ? AND h.tenant_id = ?`, sink, tenantID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if err != nil {
		return nil, err
	}
	return &h, nil
}

// Sinks returns all sinks, by name.
func (s *Store) Sinks(ctx context.Context) (sinks []tenancy.Sink, err error) {
	fail := func(err error) ([]tenancy.Sink, error) {
		return nil, fmt.Errorf("list sinks: %w", withCause(ctx, err))
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	if err := s.adoptEvents(ctx); err != nil {
		return fail(err)
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT `+sinkColumns+`,
		(SELECT count(*) FROM tenancy.outbox AS o WHERE `+afterCursor+`) +
		(SELECT count(*) FROM tenancy.holds AS h JOIN tenancy.outbox AS o ON o.tenant_id = h.tenant_id
			WHERE h.sink = s.name AND `+notBeforeHold+` AND NOT (`+afterCursor+`))
		FROM tenancy.sinks AS s ORDER BY s.name`))
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var backlog int
		k, err := scanSink(func(dest ...any) error { return rows.Scan(append(dest, &backlog)...) })
		if err != nil {
			return fail(err)
		}
		k.Backlog = backlog
		sinks = append(sinks, k)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return sinks, nil
}

// Holds returns the holds of a sink that match. An unknown sink has none.
func (s *Store) Holds(ctx context.Context, sink string, q tenancy.HoldQuery) (holds []tenancy.Hold, err error) {
	fail := func(err error) ([]tenancy.Hold, error) {
		return nil, fmt.Errorf("list holds of sink %q: %w", sink, withCause(ctx, err))
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	if q.Tenants != nil && len(q.Tenants) == 0 {
		return nil, nil
	}
	where, args := `h.sink = ?`, []any{sink}
	if q.Tenants != nil {
		where += ` AND h.tenant_id IN (` + list(len(q.Tenants), "?") + `)`
		for _, id := range q.Tenants {
			args = append(args, id)
		}
	}
	if q.Parked {
		where += ` AND h.due IS NULL`
	}
	order := `h.tenant_id`
	if q.DueBy.IsZero() {
		where, args = where+` AND h.tenant_id > ?`, append(args, q.After)
	} else {
		where, args = where+` AND h.due <= ?`, append(args, s.dialect.time(storable.Time(q.DueBy)))
		order = `h.due, h.tenant_id`
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT `+holdColumns+` FROM tenancy.holds AS h
		WHERE `+where+` ORDER BY `+order+` LIMIT ?`), append(args, q.PageLimit())...)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		h, err := scanHold(rows.Scan)
		if err != nil {
			return fail(err)
		}
		holds = append(holds, h)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return holds, nil
}

// SaveHold changes one hold for an operator, whoever the sink belongs to. [tenancy.ErrConflict] says
// that the hold is not the one given, [tenancy.ErrNoSink] that the sink is not registered.
func (s *Store) SaveHold(ctx context.Context, sink string, c tenancy.HoldChange) error {
	fail := func(err error) error {
		return fmt.Errorf("save a hold of sink %q: %w", sink, withCause(ctx, err))
	}
	if err := storable.HoldChange(c); err != nil {
		return fail(err)
	}
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	err := s.inTx(ctx, func(w *write) error {
		if err := w.lockSink(sink); err != nil {
			return err
		}
		return w.changeHold(sink, c)
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// ForgetSink removes a sink with its holds. One that is not registered is [tenancy.ErrNoSink], one that
// belongs to somebody until later than now [tenancy.ErrConflict].
func (s *Store) ForgetSink(ctx context.Context, sink string, now time.Time) error {
	fail := func(err error) error { return fmt.Errorf("forget sink %q: %w", sink, withCause(ctx, err)) }
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	err := s.inTx(ctx, func(w *write) error {
		if err := w.lockSink(sink); err != nil {
			return err
		}
		k, err := w.sink(sink)
		if err != nil {
			return err
		}
		if k.Until.After(storable.Time(now)) {
			return fmt.Errorf("%q delivers for it: %w", k.Owner, tenancy.ErrConflict)
		}
		for _, query := range []string{
			`DELETE FROM tenancy.holds WHERE sink = ?`, // where the engine does not cascade by itself
			`DELETE FROM tenancy.sinks WHERE name = ?`,
		} {
			if _, err := w.exec(query, sink); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// PruneEvents removes up to limit events that were stored before a time and that every sink has taken,
// and returns how many. Without a sink, every event counts as taken.
func (s *Store) PruneEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("prune events: %w", withCause(ctx, err)) }
	if err := s.durable(ctx); err != nil {
		return fail(err)
	}
	if err := s.adoptEvents(ctx); err != nil {
		return fail(err)
	}
	taken, err := s.taken(ctx, before, limit)
	if err != nil {
		return fail(err)
	}
	// What was taken stays taken, so that nothing has to be asked again.
	for part := range slices.Chunk(taken, 100) {
		remove, args := `DELETE FROM tenancy.outbox WHERE `, []any(nil)
		for i, p := range part {
			if i > 0 {
				remove += ` OR `
			}
			remove, args = remove+`revision = ? AND position = ?`, append(args, p.Revision, p.Index)
		}
		if err := s.exec(ctx, remove, args...); err != nil {
			return fail(err)
		}
	}
	return len(taken), nil
}

// taken returns the positions of events that were stored before a time and that every sink has taken.
func (s *Store) taken(ctx context.Context, before time.Time, limit int) (positions []tenancy.Position, err error) {
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT o.revision, o.position FROM tenancy.outbox AS o WHERE o.stored_at < ?
		AND NOT EXISTS (SELECT 1 FROM tenancy.sinks AS s WHERE `+afterCursor+`)
		AND NOT EXISTS (SELECT 1 FROM tenancy.holds AS h WHERE h.tenant_id = o.tenant_id AND `+notBeforeHold+`)
		ORDER BY o.revision, o.position LIMIT ?`), s.dialect.time(storable.Time(before)), max(0, limit))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p tenancy.Position
		if err := rows.Scan(&p.Revision, &p.Index); err != nil {
			return nil, err
		}
		positions = append(positions, p)
	}
	return positions, rows.Err()
}
