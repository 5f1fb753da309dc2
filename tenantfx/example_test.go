package tenantfx_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"go.uber.org/fx"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantfx"
)

// The container lists tenants.
func ExampleModule() {
	cfg := tenancy.Config{
		Resolution: tenancy.ResolutionConfig{
			Resolvers:         []string{"jwt_claim", "header"},
			HeaderName:        "x-tenant-id",
			JWTClaimKey:       "tenant_id",
			ValidatorCacheTTL: 300 * time.Second,
		},
		Store: memstore.New(), // or sqlstore
	}
	ctx := context.Background()
	app := fx.New(
		fx.NopLogger,
		tenantfx.Module(cfg),
		fx.Invoke(func(lc fx.Lifecycle, provider tenancy.Store) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				page, err := provider.List(ctx, tenancy.ListOptions{Statuses: []tenancy.Status{tenancy.StatusActive}})
				fmt.Println("Active tenants:", len(page.Tenants))
				return err
			}))
		}),
	)
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: Active tenants: 0
}

// The configuration as a struct.
func ExampleModule_config() {
	app := fx.New(
		fx.NopLogger,
		tenantfx.Module(tenancy.Config{
			Resolution: tenancy.ResolutionConfig{
				Resolvers:   []string{"jwt_claim", "header"},
				HeaderName:  "x-tenant-id",
				JWTClaimKey: "tenant_id",
			},
			Lifecycle: tenancy.LifecycleConfig{IsolationStrategy: "schema"},
			Store:     memstore.New(),
		}),
		fx.Invoke(func(tn *tenancy.Tenancy) {
			fmt.Println(tn.Config().Lifecycle.IsolationStrategy, tn.Config().Resolution.Resolvers)
		}),
	)
	if err := app.Err(); err != nil {
		log.Fatal(err)
	}
	// Output: schema [jwt_claim header]
}

// A store that the container makes.
func ExampleUse() {
	app := fx.New(
		fx.NopLogger,
		tenantfx.Module(tenancy.Config{}),
		tenantfx.Use[tenancy.Store](memstore.New), // or a constructor of sqlstore
		fx.Invoke(func(store tenancy.Store) { fmt.Printf("%T\n", store) }),
	)
	if err := app.Err(); err != nil {
		log.Fatal(err)
	}
	// Output: *memstore.Store
}

// The lifecycle of a tenant in a test: the stub needs nothing.
func ExampleStub() {
	ctx := context.Background()
	var lifecycle *tenancy.Lifecycle
	app := fx.New(fx.NopLogger, tenantfx.Stub(), fx.Populate(&lifecycle))
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	tenant, err := lifecycle.Create(ctx, tenancy.CreateTenant{Slug: "acme", Name: "ACME Corp"})
	fmt.Println(tenant.Slug, err)
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: acme <nil>
}
