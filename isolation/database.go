package isolation

import (
	"context"
	"fmt"

	"lexigram.dev/tenancy"
)

// perDatabase gives each tenant a database of its own: on SQLite a file.
type perDatabase struct{}

// databaseServer is a server that can hold one database per tenant.
type databaseServer interface {
	home
	supportsDatabases() error
	// checkDatabase refuses names that cannot be a tenant's database.
	checkDatabase(name string) error
	// checkOwnDatabase refuses names that placeDatabase does not choose for the tenant.
	checkOwnDatabase(t tenancy.Tenant) error
	routeDatabase(p tenancy.Placement, r *Route) error
	placeDatabase(t tenancy.Tenant) (name string, err error)
	provisionDatabase(ctx context.Context, t tenancy.Tenant) error
	migrateDatabase(ctx context.Context, t tenancy.Tenant, m Migrator) (version int64, err error)
	manifestDatabase(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error)
	deprovisionDatabase(ctx context.Context, t tenancy.Tenant) error
}

func (perDatabase) Name() string { return tenancy.StrategyDatabase }

func (perDatabase) Supports(s Server) error {
	databases, ok := s.(databaseServer)
	if !ok {
		return unsupported(tenancy.StrategyDatabase, s.Engine(), "use PostgreSQL, or SQLite for one file per tenant")
	}
	return databases.supportsDatabases()
}

func (p perDatabase) Route(s Server, _ *tenancy.Tenant, at tenancy.Placement, r *Route) error {
	databases, ok := s.(databaseServer)
	if !ok {
		return p.Supports(s)
	}
	if err := databases.supportsDatabases(); err != nil {
		return err
	}
	if at.Database == "" {
		return fmt.Errorf("%w (it has no placement)", ErrMissing)
	}
	if err := databases.checkDatabase(at.Database); err != nil {
		return err
	}
	return databases.routeDatabase(at, r)
}

func (perDatabase) RouteSystem(s Server, r *Route) error  { return routeSystem(s, r) }
func (perDatabase) RouteUnbound(s Server, r *Route) error { return routeUnbound(s, r) }

// Place chooses the database's name.
func (p perDatabase) Place(_ context.Context, s Server, t tenancy.Tenant) (tenancy.Placement, error) {
	if err := p.Supports(s); err != nil {
		return tenancy.Placement{}, err
	}
	if err := tenancy.CheckID(t.ID); err != nil {
		return tenancy.Placement{}, err
	}
	name, err := s.(databaseServer).placeDatabase(t)
	return tenancy.Placement{Database: name}, err
}

// Provision makes the database and its login.
func (p perDatabase) Provision(ctx context.Context, s Server, t tenancy.Tenant) error {
	databases, err := p.of(s, t)
	if err != nil {
		return err
	}
	return databases.provisionDatabase(ctx, t)
}

// Migrate migrates the database.
func (p perDatabase) Migrate(ctx context.Context, s Server, t tenancy.Tenant, m Migrator) (int64, error) {
	databases, err := p.of(s, t)
	if err != nil || m == nil {
		return 0, err
	}
	return databases.migrateDatabase(ctx, t, m)
}

// Manifest lists the database, its tables and its login.
func (p perDatabase) Manifest(ctx context.Context, s Server, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	databases, err := p.of(s, t)
	if err != nil {
		return nil, err
	}
	return databases.manifestDatabase(ctx, t)
}

// Deprovision drops the database.
func (p perDatabase) Deprovision(ctx context.Context, s Server, t tenancy.Tenant) error {
	databases, err := p.of(s, t)
	if err != nil {
		return err
	}
	return databases.deprovisionDatabase(ctx, t)
}

// of returns the server when it may hold the tenant's database.
func (p perDatabase) of(s Server, t tenancy.Tenant) (databaseServer, error) {
	if err := p.Supports(s); err != nil {
		return nil, err
	}
	databases := s.(databaseServer)
	return databases, databases.checkOwnDatabase(t)
}
