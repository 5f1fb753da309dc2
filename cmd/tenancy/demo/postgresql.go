package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
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

	urls, err := users.urls(opts.DatabaseURL, opts.PoolerURL, admin.Database)
	if err != nil {
		return nil, err
	}
	if err := urls.open(b, users.roles, strategy, users.passwords.key()); err != nil {
		return nil, err
	}
	b.place = postgresPlace(strategy, admin.Database, admin.Host, admin.Port, opts.PoolerURL != "")
	return b, nil
}

// postgresPlace says where the data is, for people.
func postgresPlace(strategy, database, host string, port uint16, pooler bool) string {
	what := map[string]string{
		tenancy.StrategyRowLevel: "one table behind row security",
		tenancy.StrategySchema:   "a schema per tenant",
		tenancy.StrategyDatabase: "a database per tenant, the catalogue",
	}
	place := fmt.Sprintf("%s in the PostgreSQL database %s on %s:%d", what[strategy], database, host, port)
	if pooler {
		place += ", through a pooler"
	}
	return place
}

// postgresURLs are where the logins connect.
type postgresURLs struct {
	app, system, catalogue string
	migrator               string // past every pooler; empty where tables are not made
	tenants                string // the server, for the logins of tenants' databases
	pooler                 bool   // the first three may lead through one
}

// urls returns the addresses of the logins: at base, and at pooler unless that is empty.
func (l *postgresLogins) urls(base, pooler, database string) (u postgresURLs, err error) {
	u.pooler = pooler != ""
	for _, login := range []struct {
		url      *string
		at, role string
	}{
		{&u.app, cmp.Or(pooler, base), l.roles.App},
		{&u.system, cmp.Or(pooler, base), l.roles.System},
		{&u.catalogue, cmp.Or(pooler, base), l.catalogue},
		{&u.migrator, base, l.roles.Migrator},
	} {
		if *login.url, err = l.url(login.at, database, login.role); err != nil {
			return u, err
		}
	}
	u.tenants = u.migrator
	return u, nil
}

// open gives b the catalogue and the server of the notes. The passwords of the logins of tenants'
// databases are derived from key.
func (u postgresURLs) open(b *backend, roles isolation.Roles, strategy string, key []byte) error {
	catalogue, err := openCatalogue(u.catalogue, u.pooler)
	if err != nil {
		return err
	}
	b.close.add(catalogue.Close)
	if b.store, err = sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.PostgreSQL}); err != nil {
		return err
	}
	server := isolation.PostgreSQL{RLS: &isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}, Private: []string{"goose_db_version"}}}
	for _, c := range []struct {
		connector *driver.Connector
		url       string
	}{{&server.App, u.app}, {&server.System, u.system}, {&server.Migrator, u.migrator}} {
		if c.url == "" {
			continue
		}
		if *c.connector, err = tenantpgx.NewConnector(c.url); err != nil {
			return err
		}
	}
	switch strategy {
	case tenancy.StrategySchema:
		server.Schemas = &isolation.Schemas{Roles: roles}
	case tenancy.StrategyDatabase:
		open, err := u.databases()
		if err != nil {
			return err
		}
		server.Databases = &isolation.Databases{Open: open, Key: key}
	}
	b.server = server
	b.pool = isolation.PoolConfig{MaxConns: dataConns}
	return nil
}

// databases returns how tenants' databases are reached: by the tenants' logins, and by the migrator
// where there is one.
func (u postgresURLs) databases() (func(isolation.Login) (driver.Connector, error), error) {
	tenants, err := tenantpgx.Opener(u.tenants)
	if err != nil {
		return nil, err
	}
	migrator := func(isolation.Login) (driver.Connector, error) {
		return nil, errors.New("who serves has no login that makes databases: run tenancy demo migrate")
	}
	if u.migrator != "" {
		if migrator, err = tenantpgx.Opener(u.migrator); err != nil {
			return nil, err
		}
	}
	return func(login isolation.Login) (driver.Connector, error) {
		if login.User == "" {
			return migrator(login)
		}
		return tenants(login)
	}, nil
}

func openCatalogue(url string, pooler bool) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(url)
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
	return users, users.create(ctx, owner)
}

// create makes the roles. One without a password here keeps the one it has.
func (l *postgresLogins) create(ctx context.Context, owner *sql.DB) error {
	err := l.roles.Create(ctx, owner, isolation.Passwords{
		App:      l.passwords[l.roles.App],
		System:   l.passwords[l.roles.System],
		Migrator: l.passwords[l.roles.Migrator],
	})
	if err != nil {
		return err
	}
	only := isolation.Roles{App: l.catalogue}
	return only.Create(ctx, owner, isolation.Passwords{App: l.passwords[l.catalogue]})
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
