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
	values := make(map[string]json.RawMessage, len(s.config[tenantID]))
	for key, value := range s.config[tenantID] {
		values[key] = slices.Clone(value)
	}
	return values, nil
}

// SaveConfig sets an override, or removes it when value is nil, and returns the former value.
// event may be nil; it runs inside the write and must not use the store. An event without an
// ID is not kept. An unknown tenant is [tenancy.ErrNotFound]; a value that is not JSON, a
// [*tenancy.InvalidError].
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
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.tenants[tenantID]; !found {
		return fail(tenancy.ErrNotFound)
	}
	old := s.config[tenantID][key]
	var events []tenancy.Event
	if event != nil {
		if e := event(slices.Clone(old)); e.ID != "" {
			events = append(events, e)
		}
	}
	if err := storable.Events(events); err != nil {
		return fail(err)
	}
	switch {
	case value == nil:
		delete(s.config[tenantID], key)
	case s.config[tenantID] == nil:
		s.config[tenantID] = map[string]json.RawMessage{key: slices.Clone(value)}
	default:
		s.config[tenantID][key] = slices.Clone(value)
	}
	s.commit(tenantID, events...)
	return slices.Clone(old), nil
}
