package isolation

import (
	"context"

	"lexigram.dev/tenancy"
)

// rowLevel keeps all tenants in the same tables.
type rowLevel struct{}

// rowServer is a server that can keep tenants' rows apart in shared tables.
type rowServer interface {
	home
	supportsRows() error
	// placeRows chooses the name of what a tenant has of its own, beside its rows, if anything.
	placeRows(t tenancy.Tenant) (tenancy.Placement, error)
	routeRows(t *tenancy.Tenant, r *Route) error
	provisionRows(ctx context.Context, t tenancy.Tenant) error
	// versionRows returns the version of the shared tables.
	versionRows(ctx context.Context, m Migrator) (version int64, err error)
	manifestRows(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error)
	deprovisionRows(ctx context.Context, t tenancy.Tenant) error
}

func (rowLevel) Name() string { return tenancy.StrategyRowLevel }

func (rowLevel) Supports(s Server) error {
	rows, ok := s.(rowServer)
	if !ok {
		return unsupported(tenancy.StrategyRowLevel, s.Engine(),
			"nothing in this database can keep rows apart: use the strategy database, or PostgreSQL")
	}
	return rows.supportsRows()
}

func (l rowLevel) Route(s Server, t *tenancy.Tenant, _ tenancy.Placement, r *Route) error {
	rows, ok := s.(rowServer)
	if !ok {
		return l.Supports(s)
	}
	return rows.routeRows(t, r)
}

func (rowLevel) RouteSystem(s Server, r *Route) error  { return routeSystem(s, r) }
func (rowLevel) RouteUnbound(s Server, r *Route) error { return routeUnbound(s, r) }

// Place has little to choose: all tenants share the tables.
func (l rowLevel) Place(_ context.Context, s Server, t tenancy.Tenant) (tenancy.Placement, error) {
	if err := l.Supports(s); err != nil {
		return tenancy.Placement{}, err
	}
	return s.(rowServer).placeRows(t)
}

// Provision checks that the tables are walled, and makes what the tenant has of its own.
func (l rowLevel) Provision(ctx context.Context, s Server, t tenancy.Tenant) error {
	if err := l.Supports(s); err != nil {
		return err
	}
	return s.(rowServer).provisionRows(ctx, t)
}

// Migrate changes nothing: Setup migrates the shared tables. It returns their version.
func (l rowLevel) Migrate(ctx context.Context, s Server, _ tenancy.Tenant, m Migrator) (int64, error) {
	if err := l.Supports(s); err != nil || m == nil {
		return 0, err
	}
	return s.(rowServer).versionRows(ctx, m)
}

// Manifest counts the tenant's rows in every walled table.
func (l rowLevel) Manifest(ctx context.Context, s Server, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	if err := l.Supports(s); err != nil {
		return nil, err
	}
	return s.(rowServer).manifestRows(ctx, t)
}

// Deprovision deletes the tenant's rows. Where the binding is the connection's, it does so as the
// tenant itself, so that the wall bounds what it can delete.
func (l rowLevel) Deprovision(ctx context.Context, s Server, t tenancy.Tenant) error {
	if err := l.Supports(s); err != nil {
		return err
	}
	return s.(rowServer).deprovisionRows(ctx, t)
}
