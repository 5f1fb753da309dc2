package tenancy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// open composes a tenancy with one tenant, as the examples need it.
func open(cfg tenancy.Config) (*tenancy.Tenancy, tenancy.Tenant) {
	cfg.Store = memstore.New()
	tn, err := tenancy.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	acme, err := tn.Lifecycle().Create(context.Background(), tenancy.CreateTenant{
		Slug: "acme", Metadata: map[string]string{"plan": "gold"},
	})
	if err != nil {
		log.Fatal(err)
	}
	return tn, acme
}

var uploadLimit = tenancy.NewKey("upload_limit_mb", 10).
	Describe("How large a file may be").
	Check(func(mb int) error {
		if mb < 1 || mb > 1000 {
			return errors.New("use 1 to 1000")
		}
		return nil
	})

// Keys have a type, a default and a check, which holds for whoever writes.
func ExampleKey() {
	tn, acme := open(tenancy.Config{Keys: []tenancy.AnyKey{uploadLimit}})
	o := tn.Overrides()
	ctx := tenancy.WithActor(context.Background(), "ann")

	if err := uploadLimit.Set(ctx, o, acme.ID, 50); err != nil {
		log.Fatal(err)
	}
	fmt.Println(o.Set(ctx, acme.ID, "upload_limit_mb", 5000)) // from a form of a console

	mb, err := uploadLimit.Of(ctx, o, acme.ID) // in a handler: uploadLimit.Get(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(mb)
	history, err := o.History(ctx, acme.ID, tenancy.HistoryOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range history.Records {
		fmt.Printf("%s set %s to %s\n", r.By, r.Key, r.New)
	}
	// Output:
	// upload_limit_mb: use 1 to 1000
	// 50
	// ann set upload_limit_mb to 50
}

// Several keys change together, or none of them, if nobody changed them meanwhile.
func ExampleOverrides_Edit() {
	tn, acme := open(tenancy.Config{})
	o, ctx := tn.Overrides(), context.Background()

	own, err := o.Own(ctx, acme.ID)
	if err != nil {
		log.Fatal(err)
	}
	edit := tenancy.Edit{Set: map[string]any{"theme": "dark", "logo": "acme.svg"}, Base: own.Revision}
	_, err = o.Edit(ctx, acme.ID, edit)
	fmt.Println(err)
	_, err = o.Edit(ctx, acme.ID, edit) // of the form that a second person had open
	fmt.Println(errors.Is(err, tenancy.ErrConflict))
	// Output:
	// <nil>
	// true
}

// A plan gives values to all its tenants; Explain tells where one comes from.
func ExampleOverrides_Explain() {
	tn, acme := open(tenancy.Config{
		Keys: []tenancy.AnyKey{uploadLimit},
		Overrides: tenancy.OverridesConfig{ // from application.yaml: overrides.plans.gold.upload_limit_mb
			Plans: map[string]map[string]any{"gold": {"upload_limit_mb": 100}, "free": {}},
		},
	})
	layers, err := tn.Overrides().Explain(context.Background(), acme.ID, "upload_limit_mb")
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range layers {
		fmt.Println(l.Layer, l.Plan, string(l.Value))
	}
	// Output:
	// plan gold 100
	// code  10
}

// A secret is sealed where it is stored and shows itself to nobody but Reveal.
func ExampleSecretKey() {
	smtpPassword := tenancy.NewSecretKey[string]("smtp_password")
	bytes := make([]byte, 32) // in production from a vault or a variable, and kept
	_, _ = rand.Read(bytes)   // never fails
	key, err := tenancy.NewSealingKey("2026-01", bytes)
	if err != nil {
		log.Fatal(err)
	}
	tn, acme := open(tenancy.Config{
		Keys: []tenancy.AnyKey{smtpPassword}, SealingKeys: []tenancy.SealingKey{key},
	})
	o, ctx := tn.Overrides(), context.Background()
	if err := smtpPassword.Set(ctx, o, acme.ID, "hunter2"); err != nil {
		log.Fatal(err)
	}
	password, isSet, err := smtpPassword.Of(ctx, o, acme.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(password, isSet, len(password.Reveal()))
	// Output:
	// [secret] true 7
}

// Support looks into a customer's account for an hour.
func ExampleMembers_Grant() {
	tn, acme := open(tenancy.Config{Lifecycle: tenancy.LifecycleConfig{MaxGrant: 8 * time.Hour}})
	ctx := tenancy.WithActor(context.Background(), "ann, head of support")
	err := tn.Members().Grant(ctx, tenancy.Grant{
		UserID: "sam", TenantID: acme.ID, Roles: []string{"support"},
		Reason: "ticket 4711", Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	page, err := tn.Members().List(ctx, tenancy.MemberListOptions{TenantID: acme.ID})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range page.Members {
		fmt.Printf("%s, by %s: %s\n", m.UserID, m.GrantedBy, m.Reason)
	}
	// Output:
	// sam, by ann, head of support: ticket 4711
}
