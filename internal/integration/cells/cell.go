package cells

import (
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// Cell is a strategy on an engine by an access path.
type Cell struct {
	// Name is what a subtest of the cell is called.
	Name string
	// Engine is the kind of database.
	Engine isolation.Engine
	// Strategy is how tenants are kept apart.
	Strategy string
	// Pooled says that the application's connections go through PgBouncer in transaction mode.
	Pooled bool
	// Stdlib says that they are those of pgx's own driver for database/sql, not of tenantpgx.
	Stdlib bool
	// Fence says that the database itself filters no read.
	Fence bool
	// Shared are tables of a shared SQLite file that are no tenant's, such as a migration tool's.
	Shared []string
}

// All returns every cell that is not refused at start.
func All() []Cell {
	const pg, maria, lite = isolation.EnginePostgreSQL, isolation.EngineMariaDB, isolation.EngineSQLite
	row, schema, database := tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase
	return []Cell{
		{Name: "row_level by tenantpgx", Engine: pg, Strategy: row},
		{Name: "row_level by tenantpgx through PgBouncer", Engine: pg, Strategy: row, Pooled: true},
		{Name: "row_level by pgx stdlib", Engine: pg, Strategy: row, Stdlib: true},
		{Name: "row_level by pgx stdlib through PgBouncer", Engine: pg, Strategy: row, Stdlib: true, Pooled: true},
		{Name: "schema by tenantpgx", Engine: pg, Strategy: schema},
		{Name: "schema by tenantpgx through PgBouncer", Engine: pg, Strategy: schema, Pooled: true},
		{Name: "schema by pgx stdlib", Engine: pg, Strategy: schema, Stdlib: true},
		{Name: "schema by pgx stdlib through PgBouncer", Engine: pg, Strategy: schema, Stdlib: true, Pooled: true},
		{Name: "database on PostgreSQL", Engine: pg, Strategy: database},
		{Name: "database on PostgreSQL through PgBouncer", Engine: pg, Strategy: database, Pooled: true},
		{Name: "database on PostgreSQL by pgx stdlib", Engine: pg, Strategy: database, Stdlib: true},
		{Name: "database on PostgreSQL by pgx stdlib through PgBouncer", Engine: pg, Strategy: database, Stdlib: true, Pooled: true},
		{Name: "row_level on MariaDB", Engine: maria, Strategy: row},
		{Name: "schema on MariaDB", Engine: maria, Strategy: schema},
		{Name: "database on MariaDB", Engine: maria, Strategy: database},
		{Name: "row_level on SQLite", Engine: lite, Strategy: row, Fence: true},
		{Name: "database on SQLite", Engine: lite, Strategy: database},
	}
}

// Shares reports whether tenants share tables.
func (c Cell) Shares() bool { return c.Strategy == tenancy.StrategyRowLevel }

// Config returns the configuration of a new handle on a database of the cell's own. The tables are those
// that tenants share, if they do; their column is the default one.
func (c Cell) Config(t testing.TB, tables ...string) isolation.Config {
	t.Helper()
	config := isolation.Config{Strategy: c.Strategy}
	switch c.Engine {
	case isolation.EnginePostgreSQL:
		config.Servers = map[string]isolation.Server{"main": c.postgreSQL(t, tables)}
	case isolation.EngineMariaDB:
		config.Servers = map[string]isolation.Server{"main": c.mariaDB(t, tables)}
	case isolation.EngineSQLite:
		config.Servers = map[string]isolation.Server{"files": c.sqlite(t, tables)}
	}
	return config
}

// key is what tenants' passwords are derived from.
func key() []byte { return []byte("a key of 32 bytes for the tests!") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
