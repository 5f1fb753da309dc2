// Package store_test runs the suite of package storetest, and what is special to an engine,
// on the stores that keep tenants in a real database.
package store_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/storetest"
)

func TestMain(m *testing.M) { servers.Main(m) }

// engine makes empty databases of one kind.
type engine struct {
	name    string
	dialect sqlstore.Dialect
	// open returns a handle on a database of the test's own.
	open func(t *testing.T) *sql.DB
	// config says where in that database the catalogue goes. It may be asked several times.
	config func() sqlstore.Config
}

// table returns what a table of the catalogue is called.
func (e engine) table(name string) string {
	if e.dialect == sqlstore.PostgreSQL {
		return "tenancy." + name
	}
	return "tenancy_" + name
}

func engines() []engine {
	return []engine{
		{"sqlite", sqlstore.SQLite, openSQLite, func() sqlstore.Config {
			return sqlstore.Config{Dialect: sqlstore.SQLite}
		}},
		{"postgresql", sqlstore.PostgreSQL, openPostgreSQL, func() sqlstore.Config {
			return sqlstore.Config{Dialect: sqlstore.PostgreSQL}
		}},
		{"mariadb", sqlstore.MariaDB, openMariaDB, func() sqlstore.Config {
			return sqlstore.Config{Dialect: sqlstore.MariaDB}
		}},
	}
}

// each runs a test for every engine.
func each(t *testing.T, test func(t *testing.T, e engine)) {
	t.Helper()
	t.Parallel()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

func openSQLite(t *testing.T) *sql.DB {
	t.Helper()
	return open(t, "sqlite", sqliteURL(t))
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "file:" + filepath.Join(t.TempDir(), "catalogue.db") + "?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
}

func openPostgreSQL(t *testing.T) *sql.DB {
	t.Helper()
	server := servers.Postgres(t)
	return open(t, "pgx", server.URL(server.CreateDatabase(t)))
}

func openMariaDB(t *testing.T) *sql.DB {
	t.Helper()
	server := servers.MariaDB(t)
	return open(t, "mysql", server.DSN(server.CreateDatabase(t)))
}

func open(t *testing.T, driver, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(12)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newStore(t *testing.T, db *sql.DB, cfg sqlstore.Config) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(db, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// migrated returns an empty catalogue in a database of its own.
func migrated(t *testing.T, e engine) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := e.open(t)
	store := newStore(t, db, e.config())
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store, db
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Config{New: func(t *testing.T) tenancy.Store {
		store, _ := migrated(t, engines()[0])
		return store
	}})
}

// Each subtest has a schema of its own in one database, with a name that must be quoted.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	db := openPostgreSQL(t)
	var count atomic.Int64
	storetest.Run(t, storetest.Config{New: func(t *testing.T) tenancy.Store {
		store := newStore(t, db, sqlstore.Config{
			Dialect: sqlstore.PostgreSQL,
			Schema:  fmt.Sprintf(`Tenants' "%d"?$1`, count.Add(1)),
		})
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return store
	}})
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	for name, params := range map[string]string{
		"as the driver comes": "",
		// What applications set, and what it changes in the text of statements and in results.
		"with other settings": "?interpolateParams=true&clientFoundRows=true&parseTime=true&loc=Local&multiStatements=true" +
			"&collation=utf8mb4_general_ci&time_zone=%27-09%3A00%27&tx_isolation=%27SERIALIZABLE%27" +
			"&sql_mode=%27STRICT_ALL_TABLES%2CANSI_QUOTES%2CNO_BACKSLASH_ESCAPES%2CPIPES_AS_CONCAT%27",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers.MariaDB(t)
			storetest.Run(t, storetest.Config{New: func(t *testing.T) tenancy.Store {
				store := newStore(t, open(t, "mysql", server.DSN(server.CreateDatabase(t))+params), sqlstore.Config{Dialect: sqlstore.MariaDB})
				if err := store.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				return store
			}})
		})
	}
}
