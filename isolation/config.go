package isolation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"lexigram.dev/tenancy"
)

// Config describes where tenants' data is.
type Config struct {
	// Servers are the database servers by the names that placements use. Required.
	Servers map[string]Server
	// Server is where tenants without a placement, new tenants and the system work. Defaults to
	// the only server.
	Server string
	// Strategy keeps apart the tenants whose placement names none, and new ones. Defaults to
	// row_level.
	Strategy string
	// Registry holds the strategies. Defaults to the shipped ones.
	Registry *Registry
	// Pool bounds the connections.
	Pool PoolConfig
	// OnSystem is called for each use of system scope, before it begins, on the goroutine that
	// asked. It is logged as well.
	OnSystem func(ctx context.Context, reason string)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// PoolConfig bounds the connections of a [DB], over all its servers and tenants. A zero field
// takes its default.
type PoolConfig struct {
	// MaxConns bounds the open connections. Defaults to 32: a PostgreSQL server as it is installed
	// takes 100, for all processes together.
	MaxConns int
	// MaxPerTenant bounds the connections in use by one tenant, so that one tenant's flood cannot
	// starve the others. The system scope counts as one tenant. Defaults to half of MaxConns.
	MaxPerTenant int
	// MaxPools bounds the placements, such as SQLite files, that have a connection open. The one
	// unused longest is closed first, one in use never. Defaults to MaxConns.
	MaxPools int
	// MaxIdleTime is how long an unused connection stays open. Defaults to 5 minutes.
	MaxIdleTime time.Duration
	// MaxLifetime is the age at which a connection is not used again. Defaults to 1 hour.
	MaxLifetime time.Duration
	// MaxWait bounds the wait for a connection beside the caller's context. Defaults to 30
	// seconds.
	MaxWait time.Duration
}

func (c PoolConfig) withDefaults() PoolConfig {
	c.MaxConns = orDefault(c.MaxConns, 32)
	c.MaxPerTenant = orDefault(c.MaxPerTenant, max(1, c.MaxConns/2))
	c.MaxPools = orDefault(c.MaxPools, c.MaxConns)
	c.MaxIdleTime = orDefault(c.MaxIdleTime, 5*time.Minute)
	c.MaxLifetime = orDefault(c.MaxLifetime, time.Hour)
	c.MaxWait = orDefault(c.MaxWait, 30*time.Second)
	return c
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func (c PoolConfig) validate() error {
	var errs []error
	for name, v := range map[string]int64{
		"MaxConns": int64(c.MaxConns), "MaxPerTenant": int64(c.MaxPerTenant), "MaxPools": int64(c.MaxPools),
		"MaxIdleTime": int64(c.MaxIdleTime), "MaxLifetime": int64(c.MaxLifetime), "MaxWait": int64(c.MaxWait),
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("isolation.PoolConfig.%s is negative: leave it 0 for the default", name))
		}
	}
	return errors.Join(errs...)
}

// settled is a Config with its defaults filled in and checked.
type settled struct {
	servers  map[string]Server
	server   string // the default
	strategy Strategy
	registry *Registry
	pool     PoolConfig
	onSystem func(ctx context.Context, reason string)
	logger   *slog.Logger
}

func (c Config) settle() (*settled, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	s := &settled{
		servers: maps.Clone(c.Servers), server: c.Server, registry: c.Registry,
		pool: c.Pool.withDefaults(), onSystem: c.OnSystem, logger: c.Logger,
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.registry == nil {
		s.registry, _ = NewRegistry() // cannot fail without further strategies
	}
	if err := c.Pool.validate(); err != nil {
		errs = append(errs, err)
	}
	names := slices.Sorted(maps.Keys(s.servers))
	switch {
	case len(names) == 0:
		fail("isolation.Config.Servers is empty: name at least one server")
	case s.server == "" && len(names) == 1:
		s.server = names[0]
	case s.server == "":
		fail("isolation.Config.Server is empty and there are several servers: choose one of %q", names)
	case s.servers[s.server] == nil:
		fail("isolation.Config.Server is %q, which is not in Servers: choose one of %q", s.server, names)
	}
	for _, name := range names {
		server := s.servers[name]
		if server == nil {
			fail("isolation.Config.Servers[%q] is nil", name)
			continue
		}
		if h, ok := server.(home); ok {
			if err := h.validate(); err != nil {
				fail("isolation.Config.Servers[%q]: %w", name, err)
			}
		}
	}
	strategy := c.Strategy
	if strategy == "" {
		strategy = tenancy.StrategyRowLevel
	}
	var err error
	if s.strategy, err = s.registry.Strategy(strategy); err != nil {
		errs = append(errs, err)
	} else if server := s.servers[s.server]; server != nil {
		if err := s.strategy.Supports(server); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// strategiesOn returns the names of the shipped strategies that a server is configured for.
func (s *settled) strategiesOn(server home) []string {
	var names []string
	for _, name := range s.registry.Names() {
		switch strategy := s.registry.strategies[name].(type) {
		case rowLevel, perSchema, perDatabase:
			if strategy.Supports(server) == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// place returns the strategy, the server and the placement of t.
func (s *settled) place(t *tenancy.Tenant) (Strategy, Server, tenancy.Placement, error) {
	p := t.Placement
	strategy := s.strategy
	if p.Strategy == "" {
		p.Strategy = strategy.Name()
	} else if p.Strategy != strategy.Name() {
		var err error
		if strategy, err = s.registry.Strategy(p.Strategy); err != nil {
			return nil, nil, p, err
		}
	}
	if p.Server == "" {
		p.Server = s.server
	}
	server := s.servers[p.Server]
	if server == nil {
		return nil, nil, p, fmt.Errorf("tenant %q is placed on server %q, which is not configured: add it to isolation.Config.Servers",
			t.ID, p.Server)
	}
	return strategy, server, p, nil
}
