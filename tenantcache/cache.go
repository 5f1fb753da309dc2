package tenantcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

// Backend is a byte cache that all tenants share. Its keys that begin with t: or s: belong
// to this package.
type Backend interface {
	// Get returns the value of key, and false when there is none.
	Get(ctx context.Context, key string) (value []byte, found bool, err error)
	// Set keeps a value. A ttl of 0 means the backend's own default.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Delete removes a value. A missing one is no error.
	Delete(ctx context.Context, key string) error
}

// MultiGetter is an optional interface of a [Backend].
type MultiGetter interface {
	// GetMulti returns the values that exist, by key.
	GetMulti(ctx context.Context, keys []string) (map[string][]byte, error)
}

// Incrementer is an optional interface of a [Backend].
type Incrementer interface {
	// Increment adds delta to the number at key, 0 when there is none, and returns the sum.
	// The ttl counts from the first increment; 0 means the backend's own default.
	Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)
}

// PrefixDeleter is an optional interface of a [Backend].
type PrefixDeleter interface {
	// DeletePrefix removes every value whose key begins with prefix, taken literally: it is
	// no pattern. It is not atomic: a value set meanwhile may survive.
	DeletePrefix(ctx context.Context, prefix string) error
}

// Config configures a [Cache].
type Config struct {
	// Integration is the application's tenancy.Config.Integration. With NoCacheKeyPrefix
	// [New] refuses: a cache that all tenants share needs no wrapper, and this one is never
	// without its prefix.
	Integration tenancy.IntegrationConfig
}

// Cache is a [Backend] in which each tenant has a key space of its own. Every method takes
// the tenant from its context and fails as [Key] does, without calling the backend. The
// optional methods return an error that is [errors.ErrUnsupported] where the backend has no
// such method. It is as safe for concurrent use as the backend.
type Cache struct {
	inner Backend
}

var (
	_ Backend       = (*Cache)(nil)
	_ MultiGetter   = (*Cache)(nil)
	_ Incrementer   = (*Cache)(nil)
	_ PrefixDeleter = (*Cache)(nil)
)

// New wraps inner. It fails with a [*tenancy.ConfigError] without a backend and where the
// configuration switches the prefix off.
func New(inner Backend, cfg Config) (*Cache, error) {
	var problems []error
	if inner == nil {
		problems = append(problems, &tenancy.ConfigError{
			Key: "tenantcache.Backend", Err: errors.New("required: give the cache that the tenants share"),
		})
	}
	if cfg.Integration.NoCacheKeyPrefix {
		problems = append(problems, &tenancy.ConfigError{
			Key: "integration.cache_key_prefix",
			Err: errors.New("false, and without the prefix tenants would read each other's entries: use the backend itself for what all tenants share, or set it to true"),
		})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &Cache{inner: inner}, nil
}

// Get returns the tenant's value of key, and false when there is none.
func (c *Cache) Get(ctx context.Context, key string) (value []byte, found bool, err error) {
	if key, err = Key(ctx, key); err != nil {
		return nil, false, err
	}
	return c.inner.Get(ctx, key)
}

// Set keeps a value for the tenant. A ttl of 0 means the backend's own default.
func (c *Cache) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	key, err := Key(ctx, key)
	if err != nil {
		return err
	}
	return c.inner.Set(ctx, key, value, ttl)
}

// Delete removes the tenant's value of key. A missing one is no error.
func (c *Cache) Delete(ctx context.Context, key string) error {
	key, err := Key(ctx, key)
	if err != nil {
		return err
	}
	return c.inner.Delete(ctx, key)
}

// GetMulti returns those of the tenant's values that exist, by the keys as given here.
func (c *Cache) GetMulti(ctx context.Context, keys []string) (map[string][]byte, error) {
	prefix, err := prefix(ctx)
	if err != nil {
		return nil, err
	}
	multi, ok := c.inner.(MultiGetter)
	if !ok {
		return nil, c.unsupported("GetMulti")
	}
	prefixed := make([]string, len(keys))
	for i, key := range keys {
		prefixed[i] = prefix + key
	}
	found, err := multi.GetMulti(ctx, prefixed)
	if err != nil {
		return nil, err
	}
	values := make(map[string][]byte, len(found))
	for key, value := range found {
		if key, own := strings.CutPrefix(key, prefix); own {
			values[key] = value
		}
	}
	return values, nil
}

// Increment adds delta to the tenant's number at key, 0 when there is none, and returns the
// sum. The ttl counts from the first increment; 0 means the backend's own default.
func (c *Cache) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	key, err := Key(ctx, key)
	if err != nil {
		return 0, err
	}
	counter, ok := c.inner.(Incrementer)
	if !ok {
		return 0, c.unsupported("Increment")
	}
	return counter.Increment(ctx, key, delta, ttl)
}

// DeletePrefix removes those of the tenant's values whose key begins with prefix; with "" all
// of them. In system scope it removes the system's own values and no tenant's.
func (c *Cache) DeletePrefix(ctx context.Context, prefix string) error {
	prefix, err := Key(ctx, prefix)
	if err != nil {
		return err
	}
	return c.deletePrefix(ctx, prefix)
}

// DeleteTenant removes all values of a tenant, whatever its state: for a subscriber to
// [tenancy.TenantPurged]. It needs system scope; in a tenant's it fails with
// [tenancy.ErrTenantMismatch], because no tenant may empty another's cache.
func (c *Cache) DeleteTenant(ctx context.Context, tenantID string) error {
	s, err := tenancy.ScopeOf(ctx)
	if err == nil && !s.System() {
		err = fmt.Errorf("%w: use tenancy.AsSystem(ctx, reason)", tenancy.ErrTenantMismatch)
	}
	if err == nil {
		err = checkID(tenantID)
	}
	if err != nil {
		return fmt.Errorf("delete cache of tenant %q: %w", tenantID, err)
	}
	return c.deletePrefix(ctx, tenantPrefix+tenantID+":")
}

func (c *Cache) deletePrefix(ctx context.Context, prefix string) error {
	deleter, ok := c.inner.(PrefixDeleter)
	if !ok {
		return c.unsupported("DeletePrefix")
	}
	return deleter.DeletePrefix(ctx, prefix)
}

func (c *Cache) unsupported(method string) error {
	return fmt.Errorf("cache backend %T has no %s: %w", c.inner, method, errors.ErrUnsupported)
}
