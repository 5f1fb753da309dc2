// Package pgx holds the tests of package tenantpgx on a real PostgreSQL and PgBouncer: what the
// wire carries, what comes back, what survives. It has no code of its own.
package pgx
