package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// mariaDBRowsSchema is the application's tables where tenants share them on MariaDB.
const mariaDBRowsSchema = `CREATE TABLE IF NOT EXISTS notes (
	id bigint NOT NULL AUTO_INCREMENT,
	tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
	body text NOT NULL DEFAULT '',
	PRIMARY KEY (tenant_id, id),
	KEY (id))`

func openMariaDBRows(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openMariaDBRowsOn(t, servers.MariaDB(t), nil, options, mariaDBRowsSchema)
}

// openMariaDBRowsOn has the logins that the documentation names, with the rights that it names.
func openMariaDBRowsOn(t testing.TB, server *servers.MariaDBServer, tune func(*isolation.MariaDBRows),
	options []func(*isolation.Config), tables ...string,
) *cell {
	t.Helper()
	rows := &isolation.MariaDBRows{Base: server.CreateDatabase(t), Tables: map[string]string{"notes": ""}}
	rows.Views = rows.Base + "_views"
	if tune != nil {
		tune(rows)
	}
	pattern := strings.NewReplacer("_", `\_`)
	base, views := "`"+pattern.Replace(rows.Base)+"`.*", "`"+pattern.Replace(rows.Views)+"`.*"
	app, appPassword := server.CreateUser(t)
	system, systemPassword := server.CreateUser(t, "SELECT, INSERT, UPDATE, DELETE ON "+base)
	migrator, migratorPassword := server.CreateUser(t, "CREATE USER ON *.*",
		"ALL PRIVILEGES ON "+base, "GRANT OPTION ON "+base, "ALL PRIVILEGES ON "+views, "GRANT OPTION ON "+views)
	c := &cell{name: rows.Base}
	var err error
	c.admin, err = sql.Open("mysql", server.DSN(rows.Base))
	must(t, err)
	t.Cleanup(func() {
		_, err := c.admin.Exec("DROP DATABASE IF EXISTS " + rows.Views)
		must(t, errors.Join(err, c.admin.Close()))
	})
	c.config = isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.MariaDB{
			App:    mariaDBConnector(t, server, isolation.Login{User: app, Password: appPassword}),
			System: mariaDBConnector(t, server, isolation.Login{User: system, Password: systemPassword, Database: rows.Base}),
			Open: func(l isolation.Login) (driver.Connector, error) {
				if l.User == "" {
					l.User, l.Password = migrator, migratorPassword
				}
				return connectMariaDB(server, l)
			},
			Key:  key,
			Rows: rows,
		}},
		Strategy: tenancy.StrategyRowLevel,
	}
	c.start(t, migrations(tables), options)
	return c
}

// migrations is a Migrator of several statements.
type migrations []string

func (m migrations) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	for _, statement := range m {
		if _, err := target.DB.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	return int64(len(m)), nil
}

func (m migrations) Version(context.Context, isolation.Target) (int64, error) {
	return int64(len(m)), nil
}

func rowsOf(c *cell) *isolation.MariaDBRows { return c.config.Servers["main"].(isolation.MariaDB).Rows }

// migratorOf opens the tables as the migrator.
func migratorOf(t testing.TB, c *cell) *sql.DB {
	t.Helper()
	connector, err := c.config.Servers["main"].(isolation.MariaDB).Open(isolation.Login{Database: c.name})
	must(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Numbers of MariaDB's errors.
const (
	raised      = 1644 // by a trigger or function of the wall
	checkOption = 1369
)

// untouched fails the test unless the other tenant's row is as it was.
func untouched(t testing.TB, c *cell) {
	t.Helper()
	var all string
	must(t, c.admin.QueryRow("SELECT group_concat(body ORDER BY id SEPARATOR '|') FROM notes WHERE tenant_id = 'globex'").Scan(&all))
	if all != "of globex" {
		t.Errorf("globex now has %q", all)
	}
}

func TestRowsOnMariaDBWritesForAnotherAreRefused(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t, one)
	var theirs int64
	must(t, c.admin.QueryRow("SELECT id FROM notes WHERE tenant_id = 'globex'").Scan(&theirs))
	for _, text := range []string{
		"INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')",
		"INSERT IGNORE INTO notes (tenant_id, body) VALUES ('globex', 'x')",
		"INSERT INTO notes (tenant_id, body) SELECT 'globex', body FROM notes",
		"INSERT INTO notes (tenant_id, body) VALUES ('ACME', 'x')", "INSERT INTO notes (tenant_id, body) VALUES ('', 'x')",
		"INSERT INTO notes (tenant_id, body) VALUES (NULL, 'x')", "INSERT INTO notes (tenant_id, body) VALUES ('nobody', 'x')",
		fmt.Sprintf("REPLACE INTO notes (tenant_id, id, body) VALUES ('globex', %d, 'x')", theirs),
		fmt.Sprintf("INSERT INTO notes (tenant_id, id, body) VALUES ('globex', %d, 'x') ON DUPLICATE KEY UPDATE body = 'x'", theirs),
		"INSERT INTO notes (id, body) SELECT id, body FROM notes ON DUPLICATE KEY UPDATE tenant_id = 'globex'",
		"UPDATE notes SET tenant_id = 'globex'", "UPDATE IGNORE notes SET tenant_id = 'globex'",
		"UPDATE notes AS a JOIN notes AS b ON a.id = b.id SET a.tenant_id = 'globex'",
		"SET STATEMENT sql_mode = '' FOR INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')",
	} {
		_, err := c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text, err, raised, checkOption)
	}
	for _, text := range []string{
		fmt.Sprintf("UPDATE notes SET body = 'x' WHERE id = %d", theirs),
		fmt.Sprintf("DELETE FROM notes WHERE id = %d", theirs),
		"DELETE FROM notes WHERE tenant_id = 'globex' OR body = 'of globex'",
		"DELETE a FROM notes AS a LEFT JOIN notes AS b ON a.id <> b.id WHERE a.tenant_id = 'globex'",
	} {
		_, err := c.db.ExecContext(c.acme, text)
		must(t, err)
		untouched(t, c)
	}
	untouched(t, c)
	sees(t, c.acme, c.db, "of acme")
}

func TestRowsOnMariaDBFillTheTenantIn(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t, one)
	result, err := c.db.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('one'), ('two')")
	must(t, err)
	id, err := result.LastInsertId()
	must(t, err)
	for _, text := range []string{
		fmt.Sprintf("REPLACE INTO notes (id, body) VALUES (%d, 'replaced')", id),
		"INSERT INTO notes (body) SELECT concat(body, ', again') FROM notes WHERE body = 'two'",
		fmt.Sprintf("INSERT INTO notes (id, body) VALUES (%d, 'x') ON DUPLICATE KEY UPDATE body = 'updated'", id+1),
		"INSERT INTO notes (tenant_id, body) VALUES ('acme', 'named'), (DEFAULT, 'default')",
	} {
		_, err := c.db.ExecContext(c.acme, text)
		must(t, err)
	}
	var owner string
	must(t, c.db.QueryRowContext(c.acme, "INSERT INTO notes (body) VALUES ('returned') RETURNING tenant_id").Scan(&owner))
	if owner != "acme" {
		t.Errorf("the row is %q's", owner)
	}
	sees(t, c.acme, c.db, "of acme", "replaced", "updated", "two, again", "named", "default", "returned")
	sees(t, c.globex, c.db, "of globex")
}

func TestC18QualifiedNameReachesNoBaseOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t, one)
	base := rowsOf(c).Base
	for _, text := range []string{
		"SELECT body FROM " + base + ".notes", "SELECT tenant FROM " + base + ".tenancy_login", "SELECT tenancy_tenant()",
		"INSERT INTO " + base + ".notes (tenant_id, body) VALUES ('acme', 'x')", "DELETE FROM " + base + ".notes", "USE " + base,
		"SHOW TABLES FROM " + base, "SHOW CREATE VIEW notes", "EXPLAIN SELECT * FROM notes", "DROP VIEW notes", "TRUNCATE " + base + ".notes",
		"CREATE TABLE x (id int)", "CREATE OR REPLACE VIEW notes AS SELECT 1 AS body", "CREATE FUNCTION x() RETURNS int RETURN 1",
		"LOCK TABLES notes WRITE", "SELECT User FROM mysql.user", "GRANT SELECT ON notes TO PUBLIC",
	} {
		_, err := c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text, err, 1044, 1142, 1345, 1370, 1347, 1045)
	}
	untouched(t, c)
	sees(t, c.acme, c.db, "of acme")
}

// TestRowsOnMariaDBConditionsMeetOnlyOwnRows has statements whose conditions keep what they see. The
// view's condition alone would not do: the server may ask the statement's first.
func TestRowsOnMariaDBConditionsMeetOnlyOwnRows(t *testing.T) {
	t.Parallel()
	server := servers.MariaDB(t)
	ascii := "CREATE TABLE ascii (tenant_id varchar(64) NOT NULL, id int NOT NULL DEFAULT 0, n int NOT NULL DEFAULT 0, body varchar(64) NOT NULL DEFAULT '', " +
		"PRIMARY KEY (tenant_id, id), KEY (id), KEY (n), KEY (body)) CHARACTER SET ascii COLLATE ascii_bin"
	number := "CREATE TABLE number (org_id bigint NOT NULL, id int NOT NULL DEFAULT 0, n int NOT NULL DEFAULT 0, body varchar(64) NOT NULL DEFAULT '', " +
		"KEY (id), KEY (n), KEY (body))"
	c := openMariaDBRowsOn(t, server, func(r *isolation.MariaDBRows) { r.Tables["ascii"] = "" }, nil, mariaDBRowsSchema, ascii)
	numbers := openMariaDBRowsOn(t, server, func(r *isolation.MariaDBRows) { r.Tables["number"] = "org_id" }, nil, mariaDBRowsSchema, number)
	for _, statement := range []string{
		"INSERT INTO ascii SELECT if(seq % 20, 'acme', 'globex'), seq, seq % 7, if(seq % 20, 'own', 'secret') FROM seq_1_to_400",
	} {
		_, err := c.admin.Exec(statement)
		must(t, err)
	}
	p, err := isolation.NewProvisioner(numbers.config, numbers.migration)
	must(t, err)
	seven := provision(t, p, tenant("7"))
	_, err = numbers.admin.Exec("INSERT INTO number SELECT if(seq % 20, 7, 8), seq, seq % 7, if(seq % 20, 'own', 'secret') FROM seq_1_to_400")
	must(t, err)
	const catch = "(@seen := if(body = 'secret', body, @seen)) IS NOT NULL"
	for _, of := range []struct {
		c     *cell
		ctx   context.Context
		table string
	}{{c, c.acme, "ascii"}, {numbers, seven, "number"}} {
		t.Run(of.table, func(t *testing.T) {
			for _, session := range []string{
				"SET @nothing = 1", "SET optimizer_max_sel_arg_weight = 1", "SET optimizer_max_sel_args = 0",
				"SET optimizer_use_condition_selectivity = 1", "SET join_cache_level = 8, optimizer_switch = 'mrr=on,derived_merge=off,index_merge=off'",
				"SET optimizer_switch = 'index_condition_pushdown=off,extended_keys=off,condition_pushdown_for_derived=off'",
				"SET expensive_subquery_limit = 0, optimizer_switch = 'subquery_cache=off,materialization=off,semijoin=off'",
				"SET expensive_subquery_limit = 18446744073709551615, optimizer_switch = 'in_to_exists=off,exists_to_in=off,partial_match_table_scan=off'",
				"SET optimizer_prune_level = 0, optimizer_search_depth = 1, sql_select_limit = 1, tmp_memory_table_size = 0, in_predicate_conversion_threshold = 2",
			} {
				for _, text := range []string{
					"SELECT count(*) FROM %s WHERE " + catch,
					"SELECT count(*) FROM %s WHERE id BETWEEN 1 AND 390 AND " + catch,
					"SELECT count(*) FROM %s WHERE id = 100 AND " + catch,
					"SELECT count(*) FROM %s WHERE body = 'secret' AND " + catch,
					"SELECT count(*) FROM %s WHERE (body = 'secret' OR id IN (100, 200)) AND " + catch,
					"SELECT count(*) FROM %s WHERE n IN (1, 2) AND " + catch + " ORDER BY id LIMIT 5",
					"SELECT count(*) FROM %[1]s AS a LEFT JOIN %[1]s AS b ON a.id = b.n AND (@seen := if(b.body = 'secret', b.body, @seen)) IS NOT NULL",
					"SELECT count(*) FROM (SELECT * FROM %s) AS x WHERE " + catch,
					"SELECT max(@seen := if(body = 'secret', body, @seen)) FROM %s",
					"SELECT 1 FROM %s ORDER BY (@seen := if(body = 'secret', body, @seen)) LIMIT 1",
					"UPDATE %s SET n = n + 1 WHERE " + catch,
					"UPDATE %s SET n = n + 1 WHERE id IN (100, 200, 300) AND " + catch,
					"UPDATE %s SET n = n + 1 WHERE (id > 5 OR n < 100 OR body > 'a') AND " + catch,
					"UPDATE %[1]s AS a JOIN %[1]s AS b ON a.id = b.id SET a.n = 1 WHERE (@seen := if(b.body = 'secret', b.body, @seen)) IS NOT NULL",
					"DELETE FROM %s WHERE body = 'secret' AND " + catch,
					"SELECT count(*) FROM %[1]s WHERE id IN (SELECT n FROM %[1]s) AND " + catch,
					"SELECT (SELECT max(@seen := if(b.body = 'secret', b.body, @seen)) FROM %[1]s AS b WHERE b.n = a.n) FROM %[1]s AS a",
					"SELECT count(*) FROM %s GROUP BY (@seen := if(body = 'secret', body, @seen)) ORDER BY n",
					"SELECT id FROM %[1]s WHERE " + catch + " UNION SELECT id FROM %[1]s WHERE " + catch + " ORDER BY 1",
					"UPDATE %[1]s SET n = n + 1 WHERE id = (SELECT max(id) FROM (SELECT id FROM %[1]s) AS x) AND " + catch,
					"UPDATE %[1]s SET n = n + 1 WHERE id IN (SELECT seq FROM seq_1_to_400) AND " + catch + " ORDER BY n LIMIT 3",
					"UPDATE %[1]s AS a SET n = n + 1 WHERE EXISTS (SELECT 1 FROM seq_1_to_400 WHERE seq = a.id) AND " + catch,
					"DELETE FROM %[1]s WHERE id IN (SELECT seq FROM seq_1_to_400) AND body = 'secret' AND " + catch,
					"DELETE FROM %[1]s WHERE id = (SELECT max(seq) FROM seq_1_to_400) AND " + catch,
					"DELETE a FROM %[1]s AS a JOIN seq_1_to_400 ON seq = a.id WHERE a.body = 'secret' AND (@seen := if(a.body = 'secret', a.body, @seen)) IS NOT NULL",
				} {
					conn, err := of.c.db.Conn(of.ctx)
					must(t, err)
					for _, statement := range []string{"SET @seen = ''", session, fmt.Sprintf(text, of.table)} {
						_, err := conn.ExecContext(of.ctx, statement)
						must(t, err)
					}
					var seen string
					must(t, conn.QueryRowContext(of.ctx, "SELECT @seen").Scan(&seen))
					if seen != "" {
						t.Errorf("%s; %s: a condition met %q", session, text, seen)
					}
					must(t, conn.Close())
				}
			}
			var n int
			must(t, of.c.admin.QueryRow("SELECT count(*) FROM "+of.table+" WHERE body = 'secret' AND n = id % 7").Scan(&n))
			if n != 20 {
				t.Errorf("%d of 20 rows of the other are left", n)
			}
		})
	}
}

// TestRowsOnMariaDBAskOncePerStatement counts the lookups of a statement: its tenant is looked up a few
// times, and not for each row.
func TestRowsOnMariaDBAskOncePerStatement(t *testing.T) {
	t.Parallel()
	for column, id := range map[string]string{"varchar(40) COLLATE utf8mb4_bin": "acme", "bigint": "7", "uuid": "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d"} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Tables["many"] = "org" }, nil, mariaDBRowsSchema,
				"CREATE TABLE many (org "+column+" NOT NULL, id int NOT NULL DEFAULT 0, n int NOT NULL DEFAULT 0, body varchar(40) NOT NULL DEFAULT '', PRIMARY KEY (org, id))")
			p, err := isolation.NewProvisioner(c.config, c.migration)
			must(t, err)
			ctx := provision(t, p, tenant(id))
			_, err = c.db.ExecContext(ctx, "INSERT INTO many (id, body) SELECT seq, concat('note ', seq) FROM seq_1_to_1000")
			must(t, err)
			for _, test := range []struct {
				text string
				rows int // that a trigger looks at, or that are looked up by their key
			}{
				{"SELECT id, body FROM many", 0},
				{"SELECT id, body FROM many ORDER BY id", 0},
				{"SELECT id, body FROM many ORDER BY body LIMIT 100", 0},
				{"SELECT body, count(*) FROM many GROUP BY body", 2000}, // of its temporary table
				{"SELECT id FROM many WHERE id BETWEEN 100 AND 199 ORDER BY id", 0},
				{"SELECT a.id FROM many AS a JOIN many AS b ON b.id = a.id WHERE a.id <= 100 ORDER BY a.id", 100},
				{"UPDATE many SET n = n + 1 WHERE id <= 100", 100},
				{"UPDATE many SET n = n + 1 WHERE id = 50", 1},
				{"DELETE FROM many WHERE id = 1000", 1},
			} {
				tx, err := c.db.BeginTx(ctx, nil)
				must(t, err)
				lookups := func() int {
					var name string
					var n int
					must(t, tx.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Handler_read_key'").Scan(&name, &n))
					return n
				}
				before := lookups()
				_, err = tx.ExecContext(ctx, test.text)
				must(t, err)
				if n := lookups() - before; n > test.rows+5 {
					t.Errorf("%s: %d lookups; want at most 5 beside those of %d rows", test.text, n, test.rows)
				}
				must(t, tx.Rollback())
			}
		})
	}
}

// TestR17KeysWithoutTheTenantOnMariaDB plants what Verify refuses: a statement still cannot take
// another tenant's row over by such a key.
func TestR17KeysWithoutTheTenantOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t, one)
	_, err := c.admin.Exec("ALTER TABLE notes ADD UNIQUE KEY planted (id)")
	must(t, err)
	var theirs int64
	must(t, c.admin.QueryRow("SELECT id FROM notes WHERE tenant_id = 'globex'").Scan(&theirs))
	for _, text := range []string{
		"REPLACE INTO notes (id, body) VALUES (%d, 'x')",
		"INSERT INTO notes (id, body) VALUES (%d, 'x') ON DUPLICATE KEY UPDATE body = 'x'",
		"INSERT INTO notes (id, body) VALUES (%d, 'x') ON DUPLICATE KEY UPDATE tenant_id = 'acme', body = 'x'",
	} {
		text = fmt.Sprintf(text, theirs)
		_, err := c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text, err, raised)
		untouched(t, c)
	}
}

func TestRowsOnMariaDBUnknownLoginRaises(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t, one)
	sees(t, c.acme, c.db, "of acme")
	for _, half := range []string{"UPDATE tenancy_login SET closed = true WHERE tenant = 'acme'", "DELETE FROM tenancy_login WHERE tenant = 'acme'"} {
		_, err := c.admin.Exec(half)
		must(t, err)
		for _, text := range []string{
			"SELECT body FROM notes", "SELECT count(*) FROM notes WHERE 1 = 0 OR id > 0", "DELETE FROM notes", "UPDATE notes SET body = 'x'",
			"INSERT INTO notes (tenant_id, body) VALUES ('acme', 'x')", "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')",
		} {
			_, err := c.db.ExecContext(c.acme, text)
			mariaDBRefuses(t, half+"; "+text, err, raised)
		}
		db, err := isolation.Open(c.config)
		must(t, err)
		_, err = bodies(c.acme, db)
		mustBe(t, err, isolation.ErrMissing)
		must(t, db.Close())
	}
	sees(t, c.globex, c.db, "of globex")
	untouched(t, c)
}

// TestRowsOnMariaDBPlacementOfAnother has tenants whose record carries another's login.
func TestRowsOnMariaDBPlacementOfAnother(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	sees(t, c.globex, c.db, "of globex") // a connection of that login is open
	theirs := placementOf(t, c.globex)
	wrong := tenant("acme")
	wrong.Placement = theirs
	if all, err := bodies(tenancy.UnsafeBind(t.Context(), wrong, "test"), c.db); err == nil {
		t.Errorf("acme sees %q", all)
	}
	taken := placementOf(t, c.acme)
	_, err = c.admin.Exec("UPDATE tenancy_login SET tenant = 'globex' WHERE tenant = 'acme'")
	must(t, err)
	for _, placement := range []tenancy.Placement{theirs, taken, {Strategy: theirs.Strategy, Server: "main", Schema: "root"}, {Strategy: theirs.Strategy, Server: "main"}} {
		tn := tenant("acme")
		tn.Placement = placement
		if _, err := p.Provision(t.Context(), tn); err == nil {
			t.Errorf("%q was provisioned", placement.Schema)
		}
		if err := p.Deprovision(t.Context(), tn); err == nil {
			t.Errorf("%q was deprovisioned", placement.Schema)
		}
	}
	_, err = c.admin.Exec("UPDATE tenancy_login SET tenant = 'acme' WHERE login LIKE 't\\_acme%'")
	must(t, err)
	sees(t, c.globex, c.db, "of globex")
	sees(t, c.acme, c.db, "of acme")
}

// TestRowsOnMariaDBLoginWithMoreRights has rights that somebody gave beside the library.
func TestRowsOnMariaDBLoginWithMoreRights(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	var account string
	must(t, c.db.QueryRowContext(c.acme, "SELECT current_user()").Scan(&account))
	user, _, _ := strings.Cut(account, "@")
	role := "r_" + c.name
	for _, statement := range []string{"CREATE ROLE " + role, "GRANT SELECT ON " + c.name + ".* TO " + role} {
		_, err := c.admin.Exec(statement)
		must(t, err)
	}
	t.Cleanup(func() { _, _ = c.admin.Exec("DROP ROLE " + role) })
	scope, err := tenancy.ScopeOf(c.acme)
	must(t, err)
	for _, hole := range []struct{ open, close, finding string }{
		{"GRANT SELECT ON " + c.name + ".* TO " + user, "REVOKE SELECT ON " + c.name + ".* FROM " + user, c.name},
		{"GRANT SELECT ON " + c.name + ".notes TO " + user, "REVOKE SELECT ON " + c.name + ".notes FROM " + user, c.name},
		{"GRANT SELECT (body) ON " + c.name + ".notes TO " + user, "REVOKE SELECT (body) ON " + c.name + ".notes FROM " + user, c.name},
		{"GRANT " + role + " TO " + user, "REVOKE " + role + " FROM " + user, role},
	} {
		_, err := c.admin.Exec(hole.open)
		must(t, err)
		db, err := isolation.Open(c.config)
		must(t, err)
		if _, err := bodies(c.acme, db); err == nil || !strings.Contains(err.Error(), hole.finding) {
			t.Errorf("%s: %v; want an error that says %s", hole.open, err, hole.finding)
		}
		must(t, db.Close())
		if _, err := p.Provision(t.Context(), *scope.Tenant); err == nil || !strings.Contains(err.Error(), hole.finding) {
			t.Errorf("%s: provisioned: %v", hole.open, err)
		}
		_, err = c.admin.Exec(hole.close)
		must(t, err)
	}
	_, err = p.Provision(t.Context(), *scope.Tenant)
	must(t, err)
	app := mariaDBApp(t, c)
	for _, object := range []string{c.name + ".notes", rowsOf(c).Views + ".notes"} {
		_, err = c.admin.Exec("GRANT SELECT ON " + object + " TO " + app)
		must(t, err)
		if err := c.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "MariaDB.App can use") {
			t.Errorf("the role app can read %s: %v", object, err)
		}
		_, err = c.admin.Exec("REVOKE SELECT ON " + object + " FROM " + app)
		must(t, err)
	}
	must(t, c.db.Check(t.Context()))
}

// TestVerifyFindsEachFaultOfRowsOnMariaDB plants one fault at a time.
func TestVerifyFindsEachFaultOfRowsOnMariaDB(t *testing.T) {
	t.Parallel()
	child := "CREATE TABLE items (id int NOT NULL DEFAULT 0, tenant_id varchar(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, note bigint, PRIMARY KEY (tenant_id, id))"
	c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Tables["items"], r.Shared = "", []string{"plans"} }, nil,
		mariaDBRowsSchema, child, "CREATE TABLE plans (id int PRIMARY KEY)", "CREATE TABLE private (id int)")
	rows := rowsOf(c)
	p, err := isolation.NewProvisioner(c.config, migrations{})
	must(t, err)
	kinds := func() string {
		report, err := c.db.Verify(t.Context())
		must(t, err)
		var all []string
		for _, f := range report.Findings {
			all = append(all, f.Kind)
			if f.Detail == "" || f.Remedy == "" || f.Object == "" {
				t.Errorf("the finding %+v says too little", f)
			}
		}
		return strings.Join(all, " ")
	}
	if found := kinds(); found != "" {
		t.Fatalf("the generated wall has %s", found)
	}
	view := func(of string) string {
		return "CREATE OR REPLACE " + of + " VIEW " + rows.Views + ".notes AS SELECT id, tenant_id, body FROM " + rows.Base +
			".notes FORCE INDEX (PRIMARY) WHERE tenant_id = " + rows.Views + ".tenancy_tenant()"
	}
	planted := map[string]bool{}
	for _, fault := range []struct{ plant, undo, kind string }{
		{"DROP VIEW " + rows.Views + ".notes", "", "view-missing"},
		{view("SQL SECURITY INVOKER") + " WITH CASCADED CHECK OPTION", "", "view-changed"},
		{view("SQL SECURITY DEFINER"), "", "view-changed"},
		{view("SQL SECURITY DEFINER") + " WITH LOCAL CHECK OPTION", "", "view-changed"},
		{"CREATE OR REPLACE VIEW " + rows.Views + ".plans AS SELECT 1 AS id", "", "view-changed"},
		{"DROP TRIGGER tenancy_insert_notes", "", "trigger-missing"},
		{"DROP TRIGGER tenancy_delete_plans", "", "trigger-missing"},
		{"CREATE OR REPLACE TRIGGER tenancy_update_notes BEFORE UPDATE ON notes FOR EACH ROW SET @x = 1", "", "trigger-changed"},
		{"CREATE OR REPLACE FUNCTION " + rows.Views + ".tenancy_tenant() RETURNS varchar(128) RETURN 'globex'", "", "function-changed"},
		{"ALTER TABLE notes ADD COLUMN extra int", "ALTER TABLE notes DROP COLUMN extra", "view-changed"},
		{"ALTER TABLE notes ALTER body DROP DEFAULT", "ALTER TABLE notes ALTER body SET DEFAULT ''", "column-default"},
		{"ALTER TABLE notes ADD UNIQUE KEY planted (id)", "ALTER TABLE notes DROP KEY planted", "unique-key"},
		{
			"ALTER TABLE notes MODIFY tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL DEFAULT ''",
			"ALTER TABLE notes MODIFY tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT ''", "function-missing tenant-column view-changed",
		},
		{"ALTER TABLE items ADD CONSTRAINT planted FOREIGN KEY (note) REFERENCES notes (id)", "ALTER TABLE items DROP FOREIGN KEY planted, DROP KEY planted", "foreign-key"},
		{"ALTER TABLE private ADD note bigint, ADD CONSTRAINT planted FOREIGN KEY (note) REFERENCES notes (id)", "ALTER TABLE private DROP FOREIGN KEY planted", "foreign-key"},
		{"CREATE FUNCTION " + rows.Views + ".stray() RETURNS int RETURN 1", "DROP FUNCTION " + rows.Views + ".stray", "views-stranger"},
		{"CREATE TABLE " + rows.Views + ".stray (id int)", "DROP TABLE " + rows.Views + ".stray", "views-stranger"},
		{"CREATE VIEW " + rows.Views + ".stray AS SELECT * FROM " + rows.Base + ".private", "DROP VIEW " + rows.Views + ".stray", "views-stranger"},
		{"ALTER TABLE items ENGINE = Aria", "ALTER TABLE items ENGINE = InnoDB", "engine"},
		{"DROP TABLE items", child, "not-walled table-missing"},
		{"DROP TABLE plans", "CREATE TABLE plans (id int PRIMARY KEY)", "not-walled"},
		{
			"ALTER TABLE items DROP PRIMARY KEY, ADD PRIMARY KEY (id, tenant_id)",
			"ALTER TABLE items DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id)", "not-walled tenant-index",
		},
		{
			"ALTER TABLE items DROP PRIMARY KEY, DROP COLUMN tenant_id",
			"DROP TABLE items; " + child, "not-walled tenant-column",
		},
		{
			"ALTER TABLE items DROP PRIMARY KEY, ADD KEY planted (tenant_id), MODIFY tenant_id varchar(128) CHARACTER SET ascii COLLATE ascii_bin NULL",
			"DROP TABLE items; " + child, "tenant-column view-changed",
		},
		{
			"ALTER TABLE items MODIFY tenant_id double NOT NULL",
			"DROP TABLE items; " + child, "tenant-column view-changed views-stranger",
		},
	} {
		planted[fault.kind] = true
		_, err := c.admin.Exec(fault.plant)
		must(t, err)
		if found := kinds(); found != fault.kind {
			t.Errorf("%s: found %q, want %q", fault.plant, found, fault.kind)
		}
		if err := c.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), strings.Fields(fault.kind)[0]) {
			t.Errorf("%s: Check: %v", fault.plant, err)
		}
		if _, err := p.Provision(t.Context(), provisioned(t, c.acme)); err == nil {
			t.Errorf("%s: a tenant was provisioned", fault.plant)
		}
		for undo := range strings.SplitSeq(fault.undo, "; ") {
			if undo == "" {
				continue
			}
			_, err = c.admin.Exec(undo)
			must(t, err)
		}
		_, err = p.Setup(t.Context())
		must(t, err)
		if found := kinds(); found != "" {
			t.Fatalf("%s: after Setup there is still %s", fault.plant, found)
		}
	}
	must(t, c.db.Check(t.Context()))
	sees(t, c.acme, c.db, "of acme")
	guide, err := os.ReadFile("../../../docs/ADOPTION.md")
	must(t, err)
	_, ofMariaDB, found := strings.Cut(string(guide), "| kind on MariaDB |")
	ofMariaDB, _, _ = strings.Cut(ofMariaDB, "\n## ")
	for kinds := range planted {
		for kind := range strings.FieldsSeq(kinds) {
			if !found || !strings.Contains(ofMariaDB, "| `"+kind+"` |") {
				t.Errorf("docs/ADOPTION.md does not explain %s on MariaDB", kind)
			}
		}
	}
}

func provisioned(t testing.TB, ctx context.Context) tenancy.Tenant {
	t.Helper()
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	return *scope.Tenant
}

func TestSharedTablesOfRowsOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Shared = []string{"plans"} }, nil,
		mariaDBRowsSchema, "CREATE TABLE plans (id int PRIMARY KEY, name text)", "CREATE TABLE secrets (id int PRIMARY KEY)")
	ctx := tenancy.AsSystem(t.Context(), "plans")
	_, err := c.db.ExecContext(ctx, "INSERT INTO plans VALUES (1, 'free')")
	must(t, err)
	var plan string
	must(t, c.db.QueryRowContext(c.acme, "SELECT p.name FROM plans AS p JOIN notes AS n ON n.body = 'of acme'").Scan(&plan))
	if plan != "free" {
		t.Errorf("the plan is %q", plan)
	}
	for _, text := range []string{"INSERT INTO plans VALUES (2, 'x')", "UPDATE plans SET name = 'x'", "DELETE FROM plans", "REPLACE INTO plans VALUES (1, 'x')"} {
		_, err := c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text, err, raised)
	}
	_, err = c.db.ExecContext(c.acme, "SELECT * FROM secrets")
	mariaDBRefuses(t, "a table that is in no list", err, 1146)
	_, err = c.admin.Exec("DELETE FROM tenancy_login WHERE tenant = 'acme'")
	must(t, err)
	for _, text := range []string{"SELECT * FROM plans", "INSERT INTO plans VALUES (3, 'x')", "DELETE FROM plans"} {
		_, err := c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text+" of an unknown login", err, raised)
	}
}

func TestSystemScopeOfRowsOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	ctx := tenancy.AsSystem(t.Context(), "count")
	sees(t, ctx, c.db, "of acme", "of globex")
	_, err := c.db.ExecContext(ctx, "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'by the system')")
	must(t, err)
	_, err = c.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ('nobody''s')")
	mariaDBRefuses(t, "a row of nobody", err, raised)
	sees(t, c.globex, c.db, "of globex", "by the system")
	sees(t, c.acme, c.db, "of acme")
}

func TestDeprovisionRowsOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Tables["items"] = "" }, nil, mariaDBRowsSchema,
		"CREATE TABLE items (id int NOT NULL DEFAULT 0, tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, note bigint NOT NULL DEFAULT 0, parent int, "+
			"PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, note) REFERENCES notes (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES items (tenant_id, id))")
	for _, ctx := range []context.Context{c.acme, c.globex} {
		for _, statement := range []string{
			"INSERT INTO items (id, note) SELECT 1, id FROM notes", "INSERT INTO items (id, note, parent) SELECT 2, id, 1 FROM notes",
		} {
			_, err := c.db.ExecContext(ctx, statement)
			must(t, err)
		}
	}
	var note int64
	must(t, c.admin.QueryRow("SELECT id FROM notes WHERE tenant_id = 'globex'").Scan(&note))
	_, err := c.db.ExecContext(c.acme, "INSERT INTO items (id, note) VALUES (3, ?)", note)
	mariaDBRefuses(t, "R10 a reference to another tenant's row", err, 1452)

	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	acme := provisioned(t, c.acme)
	for range 2 {
		must(t, p.Deprovision(t.Context(), acme))
	}
	for table, want := range map[string]int{"notes": 1, "items": 2} {
		var own, all int
		must(t, c.admin.QueryRow("SELECT sum(tenant_id = 'acme'), count(*) FROM "+table).Scan(&own, &all))
		if own != 0 || all != want {
			t.Errorf("%s has %d rows of acme and %d in all; want 0 and %d", table, own, all, want)
		}
	}
	if _, err := bodies(c.acme, c.db); err == nil { // on a connection that was open
		t.Error("a deleted tenant still reads")
	}
	db, err := isolation.Open(c.config)
	must(t, err)
	defer db.Close()
	_, err = bodies(c.acme, db)
	mustBe(t, err, isolation.ErrMissing)
	sees(t, c.globex, db, "of globex")
}

func TestSetupOfRowsOnMariaDBChangesNothingTwice(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	made := func() (when string) {
		must(t, c.admin.QueryRow("SELECT group_concat(created ORDER BY trigger_name) FROM information_schema.triggers WHERE trigger_schema = ?", c.name).Scan(&when))
		return when
	}
	before := made()
	if version, err := p.Setup(t.Context()); err != nil || version != 1 {
		t.Errorf("Setup: %d, %v", version, err)
	}
	if after := made(); after != before {
		t.Errorf("the triggers of %s were made again: %s", before, after)
	}
	down, err := rowsOf(c).Down()
	must(t, err)
	migrator := migratorOf(t, c)
	for _, statement := range strings.Split(strings.TrimSpace(down), ";\n") {
		_, err := migrator.Exec(strings.TrimSuffix(statement, ";"))
		must(t, err)
	}
	var left int
	must(t, c.admin.QueryRow(`SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = ?) +
		(SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = ?) +
		(SELECT count(*) FROM information_schema.routines WHERE routine_schema = ?)`, c.name, c.name, c.name).Scan(&left))
	if left != 1 {
		t.Errorf("%d objects are left; want the one table", left)
	}
	if _, err := bodies(c.acme, c.db); err == nil {
		t.Error("without a wall a tenant reads")
	}
	_, err = p.Setup(t.Context()) // and back
	must(t, err)
	c.acme = provision(t, p, tenant("acme"))
	sees(t, c.acme, c.db, "of acme")
}

func TestViewsOfRowsOnMariaDBTakeNothingOver(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	rows := *rowsOf(c)
	rows.Views = servers.MariaDB(t).CreateDatabase(t) // somebody else's
	server := c.config.Servers["main"].(isolation.MariaDB)
	server.Rows = &rows
	server.Open = func(l isolation.Login) (driver.Connector, error) {
		return connectMariaDB(servers.MariaDB(t), isolation.Login{User: "root", Password: servers.MariaDB(t).Password(), Database: l.Database})
	}
	c.config.Servers = map[string]isolation.Server{"main": server}
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	if _, err := p.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "was not made for the views") {
		t.Errorf("a database of somebody else's was taken for the views: %v", err)
	}
}

// TestRowsOnMariaDBTenantColumns has a tenant's id in every type that it may have.
func TestRowsOnMariaDBTenantColumns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ column, own, other, no string }{
		{"varchar(40) CHARACTER SET ascii COLLATE ascii_bin", "Acme", "acme", ""},
		{"char(36) CHARACTER SET latin1 COLLATE latin1_bin", "Acme", "ACME", ""},
		{"varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin INVISIBLE", "a.b~c", "a.b~C", ""},
		{"bigint", "9007199254740993", "9007199254740992", "07"},
		{"int unsigned", "4294967295", "4294967294", "0"},
		{"uuid", "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d", "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2e", "0199B2F4-7e1a-7c3e-9d55-3f1f8a0b6c2d"},
	} {
		t.Run(test.column, func(t *testing.T) {
			t.Parallel()
			column := strings.Replace(test.column, "INVISIBLE", "NOT NULL DEFAULT '' INVISIBLE", 1)
			if column == test.column {
				column += " NOT NULL"
			}
			c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Tables["typed"] = "org" }, nil,
				mariaDBRowsSchema, "CREATE TABLE typed (id int NOT NULL DEFAULT 0, org "+column+", PRIMARY KEY (org, id))")
			p, err := isolation.NewProvisioner(c.config, c.migration)
			must(t, err)
			own, other := provision(t, p, tenant(test.own)), provision(t, p, tenant(test.other))
			for _, ctx := range []context.Context{own, other} {
				_, err := c.db.ExecContext(ctx, "INSERT INTO typed (id) VALUES (1)")
				must(t, err)
				_, err = c.db.ExecContext(ctx, "UPDATE typed SET id = 2")
				must(t, err)
			}
			count := func(ctx context.Context, want int) {
				var n int
				must(t, c.db.QueryRowContext(ctx, "SELECT count(*) FROM typed").Scan(&n))
				if n != want {
					t.Errorf("%d rows, want %d", n, want)
				}
			}
			count(own, 1)
			count(tenancy.AsSystem(t.Context(), "count"), 2)
			if !strings.Contains(column, "INVISIBLE") { // else the column cannot be named
				_, err = c.db.ExecContext(own, "INSERT INTO typed (id, org) VALUES (3, ?)", test.other)
				mariaDBRefuses(t, "a row for the other", err, raised)
				_, err = c.db.ExecContext(own, "INSERT INTO typed (id, org) VALUES (3, ?)", test.own)
				must(t, err)
				count(own, 2)
			}
			if test.no != "" {
				no := provision(t, p, tenant(test.no))
				for _, text := range []string{"SELECT * FROM typed", "INSERT INTO typed (id) VALUES (9)", "DELETE FROM typed"} {
					_, err := c.db.ExecContext(no, text)
					if err == nil {
						t.Errorf("tenant %s: %s: no error", test.no, text)
					}
				}
			}
			must(t, p.Deprovision(t.Context(), provisioned(t, own)))
			count(other, 1)
			count(tenancy.AsSystem(t.Context(), "count"), 1)
		})
	}
}

// TestRowsOnMariaDBQueryCache has a server that remembers answers by the text of the question.
func TestRowsOnMariaDBQueryCache(t *testing.T) {
	t.Parallel()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{Settings: map[string]string{"query-cache-type": "1", "query-cache-size": "4M"}})
	c := openMariaDBRowsOn(t, server, func(r *isolation.MariaDBRows) { r.Shared = []string{"plans"} }, nil,
		mariaDBRowsSchema, "CREATE TABLE plans (id int PRIMARY KEY)")
	for range 3 {
		sees(t, c.acme, c.db, "of acme")
		sees(t, c.globex, c.db, "of globex")
	}
	_, err := c.db.ExecContext(c.acme, "SELECT id FROM plans")
	must(t, err)
	_, err = c.admin.Exec("UPDATE tenancy_login SET closed = true WHERE tenant = 'acme'")
	must(t, err)
	for _, text := range []string{"SELECT body FROM notes ORDER BY id", "SELECT id FROM plans"} {
		_, err = c.db.ExecContext(c.acme, text)
		mariaDBRefuses(t, text+" of a closed login", err, raised)
	}
}

// TestR16CascadesOnMariaDB deletes a parent whose child's key carries the tenant.
func TestR16CascadesOnMariaDB(t *testing.T) {
	t.Parallel()
	c := openMariaDBRowsOn(t, servers.MariaDB(t), func(r *isolation.MariaDBRows) { r.Tables["items"] = "" }, nil, mariaDBRowsSchema,
		"CREATE TABLE items (id int NOT NULL DEFAULT 0, tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, note bigint NOT NULL DEFAULT 0, "+
			"PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, note) REFERENCES notes (tenant_id, id) ON DELETE CASCADE ON UPDATE CASCADE)")
	for _, ctx := range []context.Context{c.acme, c.globex} { // the same ids for both
		for _, text := range []string{"INSERT INTO notes (id, body) VALUES (99, 'parent')", "INSERT INTO items (id, note) VALUES (1, 99)"} {
			_, err := c.db.ExecContext(ctx, text)
			must(t, err)
		}
	}
	for _, text := range []string{"UPDATE notes SET id = 100 WHERE id = 99", "REPLACE INTO notes (id, body) VALUES (100, 'replaced')", "DELETE FROM notes"} {
		_, err := c.db.ExecContext(c.acme, text)
		must(t, err)
	}
	var note int
	must(t, c.db.QueryRowContext(c.globex, "SELECT note FROM items").Scan(&note))
	if note != 99 {
		t.Errorf("the other's child now refers to %d", note)
	}
	if err := c.db.QueryRowContext(c.acme, "SELECT note FROM items").Scan(&note); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("the own child is still there: %v", err)
	}
}

// TestDeprovisionRowsOnMariaDBWithoutALogin has rows of a tenant that never got its login.
func TestDeprovisionRowsOnMariaDBWithoutALogin(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	late := tenant("late")
	late.Placement, err = p.Place(t.Context(), late)
	must(t, err)
	_, err = c.db.ExecContext(tenancy.AsSystem(t.Context(), "import"), "INSERT INTO notes (tenant_id, body) VALUES ('late', 'imported')")
	must(t, err)
	manifest, err := p.Manifest(t.Context(), late)
	must(t, err)
	if len(manifest.Items) != 1 || manifest.Items[0].Rows != 1 {
		t.Errorf("the manifest names %+v; want one row and no login", manifest.Items)
	}
	for range 2 {
		must(t, p.Deprovision(t.Context(), late))
	}
	sees(t, tenancy.AsSystem(t.Context(), "count"), c.db, "of acme", "of globex")
}

// TestDeprovisionRowsOnMariaDBConverges ends the migrator's connections after each number of
// statements, as kill -9 would, and begins again.
func TestDeprovisionRowsOnMariaDBConverges(t *testing.T) {
	t.Parallel()
	c := openMariaDBRows(t)
	whole := c.config.Servers["main"].(isolation.MariaDB)
	acme := provisioned(t, c.acme)
	steps := 0
	for ; ; steps++ {
		broken := whole
		left := steps
		broken.Open = func(l isolation.Login) (driver.Connector, error) {
			connector, err := whole.Open(l)
			return limited{connector, &left}, err
		}
		config := c.config
		config.Servers = map[string]isolation.Server{"main": broken}
		p, err := isolation.NewProvisioner(config, c.migration)
		must(t, err)
		if err = p.Deprovision(t.Context(), acme); err == nil {
			break
		}
		mustBe(t, err, errLimit)
	}
	if steps < 5 { // the login closed and dropped, the session's settings, the rows, the login forgotten
		t.Errorf("deprovisioning takes %d statements, so this test cannot end them", steps)
	}
	var left int
	must(t, c.admin.QueryRow("SELECT (SELECT count(*) FROM notes WHERE tenant_id = 'acme') + (SELECT count(*) FROM tenancy_login WHERE tenant = 'acme') + "+
		"(SELECT count(*) FROM mysql.global_priv WHERE User LIKE 't\\_acme%' AND User = ?)", acme.Placement.Schema).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows, logins or accounts are left", left)
	}
	sees(t, c.globex, c.db, "of globex")
}
