package cells

import (
	"database/sql"
	"path/filepath"
	"testing"

	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// Plain is an empty database without tenants.
type Plain struct {
	DB *sql.DB
	// URL is what a driver of the engine's own connects with.
	URL string
}

// OpenPlain makes a database of an engine. It lives until the end of the test.
func OpenPlain(t testing.TB, engine isolation.Engine) Plain {
	t.Helper()
	driver, url := "sqlite", "file:"+filepath.Join(t.TempDir(), "plain.db")+"?_pragma=foreign_keys(1)"
	switch engine {
	case isolation.EnginePostgreSQL:
		pg := servers.Postgres(t)
		driver, url = "pgx", pg.URL(pg.CreateDatabase(t))
	case isolation.EngineMariaDB:
		server := servers.MariaDB(t)
		driver, url = "mysql", server.DSN(createMariaDB(t, server))+MariaDBParams
	}
	db, err := sql.Open(driver, url)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return Plain{DB: db, URL: url}
}

// Target returns the database as one to migrate, of a tenant that is alone in it.
func (p Plain) Target(engine isolation.Engine) isolation.Target {
	return isolation.Target{DB: p.DB, Engine: engine, Tenant: "only", Name: "plain"}
}
