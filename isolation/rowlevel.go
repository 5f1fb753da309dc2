package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// rowLevel keeps all tenants in the same tables. On PostgreSQL row security is the wall.
type rowLevel struct{}

func (rowLevel) Name() string { return tenancy.StrategyRowLevel }

func (rowLevel) Supports(s Server) error {
	pg, ok := s.(PostgreSQL)
	switch {
	case !ok:
		return unsupported(tenancy.StrategyRowLevel, s.Engine(),
			"nothing in this database can keep rows apart: use the strategy database, or PostgreSQL")
	case pg.RLS == nil:
		return unsupported(tenancy.StrategyRowLevel, s.Engine(), "set PostgreSQL.RLS to say which tables the tenants share")
	}
	return nil
}

// Logins, as part of a pool's name.
const (
	loginApp    = "app"
	loginSystem = "system"
)

func (rowLevel) Route(s Server, t *tenancy.Tenant, _ tenancy.Placement, r *Route) error {
	pg, ok := s.(PostgreSQL)
	if !ok || pg.RLS == nil {
		return rowLevel{}.Supports(s)
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginApp}, pg.App, EnginePostgreSQL
	r.Bind = append(r.Bind, Setting{Name: pg.RLS.setting(), Value: t.ID})
	return nil
}

func (rowLevel) RouteSystem(s Server, r *Route) error {
	pg, ok := s.(PostgreSQL)
	if !ok {
		return rowLevel{}.Supports(s)
	}
	if pg.System == nil {
		return ErrNoSystemLogin
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginSystem}, pg.System, EnginePostgreSQL
	return nil
}

func (rowLevel) RouteUnbound(s Server, r *Route) error {
	pg, ok := s.(PostgreSQL)
	if !ok {
		return rowLevel{}.Supports(s)
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginApp}, pg.App, EnginePostgreSQL
	return nil
}

// Place has nothing to choose: all tenants share the tables.
func (rowLevel) Place(context.Context, Server, tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{}, nil
}

// Provision checks that the tables are walled, as the role that will use them.
func (rowLevel) Provision(ctx context.Context, s Server, _ tenancy.Tenant, m Migrator) (int64, error) {
	pg, ok := s.(PostgreSQL)
	if !ok || pg.RLS == nil {
		return 0, rowLevel{}.Supports(s)
	}
	if err := pg.check(ctx); err != nil {
		return 0, err
	}
	if m == nil || pg.Migrator == nil {
		return 0, nil
	}
	db, err := pg.migrator()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return m.Version(ctx, Target{DB: db, Engine: EnginePostgreSQL})
}

// Deprovision deletes the tenant's rows as the tenant itself, so that the wall bounds what it can
// delete.
func (rowLevel) Deprovision(ctx context.Context, s Server, t tenancy.Tenant) (err error) {
	pg, ok := s.(PostgreSQL)
	if !ok || pg.RLS == nil {
		return rowLevel{}.Supports(s)
	}
	if t.ID == "" {
		return errors.New("the tenant has no id")
	}
	db := sql.OpenDB(pg.App)
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	bind, err := dialect.SetLocal(pg.RLS.setting(), t.ID)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, bind); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if _, err := tx.ExecContext(ctx, dialect.DeleteTenant(pg.RLS.tables()), t.ID); err != nil {
		return fmt.Errorf("delete the rows: %w", err)
	}
	return tx.Commit()
}
