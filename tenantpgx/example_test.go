package tenantpgx_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantpgx"
)

// A pool in the place of a pgxpool.Pool. The context of each call comes from a request that
// tenanthttp.Middleware has bound to a tenant, or from Tenancy.Within.
func Example() {
	app, err := tenantpgx.NewConnector(os.Getenv("APP_URL")) // a role that row security holds back
	if err != nil {
		log.Fatal(err)
	}
	db, err := isolation.Open(isolation.Config{Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
		App: app,
		RLS: &isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{{Name: "orders"}}},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	pool := tenantpgx.New(db) // was: pgxpool.New(ctx, url)
	defer pool.Close()
	// q := store.New(pool) would be sqlc's code, as it was.

	pay := func(ctx context.Context, id int64) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			var total int64
			err := tx.QueryRow(ctx, "UPDATE orders SET paid = true WHERE id = $1 RETURNING total", id).Scan(&total)
			if err != nil {
				return err // pgx.ErrNoRows for an order of another tenant
			}
			_, err = tx.Exec(ctx, "INSERT INTO orders_paid (id, total) VALUES ($1, $2)", id, total)
			return err
		})
	}
	fmt.Println(pay(context.Background(), 7)) // tenancy.ErrNoTenant: the context names none
}

// Several statements on one connection, which needs a direct one.
func ExamplePool_AcquireFunc() {
	var (
		ctx  context.Context // of a request
		pool *tenantpgx.Pool // as above
		ids  []int64         // to work on
	)
	err := pool.AcquireFunc(ctx, func(c *tenantpgx.PoolConn) error {
		if _, err := c.Exec(ctx, "CREATE TEMP TABLE picked (id bigint)"); err != nil {
			return err
		}
		_, err := c.CopyFrom(ctx, pgx.Identifier{"picked"}, []string{"id"},
			pgx.CopyFromSlice(len(ids), func(i int) ([]any, error) { return []any{ids[i]}, nil }))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Nodes tell each other of changes by LISTEN and NOTIFY. A direct URL is needed: a pooler in transaction
// mode loses subscriptions.
func ExampleNewBus() {
	bus, err := tenantpgx.NewBus(os.Getenv("CATALOGUE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	tn, err := tenancy.New(tenancy.Config{Store: memstore.New(), Bus: bus}) // the store of all nodes: sqlstore.New
	if err != nil {
		log.Fatal(err)
	}
	if err := tn.Start(context.Background()); err != nil { // subscribes, now and again after a loss
		log.Fatal(err)
	}
}
