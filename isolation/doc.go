// Package isolation answers the question "where does this statement run, and as whom?": its
// [DB] is an ordinary *sql.DB whose every call runs inside the tenant of its context.
//
// [Open] takes the servers that hold tenants' data and a strategy: row_level (shared tables, with
// PostgreSQL's row security as the wall), schema (tables of the tenant's own in a shared database) or
// database (a database of the tenant's own; on SQLite a file). Which of them [PostgreSQL], [MariaDB]
// and [SQLite] can hold, Open says; docs/STRATEGIES.md helps to choose. Tenants may differ. Handlers
// keep using database/sql; without a tenant in the context they get tenancy.ErrNoTenant and never
// rows.
//
//	db, err := isolation.Open(isolation.Config{
//		Servers:  map[string]isolation.Server{"files": isolation.SQLite{Dir: "data", Driver: "sqlite"}},
//		Strategy: tenancy.StrategyDatabase,
//	})
//	rows, err := db.QueryContext(ctx, "SELECT id, text FROM notes")
//
// A connection belongs to a tenant inside one statement, one transaction or one leased
// connection, and is clean again afterwards, whatever happened. The package imports no driver:
// PostgreSQL comes from tenantpgx.NewConnector, SQLite from the driver that the program
// registers. It does not find out who the tenant is; that is package tenancy.
package isolation
