package tenancy

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/google/uuid"
)

// The names of the resolvers, as resolution.resolvers lists them.
const (
	ResolverJWTClaim  = "jwt_claim"
	ResolverHeader    = "header"
	ResolverSubdomain = "subdomain"
	ResolverPath      = "path"
	ResolverStatic    = "static"
)

// The names of the isolation strategies, as lifecycle.isolation_strategy gives them.
const (
	StrategyRowLevel = "row_level"
	StrategySchema   = "schema"
	StrategyDatabase = "database"
)

// Config composes a [Tenancy]. The zero value of every switch is the safe one. The parts
// Resolution, Lifecycle, Overrides, Integration and Events hold plain values and can come from
// a file (package tenantconfig); the rest is code.
type Config struct {
	// Disabled switches tenancy off: nothing is bound and guards refuse everything.
	// (enabled: false)
	Disabled    bool
	Resolution  ResolutionConfig
	Lifecycle   LifecycleConfig
	Overrides   OverridesConfig
	Integration IntegrationConfig
	Events      EventsConfig

	// Directory finds tenants for requests. Defaults to Store. One of the two is required.
	Directory Directory
	// Store keeps tenants. Without one, Lifecycle answers [errors.ErrUnsupported].
	Store Store
	// Membership answers who belongs to a tenant. Defaults to Store, then to Directory, if
	// it is one. Without any, only trusted resolvers can bind.
	Membership Membership
	// ConfigStore keeps the tenants' overrides. Defaults to Store if it is one. Without one,
	// overrides answer their defaults and cannot be set.
	ConfigStore ConfigStore
	// Keys are the settings that the application declares, each a [Key] or a [SecretKey]. When there
	// is one, no other key is taken: in the configuration, or to be set.
	Keys []AnyKey
	// PlanOf names a tenant's plan among Overrides.Plans; "" is none. It must not change the tenant.
	// Defaults to the tenant's Metadata["plan"].
	PlanOf func(t Tenant) string
	// SealingKeys seal the tenants' secrets: the first seals, all open. To rotate, add a new one on
	// every node, then put it in front, call [Overrides.Reseal] for every tenant, and take the old one
	// away.
	SealingKeys []SealingKey
	// Resolvers are resolvers made in code. When Resolution.Resolvers is empty they are the
	// chain, in this order; else that list places them by name, beside the built-in ones.
	Resolvers []Resolver
	// Provisioner gives new tenants their place. Without one, a tenant has none and is
	// active at once.
	Provisioner Provisioner
	// Steps are the application's own parts of provisioning, archiving and purging a tenant.
	Steps Steps
	// Hooks are called before a change, in their order, and can veto it.
	Hooks map[HookName][]Hook
	// NodeID tells this process from others of the deployment. Defaults to the host's name and a
	// random part.
	NodeID string
	// Bus tells other nodes of changes at once. Without one they poll, see
	// [ResolutionConfig.PollInterval]; with one they poll as well, for what the bus loses.
	Bus Bus
	// Subscribers get the domain events. See also Tenancy.Subscribe.
	Subscribers []Subscriber
	// Publishers get the domain events as well. Each has a name of its own.
	Publishers []Publisher
	// OnDecision is called with the decision of each request, on the request's goroutine.
	OnDecision func(ctx context.Context, d Decision)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Now is the clock. Defaults to the system's.
	Now func() time.Time
	// NewID makes the ids of tenants and events. Defaults to UUIDv7.
	NewID func() (string, error)
}

// OnConflict says what happens when two sources name different tenants.
type OnConflict string

// The ways to treat conflicting sources. The zero value means FirstWins.
const (
	FirstWins OnConflict = "first_wins"
	Reject    OnConflict = "reject"
)

// ResolutionConfig says how a request names its tenant and what is believed. Durations of
// zero take the default; negative ones switch the thing off.
type ResolutionConfig struct {
	// Resolvers are names in order; the first answer wins. Defaults to jwt_claim, header,
	// subdomain, path. (resolvers)
	Resolvers []string
	// HeaderName defaults to x-tenant-id. (header_name)
	HeaderName string
	// SubdomainPattern is the domain whose subdomains are tenants, such as app.com. Empty
	// switches the subdomain resolver off. (subdomain_pattern)
	SubdomainPattern string
	// PathPattern defaults to /tenants/{tenant_id}/. (path_pattern)
	PathPattern string
	// JWTClaimKey defaults to tenant_id. (jwt_claim_key)
	JWTClaimKey string
	// ValidatorCacheTTL is how long a tenant is cached. Defaults to 300 s.
	// (validator_cache_ttl)
	ValidatorCacheTTL time.Duration
	// NegativeCacheTTL is how long an unknown name is remembered. Defaults to 5 s.
	// (negative_cache_ttl)
	NegativeCacheTTL time.Duration
	// MembershipCacheTTL is how long a membership, or its absence, is cached. Defaults to
	// 30 s. (membership_cache_ttl)
	MembershipCacheTTL time.Duration
	// StaleIfError is how long past its TTL an answer may serve while the catalogue cannot be
	// asked. Defaults to 60 s. (stale_if_error)
	StaleIfError time.Duration
	// CacheSize bounds the cached tenants, and the cached memberships. Defaults to 100 000.
	// (cache_size)
	CacheSize int
	// PollInterval is how often a started Tenancy asks a [ChangeFeed] what changed. Defaults
	// to 1 s. (poll_interval)
	PollInterval time.Duration
	// TrustedResolvers bind without a membership. Nil defaults to jwt_claim; an empty list
	// that is not nil trusts none. Naming header,
	// subdomain or path is refused unless UnsafeTrustClient is set. (trusted_resolvers)
	TrustedResolvers []string
	// UnsafeTrustClient lets anybody choose a tenant by a header, subdomain or path that is
	// named in TrustedResolvers. (unsafe_trust_client)
	UnsafeTrustClient bool
	// LaxMembership lets a client's word stand where no Membership is configured or it cannot
	// be asked. A negative answer refuses all the same. (strict_membership: false)
	LaxMembership bool
	// OnConflict defaults to FirstWins. (on_conflict)
	OnConflict OnConflict
	// IssuerTenants pins a token issuer to the one tenant, by id or slug, that it may speak
	// for: a customer's own identity provider. (issuer_tenants)
	IssuerTenants map[string]string
	// TrustedProxies are the addresses or prefixes whose X-Forwarded-Host counts. Defaults
	// to none. (trusted_proxies)
	TrustedProxies []string
}

// LifecycleConfig says how tenants come into being.
type LifecycleConfig struct {
	// IsolationStrategy is where new tenants' data goes. Defaults to row_level.
	// (isolation_strategy)
	IsolationStrategy string
	// NoAutoProvision leaves a new tenant in provisioning until Lifecycle.Provision is
	// called. (auto_provision_isolation: false)
	NoAutoProvision bool
	// Async makes Lifecycle.Create return a tenant in provisioning at once; whoever does what is due
	// brings it to its end. (async)
	Async bool
	// NoRunner keeps a started Tenancy from doing what is due; RunOnce or tenantriver does it.
	// (runner: false)
	NoRunner bool
	// ReservedSlugs are refused at creation, beside [ReservedSlugs]. (reserved_slugs)
	ReservedSlugs []string
	// Workers is how many tenants a started Tenancy, or RunOnce, works on at once. Defaults to 4.
	// (workers)
	Workers int
	// Lease is how long a node's work on a tenant is safe from others after the node was last heard
	// of. The nodes' clocks must agree to a small part of it. Defaults to 30 s. (lease)
	Lease time.Duration
	// GiveUpAfter makes a provisioning that has failed for so long be given up: what was made is
	// removed and the tenant is purged. Defaults to never. (give_up_after)
	GiveUpAfter time.Duration
	// ArchiveGrace is how long an archived tenant's data stays. Defaults to 30 days; negative means
	// that it may go at once. (archive_grace)
	ArchiveGrace time.Duration
	// AutoPurge removes the data of an archived tenant when the grace is over. Without it, somebody
	// calls Lifecycle.Purge. (auto_purge)
	AutoPurge bool
	// SlugQuarantine is how long nobody else can have a slug or alias that a tenant gave up, since
	// old links lead there. Defaults to 30 days; negative means that it is free at once.
	// (slug_quarantine)
	SlugQuarantine time.Duration
	// MaxGrant bounds how long [Members.Grant] gives access. Defaults to 24 h; negative ones refuse
	// all. (max_grant)
	MaxGrant time.Duration
}

// OverridesConfig says how the tenants' own settings are read.
type OverridesConfig struct {
	// CacheTTL is how long a tenant's overrides are cached. Defaults to 60 s. (cache_ttl)
	CacheTTL time.Duration
	// Defaults are the values of keys that neither a tenant nor its plan has set. (defaults)
	Defaults map[string]any
	// Plans are values of keys by plan; see [Config].PlanOf. A tenant of a plan that is not here gets
	// a [*ConfigError] where the plan would count. (plans)
	Plans map[string]map[string]any
}

// EventsConfig says how the domain events are delivered and kept.
type EventsConfig struct {
	// Retention is how long events are kept that every sink has taken. Defaults to 24 h; negative keeps
	// them for good. What a sink has not taken is kept for as long as that takes. (retention)
	Retention time.Duration
	// MaxAttempts is how often a refused event is handed over before it is parked until an operator
	// decides. Defaults to 300, which takes about a day; negative parks nothing. (max_attempts)
	MaxAttempts int
	// Lease is how long nobody else delivers for a sink when the process that does is gone. A
	// subscriber or publisher has two thirds of it for an event. Defaults to 15 s, at least 1 s. (lease)
	Lease time.Duration
}

// IntegrationConfig says which libraries follow the tenant of the context.
type IntegrationConfig struct {
	// NoCacheKeyPrefix switches the key prefix t:{tenant_id}: off. (cache_key_prefix: false)
	NoCacheKeyPrefix bool
	// NoSQLContextBridge switches off the binding of SQL statements to the context's tenant;
	// isolation.Open then refuses to open. (sql_context_bridge: false)
	NoSQLContextBridge bool
}

// Defaults, as the configuration table gives them.
const (
	defaultHeaderName         = "x-tenant-id"
	defaultPathPattern        = "/tenants/{tenant_id}/"
	defaultJWTClaimKey        = "tenant_id"
	defaultValidatorCacheTTL  = 300 * time.Second
	defaultNegativeCacheTTL   = 5 * time.Second
	defaultMembershipCacheTTL = 30 * time.Second
	defaultStaleIfError       = 60 * time.Second
	defaultCacheSize          = 100_000
	defaultPollInterval       = time.Second
	defaultOverridesCacheTTL  = 60 * time.Second
	defaultWorkers            = 4
	defaultLease              = 30 * time.Second
	defaultArchiveGrace       = 30 * 24 * time.Hour
	defaultSlugQuarantine     = 30 * 24 * time.Hour
	defaultMaxGrant           = 24 * time.Hour
	defaultEventRetention     = 24 * time.Hour
	defaultMaxAttempts        = 300
	defaultSinkLease          = 15 * time.Second
	leastSinkLease            = time.Second
)

// withDefaults fills what is zero. With custom resolvers the list of names stays empty when
// it is: they are the chain.
func (c ResolutionConfig) withDefaults(custom bool) ResolutionConfig {
	if len(c.Resolvers) == 0 && !custom {
		c.Resolvers = []string{ResolverJWTClaim, ResolverHeader, ResolverSubdomain, ResolverPath}
	}
	if c.TrustedResolvers == nil {
		c.TrustedResolvers = []string{ResolverJWTClaim}
	}
	c.HeaderName = cmp.Or(c.HeaderName, defaultHeaderName)
	c.PathPattern = cmp.Or(c.PathPattern, defaultPathPattern)
	c.JWTClaimKey = cmp.Or(c.JWTClaimKey, defaultJWTClaimKey)
	c.ValidatorCacheTTL = cmp.Or(c.ValidatorCacheTTL, defaultValidatorCacheTTL)
	c.NegativeCacheTTL = cmp.Or(c.NegativeCacheTTL, defaultNegativeCacheTTL)
	c.MembershipCacheTTL = cmp.Or(c.MembershipCacheTTL, defaultMembershipCacheTTL)
	c.StaleIfError = cmp.Or(c.StaleIfError, defaultStaleIfError)
	c.CacheSize = cmp.Or(c.CacheSize, defaultCacheSize)
	c.PollInterval = cmp.Or(c.PollInterval, defaultPollInterval)
	c.OnConflict = cmp.Or(c.OnConflict, FirstWins)
	return c
}

// withDefaults fills what is zero from the configuration table and from the interfaces that
// Store and Directory happen to implement.
func (c Config) withDefaults() Config {
	c.Resolution = c.Resolution.withDefaults(len(c.Resolvers) > 0)
	c.Lifecycle.IsolationStrategy = cmp.Or(c.Lifecycle.IsolationStrategy, StrategyRowLevel)
	c.Lifecycle.Workers = cmp.Or(c.Lifecycle.Workers, defaultWorkers)
	c.Lifecycle.Lease = cmp.Or(c.Lifecycle.Lease, defaultLease)
	c.Lifecycle.ArchiveGrace = cmp.Or(c.Lifecycle.ArchiveGrace, defaultArchiveGrace)
	c.Lifecycle.SlugQuarantine = cmp.Or(c.Lifecycle.SlugQuarantine, defaultSlugQuarantine)
	c.Overrides.CacheTTL = cmp.Or(c.Overrides.CacheTTL, defaultOverridesCacheTTL)
	c.Lifecycle.MaxGrant = cmp.Or(c.Lifecycle.MaxGrant, defaultMaxGrant)
	if c.PlanOf == nil {
		c.PlanOf = func(t Tenant) string { return t.Metadata["plan"] }
	}
	c.Events.Retention = cmp.Or(c.Events.Retention, defaultEventRetention)
	c.Events.MaxAttempts = cmp.Or(c.Events.MaxAttempts, defaultMaxAttempts)
	c.Events.Lease = cmp.Or(c.Events.Lease, defaultSinkLease)
	if c.Directory == nil && c.Store != nil {
		c.Directory = c.Store
	}
	if c.Membership == nil {
		if m, ok := c.Store.(Membership); ok {
			c.Membership = m
		} else if m, ok := c.Directory.(Membership); ok {
			c.Membership = m
		}
	}
	if c.ConfigStore == nil {
		c.ConfigStore, _ = c.Store.(ConfigStore)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = newUUID
	}
	if c.NodeID == "" {
		host, _ := os.Hostname() // without one the random part has to do
		c.NodeID = truncate(host, 60) + "-" + rand.Text()
	}
	return c
}

func newUUID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

// Validate reports everything in the configuration that cannot work, joined. [New] calls it.
func (c Config) Validate() error {
	var problems []error
	if c.Directory == nil && c.Store == nil {
		problems = append(problems, &ConfigError{Key: "Directory", Err: errors.New(
			"required: give a Directory with one method over your own table, or a Store such as sqlstore or memstore")})
	}
	if _, err := NewChain(c.Resolution, c.Resolvers...); err != nil {
		problems = append(problems, err)
	}
	switch c.Resolution.OnConflict {
	case "", FirstWins, Reject:
	default:
		problems = append(problems, problem("on_conflict", fmt.Errorf("%q is neither %s nor %s", c.Resolution.OnConflict, FirstWins, Reject)))
	}
	if c.Resolution.CacheSize < 0 {
		problems = append(problems, problem("cache_size", errors.New("must be positive")))
	}
	if _, err := c.Resolution.ProxyPrefixes(); err != nil {
		problems = append(problems, err)
	}
	for issuer, name := range c.Resolution.IssuerTenants {
		if ByIDOrSlug(name).Kind() == RefMalformed {
			problems = append(problems, problem("issuer_tenants."+issuer, fmt.Errorf("%q is no id or slug", name)))
		}
	}
	for _, slug := range c.Lifecycle.ReservedSlugs {
		if _, err := CanonicalSlug(slug); err != nil {
			problems = append(problems, &ConfigError{Key: "lifecycle.reserved_slugs", Err: err})
		}
	}
	problems = append(problems, c.Lifecycle.validate(), checkSteps(c.Steps), checkHooks(c.Hooks))
	if len(c.NodeID) > maxNodeID {
		problems = append(problems, &ConfigError{Key: "NodeID", Err: fmt.Errorf("%d bytes are too long: use at most %d", len(c.NodeID), maxNodeID)})
	}
	_, err := newLayers(c)
	problems = append(problems, err, sealer(c.SealingKeys).validate())
	return errors.Join(append(problems, c.checkEvents())...)
}

// checkEvents reports what keeps events from being delivered.
func (c Config) checkEvents() error {
	var problems []error
	if c.Events.Lease != 0 && c.Events.Lease < leastSinkLease {
		problems = append(problems, &ConfigError{Key: "events.lease", Err: fmt.Errorf("%s is too short: use %s or more", c.Events.Lease, leastSinkLease)})
	}
	if _, ok := c.Store.(Outbox); !ok && len(c.Subscribers)+len(c.Publishers) > 0 {
		problems = append(problems, &ConfigError{Key: "Store", Err: errors.New(
			"for Subscribers and Publishers it has to be an Outbox, as sqlstore and memstore are")})
	}
	names := map[string]bool{SubscribersSink: true}
	for i, p := range c.Publishers {
		key := fmt.Sprintf("Publishers[%d]", i)
		if p == nil {
			problems = append(problems, &ConfigError{Key: key, Err: errors.New("it is nil")})
			continue
		}
		name := p.Name()
		if err := checkPublisherName(name); err != nil {
			problems = append(problems, &ConfigError{Key: key, Err: err})
		} else if names[name] {
			problems = append(problems, &ConfigError{Key: key, Err: fmt.Errorf(
				"the name %q is taken: what was handed over is counted by it, give each publisher one of its own", name)})
		}
		names[name] = true
	}
	return errors.Join(problems...)
}

// maxNodeID bounds the name of a node, in bytes.
const maxNodeID = 100

func (c LifecycleConfig) validate() error {
	var problems []error
	if c.Workers < 0 {
		problems = append(problems, &ConfigError{Key: "lifecycle.workers", Err: errors.New("must be positive")})
	}
	if c.Lease != 0 && c.Lease < time.Second {
		problems = append(problems, &ConfigError{Key: "lifecycle.lease", Err: fmt.Errorf("%s is too short: use a second or more", c.Lease)})
	}
	return errors.Join(problems...)
}

func checkPublisherName(name string) error {
	if err := checkKey(name); err != nil || len(name) > 100 {
		return &InvalidError{Field: "publisher's name", Value: truncate(name, 100), Remedy: "use 1 to 100 of a-z A-Z 0-9 . _ -"}
	}
	return nil
}

// ProxyPrefixes returns TrustedProxies parsed: prefixes, or single addresses as prefixes.
func (c ResolutionConfig) ProxyPrefixes() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var problems []error
	for _, s := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(s); err == nil {
				prefix = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		if err != nil {
			problems = append(problems, problem("trusted_proxies", fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", s)))
			continue
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, errors.Join(problems...)
}
