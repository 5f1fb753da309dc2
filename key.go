package tenancy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
)

// AnyKey is a [Key] or a [SecretKey] of any type, as [Config].Keys declares it.
type AnyKey interface {
	// Info describes the key.
	Info() KeyInfo
	// check returns why a JSON text is no value of the key, nil when it is one.
	check(value json.RawMessage) error
}

// KeyInfo describes a declared key.
type KeyInfo struct {
	Name        string          `json:"name"`
	Type        string          `json:"type"`              // as Go writes it
	Default     json.RawMessage `json:"default,omitempty"` // of the code; none for a secret
	Description string          `json:"description,omitempty"`
	Secret      bool            `json:"secret,omitempty"`
}

// Key is a setting with a type and a default.
type Key[T any] struct {
	info     KeyInfo
	fallback T
	accept   func(T) error // nil accepts every value
}

// NewKey declares a setting. The default counts where neither the tenant nor its plan nor the
// configuration has a value. It panics on a malformed name or a default that is not JSON, which is
// a mistake in the program: declare keys in package variables, and name them in [Config].Keys.
func NewKey[T any](name string, fallback T) Key[T] {
	err := checkKey(name)
	text, encodeErr := json.Marshal(fallback)
	if err := errors.Join(err, encodeErr); err != nil {
		panic("tenancy.NewKey: " + err.Error())
	}
	return Key[T]{info: KeyInfo{Name: name, Type: typeName[T](), Default: text}, fallback: fallback}
}

func typeName[T any]() string { return reflect.TypeFor[T]().String() }

// Describe returns the key with a text for people who set it.
func (k Key[T]) Describe(text string) Key[T] {
	k.info.Description = text
	return k
}

// Check returns the key with a condition: a value for which accept returns an error is refused
// where it is set, and is a [*ConfigError] where it is read. It panics when the default does not
// pass.
func (k Key[T]) Check(accept func(T) error) Key[T] {
	k.accept = accept
	if err := accept(k.fallback); err != nil {
		panic(fmt.Sprintf("tenancy.Key %s: the default does not pass: %v", k.info.Name, err))
	}
	return k
}

// Name returns the key's name.
func (k Key[T]) Name() string { return k.info.Name }

// Info describes the key.
func (k Key[T]) Info() KeyInfo {
	info := k.info
	info.Default = bytes.Clone(info.Default)
	return info
}

func (k Key[T]) check(raw json.RawMessage) error {
	_, err := k.decode(raw)
	return err
}

func (k Key[T]) decode(raw json.RawMessage) (T, error) {
	value, err := decodeValue[T](raw)
	if err == nil && k.accept != nil {
		err = k.accept(value)
	}
	return value, err
}

func decodeValue[T any](raw json.RawMessage) (value T, err error) {
	switch {
	case isSealed(raw):
		return value, errIsSecret
	case bytes.Equal(bytes.TrimSpace(raw), jsonNull):
		return value, errors.New("null is no value")
	}
	err = json.Unmarshal(raw, &value)
	return value, err
}

// Get returns the value for the tenant of ctx. It fails as [Require] does, and with a
// [*ConfigError] when the stored value is not a T or does not pass the key's check; the default
// comes back beside the error.
func (k Key[T]) Get(ctx context.Context, o *Overrides) (T, error) {
	id, err := oneTenant(ctx)
	if err != nil {
		return k.fallback, err
	}
	return k.Of(ctx, o, id)
}

// oneTenant returns the id of the tenant of ctx.
func oneTenant(ctx context.Context) (string, error) {
	s, err := ScopeOf(ctx)
	switch {
	case err != nil:
		return "", err
	case s.System():
		return "", ErrSystemScope
	}
	return s.Tenant.ID, nil
}

// Of returns the value for a tenant.
func (k Key[T]) Of(ctx context.Context, o *Overrides, tenantID string) (T, error) {
	found, ok, err := o.find(ctx, tenantID, k.info.Name)
	if err != nil || !ok || found.Layer == LayerCode {
		return k.fallback, err
	}
	value, err := k.decode(found.Value)
	if err != nil {
		return k.fallback, &ConfigError{Key: k.info.Name, Source: found.source(tenantID), Err: err}
	}
	return value, nil
}

// Set gives a tenant a value of its own.
func (k Key[T]) Set(ctx context.Context, o *Overrides, tenantID string, value T) error {
	if k.accept != nil {
		if err := k.accept(value); err != nil {
			return &ConfigError{Key: k.info.Name, Err: err}
		}
	}
	return o.Set(ctx, tenantID, k.info.Name, value)
}

// Unset takes a tenant's own value away.
func (k Key[T]) Unset(ctx context.Context, o *Overrides, tenantID string) error {
	return o.Unset(ctx, tenantID, k.info.Name)
}

// Watch yields the tenant's value, and again whenever it has changed, as [Overrides.Watch] does.
func (k Key[T]) Watch(ctx context.Context, o *Overrides, tenantID string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for found, err := range o.watch(ctx, tenantID, k.info.Name) {
			value := k.fallback
			if err == nil && found.Value != nil && found.Layer != LayerCode {
				if value, err = k.decode(found.Value); err != nil {
					value, err = k.fallback, &ConfigError{Key: k.info.Name, Source: found.source(tenantID), Err: err}
				}
			}
			if !yield(value, err) {
				return
			}
		}
	}
}
