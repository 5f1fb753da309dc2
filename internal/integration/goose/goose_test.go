// Package goose_test runs tenantgoose on real databases.
package goose_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgoose"
)

func TestMain(m *testing.M) { servers.Main(m) }

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

var (
	first = file("-- +goose Up\nCREATE TABLE notes (id varchar(36) PRIMARY KEY);\n")
	both  = fstest.MapFS{"00001_notes.sql": first, "00002_text.sql": file("-- +goose Up\nALTER TABLE notes ADD COLUMN text TEXT;\n")}
	wrong = fstest.MapFS{"00001_notes.sql": first, "00002_wrong.sql": file("-- +goose Up\nCREATE TABLE other (id TEXT);\nNONSENSE;\n")}
)

func migrator(t *testing.T, files fs.FS) *tenantgoose.Migrator {
	t.Helper()
	m, err := tenantgoose.New(map[isolation.Engine]fs.FS{
		isolation.EngineSQLite: files, isolation.EnginePostgreSQL: files, isolation.EngineMariaDB: files,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// eachEngine runs the test on a new, empty database of every engine; open connects to it once
// more, as another process would.
func eachEngine(t *testing.T, test func(t *testing.T, open func() isolation.Target)) {
	t.Parallel()
	target := func(t *testing.T, engine isolation.Engine, driver, dsn string) isolation.Target {
		db, err := sql.Open(driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return isolation.Target{DB: db, Engine: engine, Tenant: "t1", Name: "t1"}
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "t1.db")
		test(t, func() isolation.Target {
			return target(t, isolation.EngineSQLite, "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		pg := servers.Postgres(t)
		url := pg.URL(pg.CreateDatabase(t))
		test(t, func() isolation.Target { return target(t, isolation.EnginePostgreSQL, "pgx", url) })
	})
	t.Run("MariaDB", func(t *testing.T) {
		t.Parallel()
		server := servers.MariaDB(t)
		dsn := server.DSN(server.CreateDatabase(t))
		test(t, func() isolation.Target { return target(t, isolation.EngineMariaDB, "mysql", dsn) })
	})
}

func TestMigrateReachesTheLatestVersionAndMayBeRepeated(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() isolation.Target) {
		m, target := migrator(t, both), open()
		if v, err := m.Version(t.Context(), target); v != 0 || err != nil {
			t.Fatalf("before: %d, %v", v, err)
		}
		for range 2 {
			if v, err := m.Migrate(t.Context(), target); v != 2 || err != nil {
				t.Fatalf("%d, %v", v, err)
			}
		}
		if v, err := m.Version(t.Context(), target); v != 2 || err != nil {
			t.Errorf("after: %d, %v", v, err)
		}
	})
}

func TestFailedMigrationKeepsWhatWasAppliedBefore(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() isolation.Target) {
		target := open()
		if _, err := migrator(t, wrong).Migrate(t.Context(), target); !errors.Is(err, tenancy.ErrMigration) {
			t.Fatalf("%v", err)
		}
		if v, err := migrator(t, wrong).Version(t.Context(), target); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		_, err := target.DB.ExecContext(t.Context(), "SELECT * FROM other")
		if err == nil && target.Engine != isolation.EngineMariaDB { // which commits at each such statement
			t.Error("half of the failed migration stayed")
		}
		if v, err := migrator(t, both).Migrate(t.Context(), target); v != 2 || err != nil {
			t.Errorf("after the mend: %d, %v", v, err)
		}
	})
}

func TestManyProcessesMayMigrateOneDatabaseAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() isolation.Target) {
		var group sync.WaitGroup
		for range 8 {
			m, target := migrator(t, both), open()
			group.Go(func() {
				if v, err := m.Migrate(t.Context(), target); v != 2 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		group.Wait()
	})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, files := range []map[isolation.Engine]fs.FS{
		nil, {isolation.EngineSQLite: fstest.MapFS{}}, {"oracle": both},
	} {
		if _, err := tenantgoose.New(files); err == nil {
			t.Errorf("%v was accepted", files)
		}
	}
}

// TestProcessThatDiedBeforeItsFirstVersion leaves what a killed process can leave on MariaDB, which
// commits a table by itself: the table of versions, and no row in it.
func TestProcessThatDiedBeforeItsFirstVersion(t *testing.T) {
	t.Parallel()
	server := servers.MariaDB(t)
	db, err := sql.Open("mysql", server.DSN(server.CreateDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	target := isolation.Target{DB: db, Engine: isolation.EngineMariaDB, Tenant: "t1", Name: "t1"}
	m := migrator(t, both)
	if _, err := m.Migrate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"DELETE FROM goose_db_version", "DROP TABLE notes"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := m.Version(t.Context(), target); v != 0 || err != nil {
		t.Errorf("version %d, %v", v, err)
	}
	if v, err := m.Migrate(t.Context(), target); v != 2 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}
