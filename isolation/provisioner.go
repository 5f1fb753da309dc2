package isolation

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"lexigram.dev/tenancy"
)

var (
	_ tenancy.Provisioner = (*Provisioner)(nil)
	_ tenancy.Stepper     = (*Provisioner)(nil)
	_ tenancy.Manifester  = (*Provisioner)(nil)
)

// Provisioner gives tenants their place on the servers of a [DB]. Its methods are idempotent
// and may be called concurrently.
type Provisioner struct {
	settled  *settled
	migrator Migrator
}

// NewProvisioner returns the provisioner of config. The migrator makes the application's own
// tables; nil when there are none to make.
func NewProvisioner(config Config, migrator Migrator) (*Provisioner, error) {
	s, err := config.settle()
	if err != nil {
		return nil, err
	}
	return &Provisioner{settled: s, migrator: migrator}, nil
}

// Place decides where t lives: on the server and by the strategy that are the default now. A
// tenant that has a place keeps it.
func (p *Provisioner) Place(ctx context.Context, t tenancy.Tenant) (tenancy.Placement, error) {
	if t.Placement.Server != "" {
		return t.Placement, nil
	}
	strategy, server, wanted, err := p.settled.place(&t)
	if err == nil {
		err = strategy.Supports(server)
	}
	var placement tenancy.Placement
	if err == nil {
		placement, err = strategy.Place(ctx, server, t)
	}
	if err != nil {
		return tenancy.Placement{}, &tenancy.ProvisionError{TenantID: t.ID, Step: "place", Err: err}
	}
	placement.Strategy, placement.Server = wanted.Strategy, wanted.Server
	return placement, nil
}

// Provision makes the place of t complete. For row_level it checks that the shared tables are walled,
// and fails otherwise; on MariaDB it makes the tenant's login. For database it makes the tenant's
// database and migrates it.
func (p *Provisioner) Provision(ctx context.Context, t tenancy.Tenant) (tenancy.Placement, error) {
	for _, step := range p.ProvisionSteps() {
		if err := step.Run(ctx, &t); err != nil {
			return t.Placement, &tenancy.ProvisionError{TenantID: t.ID, Step: "provision", Err: err}
		}
	}
	return t.Placement, nil
}

// ProvisionSteps returns the parts of [Provisioner.Provision]: place makes what the tenant's data lives
// in, migrate makes the application's tables there.
func (p *Provisioner) ProvisionSteps() []tenancy.Step {
	place := func(ctx context.Context, t *tenancy.Tenant) error {
		strategy, server, placement, err := p.placed(*t)
		if err != nil {
			return err
		}
		t.Placement = placement
		return strategy.Provision(ctx, server, *t)
	}
	migrate := func(ctx context.Context, t *tenancy.Tenant) error {
		strategy, server, placement, err := p.placed(*t)
		if err != nil {
			return err
		}
		t.Placement = placement
		version, err := strategy.Migrate(ctx, server, *t, p.migrator)
		if err == nil {
			t.Placement.SchemaVersion = version
		}
		return err
	}
	return []tenancy.Step{{Name: "place", Run: place}, {Name: "migrate", Run: migrate}}
}

// DeprovisionSteps returns the one part of [Provisioner.Deprovision].
func (p *Provisioner) DeprovisionSteps() []tenancy.Step {
	return []tenancy.Step{{Name: "remove", Run: func(ctx context.Context, t *tenancy.Tenant) error { return p.Deprovision(ctx, *t) }}}
}

// Manifest tells what Deprovision would remove, as the databases have it: of a place that is gone
// already, nothing. It changes nothing. For row_level it fails when the server has tables that are
// neither walled nor named as shared: nobody knows whether the tenant's data is in them.
func (p *Provisioner) Manifest(ctx context.Context, t tenancy.Tenant) (tenancy.Manifest, error) {
	strategy, server, placement, err := p.placed(t)
	if err != nil {
		return tenancy.Manifest{}, err
	}
	t.Placement = placement
	items, err := strategy.Manifest(ctx, server, t)
	return tenancy.Manifest{Items: items}, err
}

// Deprovision removes the tenant's data: its rows in every walled table in one transaction, or
// its database.
func (p *Provisioner) Deprovision(ctx context.Context, t tenancy.Tenant) error {
	strategy, server, placement, err := p.placed(t)
	if err == nil {
		t.Placement = placement
		err = strategy.Deprovision(ctx, server, t)
	}
	if err != nil {
		return &tenancy.ProvisionError{TenantID: t.ID, Step: "deprovision", Err: err}
	}
	return nil
}

// placed insists on a stored placement: one computed anew could be another tenant's some day.
func (p *Provisioner) placed(t tenancy.Tenant) (Strategy, Server, tenancy.Placement, error) {
	if err := tenancy.CheckID(t.ID); err != nil {
		return nil, nil, tenancy.Placement{}, err
	}
	if t.Placement.Strategy == "" {
		return nil, nil, tenancy.Placement{}, fmt.Errorf("the tenant has no placement: call Place first and store what it returns")
	}
	return p.settled.place(&t)
}

// Setup prepares the servers for their first tenant and after each new version of the application:
// it migrates the tables that tenants share, then walls them with the server's [RLS], and makes the
// roles that [Schemas] need. It does so on each server for each strategy of this package that the
// server is configured for. It uses the migrator's login, may be repeated, and may run in two
// processes at once. It returns the version of the default server's shared tables.
func (p *Provisioner) Setup(ctx context.Context) (version int64, err error) {
	for _, name := range slices.Sorted(maps.Keys(p.settled.servers)) {
		server, ok := p.settled.servers[name].(home)
		if !ok {
			continue
		}
		for _, strategy := range p.settled.strategiesOn(server) {
			v, err := server.setup(ctx, strategy, name, p.migrator)
			if err != nil {
				return version, fmt.Errorf("set up server %q for %s: %w", name, strategy, err)
			}
			if name == p.settled.server {
				version = max(version, v)
			}
		}
	}
	return version, nil
}
