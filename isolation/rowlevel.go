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
	routeRows(t *tenancy.Tenant, r *Route) error
	provisionRows(ctx context.Context, m Migrator) (version int64, err error)
	deprovisionRows(ctx context.Context, t tenancy.Tenant) error
}

func (rowLevel) Name() string { return tenancy.StrategyRowLevel }

func (rowLevel) Supports(s Server) error {
	rows, ok := s.(rowServer)
	if !ok && s.Engine() == EngineMariaDB {
		return unsupported(tenancy.StrategyRowLevel, s.Engine(), `use the strategy "schema" or "database" there, or PostgreSQL`)
	}
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

// Place has nothing to choose: all tenants share the tables.
func (rowLevel) Place(context.Context, Server, tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{}, nil
}

// Provision checks that the tables are walled, as the role that will use them.
func (l rowLevel) Provision(ctx context.Context, s Server, _ tenancy.Tenant, m Migrator) (int64, error) {
	if err := l.Supports(s); err != nil {
		return 0, err
	}
	return s.(rowServer).provisionRows(ctx, m)
}

// Deprovision deletes the tenant's rows as the tenant itself, so that the wall bounds what it can
// delete.
func (l rowLevel) Deprovision(ctx context.Context, s Server, t tenancy.Tenant) error {
	if err := l.Supports(s); err != nil {
		return err
	}
	return s.(rowServer).deprovisionRows(ctx, t)
}
