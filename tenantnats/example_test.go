package tenantnats_test

import (
	"context"
	"log"
	"os"

	"github.com/nats-io/nats.go"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantnats"
)

// Nodes that hear of each other's changes at once.
func ExampleNewBus() {
	bus, err := tenantnats.NewBus(tenantnats.BusConfig{
		URL:     os.Getenv("NATS_URL"), // tls://a.example:4222,tls://b.example:4222
		Options: []nats.Option{nats.UserCredentials("app.creds")},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	var store tenancy.Store // the catalogue, common to all nodes
	tn, err := tenancy.New(tenancy.Config{Store: store, Bus: bus})
	if err != nil {
		log.Print(err)
	}
	if err := tn.Start(context.Background()); err != nil {
		log.Print(err)
	}
}

// Events for other systems, in a stream that somebody has created with the subjects tenancy.events.>
func ExampleNewPublisher() {
	publisher, err := tenantnats.NewPublisher(tenantnats.PublisherConfig{
		URL:    os.Getenv("NATS_URL"),
		Source: "https://app.example/tenancy",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Close()
	err = publisher.Publish(context.Background(), tenancy.Event{
		ID: "0198f3a0-7c1e-7b52-9c55-2f0f6d5f1a11", Type: tenancy.TenantSuspended, TenantID: "acme", Slug: "acme", Revision: 4,
	})
	if err != nil {
		log.Print(err) // the event comes again
	}
}
