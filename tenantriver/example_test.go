package tenantriver_test

import (
	"context"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantriver"
)

// A node that serves and works. River's tables come from `river migrate-up` or rivermigrate, the
// catalogue's from Store.Migrate.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlstore.New(stdlib.OpenDBFromPool(pool), sqlstore.Config{Dialect: sqlstore.PostgreSQL})
	if err != nil {
		log.Fatal(err)
	}
	tn, err := tenancy.New(tenancy.Config{
		Store:     store,
		Lifecycle: tenancy.LifecycleConfig{Async: true, NoRunner: true},
		Steps: tenancy.Steps{Provision: []tenancy.Step{{
			Name: "billing",
			Run:  func(ctx context.Context, t *tenancy.Tenant) error { return nil /* open the account */ },
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}

	runner, err := tenantriver.New[pgx.Tx](tn, tenantriver.Config{Queue: "tenants"})
	if err != nil {
		log.Fatal(err)
	}
	workers := river.NewWorkers() // the application's own belong here too
	if err := runner.Register(workers); err != nil {
		log.Fatal(err)
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers:      workers,
		Queues:       map[string]river.QueueConfig{"tenants": {MaxWorkers: 4}},
		PeriodicJobs: []*river.PeriodicJob{runner.PeriodicJob()},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Start(ctx); err != nil {
		log.Fatal(err)
	}

	t, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme", Name: "Acme"}) // in provisioning
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Enqueue(ctx, client, t.ID); err != nil {
		log.Print(err) // the periodic job finds it
	}

	if err := client.StopAndCancel(ctx); err != nil { // leases are given back
		log.Print(err)
	}
	pool.Close()
}
