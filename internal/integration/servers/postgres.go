package servers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresConfig chooses how a PostgreSQL server of a test's own runs.
type PostgresConfig struct {
	// MaxConnections bounds the connections. Defaults to 200.
	MaxConnections int
	// Settings are further server settings, as in postgresql.conf.
	Settings map[string]string
}

// PostgresServer is a running throwaway PostgreSQL. Its superuser is "postgres" with a random
// password. Every login needs its password (SCRAM), so that tests of roles are honest. The data
// survive Kill, but not the end of the test process. All methods can be called concurrently.
type PostgresServer struct {
	daemon
	program  string
	args     []string
	port     int
	password string
}

// superuser is the role that initdb makes.
const superuser = "postgres"

var commonPostgres common[*PostgresServer]

// Postgres returns the server that all tests of this process share, and starts it for the first
// one. A test that stops or kills its server uses NewPostgres. Roles are common to all databases
// of a server: give a test's roles names of their own.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	bin, ok := postgresBinaries()
	if !ok {
		missing(t, "PostgreSQL", "postgresql")
	}
	return commonPostgres.get(t, "PostgreSQL", func() (*PostgresServer, error) { return newPostgres(bin, PostgresConfig{}) })
}

// NewPostgres starts a server that lives until the end of the test.
func NewPostgres(t testing.TB, config PostgresConfig) *PostgresServer {
	t.Helper()
	bin, ok := postgresBinaries()
	if !ok {
		missing(t, "PostgreSQL", "postgresql")
	}
	s, err := newPostgres(bin, config)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	s.endWith(t, "PostgreSQL")
	return s
}

// postgresBinaries finds the folder of the server programs. Debian keeps them out of PATH, one
// folder per major version.
func postgresBinaries() (string, bool) {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(folders, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	program, ok := find("initdb", folders...)
	if !ok {
		return "", false
	}
	if target, err := filepath.EvalSymlinks(program); err == nil {
		program = target
	}
	bin := filepath.Dir(program)
	_, err := os.Stat(filepath.Join(bin, "postgres"))
	return bin, err == nil
}

func majorVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

func newPostgres(bin string, config PostgresConfig) (_ *PostgresServer, err error) {
	if config.MaxConnections == 0 {
		config.MaxConnections = 200
	}
	// Immediate shutdown: the postmaster takes its children along.
	p, err := newProcess("postgres", "QUIT")
	if err != nil {
		return nil, err
	}
	register(p)
	defer func() {
		if err != nil {
			err = errors.Join(err, closeRegistered(p))
		}
	}()
	s := &PostgresServer{program: filepath.Join(bin, "postgres"), password: secret()}
	s.daemon = daemon{process: p, run: s.start, quit: syscall.SIGINT}
	if err := p.write("superuser", s.password); err != nil {
		return nil, err
	}
	err = p.run(filepath.Join(bin, "initdb"), "--pgdata", p.path("data"), "--username", superuser,
		"--auth", "scram-sha-256", "--pwfile", p.path("superuser"), "--encoding", "UTF8", "--no-locale",
		"--no-sync")
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": p.dir,
		"max_connections":         strconv.Itoa(config.MaxConnections),
		// The machine does not crash, the server may: synchronous_commit stays on, so that a
		// committed row is there after Kill.
		"fsync":               "off",
		"full_page_writes":    "off",
		"jit":                 "off",
		"password_encryption": "scram-sha-256",
	}
	maps.Copy(settings, config.Settings)
	s.args = []string{"-D", p.path("data")}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s.args = append(s.args, "-c", name+"="+settings[name])
	}
	// Between the choice of a port and its use another process can take it.
	for try := 0; ; try++ {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		err = s.Start()
		if err == nil || try == 4 || !strings.Contains(p.logTail(), "Address already in use") {
			return s, err
		}
	}
}

// Addr returns the host and port.
func (s *PostgresServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// Host returns the host name for drivers that want it apart from the port.
func (s *PostgresServer) Host() string { return "127.0.0.1" }

// Port returns the port. It stays the same over Restart and Kill.
func (s *PostgresServer) Port() int { return s.port }

// URL returns the connection string of the superuser for a database.
func (s *PostgresServer) URL(database string) string {
	return s.URLFor(superuser, s.password, database)
}

// URLFor returns the connection string of a role for a database.
func (s *PostgresServer) URLFor(user, password, database string) string {
	return postgresURL(s.Addr(), user, password, database)
}

func postgresURL(addr, user, password, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Password returns the superuser's password.
func (s *PostgresServer) Password() string { return s.password }

// CreateDatabase creates an empty database and drops it, with whoever is still connected, at
// the end of the test.
func (s *PostgresServer) CreateDatabase(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(secret())
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("create database %s: %v", name, err)
	}
	t.Cleanup(func() {
		if !s.process.alive() {
			return
		}
		if err := s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return name
}

// CreateRole creates a role that may log in, with a name and password of its own. Options are
// those of CREATE ROLE, such as "BYPASSRLS"; empty is a role without any privilege. The role
// stays until the server ends, for it may own what other databases hold.
func (s *PostgresServer) CreateRole(t testing.TB, options string) (user, password string) {
	t.Helper()
	user, password = "r_"+strings.ToLower(secret()), secret()
	if err := s.exec("CREATE ROLE " + user + " LOGIN PASSWORD '" + password + "' " + options); err != nil {
		t.Fatalf("create role %s %s: %v", user, options, err)
	}
	return user, password
}

// exec runs statements as the superuser in the database postgres. The end of the test must not
// cancel them.
func (s *PostgresServer) exec(sql string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// start starts the server and returns when it answers.
func (s *PostgresServer) start() error {
	deadline := time.Now().Add(startTimeout)
	for {
		args := append(slices.Clone(s.args), "-p", strconv.Itoa(s.port))
		if err := s.process.start(s.program, args...); err != nil {
			return err
		}
		err := s.process.ready(func() error { return s.exec("SELECT 1") })
		if err == nil {
			return nil
		}
		// After Kill the kernel may take a moment to end the last backend.
		lingering := strings.Contains(err.Error(), "pre-existing shared memory block")
		if s.process.alive() || !lingering || time.Now().After(deadline) {
			return errors.Join(err, s.process.stop(syscall.SIGQUIT))
		}
		time.Sleep(10 * pollInterval)
	}
}

// Kill ends the server and all its backends at once with SIGKILL, as a crash does, and returns
// when the postmaster is gone.
func (s *PostgresServer) Kill() error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	pid := s.process.pid()
	if pid == 0 {
		return nil
	}
	// A stopped postmaster neither forks nor mends what is killed under it.
	if err := s.process.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	backends, err := children(pid)
	if err := errors.Join(err, s.process.signal(syscall.SIGKILL)); err != nil {
		return err
	}
	for _, backend := range backends {
		if err := syscall.Kill(backend, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill backend %d: %w", backend, err)
		}
	}
	return s.process.wait(stopTimeout)
}
