package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
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
	// RLS says which tables the tenants share. Required for row_level.
	RLS *RLS
}

// Engine returns EnginePostgreSQL.
func (PostgreSQL) Engine() Engine { return EnginePostgreSQL }

func (p PostgreSQL) validate() error {
	if p.App == nil {
		return errors.New("PostgreSQL.App is nil: give the connector of the role app, for example tenantpgx.NewConnector(url)")
	}
	if p.RLS != nil {
		return p.RLS.validate()
	}
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

// setup migrates the shared tables and walls them.
func (p PostgreSQL) setup(ctx context.Context, name string, m Migrator) (version int64, err error) {
	db, err := p.migrator()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if m != nil {
		if version, err = m.Migrate(ctx, Target{DB: db, Engine: EnginePostgreSQL, Name: name}); err != nil {
			return version, fmt.Errorf("migrate server %q: %w", name, err)
		}
	}
	if p.RLS == nil {
		return version, errors.New("PostgreSQL.RLS is nil: say which tables the tenants share")
	}
	return version, p.RLS.Apply(ctx, db)
}
