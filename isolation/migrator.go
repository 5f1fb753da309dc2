package isolation

import (
	"context"
	"database/sql"
)

// Migrator brings the application's own tables to their version. tenantgoose ships one; an
// application may write its own.
type Migrator interface {
	// Migrate applies what is missing to the target and returns the version it is at then. It is
	// idempotent, is called for many targets at once, and must itself keep two calls for one
	// target from running at the same time, in other processes too.
	Migrate(ctx context.Context, target Target) (version int64, err error)
	// Version returns the version that the target is at; 0 before the first migration. It
	// changes nothing.
	Version(ctx context.Context, target Target) (version int64, err error)
}

// Target is a database to migrate.
type Target struct {
	// DB may change tables. It belongs to the caller of Migrate, which closes it.
	DB *sql.DB
	// Engine is the kind of database.
	Engine Engine
	// Tenant is the id of the tenant whose own database this is, or "" for one that tenants
	// share.
	Tenant string
	// Name names the database in errors and logs.
	Name string
}
