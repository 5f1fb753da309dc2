package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// mariaDBSchema is the application's table on MariaDB: no word about tenants.
const mariaDBSchema = "CREATE TABLE IF NOT EXISTS notes (id bigint PRIMARY KEY AUTO_INCREMENT, body text NOT NULL)"

func openMariaDBSchemas(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openMariaDBOn(t, servers.MariaDB(t), tenancy.StrategySchema, options)
}

func openMariaDBDatabases(t testing.TB, options ...func(*isolation.Config)) *cell {
	return openMariaDBOn(t, servers.MariaDB(t), tenancy.StrategyDatabase, options)
}

// openMariaDBOn has the logins that the documentation names, with the rights that it names.
func openMariaDBOn(t testing.TB, server *servers.MariaDBServer, strategy string, options []func(*isolation.Config)) *cell {
	t.Helper()
	app, appPassword := server.CreateUser(t)
	system, systemPassword := server.CreateUser(t, "SELECT, INSERT, UPDATE, DELETE ON *.*")
	migrator, migratorPassword := server.CreateUser(t, "CREATE USER ON *.*", "ALL PRIVILEGES ON `t\\_%`.*", "GRANT OPTION ON `t\\_%`.*")
	c := &cell{}
	var err error
	c.admin, err = sql.Open("mysql", server.DSN(""))
	must(t, err)
	t.Cleanup(func() { _ = c.admin.Close() })
	c.config = isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.MariaDB{
			App:    mariaDBConnector(t, server, isolation.Login{User: app, Password: appPassword}),
			System: mariaDBConnector(t, server, isolation.Login{User: system, Password: systemPassword}),
			Open: func(l isolation.Login) (driver.Connector, error) {
				if l.User == "" {
					l.User, l.Password = migrator, migratorPassword
				}
				return connectMariaDB(server, l)
			},
			Key: key,
		}},
		Strategy: strategy,
	}
	c.start(t, migration(mariaDBSchema), options)
	return c
}

func mariaDBConnector(t testing.TB, server *servers.MariaDBServer, l isolation.Login) driver.Connector {
	t.Helper()
	c, err := connectMariaDB(server, l)
	must(t, err)
	return c
}

func connectMariaDB(server *servers.MariaDBServer, l isolation.Login, tune ...func(*mysql.Config)) (driver.Connector, error) {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", server.Addr()
	config.User, config.Passwd, config.DBName = l.User, l.Password, l.Database
	config.Logger = &mysql.NopLogger{}
	for _, set := range tune {
		set(config)
	}
	connector, err := mysql.NewConnector(config)
	return dollars{connector}, err
}

// dollars lets MariaDB take the $1 of the tests that all engines share.
type dollars struct{ driver.Connector }

var dollar = regexp.MustCompile(`\$\d`)

func (d dollars) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return dollarConn{conn.(mysqlConn)}, nil
}

// mysqlConn is what go-sql-driver's connection can do.
type mysqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.NamedValueChecker
	driver.SessionResetter
	driver.Validator
}

type dollarConn struct{ mysqlConn }

func (c dollarConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.mysqlConn.PrepareContext(ctx, dollar.ReplaceAllString(query, "?"))
}

func (c dollarConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.mysqlConn.ExecContext(ctx, dollar.ReplaceAllString(query, "?"), args)
}

func (c dollarConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.mysqlConn.QueryContext(ctx, dollar.ReplaceAllString(query, "?"), args)
}

func isMariaDB(a access) bool { return a.engine == isolation.EngineMariaDB }

// hasMariaDB reports whether each tenant has a database there.
func hasMariaDB(a access) bool { return isMariaDB(a) && !a.views }

// databaseOf returns the name of a tenant's database.
func databaseOf(t testing.TB, ctx context.Context) string {
	t.Helper()
	p := placementOf(t, ctx)
	return p.Schema + p.Database
}

// mariaDBRefuses fails the test unless the server answered with one of these numbers.
func mariaDBRefuses(t testing.TB, what string, err error, numbers ...uint16) {
	t.Helper()
	refused, ok := errors.AsType[*mysql.MySQLError](err)
	for _, number := range numbers {
		if ok && refused.Number == number {
			return
		}
	}
	t.Errorf("%s: %v; want an error with one of the numbers %d", what, err, numbers)
}

func TestC18QualifiedNameReachesNobodyElseOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t, one)
		database := databaseOf(t, c.globex)
		theirs := database + ".notes"
		for _, text := range []string{
			"SELECT body FROM " + theirs, "INSERT INTO " + theirs + " (body) VALUES ('x')", "UPDATE " + theirs + " SET body = 'x'",
			"DELETE FROM " + theirs, "REPLACE INTO " + theirs + " VALUES (1, 'x')", "INSERT INTO notes (body) SELECT body FROM " + theirs,
			"SELECT n.body FROM notes AS n JOIN " + theirs + " AS o ON n.id = o.id", "USE " + database, "TRUNCATE " + theirs,
			"DROP TABLE " + theirs, "CREATE TABLE " + database + ".x (id int)", "CREATE VIEW x AS SELECT body FROM " + theirs,
			"SHOW TABLES FROM " + database, "SELECT load_file('/etc/passwd') INTO OUTFILE '/tmp/tenancy'",
			"CREATE TABLE x (id int)", "ALTER TABLE notes ADD COLUMN x int", "TRUNCATE notes", "LOCK TABLES notes WRITE",
			"GRANT SELECT ON notes TO PUBLIC", "CREATE USER x", "SELECT User FROM mysql.user", "SET GLOBAL sql_mode = ''",
		} {
			_, err := c.db.ExecContext(c.acme, text)
			mariaDBRefuses(t, text, err, 1044, 1045, 1142, 1227, 1410)
		}
		var n int
		must(t, c.db.QueryRowContext(c.acme, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?", database).Scan(&n))
		if n != 0 {
			t.Error("a tenant sees that the other's database exists")
		}
		sees(t, c.globex, c.db, "of globex")
		sees(t, c.acme, c.db, "of acme")
	})
}

// TestC18GrantsNameOneDatabase makes a database whose name the tenant's matches as a pattern.
func TestC18GrantsNameOneDatabase(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		alike := strings.ReplaceAll(databaseOf(t, c.acme), "_", "x")
		for _, statement := range []string{"CREATE DATABASE " + alike, "CREATE TABLE " + alike + ".notes (body text)"} {
			_, err := c.admin.Exec(statement)
			must(t, err)
		}
		t.Cleanup(func() { _, _ = c.admin.Exec("DROP DATABASE " + alike) })
		_, err := c.db.ExecContext(c.acme, "SELECT body FROM "+alike+".notes")
		mariaDBRefuses(t, "a database whose name looks alike", err, 1142)
	})
}

// TestC21NothingOfASessionIsLeftOnMariaDB has one connection, so that each use could find what the
// one before left.
func TestC21NothingOfASessionIsLeftOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t, one)
		ctx := c.acme
		home := databaseOf(t, ctx)
		if a.views {
			home = c.config.Servers["main"].(isolation.MariaDB).Rows.Views
		}
		for _, left := range []struct{ do, ask, want string }{
			{"SET @secret = 'x'", "SELECT coalesce(@secret, 'nothing')", "nothing"},
			{"SELECT @secret := 'x'", "SELECT coalesce(@secret, 'nothing')", "nothing"},
			{"SELECT body INTO @secret FROM notes", "SELECT coalesce(@secret, 'nothing')", "nothing"},
			{"SET time_zone = '+05:00'", "SELECT @@time_zone", "SYSTEM"},
			{"USE information_schema", "SELECT database()", home},
			{"SELECT get_lock('tenancy.test', 0)", "SELECT coalesce(is_used_lock('tenancy.test') = connection_id(), 0)", "0"},
			{"CREATE TEMPORARY TABLE notes SELECT 7 AS id, 'shadow' AS body", "SELECT group_concat(body) FROM notes", "of acme"},
			{"SET SESSION TRANSACTION READ ONLY", "SELECT @@tx_read_only", "0"},
			{"SET sql_mode = ''", "SELECT @@sql_mode <> ''", "1"},
		} {
			check := func(how string) {
				var got string
				must(t, c.db.QueryRowContext(ctx, left.ask).Scan(&got))
				if got != left.want {
					t.Errorf("after %s %s: %s answers %q, want %q", left.do, how, left.ask, got, left.want)
				}
			}
			_, err := c.db.ExecContext(ctx, left.do)
			must(t, err)
			check("as a statement")
			must(t, c.db.InTx(ctx, nil, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, left.do)
				return err
			}))
			check("in a transaction")
			conn, err := c.db.Conn(ctx)
			must(t, err)
			_, err = conn.ExecContext(ctx, left.do)
			must(t, err)
			must(t, conn.Close())
			check("in a lease")
			rows, err := c.db.QueryContext(ctx, left.do)
			must(t, err)
			must(t, rows.Close())
			check("as a query")
		}
	})
}

// TestALeaseOnMariaDBKeepsItsSession is the other side: inside a lease the session is one.
func TestALeaseOnMariaDBKeepsItsSession(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		conn, err := c.db.Conn(c.acme)
		must(t, err)
		defer conn.Close()
		for _, statement := range []string{"SET @x = 7", "CREATE TEMPORARY TABLE mine SELECT @x AS x"} {
			_, err = conn.ExecContext(c.acme, statement)
			must(t, err)
		}
		var x int
		must(t, conn.QueryRowContext(c.acme, "SELECT x FROM mine").Scan(&x))
		if x != 7 {
			t.Errorf("x is %d", x)
		}
		_, err = conn.ExecContext(c.globex, "SELECT 1")
		mustBe(t, err, tenancy.ErrTenantMismatch)
	})
}

// TestC06NothingEndsATransactionOnMariaDB sends what the server takes for the end of a transaction,
// even when it refuses it.
func TestC06NothingEndsATransactionOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t, one)
		for _, text := range []string{
			"COMMIT", "BEGIN", "START TRANSACTION", "# why\nCOMMIT", "/* a /* b */ COMMIT", "/*!COMMIT*/", "/*M! COMMIT */",
			"SET autocommit = 1", "SET STATEMENT max_statement_time = 1 FOR COMMIT", "XA START 'x'", "BEGIN NOT ATOMIC COMMIT; END",
			"CREATE TABLE x (id int)", "DROP TABLE notes", "TRUNCATE notes", "ALTER TABLE notes ADD COLUMN x int", "ANALYZE TABLE notes",
			"LOCK TABLES notes READ", "GRANT SELECT ON notes TO PUBLIC", "FLUSH TABLES", "EXECUTE IMMEDIATE 'COMMIT'", "RENAME TABLE notes TO x",
		} {
			err := c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')"); err != nil {
					return err
				}
				_, err := tx.ExecContext(c.acme, text)
				return err
			})
			if !errors.Is(err, isolation.ErrTransactionControl) && !errors.Is(err, isolation.ErrSeveralStatements) {
				t.Errorf("%s: %v", text, err)
			}
			sees(t, c.acme, c.db, "of acme")
		}
		for _, text := range []string{"SELECT 1; COMMIT", `SELECT 'a\'; COMMIT -- '`, "INSERT INTO notes (body) VALUES ('x'); SET autocommit = 0"} {
			_, err := c.db.ExecContext(c.acme, text)
			mustBe(t, err, isolation.ErrSeveralStatements)
		}
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestSystemScopeNamesTheDatabaseOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		ctx := tenancy.AsSystem(t.Context(), "count")
		for tn, want := range map[context.Context]string{c.acme: "of acme", c.globex: "of globex"} {
			var body string
			must(t, c.db.QueryRowContext(ctx, "SELECT body FROM "+databaseOf(t, tn)+".notes").Scan(&body))
			if body != want {
				t.Errorf("the system saw %q, want %q", body, want)
			}
		}
		if _, err := bodies(ctx, c.db); err == nil {
			t.Error("the system scope found a table without being told whose")
		}
		server := c.config.Servers["main"].(isolation.MariaDB)
		server.System = nil
		c.config.Servers["main"] = server
		db, err := isolation.Open(c.config)
		must(t, err)
		defer db.Close()
		_, err = db.ExecContext(ctx, "SELECT 1")
		mustBe(t, err, isolation.ErrNoSystemLogin)
	})
}

// TestMariaDBOpenMustUseTheLogin has functions that do not do as they are told.
func TestMariaDBOpenMustUseTheLogin(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		server := servers.MariaDB(t)
		for name, test := range map[string]struct {
			open   func(l isolation.Login) (driver.Connector, error)
			remedy string
		}{
			"one login for all": {func(l isolation.Login) (driver.Connector, error) {
				return connectMariaDB(server, isolation.Login{User: "root", Password: server.Password(), Database: l.Database})
			}, "use Login.User"},
			"no database": {func(l isolation.Login) (driver.Connector, error) {
				l.Database = ""
				return connectMariaDB(server, l)
			}, "use Login.User"},
			"no autocommit": {func(l isolation.Login) (driver.Connector, error) {
				config, err := mysql.ParseDSN(server.DSNFor(l.User, l.Password, l.Database) + "?autocommit=false")
				if err != nil {
					return nil, err
				}
				return mysql.NewConnector(config)
			}, "leave it out of the DSN"},
		} {
			c := a.open(t)
			main := c.config.Servers["main"].(isolation.MariaDB)
			main.Open = test.open
			c.config.Servers["main"] = main
			db, err := isolation.Open(c.config)
			must(t, err)
			_, err = db.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('x')")
			if err == nil || !strings.Contains(err.Error(), test.remedy) {
				t.Errorf("%s: %v; want an error that says %q", name, err, test.remedy)
			}
			must(t, db.Close())
			sees(t, c.acme, c.db, "of acme")
		}
	})
}

func TestAnotherKeyOnMariaDBIsNamed(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		main := c.config.Servers["main"].(isolation.MariaDB)
		main.Key = []byte(strings.Repeat("x", 32))
		c.config.Servers["main"] = main
		db, err := isolation.Open(c.config)
		must(t, err)
		defer db.Close()
		_, err = bodies(c.acme, db)
		mustBe(t, err, isolation.ErrMissing)
		if !strings.Contains(err.Error(), "MariaDB.Key") {
			t.Errorf("the error does not name the key: %v", err)
		}
		// Provisioning again sets the new passwords and keeps the data.
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		scope, err := tenancy.ScopeOf(c.acme)
		must(t, err)
		_, err = p.Provision(t.Context(), *scope.Tenant)
		must(t, err)
		sees(t, c.acme, db, "of acme")
	})
}

func TestForeignDatabasesOnMariaDBAreLeftAlone(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		foreign := servers.MariaDB(t).CreateDatabase(t) // as the migrator could have made it, without a mark
		mine := databaseOf(t, c.acme)
		theirs := mine[:len(mine)-12] + fmt.Sprintf("%012x", time.Now().UnixNano()&(1<<48-1)) // a name that could be acme's
		_, err = c.admin.Exec("CREATE DATABASE " + theirs)
		must(t, err)
		t.Cleanup(func() {
			_, err := c.admin.Exec("DROP DATABASE " + theirs)
			must(t, err)
		})
		_, err = c.admin.Exec("CREATE TABLE " + theirs + ".precious (id int)")
		must(t, err)
		for _, name := range []string{theirs, foreign, databaseOf(t, c.globex), "mysql", "information_schema", "T", "a b", "a`; DROP DATABASE x"} {
			tn := tenant("acme")
			tn.Placement = placementOf(t, c.acme)
			if a.name == "schema on MariaDB" {
				tn.Placement.Schema = name
			} else {
				tn.Placement.Database = name
			}
			if _, err := p.Provision(t.Context(), tn); err == nil {
				t.Errorf("the database %q was taken over", name)
			}
			if err := p.Deprovision(t.Context(), tn); err == nil {
				t.Errorf("the database %q was dropped", name)
			}
		}
		var precious, logins int
		must(t, c.admin.QueryRow("SELECT count(*) FROM "+theirs+".precious").Scan(&precious))
		must(t, c.admin.QueryRow("SELECT count(*) FROM mysql.db WHERE User IN (?, ?)", theirs, foreign).Scan(&logins))
		if logins != 0 {
			t.Errorf("%d logins were let into a database that is not the tenant's", logins)
		}
		sees(t, c.globex, c.db, "of globex")
	})
}

func TestDeprovisionOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		scope, err := tenancy.ScopeOf(c.acme)
		must(t, err)
		var login string
		must(t, c.db.QueryRowContext(c.acme, "SELECT current_user()").Scan(&login))
		for range 2 {
			must(t, p.Deprovision(t.Context(), *scope.Tenant))
		}
		var n int
		must(t, c.admin.QueryRow("SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?", databaseOf(t, c.acme)).Scan(&n))
		if n != 0 {
			t.Error("the database is still there")
		}
		user, _, _ := strings.Cut(login, "@")
		must(t, c.admin.QueryRow("SELECT count(*) FROM mysql.global_priv WHERE User = ?", user).Scan(&n))
		if n != 0 {
			t.Error("the login is still there")
		}
		db, err := isolation.Open(c.config)
		must(t, err)
		defer db.Close()
		_, err = bodies(c.acme, db)
		mustBe(t, err, isolation.ErrMissing)
		sees(t, c.globex, c.db, "of globex")
	})
}

func TestCheckFindsHolesOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		must(t, c.db.Check(t.Context()))
		app := mariaDBApp(t, c)
		database := databaseOf(t, c.acme)
		for _, hole := range []struct{ open, close, finding string }{
			{"GRANT SELECT ON *.* TO " + app, "REVOKE SELECT ON *.* FROM " + app, "REVOKE ALL PRIVILEGES"},
			{"GRANT SELECT ON " + database + ".* TO " + app, "REVOKE SELECT ON " + database + ".* FROM " + app, database},
			{"GRANT SELECT ON " + database + ".notes TO " + app, "REVOKE SELECT ON " + database + ".notes FROM " + app, database},
		} {
			_, err := c.admin.Exec(hole.open)
			must(t, err)
			if err := c.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), hole.finding) {
				t.Errorf("%s: %v; want a finding that says %q", hole.open, err, hole.finding)
			}
			_, err = c.admin.Exec(hole.close)
			must(t, err)
			must(t, c.db.Check(t.Context()))
		}
	})
}

// TestProvisioningOnMariaDBProvesTheWall has rights that somebody gave beside the library.
func TestProvisioningOnMariaDBProvesTheWall(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		scope, err := tenancy.ScopeOf(c.acme)
		must(t, err)
		var account string
		must(t, c.db.QueryRowContext(c.acme, "SELECT current_user()").Scan(&account))
		user, _, _ := strings.Cut(account, "@")
		theirs := databaseOf(t, c.globex)
		_, err = c.admin.Exec("GRANT SELECT ON " + theirs + ".notes TO " + user)
		must(t, err)
		if _, err := p.Provision(t.Context(), *scope.Tenant); err == nil || !strings.Contains(err.Error(), theirs) {
			t.Errorf("provisioning a login that sees %s: %v", theirs, err)
		}
		_, err = c.admin.Exec("REVOKE SELECT ON " + theirs + ".notes FROM " + user)
		must(t, err)
		_, err = p.Provision(t.Context(), *scope.Tenant)
		must(t, err)
	})
}

// mariaDBApp returns the account of the role app.
func mariaDBApp(t testing.TB, c *cell) string {
	t.Helper()
	db := sql.OpenDB(c.config.Servers["main"].(isolation.MariaDB).App)
	defer db.Close()
	var account string
	must(t, db.QueryRow("SELECT current_user()").Scan(&account))
	user, _, _ := strings.Cut(account, "@")
	return user
}

func TestRowLevelOnMariaDBIsRefused(t *testing.T) {
	t.Parallel()
	c := openMariaDBDatabases(t)
	c.config.Strategy = tenancy.StrategyRowLevel
	_, err := isolation.Open(c.config)
	mustBe(t, err, isolation.ErrUnsupported)
	for _, remedy := range []string{"schema", "database"} {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", remedy)) {
			t.Errorf("the error does not name the strategy %s: %v", remedy, err)
		}
	}
}

// TestC11KilledSessionOnMariaDB has the server end a tenant's sessions.
func TestC11KilledSessionOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		var account string
		must(t, c.db.QueryRowContext(c.acme, "SELECT current_user()").Scan(&account))
		user, _, _ := strings.Cut(account, "@")
		sessions := func(where string) (ids []int) {
			rows, err := c.admin.Query("SELECT id FROM information_schema.processlist WHERE user = ? AND command <> 'Killed' AND "+where, user)
			must(t, err)
			defer rows.Close()
			for rows.Next() {
				var id int
				must(t, rows.Scan(&id))
				ids = append(ids, id)
			}
			must(t, rows.Err())
			return ids
		}
		kill := func(where string) {
			eventually(t, "a session to kill", func() bool {
				ids := sessions(where)
				for _, id := range ids {
					_, err := c.admin.Exec(fmt.Sprintf("KILL %d", id))
					must(t, err)
				}
				return len(ids) > 0
			})
			eventually(t, "the end of the session", func() bool { return len(sessions(where)) == 0 })
		}
		t.Run("in a transaction is an error", func(t *testing.T) {
			tx, err := c.db.BeginTx(c.acme, nil)
			must(t, err)
			_, err = tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
			must(t, err)
			kill("command = 'Sleep'")
			_, err = tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never either')")
			if err == nil || errors.Is(err, driver.ErrBadConn) {
				t.Errorf("got %v", err)
			}
			if err := tx.Commit(); err == nil {
				t.Error("the transaction was committed")
			}
			sees(t, c.acme, c.db, "of acme")
		})
		t.Run("in a statement is an error and not a second try", func(t *testing.T) {
			failed := make(chan error, 1)
			go func() {
				_, err := c.db.ExecContext(c.acme, "INSERT INTO notes (body) SELECT concat('never', sleep(60))")
				failed <- err
			}()
			kill("info LIKE '%sleep(60)%'")
			select {
			case err := <-failed:
				if err == nil || errors.Is(err, driver.ErrBadConn) {
					t.Errorf("got %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the statement was tried again")
			}
			sees(t, c.acme, c.db, "of acme")
		})
		t.Run("of an unused connection is not noticed", func(t *testing.T) {
			sees(t, c.acme, c.db, "of acme")
			kill("command = 'Sleep'")
			sees(t, c.acme, c.db, "of acme")
		})
	})
}

func TestC11RestartOfMariaDB(t *testing.T) {
	t.Parallel()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{})
	c := openMariaDBOn(t, server, tenancy.StrategyDatabase, nil)
	tx, err := c.db.BeginTx(c.acme, nil)
	must(t, err)
	_, err = tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
	must(t, err)
	c.add(t, c.globex, "acknowledged")
	must(t, server.Kill())
	if _, err := bodies(c.globex, c.db); err == nil || errors.Is(err, driver.ErrBadConn) {
		t.Errorf("without a server: %v", err)
	}
	must(t, server.Start())
	if _, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never either')"); err == nil {
		t.Error("the transaction goes on after a restart")
	}
	if err := tx.Commit(); err == nil {
		t.Error("the transaction was committed")
	}
	sees(t, c.acme, c.db, "of acme")
	sees(t, c.globex, c.db, "of globex", "acknowledged")
}

// TestProvisioningOnMariaDBConverges ends the migrator's connections after each number of
// statements, as kill -9 would, and begins again.
func TestProvisioningOnMariaDBConverges(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		tn := tenant("initech")
		tn.Placement, err = p.Place(t.Context(), tn)
		must(t, err)
		whole := c.config.Servers["main"].(isolation.MariaDB)
		steps := 0
		for ; ; steps++ {
			broken := whole
			left := steps
			broken.Open = func(l isolation.Login) (driver.Connector, error) {
				connector, err := whole.Open(l)
				if l.User == "" {
					connector = limited{connector, &left}
				}
				return connector, err
			}
			config := c.config
			config.Servers = map[string]isolation.Server{"main": broken}
			p, err := isolation.NewProvisioner(config, c.migration)
			must(t, err)
			if _, err = p.Provision(t.Context(), tn); err == nil {
				break
			}
			mustBe(t, err, errLimit)
		}
		if steps < 4 { // the login twice, its rights, and the database and tables, or whose it is
			t.Errorf("provisioning takes %d statements, so this test cannot end them", steps)
		}
		ctx := tenancy.UnsafeBind(t.Context(), tn, "test")
		c.add(t, ctx, "kept")
		var group sync.WaitGroup
		for range 4 { // again, by several at once
			group.Go(func() {
				if _, err := p.Provision(t.Context(), tn); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		sees(t, ctx, c.db, "kept")
		must(t, p.Deprovision(t.Context(), tn))
	})
}

var errLimit = errors.New("no statement is left")

// limited opens connections that run a number of statements together.
type limited struct {
	driver.Connector
	left *int
}

func (l limited) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := l.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return limitedConn{conn.(dollarConn), l.left}, nil
}

type limitedConn struct {
	dollarConn
	left *int
}

func (c limitedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if *c.left == 0 {
		return nil, errLimit
	}
	*c.left--
	return c.dollarConn.ExecContext(ctx, query, args)
}

func TestProvisioningOnMariaDBByManyAtOnce(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		p, err := isolation.NewProvisioner(c.config, c.migration)
		must(t, err)
		tn := tenant("initech")
		tn.Placement, err = p.Place(t.Context(), tn)
		must(t, err)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if _, err := p.Provision(t.Context(), tn); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		ctx := tenancy.UnsafeBind(t.Context(), tn, "test")
		c.add(t, ctx, "mine")
		sees(t, ctx, c.db, "mine")
		must(t, p.Deprovision(t.Context(), tn))
	})
}

// TestC20ProcedureWithCommitOnMariaDB calls what ends the transaction where no text shows it.
func TestC20ProcedureWithCommitOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t, one)
		for _, procedure := range []string{
			"commits() COMMIT", "begins() START TRANSACTION", "writes() INSERT INTO notes (body) VALUES ('by the procedure')",
		} {
			_, err := c.admin.Exec("CREATE PROCEDURE " + databaseOf(t, c.acme) + "." + procedure)
			must(t, err)
		}
		for name, after := range map[string]func(tx *sql.Tx) error{
			"a statement": func(tx *sql.Tx) error {
				_, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('late')")
				return err
			},
			"a query":    func(tx *sql.Tx) error { _, err := bodies(c.acme, tx); return err },
			"the commit": func(*sql.Tx) error { return nil },
		} {
			err := c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(c.acme, "CALL commits()"); err != nil {
					return err
				}
				return after(tx)
			})
			if !errors.Is(err, isolation.ErrTransactionControl) {
				t.Errorf("%s after the procedure: %v; want ErrTransactionControl", name, err)
			}
		}
		sees(t, c.acme, c.db, "of acme")
		// A transaction that a procedure leaves open ends with its connection.
		_, err := c.db.ExecContext(c.acme, "CALL begins()")
		must(t, err)
		c.add(t, c.acme, "acknowledged")
		must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, "CALL writes()")
			return err
		}))
		sees(t, c.acme, c.db, "of acme", "acknowledged", "by the procedure")
		sees(t, c.globex, c.db, "of globex")
	})
}

// TestReadOnlyOnMariaDBGoesToTheReplica has a replica that is known by refusing to write.
func TestReadOnlyOnMariaDBGoesToTheReplica(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		server := servers.MariaDB(t)
		c := a.open(t, func(config *isolation.Config) {
			main := config.Servers["main"].(isolation.MariaDB)
			main.OpenReplica = func(l isolation.Login) (driver.Connector, error) {
				config, err := mysql.ParseDSN(server.DSNFor(l.User, l.Password, l.Database) + "?tx_read_only=1")
				if err != nil {
					return nil, err
				}
				return mysql.NewConnector(config)
			}
			config.Servers["main"] = main
		})
		const readOnlyTransaction = 1792
		for range 3 {
			replica := tenancy.ReadOnly(c.acme)
			sees(t, replica, c.db, "of acme")
			_, err := c.db.ExecContext(replica, "DELETE FROM notes")
			mariaDBRefuses(t, "a write to the replica", err, readOnlyTransaction)
			_, err = c.db.ExecContext(c.acme, "UPDATE notes SET body = 'of acme'")
			must(t, err)
			sees(t, tenancy.ReadOnly(c.globex), c.db, "of globex")
		}
	})
}
