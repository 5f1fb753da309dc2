package tenancy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxOverride bounds the JSON text of one override.
const maxOverride = 64 << 10

// Overrides are the settings of tenants, by key. A tenant's own value lies over that of its plan,
// which lies over the configuration's default, which lies over the default of a declared key.
// Values are JSON. Reads come from a cache; a change is seen at once in this process and on other
// nodes as [Tenancy.Start] describes, at the latest after the TTL. Who may read and change them is
// the application's to check. It is safe for concurrent use.
type Overrides struct {
	tn       *Tenancy
	layers   layers
	cache    *cache[string, map[string]json.RawMessage]
	watchers watchers
}

func newOverrides(tn *Tenancy, gens *generations) (*Overrides, error) {
	o := &Overrides{tn: tn, watchers: watchers{tenants: map[string]map[chan struct{}]struct{}{}}}
	var err error
	if o.layers, err = newLayers(tn.cfg); err != nil {
		return nil, err
	}
	o.cache, err = newCache[string, map[string]json.RawMessage](gens, cacheConfig{
		size: tn.cfg.Resolution.CacheSize, ttl: tn.cfg.Overrides.CacheTTL,
		stale: tn.cfg.Resolution.StaleIfError,
	})
	return o, err
}

// Keys returns the keys that [Config].Keys declares, by name.
func (o *Overrides) Keys() []KeyInfo {
	infos := make([]KeyInfo, 0, len(o.layers.keys))
	for _, name := range slices.Sorted(maps.Keys(o.layers.keys)) {
		infos = append(infos, o.layers.keys[name].Info())
	}
	return infos
}

// Get returns the value of key that counts for the tenant, and false when no layer has one. A
// stored value that the declared key does not accept is a [*ConfigError]; so is a secret, which
// only its [SecretKey] reads.
func (o *Overrides) Get(ctx context.Context, tenantID, key string) (json.RawMessage, bool, error) {
	found, ok, err := o.find(ctx, tenantID, key)
	if err != nil || !ok {
		return nil, false, err
	}
	if o.layers.isSecret(key, found.Value) {
		return nil, false, &ConfigError{Key: key, Source: found.source(tenantID), Err: errIsSecret}
	}
	if declared := o.layers.keys[key]; declared != nil && found.Layer == LayerTenant {
		if err := declared.check(found.Value); err != nil {
			return nil, false, &ConfigError{Key: key, Source: found.source(tenantID), Err: err}
		}
	}
	return bytes.Clone(found.Value), true, nil
}

// All returns the value that counts of every key that has one, as it is stored; of a secret only
// that it is set, as the text "[secret]". The map is the caller's.
func (o *Overrides) All(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	own, err := o.load(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	_, plan, err := o.planOf(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(o.layers.code)
	maps.Copy(all, o.layers.defaults)
	maps.Copy(all, plan)
	maps.Copy(all, own)
	for key, value := range all {
		all[key] = bytes.Clone(o.layers.redact(key, value))
	}
	return all, nil
}

// Explain returns the values that the layers have for key, strongest first: the first one counts.
// It returns none when no layer has one. Secrets show as the text "[secret]".
func (o *Overrides) Explain(ctx context.Context, tenantID, key string) ([]LayerValue, error) {
	own, err := o.load(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	plan, values, err := o.planOf(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	var all []LayerValue
	for _, l := range []struct {
		at     LayerValue
		values map[string]json.RawMessage
	}{
		{LayerValue{Layer: LayerTenant}, own},
		{LayerValue{Layer: LayerPlan, Plan: plan}, values},
		{LayerValue{Layer: LayerDefaults}, o.layers.defaults},
		{LayerValue{Layer: LayerCode}, o.layers.code},
	} {
		if value, ok := l.values[key]; ok {
			l.at.Value = bytes.Clone(o.layers.redact(key, value))
			all = append(all, l.at)
		}
	}
	return all, nil
}

// find returns the value that counts, as it is stored, and where it comes from. The tenant's record
// is asked for only when there are plans and the tenant has no value of its own.
func (o *Overrides) find(ctx context.Context, tenantID, key string) (LayerValue, bool, error) {
	own, err := o.load(ctx, tenantID)
	if err != nil {
		return LayerValue{}, false, err
	}
	if value, ok := own[key]; ok {
		return LayerValue{Layer: LayerTenant, Value: value}, true, nil
	}
	plan, values, err := o.planOf(ctx, tenantID)
	if err != nil {
		return LayerValue{}, false, err
	}
	if value, ok := values[key]; ok {
		return LayerValue{Layer: LayerPlan, Plan: plan, Value: value}, true, nil
	}
	if value, ok := o.layers.defaults[key]; ok {
		return LayerValue{Layer: LayerDefaults, Value: value}, true, nil
	}
	value, ok := o.layers.code[key]
	return LayerValue{Layer: LayerCode, Value: value}, ok, nil
}

// planOf returns the tenant's plan and its values; none without plans or for a tenant without one.
func (o *Overrides) planOf(ctx context.Context, tenantID string) (string, map[string]json.RawMessage, error) {
	if len(o.layers.plans) == 0 {
		return "", nil, nil
	}
	t, _, err := o.tn.validator.lookup(ctx, ByID(tenantID), o.tn.validator.gens.clock())
	if err != nil {
		return "", nil, fmt.Errorf("look up the plan of tenant %q: %w", tenantID, err)
	}
	plan := o.tn.cfg.PlanOf(*t)
	if plan == "" {
		return "", nil, nil
	}
	values, ok := o.layers.plans[plan]
	if !ok {
		return "", nil, &ConfigError{
			Key: "overrides.plans", Source: fmt.Sprintf("tenant %q", tenantID),
			Err: fmt.Errorf("there is no plan %q: configure it, or give the tenant one of %q", plan, slices.Sorted(maps.Keys(o.layers.plans))),
		}
	}
	return plan, values, nil
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

var jsonNull = []byte("null")

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
	case bytes.Equal(encoded, jsonNull):
		return nil, errors.New("null is no value: use Unset")
	case len(encoded) > maxOverride:
		return nil, fmt.Errorf("%d bytes of JSON are too many: use at most %d", len(encoded), maxOverride)
	}
	return encoded, nil
}
