// Package sqlc holds code that sqlc generated for a shop, and tests that it, and sqlx, give the same results
// through tenantpgx.Pool and isolation.DB as over a database of the shop's own, in every cell. The
// generated code is as it came: no query and no table says a word about tenants. What tables need that
// tenants share is a migration of its own. The package has no code of its own.
package sqlc

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
