package isolation_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// Tenants of the shop.
const (
	acmeID   = "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d"
	globexID = "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2e"
)

// as runs fn in a transaction that is bound as a tenant, and rolls back when it fails.
func (s *shop) as(t *testing.T, db *sql.DB, id string, fn func(tx *sql.Tx) error) error {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	_, err = tx.Exec("SELECT set_config('app.tenant_id', $1, true)", id)
	must(t, err)
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// exec runs one statement as a tenant and returns the number of rows.
func (s *shop) exec(t *testing.T, id, statement string) (rows int64, err error) {
	t.Helper()
	err = s.as(t, s.app, id, func(tx *sql.Tx) error {
		result, err := tx.Exec(statement)
		if err != nil {
			return err
		}
		rows, err = result.RowsAffected()
		return err
	})
	return rows, err
}

// count counts a table's rows as a tenant sees them.
func (s *shop) count(t *testing.T, id, table string) int64 {
	t.Helper()
	n, err := s.exec(t, id, "SELECT FROM "+table)
	must(t, err)
	return n
}

// state returns the SQLSTATE of an error.
func state(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return fmt.Sprint(err)
}

// openChain is a shop with tables two references away from the tenant's id.
func openChain(t *testing.T) *shop {
	t.Helper()
	s := openShop(t)
	s.run(t, s.migrator, `CREATE SCHEMA "deep ""er";
		CREATE TABLE "deep ""er".lines (id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, "Order Id" bigint NOT NULL REFERENCES orders (id),
			PRIMARY KEY ("Order Id", id));
		CREATE TABLE tenancy_p1 (line_id bigint NOT NULL REFERENCES "deep ""er".lines (id) ON DELETE CASCADE, "Order Id" int, text text)`)
	s.rls.Tables = append(
		s.rls.Tables,
		isolation.Table{Schema: `deep "er`, Name: "lines", Via: &isolation.Via{Column: "Order Id", Parent: "orders"}},
		isolation.Table{Name: "tenancy_p1", Via: &isolation.Via{Column: "line_id", Schema: `deep "er`, Parent: "lines"}},
	)
	must(t, s.rls.Apply(t.Context(), s.migrator))
	for _, id := range []string{acmeID, globexID} {
		must(t, s.as(t, s.app, id, func(tx *sql.Tx) error {
			_, err := tx.Exec(`WITH o AS (SELECT 1) INSERT INTO orders DEFAULT VALUES`)
			must(t, err)
			_, err = tx.Exec(`INSERT INTO "deep ""er".lines ("Order Id") SELECT id FROM orders`)
			must(t, err)
			_, err = tx.Exec(`INSERT INTO tenancy_p1 (line_id, "Order Id", text) SELECT id, 0, 'mine' FROM "deep ""er".lines`)
			return err
		}))
	}
	return s
}

func TestRLSVia(t *testing.T) {
	t.Parallel()
	s := openChain(t)
	if got := s.found(t, s.app); got != "index-unused" && got != "" {
		t.Errorf("the verifier found:\n%s", got)
	}
	held := func() {
		t.Helper()
		for _, table := range []string{"orders", `"deep ""er".lines`, "tenancy_p1"} {
			if n := s.count(t, acmeID, table); table != "orders" && n != 1 {
				t.Errorf("acme sees %d rows of %s", n, table)
			}
			_, err := s.app.Exec("UPDATE " + table + " SET " + map[bool]string{true: "text = 'x'", false: "id = DEFAULT"}[table == "tenancy_p1"])
			if state(err) != "42501" || !strings.Contains(err.Error(), "no tenant is bound") {
				t.Errorf("%s, unbound: %v", table, err)
			}
		}
		for _, statement := range []string{
			`INSERT INTO "deep ""er".lines ("Order Id") VALUES (2)`,
			`UPDATE "deep ""er".lines SET "Order Id" = 2`,
			`INSERT INTO tenancy_p1 VALUES (2)`,
			`UPDATE tenancy_p1 SET line_id = 2`,
		} {
			if _, err := s.exec(t, acmeID, statement); state(err) != "42501" {
				t.Errorf("%s: %v", statement, err)
			}
		}
		for _, statement := range []string{
			`DELETE FROM tenancy_p1 WHERE line_id = 2`,
			`UPDATE tenancy_p1 SET text = 'stolen' WHERE line_id = 2`,
			`DELETE FROM "deep ""er".lines WHERE id = 2`,
		} {
			if n, err := s.exec(t, acmeID, statement); n != 0 || err != nil {
				t.Errorf("%s: %d rows, %v", statement, n, err)
			}
		}
	}
	held()
	// Children are held also while their parents are not.
	s.run(t, s.admin, `ALTER TABLE orders DISABLE ROW LEVEL SECURITY;`+"\n"+`ALTER TABLE "deep ""er".lines DISABLE ROW LEVEL SECURITY`)
	for statement, want := range map[string]string{
		`INSERT INTO tenancy_p1 VALUES (2)`: "42501", `UPDATE tenancy_p1 SET line_id = 2`: "42501", `SELECT FROM tenancy_p1`: "1",
	} {
		n, err := s.exec(t, acmeID, statement)
		if got := state(err); got != want && fmt.Sprint(n) != want {
			t.Errorf("behind an open parent, %s: %d rows, %v", statement, n, err)
		}
	}
	must(t, s.rls.Apply(t.Context(), s.migrator))
	held()
	system, err := sql.Open("pgx", s.pg.URLFor(s.rls.Roles.System, "s", s.name))
	must(t, err)
	defer system.Close()
	var n int
	must(t, system.QueryRow("SELECT count(*) FROM tenancy_p1").Scan(&n))
	if n != 2 {
		t.Errorf("the system sees %d of 2 rows", n)
	}
}

func TestRLSViaIsDeprovisioned(t *testing.T) {
	t.Parallel()
	s := openChain(t)
	s.rls.Tables = slices.DeleteFunc(s.rls.Tables, func(t isolation.Table) bool { return t.Type == "bigint" }) // no id is a uuid and a number
	connector := pipelined(t)
	p, err := isolation.NewProvisioner(isolation.Config{Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
		App: connector(s.pg.URLFor(s.rls.Roles.App, "a", s.name)), RLS: &s.rls,
	}}}, nil)
	must(t, err)
	ctx := provision(t, p, tenant(acmeID))
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	must(t, p.Deprovision(t.Context(), *scope.Tenant))
	for _, table := range []string{"orders", `"deep ""er".lines`, "tenancy_p1"} {
		if n := s.count(t, acmeID, table); n != 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
		if n := s.count(t, globexID, table); n != 1 {
			t.Errorf("globex has %d rows of %s", n, table)
		}
	}
}

func TestRLSTenantMustBeOfTheColumnsType(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run(t, s.migrator, "CREATE TABLE short (tenant_id varchar(3) PRIMARY KEY);\nCREATE TABLE small (tenant_id smallint PRIMARY KEY)")
	s.rls.Tables = append(s.rls.Tables, isolation.Table{Name: "short", Type: "varchar(3)"}, isolation.Table{Name: "small", Type: "smallint"})
	must(t, s.rls.Apply(t.Context(), s.migrator))
	for _, insert := range []struct{ id, statement string }{
		{acmeID, "INSERT INTO customers (email) VALUES ('a')"},
		{"7", "INSERT INTO sales.accounts (id) VALUES (1)"},
		{"acm", "INSERT INTO short DEFAULT VALUES"},
		{"7", "INSERT INTO small DEFAULT VALUES"},
	} {
		n, err := s.exec(t, insert.id, insert.statement)
		if n != 1 || err != nil {
			t.Fatalf("%s as %q: %v", insert.statement, insert.id, err)
		}
	}
	for table, ids := range map[string][]string{
		"customers": {
			"acme", strings.ToUpper(acmeID), "{" + acmeID + "}", strings.ReplaceAll(acmeID, "-", ""), acmeID + "\n", " " + acmeID, acmeID[:35], "7",
		},
		"sales.accounts": {"acme", "007", "+7", " 7", "7 ", "7\n", "7.0", "7e0", "0x7", "0b111", "7_0", "-7", acmeID, "٧", "9223372036854775808"},
		"small":          {"32768", "07", "x"},
	} {
		for _, id := range ids {
			for _, statement := range []string{"SELECT FROM %t", "DELETE FROM %t", "UPDATE %t SET %c = %c", "INSERT INTO %t (%c) VALUES (DEFAULT)"} {
				column := map[string]string{"customers": "tenant_id", "sales.accounts": "org_id", "small": "tenant_id"}[table]
				statement = strings.NewReplacer("%t", table, "%c", column).Replace(statement)
				n, err := s.exec(t, id, statement)
				outside := state(err) == "22003" && len(id) > 4 // out of range, says PostgreSQL
				told := state(err) == "22P02" && strings.Contains(err.Error(), "is no")
				if n != 0 || !outside && !told {
					t.Errorf("%s as %q: %d rows, %v", statement, id, n, err)
				}
			}
		}
	}
	if n := s.count(t, "acme", "short"); n != 0 {
		t.Error("an id was cut to the column's length: acme is not acm")
	}
	if _, err := s.exec(t, "acme", "INSERT INTO short DEFAULT VALUES"); state(err) != "22001" {
		t.Errorf("an id that does not fit: %v", err)
	}
}

func TestApplyChangesNothingThatStands(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	policies := func() string {
		var all string
		must(t, s.admin.QueryRow(`SELECT string_agg(polrelid::regclass || ' ' || polname || ' ' || oid, ', ' ORDER BY 1) FROM
			(SELECT * FROM pg_policy ORDER BY oid) p`).Scan(&all))
		return all
	}
	before := policies()
	tx, err := s.admin.Begin()
	must(t, err)
	defer func() { _ = tx.Rollback() }() // it holds locks only
	for _, table := range []string{"customers", "orders", "order_lines", "sales.accounts", "events", "countries", "goose_db_version"} {
		_, err := tx.Exec("LOCK TABLE " + table + " IN EXCLUSIVE MODE") // all but reading
		must(t, err)
	}
	_, err = tx.Exec("SELECT pg_advisory_xact_lock(7274496)")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.rls.Apply(t.Context(), s.migrator) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("Apply waits for a lock, though the wall stands")
	}
	must(t, tx.Rollback())
	if after := policies(); after != before {
		t.Errorf("the policies were\n%s and are\n%s", before, after)
	}
	// What is missing at one table is mended there only.
	s.run(t, s.migrator, "DROP POLICY tenancy_tenant ON orders;\nREVOKE SELECT ON countries FROM %app%;\nREVOKE USAGE ON SCHEMA sales FROM %app%")
	tx, err = s.admin.Begin()
	must(t, err)
	_, err = tx.Exec("LOCK TABLE customers, order_lines, sales.accounts, events IN EXCLUSIVE MODE")
	must(t, err)
	must(t, s.rls.Apply(t.Context(), s.migrator))
	must(t, tx.Rollback())
	if got := s.found(t, s.app); got != "" {
		t.Errorf("found:\n%s", got)
	}
	if _, err := s.exec(t, acmeID, "SELECT FROM countries"); err != nil {
		t.Error(err)
	}
}

func TestApplyRepeatsWhenATableIsLocked(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run(t, s.migrator, "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY")
	tx, err := s.admin.Begin()
	must(t, err)
	_, err = tx.Exec("LOCK TABLE orders IN ACCESS SHARE MODE")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.rls.Apply(t.Context(), s.migrator) }()
	waits := func() (n int) {
		must(t, s.admin.QueryRow("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass").Scan(&n))
		return n
	}
	eventually(t, "Apply waits for the table", func() bool { return waits() > 0 })
	eventually(t, "Apply lets others pass", func() bool { return waits() == 0 })
	select {
	case err := <-done:
		t.Fatalf("Apply ended at a locked table: %v", err)
	default:
	}
	must(t, tx.Rollback())
	must(t, <-done)
	if got := s.found(t, s.app); got != "" {
		t.Errorf("found:\n%s", got)
	}
}

func TestDownUndoesUp(t *testing.T) {
	t.Parallel()
	s := openChain(t)
	s.rls.Roles.Legacy = s.rls.Roles.Migrator
	must(t, s.rls.Apply(t.Context(), s.migrator))
	down, err := s.rls.Down()
	must(t, err)
	s.run(t, s.migrator, strings.TrimSuffix(strings.TrimSpace(down), ";"))
	var left string
	must(t, s.admin.QueryRow(`SELECT concat_ws(', ', (SELECT string_agg(polname, ' ') FROM pg_policy),
		(SELECT string_agg(relname, ' ') FROM pg_class WHERE relrowsecurity OR relforcerowsecurity),
		(SELECT string_agg(proname, ' ') FROM pg_proc WHERE proname LIKE 'tenancy%'),
		(SELECT string_agg(pg_get_expr(adbin, adrelid), ' ') FROM pg_attrdef WHERE pg_get_expr(adbin, adrelid) LIKE '%tenancy%'),
		(SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind IN ('i', 'I') AND relname LIKE 'tenancy\_%\_id'))`).Scan(&left))
	if left != "" {
		t.Errorf("left: %s", left)
	}
	var n int
	must(t, s.migrator.QueryRow("SELECT count(*) FROM tenancy_p1").Scan(&n))
	if n != 2 {
		t.Errorf("%d of 2 rows are left", n)
	}
	s.rls.Roles.Legacy = ""
	up, err := s.rls.Up() // as text, and again
	must(t, err)
	for range 2 {
		_, err = s.migrator.Exec(up)
		must(t, err)
	}
	if got := s.found(t, s.app); got != "" {
		t.Errorf("found:\n%s", got)
	}
}

func TestR18UnboundWorkOfTheOwnerFails(t *testing.T) {
	t.Parallel()
	s := openChain(t)
	for _, statement := range []string{
		"UPDATE orders SET customer_id = NULL", "DELETE FROM orders", "SELECT * FROM orders", "SELECT count(*) FROM orders",
		"INSERT INTO orders DEFAULT VALUES", "INSERT INTO orders (tenant_id) VALUES ('" + acmeID + "')",
		"UPDATE tenancy_p1 SET text = 'x'", "SELECT * FROM tenancy_p1", "INSERT INTO tenancy_p1 VALUES (1)",
		"CREATE TABLE copy AS SELECT * FROM orders", "COPY orders TO STDOUT",
	} {
		for _, db := range []*sql.DB{s.migrator, s.app} {
			if _, err := db.Exec(statement); state(err) != "42501" {
				t.Errorf("%s: %v", statement, err)
			}
		}
	}
	if n := s.count(t, acmeID, "orders") + s.count(t, globexID, "orders"); n != 2 {
		t.Errorf("%d of 2 orders are left", n)
	}
}
