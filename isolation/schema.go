package isolation

import (
	"context"
	"fmt"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// perSchema gives each tenant a schema of its own in a database that tenants share.
type perSchema struct{}

// schemaServer is a server that can hold one schema per tenant.
type schemaServer interface {
	home
	supportsSchemas() error
	routeSchema(p tenancy.Placement, r *Route) error
	provisionSchema(ctx context.Context, t tenancy.Tenant) error
	migrateSchema(ctx context.Context, t tenancy.Tenant, m Migrator) (version int64, err error)
	manifestSchema(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error)
	deprovisionSchema(ctx context.Context, t tenancy.Tenant) error
}

func (perSchema) Name() string { return tenancy.StrategySchema }

func (perSchema) Supports(s Server) error {
	schemas, ok := s.(schemaServer)
	if !ok {
		return unsupported(tenancy.StrategySchema, s.Engine(),
			"it has no schemas: use the strategy database for one file per tenant, or PostgreSQL")
	}
	return schemas.supportsSchemas()
}

func (p perSchema) Route(s Server, _ *tenancy.Tenant, at tenancy.Placement, r *Route) error {
	schemas, ok := s.(schemaServer)
	if !ok {
		return p.Supports(s)
	}
	if err := schemas.supportsSchemas(); err != nil {
		return err
	}
	if at.Schema == "" {
		return fmt.Errorf("%w (it has no placement)", ErrMissing)
	}
	if err := checkPlaced("schema", at.Schema); err != nil {
		return err
	}
	return schemas.routeSchema(at, r)
}

func (perSchema) RouteSystem(s Server, r *Route) error  { return routeSystem(s, r) }
func (perSchema) RouteUnbound(s Server, r *Route) error { return routeUnbound(s, r) }

// Place chooses the schema's name.
func (p perSchema) Place(_ context.Context, s Server, t tenancy.Tenant) (tenancy.Placement, error) {
	if err := p.Supports(s); err != nil {
		return tenancy.Placement{}, err
	}
	name, err := placeName(t)
	return tenancy.Placement{Schema: name}, err
}

// Provision makes the schema and who may use it.
func (p perSchema) Provision(ctx context.Context, s Server, t tenancy.Tenant) error {
	schemas, err := p.of(s, t)
	if err != nil {
		return err
	}
	return schemas.provisionSchema(ctx, t)
}

// Migrate migrates the schema.
func (p perSchema) Migrate(ctx context.Context, s Server, t tenancy.Tenant, m Migrator) (int64, error) {
	schemas, err := p.of(s, t)
	if err != nil || m == nil {
		return 0, err
	}
	return schemas.migrateSchema(ctx, t, m)
}

// Manifest lists the schema, its tables and its role.
func (p perSchema) Manifest(ctx context.Context, s Server, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	schemas, err := p.of(s, t)
	if err != nil {
		return nil, err
	}
	return schemas.manifestSchema(ctx, t)
}

// Deprovision drops the schema and who could use it.
func (p perSchema) Deprovision(ctx context.Context, s Server, t tenancy.Tenant) error {
	schemas, err := p.of(s, t)
	if err != nil {
		return err
	}
	return schemas.deprovisionSchema(ctx, t)
}

// of returns the server when it may hold the tenant's schema.
func (p perSchema) of(s Server, t tenancy.Tenant) (schemaServer, error) {
	if err := p.Supports(s); err != nil {
		return nil, err
	}
	return s.(schemaServer), checkPlaceName("schema", t.Placement.Schema, t)
}

// checkPlaced keeps names that need quotes, wherever they come from, out of statements.
func checkPlaced(field, name string) error {
	if dialect.IsPlainName(name) {
		return nil
	}
	return &tenancy.InvalidError{
		Field: "placement." + field, Value: name,
		Remedy: "use what the provisioner chose, or rename it to 1 to 63 of a-z 0-9 _, the first no digit",
	}
}
