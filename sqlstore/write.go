package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"lexigram.dev/tenancy"
)

// write is one change of the catalogue. It holds the catalogue's revision, and with it the
// right to write, until its transaction ends: what it reads cannot change under it, and
// revisions become visible in their order.
type write struct {
	ctx      context.Context
	store    *Store
	tx       *sql.Tx
	revision int64
	events   int
}

// write runs fn as a change of one tenant. An error, a panic or the end of the context leaves
// nothing behind, the revision included. fn runs again when the engine undid the transaction for
// the sake of others.
func (s *Store) write(ctx context.Context, tenantID string, fn func(*write) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.race(ctx, func() error { return s.writeOnce(ctx, tenantID, fn) })
}

// race repeats what fails because others were faster, where the engine says so.
func (s *Store) race(ctx context.Context, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil || s.dialect.lostRace == nil || ctx.Err() != nil {
			return err
		}
		again, err := s.dialect.lostRace(err, attempt)
		if !again {
			return err
		}
	}
}

func (s *Store) writeOnce(ctx context.Context, tenantID string, fn func(*write) error) error {
	tx, err := s.db.BeginTx(ctx, s.dialect.txOptions)
	if err != nil {
		return withCause(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	w := &write{ctx: ctx, store: s, tx: tx}
	// First of all: on SQLite a transaction that begins with a write waits for its turn.
	if err := w.next(); err != nil {
		return withCause(ctx, err)
	}
	if err := fn(w); err != nil {
		return withCause(ctx, err)
	}
	if _, err := w.exec(`INSERT INTO tenancy.changes (revision, tenant_id) VALUES (?, ?)`, w.revision, tenantID); err != nil {
		return withCause(ctx, err)
	}
	if _, err := w.exec(`DELETE FROM tenancy.changes WHERE revision <= ?`, w.revision-s.history); err != nil {
		return withCause(ctx, err)
	}
	return withCause(ctx, tx.Commit())
}

// next counts the revision up and holds it.
func (w *write) next() error {
	const next = `UPDATE tenancy.meta SET revision = revision + 1`
	if w.store.dialect.returning {
		return w.row(next + ` RETURNING revision`).Scan(&w.revision)
	}
	if _, err := w.exec(next); err != nil {
		return err
	}
	return w.row(`SELECT revision FROM tenancy.meta`).Scan(&w.revision)
}

func (w *write) row(query string, args ...any) *sql.Row {
	return w.tx.QueryRowContext(w.ctx, w.store.query(query), args...)
}

// exec returns the number of rows it changed.
func (w *write) exec(query string, args ...any) (int64, error) {
	result, err := w.tx.ExecContext(w.ctx, w.store.query(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// tenantExists answers with [tenancy.ErrNotFound] when there is no tenant with this id.
func (w *write) tenantExists(id string) error {
	var count int
	if err := w.row(`SELECT count(*) FROM tenancy.tenants WHERE id = ?`, id).Scan(&count); err != nil {
		return err
	}
	if count == 0 {
		return tenancy.ErrNotFound
	}
	return nil
}

// keepEvents puts events into the outbox.
func (w *write) keepEvents(events []tenancy.Event) error {
	for _, e := range events {
		text, err := toJSON(e)
		if err != nil {
			return err
		}
		w.events++
		columns, values := "revision, position, event_id, event", []any{w.revision, w.events, e.ID, text}
		if w.store.second() {
			columns, values = columns+", tenant_id, stored_at", append(values, e.TenantID, w.store.dialect.time(w.store.now()))
		}
		if _, err := w.exec(`INSERT INTO tenancy.outbox (`+columns+`) VALUES (`+list(len(values), "?")+`)`, values...); err != nil {
			return err
		}
	}
	return nil
}

// toJSON encodes v for a text column.
func toJSON(v any) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// list writes n placeholders with commas between.
func list(n int, placeholder string) string {
	return strings.TrimSuffix(strings.Repeat(placeholder+", ", n), ", ")
}
