package tenantredis_test

import (
	"context"
	"log"
	"os"

	"github.com/redis/go-redis/v9"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantredis"
)

// Nodes that hear of each other's changes at once.
func ExampleNewBus() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL")) // rediss://user:password@host:6379
	if err != nil {
		log.Fatal(err)
	}
	bus, err := tenantredis.NewBus(tenantredis.BusConfig{Redis: options})
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
