package isolation_test

import (
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lexigram.dev/tenancy/internal/integration/servers"
)

// client runs a program of PostgreSQL's, which come with the server.
func client(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	path := servers.Program(t, program, "postgresql-client")
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s := openChain(t)
	for _, id := range []string{acmeID, globexID} {
		for _, statement := range []string{
			"INSERT INTO customers (email, credit) VALUES ('one@example.com', 1.5), ('two@example.com', NULL)",
			"INSERT INTO orders (customer_id) SELECT id FROM customers",
			"INSERT INTO order_lines SELECT id, 1, 'tea' FROM orders",
			"INSERT INTO events (at, what) VALUES ('2026-05-01', 'x')",
		} {
			_, err := s.exec(t, id, statement)
			must(t, err)
		}
	}
	s.run(t, s.admin, "INSERT INTO countries VALUES ('de');\nINSERT INTO goose_db_version VALUES (7)")
	file := filepath.Join(t.TempDir(), "shop.dump")
	system := s.pg.URLFor(s.rls.Roles.System, "s", s.name)

	for login, url := range map[string]string{
		"the owner":        s.pg.URLFor(s.rls.Roles.Migrator, "m", s.name),
		"the system login": system,
	} {
		out, err := client(t, "pg_dump", "--file="+file, url)
		if err == nil || !strings.Contains(out, "row-level security") {
			t.Errorf("pg_dump as %s without --enable-row-security: %v\n%s", login, err, out)
		}
	}
	// The owner would dump nothing, if unbound access were no rows instead of an error.
	if out, err := client(t, "pg_dump", "--enable-row-security", "--file="+file, s.pg.URLFor(s.rls.Roles.Migrator, "m", s.name)); err == nil ||
		!strings.Contains(out, "no tenant is bound") {
		t.Errorf("pg_dump as the owner with --enable-row-security: %v\n%s", err, out)
	}
	if out, err := client(t, "pg_dump", "--enable-row-security", "--format=custom", "--file="+file, system); err != nil {
		t.Fatalf("pg_dump as the system login: %v\n%s", err, out)
	}
	restored := *s
	restored.name = s.pg.CreateDatabase(t)
	if out, err := client(t, "pg_restore", "--exit-on-error", "--dbname="+s.pg.URL(restored.name), file); err != nil {
		t.Fatalf("pg_restore: %v\n%s", err, out)
	}
	for role, db := range map[string]**sql.DB{"": &restored.admin, "_app": &restored.app, "_migrator": &restored.migrator} {
		url := s.pg.URL(restored.name)
		if role != "" {
			url = s.pg.URLFor(s.name+role, role[1:2], restored.name)
		}
		var err error
		*db, err = sql.Open("pgx", url)
		must(t, err)
		defer (*db).Close()
	}
	for _, table := range []string{"customers", "orders", "order_lines", `"deep ""er".lines`, "tenancy_p1", "events", "countries", "goose_db_version"} {
		if before, after := contents(t, s.admin, table), contents(t, restored.admin, table); before != after || before == "" {
			t.Errorf("%s: was\n%s\nis\n%s", table, before, after)
		}
	}
	if got := restored.found(t, restored.app); got != "" {
		t.Errorf("the verifier found in what was restored:\n%s", got)
	}
	if n := restored.count(t, acmeID, "customers"); n != 2 {
		t.Errorf("acme has %d of 2 customers", n)
	}
	if _, err := restored.exec(t, acmeID, "INSERT INTO orders DEFAULT VALUES"); err != nil {
		t.Errorf("the next order: %v", err) // its number does not repeat
	}
	if _, err := restored.app.Exec("SELECT * FROM orders"); state(err) != "42501" {
		t.Errorf("unbound: %v", err)
	}
}

func contents(t *testing.T, db *sql.DB, table string) (all string) {
	t.Helper()
	must(t, db.QueryRow(fmt.Sprintf("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM %s t", table)).Scan(&all))
	return all
}
