package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // it is what the server's plugin stores
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
)

const (
	// mariaDBDatabase is the catalogue's database when the URL names none.
	mariaDBDatabase = "tenancy_demo"
	// mariaDBLock is the lock of what several processes may begin at once, for the whole server.
	mariaDBLock = "tenancy_demo"
)

// mariaDBServer is a server and the demo's logins on it, one for each kind of work. The tenants' own
// are made by the provisioner.
type mariaDBServer struct {
	config                   *mysql.Config // the user's, of the URL, and the catalogue's database
	app, migrator, catalogue string
	tables, views            string // the databases of row_level
	passwords                passwords
}

// openMariaDB keeps the catalogue in the database of the URL and makes one for each tenant.
func openMariaDB(ctx context.Context, opts Options, strategy string) (_ *backend, err error) {
	b := &backend{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close.run())
		}
	}()
	config, err := mariaDBConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	prefix := loginPrefix(config.DBName)
	m := &mariaDBServer{
		config: config, app: prefix + "_app", migrator: prefix + "_migrator", catalogue: prefix + "_catalogue",
		tables: rowDatabase(config.DBName, "tables"), views: rowDatabase(config.DBName, "views"), passwords: passwords{},
	}
	if err := m.setUp(ctx); err != nil {
		return nil, err
	}

	catalogue, err := m.connector(isolation.Login{Database: config.DBName, User: m.catalogue})
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(catalogue)
	db.SetMaxOpenConns(catalogueConns)
	db.SetMaxIdleConns(catalogueConns)
	b.close.add(db.Close)
	if b.store, err = sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.MariaDB}); err != nil {
		return nil, err
	}
	app, err := m.connector(isolation.Login{User: m.app})
	if err != nil {
		return nil, err
	}
	server := isolation.MariaDB{App: app, Open: m.open, Key: m.passwords.key()}
	if strategy == tenancy.StrategyRowLevel {
		server.Rows = &isolation.MariaDBRows{Base: m.tables, Views: m.views, Tables: map[string]string{"notes": ""}, Private: []string{"goose_db_version"}}
	}
	b.server = server
	b.pool = isolation.PoolConfig{MaxConns: dataConns}
	what := map[string]string{
		tenancy.StrategyRowLevel: "one table behind views, with a login per tenant",
		tenancy.StrategySchema:   "a schema, which is a database there, per tenant",
		tenancy.StrategyDatabase: "a database per tenant",
	}
	b.place = fmt.Sprintf("%s, the catalogue in the MariaDB database %s on %s", what[strategy], config.DBName, config.Addr)
	return b, nil
}

// rowDatabase names a database beside the catalogue's, in letters and digits, whatever that is called.
func rowDatabase(catalogue, what string) string {
	sum := sha256.Sum256([]byte(catalogue))
	return "tenancy_demo_" + hex.EncodeToString(sum[:8]) + "_" + what
}

// mariaDBConfig reads the URL. Its parameters are those of go-sql-driver.
func mariaDBConfig(opts Options) (*mysql.Config, error) {
	u, err := url.Parse(opts.DatabaseURL)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	config, err := mysql.ParseDSN("tcp(" + u.Host + ")/?" + u.RawQuery)
	if err != nil {
		return nil, err
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = cmp.Or(strings.Trim(u.Path, "/"), mariaDBDatabase)
	// An UPDATE counts the rows that it found, as everywhere else, not those that it changed.
	config.ClientFoundRows = true
	config.Logger = slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug) // what is an error is returned as well
	return config, nil
}

// open connects as a tenant's login, or as the migrator.
func (m *mariaDBServer) open(l isolation.Login) (driver.Connector, error) {
	if l.User == "" {
		l.User = m.migrator
	}
	return m.connector(l)
}

// connector connects as a login of the demo, whose password is known, or as a tenant's.
func (m *mariaDBServer) connector(l isolation.Login) (driver.Connector, error) {
	config := m.config.Clone()
	config.DBName, config.User = l.Database, l.User
	config.Passwd = cmp.Or(l.Password, m.passwords[l.User])
	return mysql.NewConnector(config)
}

// owner connects as the user of the URL.
func (m *mariaDBServer) owner(database string) (*sql.DB, error) {
	config := m.config.Clone()
	config.DBName = database
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// setUp makes the catalogue's database, the logins and the catalogue's tables. It may be repeated,
// and run by several processes at once.
func (m *mariaDBServer) setUp(ctx context.Context) (err error) {
	owner, err := m.owner("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, owner.Close()) }()
	conn, err := owner.Conn(ctx) // of which the lock is, and with which it ends
	if err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var version string
	if err := conn.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	if !strings.Contains(version, "MariaDB") {
		return fmt.Errorf("--database-url: the server is MySQL %s, which tenants cannot be kept apart on: use MariaDB 10.6 or later", version)
	}
	var locked bool
	if err := conn.QueryRowContext(ctx, "SELECT get_lock(?, 86400)", mariaDBLock).Scan(&locked); err != nil || !locked {
		return errors.Join(errors.New("wait for another process that sets the demo up"), err)
	}
	if err := m.makeLogins(ctx, conn); err != nil {
		return fmt.Errorf("make the demo's logins (--database-url needs a user who may make databases and users and grant all rights, "+
			"such as root): %w", err)
	}
	return m.makeCatalogue(ctx, conn)
}

// makeLogins makes the catalogue's database, stays in it and makes the logins.
func (m *mariaDBServer) makeLogins(ctx context.Context, conn *sql.Conn) error {
	err := execAll(ctx, conn,
		"CREATE DATABASE IF NOT EXISTS "+quoted(m.config.DBName)+" CHARACTER SET utf8mb4",
		"USE "+quoted(m.config.DBName),
		"CREATE TABLE IF NOT EXISTS demo_logins (login varbinary(255) PRIMARY KEY, password varbinary(255) NOT NULL)")
	if err != nil {
		return err
	}
	for _, login := range []string{m.app, m.migrator, m.catalogue, keyName} {
		if _, err := conn.ExecContext(ctx, `INSERT INTO demo_logins (login, password) VALUES (?, ?)
			ON DUPLICATE KEY UPDATE login = login`, login, rand.Text()); err != nil {
			return err
		}
		var password string
		if err := conn.QueryRowContext(ctx, "SELECT password FROM demo_logins WHERE login = ?", login).Scan(&password); err != nil {
			return err
		}
		m.passwords[login] = password
	}
	for _, login := range []string{m.app, m.migrator, m.catalogue} {
		identified := account(login) + " IDENTIFIED VIA mysql_native_password USING '" + verifier(m.passwords[login]) + "'"
		if err := execAll(ctx, conn, "CREATE USER IF NOT EXISTS "+identified, "ALTER USER "+identified); err != nil {
			return err
		}
	}
	return execAll(ctx, conn, // what isolation.MariaDB says that it needs
		"GRANT CREATE USER ON *.* TO "+account(m.migrator),
		"GRANT ALL PRIVILEGES ON `t\\_%`.* TO "+account(m.migrator)+" WITH GRANT OPTION",
		"GRANT ALL PRIVILEGES ON "+pattern(m.tables)+".* TO "+account(m.migrator)+" WITH GRANT OPTION",
		"GRANT ALL PRIVILEGES ON "+pattern(m.views)+".* TO "+account(m.migrator)+" WITH GRANT OPTION")
}

// makeCatalogue brings the catalogue's tables to their version and lets its login use them, and
// not the table of the passwords beside them.
func (m *mariaDBServer) makeCatalogue(ctx context.Context, conn *sql.Conn) (err error) {
	owner, err := m.owner(m.config.DBName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, owner.Close()) }()
	store, err := sqlstore.New(owner, sqlstore.Config{Dialect: sqlstore.MariaDB})
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	var tables string
	err = conn.QueryRowContext(ctx, `SELECT group_concat(table_name) FROM information_schema.tables
		WHERE table_schema = database() AND table_name LIKE 'tenancy\_%'`).Scan(&tables)
	if err != nil {
		return fmt.Errorf("list the catalogue's tables: %w", err)
	}
	for table := range strings.SplitSeq(tables, ",") {
		if err := execAll(ctx, conn, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+quoted(table)+" TO "+account(m.catalogue)); err != nil {
			return fmt.Errorf("grant the catalogue to its login: %w", err)
		}
	}
	return nil
}

func execAll(ctx context.Context, conn *sql.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// pattern is the name of one database in a grant, where _ stands for any character.
func pattern(name string) string { return quoted(strings.ReplaceAll(name, "_", `\_`)) }

func account(login string) string { return quoted(login) + "@'%'" }

// verifier returns what the server stores of a password, so that no statement and no log of the
// server has the password itself.
func verifier(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // see above; the password is random
	twice := sha1.Sum(once[:])         //nolint:gosec // see above
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}
