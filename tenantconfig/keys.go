package tenantconfig

import (
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

// Key is one line of the configuration table.
type Key struct {
	Name    string // below tenancy, for example resolution.resolvers
	Type    string // boolean, integer, seconds, text, text or null, list, map
	Default string // as YAML
	Doc     string // one sentence
}

// Variable returns the name of the environment variable that sets k.
func (k Key) Variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "__"))
}

// Keys returns the configuration table.
func Keys() []Key {
	keys := make([]Key, len(table))
	for i, e := range table {
		keys[i] = e.Key
	}
	return keys
}

// The types of the configuration table.
const (
	typeBoolean  = "boolean"
	typeInteger  = "integer"
	typeSeconds  = "seconds"
	typeText     = "text"
	typeNullable = "text or null"
	typeList     = "list"
	typeMap      = "map"
)

// entry is a Key and how it gets into a tenancy.Config.
type entry struct {
	Key
	set func(v *value, cfg *tenancy.Config)
}

// table is the only list of keys: loading, suggestions, Keys and docs/CONFIGURATION.md follow
// it.
var table = []entry{
	{
		Key{"enabled", typeBoolean, "true", "False switches tenancy off: no tenant is bound and guards refuse everything."},
		inverted(func(c *tenancy.Config) *bool { return &c.Disabled }),
	},
	{
		Key{"resolution.resolvers", typeList, `["jwt_claim", "header", "subdomain", "path"]`, "The resolvers in order; the first answer wins."},
		list(func(c *tenancy.Config) *[]string { return &c.Resolution.Resolvers }, notEmpty, knownResolver, distinct),
	},
	{
		Key{"resolution.header_name", typeText, "x-tenant-id", "The HTTP header that the resolver header reads."},
		text(func(c *tenancy.Config) *string { return &c.Resolution.HeaderName }, func(s string) error {
			return chainError(tenancy.ResolutionConfig{Resolvers: []string{tenancy.ResolverHeader}, HeaderName: s})
		}),
	},
	{
		Key{"resolution.subdomain_pattern", typeNullable, "null", "The domain whose subdomains are tenants, such as app.com. Null switches the resolver subdomain off."},
		text(func(c *tenancy.Config) *string { return &c.Resolution.SubdomainPattern }, func(s string) error {
			return chainError(tenancy.ResolutionConfig{Resolvers: []string{tenancy.ResolverSubdomain}, SubdomainPattern: s})
		}),
	},
	{
		Key{"resolution.path_pattern", typeText, "/tenants/{tenant_id}/", "Where the resolver path finds the tenant: plain segments and one in braces, anchored at the start."},
		text(func(c *tenancy.Config) *string { return &c.Resolution.PathPattern }, func(s string) error {
			return chainError(tenancy.ResolutionConfig{Resolvers: []string{tenancy.ResolverPath}, PathPattern: s})
		}),
	},
	{
		Key{"resolution.jwt_claim_key", typeText, "tenant_id", "The claim that the resolver jwt_claim reads."},
		text(func(c *tenancy.Config) *string { return &c.Resolution.JWTClaimKey }, nil),
	},
	{
		Key{"resolution.validator_cache_ttl", typeSeconds, "300", "How long a tenant is cached; 0 switches the cache off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Resolution.ValidatorCacheTTL }),
	},
	{
		Key{"resolution.negative_cache_ttl", typeSeconds, "5", "How long an unknown name is remembered; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Resolution.NegativeCacheTTL }),
	},
	{
		Key{"resolution.membership_cache_ttl", typeSeconds, "30", "How long a membership, or its absence, is cached; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Resolution.MembershipCacheTTL }),
	},
	{
		Key{"resolution.stale_if_error", typeSeconds, "60", "How long past its TTL a cached answer may serve while the catalogue cannot be asked; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Resolution.StaleIfError }),
	},
	{
		Key{"resolution.cache_size", typeInteger, "100000", "How many tenants, and how many memberships, are cached at most."},
		integer(func(c *tenancy.Config) *int { return &c.Resolution.CacheSize }, 1),
	},
	{
		Key{"resolution.poll_interval", typeSeconds, "1", "How often the catalogue is asked what changed; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Resolution.PollInterval }),
	},
	{
		Key{"resolution.trusted_resolvers", typeList, `["jwt_claim"]`, "The resolvers that bind without a membership. Naming header, subdomain or path needs unsafe_trust_client."},
		list(func(c *tenancy.Config) *[]string { return &c.Resolution.TrustedResolvers }, notEmpty, knownResolver, distinct),
	},
	{
		Key{"resolution.unsafe_trust_client", typeBoolean, "false", "True lets anybody choose a tenant by a header, subdomain or path that is named in trusted_resolvers."},
		boolean(func(c *tenancy.Config) *bool { return &c.Resolution.UnsafeTrustClient }),
	},
	{
		Key{"resolution.strict_membership", typeBoolean, "true", "False lets a client's word stand where no membership is configured or it cannot be asked."},
		inverted(func(c *tenancy.Config) *bool { return &c.Resolution.LaxMembership }),
	},
	{
		Key{"resolution.on_conflict", typeText, "first_wins", "What happens when two sources name different tenants: first_wins or reject."},
		text(func(c *tenancy.Config) *tenancy.OnConflict { return &c.Resolution.OnConflict },
			oneOf(string(tenancy.FirstWins), string(tenancy.Reject))),
	},
	{
		Key{"resolution.issuer_tenants", typeMap, "{}", "The one tenant, by id or slug, that a token issuer may speak for."},
		issuerTenants,
	},
	{
		Key{"resolution.trusted_proxies", typeList, "[]", "The addresses or prefixes whose X-Forwarded-Host counts."},
		list(func(c *tenancy.Config) *[]string { return &c.Resolution.TrustedProxies }, each(func(s string) error {
			_, err := tenancy.ResolutionConfig{TrustedProxies: []string{s}}.ProxyPrefixes()
			return unwrapConfig(err)
		})),
	},
	{
		Key{"lifecycle.isolation_strategy", typeText, "row_level", "Where new tenants' data goes: row_level, schema or database."},
		func(v *value, c *tenancy.Config) {
			names := append([]string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase}, v.loader.opts.Strategies...)
			text(func(c *tenancy.Config) *string { return &c.Lifecycle.IsolationStrategy }, oneOf(names...))(v, c)
		},
	},
	{
		Key{"lifecycle.auto_provision_isolation", typeBoolean, "true", "False leaves a new tenant in provisioning until it is provisioned by hand."},
		inverted(func(c *tenancy.Config) *bool { return &c.Lifecycle.NoAutoProvision }),
	},
	{
		Key{"lifecycle.reserved_slugs", typeList, "[]", "Slugs that no new tenant may have, beside the built-in ones."},
		list(func(c *tenancy.Config) *[]string { return &c.Lifecycle.ReservedSlugs }, each(func(s string) error {
			_, err := tenancy.CanonicalSlug(s)
			return err
		})),
	},
	{
		Key{"lifecycle.async", typeBoolean, "false", "True lets the creation of a tenant return before it is provisioned."},
		boolean(func(c *tenancy.Config) *bool { return &c.Lifecycle.Async }),
	},
	{
		Key{"lifecycle.runner", typeBoolean, "true", "False leaves the works on tenants to RunOnce or tenantriver."},
		inverted(func(c *tenancy.Config) *bool { return &c.Lifecycle.NoRunner }),
	},
	{
		Key{"lifecycle.workers", typeInteger, "4", "How many tenants are provisioned, archived or purged at once."},
		integer(func(c *tenancy.Config) *int { return &c.Lifecycle.Workers }, 1),
	},
	{
		Key{"lifecycle.lease", typeSeconds, "30", "How long a node's work on a tenant is safe from other nodes after it was last heard of; at least 1."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Lifecycle.Lease }),
	},
	{
		Key{"lifecycle.give_up_after", typeSeconds, "0", "How long a provisioning may fail before what was made is removed; 0 means for ever."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Lifecycle.GiveUpAfter }),
	},
	{
		Key{"lifecycle.archive_grace", typeSeconds, "2592000", "How long an archived tenant's data is kept from a purge; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Lifecycle.ArchiveGrace }),
	},
	{
		Key{"lifecycle.auto_purge", typeBoolean, "false", "True removes an archived tenant's data when the grace is over."},
		boolean(func(c *tenancy.Config) *bool { return &c.Lifecycle.AutoPurge }),
	},
	{
		Key{"lifecycle.slug_quarantine", typeSeconds, "2592000", "How long nobody else can have a slug or alias that a tenant gave up; 0 switches it off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Lifecycle.SlugQuarantine }),
	},
	{
		Key{"lifecycle.max_grant", typeSeconds, "86400", "How long support access may be granted for at most; 0 refuses all."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Lifecycle.MaxGrant }),
	},
	{
		Key{"overrides.cache_ttl", typeSeconds, "60", "How long a tenant's overrides are cached; 0 switches the cache off."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Overrides.CacheTTL }),
	},
	{
		Key{"overrides.defaults", typeMap, "{}", "The values of keys that neither a tenant nor its plan has set."},
		func(v *value, c *tenancy.Config) {
			if m, ok := v.anyMap(); ok {
				c.Overrides.Defaults = m
			}
		},
	},
	{
		Key{"overrides.plans", typeMap, "{}", "The values of keys by plan, for tenants that have not set them. A tenant's plan is its metadata's plan."},
		plans,
	},
	{
		Key{"events.retention", typeSeconds, "86400", "How long events are kept that every sink has taken; 0 keeps them for good."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Events.Retention }),
	},
	{
		Key{"events.max_attempts", typeInteger, "300", "How often a refused event is handed over before it is parked until an operator decides; 0 parks nothing."},
		func(v *value, c *tenancy.Config) {
			attempts := func(c *tenancy.Config) *int { return &c.Events.MaxAttempts }
			if integer(attempts, 0)(v, c); c.Events.MaxAttempts == 0 {
				c.Events.MaxAttempts = -1 // what is not set is never asked for
			}
		},
	},
	{
		Key{"events.lease", typeSeconds, "15", "How long nobody else delivers events for a sink whose process is gone; 1 or more."},
		seconds(func(c *tenancy.Config) *time.Duration { return &c.Events.Lease }),
	},
	{
		Key{"integration.cache_key_prefix", typeBoolean, "true", "False switches off tenantcache: New then refuses. Keys are never written without the prefix t:{tenant_id}:."},
		inverted(func(c *tenancy.Config) *bool { return &c.Integration.NoCacheKeyPrefix }),
	},
	{
		Key{"integration.sql_context_bridge", typeBoolean, "true", "False switches off the binding of SQL statements to the tenant; isolation.Open then refuses to open."},
		inverted(func(c *tenancy.Config) *bool { return &c.Integration.NoSQLContextBridge }),
	},
}
