package servers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy/internal/integration/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func execSQL(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)

	t.Run("is one server for all tests", func(t *testing.T) {
		t.Parallel()
		if again := servers.Postgres(t); again != pg {
			t.Error("a second call started a second server")
		}
	})
	t.Run("gives every test a database that is gone afterwards", func(t *testing.T) {
		t.Parallel()
		var name string
		t.Run("inner", func(t *testing.T) {
			name = pg.CreateDatabase(t)
			conn := connect(t, pg.URL(name))
			execSQL(t, conn, "CREATE TABLE t (id int)")
			if got := query[string](t, conn, "SELECT current_database()"); got != name {
				t.Errorf("current_database = %s, want %s", got, name)
			}
		})
		conn := connect(t, pg.URL("postgres"))
		if n := query[int](t, conn, "SELECT count(*) FROM pg_database WHERE datname = $1", name); n != 0 {
			t.Error("the database is still there")
		}
	})
	t.Run("checks passwords", func(t *testing.T) {
		t.Parallel()
		user, password := pg.CreateRole(t, "BYPASSRLS")
		own := connect(t, pg.URLFor(user, password, "postgres"))
		if got := query[string](t, own, "SELECT rolname || ' ' || rolbypassrls || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user"); got != user+" true false" {
			t.Errorf("connected as %s", got)
		}
		_, err := pgx.Connect(t.Context(), pg.URLFor(user, "wrong", "postgres"))
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
			t.Errorf("a wrong password: %v", err)
		}
	})
	t.Run("takes 150 connections", func(t *testing.T) {
		t.Parallel()
		var wg sync.WaitGroup
		for range 150 {
			wg.Go(func() {
				conn, err := pgx.Connect(t.Context(), pg.URL("postgres"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close(context.Background())
			})
		}
		wg.Wait()
	})
}

func TestNewPostgres(t *testing.T) {
	t.Parallel()
	pg := servers.NewPostgres(t, servers.PostgresConfig{MaxConnections: 17, Settings: map[string]string{"work_mem": "7MB"}})
	db := pg.CreateDatabase(t)
	conn := connect(t, pg.URL(db))
	if got := query[string](t, conn, "SELECT current_setting('max_connections') || ' ' || current_setting('work_mem')"); got != "17 7MB" {
		t.Errorf("settings = %q", got)
	}
	execSQL(t, conn, "CREATE TABLE t (id int)")

	for _, end := range []struct {
		name string
		do   func() error
	}{
		{"restart", pg.Restart},
		{"stop and start", func() error { return errors.Join(pg.Stop(), pg.Stop(), pg.Start()) }},
		{"kill and start", func() error { return errors.Join(pg.Kill(), pg.Kill(), pg.Start()) }},
	} {
		addr, conn := pg.Addr(), connect(t, pg.URL(db))
		before := query[int](t, conn, "SELECT count(*) FROM t")
		// A busy backend must not outlive the server.
		busy := connect(t, pg.URL(db))
		go func() { _, _ = busy.Exec(context.Background(), "SELECT pg_sleep(600)") }()
		eventually(t, "a busy backend", func() bool {
			return query[int](t, conn, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()") == 1
		})
		execSQL(t, conn, "INSERT INTO t VALUES (1)")

		if err := end.do(); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Errorf("%s: an old connection survives", end.name)
		}
		if pg.Addr() != addr {
			t.Errorf("%s: moved from %s to %s", end.name, addr, pg.Addr())
		}
		if got := query[int](t, connect(t, pg.URL(db)), "SELECT count(*) FROM t"); got != before+1 {
			t.Errorf("%s: %d rows, want %d", end.name, got, before+1)
		}
	}
	must(t, pg.Stop())
	if _, err := pgx.Connect(t.Context(), pg.URL(db)); err == nil {
		t.Error("a stopped server answers")
	}
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	db, other := pg.CreateDatabase(t), pg.CreateDatabase(t)
	bouncer := servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: 2})
	a, passwordA := pg.CreateRole(t, "")
	b, _ := pg.CreateRole(t, "")
	const passwordB = `it's / a "secret" ?`
	execSQL(t, connect(t, pg.URL(db)), "ALTER ROLE "+b+" PASSWORD 'it''s / a \"secret\" ?'")

	const mode = "&default_query_exec_mode=exec"
	if _, err := pgx.Connect(t.Context(), bouncer.URLFor(a, passwordA, db)); err == nil {
		t.Error("a role that nobody has added is let in")
	}
	bouncer.AddUser(t, a, passwordA)
	bouncer.AddUser(t, b, passwordB)
	for _, database := range []string{db, other} {
		for user, password := range map[string]string{a: passwordA, b: passwordB} {
			conn := connect(t, bouncer.URLFor(user, password, database)+mode)
			if got := query[string](t, conn, "SELECT session_user || '@' || current_database()"); got != user+"@"+database {
				t.Errorf("%s at %s arrives as %s", user, database, got)
			}
		}
	}
	if _, err := pgx.Connect(t.Context(), bouncer.URLFor(b, "wrong", db)); err == nil {
		t.Error("a wrong password is let in")
	}

	// Transaction mode: more clients than server connections, and each is served.
	backends := map[int]bool{}
	for range 10 {
		backends[query[int](t, connect(t, bouncer.URL(db)+mode), "SELECT pg_backend_pid()")] = true
	}
	if len(backends) > 2 {
		t.Errorf("10 clients used %d server connections, want at most 2", len(backends))
	}

	console := connect(t, bouncer.ConsoleURL())
	execSQL(t, console, "SHOW POOLS")
	for name, end := range map[string]func() error{"restart": bouncer.Restart, "kill": func() error { return errors.Join(bouncer.Kill(), bouncer.Start()) }} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		query[int](t, connect(t, bouncer.URL(db)+mode), "SELECT 1")
	}
}

func TestPgBouncerFindsARestartedPostgres(t *testing.T) {
	t.Parallel()
	pg := servers.NewPostgres(t, servers.PostgresConfig{})
	bouncer := servers.PgBouncer(t, pg)
	url := bouncer.URL("postgres") + "&default_query_exec_mode=exec"
	query[int](t, connect(t, url), "SELECT 1")
	must(t, errors.Join(pg.Kill(), pg.Start()))
	eventually(t, "a connection through PgBouncer", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(context.Background()) }()
		return conn.Ping(t.Context()) == nil
	})
}

// child is what a helper process reports about its servers.
type child struct {
	Addr string
	PIDs []int
	Dirs []string
}

// TestHelperProcess is the body of the processes that startChild starts.
func TestHelperProcess(t *testing.T) {
	how := os.Getenv("TENANCY_TEST_CHILD")
	if how == "" {
		return // TestServersEndWithTheProcess and TestTwoProcessesDoNotMeet run it in processes of its own
	}
	var report child
	switch os.Getenv("TENANCY_TEST_CHILD_SERVER") {
	case "mariadb":
		report.Addr = servers.MariaDB(t).Addr()
	case "redis":
		report.Addr = servers.Redis(t).Addr()
	default:
		pg := servers.Postgres(t)
		servers.PgBouncer(t, pg)
		report.Addr = pg.Addr()
	}
	pidFiles, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "tenancy-*", "pid"))
	must(t, err)
	for _, file := range pidFiles {
		text, err := os.ReadFile(file)
		must(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		must(t, err)
		report.PIDs, report.Dirs = append(report.PIDs, pid), append(report.Dirs, filepath.Dir(file))
	}
	must(t, json.NewEncoder(os.Stderr).Encode(report))
	switch _, _ = io.Copy(io.Discard, os.Stdin); how {
	case "panic":
		go panic("as told")
		select {}
	case "exit":
		os.Exit(3)
	}
}

// startChild runs the helper in a temporary folder of its own and returns when its servers run:
// PostgreSQL and PgBouncer, or MariaDB, or Redis.
func startChild(t *testing.T, how, server string) (child, *exec.Cmd, io.Closer) {
	t.Helper()
	want := 1
	switch server { // skips or fails when there are no binaries
	case "mariadb":
		servers.MariaDB(t)
	case "redis":
		servers.Redis(t)
	default:
		want = 2
		servers.Postgres(t)
	}
	dir, err := os.MkdirTemp("", "child")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "TENANCY_TEST_CHILD="+how, "TENANCY_TEST_CHILD_SERVER="+server, "TMPDIR="+dir, "TENANCY_REQUIRE_SERVERS=1")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stderr).ReadString('\n')
	var c child
	if err := errors.Join(err, json.Unmarshal([]byte(line), &c)); err != nil {
		t.Fatalf("helper process: %v: %s", err, line)
	}
	if len(c.PIDs) != want {
		t.Fatalf("the helper runs %d servers, want %d: %+v", len(c.PIDs), want, c)
	}
	return c, cmd, stdin
}

func TestServersEndWithTheProcess(t *testing.T) {
	t.Parallel()
	for _, end := range []struct{ how, server string }{
		{"regular end", "postgres"},
		{"SIGKILL", "postgres"},
		{"panic", "postgres"},
		{"exit", "postgres"},
		{"SIGKILL", "mariadb"},
		{"exit", "mariadb"},
		{"SIGKILL", "redis"},
		{"regular end", "redis"},
	} {
		t.Run(end.server+" after "+end.how, func(t *testing.T) {
			t.Parallel()
			how := end.how
			c, cmd, stdin := startChild(t, how, end.server)
			for _, pid := range c.PIDs {
				if err := syscall.Kill(pid, 0); err != nil {
					t.Fatalf("server %d does not run: %v", pid, err)
				}
			}
			if how == "SIGKILL" {
				must(t, cmd.Process.Kill())
			} else {
				must(t, stdin.Close())
			}
			_ = cmd.Wait()
			for i, pid := range c.PIDs {
				eventually(t, fmt.Sprintf("the end of server %d", pid), func() bool { return !runs(pid) })
				eventually(t, "the removal of "+c.Dirs[i], func() bool {
					_, err := os.Stat(c.Dirs[i])
					return errors.Is(err, os.ErrNotExist)
				})
			}
		})
	}
}

// runs reports whether a process exists and is more than a zombie that nobody reaps.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err != nil || len(cmdline) > 0
}

func TestTwoProcessesDoNotMeet(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		addrs = map[string]int{servers.Postgres(t).Addr(): 1}
	)
	t.Run("group", func(t *testing.T) {
		for range 2 {
			t.Run("process", func(t *testing.T) {
				t.Parallel()
				c, _, _ := startChild(t, "regular end", "postgres")
				mu.Lock()
				defer mu.Unlock()
				addrs[c.Addr]++
			})
		}
	})
	if len(addrs) != 3 {
		t.Errorf("three processes have the addresses %v", addrs)
	}
}
