package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// fileShop is as the verifier wants it.
var fileShop = []string{
	`CREATE TABLE customers (tenant_id text NOT NULL, id text NOT NULL, email text, PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email))`,
	`CREATE TABLE orders (tenant_id varchar(128) NOT NULL, id integer NOT NULL, customer_id text, follows integer, PRIMARY KEY (tenant_id, id),
		FOREIGN KEY (tenant_id, customer_id) REFERENCES customers ON DELETE CASCADE, FOREIGN KEY (tenant_id, follows) REFERENCES Orders (tenant_id, id))`,
	`CREATE TABLE accounts (org text PRIMARY KEY, balance integer) WITHOUT ROWID`,
	`CREATE INDEX orders_customer ON orders (customer_id)`,
	`CREATE TABLE countries (code text PRIMARY KEY)`,
	`CREATE VIEW country_names AS SELECT code FROM countries`,
}

// openFileShop opens the shop's file, past all tenants, and a handle on it by a driver.
func openFileShop(t *testing.T, name string) (*sql.DB, *isolation.DB) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tenants")
	config := isolation.Config{
		Servers: map[string]isolation.Server{"files": isolation.SQLite{
			Dir: dir, Driver: name, Options: url.Values{"_pragma": {"busy_timeout(5000)", "foreign_keys(1)"}},
			Rows: &isolation.SQLiteRows{
				Tables: map[string]string{"customers": "", "orders": "", "accounts": "org"}, Shared: []string{"countries", "country_names"},
			},
		}},
		Strategy: tenancy.StrategyRowLevel,
	}
	quiet(&config)
	p, err := isolation.NewProvisioner(config, statements(fileShop))
	must(t, err)
	_, err = p.Setup(t.Context())
	must(t, err)
	db, err := isolation.Open(config)
	must(t, err)
	admin, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "shared.sqlite")+"?mode=rw&_pragma=busy_timeout(5000)")
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(db.Close(), admin.Close())) })
	return admin, db
}

// statements is a Migrator of several.
type statements []string

func (m statements) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	for _, statement := range m {
		if _, err := target.DB.ExecContext(ctx, statement); err != nil {
			return 0, fmt.Errorf("%w in %s", err, statement)
		}
	}
	return 1, nil
}

func (statements) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// foundBy returns the findings as "kind object", one a line.
func foundBy(t *testing.T, db *isolation.DB) string {
	t.Helper()
	report, err := db.Verify(t.Context())
	must(t, err)
	var all []string
	for _, f := range report.Findings {
		if f.Detail == "" || f.Remedy == "" {
			t.Errorf("a finding says nothing: %+v", f)
		}
		all = append(all, f.Kind+" "+f.Object)
	}
	return strings.Join(all, "\n")
}

func TestVerifyFindsEachFaultOfRowsOnSQLite(t *testing.T) {
	t.Parallel()
	admin, db := openFileShop(t, "sqlite")
	if got := foundBy(t, db); got != "" {
		t.Fatalf("on the shop's own schema:\n%s", got)
	}
	guide, err := os.ReadFile("../../../docs/ADOPTION.md")
	must(t, err)
	const accounts = "DROP TABLE accounts;CREATE TABLE accounts (org text PRIMARY KEY, balance integer) WITHOUT ROWID"
	for _, c := range []struct{ want, plant, repair string }{
		{"table-unlisted table fresh", "CREATE TABLE fresh (id int)", "DROP TABLE fresh"},
		{"table-unlisted view fresh", "CREATE VIEW fresh AS SELECT 1", "DROP VIEW fresh"},
		{
			"not-walled every connection\ntable-missing table accounts", "ALTER TABLE accounts RENAME TO countries_old;DROP TABLE countries_old",
			"CREATE TABLE accounts (org text PRIMARY KEY, balance integer) WITHOUT ROWID",
		},
		{
			"not-walled every connection\ntable-kind table accounts\ntable-unlisted table accounts_node\n" +
				"table-unlisted table accounts_parent\ntable-unlisted table accounts_rowid",
			"DROP TABLE accounts;CREATE VIRTUAL TABLE accounts USING rtree(id, a, b)", accounts,
		},
		{
			"tenant-column table accounts\nunique-key index sqlite_autoindex_accounts_1 on accounts",
			"ALTER TABLE accounts RENAME org TO owner", "ALTER TABLE accounts RENAME owner TO org",
		},
		{
			"tenant-column table accounts", "DROP TABLE accounts;CREATE TABLE accounts (org text, id int, PRIMARY KEY (org, id))", accounts,
		},
		{"tenant-column table accounts", "DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL COLLATE NOCASE)", accounts},
		{"tenant-column table accounts", "DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL COLLATE RTRIM, PRIMARY KEY (org)) WITHOUT ROWID", accounts},
		{"tenant-column table accounts", "DROP TABLE accounts;CREATE TABLE accounts (org bigint NOT NULL)", accounts},
		{"tenant-column table accounts", "DROP TABLE accounts;CREATE TABLE accounts (org uuid NOT NULL)", accounts},
		{"unique-key primary key on accounts", "DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, id integer PRIMARY KEY)", accounts},
		{
			"unique-key index sqlite_autoindex_accounts_1 on accounts",
			"DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, id text PRIMARY KEY)", accounts,
		},
		{"unique-key index leak on customers", "CREATE UNIQUE INDEX leak ON customers (email)", "DROP INDEX leak"},
		{"unique-key index leak on customers", "CREATE UNIQUE INDEX leak ON customers (lower(email)) WHERE email <> ''", "DROP INDEX leak"},
		{
			"foreign-key foreign key (owner) on accounts",
			"DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, owner text REFERENCES CUSTOMERS (id))", accounts,
		},
		{
			"foreign-key foreign key (org, owner) on accounts", // the tenant, but to another column
			"DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, owner text, FOREIGN KEY (org, owner) REFERENCES customers (id, tenant_id))", accounts,
		},
		{
			"cascade foreign key (owner) on accounts",
			"DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, owner text REFERENCES customers (id) ON DELETE CASCADE)", accounts,
		},
		{
			"cascade foreign key (owner) on accounts",
			"DROP TABLE accounts;CREATE TABLE accounts (org text NOT NULL, owner text REFERENCES customers (id) ON UPDATE SET NULL)", accounts,
		},
		{
			"foreign-key foreign key (code) on countries",
			"DROP TABLE countries;CREATE TABLE countries (code text PRIMARY KEY REFERENCES customers (id))", "DROP TABLE countries;CREATE TABLE countries (code text PRIMARY KEY)",
		},
		{
			"view view country_names", "DROP VIEW country_names;CREATE VIEW country_names AS SELECT code FROM countries UNION SELECT email FROM customers",
			"DROP VIEW country_names;CREATE VIEW country_names AS SELECT code FROM countries",
		},
		{
			"view view country_names", // by way of an index
			"DROP VIEW country_names;CREATE VIEW country_names AS SELECT customer_id FROM orders WHERE customer_id > ''",
			"DROP VIEW country_names;CREATE VIEW country_names AS SELECT code FROM countries",
		},
		{
			"trigger trigger leak on orders",
			"CREATE TRIGGER leak AFTER INSERT ON orders BEGIN UPDATE orders SET customer_id = (SELECT max(email) FROM customers) WHERE id = NEW.id; END",
			"DROP TRIGGER leak",
		},
	} {
		kind, _, _ := strings.Cut(c.want, " ")
		if !strings.Contains(string(guide), "| `"+kind+"` |") {
			t.Errorf("ADOPTION.md does not explain %s", kind)
		}
		run := func(script string) {
			t.Helper()
			conn, err := admin.Conn(t.Context())
			must(t, err)
			defer conn.Close()
			parts := []string{script}
			if !strings.Contains(script, "BEGIN") {
				parts = strings.Split(script, ";")
			}
			for _, statement := range parts {
				if _, err := conn.ExecContext(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
		}
		run(c.plant)
		if got := foundBy(t, db); got != c.want {
			t.Errorf("%s\nfound:\n%s", c.want, got)
		}
		run(c.repair)
		if got := foundBy(t, db); got != "" {
			t.Fatalf("%s: after the repair:\n%s", c.want, got)
		}
	}
}

// lax is a driver whose connections do not do all that they are told.
type lax struct {
	sqlite.Driver
	change func(statement string) string
}

func (d *lax) Open(name string) (driver.Conn, error) {
	c, err := d.Driver.Open(name)
	if err != nil {
		return nil, err
	}
	return laxConn{c.(laxInner), d.change}, nil
}

type laxInner interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnBeginTx
}

type laxConn struct {
	laxInner
	change func(statement string) string
}

func (c laxConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.laxInner.ExecContext(ctx, c.change(query), args)
}

func TestVerifyLooksAtTheConnectionsOnSQLite(t *testing.T) {
	for want, change := range map[string]func(statement string) string{
		"trigger-missing trigger tenancy_delete_1": func(statement string) string {
			if strings.Contains(statement, "tenancy_delete_1 ") {
				return "SELECT 1"
			}
			return statement
		},
		"trigger-changed trigger tenancy_insert_0": func(statement string) string { // as another version made it
			return strings.Replace(statement, "TRIGGER tenancy_insert_0 BEFORE INSERT", "TRIGGER tenancy_insert_0 AFTER INSERT", 1)
		},
		"setting pragma recursive_triggers": func(statement string) string {
			return strings.Replace(statement, "recursive_triggers = ON", "recursive_triggers = OFF", 1)
		},
		"setting pragma foreign_keys": func(statement string) string {
			return strings.Replace(statement, "recursive_triggers = ON", "foreign_keys = OFF; PRAGMA recursive_triggers = ON", 1)
		},
	} {
		name := "lax " + want
		sql.Register(name, &lax{change: change})
		_, db := openFileShop(t, name)
		if got := foundBy(t, db); got != want {
			t.Errorf("%s\nfound:\n%s", want, got)
		}
	}
}

func TestBaselineOfRowsOnSQLite(t *testing.T) {
	t.Parallel()
	admin, db := openFileShop(t, "sqlite")
	_, err := admin.ExecContext(t.Context(), "CREATE UNIQUE INDEX logins ON customers (email)")
	must(t, err)
	report, err := db.Verify(t.Context())
	must(t, err)
	baseline, err := isolation.ReadBaseline(strings.NewReader(report.Baseline("logins are global").String()))
	must(t, err)
	if fresh, gone := report.Against(baseline); len(baseline) != 1 || len(fresh)+len(gone) != 0 {
		t.Errorf("%v: fresh %v, gone %v", baseline, fresh, gone)
	}
}

// TestR17IdsAreComparedByteByByteOnSQLite: a column's collation does not let a tenant write as another.
func TestR17IdsAreComparedByteByByteOnSQLite(t *testing.T) {
	t.Parallel()
	c := openSQLiteRows(t)
	p := provisionerOf(t, c)
	upper := provision(t, p, tenant("ACME"))
	_, err := c.admin.ExecContext(t.Context(), "DROP TABLE notes")
	must(t, err)
	_, err = c.admin.ExecContext(t.Context(), "CREATE TABLE notes (id integer PRIMARY KEY, tenant_id text NOT NULL COLLATE NOCASE, body text NOT NULL)")
	must(t, err)
	_, err = c.admin.ExecContext(t.Context(), "INSERT INTO notes (tenant_id, body) VALUES ('acme', 'of acme')")
	must(t, err)
	for _, query := range []string{
		"INSERT INTO notes (tenant_id, body) VALUES ('acme', 'planted')", "UPDATE notes SET body = 'taken'", "DELETE FROM notes",
		"UPDATE notes SET tenant_id = 'ACME'",
	} {
		if _, err := c.db.ExecContext(isolation.UnsafeFiltered(upper, query), query); err == nil || !strings.Contains(err.Error(), "not the tenant's") {
			t.Errorf("%s as tenant ACME: %v", query, err)
		}
	}
	if got := left(t, c, placed(t, c.acme)); len(got) != 1 || got[0] != "of acme" {
		t.Errorf("acme has %q", got)
	}
	// Reads are the filter's, so the file is refused.
	if err := c.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "collation NOCASE") {
		t.Errorf("Check: %v", err)
	}
	_, err = p.Setup(t.Context())
	if err == nil || !strings.Contains(err.Error(), "collation NOCASE") {
		t.Errorf("Setup: %v", err)
	}
}
