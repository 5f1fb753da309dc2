package tenancy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// maxOverride bounds the JSON text of one override.
const maxOverride = 64 << 10

// Overrides are the settings that a tenant has for itself, by key, over the defaults of the
// configuration. Values are JSON. Reads come from a cache; a change is seen at once in this
// process and on other nodes as [Tenancy.Start] describes, at the latest after the TTL. It
// is safe for concurrent use.
type Overrides struct {
	tn       *Tenancy
	defaults map[string]json.RawMessage
	cache    *cache[string, map[string]json.RawMessage]
}

func newOverrides(tn *Tenancy, gens *generations) (*Overrides, error) {
	o := &Overrides{tn: tn, defaults: map[string]json.RawMessage{}}
	for key, value := range tn.cfg.Overrides.Defaults {
		encoded, err := encodeOverride(key, value)
		if err != nil {
			return nil, err
		}
		o.defaults[key] = encoded
	}
	var err error
	o.cache, err = newCache[string, map[string]json.RawMessage](gens, cacheConfig{
		size: tn.cfg.Resolution.CacheSize, ttl: tn.cfg.Overrides.CacheTTL,
		stale: tn.cfg.Resolution.StaleIfError,
	})
	return o, err
}

// Get returns the tenant's value for key, else the configured default. It returns false when
// there is neither.
func (o *Overrides) Get(ctx context.Context, tenantID, key string) (json.RawMessage, bool, error) {
	own, err := o.load(ctx, tenantID)
	if err != nil {
		return nil, false, err
	}
	value, ok := own[key]
	if !ok {
		value, ok = o.defaults[key]
	}
	return bytes.Clone(value), ok, nil
}

// All returns the defaults with the tenant's values over them. The map is the caller's.
func (o *Overrides) All(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	own, err := o.load(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(o.defaults)
	maps.Copy(all, own)
	for key, value := range all {
		all[key] = bytes.Clone(value)
	}
	return all, nil
}

// Set gives the tenant a value of its own: anything that encodes to at most 64 KiB of JSON,
// but not null. The key is 1 to 128 of a-z A-Z 0-9 . _ -. An unknown tenant is
// [ErrNotFound]. Setting what is set already changes nothing and makes no event.
func (o *Overrides) Set(ctx context.Context, tenantID, key string, value any) error {
	encoded, err := encodeOverride(key, value)
	if err != nil {
		return &ConfigError{Key: key, Err: err}
	}
	return o.save(ctx, tenantID, key, encoded)
}

// Unset takes the tenant's own value away, so that the default counts again. It is no error
// when there is none.
func (o *Overrides) Unset(ctx context.Context, tenantID, key string) error {
	return o.save(ctx, tenantID, key, nil)
}

func (o *Overrides) save(ctx context.Context, tenantID, key string, value json.RawMessage) error {
	store := o.tn.cfg.ConfigStore
	if store == nil {
		return fmt.Errorf("set an override: %w: configure tenancy.Config.ConfigStore", errors.ErrUnsupported)
	}
	t, _, err := o.tn.validator.lookup(ctx, ByID(tenantID), o.tn.validator.gens.clock())
	if err != nil {
		return fmt.Errorf("set %s of tenant %q: %w", key, tenantID, err)
	}
	id, err := o.tn.cfg.NewID()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	_, err = store.SaveConfig(ctx, tenantID, key, value, func(old json.RawMessage) Event {
		if bytes.Equal(old, value) {
			return Event{}
		}
		return Event{
			ID: id, Type: TenantConfigChanged, TenantID: t.ID, Slug: t.Slug, Revision: t.Revision,
			Time: o.tn.lifecycle.now(), Config: &ConfigChange{Key: key, Old: old, New: value},
		}
	})
	_ = o.tn.Changed(ctx, tenantID) // also after an error: nobody knows what was committed
	if err != nil {
		return fmt.Errorf("set %s of tenant %q: %w", key, tenantID, err)
	}
	o.tn.relay.deliver(context.WithoutCancel(ctx))
	return nil
}

func (o *Overrides) load(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	store := o.tn.cfg.ConfigStore
	if store == nil {
		return nil, nil
	}
	if e, ok := o.cache.hit(tenantID, o.cache.gens.clock()); ok {
		return e.value, nil
	}
	e, _, err := o.cache.get(ctx, tenantID, func(ctx context.Context) (loaded[map[string]json.RawMessage], error) {
		values, err := store.LoadConfig(ctx, tenantID)
		return loaded[map[string]json.RawMessage]{value: values, owner: tenantID}, err
	})
	if err != nil {
		return nil, unavailable(ctx, fmt.Errorf("load the overrides of tenant %q: %w", tenantID, err))
	}
	return e.value, nil
}

// Key is a setting with a type and a default.
type Key[T any] struct {
	name     string
	fallback T
}

// NewKey declares a setting. The default counts where neither the tenant nor the
// configuration has a value. It panics on a malformed name, which is a mistake in the
// program: declare keys in package variables.
func NewKey[T any](name string, fallback T) Key[T] {
	if err := checkKey(name); err != nil {
		panic("tenancy.NewKey: " + err.Error())
	}
	return Key[T]{name: name, fallback: fallback}
}

// Name returns the key's name.
func (k Key[T]) Name() string { return k.name }

// Get returns the value for the tenant of ctx. It fails as [Require] does, and with a
// [*ConfigError] when the stored value is not a T.
func (k Key[T]) Get(ctx context.Context, o *Overrides) (T, error) {
	s, err := ScopeOf(ctx)
	switch {
	case err != nil:
		return k.fallback, err
	case s.System():
		return k.fallback, ErrSystemScope
	}
	return k.Of(ctx, o, s.Tenant.ID)
}

// Of returns the value for a tenant.
func (k Key[T]) Of(ctx context.Context, o *Overrides, tenantID string) (T, error) {
	raw, ok, err := o.Get(ctx, tenantID, k.name)
	if err != nil || !ok {
		return k.fallback, err
	}
	var value T
	if err := json.Unmarshal(raw, &value); err != nil {
		return k.fallback, &ConfigError{Key: k.name, Source: fmt.Sprintf("tenant %q", tenantID), Err: err}
	}
	return value, nil
}

// Set gives a tenant a value of its own.
func (k Key[T]) Set(ctx context.Context, o *Overrides, tenantID string, value T) error {
	return o.Set(ctx, tenantID, k.name, value)
}

// Unset takes a tenant's own value away.
func (k Key[T]) Unset(ctx context.Context, o *Overrides, tenantID string) error {
	return o.Unset(ctx, tenantID, k.name)
}

func checkKey(name string) error {
	invalid := &InvalidError{Field: "key", Value: truncate(name, 128), Remedy: "use 1 to 128 of a-z A-Z 0-9 . _ -"}
	if name == "" || len(name) > 128 {
		return invalid
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return invalid
		}
	}
	return nil
}

// encodeOverride returns the compact JSON text of value.
func encodeOverride(key string, value any) (json.RawMessage, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.Equal(encoded, []byte("null")):
		return nil, errors.New("null is no value: use Unset")
	case len(encoded) > maxOverride:
		return nil, fmt.Errorf("%d bytes of JSON are too many: use at most %d", len(encoded), maxOverride)
	}
	return encoded, nil
}
