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

func (p PostgreSQL) provisionRows(ctx context.Context, _ tenancy.Tenant) error {
	return p.checkRows(ctx)
}

func (p PostgreSQL) versionRows(ctx context.Context, m Migrator) (int64, error) {
	if p.Migrator == nil {
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
	return p.boundRows(ctx, t, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, dialect.DeleteTenant(p.RLS.tables()), t.ID); err != nil {
			return fmt.Errorf("delete the rows: %w", err)
		}
		return nil
	})
}

// boundRows runs fn as the application, inside the tenant.
func (p PostgreSQL) boundRows(ctx context.Context, t tenancy.Tenant, fn func(tx *sql.Tx) error) error {
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
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// manifestRows counts as the tenant itself, so that the wall bounds what it sees.
func (p PostgreSQL) manifestRows(ctx context.Context, t tenancy.Tenant) (items []tenancy.ManifestItem, err error) {
	app := sql.OpenDB(p.App)
	defer app.Close()
	report, err := p.RLS.Verify(ctx, app)
	if err != nil {
		return nil, err
	}
	if err := refuseUnlisted(report.Findings); err != nil {
		return nil, err
	}
	err = p.boundRows(ctx, t, func(tx *sql.Tx) error {
		for _, table := range p.RLS.tables() {
			item := tenancy.ManifestItem{Kind: itemRows, Name: table.String()}
			if err := tx.QueryRowContext(ctx, dialect.CountTenant(table), t.ID).Scan(&item.Rows); err != nil {
				return fmt.Errorf("count the rows of %s: %w", table, err)
			}
			items = append(items, item)
		}
		return nil
	})
	return items, err
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
