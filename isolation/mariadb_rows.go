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

// The methods of this file are row_level on MariaDB, where the login is the binding: each tenant has
// one, and views show it its own rows.

// MariaDBRows is the wall of row_level on MariaDB. The tables are in one database, which no tenant's
// login reaches. Beside it is a database of views with the tables' names, which is all that the
// logins reach; each view asks the server whose login is connected. [Provisioner.Setup] makes both
// databases, migrates the tables, and makes the views and triggers; run it after each change of a
// table, because a view keeps the columns that it was made with.
//
// The tenant's column is NOT NULL, and varchar or char with a binary collation such as utf8mb4_bin,
// or uuid, or a whole number. Each unique key has it in it, each foreign key between walled tables
// carries it along, and an index begins with it.
//
// The migrator needs, beside CREATE USER ON *.*, ALL PRIVILEGES with grant option on both databases.
// Where the server writes a binary log, it also needs log_bin_trust_function_creators.
type MariaDBRows struct {
	// Base is the database with the tables. The system login works in it. Required.
	Base string
	// Views is the database with the views. Required.
	Views string
	// Tables are the tables that belong to tenants, by name with their tenant column; "" means
	// tenant_id. Required.
	Tables map[string]string
	// Shared are the tables that all tenants read and none writes.
	Shared []string
	// Private are tables that hold nothing of a tenant's, such as goose_db_version. Like all that are in
	// no list they are out of the tenants' reach; but a table in no list stops a purge, since nobody
	// knows what is in it.
	Private []string
}

var _ rowServer = MariaDB{}

func (r *MariaDBRows) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("MariaDB.Rows."+format, args...)) }
	for field, name := range map[string]string{"Base": r.Base, "Views": r.Views} {
		if !dialect.IsPlainName(name) {
			fail("%s is %q: name a database with 1 to 63 of a-z 0-9 _, the first no digit", field, name)
		}
	}
	if r.Base == r.Views {
		fail("Views is Base: give the views a database of their own")
	}
	if len(r.Tables) == 0 {
		fail("Tables is empty: name the tables that belong to tenants")
	}
	for _, name := range append(slices.Clone(r.Shared), sortedKeys(r.Tables)...) {
		if name == "" || len(name) > 63 || strings.HasPrefix(strings.ToLower(name), "tenancy_") || strings.ContainsAny(name, "\x00/\\.") {
			fail("Tables and Shared: %q cannot be walled: rename it, without a dot or slash, to no more than 63 bytes, and not to tenancy_…", name)
		}
		if _, owned := r.Tables[name]; owned && slices.Contains(r.Shared, name) {
			fail("Shared: table %q is in Tables too: it can be only one of them", name)
		}
		if slices.Contains(r.Private, name) {
			fail("Private: table %q is in Tables or Shared too: it can be only one of them", name)
		}
	}
	return errors.Join(errs...)
}

func (r *MariaDBRows) wall() dialect.MariaDBWall {
	return dialect.MariaDBWall{Base: r.Base, Views: r.Views}
}

func (m MariaDB) supportsRows() error {
	if m.Rows == nil {
		return unsupported(tenancy.StrategyRowLevel, EngineMariaDB,
			`set MariaDB.Rows to say which tables the tenants share, or use the strategy "schema" or "database" there`)
	}
	return nil
}

// placeRows chooses the tenant's login. The field of the placement is the one of what is a tenant's
// own inside a database.
func (MariaDB) placeRows(t tenancy.Tenant) (tenancy.Placement, error) {
	name, err := placeName(t)
	return tenancy.Placement{Schema: name}, err
}

// routeRows needs no binding: the pool's connections belong to the tenant's login. The tenant is part
// of the pool, so that a placement with another tenant's login finds no connection of it open.
func (m MariaDB) routeRows(t *tenancy.Tenant, r *Route) error {
	if m.Rows == nil {
		return m.supportsRows()
	}
	if t.Placement.Schema == "" {
		return fmt.Errorf("%w (it has no placement)", ErrMissing)
	}
	if err := checkPlaced("schema", t.Placement.Schema); err != nil {
		return err
	}
	r.Pool = Pool{Database: t.Placement.Schema, Login: t.ID}
	r.Connector, r.Engine = mariaDBRowTenant{server: m, tenant: t.ID, place: t.Placement.Schema}, EngineMariaDB
	if m.OpenReplica != nil {
		r.Replica = mariaDBRowTenant{server: m, tenant: t.ID, place: t.Placement.Schema, replica: true}
	}
	return nil
}

// mariaDBRowTenant is the connector of one tenant's login to the views.
type mariaDBRowTenant struct {
	server        MariaDB
	tenant, place string
	replica       bool
}

var _ driver.Connector = mariaDBRowTenant{}

func (t mariaDBRowTenant) login() Login {
	user := dialect.MariaDBLogin(t.place)
	return Login{Database: t.server.Rows.Views, User: user, Password: derivePassword(t.server.Key, user)}
}

func (t mariaDBRowTenant) connector() (driver.Connector, error) {
	if t.replica {
		return t.server.OpenReplica(t.login())
	}
	return t.server.Open(t.login())
}

// Connect opens a connection as the tenant's login, and asks the server whether it is one and whether
// it reaches more than it should.
func (t mariaDBRowTenant) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.connector()
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, mariaDBMissing(err)
	}
	if err := t.check(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (t mariaDBRowTenant) check(ctx context.Context, conn driver.Conn) error {
	// A connection that is not the tenant's could not answer the other question.
	session, err := askMariaDBSession(ctx, conn)
	if err == nil {
		err = session.check(t.login())
	}
	if err != nil {
		return err
	}
	texts, err := askMariaDB(ctx, conn, t.server.Rows.wall().Session(), 2)
	switch {
	case mariadb.Number(err) == mariadb.Raised:
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case err != nil:
		return err
	case texts[0] != t.tenant:
		return fmt.Errorf("the login %q of tenant %q is tenant %q's: put its own placement back, which the provisioner chose",
			t.login().User, t.tenant, texts[0])
	case texts[1] != "":
		return fmt.Errorf("the login %q of tenant %q has rights beside the views (%s): revoke what was granted to it or to PUBLIC",
			t.login().User, t.tenant, texts[1])
	}
	return nil
}

// Driver returns the driver of the connectors.
func (t mariaDBRowTenant) Driver() driver.Driver {
	c, err := t.connector()
	if err != nil {
		return virtualDriver{} // Connect reports it
	}
	return c.Driver()
}

// setupRows makes the databases, migrates the tables and walls them.
func (m MariaDB) setupRows(ctx context.Context, name string, mig Migrator) (version int64, err error) {
	admin, err := m.migrator("")
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	viewsMark := "tenancy: views of " + m.Rows.Base
	for _, database := range []struct{ name, mark string }{{m.Rows.Base, "tenancy: tables"}, {m.Rows.Views, viewsMark}} {
		if _, err := admin.ExecContext(ctx, dialect.CreateMariaDBDatabase(database.name, database.mark)); err != nil {
			return 0, err
		}
	}
	var stands string
	if err := admin.QueryRowContext(ctx, dialect.MariaDBMark, m.Rows.Views).Scan(&stands); err != nil {
		return 0, fmt.Errorf("look at the database %q: %w", m.Rows.Views, err)
	}
	if stands != viewsMark {
		return 0, fmt.Errorf("the database %q (MariaDB.Rows.Views) was not made for the views of %q: name another, or drop it",
			m.Rows.Views, m.Rows.Base)
	}
	db, err := m.migrator(m.Rows.Base)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if mig != nil {
		if version, err = mig.Migrate(ctx, Target{DB: db, Engine: EngineMariaDB, Name: name}); err != nil {
			return version, fmt.Errorf("migrate server %q: %w", name, err)
		}
	}
	return version, m.Rows.Apply(ctx, db)
}

// verify looks at the wall as the migrator, who alone can see it.
func (m MariaDB) verify(ctx context.Context) (Report, error) {
	db, err := m.migrator(m.Rows.Base)
	if err != nil {
		return Report{}, fmt.Errorf("the wall of row_level on MariaDB can only be seen by the migrator: let MariaDB.Open answer an empty User, or check elsewhere: %w", err)
	}
	defer db.Close()
	return m.Rows.Verify(ctx, db)
}

// checkRows fails with each way past the wall.
func (m MariaDB) checkRows(ctx context.Context) error {
	report, err := m.verify(ctx)
	errs := []error{err}
	for _, f := range report.Findings {
		errs = append(errs, errors.New(f.String()))
	}
	return errors.Join(errs...)
}

// checkRowsLogin makes sure that the role app sees neither tables nor views.
func (m MariaDB) checkRowsLogin(ctx context.Context, app *sql.DB) error {
	var visible string
	if err := app.QueryRowContext(ctx, dialect.MariaDBVisible, m.Rows.Base, m.Rows.Views).Scan(&visible); err != nil {
		return fmt.Errorf("check the login: %w", err)
	}
	if visible != "" {
		return fmt.Errorf("MariaDB.App can use %s without a tenant: revoke what was granted to it or to PUBLIC", visible)
	}
	return nil
}

// provisionRows writes down whose the login will be, then makes it. Each step may be repeated.
func (m MariaDB) provisionRows(ctx context.Context, t tenancy.Tenant) error {
	db, err := m.ownRows(t)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := m.checkRows(ctx); err != nil {
		return err
	}
	wall := m.Rows.wall()
	login := dialect.MariaDBLogin(t.Placement.Schema)
	if _, err := db.ExecContext(ctx, wall.BindLogin(), login, t.ID); err != nil {
		return err
	}
	if err := checkMark(ctx, db, wall.LoginMark(markPrefix), login, t); err != nil {
		return err
	}
	for _, statement := range wall.CreateLogin(login, derivePassword(m.Key, login)) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return m.proveRows(ctx, t)
}

func (m MariaDB) versionRows(ctx context.Context, mig Migrator) (int64, error) {
	db, err := m.migrator(m.Rows.Base)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return mig.Version(ctx, Target{DB: db, Engine: EngineMariaDB})
}

// manifestRows counts as the migrator: the tables have no wall of their own.
func (m MariaDB) manifestRows(ctx context.Context, t tenancy.Tenant) (items []tenancy.ManifestItem, err error) {
	db, err := m.ownRows(t)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	wall := m.Rows.wall()
	err = m.Rows.alone(ctx, db, func(conn *sql.Conn) error {
		b, err := m.Rows.read(ctx, conn)
		if err != nil {
			return err
		}
		if err := refuseUnlisted(m.Rows.findUnlisted(b)); err != nil {
			return err
		}
		tables, err := m.Rows.tables(b)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if table.Column == "" {
				continue
			}
			item := tenancy.ManifestItem{Kind: itemRows, Name: m.Rows.Base + "." + table.Name}
			if err := conn.QueryRowContext(ctx, wall.CountTenant(table), t.ID, t.ID).Scan(&item.Rows); err != nil {
				return fmt.Errorf("count the rows of %q: %w", table.Name, err)
			}
			items = append(items, item)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	login := dialect.MariaDBLogin(t.Placement.Schema)
	switch err := checkMark(ctx, db, wall.LoginMark(markPrefix), login, t); {
	case err == nil:
		items = append(items, tenancy.ManifestItem{Kind: itemRole, Name: login})
	case !errors.Is(err, ErrMissing):
		return nil, err
	}
	return items, nil
}

// ownRows opens the tables as the migrator, when the placement is one that was chosen for the tenant.
func (m MariaDB) ownRows(t tenancy.Tenant) (*sql.DB, error) {
	if err := tenancy.CheckID(t.ID); err != nil {
		return nil, err
	}
	if err := checkPlaceName("schema", t.Placement.Schema, t); err != nil {
		return nil, err
	}
	return m.migrator(m.Rows.Base)
}

// proveRows logs in as the tenant and fails unless the views are all that it can see.
func (m MariaDB) proveRows(ctx context.Context, t tenancy.Tenant) error {
	db := sql.OpenDB(mariaDBRowTenant{server: m, tenant: t.ID, place: t.Placement.Schema})
	defer db.Close()
	db.SetMaxOpenConns(1)
	var beside string
	if err := db.QueryRowContext(ctx, dialect.MariaDBBeside, m.Rows.Views).Scan(&beside); err != nil {
		return fmt.Errorf("log in as the tenant: %w", err)
	}
	if beside != "" {
		return fmt.Errorf("the login %q can use the databases %s beside the views: revoke what was granted to it or to PUBLIC",
			dialect.MariaDBLogin(t.Placement.Schema), beside)
	}
	return nil
}

// deprovisionRows closes the login, deletes the rows in one transaction, and forgets whose the login
// was at the very end, so that each step may be repeated. A login that is not written down is not
// touched; rows that the system wrote for its tenant are deleted all the same.
func (m MariaDB) deprovisionRows(ctx context.Context, t tenancy.Tenant) error {
	db, err := m.ownRows(t)
	if err != nil {
		return err
	}
	defer db.Close()
	wall := m.Rows.wall()
	login := dialect.MariaDBLogin(t.Placement.Schema)
	if err := checkMark(ctx, db, wall.LoginMark(markPrefix), login, t); err != nil {
		if errors.Is(err, ErrMissing) {
			return m.Rows.deleteTenant(ctx, db, t.ID)
		}
		return err
	}
	if _, err := db.ExecContext(ctx, wall.CloseLogin(), login); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, wall.DropLogin(login)); err != nil {
		return err
	}
	if err := m.Rows.deleteTenant(ctx, db, t.ID); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, wall.ForgetLogin(), login)
	return err
}
