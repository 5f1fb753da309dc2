package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Schemas describes the strategy schema on PostgreSQL. Each tenant gets a schema, and a role
// without login that alone may use it. A statement runs in the tenant's role, so that a qualified
// name reaches nobody else's tables. The application's login may take each of these roles and has
// no rights of its own: the wall stops a forgotten or wrong schema name, not SQL injection.
type Schemas struct {
	// Roles are the logins. Roles.App and Roles.Migrator are required, and Roles.Creates.
	Roles Roles
	// Shared are schemas with tables that all tenants read and none writes. They come after the
	// tenant's own in its search_path.
	Shared []string
}

func (s Schemas) validate() error {
	errs := []error{s.Roles.validate()}
	if s.Roles.Migrator == "" || !s.Roles.Creates {
		errs = append(errs, errors.New("Schemas.Roles: name the Migrator and set Creates: it makes a schema and a role per tenant"))
	}
	for _, name := range s.Shared {
		if !dialect.IsPlainName(name) {
			errs = append(errs, fmt.Errorf("Schemas.Shared: %q: use a name of a-z, 0-9 and _", name))
		}
	}
	return errors.Join(errs...)
}

// group is the role that may read the shared schemas; all tenants' roles are in it.
func (s Schemas) group() string { return dialect.ShortName(s.Roles.App + "_tenants") }

// searchPath puts temporary tables last, so that none can stand in for a table of the tenant.
func (s Schemas) searchPath(schema string) string {
	path := schema
	for _, shared := range s.Shared {
		path += ", " + shared
	}
	return path + ", pg_temp"
}

// The following methods are the strategy schema on PostgreSQL.

var _ schemaServer = PostgreSQL{}

func (p PostgreSQL) supportsSchemas() error {
	if p.Schemas == nil {
		return unsupported(tenancy.StrategySchema, EnginePostgreSQL, "set PostgreSQL.Schemas to name the roles")
	}
	return nil
}

func (p PostgreSQL) routeSchema(at tenancy.Placement, r *Route) error {
	r.Pool, r.Connector, r.Replica, r.Engine = Pool{Login: loginApp}, p.App, p.Replica, EnginePostgreSQL
	r.Schema, r.Version = at.Schema, at.SchemaVersion
	r.Bind = append(r.Bind,
		Setting{Name: dialect.SearchPath, Value: p.Schemas.searchPath(at.Schema)},
		Setting{Name: "role", Value: at.Schema, Off: "none"})
	return nil
}

// setupSchemas makes the role that may read what tenants share.
func (p PostgreSQL) setupSchemas(ctx context.Context) error {
	db, err := p.migrator()
	if err != nil {
		return err
	}
	defer db.Close()
	script, err := dialect.SetupSchemas(p.Schemas.group(), p.Schemas.Shared)
	if err != nil {
		return err
	}
	return runAlone(ctx, db, script)
}

// provisionSchema makes the schema and its role in one transaction.
func (p PostgreSQL) provisionSchema(ctx context.Context, t tenancy.Tenant) error {
	db, err := p.migrator()
	if err != nil {
		return err
	}
	defer db.Close()
	name := t.Placement.Schema
	if err := p.ownSchema(ctx, db, t); err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	script, err := dialect.CreateSchema(dialect.Schema{
		Name: name, Mark: mark(t), Group: p.Schemas.group(), App: p.Schemas.Roles.App, System: p.Schemas.Roles.System,
	})
	if err != nil {
		return err
	}
	return runAlone(ctx, db, script)
}

func (p PostgreSQL) migrateSchema(ctx context.Context, t tenancy.Tenant, m Migrator) (int64, error) {
	if _, err := p.migrator(); err != nil {
		return 0, err
	}
	name := t.Placement.Schema
	own := sql.OpenDB(inSchema{p.Migrator, name})
	defer own.Close()
	own.SetMaxOpenConns(2)
	return m.Migrate(ctx, Target{DB: own, Engine: EnginePostgreSQL, Tenant: t.ID, Name: name})
}

func (p PostgreSQL) manifestSchema(ctx context.Context, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	db, err := p.migrator()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	name := t.Placement.Schema
	switch err := p.ownSchema(ctx, db, t); {
	case errors.Is(err, ErrMissing):
		return itemIf(ctx, db, nil, itemRole, name, dialect.RoleExists, name)
	case err != nil:
		return nil, err
	}
	items, err := manifestTables(ctx, db, dialect.TablesOf, name)
	if err != nil {
		return nil, err
	}
	return itemIf(ctx, db, append(items, tenancy.ManifestItem{Kind: itemSchema, Name: name}), itemRole, name, dialect.RoleExists, name)
}

func (p PostgreSQL) deprovisionSchema(ctx context.Context, t tenancy.Tenant) error {
	db, err := p.migrator()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := p.ownSchema(ctx, db, t); err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	return runAlone(ctx, db, dialect.DropSchema(t.Placement.Schema))
}

// ownSchema returns nil when the schema is the tenant's, ErrMissing when there is none, and
// another error when it is somebody else's.
func (p PostgreSQL) ownSchema(ctx context.Context, db *sql.DB, t tenancy.Tenant) error {
	return checkMark(ctx, db, dialect.SchemaMark, t.Placement.Schema, t)
}

// checkSchemas looks at the login that takes the tenants' roles.
func (p PostgreSQL) checkSchemas(ctx context.Context) error {
	db := sql.OpenDB(p.App)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var role, could, open string
	var super, bypass, inherits bool
	roles := p.Schemas.Roles
	err := db.QueryRowContext(ctx, dialect.SchemaLogin, roles.System, roles.Migrator, markPrefix).
		Scan(&role, &super, &bypass, &inherits, &could, &open)
	if err != nil {
		return fmt.Errorf("check the login: %w", err)
	}
	var errs []error
	for _, finding := range []struct {
		bad    bool
		remedy string
	}{
		{role != roles.App, fmt.Sprintf("is what the application logs in as, but Schemas.Roles.App is %q: make them the same", roles.App)},
		{super, "is a superuser: log in as a plain role (Roles.Create makes one)"},
		{bypass, "has BYPASSRLS: ALTER ROLE " + dialect.Ident(role) + " NOBYPASSRLS"},
		{inherits, "has all tenants' rights at once: ALTER ROLE " + dialect.Ident(role) + " NOINHERIT, before tenants are provisioned"},
		{could != "", "can become " + could + ", which sees all tenants: revoke the membership"},
		{open != "", "can use the schemas " + open + " without a tenant: revoke what was granted to it or to PUBLIC"},
	} {
		if finding.bad {
			errs = append(errs, fmt.Errorf("role %q %s", role, finding.remedy))
		}
	}
	return errors.Join(errs...)
}

// inSchema opens connections that look names up in one schema. It is for migrations: the setting
// belongs to the session, so that there must be no pooler between.
type inSchema struct {
	driver.Connector
	schema string
}

func (i inSchema) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := i.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	err = i.enter(ctx, c)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (i inSchema) enter(ctx context.Context, c driver.Conn) error {
	session, ok := c.(SessionConn)
	if !ok {
		return fmt.Errorf("%w: give PostgreSQL.Migrator a tenantpgx connector, which can tell", ErrSessionUnsupported)
	}
	if direct, err := session.Direct(ctx); err != nil || !direct {
		return errors.Join(err, ErrSessionUnsupported)
	}
	set, err := Setting{Name: dialect.SearchPath, Value: i.schema}.SetLocal()
	if err != nil {
		return err
	}
	return execInner(ctx, c, dialect.ForSession(set))
}

// A mark is the comment that says whose a schema or database is. What has no such mark is never
// taken over and never dropped.
const markPrefix = "tenancy: tenant "

func mark(t tenancy.Tenant) string { return markPrefix + t.ID }

// checkMark returns nil when what the query asks about is the tenant's, ErrMissing when it does not
// exist, and another error when it is somebody else's.
func checkMark(ctx context.Context, db *sql.DB, query, name string, t tenancy.Tenant) error {
	var found []string
	rows, err := db.QueryContext(ctx, query, name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m string
		if err := rows.Scan(&m); err != nil {
			return err
		}
		found = append(found, m)
	}
	switch err := rows.Err(); {
	case err != nil:
		return err
	case len(found) == 0:
		return ErrMissing
	case !slices.Equal(found, []string{mark(t)}):
		return fmt.Errorf("%q exists and is marked %q, not %q: it is not this tenant's, so it is left alone", name, found[0], mark(t))
	}
	return nil
}
