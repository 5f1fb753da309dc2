package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
)

func mustExec(t *testing.T, db interface {
	Exec(query string, args ...any) (sql.Result, error)
}, query string,
) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestMariaDBRefusesSettingsThatChangeWhatIsStored(t *testing.T) {
	t.Parallel()
	server := servers.MariaDB(t)
	for _, c := range []struct {
		name, database, params, remedy string
	}{
		{"no strict mode", server.CreateDatabase(t), "?sql_mode=%27NO_ENGINE_SUBSTITUTION%27", "sql_mode='STRICT_TRANS_TABLES'"},
		{"another character set", server.CreateDatabase(t), "?charset=latin1", "charset=utf8mb4"},
		{"no autocommit", server.CreateDatabase(t), "?autocommit=false", "without autocommit=false"},
		{"no database", "", "", "/catalogue"},
		{"all at once", "", "?charset=latin1&sql_mode=%27%27", "sql_mode='STRICT_TRANS_TABLES'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, open(t, "mysql", server.DSN(c.database)+c.params), sqlstore.Config{Dialect: sqlstore.MariaDB})
			for name, err := range map[string]error{"Migrate": store.Migrate(t.Context()), "Check": store.Check(t.Context())} {
				if err == nil || !strings.Contains(err.Error(), c.remedy) {
					t.Errorf("%s: %v; want an error that says %q", name, err, c.remedy)
				}
			}
			if _, err := store.Create(t.Context(), anyTenant); err == nil || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("Create: %v; want an error that says %q", err, c.remedy)
			}
		})
	}
}

// A process that is killed between two DDL statements leaves tables without a version; the next
// one goes on from there.
func TestAMigrationOfMariaDBGoesOnWhereAnotherWasKilled(t *testing.T) {
	t.Parallel()
	text, err := fs.ReadFile(sqlstore.Schema(sqlstore.MariaDB), "0001_catalogue.sql")
	if err != nil {
		t.Fatal(err)
	}
	var statements []string
	for _, s := range strings.SplitAfter(string(text), ";\n") {
		if strings.TrimSpace(s) != "" {
			statements = append(statements, s)
		}
	}
	for done := 1; done < len(statements); done += 3 {
		t.Run(fmt.Sprintf("after %d of %d statements", done, len(statements)), func(t *testing.T) {
			t.Parallel()
			db := openMariaDB(t)
			for _, s := range statements[:done] {
				mustExec(t, db, s)
			}
			store := newStore(t, db, sqlstore.Config{Dialect: sqlstore.MariaDB})
			wantSchemaError(t, store, 0, "Store.Migrate")
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Create(t.Context(), anyTenant); err != nil {
				t.Fatal(err)
			}
			if changes, err := store.Changes(t.Context(), 0); err != nil || changes.Revision != 1 {
				t.Errorf("Changes: %+v, %v; want revision 1", changes, err)
			}
		})
	}
}

// A migration that waits for another ends with its context, and goes on when the other's connection
// has ended.
func TestAMigrationOfMariaDBWaitsAsLongAsItsContext(t *testing.T) {
	t.Parallel()
	db := openMariaDB(t)
	store := newStore(t, db, sqlstore.Config{Dialect: sqlstore.MariaDB})
	other, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var locked int
	if err := other.QueryRowContext(t.Context(), "SELECT get_lock(concat('tenancy:', sha1(database())), 0)").Scan(&locked); err != nil || locked != 1 {
		t.Fatalf("the lock: %d, %v", locked, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := store.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate beside another: %v; want context.DeadlineExceeded", err)
	}
	wantSchemaError(t, store, 0, "Store.Migrate")
	migrated := make(chan error, 1)
	go func() { migrated <- store.Migrate(t.Context()) }()
	if err := other.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) { // closes it
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// heavy begins a transaction that InnoDB does not choose as the victim of a deadlock, and that
// holds the row of a tenant.
func heavy(t *testing.T, db *sql.DB, tenantID string) *sql.Tx {
	t.Helper()
	mustExec(t, db, "CREATE TABLE IF NOT EXISTS ballast (i int)")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	mustExec(t, tx, "INSERT INTO ballast SELECT seq FROM seq_1_to_1000")
	mustExec(t, tx, "SELECT * FROM tenancy_tenants WHERE id = '"+tenantID+"' FOR UPDATE")
	return tx
}

// whenWaiting returns when a transaction in the database waits for a lock. The server renews what
// it says about transactions when nobody has asked for 0.1 s.
func whenWaiting(t *testing.T, db *sql.DB) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(150 * time.Millisecond) {
		var n int
		err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM information_schema.innodb_trx AS x
			JOIN information_schema.processlist AS p ON p.id = x.trx_mysql_thread_id
			WHERE x.trx_state = 'LOCK WAIT' AND p.db = database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no transaction waits for a lock within 20 s")
		}
	}
}

func TestAWriteThatMariaDBUndoesInADeadlockIsRepeated(t *testing.T) {
	t.Parallel()
	e := engines()[2]
	old := json.RawMessage(`"old"`)
	for name, write := range map[string]func(s *sqlstore.Store, before tenancy.Tenant) error{
		"Update": func(s *sqlstore.Store, before tenancy.Tenant) error {
			before.Name = "after"
			after, err := s.Update(t.Context(), before, tenancy.Event{ID: "e-1", Type: tenancy.TenantUpdated, TenantID: before.ID})
			if err == nil && (after.Revision != before.Revision+1 || after.Name != "after") {
				return fmt.Errorf("the tenant is %+v", after)
			}
			return err
		},
		"SaveConfig": func(s *sqlstore.Store, before tenancy.Tenant) error {
			var got json.RawMessage
			err := s.SaveConfig(t.Context(), before.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				got = own["key"]
				return tenancy.ConfigWrite{
					Values: map[string]json.RawMessage{"key": json.RawMessage(`"new"`)},
					Events: []tenancy.Event{{
						ID: "e-1", Type: tenancy.TenantConfigChanged, TenantID: before.ID,
						Config: &tenancy.ConfigChange{Key: "key", Old: got, New: json.RawMessage(`"new"`)},
					}},
				}, nil
			})
			if err == nil && string(got) != string(old) {
				return fmt.Errorf("the former value is %s", got)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, db := migrated(t, e)
			before, err := store.Create(t.Context(), anyTenant)
			if err != nil {
				t.Fatal(err)
			}
			err = store.SaveConfig(t.Context(), before.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"key": old}}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			tx := heavy(t, db, before.ID)
			mustExec(t, tx, "SELECT * FROM tenancy_config FOR UPDATE")
			wrote := make(chan error, 1)
			go func() { wrote <- write(store, before) }()
			whenWaiting(t, db)
			// The write holds the revision and waits for the tenant, whose row we hold.
			mustExec(t, tx, "SELECT * FROM tenancy_meta FOR UPDATE")
			if deadlocks := status(t, db, "Innodb_deadlocks"); deadlocks == 0 {
				t.Error("there was no deadlock, so this test shows nothing")
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if changes, err := store.Changes(t.Context(), 2); err != nil || changes.Revision != 3 || len(changes.Tenants) != 1 {
				t.Errorf("Changes: %+v, %v; want one at revision 3", changes, err)
			}
			if events, err := store.ReadEvents(t.Context(), tenancy.Position{}, "", 10); err != nil || len(events) != 1 {
				t.Errorf("the events are %v, %v; want one", events, err)
			}
		})
	}
}

func status(t *testing.T, db *sql.DB, name string) (n int) {
	t.Helper()
	var unused string
	if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&unused, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAWriteThatWaitsTooLongOnMariaDBIsAConflictAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server := servers.MariaDB(t)
	database := server.CreateDatabase(t)
	db := open(t, "mysql", server.DSN(database))
	store := newStore(t, open(t, "mysql", server.DSN(database)+"?innodb_lock_wait_timeout=1"), sqlstore.Config{Dialect: sqlstore.MariaDB})
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := store.Create(t.Context(), anyTenant)
	if err != nil {
		t.Fatal(err)
	}
	tx := heavy(t, db, before.ID)
	changed := before
	changed.Slug = "other"
	_, err = store.Update(t.Context(), changed, tenancy.Event{ID: "e-1", Type: tenancy.TenantUpdated, TenantID: before.ID})
	if refused, ok := errors.AsType[*mysql.MySQLError](err); !errors.Is(err, tenancy.ErrConflict) || !ok || refused.Number != 1205 {
		t.Errorf("Update: %v; want ErrConflict because of error 1205", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil || got.Revision != before.Revision {
		t.Errorf("Lookup: %+v, %v; want the tenant as it was", got, err)
	}
	if _, err := store.Lookup(t.Context(), tenancy.BySlug("other")); !errors.Is(err, tenancy.ErrNotFound) {
		t.Errorf("Lookup of the new name: %v; want ErrNotFound", err)
	}
	if changes, err := store.Changes(t.Context(), 1); err != nil || changes.Revision != 1 || len(changes.Tenants) > 0 {
		t.Errorf("Changes: %+v, %v; want none", changes, err)
	}
	if events, err := store.ReadEvents(t.Context(), tenancy.Position{}, "", 10); err != nil || len(events) > 0 {
		t.Errorf("the events are %v, %v; want none", events, err)
	}
	if _, err := store.Update(t.Context(), changed); err != nil {
		t.Errorf("a second try: %v", err)
	}
}

func TestMariaDBNeedsNoMoreThanTheDocumentedGrants(t *testing.T) {
	t.Parallel()
	server := servers.MariaDB(t)
	database := server.CreateDatabase(t)
	ctx, cfg := t.Context(), sqlstore.Config{Dialect: sqlstore.MariaDB}
	owner, password := server.CreateUser(t, "CREATE, ALTER, INDEX, REFERENCES, SELECT, INSERT ON "+database+".*")
	if err := newStore(t, open(t, "mysql", server.DSNFor(owner, password, database)), cfg).Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	user, password := server.CreateUser(t, "SELECT, INSERT, UPDATE, DELETE ON "+database+".*")
	store := newStore(t, open(t, "mysql", server.DSNFor(user, password, database)), cfg)
	if err := store.Migrate(ctx); err != nil { // nothing to do, so nothing more is needed
		t.Fatal(err)
	}
	for name, err := range calls(ctx, store) {
		if err != nil && name != "Lookup" && name != "Member" && name != "Update" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
