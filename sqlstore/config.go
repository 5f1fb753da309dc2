package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// LoadConfig returns all overrides of a tenant; an empty map when there are none or no such
// tenant.
func (s *Store) LoadConfig(ctx context.Context, tenantID string) (_ map[string]json.RawMessage, err error) {
	fail := func(err error) (map[string]json.RawMessage, error) {
		return nil, fmt.Errorf("load overrides of tenant %q: %w", tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	values := map[string]json.RawMessage{}
	if !storable.IsTenantID(tenantID) {
		return values, nil
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT name, value FROM tenancy.config WHERE tenant_id = ?`), tenantID)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name string
		var value []byte
		if err := rows.Scan(&name, &value); err != nil {
			return fail(err)
		}
		values[name] = value
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return values, nil
}

// SaveConfig sets an override, or removes it when value is nil, and returns the former value.
// event may be nil; it runs inside the transaction, again if that has to be repeated, and must
// not use the store. An event without an ID is not kept. An unknown tenant is [tenancy.ErrNotFound]; a value that is not
// JSON, a [*tenancy.InvalidError].
func (s *Store) SaveConfig(ctx context.Context, tenantID, key string, value json.RawMessage,
	event func(old json.RawMessage) tenancy.Event,
) (json.RawMessage, error) {
	fail := func(err error) (json.RawMessage, error) {
		return nil, fmt.Errorf("save override %q of tenant %q: %w", key, tenantID, err)
	}
	if err := storable.CheckConfigKey(key); err != nil {
		return fail(err)
	}
	if err := storable.CheckConfigValue(key, value); err != nil {
		return fail(err)
	}
	if !storable.IsTenantID(tenantID) {
		return fail(tenancy.ErrNotFound)
	}
	var old []byte
	err := s.write(ctx, tenantID, func(w *write) error {
		old = nil
		if err := w.tenantExists(tenantID); err != nil {
			return err
		}
		err := w.row(`SELECT value FROM tenancy.config WHERE tenant_id = ? AND name = ?`, tenantID, key).Scan(&old)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if old != nil {
			if _, err := w.exec(`DELETE FROM tenancy.config WHERE tenant_id = ? AND name = ?`, tenantID, key); err != nil {
				return err
			}
		}
		if value != nil {
			if _, err := w.exec(`INSERT INTO tenancy.config (tenant_id, name, value) VALUES (?, ?, ?)`,
				tenantID, key, string(value)); err != nil {
				return err
			}
		}
		if event == nil {
			return nil
		}
		e := event(append(json.RawMessage(nil), old...))
		if e.ID == "" {
			return nil
		}
		if err := storable.Events([]tenancy.Event{e}); err != nil {
			return err
		}
		return w.keepEvents([]tenancy.Event{e})
	})
	if err != nil {
		return fail(err)
	}
	return old, nil
}
