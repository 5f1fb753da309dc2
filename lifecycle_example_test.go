package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// A tenant's way from its creation to its end. What it may not do is a [*tenancy.TransitionError].
func ExampleLifecycle() {
	tn, acme := open(tenancy.Config{Lifecycle: tenancy.LifecycleConfig{ArchiveGrace: time.Hour}})
	l, ctx := tn.Lifecycle(), context.Background()
	fmt.Println(acme.Slug, acme.Status)

	show := func(t tenancy.Tenant, err error) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %q\n", t.Status, t.StatusReason)
	}
	show(l.Suspend(ctx, acme.ID, "unpaid"))
	show(l.Activate(ctx, acme.ID))
	show(l.Deactivate(ctx, acme.ID))
	show(l.Archive(ctx, acme.ID)) // its data stays for the grace
	_, err := l.Purge(ctx, acme.ID)
	fmt.Println(errors.As(err, new(*tenancy.GraceError)))
	show(l.PurgeNow(ctx, acme.ID, "the customer asks for it, ticket 4711"))

	// Output:
	// acme active
	// suspended "unpaid"
	// active ""
	// inactive ""
	// archived ""
	// true
	// purged ""
}

// Steps of the application's own are part of a tenant's provisioning: each is done again until it works,
// on any node, and those that are done are not repeated.
func ExampleSteps() {
	available := false
	tn, err := tenancy.New(tenancy.Config{
		Store: memstore.New(),
		Steps: tenancy.Steps{Provision: []tenancy.Step{
			{Name: "billing", Run: func(_ context.Context, t *tenancy.Tenant) error {
				fmt.Println("an account for", t.Slug)
				return nil
			}},
			{Name: "mail", Run: func(context.Context, *tenancy.Tenant) error {
				if !available {
					return errors.New("the mail provider is down")
				}
				return nil
			}},
		}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	acme, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	fmt.Println(err)
	fmt.Println(acme.Status, acme.Journal.Done, acme.Journal.Attempts, acme.Journal.LastError)

	available = true
	acme, err = tn.Lifecycle().Provision(ctx, acme.ID) // or wait: a started Tenancy goes on by itself
	fmt.Println(acme.Status, err)

	// Output:
	// an account for acme
	// mail tenant "acme": the mail provider is down
	// provisioning [billing] 1 the mail provider is down
	// active <nil>
}

// A hook may veto a change before it is stored.
func ExampleHook() {
	tn, acme := open(tenancy.Config{Hooks: map[tenancy.HookName][]tenancy.Hook{
		tenancy.HookSuspended: {func(_ context.Context, t tenancy.Tenant) error {
			if t.Metadata["plan"] == "gold" {
				return errors.New("ask the account manager first")
			}
			return nil
		}},
	}})
	_, err := tn.Lifecycle().Suspend(context.Background(), acme.ID, "unpaid")
	var veto *tenancy.HookError
	fmt.Println(errors.As(err, &veto), veto.Hook, veto.Err)

	// Output:
	// true tenant.suspended ask the account manager first
}

// A subscriber hears of what has happened, at least once and in each tenant's order. An error makes the
// event come again.
func ExampleSubscriber() {
	var seen []string // by event id: the same event may come twice
	tn, acme := open(tenancy.Config{Subscribers: []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
		for _, id := range seen {
			if id == e.ID {
				return nil
			}
		}
		seen = append(seen, e.ID)
		fmt.Printf("%s of %s %q\n", e.Type, e.Slug, e.Reason)
		return nil
	}}})
	if _, err := tn.Lifecycle().Suspend(context.Background(), acme.ID, "unpaid"); err != nil {
		log.Fatal(err)
	}

	// Output:
	// TenantProvisioned of acme ""
	// TenantSuspended of acme "unpaid"
}

// Two nodes on one catalogue: the bus tells at once, and AwaitNodes knows when all have followed.
func ExampleTenancy_AwaitNodes() {
	store, bus := memstore.New(), &memstore.Bus{} // with several processes: sqlstore.New, tenantpgx.NewBus
	ctx := context.Background()
	var nodes []*tenancy.Tenancy
	for _, id := range []string{"a", "b"} {
		tn, err := tenancy.New(tenancy.Config{
			Store: store, Bus: bus, NodeID: id, Resolution: tenancy.ResolutionConfig{PollInterval: 10 * time.Millisecond},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := tn.Start(ctx); err != nil {
			log.Fatal(err)
		}
		defer func() { _ = tn.Stop(ctx) }() // which fails only if ctx ends first
		nodes = append(nodes, tn)
	}
	a, b := nodes[0], nodes[1]
	acme, err := a.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme"})
	if err == nil {
		_, err = a.Lifecycle().Suspend(ctx, acme.ID, "unpaid")
	}
	fmt.Println(err)
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println(a.AwaitNodes(bounded)) // a NodesBehindError names those that have not followed
	_, err = b.Validator().Validate(ctx, tenancy.BySlug("acme"))
	fmt.Println(errors.Is(err, tenancy.ErrSuspended))

	// Output:
	// <nil>
	// <nil>
	// true
}
