// Package tenantpgx answers the question "how does a tenant's statement reach PostgreSQL in one
// round trip?": its [Connector] opens connections by pgx for isolation.Open, on which the binding
// to a tenant and the statement share one network write.
//
// It uses no named prepared statement, so it works behind PgBouncer in transaction mode. It does
// not decide who the tenant is or where its data lives; packages tenancy and isolation do.
package tenantpgx
