package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

func TestSystemScope(t *testing.T) {
	t.Parallel()
	each(t, isRows, func(t *testing.T, a access) {
		var mu sync.Mutex
		var reasons []string
		c := a.open(t, func(config *isolation.Config) {
			config.OnSystem = func(_ context.Context, reason string) {
				mu.Lock()
				defer mu.Unlock()
				reasons = append(reasons, reason)
			}
		})
		ctx := tenancy.AsSystem(t.Context(), "count all notes")
		sees(t, ctx, c.db, "of acme", "of globex")
		must(t, c.db.InTx(ctx, nil, func(tx *sql.Tx) error {
			sees(t, ctx, tx, "of acme", "of globex")
			return nil
		}))
		if len(reasons) != 2 || reasons[0] != "count all notes" {
			t.Errorf("recorded %q", reasons)
		}
		_, err := c.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ('nobody''s')")
		if err == nil || !strings.Contains(err.Error(), "no tenant is bound") {
			t.Errorf("a row of nobody: %v", err)
		}
		pg := c.config.Servers["main"].(isolation.PostgreSQL)
		pg.System = nil
		c.config.Servers["main"] = pg
		without, err := isolation.Open(c.config)
		must(t, err)
		defer without.Close()
		_, err = bodies(ctx, without)
		mustBe(t, err, isolation.ErrNoSystemLogin)
	})
	c := openSQLite(t)
	_, err := bodies(tenancy.AsSystem(t.Context(), "test"), c.db)
	mustBe(t, err, isolation.ErrNoSystemLogin)
}

func TestWallStopsForeignRows(t *testing.T) {
	t.Parallel()
	each(t, isRows, func(t *testing.T, a access) {
		c := a.open(t)
		for _, statement := range []string{
			"INSERT INTO notes (tenant_id, body) VALUES ('globex', 'planted')",
			"UPDATE notes SET tenant_id = 'globex'",
			"TRUNCATE notes",
			"ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
			"DROP POLICY tenancy_tenant ON notes",
			"SET LOCAL row_security = off; SELECT * FROM notes",
			"SET ROLE " + c.roles.System,
			"COPY notes FROM STDIN",
		} {
			if _, err := c.db.ExecContext(c.acme, statement); err == nil {
				t.Errorf("%s: allowed", statement)
			}
		}
		for _, statement := range []string{
			"UPDATE notes SET body = body || '' WHERE tenant_id = 'globex' OR true",
			"DELETE FROM notes WHERE tenant_id = 'globex'",
		} {
			_, err := c.db.ExecContext(c.acme, statement)
			must(t, err)
		}
		sees(t, c.globex, c.db, "of globex")
		sees(t, c.acme, c.db, "of acme")
		err := c.db.QueryRowContext(c.acme, "SELECT body FROM notes, pg_sleep(0) WHERE 1/(id-id) = 1").Scan(new(string))
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "22012" {
			t.Errorf("the driver's error does not pass: %v", err)
		}
	})
}

func TestCommitErrorsSurface(t *testing.T) {
	t.Parallel()
	each(t, isRows, func(t *testing.T, a access) {
		c := a.open(t, one)
		_, err := c.admin.Exec("ALTER TABLE notes ADD CONSTRAINT once UNIQUE (tenant_id, body) DEFERRABLE INITIALLY DEFERRED")
		must(t, err)
		const insert = "INSERT INTO notes (body) VALUES ('of acme')"
		unique := func(err error) {
			t.Helper()
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" {
				t.Errorf("got %v", err)
			}
		}
		_, err = c.db.ExecContext(c.acme, insert)
		unique(err)
		var id int64
		unique(c.db.QueryRowContext(c.acme, insert+" RETURNING id").Scan(&id))
		rows, err := c.db.QueryContext(c.acme, insert+" RETURNING id")
		if err == nil {
			for rows.Next() {
				must(t, rows.Scan(&id))
			}
			err = rows.Err()
			_ = rows.Close()
		}
		unique(err)
		unique(c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, insert)
			return err
		}))
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestTransactionOptions(t *testing.T) {
	t.Parallel()
	each(t, isPostgreSQL, func(t *testing.T, a access) {
		c := a.open(t, one)
		var level string
		must(t, c.db.InTx(c.acme, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true}, func(tx *sql.Tx) error {
			must(t, tx.QueryRowContext(c.acme, "SHOW transaction_isolation").Scan(&level))
			_, err := tx.ExecContext(c.acme, "SAVEPOINT s")
			must(t, err)
			if _, err := tx.ExecContext(c.acme, "DELETE FROM notes"); err == nil {
				t.Error("a read-only transaction wrote")
			}
			_, err = tx.ExecContext(c.acme, "ROLLBACK TO s")
			return err
		}))
		if level != "serializable" {
			t.Errorf("isolation level is %q", level)
		}
		must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
			must(t, err)
			return tx.QueryRowContext(c.acme, "SHOW transaction_isolation").Scan(&level)
		}))
		if level != "repeatable read" {
			t.Errorf("isolation level is %q", level)
		}
		for _, opts := range []sql.TxOptions{
			{},
			{ReadOnly: true},
			{Isolation: sql.LevelReadUncommitted},
			{Isolation: sql.LevelReadCommitted, ReadOnly: true},
			{Isolation: sql.LevelRepeatableRead},
			{Isolation: sql.LevelSnapshot},
			{Isolation: sql.LevelSerializable},
			{Isolation: sql.LevelLinearizable},
		} {
			want, got := optionsOf(t.Context(), c.admin, opts), optionsOf(c.acme, c.db.DB, opts)
			if got != want {
				t.Errorf("%+v: %s, want %s", opts, got, want)
			}
		}
	})
}

// optionsOf says what the server knows of a transaction that began with opts.
func optionsOf(ctx context.Context, db *sql.DB, opts sql.TxOptions) string {
	tx, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = tx.Rollback() }()
	var level, readOnly string
	err = tx.QueryRowContext(ctx, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&level, &readOnly)
	return fmt.Sprint(level, ", read only ", readOnly, ": ", err)
}

func TestVersionQueriesNeedNoTenant(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		query := "SELECT VERSION()"
		if a.engine == isolation.EngineSQLite {
			query = "select sqlite_version()"
		}
		var version string
		must(t, c.db.QueryRow(query).Scan(&version))
		_, err := c.db.Exec(query + " -- and more")
		mustBe(t, err, tenancy.ErrNoTenant)
	})
}

func TestRaw(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		copyIn := func(fail error) error {
			return isolation.Raw(c.acme, c.db, func(driverConn any) error {
				if _, err := pgxOf(driverConn).Exec(t.Context(), "INSERT INTO notes (body) VALUES ('raw')"); err != nil {
					return err
				}
				return fail
			})
		}
		sentinel := errors.New("the callback's")
		mustBe(t, copyIn(sentinel), sentinel)
		sees(t, c.acme, c.db, "of acme")
		must(t, copyIn(nil))
		sees(t, c.acme, c.db, "of acme", "raw")
		sees(t, c.globex, c.db, "of globex")
		mustBe(t, isolation.Raw(t.Context(), c.db, func(any) error { return nil }), tenancy.ErrNoTenant)
		inner.clean(t)
	})
}

// rawExec runs a statement as the driver's connection does.
func rawExec(t testing.TB, driverConn any, query string) (driver.Result, error) {
	t.Helper()
	execer, ok := driverConn.(driver.ExecerContext)
	if !ok {
		t.Fatalf("%T is not the driver's connection", driverConn)
	}
	return execer.ExecContext(t.Context(), query, nil)
}

// TestRawWhereConnectionsAreNotShared has no transaction around fn: what it did stays when it
// fails. What it left on the session does not.
func TestRawWhereConnectionsAreNotShared(t *testing.T) {
	t.Parallel()
	leave := map[isolation.Engine]string{ // "" is PostgreSQL
		"":                      "SELECT set_config('my.word', 'left', false)",
		isolation.EngineMariaDB: "SET @word = 'left'",
		isolation.EngineSQLite:  "CREATE TEMP TABLE word AS SELECT 'left' AS word",
	}
	find := map[isolation.Engine]string{
		"":                      "SELECT coalesce(current_setting('my.word', true), '')",
		isolation.EngineMariaDB: "SELECT coalesce(@word, '')",
		isolation.EngineSQLite:  "SELECT coalesce((SELECT name FROM sqlite_temp_master), '')",
	}
	each(t, func(a access) bool { return !a.shared }, func(t *testing.T, a access) {
		c := a.open(t, one)
		sentinel := errors.New("the callback's")
		for body, fail := range map[string]error{"raw": nil, "raw, then failed": sentinel} {
			err := isolation.Raw(c.acme, c.db, func(driverConn any) error {
				for _, statement := range []string{"INSERT INTO notes (body) VALUES ('" + body + "')", leave[a.engine]} {
					_, err := rawExec(t, driverConn, statement)
					must(t, err)
				}
				return fail
			})
			if !errors.Is(err, fail) {
				t.Errorf("got %v, want %v", err, fail)
			}
			var left string
			must(t, c.db.QueryRowContext(c.acme, find[a.engine]).Scan(&left))
			if left != "" {
				t.Errorf("the session still has %q", left)
			}
		}
		all, err := bodies(c.acme, c.db)
		must(t, err)
		slices.Sort(all)
		if !slices.Equal(all, []string{"of acme", "raw", "raw, then failed"}) {
			t.Errorf("acme has %q", all)
		}
		sees(t, c.globex, c.db, "of globex")
		mustBe(t, isolation.Raw(t.Context(), c.db, func(any) error { return nil }), tenancy.ErrNoTenant)
	})
}

func TestCheckFindsHoles(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	must(t, c.db.Check(t.Context()))
	p, err := isolation.NewProvisioner(c.config, nil)
	must(t, err)
	for hole, test := range map[string]struct{ open, close, finding string }{
		"no FORCE":        {"ALTER TABLE notes NO FORCE ROW LEVEL SECURITY", "ALTER TABLE notes FORCE ROW LEVEL SECURITY", "force"},
		"no ENABLE":       {"ALTER TABLE notes DISABLE ROW LEVEL SECURITY", "ALTER TABLE notes ENABLE ROW LEVEL SECURITY", "no row security"},
		"TRUNCATE":        {"GRANT TRUNCATE ON notes TO PUBLIC", "REVOKE TRUNCATE ON notes FROM PUBLIC", "TRUNCATE"},
		"REFERENCES":      {"GRANT REFERENCES (id) ON notes TO PUBLIC", "REVOKE REFERENCES (id) ON notes FROM PUBLIC", "REFERENCE"},
		"another policy":  {"CREATE POLICY leak ON notes USING (true)", "DROP POLICY leak ON notes", "leak"},
		"BYPASSRLS":       {`ALTER ROLE "%app%" BYPASSRLS`, `ALTER ROLE "%app%" NOBYPASSRLS`, "BYPASSRLS"},
		"superuser":       {`ALTER ROLE "%app%" SUPERUSER`, `ALTER ROLE "%app%" NOSUPERUSER`, "superuser"},
		"owner":           {`ALTER TABLE notes OWNER TO "%app%"`, `ALTER TABLE notes OWNER TO "%migrator%"`, "owned"},
		"member":          {`GRANT "%system%" TO "%app%"`, `REVOKE "%system%" FROM "%app%"`, "member"},
		"a standing bind": {`ALTER ROLE "%app%" SET app.tenant_id = 'acme'`, `ALTER ROLE "%app%" RESET app.tenant_id`, "already has"},
		"no WITH CHECK": {
			"ALTER POLICY tenancy_tenant ON notes WITH CHECK (true)",
			"ALTER POLICY tenancy_tenant ON notes WITH CHECK (tenant_id = (SELECT tenancy_tenant()))",
			"lacks the policy",
		},
		"no table": {"ALTER TABLE notes RENAME TO gone", "ALTER TABLE gone RENAME TO notes", "does not exist"},
	} {
		names := strings.NewReplacer("%app%", c.roles.App, "%system%", c.roles.System, "%migrator%", c.roles.Migrator)
		run := func(script string) {
			for _, statement := range strings.Split(names.Replace(script), "; ") {
				_, err := c.admin.Exec(statement)
				must(t, err)
			}
		}
		run(test.open)
		err := c.db.Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.finding) {
			t.Errorf("%s: Check says %v", hole, err)
		}
		scope, _ := tenancy.ScopeOf(c.acme)
		if _, err := p.Provision(t.Context(), *scope.Tenant); err == nil {
			t.Errorf("%s: a tenant was provisioned all the same", hole)
		}
		run(test.close)
		if err := c.db.Check(t.Context()); err != nil {
			t.Fatalf("%s: after the repair: %v", hole, err)
		}
	}
}

func TestRLSUpAgainAndDown(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	rls := *c.config.Servers["main"].(isolation.PostgreSQL).RLS
	must(t, rls.Apply(t.Context(), c.admin))
	sees(t, c.acme, c.db, "of acme")
	down, err := rls.Down()
	must(t, err)
	for _, statement := range strings.Split(strings.TrimSpace(down), ";\n") {
		_, err := c.admin.Exec(statement)
		must(t, err)
	}
	sees(t, c.acme, c.db, "of acme", "of globex") // the wall is gone
	if err := c.db.Check(t.Context()); err == nil {
		t.Error("Check does not miss the wall")
	}
	must(t, rls.Apply(t.Context(), c.admin))
	sees(t, c.acme, c.db, "of acme")
}

func TestRLSQuotesNamesAndCastsTypes(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	for _, ddl := range []string{
		`CREATE SCHEMA "Odd Schema"`,
		`CREATE TABLE "Odd Schema"."we""ird; drop table notes" (id serial, "Org Id" uuid NOT NULL, body text)`,
		`CREATE TABLE numbers (id bigserial PRIMARY KEY, tenant_id bigint NOT NULL, body text)`,
		`CREATE TABLE parents (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id))`,
		`CREATE TABLE children (tenant_id text NOT NULL, parent int, FOREIGN KEY (tenant_id, parent) REFERENCES parents)`,
		`CREATE TABLE countries (code text PRIMARY KEY)`,
		`INSERT INTO countries VALUES ('de')`,
	} {
		_, err := c.admin.Exec(ddl)
		must(t, err)
	}
	rls := isolation.RLS{
		Roles: c.roles, Shared: []string{"countries"},
		Tables: []isolation.Table{
			{Name: "notes"},
			{Name: "parents"},
			{Name: "children"},
			{Schema: "Odd Schema", Name: `we"ird; drop table notes`, Column: "Org Id", Type: "uuid"},
		},
	}
	must(t, rls.Apply(t.Context(), c.admin))
	pg := c.config.Servers["main"].(isolation.PostgreSQL)
	pg.RLS = &rls
	c.config.Servers["main"] = pg
	db, err := isolation.Open(c.config)
	must(t, err)
	defer db.Close()
	must(t, db.Check(t.Context()))
	p, err := isolation.NewProvisioner(c.config, nil)
	must(t, err)
	const id = "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d"
	ctx := provision(t, p, tenant(id))
	must(t, db.InTx(ctx, nil, func(tx *sql.Tx) error {
		for _, s := range []string{
			`INSERT INTO "Odd Schema"."we""ird; drop table notes" (body) VALUES ('x')`,
			"INSERT INTO parents (id) VALUES (1)", "INSERT INTO children (parent) VALUES (1)",
		} {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}))
	var code string
	must(t, db.QueryRowContext(ctx, "SELECT code FROM countries").Scan(&code))
	if _, err := db.ExecContext(ctx, "INSERT INTO countries VALUES ('fr')"); err == nil {
		t.Error("a tenant wrote a shared table")
	}
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	must(t, p.Deprovision(t.Context(), *scope.Tenant)) // parents before children, in one statement
	var n int
	must(t, c.admin.QueryRow(`SELECT (SELECT count(*) FROM "Odd Schema"."we""ird; drop table notes") + (SELECT count(*) FROM parents)
		+ (SELECT count(*) FROM children)`).Scan(&n))
	if n != 0 {
		t.Errorf("%d rows are left", n)
	}
	sees(t, c.acme, c.db, "of acme")
}

func TestRolesCreateMeets(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	other := openDirect(t) // another database of the same server
	var wg sync.WaitGroup
	for i := range 8 {
		admin := c.admin
		if i%2 == 1 {
			admin = other.admin
		}
		wg.Go(func() {
			if err := c.roles.Create(context.Background(), admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			rls := c.config.Servers["main"].(isolation.PostgreSQL).RLS
			if err := rls.Apply(context.Background(), c.admin); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sees(t, c.acme, c.db, "of acme")
	_, _ = other.admin.Exec(`DROP OWNED BY "` + c.roles.Migrator + `"`)
}

func TestUnsupportedCombinations(t *testing.T) {
	t.Parallel()
	c, files := openDirect(t), openSQLite(t)
	without := c.config
	bare := c.config.Servers["main"].(isolation.PostgreSQL)
	bare.RLS = nil
	without.Servers = map[string]isolation.Server{"main": bare}
	for _, refused := range []struct {
		what, strategy string
		config         isolation.Config
		remedies       []string
	}{
		{"row_level on PostgreSQL", tenancy.StrategyRowLevel, without, []string{"set PostgreSQL.RLS"}},
		{"schema on PostgreSQL", tenancy.StrategySchema, c.config, []string{"set PostgreSQL.Schemas"}},
		{"database on PostgreSQL", tenancy.StrategyDatabase, c.config, []string{"set PostgreSQL.Databases"}},
		{"row_level on SQLite", tenancy.StrategyRowLevel, files.config, []string{"use the strategy database", "or PostgreSQL", "set SQLite.Rows"}},
		{"schema on SQLite", tenancy.StrategySchema, files.config, []string{"use the strategy database", "or PostgreSQL"}},
		{"a strategy that nobody has", "by_moon", c.config, []string{`choose one of ["database" "row_level" "schema"]`, "isolation.NewRegistry"}},
	} {
		refused.config.Strategy = refused.strategy
		_, err := isolation.Open(refused.config)
		mustBe(t, err, isolation.ErrUnsupported)
		_, ofProvisioner := isolation.NewProvisioner(refused.config, nil)
		mustBe(t, ofProvisioner, isolation.ErrUnsupported)
		for _, remedy := range append(refused.remedies, refused.strategy) {
			if !strings.Contains(err.Error(), remedy) {
				t.Errorf("%s: the error does not say %q: %v", refused.what, remedy, err)
			}
		}
	}
	moved := tenant("acme")
	moved.Placement = tenancy.Placement{Strategy: tenancy.StrategySchema}
	_, err := bodies(tenancy.UnsafeBind(t.Context(), moved, "test"), c.db)
	mustBe(t, err, isolation.ErrUnsupported)
	moved.Placement = tenancy.Placement{Strategy: tenancy.StrategyRowLevel, Server: "elsewhere"}
	_, err = bodies(tenancy.UnsafeBind(t.Context(), moved, "test"), c.db)
	if err == nil || !strings.Contains(err.Error(), "add it to isolation.Config.Servers") {
		t.Errorf("a tenant of an unknown server: %v", err)
	}
}

func TestMixedStrategies(t *testing.T) {
	t.Parallel()
	c, files := openDirect(t), openSQLite(t)
	c.config.Servers["files"] = files.config.Servers["files"]
	c.config.Server = "main"
	db, err := isolation.Open(c.config)
	must(t, err)
	defer db.Close()
	sees(t, c.acme, db, "of acme")
	files.add(t, files.acme, "in the file")
	sees(t, files.acme, db, "of acme", "in the file")
}
