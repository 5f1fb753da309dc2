package dialect

// The following queries answer the tables of a place: a name for people, and the table as SQL has it.
const (
	// TablesOf lists the tables of a PostgreSQL schema.
	TablesOf = `SELECT format('%s.%s', n.nspname, c.relname), format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition ORDER BY 1`
	// AllTables lists those of all schemas of a PostgreSQL database.
	AllTables = `SELECT format('%s.%s', n.nspname, c.relname), format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition ORDER BY 1`
	// MariaDBTablesOf lists the tables of a MariaDB database.
	MariaDBTablesOf = "SELECT concat(table_schema, '.', table_name), concat('`', replace(table_schema, '`', '``'), '`.`', replace(table_name, '`', '``'), '`') " +
		"FROM information_schema.tables WHERE table_schema = ? AND table_type <> 'VIEW' ORDER BY 1"
	// SQLiteTables lists the tables of a SQLite file.
	SQLiteTables = `SELECT name, '"' || replace(name, '"', '""') || '"' FROM sqlite_schema
WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY 1`
)

// The following queries count what has a name.
const (
	RoleExists     = `SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = $1`
	DatabaseExists = `SELECT count(*) FROM pg_catalog.pg_database WHERE datname = $1`
)
