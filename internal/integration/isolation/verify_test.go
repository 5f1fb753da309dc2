package isolation_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// shop is a database with tables of all kinds behind the wall.
type shop struct {
	rls                  isolation.RLS
	pg                   *servers.PostgresServer
	name                 string
	admin, migrator, app *sql.DB
}

// shopSchema is as the generator and the verifier want it.
const shopSchema = `
CREATE SCHEMA sales;
CREATE TABLE customers (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), email text, credit numeric,
	PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email));
CREATE TABLE orders (tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, customer_id uuid, follows bigint,
	PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer_id) REFERENCES customers ON DELETE CASCADE);
CREATE TABLE order_lines (order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE, line int, product text,
	PRIMARY KEY (order_id, line));
CREATE TABLE sales.accounts (org_id bigint NOT NULL, id int, PRIMARY KEY (org_id, id));
CREATE TABLE events (tenant_id uuid NOT NULL, at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE countries (code text PRIMARY KEY);
CREATE TABLE goose_db_version (id int)`

func openShop(t *testing.T) *shop {
	t.Helper()
	return openShopOn(t, servers.Postgres(t))
}

func openShopOn(t *testing.T, pg *servers.PostgresServer) *shop {
	t.Helper()
	s := &shop{pg: pg, name: pg.CreateDatabase(t)}
	open := func(url string) *sql.DB {
		db, err := sql.Open("pgx", url)
		must(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	s.admin = open(pg.URL(s.name))
	roles := isolation.Roles{App: s.name + "_app", System: s.name + "_system", Migrator: s.name + "_migrator"}
	must(t, roles.Create(t.Context(), s.admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
	t.Cleanup(func() { s.dropRoles(t, roles.App, roles.System, roles.Migrator) })
	s.run(t, s.admin, "GRANT CREATE ON DATABASE "+s.name+" TO "+roles.Migrator)
	s.migrator = open(pg.URLFor(roles.Migrator, "m", s.name))
	s.app = open(pg.URLFor(roles.App, "a", s.name))
	s.run(t, s.migrator, shopSchema)
	s.rls = isolation.RLS{
		Roles: roles,
		Tables: []isolation.Table{
			{Name: "customers", Type: "uuid"},
			{Name: "orders", Type: "uuid"},
			{Name: "order_lines", Via: &isolation.Via{Column: "order_id", Parent: "orders"}},
			{Schema: "sales", Name: "accounts", Column: "org_id", Type: "bigint"},
			{Name: "events", Type: "uuid"},
		},
		Shared:  []string{"countries"},
		Private: []string{"public.goose_db_version"},
	}
	must(t, s.rls.Apply(t.Context(), s.migrator))
	return s
}

func (s *shop) dropRoles(t *testing.T, names ...string) {
	for _, role := range names {
		_, err := s.admin.ExecContext(context.Background(), fmt.Sprintf(`DROP OWNED BY "%[1]s" CASCADE`, role))
		if err == nil {
			_, err = s.admin.ExecContext(context.Background(), fmt.Sprintf(`DROP ROLE "%s"`, role))
		}
		if err != nil {
			t.Logf("drop role: %v", err)
		}
	}
}

// run runs statements, with the roles' names put in.
func (s *shop) run(t *testing.T, db *sql.DB, script string) {
	t.Helper()
	for _, statement := range strings.Split(s.named(script), ";\n") {
		if statement == "APPLY" {
			must(t, s.rls.Apply(t.Context(), s.migrator))
		} else if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (s *shop) named(text string) string {
	r := s.rls.Roles
	return strings.NewReplacer("%app%", r.App, "%system%", r.System, "%migrator%", r.Migrator, "%db%", s.name).Replace(text)
}

// found returns the findings as "kind object", one a line.
func (s *shop) found(t *testing.T, db *sql.DB) string {
	t.Helper()
	report, err := s.rls.Verify(t.Context(), db)
	must(t, err)
	var b strings.Builder
	for _, f := range report.Findings {
		if f.Detail == "" || f.Remedy == "" {
			t.Errorf("a finding says nothing: %+v", f)
		}
		b.WriteString(f.Kind + " " + f.Object + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestVerifyFindsEachFaultAndNothingElse(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	logins := map[string]*sql.DB{"app": s.app, "migrator": s.migrator, "superuser": s.admin}
	for login, db := range logins {
		if got := s.found(t, db); got != "" {
			t.Fatalf("on the generated schema, as %s:\n%s", login, got)
		}
	}
	delete(logins, "superuser")
	guide, err := os.ReadFile("../../../docs/ADOPTION.md")
	must(t, err)
	for _, c := range []struct{ want, plant, repair string }{
		{"role-missing role %app%", "ALTER ROLE %app% RENAME TO %app%_x", "ALTER ROLE %app%_x RENAME TO %app%;\nALTER ROLE %app% PASSWORD 'a'"},
		{"role-superuser role %app%", "ALTER ROLE %app% SUPERUSER", "ALTER ROLE %app% NOSUPERUSER"},
		{"role-bypass role %app%", "ALTER ROLE %app% BYPASSRLS", "ALTER ROLE %app% NOBYPASSRLS"},
		{"role-createrole role %app%", "ALTER ROLE %app% CREATEROLE", "ALTER ROLE %app% NOCREATEROLE"},
		{"role-replication role %app%", "ALTER ROLE %app% REPLICATION", "ALTER ROLE %app% NOREPLICATION"},
		{"role-member role %app%, member of %system%", "GRANT %system% TO %app%", "REVOKE %system% FROM %app%"},
		{
			"role-member role %app%, member of pg_read_server_files",
			"GRANT pg_read_server_files TO %app%", "REVOKE pg_read_server_files FROM %app%",
		},
		{"role-member role %app%, member of pg_read_all_data", "GRANT pg_read_all_data TO %app%", "REVOKE pg_read_all_data FROM %app%"},
		{"owner table public.customers", "ALTER TABLE customers OWNER TO %app%", "ALTER TABLE customers OWNER TO %migrator%;\nAPPLY"},
		{"owner schema sales", "ALTER SCHEMA sales OWNER TO %app%", "ALTER SCHEMA sales OWNER TO %migrator%;\nAPPLY"},
		{"owner database %db%", "ALTER DATABASE %db% OWNER TO %app%", "ALTER DATABASE %db% OWNER TO postgres"},
		{
			"owner function public.tenancy_tenant", "ALTER FUNCTION tenancy_tenant() OWNER TO %app%",
			"ALTER FUNCTION tenancy_tenant() OWNER TO %migrator%",
		},
		{
			"setting setting app.tenant_id of role %app%", "ALTER ROLE %app% SET app.tenant_id = 'acme'",
			"ALTER ROLE %app% RESET app.tenant_id",
		},
		{
			"setting setting app.tenant_id of this database", "ALTER DATABASE %db% SET app.tenant_id = 'acme'",
			"ALTER DATABASE %db% RESET app.tenant_id",
		},
		{
			"table-missing table public.goose_db_version", "DROP TABLE goose_db_version",
			"CREATE TABLE goose_db_version (id int);\nALTER TABLE goose_db_version OWNER TO %migrator%;\nAPPLY",
		},
		{
			"column-missing table sales.accounts", "ALTER TABLE sales.accounts RENAME org_id TO owner",
			"ALTER TABLE sales.accounts RENAME owner TO org_id",
		},
		{"no-enable table public.orders", "ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "APPLY"},
		{"no-force table public.orders", "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY", "APPLY"},
		{"no-policy table public.orders", "DROP POLICY tenancy_tenant ON orders", "APPLY"},
		{
			"no-check policy tenancy_tenant on public.orders",
			"DROP POLICY tenancy_tenant ON orders;\nCREATE POLICY tenancy_tenant ON orders USING (tenant_id = (SELECT tenancy_tenant_uuid()))", "APPLY",
		},
		{
			"policy-changed policy tenancy_tenant on public.orders",
			"ALTER POLICY tenancy_tenant ON orders USING (tenant_id = (SELECT tenancy_tenant_uuid()) OR customer_id IS NULL)", "APPLY",
		},
		{"policy-changed policy tenancy_tenant on public.order_lines", "ALTER POLICY tenancy_tenant ON order_lines WITH CHECK (true)", "APPLY"},
		{"policy-opens policy leak on public.orders", "CREATE POLICY leak ON orders USING (true)", "DROP POLICY leak ON orders"},
		{"policy-opens policy tenancy_system on public.orders", "ALTER POLICY tenancy_system ON orders TO PUBLIC", "APPLY"},
		{"policy-other policy report on public.orders", "CREATE POLICY report ON orders TO %migrator% USING (true)", "DROP POLICY report ON orders"},
		{
			"function-changed function public.tenancy_tenant",
			"CREATE OR REPLACE FUNCTION tenancy_tenant() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('app.tenant_id', true)$$", "APPLY",
		},
		{"grant-truncate table public.orders", "GRANT TRUNCATE ON orders TO PUBLIC", "REVOKE TRUNCATE ON orders FROM PUBLIC"},
		{"grant-references table public.orders (id)", "GRANT REFERENCES (id) ON orders TO %app%", "REVOKE REFERENCES (id) ON orders FROM %app%"},
		{"grant-trigger table public.orders", "GRANT TRIGGER ON orders TO %app%", "REVOKE TRIGGER ON orders FROM %app%"},
		{"nullable table public.events", "ALTER TABLE events ALTER tenant_id DROP NOT NULL", "APPLY"},
		{
			"column-type table sales.accounts",
			"DROP POLICY tenancy_tenant ON sales.accounts;\nALTER TABLE sales.accounts ALTER org_id DROP DEFAULT, ALTER org_id TYPE integer;\nAPPLY",
			"DROP POLICY tenancy_tenant ON sales.accounts;\nALTER TABLE sales.accounts ALTER org_id DROP DEFAULT, ALTER org_id TYPE bigint;\nAPPLY",
		},
		{"default table public.orders", "ALTER TABLE orders ALTER tenant_id SET DEFAULT '00000000-0000-0000-0000-000000000001'", "APPLY"},
		{"no-index table public.events", "DROP INDEX tenancy_events_tenant_id", "APPLY"},
		{
			"via table public.order_lines", "ALTER TABLE order_lines DROP CONSTRAINT order_lines_order_id_fkey",
			"ALTER TABLE order_lines ADD CONSTRAINT order_lines_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE",
		},
		{"unique-key index leak on public.customers", "CREATE UNIQUE INDEX leak ON customers (email)", "DROP INDEX leak"},
		{
			"unique-key index leak on public.order_lines", "ALTER TABLE order_lines ADD CONSTRAINT leak EXCLUDE USING hash (product WITH =)",
			"ALTER TABLE order_lines DROP CONSTRAINT leak",
		},
		{
			"foreign-key constraint leak on public.orders", "ALTER TABLE orders ADD CONSTRAINT leak FOREIGN KEY (follows) REFERENCES orders (id)",
			"ALTER TABLE orders DROP CONSTRAINT leak",
		},
		{
			"cascade constraint leak on public.orders",
			"ALTER TABLE orders ADD CONSTRAINT leak FOREIGN KEY (follows) REFERENCES orders (id) ON DELETE SET NULL",
			"ALTER TABLE orders DROP CONSTRAINT leak",
		},
		{
			"cascade constraint leak on public.orders",
			"ALTER TABLE orders ADD CONSTRAINT leak FOREIGN KEY (follows) REFERENCES orders (id) ON UPDATE CASCADE",
			"ALTER TABLE orders DROP CONSTRAINT leak",
		},
		{"table-unlisted table public.fresh", "CREATE TABLE fresh (id int)", "DROP TABLE fresh"},
		{"partition table public.events_2026", "GRANT SELECT ON events_2026 TO %app%", "REVOKE ALL ON events_2026 FROM %app%"},
		{
			"partition table elsewhere.all_accounts",
			"CREATE SCHEMA elsewhere;\nCREATE TABLE elsewhere.all_accounts (org_id bigint NOT NULL, id int NOT NULL);\n" +
				"ALTER TABLE sales.accounts INHERIT elsewhere.all_accounts;\nGRANT SELECT ON elsewhere.all_accounts TO %app%",
			"ALTER TABLE sales.accounts NO INHERIT elsewhere.all_accounts;\nDROP SCHEMA elsewhere CASCADE",
		},
		{
			"foreign-table table public.far",
			"CREATE FOREIGN DATA WRAPPER far;\nCREATE SERVER far FOREIGN DATA WRAPPER far;\nCREATE FOREIGN TABLE far (id int) SERVER far;\nGRANT SELECT ON far TO %app%",
			"DROP FOREIGN DATA WRAPPER far CASCADE",
		},
		{
			"materialized-view view sales.totals",
			"CREATE VIEW sales.inner_totals WITH (security_invoker) AS SELECT count(*) FROM orders;\n" +
				"CREATE MATERIALIZED VIEW sales.totals AS SELECT * FROM sales.inner_totals;\nGRANT SELECT ON sales.totals TO %app%",
			"DROP VIEW sales.inner_totals CASCADE",
		},
		{"definer-view view sales.all_orders", "CREATE VIEW sales.all_orders AS SELECT * FROM orders;\nGRANT SELECT ON sales.all_orders TO PUBLIC", "DROP VIEW sales.all_orders"},
		{"definer-view view sales.part", "CREATE VIEW sales.part AS SELECT * FROM events_2026;\nGRANT SELECT ON sales.part TO %app%", "DROP VIEW sales.part"},
		{"rule rule leak on public.countries", "CREATE RULE leak AS ON INSERT TO countries DO ALSO DELETE FROM orders", "DROP RULE leak ON countries"},
		{
			"definer-function function public.leak(n integer)",
			"CREATE FUNCTION leak(n int) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$SELECT count(*) FROM public.orders$$",
			"DROP FUNCTION leak",
		},
		{
			"function-path function public.leak()",
			"CREATE FUNCTION leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$SELECT count(*) FROM public.orders$$;\nALTER FUNCTION leak() OWNER TO %migrator%",
			"DROP FUNCTION leak",
		},
		{
			"function-leakproof function public.leak(text)",
			"CREATE FUNCTION leak(text) RETURNS bool LANGUAGE plpgsql LEAKPROOF AS $$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$", "DROP FUNCTION leak",
		},
		{"publication publication leak, table public.orders", "CREATE PUBLICATION leak FOR TABLE orders", "DROP PUBLICATION leak"},
		{"shared-write table public.countries", "GRANT INSERT ON countries TO PUBLIC", "REVOKE INSERT ON countries FROM PUBLIC"},
		{"private-grant table public.goose_db_version", "GRANT SELECT (id) ON goose_db_version TO %app%", "REVOKE SELECT (id) ON goose_db_version FROM %app%"},
		{"sequence-grant sequence public.orders_id_seq", "GRANT UPDATE ON SEQUENCE orders_id_seq TO %app%", "REVOKE UPDATE ON SEQUENCE orders_id_seq FROM %app%"},
		{"schema-create schema sales", "GRANT CREATE ON SCHEMA sales TO PUBLIC", "REVOKE CREATE ON SCHEMA sales FROM PUBLIC"},
		{
			"default-grant tables that %migrator% creates in public",
			"ALTER DEFAULT PRIVILEGES FOR ROLE %migrator% IN SCHEMA public GRANT SELECT ON TABLES TO %app%",
			"ALTER DEFAULT PRIVILEGES FOR ROLE %migrator% IN SCHEMA public REVOKE SELECT ON TABLES FROM %app%",
		},
		{
			"shadow table %app%.orders", "CREATE SCHEMA %app%;\nCREATE TABLE %app%.orders (id int);\nGRANT USAGE ON SCHEMA %app% TO %app%",
			"DROP SCHEMA %app% CASCADE",
		},
		{"large-object large objects of role %app%", "SELECT lo_create(4711);\nALTER LARGE OBJECT 4711 OWNER TO %app%", "SELECT lo_unlink(4711)"},
		{
			"large-object large objects of role postgres", "SELECT lo_create(4711);\nGRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC",
			"SELECT lo_unlink(4711)",
		},
		{
			"large-object setting lo_compat_privileges of this database", "ALTER DATABASE %db% SET lo_compat_privileges = true",
			"ALTER DATABASE %db% RESET lo_compat_privileges",
		},
		{
			"large-object setting lo_compat_privileges of role %app%", "ALTER ROLE %app% SET lo_compat_privileges = on",
			"ALTER ROLE %app% RESET lo_compat_privileges",
		},
		{
			"large-object function lo_import(text)", "GRANT EXECUTE ON FUNCTION lo_import(text) TO %app%",
			"REVOKE EXECUTE ON FUNCTION lo_import(text) FROM %app%",
		},
		{
			"large-object function lo_export(oid,text)", "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO PUBLIC",
			"REVOKE EXECUTE ON FUNCTION lo_export(oid, text) FROM PUBLIC",
		},
		{"index-unused index leak on public.customers", "CREATE INDEX leak ON customers (tenant_id, lower(email))", "DROP INDEX leak"},
		{"index-unused index leak on public.customers", "CREATE INDEX leak ON customers (credit)", "DROP INDEX leak"},
	} {
		if kind, _, _ := strings.Cut(c.want, " "); !strings.Contains(string(guide), "| `"+kind+"` |") {
			t.Errorf("docs/ADOPTION.md does not explain %s", kind)
		}
		s.run(t, s.admin, c.plant)
		for login, db := range logins {
			if got, want := s.found(t, db), s.named(c.want); got != want {
				t.Errorf("%s\nas %s found:\n%s", want, login, got)
			}
			if strings.HasPrefix(c.want, "role-missing") {
				break // nobody logs in as app
			}
		}
		s.run(t, s.admin, c.repair)
		if got := s.found(t, s.migrator); got != "" {
			t.Fatalf("%s: after the repair:\n%s", c.want, got)
		}
	}
	s.rls.Roles.Legacy = s.rls.Roles.Migrator
	must(t, s.rls.Apply(t.Context(), s.migrator))
	if got, want := s.found(t, s.app), s.named("legacy role %migrator%"); got != want {
		t.Errorf("%s\nfound:\n%s", want, got)
	}
}

// TestVerifyJudgesLargeObjectsAsTheServerDoes: what it reports is what one tenant reads of another.
func TestVerifyJudgesLargeObjectsAsTheServerDoes(t *testing.T) {
	t.Parallel()
	pg := servers.NewPostgres(t, servers.PostgresConfig{})
	s := openShopOn(t, pg)
	readable := func(oid int) bool {
		var data []byte
		return s.app.QueryRowContext(t.Context(), "SELECT lo_get($1)", oid).Scan(&data) == nil
	}
	s.run(t, s.admin, "SELECT lo_from_bytea(1, 'private');\nSELECT lo_from_bytea(2, 'granted');\nGRANT SELECT ON LARGE OBJECT 2 TO %app%")
	s.run(t, s.app, "SELECT lo_from_bytea(3, 'of a tenant')")
	for oid, want := range map[int]bool{1: false, 2: true, 3: true} {
		if got := readable(oid); got != want {
			t.Errorf("large object %d: readable %t, want %t", oid, got, want)
		}
	}
	if got, want := s.found(t, s.app), s.named("large-object large objects of role postgres\nlarge-object large objects of role %app%"); got != want {
		t.Errorf("%s\nfound:\n%s", want, got)
	}
	s.run(t, s.admin, "SELECT lo_unlink(2);\nSELECT lo_unlink(3);\nALTER SYSTEM SET lo_compat_privileges = on;\nSELECT pg_reload_conf()")
	for deadline := time.Now().Add(10 * time.Second); !readable(1); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("with lo_compat_privileges the app's role does not read others' large objects")
		}
	}
	if got, want := s.found(t, s.app), "large-object setting lo_compat_privileges of the server"; got != want {
		t.Errorf("%s\nfound:\n%s", want, got)
	}
}

func TestVerifySaysWhichOperatorAndWhatItDoesNotSee(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run(t, s.admin, "CREATE INDEX by_email ON customers (tenant_id, lower(email));\nCREATE INDEX by_credit ON customers (credit);\n"+
		"CREATE SCHEMA reports;\nGRANT USAGE ON SCHEMA reports TO %app%")
	report, err := s.rls.Verify(t.Context(), s.app)
	must(t, err)
	var text strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintln(&text, f)
	}
	for _, want := range []string{"function lower(text)", "operator =(numeric,numeric) (numeric_eq)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &text)
		}
	}
	if len(report.Unseen) != 1 || !strings.Contains(report.Unseen[0], "schema reports") {
		t.Errorf("unseen: %q", report.Unseen)
	}
}

func TestVerifyBaseline(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run(t, s.admin, `CREATE TABLE "odd ""name" (id int);`+"\nCREATE UNIQUE INDEX global ON customers (email)")
	verify := func() isolation.Report {
		report, err := s.rls.Verify(t.Context(), s.app)
		must(t, err)
		return report
	}
	baseline, err := isolation.ReadBaseline(strings.NewReader("# accepted\n\n" + verify().Baseline("for a reason").String()))
	must(t, err)
	if fresh, gone := verify().Against(baseline); len(baseline) != 2 || len(fresh) != 0 || len(gone) != 0 {
		t.Fatalf("baseline %q: fresh %v, gone %v", baseline, fresh, gone)
	}
	s.run(t, s.admin, "DROP INDEX global;\nCREATE TABLE fresh (id int)")
	fresh, gone := verify().Against(baseline)
	if len(fresh) != 1 || fresh[0].Object != "table public.fresh" {
		t.Errorf("fresh: %v", fresh)
	}
	if len(gone) != 1 || gone[0].Object != "index global on public.customers" {
		t.Errorf("gone: %v", gone)
	}
	_, err = isolation.ReadBaseline(strings.NewReader("no-force\nno-force \"x\"\nno-force \"y\" because\nno-force \"y\" again"))
	for _, line := range []string{"line 1", "line 2", "line 4"} {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%s is not reported: %v", line, err)
		}
	}
}

func TestVerifyOfADB(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	report, err := c.db.Verify(t.Context())
	must(t, err)
	if len(report.Findings) != 0 {
		t.Errorf("on the tests' own schema: %v", report.Findings)
	}
	_, err = c.admin.Exec("CREATE TABLE fresh (id int)")
	must(t, err)
	report, err = c.db.Verify(tenancy.AsSystem(t.Context(), "the context does not matter"))
	must(t, err)
	if len(report.Findings) != 1 || report.Findings[0].Kind != "table-unlisted" {
		t.Errorf("a new table: %v", report.Findings)
	}
	if _, err := openSQLite(t).db.Verify(t.Context()); err == nil {
		t.Error("nothing was verified, and that is no error")
	}
}
