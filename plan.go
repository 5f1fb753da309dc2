package tenancy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Layer says where the value of a key comes from.
type Layer string

// The layers, weakest first.
const (
	LayerCode     Layer = "code"     // the default of a declared key
	LayerDefaults Layer = "defaults" // overrides.defaults
	LayerPlan     Layer = "plan"     // overrides.plans, by the tenant's plan
	LayerTenant   Layer = "tenant"   // the tenant's own
)

// LayerValue is what one layer says for a key.
type LayerValue struct {
	Layer Layer           `json:"layer"`
	Plan  string          `json:"plan,omitempty"` // of LayerPlan
	Value json.RawMessage `json:"value"`
}

// source names the layer for an error.
func (v LayerValue) source(tenantID string) string {
	switch v.Layer {
	case LayerTenant:
		return fmt.Sprintf("tenant %q", tenantID)
	case LayerPlan:
		return "overrides.plans." + v.Plan
	case LayerDefaults:
		return "overrides.defaults"
	default:
		return ""
	}
}

// layers are the values that come from code and configuration, and the declared keys.
type layers struct {
	keys     map[string]AnyKey
	code     map[string]json.RawMessage
	defaults map[string]json.RawMessage
	plans    map[string]map[string]json.RawMessage
}

// newLayers reports all problems joined.
func newLayers(cfg Config) (layers, error) {
	l := layers{
		keys: map[string]AnyKey{}, code: map[string]json.RawMessage{},
		plans: map[string]map[string]json.RawMessage{},
	}
	var problems []error
	for _, k := range cfg.Keys {
		if k == nil {
			problems = append(problems, &ConfigError{Key: "Keys", Err: errors.New("one is nil: declare it with NewKey or NewSecretKey")})
			continue
		}
		info := k.Info()
		err := checkKey(info.Name)
		if err == nil && l.keys[info.Name] != nil {
			err = errors.New("is declared twice: declare it in one package and use it from there")
		}
		if err != nil {
			problems = append(problems, &ConfigError{Key: "Keys: " + info.Name, Err: err})
			continue
		}
		l.keys[info.Name] = k
		if info.Default != nil && !bytes.Equal(info.Default, jsonNull) {
			l.code[info.Name] = info.Default
		}
	}
	read := func(section string, values map[string]any) map[string]json.RawMessage {
		encoded := make(map[string]json.RawMessage, len(values))
		for _, key := range slices.Sorted(maps.Keys(values)) {
			raw, err := l.configured(key, values[key])
			if err != nil {
				problems = append(problems, &ConfigError{Key: section + "." + key, Err: err})
			}
			encoded[key] = raw
		}
		return encoded
	}
	l.defaults = read("overrides.defaults", cfg.Overrides.Defaults)
	for _, plan := range slices.Sorted(maps.Keys(cfg.Overrides.Plans)) {
		if plan == "" {
			problems = append(problems, &ConfigError{Key: "overrides.plans", Err: errors.New("a plan has no name: a tenant without a plan takes overrides.defaults")})
		}
		l.plans[plan] = read("overrides.plans."+plan, cfg.Overrides.Plans[plan])
	}
	return l, errors.Join(problems...)
}

// configured encodes a value of the configuration.
func (l layers) configured(key string, value any) (json.RawMessage, error) {
	if err := l.known(key); err != nil {
		return nil, err
	}
	declared := l.keys[key]
	if declared != nil && declared.Info().Secret {
		return nil, errors.New("is secret: a secret belongs to one tenant, set it with SecretKey.Set")
	}
	raw, err := encodeOverride(key, value)
	if err == nil && isSealed(raw) {
		err = errLooksSealed
	}
	if err == nil && declared != nil {
		err = declared.check(raw)
	}
	return raw, err
}

// known refuses a key that is not declared, if any is.
func (l layers) known(key string) error {
	if len(l.keys) == 0 || l.keys[key] != nil {
		return nil
	}
	return fmt.Errorf("is not a declared key: add it to tenancy.Config.Keys, or use one of %q", slices.Sorted(maps.Keys(l.keys)))
}

// isSecret reports whether a value must not be shown.
func (l layers) isSecret(key string, value json.RawMessage) bool {
	declared := l.keys[key]
	return isSealed(value) || declared != nil && declared.Info().Secret
}

// redact returns value, or of a secret only that it is set.
func (l layers) redact(key string, value json.RawMessage) json.RawMessage {
	if value != nil && l.isSecret(key, value) {
		return json.RawMessage(redactedJSON)
	}
	return value
}
