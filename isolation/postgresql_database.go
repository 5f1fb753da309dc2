package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Databases describes the strategy database on PostgreSQL. Each tenant gets a database, and a login
// that alone may connect to it: what this login cannot reach, no statement can, whatever its text.
type Databases struct {
	// Open returns the connector to one database of the server; tenantpgx.Opener makes such a
	// function. It is called for each new connection. Required.
	Open func(Login) (driver.Connector, error)
	// Key is the secret from which the passwords of the tenants' logins are derived: at least 32
	// random bytes. Required. With another key the old logins cannot connect until their tenants
	// are provisioned again.
	Key []byte
}

// Login says what to connect to, and as whom.
type Login struct {
	// Database is the database's name.
	Database string
	// User is the login; empty for the migrator's.
	User string
	// Password is empty together with User.
	Password string
}

func (d Databases) validate() error {
	var errs []error
	if d.Open == nil {
		errs = append(errs, errors.New("Databases.Open is nil: give a function that connects to a database, such as tenantpgx.Opener's"))
	}
	return errors.Join(append(errs, checkKey(d.Key, "Databases.Key"))...)
}

// tenantDatabase is the connector of one tenant's database, for its own login.
type tenantDatabase struct {
	databases *Databases
	name      string
}

var _ driver.Connector = tenantDatabase{}

func (t tenantDatabase) login() Login {
	return Login{Database: t.name, User: t.name, Password: derivePassword(t.databases.Key, t.name)}
}

// Connect opens a connection as the tenant's login.
func (t tenantDatabase) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.databases.Open(t.login())
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	switch sqlState(err) {
	case stateNoDatabase, stateNoLogin:
		err = fmt.Errorf("%w (or Databases.Key is another than it was provisioned with): %w", ErrMissing, err)
	}
	return conn, err
}

// Driver returns the driver of the connectors.
func (t tenantDatabase) Driver() driver.Driver {
	c, err := t.databases.Open(t.login())
	if err != nil {
		return virtualDriver{} // Connect reports it
	}
	return c.Driver()
}

// The following methods are the strategy database on PostgreSQL.

var _ databaseServer = PostgreSQL{}

func (p PostgreSQL) supportsDatabases() error {
	if p.Databases == nil {
		return unsupported(tenancy.StrategyDatabase, EnginePostgreSQL, "set PostgreSQL.Databases to say how tenants' databases are opened")
	}
	return nil
}

func (PostgreSQL) checkDatabase(name string) error { return checkPlaced("database", name) }

func (PostgreSQL) checkOwnDatabase(t tenancy.Tenant) error {
	return checkPlaceName("database", t.Placement.Database, t)
}

func (PostgreSQL) placeDatabase(t tenancy.Tenant) (string, error) { return placeName(t) }

func (p PostgreSQL) routeDatabase(at tenancy.Placement, r *Route) error {
	r.Pool = Pool{Database: at.Database, Login: at.Database}
	r.Connector, r.Engine = tenantDatabase{p.Databases, at.Database}, EnginePostgreSQL
	return nil
}

// provisionDatabase makes the database, its login, and who may do what in it.
func (p PostgreSQL) provisionDatabase(ctx context.Context, t tenancy.Tenant) error {
	admin, err := p.migrator()
	if err != nil {
		return err
	}
	defer admin.Close()
	name := t.Placement.Database
	if err := p.createDatabase(ctx, admin, t); err != nil {
		return err
	}
	verifier, err := scramVerifier(derivePassword(p.Databases.Key, name))
	if err != nil {
		return err
	}
	script, err := dialect.OpenDatabase(name, mark(t), verifier)
	if err != nil {
		return err
	}
	if err := runAlone(ctx, admin, script); err != nil {
		return errors.New(withoutStatement(err)) // which has the verifier
	}
	own, err := p.ownDatabase(name)
	if err != nil {
		return err
	}
	defer own.Close()
	return runAlone(ctx, own, dialect.FillDatabase(name))
}

// ownDatabase opens a tenant's database as the migrator.
func (p PostgreSQL) ownDatabase(name string) (*sql.DB, error) {
	connector, err := p.Databases.Open(Login{Database: name})
	if err != nil {
		return nil, err
	}
	own := sql.OpenDB(connector)
	own.SetMaxOpenConns(2)
	return own, nil
}

func (p PostgreSQL) migrateDatabase(ctx context.Context, t tenancy.Tenant, m Migrator) (int64, error) {
	name := t.Placement.Database
	own, err := p.ownDatabase(name)
	if err != nil {
		return 0, err
	}
	defer own.Close()
	return m.Migrate(ctx, Target{DB: own, Engine: EnginePostgreSQL, Tenant: t.ID, Name: name})
}

func (p PostgreSQL) manifestDatabase(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	admin, err := p.migrator()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	name := t.Placement.Database
	switch err := checkMark(ctx, admin, dialect.DatabaseMark, name, t); {
	case errors.Is(err, ErrMissing):
		items, err := itemIf(ctx, admin, nil, itemDatabase, name, dialect.DatabaseExists, name)
		if err != nil {
			return nil, err
		}
		return itemIf(ctx, admin, items, itemRole, name, dialect.RoleExists, name)
	case err != nil:
		return nil, err
	}
	own, err := p.ownDatabase(name)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	items, err := manifestTables(ctx, own, dialect.AllTables)
	if err != nil {
		return nil, err
	}
	return itemIf(ctx, admin, append(items, tenancy.ManifestItem{Kind: itemDatabase, Name: name}), itemRole, name, dialect.RoleExists, name)
}

// createDatabase makes the database unless it is there. A database of this name without a mark is
// one of ours, whose making was interrupted: checkOwnDatabase has seen the name.
func (p PostgreSQL) createDatabase(ctx context.Context, admin *sql.DB, t tenancy.Tenant) error {
	const attempts = 20
	for attempt := 1; ; attempt++ {
		err := checkMark(ctx, admin, dialect.DatabaseMark, t.Placement.Database, t)
		if !errors.Is(err, ErrMissing) {
			return err
		}
		_, err = admin.ExecContext(ctx, "CREATE DATABASE "+dialect.Ident(t.Placement.Database))
		switch state := sqlState(err); {
		case err == nil, state == stateDatabaseExists, state == stateUnique: // or made by somebody at the same moment
			return nil
		case state != stateInUse || attempt == attempts: // the template, by another CREATE DATABASE
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p PostgreSQL) deprovisionDatabase(ctx context.Context, t tenancy.Tenant) error {
	admin, err := p.migrator()
	if err != nil {
		return err
	}
	defer admin.Close()
	name := t.Placement.Database
	if err := checkMark(ctx, admin, dialect.DatabaseMark, name, t); err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	for _, statement := range []string{
		"DROP DATABASE IF EXISTS " + dialect.Ident(name) + " WITH (FORCE)",
		"DROP ROLE IF EXISTS " + dialect.Ident(name),
	} {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// withoutStatement cuts off the text of the statement, which would carry a secret into logs.
func withoutStatement(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\nin: ")
	return text
}

// States of PostgreSQL that provisioning meets.
const (
	stateNoDatabase     = "3D000"
	stateNoLogin        = "28P01" // invalid_password, also of a login that does not exist
	stateDatabaseExists = "42P04"
	stateUnique         = "23505"
	stateInUse          = "55006"
)
