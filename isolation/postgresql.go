package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"

	"lexigram.dev/tenancy"
)

// PostgreSQL is a database on a PostgreSQL server, with one login per role. The connectors are
// best made by tenantpgx.NewConnector; any driver's will do.
type PostgreSQL struct {
	// App opens connections as the role app, which row security holds back. Required.
	App driver.Connector
	// System opens connections as the role system, which sees all tenants. Without it
	// tenancy.AsSystem is refused.
	System driver.Connector
	// Migrator opens connections as the role that owns the tables. Setup and the deletion of a
	// tenant need it.
	Migrator driver.Connector
	// Replica opens connections as the role app to a replica, for tenancy.ReadOnly. Without it
	// such statements go to App.
	Replica driver.Connector
	// RLS says which tables the tenants share. Required for row_level.
	RLS *RLS
	// Schemas says how tenants get schemas of their own. Required for schema.
	Schemas *Schemas
	// Databases says how tenants get databases of their own. Required for database.
	Databases *Databases
}

// Engine returns EnginePostgreSQL.
func (PostgreSQL) Engine() Engine { return EnginePostgreSQL }

func (p PostgreSQL) validate() error {
	if p.App == nil {
		return errors.New("PostgreSQL.App is nil: give the connector of the role app, for example tenantpgx.NewConnector(url)")
	}
	var errs []error
	if p.RLS != nil {
		errs = append(errs, p.RLS.validate())
	}
	if p.Schemas != nil {
		errs = append(errs, p.Schemas.validate())
	}
	if p.Databases != nil {
		errs = append(errs, p.Databases.validate())
	}
	return errors.Join(errs...)
}

func (p PostgreSQL) routeSystem(r *Route) error {
	if p.System == nil {
		return ErrNoSystemLogin
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginSystem}, p.System, EnginePostgreSQL
	return nil
}

func (p PostgreSQL) routeUnbound(r *Route) error {
	r.Pool, r.Connector, r.Engine = Pool{Login: loginApp}, p.App, EnginePostgreSQL
	return nil
}

func (p PostgreSQL) migrator() (*sql.DB, error) {
	if p.Migrator == nil {
		return nil, errors.New("PostgreSQL.Migrator is nil: give the connector of the role that owns the tables")
	}
	db := sql.OpenDB(p.Migrator)
	db.SetMaxOpenConns(2)
	return db, nil
}

// setup migrates what tenants share and puts up the walls of a strategy.
func (p PostgreSQL) setup(ctx context.Context, strategy, name string, m Migrator) (version int64, err error) {
	switch strategy {
	case tenancy.StrategyRowLevel:
		return p.setupRows(ctx, name, m)
	case tenancy.StrategySchema:
		return 0, p.setupSchemas(ctx)
	default:
		return 0, nil
	}
}

// check looks at the connectors, and at the walls of the strategies as the application will meet them.
func (p PostgreSQL) check(ctx context.Context, strategies []string) error {
	var errs []error
	for _, c := range []struct {
		field     string
		connector driver.Connector
	}{{"PostgreSQL.App", p.App}, {"PostgreSQL.System", p.System}, {"PostgreSQL.Replica", p.Replica}} {
		errs = append(errs, checkPrepared(ctx, c.field, c.connector))
	}
	if err := errors.Join(errs...); err != nil {
		return err // what follows would fail as well, with an error that says less
	}
	if p.RLS != nil && slices.Contains(strategies, tenancy.StrategyRowLevel) {
		errs = append(errs, p.checkRows(ctx))
	}
	if p.Schemas != nil && slices.Contains(strategies, tenancy.StrategySchema) {
		errs = append(errs, p.checkSchemas(ctx))
	}
	return errors.Join(errs...)
}
