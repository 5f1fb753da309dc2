package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncerConfig chooses how a PgBouncer runs.
type PgBouncerConfig struct {
	// PoolMode is session, transaction or statement. Defaults to transaction.
	PoolMode string
	// PoolSize bounds the server connections per pair of user and database. Defaults to 20.
	PoolSize int
	// MaxClients bounds the client connections. Defaults to 1000.
	MaxClients int
	// Settings are further lines of the section [pgbouncer].
	Settings map[string]string
}

// PgBouncerServer is a running throwaway PgBouncer in front of a PostgresServer. It serves every
// database of that server. It knows the superuser; other roles are made known with AddUser, and
// each reaches PostgreSQL as itself. All methods can be called concurrently.
type PgBouncerServer struct {
	daemon
	program string
	config  PgBouncerConfig
	pg      *PostgresServer
	port    int
	console string // password of the console's only user

	mu    sync.Mutex
	users map[string]string
}

// consoleUser may use the administration console and is no role of PostgreSQL.
const consoleUser = "pgbouncer_console"

// PgBouncer starts a PgBouncer in transaction mode in front of pg. It lives until the end of the
// test.
func PgBouncer(t testing.TB, pg *PostgresServer) *PgBouncerServer {
	t.Helper()
	return NewPgBouncer(t, pg, PgBouncerConfig{})
}

// NewPgBouncer is PgBouncer with a choice of its settings.
func NewPgBouncer(t testing.TB, pg *PostgresServer, config PgBouncerConfig) *PgBouncerServer {
	t.Helper()
	program, ok := find("pgbouncer", "/usr/sbin", "/usr/local/sbin")
	if !ok {
		missing(t, "PgBouncer", "pgbouncer")
	}
	b, err := newPgBouncer(program, pg, config)
	if err != nil {
		t.Fatalf("start PgBouncer: %v", err)
	}
	b.endWith(t, "PgBouncer")
	return b
}

func newPgBouncer(program string, pg *PostgresServer, config PgBouncerConfig) (_ *PgBouncerServer, err error) {
	config.PoolMode = cmp.Or(config.PoolMode, "transaction")
	config.PoolSize = cmp.Or(config.PoolSize, 20)
	config.MaxClients = cmp.Or(config.MaxClients, 1000)
	p, err := newProcess("pgbouncer", "TERM")
	if err != nil {
		return nil, err
	}
	register(p)
	defer func() {
		if err != nil {
			err = errors.Join(err, closeRegistered(p))
		}
	}()
	b := &PgBouncerServer{program: program, config: config, pg: pg, console: secret()}
	b.daemon = daemon{process: p, run: b.start, quit: syscall.SIGTERM}
	b.users = map[string]string{superuser: pg.password, consoleUser: b.console}
	if err := b.writeUsers(); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		if b.port, err = freePort(); err != nil {
			return nil, err
		}
		if err := b.writeConfig(); err != nil {
			return nil, err
		}
		err = b.Start()
		if err == nil || try == 4 || !strings.Contains(p.logTail(), "Address already in use") {
			return b, err
		}
	}
}

func (b *PgBouncerServer) writeConfig() error {
	settings := map[string]string{
		"listen_addr":     "127.0.0.1",
		"listen_port":     strconv.Itoa(b.port),
		"unix_socket_dir": "",
		// With the plain passwords in auth_file PgBouncer speaks SCRAM on both sides, so that
		// each client's role is also the role in PostgreSQL.
		"auth_type":          "scram-sha-256",
		"auth_file":          b.process.path("users"),
		"admin_users":        consoleUser,
		"pool_mode":          b.config.PoolMode,
		"default_pool_size":  strconv.Itoa(b.config.PoolSize),
		"max_client_conn":    strconv.Itoa(b.config.MaxClients),
		"server_tls_sslmode": "disable",
		// What drivers send at the start of a connection and a pooler cannot keep per client.
		"ignore_startup_parameters": "extra_float_digits",
		// After a crash of PostgreSQL: try again after one second, not after fifteen.
		"server_login_retry": "1",
	}
	maps.Copy(settings, b.config.Settings)
	var ini strings.Builder
	fmt.Fprintf(&ini, "[databases]\n* = host=%s port=%d\n\n[pgbouncer]\n", b.pg.Host(), b.pg.Port())
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, settings[name])
	}
	return b.process.write("pgbouncer.ini", ini.String())
}

// writeUsers writes the user list. The caller holds b.mu or is alone.
func (b *PgBouncerServer) writeUsers() error {
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(b.users)) {
		fmt.Fprintf(&list, "%s %s\n", quote(name), quote(b.users[name]))
	}
	return b.process.write("users", list.String())
}

// AddUser makes a role of PostgreSQL known, or its new password, and returns when PgBouncer has
// read it. It does not create the role.
func (b *PgBouncerServer) AddUser(t testing.TB, user, password string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[user] = password
	if err := errors.Join(b.writeUsers(), b.exec("RELOAD")); err != nil {
		t.Fatalf("add user %s to PgBouncer: %v", user, err)
	}
}

// Addr returns the host and port.
func (b *PgBouncerServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port))
}

// URL returns the connection string of the superuser for a database.
func (b *PgBouncerServer) URL(database string) string {
	return b.URLFor(superuser, b.pg.password, database)
}

// URLFor returns the connection string of a role that AddUser has made known.
//
// PgBouncer before 1.21 does not keep prepared statements in transaction mode: pgx needs another
// default_query_exec_mode than its own.
func (b *PgBouncerServer) URLFor(user, password, database string) string {
	return postgresURL(b.Addr(), user, password, database)
}

// ConsoleURL returns the connection string of the administration console (SHOW POOLS, PAUSE,
// …). The console speaks the simple protocol only; the string says so to pgx.
func (b *PgBouncerServer) ConsoleURL() string {
	u := postgresURL(b.Addr(), consoleUser, b.console, "pgbouncer")
	return u + "&" + url.Values{"default_query_exec_mode": {"simple_protocol"}}.Encode()
}

// Supervise starts PgBouncer again whenever it ends by itself, as an operating system does, until the end
// of the test: version 1.18 dies of a cancel request that overtakes its connection (pgbouncer issue
// 822). A test that stops PgBouncer on purpose must not ask for it.
func (b *PgBouncerServer) Supervise(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			conn, err := net.DialTimeout("tcp", b.Addr(), time.Second)
			if err != nil {
				t.Logf("PgBouncer has ended and is started again (%v): %v", err, b.Restart())
				continue
			}
			_ = conn.Close()
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// exec runs a command of the administration console.
func (b *PgBouncerServer) exec(command string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.ConsoleURL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, command)
	return err
}

// start starts PgBouncer and returns when it answers.
func (b *PgBouncerServer) start() error {
	if err := b.process.start(b.program, b.process.path("pgbouncer.ini")); err != nil {
		return err
	}
	if err := b.process.ready(func() error { return b.exec("SHOW VERSION") }); err != nil {
		return errors.Join(err, b.process.stop(syscall.SIGTERM))
	}
	return nil
}
