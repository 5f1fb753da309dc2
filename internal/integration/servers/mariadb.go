package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDBConfig chooses how a MariaDB server of a test's own runs.
type MariaDBConfig struct {
	// MaxConnections bounds the connections. Defaults to 200.
	MaxConnections int
	// Settings are further server settings, as in my.cnf. Without them the server runs with its
	// compiled-in defaults, whatever the machine's option files say: latin1, strict mode.
	Settings map[string]string
}

// MariaDBServer is a running throwaway MariaDB. Its superuser is "root" with a random password,
// and there is no other user. The data survive Kill, but not the end of the test process. All
// methods can be called concurrently.
type MariaDBServer struct {
	daemon
	program  string
	args     []string
	port     int
	password string
}

// mariadbRoot is the superuser that installing makes.
const mariadbRoot = "root"

var commonMariaDB common[*MariaDBServer]

// MariaDB returns the server that all tests of this process share, and starts it for the first
// one. A test that stops or kills its server uses NewMariaDB. Users are common to all databases
// of a server: give a test's users names of their own.
func MariaDB(t testing.TB) *MariaDBServer {
	t.Helper()
	programs, ok := mariadbBinaries()
	if !ok {
		missing(t, "MariaDB", mariadbPackages)
	}
	return commonMariaDB.get(t, "MariaDB", func() (*MariaDBServer, error) { return newMariaDB(programs, MariaDBConfig{}) })
}

// NewMariaDB starts a server that lives until the end of the test.
func NewMariaDB(t testing.TB, config MariaDBConfig) *MariaDBServer {
	t.Helper()
	programs, ok := mariadbBinaries()
	if !ok {
		missing(t, "MariaDB", mariadbPackages)
	}
	s, err := newMariaDB(programs, config)
	if err != nil {
		t.Fatalf("start MariaDB: %v", err)
	}
	s.endWith(t, "MariaDB")
	return s
}

// mariadbPackages hold the programs without a service: the client's has what the installer of
// the server's calls.
const mariadbPackages = "mariadb-server-core mariadb-client-core"

type mariadbPrograms struct{ install, server string }

func mariadbBinaries() (p mariadbPrograms, ok bool) {
	if p.install, ok = find("mariadb-install-db"); !ok {
		return p, false
	}
	if _, ok = find("my_print_defaults"); !ok {
		return p, false
	}
	p.server, ok = find("mariadbd", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
	return p, ok
}

func newMariaDB(programs mariadbPrograms, config MariaDBConfig) (_ *MariaDBServer, err error) {
	if config.MaxConnections == 0 {
		config.MaxConnections = 200
	}
	p, err := newProcess("mariadb", "KILL") // one process, whose files go with it
	if err != nil {
		return nil, err
	}
	register(p)
	defer func() {
		if err != nil {
			err = errors.Join(err, closeRegistered(p))
		}
	}()
	s := &MariaDBServer{program: programs.server, password: secret()}
	s.daemon = daemon{process: p, run: s.start, quit: syscall.SIGTERM}
	settings := map[string]string{
		// The machine does not crash, the server may: what is committed has been written when
		// COMMIT returns, and is there after Kill.
		"innodb-flush-method":            "nosync",
		"innodb-flush-log-at-trx-commit": "2",
		"innodb-log-file-size":           "32M",
		// A server that starts removes the temporary tables of others from a common folder.
		"tmpdir": p.dir,
	}
	installed := []string{
		"--no-defaults", "--datadir=" + p.path("data"), "--skip-test-db", "--skip-name-resolve",
		"--auth-root-authentication-method=normal",
	}
	if err := p.run(programs.install, append(installed, options(settings)...)...); err != nil {
		return nil, err
	}
	// Runs at each start before the first connection, so that there is never a server without
	// passwords.
	err = p.write("init.sql", strings.Join([]string{
		"CREATE USER IF NOT EXISTS root@'127.0.0.1';",
		"GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' IDENTIFIED BY '" + s.password + "' WITH GRANT OPTION;",
		"DELETE FROM mysql.global_priv WHERE User IN ('root', '') AND (User, Host) <> ('root', '127.0.0.1');",
		"FLUSH PRIVILEGES;",
	}, "\n")+"\n")
	if err != nil {
		return nil, err
	}
	maps.Copy(settings, map[string]string{
		"bind-address":            "127.0.0.1",
		"skip-name-resolve":       "ON",
		"socket":                  p.path("socket"),
		"pid-file":                p.path("server.pid"),
		"init-file":               p.path("init.sql"),
		"max-connections":         strconv.Itoa(config.MaxConnections),
		"innodb-buffer-pool-size": "64M",
	})
	maps.Copy(settings, config.Settings)
	s.args = append([]string{"--no-defaults", "--datadir=" + p.path("data")}, options(settings)...)
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

func options(settings map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, "--"+name+"="+settings[name])
	}
	return list
}

// Addr returns the host and port.
func (s *MariaDBServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// Host returns the host name for drivers that want it apart from the port.
func (s *MariaDBServer) Host() string { return "127.0.0.1" }

// Port returns the port. It stays the same over Restart and Kill.
func (s *MariaDBServer) Port() int { return s.port }

// DSN returns go-sql-driver's connection string of the superuser for a database, or for none
// when database is "".
func (s *MariaDBServer) DSN(database string) string {
	return s.DSNFor(mariadbRoot, s.password, database)
}

// DSNFor returns go-sql-driver's connection string of a user for a database. It ends with the
// database's name: parameters follow after a question mark.
func (s *MariaDBServer) DSNFor(user, password, database string) string {
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", s.Addr(), user, password, database
	return config.FormatDSN()
}

// Password returns the superuser's password.
func (s *MariaDBServer) Password() string { return s.password }

// CreateDatabase creates an empty database and drops it at the end of the test.
func (s *MariaDBServer) CreateDatabase(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(secret())
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("create database %s: %v", name, err)
	}
	t.Cleanup(func() {
		if !s.process.alive() {
			return
		}
		if err := s.exec("DROP DATABASE IF EXISTS " + name); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return name
}

// CreateUser creates a user who may log in, with a name and password of its own, and grants it
// what is given, such as "SELECT ON t_1.*", or nothing. The user is gone at the end of the test.
func (s *MariaDBServer) CreateUser(t testing.TB, grants ...string) (user, password string) {
	t.Helper()
	user, password = "u_"+strings.ToLower(secret()), secret()
	if err := s.exec("CREATE USER " + user + " IDENTIFIED BY '" + password + "'"); err != nil {
		t.Fatalf("create user %s: %v", user, err)
	}
	for _, grant := range grants {
		if err := s.exec("GRANT " + grant + " TO " + user); err != nil {
			t.Fatalf("grant %s to %s: %v", grant, user, err)
		}
	}
	t.Cleanup(func() {
		if !s.process.alive() {
			return
		}
		if err := s.exec("DROP USER IF EXISTS " + user); err != nil {
			t.Errorf("drop user %s: %v", user, err)
		}
	})
	return user, password
}

// exec runs a statement as the superuser. The end of the test must not cancel it.
func (s *MariaDBServer) exec(statement string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// start starts the server and returns when it answers.
func (s *MariaDBServer) start() error {
	if err := s.process.start(s.program, append(slices.Clone(s.args), "--port="+strconv.Itoa(s.port))...); err != nil {
		return err
	}
	if err := s.process.ready(func() error { return s.exec("SELECT 1") }); err != nil {
		return errors.Join(fmt.Errorf("port %d: %w", s.port, err), s.process.stop(syscall.SIGKILL))
	}
	return nil
}
