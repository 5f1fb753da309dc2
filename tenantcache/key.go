package tenantcache

import (
	"context"
	"fmt"
	"strings"

	"lexigram.dev/tenancy"
)

// The first bytes of every backend key. They differ, so no tenant's key is the system's.
const (
	tenantPrefix = "t:"
	systemPrefix = "s:"
)

// Key returns the backend's key for key in the scope of ctx: t:{tenant_id}:key for a tenant,
// s:key in system scope. It is for caches of another shape than [Backend], and for whatever
// else is shared by key, such as a singleflight group or a rate limiter.
//
// The key may be any string, also an empty one or one that looks like another tenant's. Two
// pairs of a scope and a key never get the same backend key: tenant ids cannot contain a
// colon, so the first one after t: ends the id, and what follows is the key as given.
//
// It fails as [tenancy.ScopeOf] does, above all with [tenancy.ErrNoTenant] and
// [tenancy.ErrUnverified], and with a [*tenancy.InvalidError] for a tenant whose id contains
// a colon. The key is "" then.
func Key(ctx context.Context, key string) (string, error) {
	s, err := tenancy.ScopeOf(ctx)
	if err != nil {
		return "", fmt.Errorf("cache key %q: %w", key, err)
	}
	if s.System() {
		return systemPrefix + key, nil
	}
	id := s.Tenant.ID
	if err := checkID(id); err != nil {
		return "", fmt.Errorf("cache key %q: %w", key, err)
	}
	return tenantPrefix + id + ":" + key, nil
}

// prefix returns what [Key] puts in front.
func prefix(ctx context.Context) (string, error) { return Key(ctx, "") }

// checkID refuses the ids that would make keys ambiguous. An application's own Directory may
// hand out others than tenancy.CheckID allows; only an empty one and a colon matter here.
func checkID(id string) error {
	if id == "" || strings.IndexByte(id, ':') >= 0 {
		return tenancy.CheckID(id)
	}
	return nil
}
