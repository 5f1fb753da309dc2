// Package sqlstore answers where the catalogue of tenants is kept: in SQLite, PostgreSQL, MariaDB
// or MySQL, through any database/sql driver. It holds tenants with their names, memberships, overrides,
// the change feed and the outbox in tables of its own, beside the application's. It opens no
// database, imports no driver, and does not hold the tenants' own data.
//
//	store, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
//	err = store.Migrate(ctx) // or apply sqlstore.Schema by hand
//
// Writes to one catalogue run one after the other; reads do not wait for them. A SQLite
// database needs a busy timeout, and WAL so that readers and a writer do not block each
// other: file:catalogue.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL) with
// modernc.org/sqlite. On MariaDB and MySQL (github.com/go-sql-driver/mysql 1.8 or later) the DSN
// names the database that holds the tables, such as user:password@tcp(host:3306)/catalogue; strict
// mode, utf8mb4 and autocommit, which are the defaults, are required and checked.
package sqlstore
