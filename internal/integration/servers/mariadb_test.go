package servers_test

import (
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy/internal/integration/servers"
)

func openMariaDB(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func ask[T any](t testing.TB, db *sql.DB, query string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func run(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// wantMariaDBError fails unless err is the server's error of that number.
func wantMariaDBError(t testing.TB, what string, err error, number uint16) {
	t.Helper()
	if refused, ok := errors.AsType[*mysql.MySQLError](err); !ok || refused.Number != number {
		t.Errorf("%s: %v; want error %d", what, err, number)
	}
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	const denied, deniedToDatabase = 1045, 1044
	server := servers.MariaDB(t)
	root := openMariaDB(t, server.DSN(""))

	t.Run("is one server for all tests", func(t *testing.T) {
		t.Parallel()
		if again := servers.MariaDB(t); again != server {
			t.Error("a second call started a second server")
		}
	})
	t.Run("gives every test a database that is gone afterwards", func(t *testing.T) {
		t.Parallel()
		var name string
		t.Run("inner", func(t *testing.T) {
			name = server.CreateDatabase(t)
			db := openMariaDB(t, server.DSN(name))
			run(t, db, "CREATE TABLE t (id int)")
			if got := ask[string](t, db, "SELECT database()"); got != name {
				t.Errorf("the database is %s, want %s", got, name)
			}
		})
		if n := ask[int](t, root, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?", name); n != 0 {
			t.Error("the database is still there")
		}
	})
	t.Run("checks passwords and grants", func(t *testing.T) {
		t.Parallel()
		own, other := server.CreateDatabase(t), server.CreateDatabase(t)
		user, password := server.CreateUser(t, "SELECT, INSERT ON "+own+".*")
		db := openMariaDB(t, server.DSNFor(user, password, own))
		if got := ask[string](t, db, "SELECT current_user()"); got != user+"@%" {
			t.Errorf("connected as %s", got)
		}
		for _, c := range []struct {
			user, password, database string
			number                   uint16
		}{
			{user, "wrong", own, denied},
			{user, "", own, denied},
			{user, password, other, deniedToDatabase},
			{"root", "", "", denied},
			{"", "", "", denied},
		} {
			err := openMariaDB(t, server.DSNFor(c.user, c.password, c.database)).PingContext(t.Context())
			wantMariaDBError(t, "log in as "+c.user+" to "+c.database, err, c.number)
		}
	})
	t.Run("knows no user but root", func(t *testing.T) {
		t.Parallel()
		const others = `SELECT count(*) FROM mysql.global_priv WHERE User NOT LIKE 'u\\_%'
			AND User NOT IN ('mariadb.sys') AND (User, Host) <> ('root', '127.0.0.1')`
		if n := ask[int](t, root, others); n != 0 {
			t.Errorf("there are %d more users", n)
		}
	})
	t.Run("takes 150 connections", func(t *testing.T) {
		t.Parallel()
		var wg sync.WaitGroup
		for range 150 {
			wg.Go(func() {
				conn, err := root.Conn(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close()
			})
		}
		wg.Wait()
	})
}

func TestNewMariaDB(t *testing.T) {
	t.Parallel()
	server := servers.NewMariaDB(t, servers.MariaDBConfig{MaxConnections: 17, Settings: map[string]string{"lock-wait-timeout": "7"}})
	name := server.CreateDatabase(t)
	user, password := server.CreateUser(t, "ALL ON "+name+".*")
	run(t, openMariaDB(t, server.DSNFor(user, password, name)), "CREATE TABLE t (id int)")
	if got := ask[string](t, openMariaDB(t, server.DSN("")), "SELECT concat(@@max_connections, ' ', @@lock_wait_timeout)"); got != "17 7" {
		t.Errorf("settings = %q", got)
	}
	for _, end := range []struct {
		name string
		do   func() error
	}{
		{"restart", server.Restart},
		{"stop and start", func() error { return errors.Join(server.Stop(), server.Stop(), server.Start()) }},
		{"kill and start", func() error { return errors.Join(server.Kill(), server.Kill(), server.Start()) }},
	} {
		addr := server.Addr()
		db := openMariaDB(t, server.DSNFor(user, password, name))
		before := ask[int](t, db, "SELECT count(*) FROM t")
		conn, err := db.Conn(t.Context())
		must(t, err)
		run(t, db, "INSERT INTO t VALUES (1)")

		if err := end.do(); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if err := conn.PingContext(t.Context()); err == nil {
			t.Errorf("%s: an old connection survives", end.name)
		}
		_ = conn.Close()
		if server.Addr() != addr {
			t.Errorf("%s: moved from %s to %s", end.name, addr, server.Addr())
		}
		if got := ask[int](t, openMariaDB(t, server.DSNFor(user, password, name)), "SELECT count(*) FROM t"); got != before+1 {
			t.Errorf("%s: %d rows, want %d", end.name, got, before+1)
		}
	}
	must(t, server.Stop())
	if err := openMariaDB(t, server.DSN("")).PingContext(t.Context()); err == nil || strings.Contains(err.Error(), "1045") {
		t.Errorf("a stopped server answers: %v", err)
	}
}
