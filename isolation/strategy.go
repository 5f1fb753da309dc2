package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"lexigram.dev/tenancy"
)

// Strategy is a way to keep tenants apart. Its methods may be called concurrently.
type Strategy interface {
	// Name is the strategy's name in placements and configuration, such as row_level.
	Name() string
	// Supports returns nil when the strategy works on s, else why not and what to do. [Open]
	// asks; it does no I/O.
	Supports(s Server) error
	// Route says where the statements of t run. The placement is t's own, or the default one for
	// a tenant without. Route is called for every lease; it does no I/O and appends to r.Bind
	// rather than making a slice.
	Route(s Server, t *tenancy.Tenant, p tenancy.Placement, r *Route) error
	// RouteSystem says where statements in system scope run. Without a system login it fails
	// with [ErrNoSystemLogin].
	RouteSystem(s Server, r *Route) error
	// RouteUnbound says where a ping, or a query for the server's version, runs that belongs to no
	// tenant. The connection must not be able to read any tenant's rows.
	RouteUnbound(s Server, r *Route) error

	// Place decides where a new tenant lives; see [tenancy.Provisioner]. Server is filled in by
	// the caller.
	Place(ctx context.Context, s Server, t tenancy.Tenant) (tenancy.Placement, error)
	// Provision makes the tenant's place, without the application's tables. It is idempotent.
	Provision(ctx context.Context, s Server, t tenancy.Tenant) error
	// Migrate brings the application's tables in a place that was made to their version and returns
	// it. It is idempotent. m is nil when the application has no migrator.
	Migrate(ctx context.Context, s Server, t tenancy.Tenant, m Migrator) (version int64, err error)
	// Manifest tells what Deprovision would remove, as the database has it; nothing of what is gone
	// already. It fails when there is what nobody has classified as the tenant's or shared.
	Manifest(ctx context.Context, s Server, t tenancy.Tenant) ([]tenancy.ManifestItem, error)
	// Deprovision removes the tenant's data for good. It is idempotent.
	Deprovision(ctx context.Context, s Server, t tenancy.Tenant) error
}

// Checker is an optional interface of a Strategy: it looks whether its walls stand.
type Checker interface {
	// Check reports all the ways past the strategy's walls that lie open on s, nil for none. [DB.Check]
	// asks at the start of the program, for each server that the strategy supports.
	Check(ctx context.Context, s Server) error
}

// Route is where a statement runs, and how the connection is bound to the tenant.
type Route struct {
	// Pool names the placement. Connections are shared between routes with equal pools, so
	// everything that a connection is opened with must be in it.
	Pool Pool
	// Connector opens connections of the pool.
	Connector driver.Connector
	// Replica opens connections for statements under [tenancy.ReadOnly]. Nil sends them to
	// Connector.
	Replica driver.Connector
	// Version is the version of the tables that the statements meet, where tenants can be at
	// different ones; 0 where they cannot. It becomes part of the statements' text, so that no
	// cache of the driver or the server mixes them up.
	Version int64
	// Schema is where the statements' names are looked up, if not in the same tables for all. For
	// drivers that are no BoundConn it becomes part of the text as well: they remember by the text
	// which types a statement has, and those may be the schema's own.
	Schema string
	// Bind are the settings that bind a connection of a shared pool. Empty means that the whole
	// pool belongs to the tenant.
	Bind []Setting
	// Fenced says that nothing in the database keeps the tenant's rows apart from others' for reads.
	// Only statements with the mark of [UnsafeFiltered] run there.
	Fenced bool
	// Engine chooses the SQL text for what the driver cannot do by itself.
	Engine Engine
}

// tag makes the text of a statement differ between tables that must not be mixed up.
func (r *Route) tag(query string, bound bool) string {
	switch {
	case r.Schema != "" && !bound:
		return query + "\n/* tables of " + r.Schema + " at version " + strconv.FormatInt(r.Version, 10) + " */"
	case r.Version != 0:
		return query + "\n/* tables at version " + strconv.FormatInt(r.Version, 10) + " */"
	default:
		return query
	}
}

// Pool identifies a set of interchangeable connections.
type Pool struct {
	Server   string
	Database string
	Login    string
}

// Registry holds strategies by name. It does not change once made.
type Registry struct {
	strategies map[string]Strategy
}

// NewRegistry returns a registry of the shipped strategies, row_level, schema and database, and those
// given. Names are unique: a second strategy of one name is an error.
func NewRegistry(more ...Strategy) (*Registry, error) {
	r := &Registry{strategies: make(map[string]Strategy)}
	for _, s := range append([]Strategy{rowLevel{}, perSchema{}, perDatabase{}}, more...) {
		name := s.Name()
		switch {
		case name == "":
			return nil, fmt.Errorf("isolation strategy %T has no name: return one from Name()", s)
		case r.strategies[name] != nil:
			return nil, fmt.Errorf("isolation strategy %q is registered twice: give yours another name", name)
		}
		r.strategies[name] = s
	}
	return r, nil
}

// Names returns the registered names in order.
func (r *Registry) Names() []string {
	names := make([]string, 0, len(r.strategies))
	for name := range r.strategies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check asks the strategies that can be asked, in the order of their names.
func (r *Registry) check(ctx context.Context, s Server) error {
	var errs []error
	for _, name := range r.Names() {
		strategy, ok := r.strategies[name].(Checker)
		if !ok || r.strategies[name].Supports(s) != nil {
			continue
		}
		if err := strategy.Check(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("strategy %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Strategy returns the strategy of that name, or an error that lists the names there are.
func (r *Registry) Strategy(name string) (Strategy, error) {
	if s := r.strategies[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("isolation strategy %q: %w: choose one of %q, or register your own with isolation.NewRegistry",
		name, ErrUnsupported, r.Names())
}
