// Package sqlc holds code that sqlc generated for a shop, and tests that it, and sqlx, give the same results
// through tenantpgx.Pool and isolation.DB as through a plain pgxpool and *sql.DB. The generated code
// is as it came: no query says a word about tenants. It has no code of its own.
package sqlc

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
