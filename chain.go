package tenancy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Chain asks resolvers in order. It is immutable and safe for concurrent use.
type Chain struct {
	resolvers []Resolver
	trusted   []bool // by index: binds without a membership
	askAll    bool   // to find conflicts
}

// NewChain makes the chain that cfg describes, out of the built-in resolvers and custom
// ones. With names in cfg.Resolvers these give the order; else custom, if any, are the chain
// as they stand. All problems are reported at once.
func NewChain(cfg ResolutionConfig, custom ...Resolver) (*Chain, error) {
	cfg = cfg.withDefaults(len(custom) > 0)
	c := &Chain{askAll: cfg.OnConflict == Reject}
	var problems []error
	byName := make(map[string]Resolver, len(custom))
	for _, r := range custom {
		if r == nil {
			problems = append(problems, problem("resolvers", errors.New("a resolver is nil")))
			continue
		}
		if _, twice := byName[r.Name()]; twice && len(cfg.Resolvers) > 0 {
			problems = append(problems, problem("resolvers", fmt.Errorf("two resolvers are named %q", r.Name())))
		}
		byName[r.Name()] = r
		if len(cfg.Resolvers) == 0 {
			problems = append(problems, c.add(&cfg, r))
		}
	}
	for i, name := range cfg.Resolvers {
		if slices.Contains(cfg.Resolvers[:i], name) {
			problems = append(problems, problem("resolvers", fmt.Errorf("%q is listed twice", name)))
			continue
		}
		r, ok := byName[name]
		if !ok {
			r, ok = builtinResolver(name)
		}
		switch {
		case !ok:
			problems = append(problems, problem("resolvers", fmt.Errorf(
				"there is no resolver %q: use %s, or give it in Config.Resolvers", name, strings.Join(resolverNames, ", "))))
		case name == ResolverSubdomain && byName[name] == nil && cfg.SubdomainPattern == "":
			// Without a domain the resolver is off, as the table of defaults says.
		default:
			problems = append(problems, c.add(&cfg, r))
		}
	}
	for _, name := range cfg.TrustedResolvers {
		if isClientNamed(name) && !cfg.UnsafeTrustClient {
			problems = append(problems, problem("trusted_resolvers", fmt.Errorf(
				"%q is chosen by the client: give its users a Membership instead, or set unsafe_trust_client", name)))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Chain) add(cfg *ResolutionConfig, r Resolver) error {
	b, isBuiltin := r.(builtin)
	switch {
	case isBuiltin:
		compiled, err := b.compile(cfg)
		if err != nil {
			return problem("resolvers."+r.Name(), err)
		}
		r = compiled
	case r.Name() == "":
		return problem("resolvers", errors.New("a resolver has no name"))
	case slices.Contains(resolverNames, r.Name()):
		return problem("resolvers", fmt.Errorf("the name %q belongs to a built-in resolver: choose another", r.Name()))
	}
	c.resolvers = append(c.resolvers, r)
	c.trusted = append(c.trusted, slices.Contains(cfg.TrustedResolvers, r.Name()))
	return nil
}

// Resolvers returns the resolvers in order.
func (c *Chain) Resolvers() []Resolver { return slices.Clone(c.resolvers) }

// first asks in order until a resolver names a tenant or fails, and returns its index, or the
// number of resolvers.
func (c *Chain) first(ctx context.Context, req *Request) (int, Ref, error) {
	for i, r := range c.resolvers {
		if ref, err := r.Resolve(ctx, req); err != nil || ref.kind != RefNone {
			return i, ref, err
		}
	}
	return len(c.resolvers), Ref{}, nil
}

// Resolve asks the resolvers in order and appends their answers to buf. It stops after the
// first that names a tenant or fails, or asks all when conflicts count.
func (c *Chain) Resolve(ctx context.Context, req *Request, buf []Answer) []Answer {
	for _, r := range c.resolvers {
		ref, err := r.Resolve(ctx, req)
		buf = append(buf, Answer{Resolver: r.Name(), Ref: ref, Err: err})
		if !c.askAll && (err != nil || !ref.IsZero()) {
			break
		}
	}
	return buf
}

var resolverNames = []string{ResolverJWTClaim, ResolverHeader, ResolverSubdomain, ResolverPath, ResolverStatic}

func builtinResolver(name string) (Resolver, bool) {
	switch name {
	case ResolverJWTClaim:
		return JWTClaim{}, true
	case ResolverHeader:
		return Header{}, true
	case ResolverSubdomain:
		return Subdomain{}, true
	case ResolverPath:
		return Path{}, true
	default: // static needs a tenant, which only code can give
		return nil, false
	}
}

// isClientNamed reports whether anybody can choose the tenant through this resolver.
func isClientNamed(name string) bool {
	return name == ResolverHeader || name == ResolverSubdomain || name == ResolverPath
}

func problem(key string, err error) error {
	return &ConfigError{Key: "resolution." + key, Err: err}
}
