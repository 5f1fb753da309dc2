package tenancy

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
)

const (
	redacted     = "[secret]"
	redactedJSON = `"` + redacted + `"`

	// sealedPrefix begins every sealed value. The key's id and the sealed bytes in base64 follow it,
	// with a colon between.
	sealedPrefix = "tenancy-sealed:1:"
	sealingBytes = 32 // of a key: AES-256
)

var (
	errIsSecret    = errors.New("is secret: declare it with NewSecretKey and read it with that")
	errLooksSealed = fmt.Errorf("begins with %q, which only sealed values do", sealedPrefix)
)

// SealingKey seals secret values. It never shows its bytes. Make one with [NewSealingKey].
type SealingKey struct {
	id string
	// A function, so that nothing that prints or walks values comes to the key.
	aead func() cipher.AEAD
}

// NewSealingKey returns a key of 32 random bytes, kept outside of the catalogue: whoever has both
// reads the secrets. The id stands in front of each value that the key sealed and is never given to
// another key: 1 to 64 of a-z A-Z 0-9 . _ -.
func NewSealingKey(id string, key []byte) (SealingKey, error) {
	if err := checkKey(id); err != nil || len(id) > 64 {
		return SealingKey{}, &InvalidError{Field: "id of a sealing key", Value: truncate(id, 64), Remedy: "use 1 to 64 of a-z A-Z 0-9 . _ -"}
	}
	fail := func(err error) (SealingKey, error) {
		return SealingKey{}, &ConfigError{Key: "SealingKeys", Err: fmt.Errorf("key %q: %w", id, err)}
	}
	if len(key) != sealingBytes {
		return fail(fmt.Errorf("%d bytes: give %d random ones, for example of `openssl rand -base64 32`, decoded", len(key), sealingBytes))
	}
	if bytes.Equal(key, make([]byte, sealingBytes)) {
		return fail(errors.New("all bytes are zero: give random ones"))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fail(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return fail(err)
	}
	return SealingKey{id: id, aead: func() cipher.AEAD { return aead }}, nil
}

// ID returns the key's id.
func (k SealingKey) ID() string { return k.id }

// String returns the key's id.
func (k SealingKey) String() string { return "sealing key " + k.id }

// MarshalText returns the key's id, in JSON and other encodings too.
func (k SealingKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// sealer seals with the first key and opens with all.
type sealer []SealingKey

func (s sealer) validate() error {
	var problems []error
	for i, k := range s {
		switch {
		case k.aead == nil:
			problems = append(problems, &ConfigError{Key: "SealingKeys", Err: errors.New("one is empty: make it with NewSealingKey")})
		case slices.ContainsFunc(s[:i], func(other SealingKey) bool { return other.id == k.id }):
			problems = append(problems, &ConfigError{Key: "SealingKeys", Err: fmt.Errorf("two keys have the id %q: give each its own", k.id)})
		}
	}
	return errors.Join(problems...)
}

// boundTo is what a sealed value belongs to, so that it opens nowhere else. Neither a tenant's id
// nor a key holds a NUL.
func boundTo(keyID, tenantID, key string) []byte {
	return []byte(sealedPrefix + keyID + "\x00" + tenantID + "\x00" + key)
}

// seal returns the JSON text that is stored for a secret.
func (s sealer) seal(tenantID, key string, plain json.RawMessage) (json.RawMessage, error) {
	if len(s) == 0 {
		return nil, errors.New("is secret and nothing seals it: give tenancy.Config.SealingKeys a key of NewSealingKey")
	}
	k := s[0]
	sealed := k.aead().Seal(nil, nil, plain, boundTo(k.id, tenantID, key))
	return json.RawMessage(`"` + sealedPrefix + k.id + ":" + base64.RawStdEncoding.EncodeToString(sealed) + `"`), nil
}

// open returns what was sealed for this tenant and key. Its errors hold no part of it.
func (s sealer) open(tenantID, key string, value json.RawMessage) (json.RawMessage, error) {
	id, text, ok := splitSealed(value)
	if !ok {
		return nil, errors.New("is stored in plain: set it again to seal it")
	}
	i := slices.IndexFunc(s, func(k SealingKey) bool { return k.id == id })
	if i < 0 {
		return nil, fmt.Errorf("is sealed with the key %q: add that key to tenancy.Config.SealingKeys, behind the first, or set the secret again", truncate(id, 64))
	}
	sealed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("is sealed with the key %q and damaged: set it again", id)
	}
	plain, err := s[i].aead().Open(nil, nil, sealed, boundTo(id, tenantID, key))
	if err != nil {
		return nil, fmt.Errorf("does not open with the key %q: that key has other bytes now, or the value was changed, or moved here from another tenant or key; set it again", id)
	}
	return plain, nil
}

// isSealed reports whether a stored value is, or says that it is, sealed.
func isSealed(value json.RawMessage) bool {
	_, _, ok := splitSealed(value)
	return ok
}

func splitSealed(value json.RawMessage) (id, text string, ok bool) {
	var s string
	// Another spelling of the same text, as with \u0074, counts too.
	if value = bytes.TrimSpace(value); len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", "", false
	}
	if s, ok = strings.CutPrefix(s, sealedPrefix); !ok {
		return "", "", false
	}
	id, text, _ = strings.Cut(s, ":")
	return id, text, true
}

// Secret holds a value that shows itself to nobody but [Secret.Reveal]: printed, logged and encoded
// it is "[secret]".
type Secret[T any] struct {
	// A function, so that nothing that prints or walks values comes to it.
	reveal func() T
}

// Reveal returns the value; the zero T when there is none.
func (s Secret[T]) Reveal() T {
	if s.reveal == nil {
		var none T
		return none
	}
	return s.reveal()
}

// String returns "[secret]".
func (s Secret[T]) String() string { return redacted }

// GoString returns "[secret]".
func (s Secret[T]) GoString() string { return redacted }

// MarshalText returns "[secret]", in JSON and other encodings too.
func (s Secret[T]) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[secret]".
func (s Secret[T]) LogValue() slog.Value { return slog.StringValue(redacted) }

func (s Secret[T]) isSecret() {}

// SecretKey is a setting whose values are sealed where they are stored, and absent from events,
// history, errors and [Overrides.All].
type SecretKey[T any] struct {
	info   KeyInfo
	accept func(T) error // nil accepts every value
}

// NewSecretKey declares a secret setting. It has no default and is never configured: each tenant has
// its own or none. To be set it must be named in [Config].Keys, and [Config].SealingKeys must have a
// key. It panics on a malformed name.
func NewSecretKey[T any](name string) SecretKey[T] {
	if err := checkKey(name); err != nil {
		panic("tenancy.NewSecretKey: " + err.Error())
	}
	return SecretKey[T]{info: KeyInfo{Name: name, Type: typeName[T](), Secret: true}}
}

// Describe returns the key with a text for people who set it.
func (k SecretKey[T]) Describe(text string) SecretKey[T] {
	k.info.Description = text
	return k
}

// Check returns the key with a condition, as [Key.Check] does. What accept says is not shown, for it
// might quote the value.
func (k SecretKey[T]) Check(accept func(T) error) SecretKey[T] {
	k.accept = accept
	return k
}

// Name returns the key's name.
func (k SecretKey[T]) Name() string { return k.info.Name }

// Info describes the key.
func (k SecretKey[T]) Info() KeyInfo { return k.info }

func (k SecretKey[T]) check(plain json.RawMessage) error {
	_, err := k.decode(plain)
	return err
}

// decode returns errors that say nothing of the value.
func (k SecretKey[T]) decode(plain json.RawMessage) (T, error) {
	value, err := decodeValue[T](plain)
	if err != nil {
		return value, fmt.Errorf("the secret is no %s", k.info.Type)
	}
	if k.accept != nil && k.accept(value) != nil {
		return value, errors.New("the secret does not pass the check of its key")
	}
	return value, nil
}

// Get returns the secret of the tenant of ctx, and false when it has none. It fails as [Require]
// does, and with a [*ConfigError] when the stored value cannot be opened.
func (k SecretKey[T]) Get(ctx context.Context, o *Overrides) (Secret[T], bool, error) {
	id, err := oneTenant(ctx)
	if err != nil {
		return Secret[T]{}, false, err
	}
	return k.Of(ctx, o, id)
}

// Of returns the secret of a tenant, and false when it has none.
func (k SecretKey[T]) Of(ctx context.Context, o *Overrides, tenantID string) (Secret[T], bool, error) {
	found, ok, err := o.find(ctx, tenantID, k.info.Name)
	if err != nil || !ok {
		return Secret[T]{}, false, err
	}
	s, err := k.open(o, tenantID, found)
	return s, err == nil, err
}

func (k SecretKey[T]) open(o *Overrides, tenantID string, found LayerValue) (Secret[T], error) {
	plain, err := o.sealer().open(tenantID, k.info.Name, found.Value)
	var value T
	if err == nil {
		value, err = k.decode(plain)
	}
	if err != nil {
		return Secret[T]{}, &ConfigError{Key: k.info.Name, Source: found.source(tenantID), Err: err}
	}
	return Secret[T]{reveal: func() T { return value }}, nil
}

// Set seals a secret of a tenant's own.
func (k SecretKey[T]) Set(ctx context.Context, o *Overrides, tenantID string, value T) error {
	if o.layers.keys[k.info.Name] == nil {
		return &ConfigError{Key: k.info.Name, Err: errors.New("is secret and not declared: add it to tenancy.Config.Keys, so that nobody stores it in plain")}
	}
	return o.Set(ctx, tenantID, k.info.Name, value)
}

// Unset takes a tenant's secret away.
func (k SecretKey[T]) Unset(ctx context.Context, o *Overrides, tenantID string) error {
	return o.Unset(ctx, tenantID, k.info.Name)
}

// Watch yields the tenant's secret, one that reveals the zero T when there is none, and again
// whenever it was set or sealed anew, as [Overrides.Watch] does.
func (k SecretKey[T]) Watch(ctx context.Context, o *Overrides, tenantID string) iter.Seq2[Secret[T], error] {
	return func(yield func(Secret[T], error) bool) {
		for found, err := range o.watch(ctx, tenantID, k.info.Name) {
			var s Secret[T]
			if err == nil && found.Value != nil {
				s, err = k.open(o, tenantID, found)
			}
			if !yield(s, err) {
				return
			}
		}
	}
}
