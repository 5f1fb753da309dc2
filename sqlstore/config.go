package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

const configQuery = `SELECT name, value FROM tenancy.config WHERE tenant_id = ?`

// LoadConfig returns all overrides of a tenant; an empty map when there are none or no such
// tenant.
func (s *Store) LoadConfig(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	fail := func(err error) (map[string]json.RawMessage, error) {
		return nil, fmt.Errorf("load overrides of tenant %q: %w", tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if !storable.IsTenantID(tenantID) {
		return map[string]json.RawMessage{}, nil
	}
	rows, err := s.db.QueryContext(ctx, s.query(configQuery), tenantID)
	if err != nil {
		return fail(err)
	}
	values, err := scanConfig(rows)
	if err != nil {
		return fail(err)
	}
	return values, nil
}

// scanConfig reads and closes rows.
func scanConfig(rows *sql.Rows) (_ map[string]json.RawMessage, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := map[string]json.RawMessage{}
	for rows.Next() {
		var name string
		var value []byte
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, rows.Err()
}

// SaveConfig changes overrides of a tenant. change runs inside the transaction, again if that has to
// be repeated, and must not use the store. An unknown tenant is [tenancy.ErrNotFound]; a value that
// is not JSON, a [*tenancy.InvalidError]. On a catalogue of version 1 the history is not kept.
func (s *Store) SaveConfig(ctx context.Context, tenantID string,
	change func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error),
) error {
	fail := func(err error) error {
		return fmt.Errorf("save overrides of tenant %q: %w", tenantID, err)
	}
	if !storable.IsTenantID(tenantID) {
		return fail(tenancy.ErrNotFound)
	}
	err := s.write(ctx, tenantID, func(w *write) error {
		if err := w.tenantExists(tenantID); err != nil {
			return err
		}
		rows, err := w.tx.QueryContext(w.ctx, s.query(configQuery), tenantID)
		if err != nil {
			return err
		}
		own, err := scanConfig(rows)
		if err != nil {
			return err
		}
		kept, err := change(own)
		if err != nil {
			return err
		}
		if kept, err = storable.ConfigWrite(kept); err != nil {
			return err
		}
		if kept.IsEmpty() {
			return errNothingToDo
		}
		return w.keepConfig(tenantID, kept)
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		return fail(err)
	}
	return nil
}

func (w *write) keepConfig(tenantID string, kept tenancy.ConfigWrite) error {
	for _, key := range slices.Sorted(maps.Keys(kept.Values)) {
		if _, err := w.exec(`DELETE FROM tenancy.config WHERE tenant_id = ? AND name = ?`, tenantID, key); err != nil {
			return err
		}
		if value := kept.Values[key]; value != nil {
			if _, err := w.exec(`INSERT INTO tenancy.config (tenant_id, name, value) VALUES (?, ?, ?)`,
				tenantID, key, string(value)); err != nil {
				return err
			}
		}
	}
	if w.store.second() {
		for i, r := range kept.History {
			if _, err := w.exec(`INSERT INTO tenancy.config_history
				(tenant_id, revision, position, name, old_value, new_value, changed_by, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				tenantID, w.revision, i+1, r.Key, nullable(r.Old), nullable(r.New), r.By, w.store.dialect.timeValue(r.Time)); err != nil {
				return err
			}
		}
	}
	return w.keepEvents(kept.Events)
}

// nullable returns a JSON text as a parameter; nil is NULL.
func nullable(value json.RawMessage) any {
	if value == nil {
		return nil
	}
	return string(value)
}

// ConfigHistory returns one page of the history of a tenant's overrides, newest first. It needs a
// catalogue of version 2.
func (s *Store) ConfigHistory(ctx context.Context, tenantID string, opts tenancy.HistoryOptions) (page tenancy.HistoryPage, err error) {
	fail := func(err error) (tenancy.HistoryPage, error) {
		return tenancy.HistoryPage{}, fmt.Errorf("read the overrides' history of tenant %q: %w", tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if err := s.needSecond(); err != nil {
		return fail(err)
	}
	after, err := storable.ParseCursor(opts.After)
	if err != nil {
		return fail(err)
	}
	if !storable.IsTenantID(tenantID) {
		return page, nil
	}
	limit := opts.PageLimit()
	from := " FROM tenancy.config_history"
	if s.dialect.forceIndex {
		from += " FORCE INDEX (PRIMARY)"
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT name, old_value, new_value, changed_by, changed_at, revision, position`+from+
		` WHERE tenant_id = ? AND revision > 0 AND revision <= ? AND (revision < ? OR position < ?)
		ORDER BY revision DESC, position DESC LIMIT ?`),
		tenantID, after.Revision, after.Revision, after.Position, limit+1)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last storable.Cursor
	for rows.Next() {
		if len(page.Records) == limit {
			page.Next = last.String()
			break
		}
		var r tenancy.ConfigRecord
		var was, is []byte
		if err := rows.Scan(&r.Key, &was, &is, &r.By, instant{&r.Time}, &last.Revision, &last.Position); err != nil {
			return fail(err)
		}
		r.Old, r.New, r.Revision = was, is, last.Revision
		page.Records = append(page.Records, r)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return page, nil
}
