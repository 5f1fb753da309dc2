// Package tenantpgx answers the question "how does a tenant's statement reach PostgreSQL in one
// round trip?": its [Connector] opens connections by pgx for isolation.Open, on which the binding
// to a tenant and the statement share one network write. [Pool] offers pgx's own methods on them.
//
//	db, err := isolation.Open(config)
//	pool := tenantpgx.New(db)
//	rows, err := pool.Query(ctx, "SELECT id, total FROM orders") // of ctx's tenant
//
// Named prepared statements are used only on a connection that is known to be direct, so that it
// works behind PgBouncer in transaction mode. The package does not decide who the tenant is or
// where its data lives; packages tenancy and isolation do.
package tenantpgx
