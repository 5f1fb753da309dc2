package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/mariadb"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// MariaDB is a MariaDB server, 10.6 or later. Each tenant has a login of its own there, so that no
// statement reaches another tenant's rows, whatever its text. The strategies schema and database are
// the same: the login alone may use the tenant's database. They differ in which field of the
// placement names the database. For row_level see [MariaDBRows].
type MariaDB struct {
	// App opens connections for what belongs to no tenant, such as a ping: as a login without any
	// rights. Required.
	App driver.Connector
	// System opens connections as the role system, which may use all databases. A statement in
	// system scope names the tenant's database; for row_level the connector names [MariaDBRows.Base].
	// Without it tenancy.AsSystem is refused.
	System driver.Connector
	// Open returns the connector for a login, in the language of the driver. It is called for each
	// new connection, and what it opens is checked. A program that only serves requests may answer
	// an empty User, which means the migrator, with an error. Required. With go-sql-driver/mysql:
	//
	//	func(l isolation.Login) (driver.Connector, error) {
	//		c := base.Clone() // a *mysql.Config with the migrator's User and Passwd
	//		c.DBName = l.Database
	//		if l.User != "" {
	//			c.User, c.Passwd = l.User, l.Password
	//		}
	//		return mysql.NewConnector(c)
	//	}
	//
	// The migrator makes databases and logins. It needs CREATE USER ON *.* and, with grant option,
	// ALL PRIVILEGES ON `t\_%`.*, no more. It is one login for good: what it made for row_level belongs
	// to it, and with another one MariaDBRows.Verify finds function-changed.
	Open func(Login) (driver.Connector, error)
	// OpenReplica is Open for a replica, for tenancy.ReadOnly. Without it such statements go where
	// all others go.
	OpenReplica func(Login) (driver.Connector, error)
	// Key is the secret from which the passwords of the tenants' logins are derived: at least 32
	// random bytes. Required. With another key the old logins cannot connect until their tenants
	// are provisioned again.
	Key []byte
	// Rows says which tables the tenants share. Required for row_level.
	Rows *MariaDBRows
}

var (
	_ schemaServer   = MariaDB{}
	_ databaseServer = MariaDB{}
)

// Engine returns EngineMariaDB.
func (MariaDB) Engine() Engine { return EngineMariaDB }

func (m MariaDB) validate() error {
	var errs []error
	if m.App == nil {
		errs = append(errs, errors.New("MariaDB.App is nil: give the connector of a login without rights"))
	}
	if m.Open == nil {
		errs = append(errs, errors.New("MariaDB.Open is nil: give a function that connects to a database as a login, as its documentation shows"))
	}
	if m.Rows != nil {
		errs = append(errs, m.Rows.validate())
	}
	return errors.Join(append(errs, checkKey(m.Key, "MariaDB.Key"))...)
}

func (m MariaDB) routeSystem(r *Route) error {
	if m.System == nil {
		return ErrNoSystemLogin
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginSystem}, mariaDBSystem{m.System}, EngineMariaDB
	return nil
}

func (m MariaDB) routeUnbound(r *Route) error {
	r.Pool, r.Connector, r.Engine = Pool{Login: loginApp}, m.App, EngineMariaDB
	return nil
}

// setup has nothing to do where tenants share nothing.
func (m MariaDB) setup(ctx context.Context, strategy, name string, mig Migrator) (int64, error) {
	if strategy != tenancy.StrategyRowLevel {
		return 0, nil
	}
	return m.setupRows(ctx, name, mig)
}

// check looks for rights that reach a tenant's database without its login, and at the wall between
// rows.
func (m MariaDB) check(ctx context.Context, strategies []string) error {
	db := sql.OpenDB(m.App)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var rights, databases string
	if err := db.QueryRowContext(ctx, dialect.MariaDBRights).Scan(&rights); err != nil {
		return fmt.Errorf("check the login: %w", err)
	}
	if err := db.QueryRowContext(ctx, dialect.MariaDBMarked, markPrefix, markPrefix).Scan(&databases); err != nil {
		return fmt.Errorf("check the login: %w", err)
	}
	var errs []error
	if rights != "" {
		errs = append(errs, fmt.Errorf("MariaDB.App logs in with rights on all databases (%s): REVOKE ALL PRIVILEGES from it", rights))
	}
	if databases != "" {
		errs = append(errs, fmt.Errorf("MariaDB.App can use the databases %s without a tenant: revoke what was granted to it or to PUBLIC", databases))
	}
	if slices.Contains(strategies, tenancy.StrategyRowLevel) {
		errs = append(errs, m.checkRowsLogin(ctx, db), m.checkRows(ctx))
	}
	return errors.Join(errs...)
}

// mariaDBTenant is the connector of one tenant's database, for its own login.
type mariaDBTenant struct {
	server   MariaDB
	database string
	replica  bool
}

var _ driver.Connector = mariaDBTenant{}

func (t mariaDBTenant) login() Login {
	user := dialect.MariaDBLogin(t.database)
	return Login{Database: t.database, User: user, Password: derivePassword(t.server.Key, user)}
}

func (t mariaDBTenant) connector() (driver.Connector, error) {
	if t.replica {
		return t.server.OpenReplica(t.login())
	}
	return t.server.Open(t.login())
}

// Connect opens a connection as the tenant's login, and asks the server whether it is one.
func (t mariaDBTenant) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.connector()
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, mariaDBMissing(err)
	}
	session, err := askMariaDBSession(ctx, conn)
	if err == nil {
		err = session.check(t.login())
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// mariaDBMissing tells from other errors that nobody is let in, who would be if the tenant's place
// existed.
func mariaDBMissing(err error) error {
	switch mariadb.Number(err) {
	case mariadb.DeniedToUser, mariadb.DeniedToDatabase, mariadb.UnknownDatabase:
		return fmt.Errorf("%w (or MariaDB.Key is another than it was provisioned with): %w", ErrMissing, err)
	}
	return err
}

// Driver returns the driver of the connectors.
func (t mariaDBTenant) Driver() driver.Driver {
	c, err := t.connector()
	if err != nil {
		return virtualDriver{} // Connect reports it
	}
	return c.Driver()
}

// mariaDBSystem is the connector of the system login.
type mariaDBSystem struct{ driver.Connector }

// Connect opens a connection whose statements commit.
func (s mariaDBSystem) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	session, err := askMariaDBSession(ctx, conn)
	if err == nil {
		err = session.checkAutocommit()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// mariaDBSession is what a new connection is.
type mariaDBSession struct{ account, database, autocommit string }

func askMariaDBSession(ctx context.Context, conn driver.Conn) (mariaDBSession, error) {
	values, err := askMariaDB(ctx, conn, dialect.MariaDBSession, 3)
	if err != nil {
		return mariaDBSession{}, err
	}
	return mariaDBSession{values[0], values[1], values[2]}, nil
}

// askMariaDB returns the columns of the one row that a question about the session answers.
func askMariaDB(ctx context.Context, conn driver.Conn, query string, columns int) (texts []string, err error) {
	rows, err := innerQuery(ctx, conn, query, nil)
	if err != nil {
		return nil, fmt.Errorf("ask whose session it is: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, columns)
	if err := rows.Next(values); err != nil {
		return nil, fmt.Errorf("ask whose session it is: %w", err)
	}
	for _, v := range values {
		texts = append(texts, asText(v))
	}
	return texts, nil
}

// check makes sure that MariaDB.Open did as it was told: with one login for all the wall would be
// gone without a sign.
func (s mariaDBSession) check(login Login) error {
	if user, _, _ := strings.Cut(s.account, "@"); user != login.User || s.database != login.Database {
		return fmt.Errorf("MariaDB.Open was asked for login %q in database %q and connected as %s in %q: "+
			"use Login.User, Login.Password and Login.Database", login.User, login.Database, s.account, s.database)
	}
	return s.checkAutocommit()
}

func (s mariaDBSession) checkAutocommit() error {
	if s.autocommit != "1" {
		return errors.New("MariaDB: autocommit is off, so that statements outside a transaction would be lost: leave it out of the DSN")
	}
	return nil
}

// migrator opens a database as the migrator; "" is none.
func (m MariaDB) migrator(database string) (*sql.DB, error) {
	c, err := m.Open(Login{Database: database})
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(2)
	return db, nil
}

// The following methods are the strategies.

func (MariaDB) supportsSchemas() error   { return nil }
func (MariaDB) supportsDatabases() error { return nil }

func (MariaDB) checkDatabase(name string) error { return checkPlaced("database", name) }

func (MariaDB) checkOwnDatabase(t tenancy.Tenant) error {
	return checkPlaceName("database", t.Placement.Database, t)
}

func (MariaDB) placeDatabase(t tenancy.Tenant) (string, error) { return placeName(t) }

func (m MariaDB) routeSchema(at tenancy.Placement, r *Route) error {
	m.route(at.Schema, r)
	return nil
}

func (m MariaDB) routeDatabase(at tenancy.Placement, r *Route) error {
	m.route(at.Database, r)
	return nil
}

// route needs no binding: the pool's connections belong to the tenant's login.
func (m MariaDB) route(database string, r *Route) {
	r.Pool = Pool{Database: database} // which has one login
	r.Connector, r.Engine = mariaDBTenant{server: m, database: database}, EngineMariaDB
	if m.OpenReplica != nil {
		r.Replica = mariaDBTenant{server: m, database: database, replica: true}
	}
}

func (m MariaDB) provisionSchema(ctx context.Context, t tenancy.Tenant) error {
	return m.provision(ctx, t, t.Placement.Schema)
}

func (m MariaDB) provisionDatabase(ctx context.Context, t tenancy.Tenant) error {
	return m.provision(ctx, t, t.Placement.Database)
}

// provision makes the database, then who may use it. Each step may be repeated.
func (m MariaDB) provision(ctx context.Context, t tenancy.Tenant, name string) error {
	if err := tenancy.CheckID(t.ID); err != nil { // which becomes part of a statement
		return err
	}
	admin, err := m.migrator("")
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := admin.ExecContext(ctx, dialect.CreateMariaDBDatabase(name, mark(t))); err != nil {
		return err
	}
	if err := checkMark(ctx, admin, dialect.MariaDBMark, name, t); err != nil {
		return err
	}
	login := dialect.MariaDBLogin(name)
	for _, statement := range dialect.OpenMariaDBDatabase(name, login, derivePassword(m.Key, login)) {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return m.proveWall(ctx, name)
}

func (m MariaDB) migrateSchema(ctx context.Context, t tenancy.Tenant, mig Migrator) (int64, error) {
	return m.migrate(ctx, t, t.Placement.Schema, mig)
}

func (m MariaDB) migrateDatabase(ctx context.Context, t tenancy.Tenant, mig Migrator) (int64, error) {
	return m.migrate(ctx, t, t.Placement.Database, mig)
}

func (m MariaDB) migrate(ctx context.Context, t tenancy.Tenant, name string, mig Migrator) (int64, error) {
	own, err := m.migrator(name)
	if err != nil {
		return 0, err
	}
	defer own.Close()
	return mig.Migrate(ctx, Target{DB: own, Engine: EngineMariaDB, Tenant: t.ID, Name: name})
}

func (m MariaDB) manifestSchema(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	return m.manifest(ctx, t, t.Placement.Schema)
}

func (m MariaDB) manifestDatabase(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	return m.manifest(ctx, t, t.Placement.Database)
}

func (m MariaDB) manifest(ctx context.Context, t tenancy.Tenant, name string) ([]tenancy.ManifestItem, error) {
	admin, err := m.migrator("")
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	login := dialect.MariaDBLogin(name)
	switch err := checkMark(ctx, admin, dialect.MariaDBMark, name, t); {
	case errors.Is(err, ErrMissing):
		return nil, nil
	case err != nil:
		return nil, err
	}
	items, err := manifestTables(ctx, admin, dialect.MariaDBTablesOf, name)
	if err != nil {
		return nil, err
	}
	return append(items, tenancy.ManifestItem{Kind: itemDatabase, Name: name}, tenancy.ManifestItem{Kind: itemRole, Name: login}), nil
}

// proveWall logs in as the tenant and fails unless its own database is all it can see of the
// tenants'.
func (m MariaDB) proveWall(ctx context.Context, name string) error {
	db := sql.OpenDB(mariaDBTenant{server: m, database: name})
	defer db.Close()
	db.SetMaxOpenConns(1)
	var databases string
	if err := db.QueryRowContext(ctx, dialect.MariaDBMarked, markPrefix, markPrefix).Scan(&databases); err != nil {
		return fmt.Errorf("log in as the tenant: %w", err)
	}
	if databases != name {
		return fmt.Errorf("the login %q can use the databases %s, not %s alone: revoke what was granted to it, to a role of it or to PUBLIC",
			dialect.MariaDBLogin(name), databases, name)
	}
	return nil
}

func (m MariaDB) deprovisionSchema(ctx context.Context, t tenancy.Tenant) error {
	return m.deprovision(ctx, t, t.Placement.Schema)
}

func (m MariaDB) deprovisionDatabase(ctx context.Context, t tenancy.Tenant) error {
	return m.deprovision(ctx, t, t.Placement.Database)
}

func (m MariaDB) deprovision(ctx context.Context, t tenancy.Tenant, name string) error {
	admin, err := m.migrator("")
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := checkMark(ctx, admin, dialect.MariaDBMark, name, t); err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	for _, statement := range dialect.DropMariaDBDatabase(name, dialect.MariaDBLogin(name)) {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// settle asks whether the transaction is still open after a statement such as CALL of a procedure,
// which may have a COMMIT in it. If it is not, what has run is committed and nothing more runs.
func (t *tx) settle(ctx context.Context) error {
	if !t.doubt {
		return nil
	}
	rows, err := innerQuery(ctx, t.conn.inner.Conn, dialect.MariaDBInTransaction, nil)
	if err != nil {
		return t.conn.failed(err, false)
	}
	open := make([]driver.Value, 1)
	err = errors.Join(rows.Next(open), rows.Close())
	if err != nil {
		return t.conn.failed(err, false)
	}
	if asText(open[0]) != "1" {
		t.conn.inner.broken = true
		return fmt.Errorf("%w: a statement has ended it, such as CALL of a procedure with COMMIT; what ran until then is committed", ErrTransactionControl)
	}
	t.doubt = false
	return nil
}

// asText returns what a driver makes of a text or number.
func asText(v driver.Value) string {
	if text, ok := v.([]byte); ok {
		return string(text)
	}
	return fmt.Sprint(v)
}
