// Package tenantcache answers how one shared cache serves all tenants without one reading
// another's entries: it puts the tenant of the context in front of every key.
//
//	cache, err := tenantcache.New(redis, tenantcache.Config{Integration: tn.Config().Integration})
//	value, found, err := cache.Get(ctx, "user:7") // reads t:{tenant_id}:user:7
//
// A context without a verified tenant is an error, never the bare key. Work in system scope
// (tenancy.AsSystem) has a key space of its own, s:, and reaches no tenant's entries; to work
// on a tenant's entries, enter it with Tenancy.Within. No pair of a tenant and a key has the
// same backend key as another, whatever the key looks like; see [Key].
//
// It does not cache anything itself and knows no client: [Backend] has three methods, which a
// few lines over any client provide. In a cache of several levels wrap the outermost one, so
// that the in-process level is divided too.
package tenantcache
