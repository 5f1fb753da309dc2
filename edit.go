package tenancy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Edit is a change of several overrides of one tenant.
type Edit struct {
	// Set are values by key, as [Overrides.Set] takes them.
	Set map[string]any
	// Unset are keys that lose the tenant's own value.
	Unset []string
	// Base is the revision that the edit was made from, as [Overrides.Own] gave it. When the tenant's
	// own values have changed since, nothing happens and the error is [ErrConflict]. "" is any.
	Base string
}

// OwnValues are the overrides that a tenant has itself.
type OwnValues struct {
	// Values are the tenant's own; of a secret only that it is set, as the text "[secret]".
	Values map[string]json.RawMessage `json:"values"`
	// Revision stands for these values, secrets included, whatever their order and layout is.
	Revision string `json:"revision"`
}

// HistoryOptions chooses a part of a history.
type HistoryOptions struct {
	// After is the Next of the page before, or "" for the first page.
	After string
	// Limit is the size of a page. Defaults to 100, at most 1000.
	Limit int
}

// PageLimit returns Limit with its default and its bound.
func (o HistoryOptions) PageLimit() int { return ListOptions{Limit: o.Limit}.PageLimit() }

// ConfigRecord is one entry of the history of a tenant's overrides.
type ConfigRecord struct {
	ConfigChange
	// By is who made the change, as [WithActor] says; "" when nobody said.
	By string `json:"by"`
	// Time is in UTC.
	Time time.Time `json:"time"`
	// Revision is the catalogue's; the store chooses it. What changed together has the same one.
	Revision int64 `json:"revision"`
}

// HistoryPage is a part of a history, newest first.
type HistoryPage struct {
	Records []ConfigRecord
	// Next continues the listing, as HistoryOptions.After; "" on the last page.
	Next string
}

// Set gives the tenant a value of its own: anything that encodes to at most 64 KiB of JSON,
// but not null. The key is 1 to 128 of a-z A-Z 0-9 . _ -. A declared key takes only values that
// pass its check; when keys are declared, no other key is taken; a secret is sealed. An unknown
// tenant is [ErrNotFound]. Setting what is set already changes nothing and makes no event.
func (o *Overrides) Set(ctx context.Context, tenantID, key string, value any) error {
	_, err := o.Edit(ctx, tenantID, Edit{Set: map[string]any{key: value}})
	return err
}

// Unset takes the tenant's own value away, so that its plan and the defaults count again. It is no
// error when there is none.
func (o *Overrides) Unset(ctx context.Context, tenantID, key string) error {
	_, err := o.Edit(ctx, tenantID, Edit{Unset: []string{key}})
	return err
}

// Edit makes all changes of an edit in one transaction, with one [TenantConfigChanged] event and
// one record of the history per key that changed, or none of them. It returns the revision after it.
// All keys and values that are refused are named, joined.
func (o *Overrides) Edit(ctx context.Context, tenantID string, e Edit) (revision string, err error) {
	values, err := o.prepare(e)
	if err != nil {
		return "", err
	}
	keys := slices.Sorted(maps.Keys(values))
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("set %s of tenant %q: %w", strings.Join(keys, ", "), tenantID, err)
	}
	err = o.save(ctx, tenantID, func(t *Tenant, own map[string]json.RawMessage) (ConfigWrite, error) {
		if e.Base != "" && e.Base != revisionOf(own) {
			return ConfigWrite{}, ErrConflict
		}
		w := ConfigWrite{Values: map[string]json.RawMessage{}}
		for _, key := range keys {
			stored, changed, err := o.replace(t.ID, key, own[key], values[key])
			if err != nil {
				return ConfigWrite{}, &ConfigError{Key: key, Err: err}
			}
			if !changed {
				continue
			}
			if err := o.record(ctx, &w, t, key, own[key], stored); err != nil {
				return ConfigWrite{}, err
			}
			w.Values[key] = stored
			own[key] = stored
			if stored == nil {
				delete(own, key)
			}
		}
		revision = revisionOf(own)
		return w, nil
	})
	if err != nil {
		return fail(err)
	}
	return revision, nil
}

// prepare returns the new values in plain JSON, nil where one is taken away.
func (o *Overrides) prepare(e Edit) (map[string]json.RawMessage, error) {
	values := make(map[string]json.RawMessage, len(e.Set)+len(e.Unset))
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(e.Set)) {
		value, err := o.encode(key, e.Set[key])
		if err != nil {
			problems = append(problems, &ConfigError{Key: key, Err: err})
		}
		values[key] = value
	}
	for _, key := range e.Unset {
		err := checkKey(key)
		if _, twice := e.Set[key]; err == nil && twice {
			err = errors.New("is both set and unset: choose one")
		}
		if err != nil {
			problems = append(problems, &ConfigError{Key: key, Err: err})
		}
		values[key] = nil
	}
	return values, errors.Join(problems...)
}

// encode returns the JSON text of a value that may be stored for key, before it is sealed.
func (o *Overrides) encode(key string, value any) (json.RawMessage, error) {
	if err := o.layers.known(key); err != nil {
		return nil, err
	}
	if _, hidden := value.(interface{ isSecret() }); hidden {
		return nil, errors.New("the value is a Secret, which is stored as \"" + redacted + "\": give what it reveals")
	}
	declared := o.layers.keys[key]
	raw, err := encodeOverride(key, value)
	switch {
	case err != nil && declared != nil && declared.Info().Secret:
		return nil, fmt.Errorf("the secret cannot be stored: give JSON that is not null, of at most %d bytes", maxOverride)
	case err != nil:
		return nil, err
	case isSealed(raw):
		return nil, errLooksSealed
	case declared != nil:
		return raw, declared.check(raw)
	}
	return raw, nil
}

// replace returns what is stored for key in the place of old, and false when that would be the same.
func (o *Overrides) replace(tenantID, key string, old, plain json.RawMessage) (stored json.RawMessage, changed bool, err error) {
	declared := o.layers.keys[key]
	secret := declared != nil && declared.Info().Secret
	switch {
	case plain == nil:
		return nil, old != nil, nil
	case !secret && isSealed(old):
		return nil, false, errors.New("holds a secret here: declare it with NewSecretKey, or unset it first")
	case !secret:
		return plain, !bytes.Equal(old, plain), nil
	}
	// A value that does not open any more may be replaced.
	if was, err := o.sealer().open(tenantID, key, old); err == nil && bytes.Equal(was, plain) {
		return old, false, nil
	}
	stored, err = o.sealer().seal(tenantID, key, plain)
	return stored, true, err
}

// record adds the event and the history of one key to a write.
func (o *Overrides) record(ctx context.Context, w *ConfigWrite, t *Tenant, key string, old, stored json.RawMessage) error {
	id, err := o.tn.cfg.NewID()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	now := o.tn.lifecycle.now()
	change := ConfigChange{Key: key, Old: o.layers.redact(key, old), New: o.layers.redact(key, stored)}
	w.Events = append(w.Events, Event{
		ID: id, Type: TenantConfigChanged, TenantID: t.ID, Slug: t.Slug, Revision: t.Revision, Time: now, Config: &change,
	})
	w.History = append(w.History, ConfigRecord{ConfigChange: change, By: actorOf(ctx), Time: now})
	return nil
}

// save runs change in a transaction of the store and tells of it.
func (o *Overrides) save(ctx context.Context, tenantID string,
	change func(t *Tenant, own map[string]json.RawMessage) (ConfigWrite, error),
) error {
	store, err := o.store()
	if err != nil {
		return err
	}
	t, _, err := o.tn.validator.lookup(ctx, ByID(tenantID), o.tn.validator.gens.clock())
	if err != nil {
		return err
	}
	if err := o.tn.hook(ctx, HookConfigChanged, *t); err != nil {
		return err
	}
	err = store.SaveConfig(ctx, t.ID, func(own map[string]json.RawMessage) (ConfigWrite, error) { return change(t, own) })
	_ = o.tn.Changed(ctx, t.ID) // also after an error: nobody knows what was committed
	if err != nil {
		return err
	}
	o.tn.relay.deliver(ctx)
	return nil
}

// Own returns the tenant's own values as the store has them now, and the revision to base an [Edit]
// on.
func (o *Overrides) Own(ctx context.Context, tenantID string) (OwnValues, error) {
	store, err := o.store()
	if err != nil {
		return OwnValues{}, err
	}
	own, err := store.LoadConfig(ctx, tenantID)
	if err != nil {
		return OwnValues{}, err
	}
	revision := revisionOf(own)
	values := make(map[string]json.RawMessage, len(own))
	for key, value := range own {
		values[key] = bytes.Clone(o.layers.redact(key, value))
	}
	return OwnValues{Values: values, Revision: revision}, nil
}

// History returns one page of what was changed in the tenant's overrides, when and by whom, newest
// first. Secret values show as the text "[secret]".
func (o *Overrides) History(ctx context.Context, tenantID string, opts HistoryOptions) (HistoryPage, error) {
	store, err := o.store()
	if err != nil {
		return HistoryPage{}, err
	}
	page, err := store.ConfigHistory(ctx, tenantID, opts)
	for i, r := range page.Records { // the key may have become secret since
		page.Records[i].Old, page.Records[i].New = o.layers.redact(r.Key, r.Old), o.layers.redact(r.Key, r.New)
	}
	return page, err
}

// Reseal seals all secrets of a tenant with the first of [Config].SealingKeys that another key has
// sealed, declared or not, and returns how many there were. Afterwards the tenant needs the other
// keys no more. When one does not open, none is sealed anew. It makes no event and no history, for no
// value changes.
func (o *Overrides) Reseal(ctx context.Context, tenantID string) (resealed int, err error) {
	s := o.sealer()
	err = o.save(ctx, tenantID, func(t *Tenant, own map[string]json.RawMessage) (ConfigWrite, error) {
		resealed = 0
		w := ConfigWrite{Values: map[string]json.RawMessage{}}
		var problems []error
		for _, key := range slices.Sorted(maps.Keys(own)) {
			id, _, sealed := splitSealed(own[key])
			if !sealed || len(s) > 0 && id == s[0].id {
				continue
			}
			plain, err := s.open(t.ID, key, own[key])
			if err == nil {
				w.Values[key], err = s.seal(t.ID, key, plain)
			}
			if err != nil {
				problems = append(problems, &ConfigError{Key: key, Err: err})
			}
			resealed++
		}
		return w, errors.Join(problems...)
	})
	if err != nil {
		return 0, fmt.Errorf("seal the secrets of tenant %q anew: %w", tenantID, err)
	}
	return resealed, nil
}

func (o *Overrides) sealer() sealer { return o.tn.cfg.SealingKeys }

func (o *Overrides) store() (ConfigStore, error) {
	if o.tn.cfg.ConfigStore == nil {
		return nil, fmt.Errorf("the tenants' overrides: %w: configure tenancy.Config.ConfigStore", errors.ErrUnsupported)
	}
	return o.tn.cfg.ConfigStore, nil
}

// revisionOf returns a digest of the overrides of a tenant. Layout that a store may change does not
// count.
func revisionOf(own map[string]json.RawMessage) string {
	h := sha256.New()
	part := func(b []byte) {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b)))) // never fails
		_, _ = h.Write(b)
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		var compact bytes.Buffer
		value := []byte(own[key])
		if json.Compact(&compact, value) == nil {
			value = compact.Bytes()
		}
		part([]byte(key))
		part(value)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
