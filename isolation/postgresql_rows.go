package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// The methods of this file are row_level on PostgreSQL, where row security is the wall.

var _ rowServer = PostgreSQL{}

func (p PostgreSQL) supportsRows() error {
	if p.RLS == nil {
		return unsupported(tenancy.StrategyRowLevel, EnginePostgreSQL, "set PostgreSQL.RLS to say which tables the tenants share")
	}
	return nil
}

func (PostgreSQL) placeRows(tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{}, nil
}

func (p PostgreSQL) routeRows(t *tenancy.Tenant, r *Route) error {
	if p.RLS == nil {
		return p.supportsRows()
	}
	r.Pool, r.Connector, r.Replica, r.Engine = Pool{Login: loginApp}, p.App, p.Replica, EnginePostgreSQL
	r.Bind = append(r.Bind, Setting{Name: p.RLS.setting(), Value: t.ID})
	return nil
}

func (p PostgreSQL) provisionRows(ctx context.Context, _ tenancy.Tenant, m Migrator) (int64, error) {
	if err := p.checkRows(ctx); err != nil {
		return 0, err
	}
	if m == nil || p.Migrator == nil {
		return 0, nil
	}
	db, err := p.migrator()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return m.Version(ctx, Target{DB: db, Engine: EnginePostgreSQL})
}

func (p PostgreSQL) deprovisionRows(ctx context.Context, t tenancy.Tenant) error {
	if t.ID == "" {
		return errors.New("the tenant has no id")
	}
	db := sql.OpenDB(p.App)
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	bind, err := dialect.SetLocal(p.RLS.setting(), t.ID)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, bind); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if _, err := tx.ExecContext(ctx, dialect.DeleteTenant(p.RLS.tables()), t.ID); err != nil {
		return fmt.Errorf("delete the rows: %w", err)
	}
	return tx.Commit()
}

// setupRows migrates the shared tables and walls them.
func (p PostgreSQL) setupRows(ctx context.Context, name string, m Migrator) (version int64, err error) {
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
	return version, p.RLS.Apply(ctx, db)
}

// checkRows looks at the wall as the application will meet it.
func (p PostgreSQL) checkRows(ctx context.Context) error {
	db := sql.OpenDB(p.App)
	defer db.Close()
	db.SetMaxOpenConns(1)
	return p.RLS.Check(ctx, db)
}
