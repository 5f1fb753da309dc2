package tenancy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Validator answers which tenant a reference names and whether a user belongs to it, from
// bounded caches in front of a [Directory] and a [Membership]. Absence is remembered too.
// It is safe for concurrent use.
type Validator struct {
	dir     Directory
	members Membership
	gens    *generations
	tenants *cache[Ref, Tenant]
	belongs *cache[memberKey, Member]
	now     func() time.Time
	// decoy is the id of some tenant. A membership question about a tenant that does not
	// exist is asked with it, so that it costs what a question about a real one costs.
	decoy atomic.Pointer[string]
	// changed hears of every invalidation, of all tenants as ""; nil when nobody wants to.
	changed func(tenantID string)
}

// memberKey asks for a user in the tenant with the id of.value, whose kind is RefNone; any
// other reference is one that no tenant was found for.
type memberKey struct {
	userID string
	of     Ref
}

// ValidatorConfig composes a [Validator].
type ValidatorConfig struct {
	// Directory is required.
	Directory Directory
	// Membership may be nil: then nobody can be verified.
	Membership Membership
	// Resolution gives the TTLs and sizes.
	Resolution ResolutionConfig
	// Now is the clock. Defaults to the system's.
	Now func() time.Time

	gens *generations // shared with the overrides
}

// NewValidator makes a validator. It does no I/O.
func NewValidator(cfg ValidatorConfig) (*Validator, error) {
	if cfg.Directory == nil {
		return nil, &ConfigError{Key: "Directory", Err: errors.New("required")}
	}
	if cfg.gens == nil {
		cfg.gens = newGenerations(cfg.Now)
	}
	rc := cfg.Resolution.withDefaults(true)
	v := &Validator{dir: cfg.Directory, members: cfg.Membership, gens: cfg.gens, now: cfg.Now}
	if v.now == nil {
		v.now = time.Now
	}
	first := "00000000-0000-0000-0000-000000000000"
	v.decoy.Store(&first)
	var err error
	if v.tenants, err = newCache[Ref, Tenant](v.gens, cacheConfig{
		size: rc.CacheSize, ttl: rc.ValidatorCacheTTL, absent: rc.NegativeCacheTTL, stale: rc.StaleIfError,
	}); err != nil {
		return nil, err
	}
	v.belongs, err = newCache[memberKey, Member](v.gens, cacheConfig{
		size: rc.CacheSize, ttl: rc.MembershipCacheTTL, absent: rc.MembershipCacheTTL, stale: rc.StaleIfError,
	})
	return v, err
}

var _ Directory = (*Validator)(nil)

// Lookup returns the tenant that ref names, whatever its status; [ErrNotFound] when there is
// none or ref is malformed, an error that is [ErrUnavailable] when nobody can tell. The
// tenant's Aliases and Metadata are shared.
func (v *Validator) Lookup(ctx context.Context, ref Ref) (Tenant, error) {
	t, _, err := v.lookup(ctx, ref, v.gens.clock())
	if err != nil {
		return Tenant{}, err
	}
	return *t, nil
}

// Validate returns the tenant that ref names if it is active. Beside the errors of Lookup it
// returns those of [Status.Err], together with the tenant.
func (v *Validator) Validate(ctx context.Context, ref Ref) (Tenant, error) {
	t, _, err := v.lookup(ctx, ref, v.gens.clock())
	if err != nil {
		return Tenant{}, err
	}
	return *t, t.Status.Err()
}

// lookup returns a tenant that must not be changed, and whether it may be out of date. now is
// the caller's reading of the clock.
func (v *Validator) lookup(ctx context.Context, ref Ref, now time.Duration) (*Tenant, bool, error) {
	if e, ok := v.tenants.hit(ref, now); ok {
		return &e.value, false, nil
	}
	if ref.kind == RefNone || ref.kind == RefMalformed {
		return nil, false, ErrNotFound
	}
	e, stale, err := v.tenants.get(ctx, ref, func(ctx context.Context) (loaded[Tenant], error) {
		t, err := v.dir.Lookup(ctx, ref)
		if errors.Is(err, ErrNotFound) {
			return loaded[Tenant]{absence: ErrNotFound}, nil
		}
		if err != nil {
			return loaded[Tenant]{}, err
		}
		if err := CheckID(t.ID); err != nil { // it becomes part of keys and names
			return loaded[Tenant]{}, fmt.Errorf("the directory's answer for %s: %w", ref, err)
		}
		t = t.Clone()
		id := t.ID
		v.decoy.Store(&id)
		return loaded[Tenant]{value: t, owner: t.ID}, nil
	})
	if err != nil {
		return nil, false, unavailable(ctx, fmt.Errorf("look up tenant %s: %w", ref, err))
	}
	if e.absence != nil {
		return nil, stale, e.absence
	}
	return &e.value, stale, nil
}

// Authorize returns what the user is in the tenant: [ErrNotMember] when nothing, or no
// longer; [ErrUnverifiable] without a Membership; an error that is [ErrUnavailable] when
// nobody can tell.
func (v *Validator) Authorize(ctx context.Context, userID, tenantID string) (Member, error) {
	m, err := v.member(ctx, memberKey{userID: userID, of: Ref{value: tenantID}}, v.gens.clock())
	if err != nil {
		return Member{}, err
	}
	return m.Clone(), nil
}

func (v *Validator) member(ctx context.Context, key memberKey, now time.Duration) (*Member, error) {
	if key.userID == "" {
		return nil, ErrNotMember
	}
	if v.members == nil {
		return nil, ErrUnverifiable
	}
	e, ok := v.belongs.hit(key, now)
	if !ok {
		owner, tenantID, unknown := key.of.value, key.of.value, key.of.kind != RefNone
		if unknown {
			owner, tenantID = nobody, *v.decoy.Load()
		}
		var err error
		e, _, err = v.belongs.get(ctx, key, func(ctx context.Context) (loaded[Member], error) {
			m, err := v.members.Member(ctx, key.userID, tenantID)
			if errors.Is(err, ErrNotMember) || errors.Is(err, ErrNotFound) || (err == nil && unknown) {
				return loaded[Member]{owner: owner, absence: ErrNotMember}, nil
			}
			m.Roles = slices.Clone(m.Roles)
			return loaded[Member]{value: m, owner: owner}, err
		})
		if err != nil {
			return nil, unavailable(ctx, fmt.Errorf("look up the membership of user %q: %w", key.userID, err))
		}
	}
	if e.absence != nil {
		return nil, e.absence
	}
	if m := &e.value; m.Expires.IsZero() || v.now().Before(m.Expires) {
		return m, nil
	}
	return nil, ErrNotMember
}

// nobody owns the answers about names that are not in use. No tenant's change ends them, as
// none but its own ends the answer about a tenant.
const nobody = "?"

// isOutsider reports whether the cache knows that the user is no member.
func (v *Validator) isOutsider(key memberKey, now time.Duration) bool {
	e, ok := v.belongs.remembered(key, now)
	return ok && e.absence != nil
}

// unavailable marks err as a failure of the catalogue, unless it is the caller's own end.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Invalidate forgets what is known of a tenant: the record under all its names, its members
// and its overrides; and all names that belonged to nobody, for one of them may be the
// tenant's now. A load under way does not bring the old answer back.
func (v *Validator) Invalidate(tenantID string) {
	v.gens.invalidate(tenantID)
	if v.changed != nil {
		v.changed(tenantID)
	}
}

// InvalidateAll forgets everything, as after a lost connection to whoever tells of changes.
func (v *Validator) InvalidateAll() {
	v.gens.invalidateAll()
	if v.changed != nil {
		v.changed("")
	}
}
