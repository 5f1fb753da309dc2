package memstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// LoadConfig returns all overrides of a tenant; an empty map when there are none or no such
// tenant.
func (s *Store) LoadConfig(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	if err := alive(ctx, "load overrides of tenant %q", tenantID); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return cloneValues(s.config[tenantID]), nil
}

// SaveConfig changes overrides of a tenant. change runs inside the write and must not use the store.
// An unknown tenant is [tenancy.ErrNotFound]; a value that is not JSON, a [*tenancy.InvalidError].
func (s *Store) SaveConfig(ctx context.Context, tenantID string,
	change func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error),
) error {
	if err := s.saveConfig(ctx, tenantID, change); err != nil {
		return fmt.Errorf("save overrides of tenant %q: %w", tenantID, err)
	}
	return nil
}

func (s *Store) saveConfig(ctx context.Context, tenantID string,
	change func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error),
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.tenants[tenantID]; !found {
		return tenancy.ErrNotFound
	}
	w, err := change(cloneValues(s.config[tenantID]))
	if err != nil {
		return err
	}
	if w, err = storable.ConfigWrite(w); err != nil || w.IsEmpty() {
		return err
	}
	if s.config[tenantID] == nil {
		s.config[tenantID] = map[string]json.RawMessage{}
	}
	for key, value := range w.Values {
		if value == nil {
			delete(s.config[tenantID], key)
		} else {
			s.config[tenantID][key] = slices.Clone(value)
		}
	}
	s.commit(tenantID, w.Events...)
	for _, r := range w.History {
		r.Revision = s.revision
		s.records[tenantID] = append(s.records[tenantID], r)
	}
	return nil
}

// ConfigHistory returns one page of the history of a tenant's overrides, newest first.
func (s *Store) ConfigHistory(ctx context.Context, tenantID string, opts tenancy.HistoryOptions) (page tenancy.HistoryPage, _ error) {
	if err := alive(ctx, "read the overrides' history of tenant %q", tenantID); err != nil {
		return page, err
	}
	after, err := storable.ParseCursor(opts.After)
	if err != nil {
		return page, fmt.Errorf("read the overrides' history of tenant %q: %w", tenantID, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	history := s.records[tenantID]
	positions := make([]int, len(history)) // of each record in its write, from 1
	for i, r := range history {
		if positions[i] = 1; i > 0 && history[i-1].Revision == r.Revision {
			positions[i] = positions[i-1] + 1
		}
	}
	for i, r := range slices.Backward(history) {
		at := storable.Cursor{Revision: r.Revision, Position: positions[i]}
		if at.Revision > after.Revision || at.Revision == after.Revision && at.Position >= after.Position {
			continue
		}
		if len(page.Records) == opts.PageLimit() {
			last := i + 1
			page.Next = storable.Cursor{Revision: history[last].Revision, Position: positions[last]}.String()
			break
		}
		r.Old, r.New = slices.Clone(r.Old), slices.Clone(r.New)
		page.Records = append(page.Records, r)
	}
	return page, nil
}

func cloneValues(values map[string]json.RawMessage) map[string]json.RawMessage {
	clone := make(map[string]json.RawMessage, len(values))
	for key, value := range values {
		clone[key] = slices.Clone(value)
	}
	return clone
}
