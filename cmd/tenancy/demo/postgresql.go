package demo

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantpgx"
)

const (
	// setupLock is the advisory lock of what several processes may begin at once.
	setupLock = 7274497
	// catalogueConns and dataConns bound the connections of one process.
	catalogueConns = 10
	dataConns      = 20
)

// postgresLogins are the roles of the demo, one for each kind of work, and their passwords.
type postgresLogins struct {
	roles     isolation.Roles // of the notes
	catalogue string          // reads and writes the catalogue, and nothing else
	passwords passwords
}

// openPostgreSQL keeps the catalogue in the schema tenancy, and the notes where the strategy says:
// those of all tenants in one table behind row security, or in a schema or database per tenant.
// Tenants of an earlier run with row_level stay where they are.
func openPostgreSQL(ctx context.Context, opts Options, strategy string) (_ *backend, err error) {
	b := &backend{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close.run())
		}
	}()
	admin, err := pgx.ParseConfig(opts.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	owner := stdlib.OpenDB(*admin)
	owner.SetMaxOpenConns(2)
	defer func() { err = errors.Join(err, owner.Close()) }()
	if err := owner.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	users, err := makeLogins(ctx, owner, admin.Database, strategy != tenancy.StrategyRowLevel)
	if err != nil {
		return nil, fmt.Errorf("make the demo's roles (--database-url needs a superuser, or the database's owner with CREATEROLE): %w", err)
	}
	if err := makeCatalogue(ctx, owner, users.catalogue); err != nil {
		return nil, err
	}

	direct := func(role string) (string, error) { return users.url(opts.DatabaseURL, admin.Database, role) }
	pooled := direct
	if opts.PoolerURL != "" {
		pooled = func(role string) (string, error) { return users.url(opts.PoolerURL, admin.Database, role) }
	}
	catalogue, err := openCatalogue(pooled, users.catalogue, opts.PoolerURL != "")
	if err != nil {
		return nil, err
	}
	b.close.add(catalogue.Close)
	if b.store, err = sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.PostgreSQL}); err != nil {
		return nil, err
	}
	server := isolation.PostgreSQL{RLS: &isolation.RLS{Roles: users.roles, Tables: []isolation.Table{{Name: "notes"}}, Private: []string{"goose_db_version"}}}
	if server.App, err = connector(pooled, users.roles.App); err != nil {
		return nil, err
	}
	if server.System, err = connector(pooled, users.roles.System); err != nil {
		return nil, err
	}
	if server.Migrator, err = connector(direct, users.roles.Migrator); err != nil {
		return nil, err
	}
	what := map[string]string{
		tenancy.StrategyRowLevel: "one table behind row security",
		tenancy.StrategySchema:   "a schema per tenant",
		tenancy.StrategyDatabase: "a database per tenant, the catalogue",
	}
	switch strategy {
	case tenancy.StrategySchema:
		server.Schemas = &isolation.Schemas{Roles: users.roles}
	case tenancy.StrategyDatabase:
		migrator, err := direct(users.roles.Migrator)
		if err != nil {
			return nil, err
		}
		open, err := tenantpgx.Opener(migrator)
		if err != nil {
			return nil, err
		}
		server.Databases = &isolation.Databases{Open: open, Key: users.passwords.key()}
	}
	b.server = server
	b.pool = isolation.PoolConfig{MaxConns: dataConns}
	b.place = fmt.Sprintf("%s in the PostgreSQL database %s on %s:%d", what[strategy], admin.Database, admin.Host, admin.Port)
	if opts.PoolerURL != "" {
		b.place += ", through a pooler"
	}
	return b, nil
}

func connector(at func(role string) (string, error), role string) (*tenantpgx.Connector, error) {
	u, err := at(role)
	if err != nil {
		return nil, err
	}
	return tenantpgx.NewConnector(u)
}

func openCatalogue(at func(role string) (string, error), role string, pooler bool) (*sql.DB, error) {
	u, err := at(role)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(u)
	if err != nil {
		return nil, err
	}
	if pooler { // a prepared statement would stay behind on another client's connection
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(catalogueConns)
	db.SetMaxIdleConns(catalogueConns)
	return db, nil
}

// makeLogins makes the roles.
func makeLogins(ctx context.Context, owner *sql.DB, database string, creates bool) (*postgresLogins, error) {
	prefix := loginPrefix(database)
	users := &postgresLogins{
		roles:     isolation.Roles{App: prefix + "_app", System: prefix + "_system", Migrator: prefix + "_migrator", Creates: creates},
		catalogue: prefix + "_catalogue",
		passwords: passwords{},
	}
	err := alone(ctx, owner, func(tx *sql.Tx) error {
		for _, statement := range []string{
			`CREATE SCHEMA IF NOT EXISTS tenancy_demo`,
			`CREATE TABLE IF NOT EXISTS tenancy_demo.logins (role text PRIMARY KEY, password text NOT NULL)`,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		for _, role := range []string{users.roles.App, users.roles.System, users.roles.Migrator, users.catalogue, keyName} {
			if _, err := tx.ExecContext(ctx, `INSERT INTO tenancy_demo.logins (role, password) VALUES ($1, $2)
				ON CONFLICT DO NOTHING`, role, rand.Text()); err != nil {
				return err
			}
			var password string
			if err := tx.QueryRowContext(ctx, `SELECT password FROM tenancy_demo.logins WHERE role = $1`, role).Scan(&password); err != nil {
				return err
			}
			users.passwords[role] = password
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = users.roles.Create(ctx, owner, isolation.Passwords{
		App:      users.passwords[users.roles.App],
		System:   users.passwords[users.roles.System],
		Migrator: users.passwords[users.roles.Migrator],
	})
	if err != nil {
		return nil, err
	}
	only := isolation.Roles{App: users.catalogue}
	return users, only.Create(ctx, owner, isolation.Passwords{App: users.passwords[users.catalogue]})
}

// makeCatalogue brings the catalogue's tables to their version and lets the login use them.
func makeCatalogue(ctx context.Context, owner *sql.DB, role string) error {
	store, err := sqlstore.New(owner, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	err = alone(ctx, owner, func(tx *sql.Tx) error {
		name := pgx.Identifier{role}.Sanitize()
		schema := pgx.Identifier{sqlstore.DefaultSchema}.Sanitize()
		for _, grant := range []string{
			"GRANT USAGE ON SCHEMA " + schema + " TO " + name,
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + schema + " TO " + name,
			"GRANT USAGE ON ALL SEQUENCES IN SCHEMA " + schema + " TO " + name,
		} {
			if _, err := tx.ExecContext(ctx, grant); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("grant the catalogue to its role: %w", err)
	}
	return nil
}

// alone runs f in a transaction while no other process does.
func alone(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, setupLock); err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// url returns base with a login of the demo in place of its user.
func (l *postgresLogins) url(base, database, role string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", errors.New("not a URL")
	}
	u.User = url.UserPassword(role, l.passwords[role])
	u.Path = "/" + database
	query := u.Query()
	for _, name := range []string{"user", "password", "dbname", "database"} {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}
