package demo

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/cmd/tenancy/demo/notes"
	"lexigram.dev/tenancy/isolation"
)

const (
	// minSecret bounds a deployment's secrets from below.
	minSecret = 32
	// MaxStop is how long Serve and Close together may take to end.
	MaxStop = drainTimeout + stopTimeout
)

// Logins are those of a deployment at run time. Nobody makes them up: they come from its secrets.
type Logins struct {
	// AppURL, SystemURL and CatalogueURL are the URLs of one PostgreSQL database, by a pooler in
	// transaction mode or past it. Required, each with a login and a password of its own.
	AppURL, SystemURL, CatalogueURL string
	// TenantKey is the secret that the passwords of tenants' own databases are derived from, at least
	// 32 characters. Required for the strategy database.
	TenantKey string
	// Isolation is the strategy. Defaults to the configuration's, then to row_level.
	Isolation string
	// ConfigFile and Environ are those of [Options].
	ConfigFile string
	Environ    []string
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Deployment is the demo as it serves where it must not be able to make anything.
type Deployment struct {
	Logins
	// MigratorRole names the role that owns the tables. Its password is elsewhere. Required.
	MigratorRole string
	// JWTSecret signs the tokens: at least 32 characters. Required.
	JWTSecret string
}

// login is one of [Logins], by what the command line calls it.
type login struct{ flag, url, role, password, database string }

// parse returns the logins in the order app, system, catalogue, or all that is wrong with them.
func (l Logins) parse() (all [3]login, err error) {
	var errs []error
	owners := map[string]string{}
	for i, c := range []struct{ flag, url string }{
		{"--app-url-file", l.AppURL}, {"--system-url-file", l.SystemURL}, {"--catalogue-url-file", l.CatalogueURL},
	} {
		at, err := parseLogin(c.flag, c.url)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other := owners[at.role]; other != "" {
			errs = append(errs, fmt.Errorf("%s and %s have the same login %q: each kind of work needs its own", other, c.flag, at.role))
		}
		owners[at.role] = c.flag
		all[i] = at
		if all[0].database != "" && at.database != all[0].database {
			errs = append(errs, fmt.Errorf("%s is for another database than --app-url-file", c.flag))
		}
	}
	return all, errors.Join(errs...)
}

// parseLogin does not repeat the URL in its errors: it holds a password.
func parseLogin(flag, text string) (login, error) {
	if text == "" {
		return login{}, fmt.Errorf("%s is missing: a deployment has no default for a secret", flag)
	}
	u, err := url.Parse(text)
	if err != nil || !postgreSQL.speaks(text) {
		return login{}, fmt.Errorf("%s holds no URL of PostgreSQL: write %s", flag, postgreSQL.url)
	}
	password, _ := u.User.Password()
	if u.User.Username() == "" || password == "" {
		return login{}, fmt.Errorf("%s holds a URL without a login or its password: write %s", flag, postgreSQL.url)
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil || cfg.User != u.User.Username() {
		return login{}, fmt.Errorf("%s holds a URL that pgx cannot read: write %s", flag, postgreSQL.url)
	}
	return login{flag: flag, url: text, role: cfg.User, password: cfg.Password, database: cfg.Database}, nil
}

// settle returns the configuration and the strategy's key.
func (l Logins) settle() (cfg tenancy.Config, key []byte, err error) {
	opts := Options{Isolation: l.Isolation, ConfigFile: l.ConfigFile, Environ: l.Environ, Logger: l.Logger}
	if l.Isolation != "" {
		if err := opts.supported(&postgreSQL, "--isolation", l.Isolation); err != nil {
			return cfg, nil, err
		}
	}
	if cfg, err = opts.config(&postgreSQL); err != nil {
		return cfg, nil, err
	}
	if cfg.Lifecycle.IsolationStrategy == tenancy.StrategyDatabase {
		if key, err = tenantKey(l.TenantKey); err != nil {
			return cfg, nil, err
		}
	}
	return cfg, key, nil
}

// tenantKey returns the key that a secret stands for.
func tenantKey(secret string) ([]byte, error) {
	if err := checkSecret("--tenant-key-file", secret); err != nil {
		return nil, err
	}
	return passwords{keyName: secret}.key(), nil
}

func checkSecret(flag, secret string) error {
	if len(secret) < minSecret {
		return fmt.Errorf("%s holds %d characters: a deployment needs at least %d random ones, as openssl rand -hex 32 prints", flag, len(secret), minSecret)
	}
	return nil
}

// Serve opens the data with the logins given, refuses any that may do more than serve, and starts
// what runs in the background. It makes nothing: what is not there, [Migrate] makes. ctx bounds the
// start only.
func Serve(ctx context.Context, d Deployment) (_ *App, err error) {
	d.Logger = cmp.Or(d.Logger, slog.Default())
	logins, err := d.parse()
	err = errors.Join(err, checkSecret("--jwt-secret-file", d.JWTSecret))
	if d.MigratorRole == "" {
		err = errors.Join(err, errors.New("--migrator-role is missing: name the role that owns the tables"))
	}
	if err != nil {
		return nil, err
	}
	for _, l := range logins {
		if l.role == d.MigratorRole {
			return nil, fmt.Errorf("%s has the migrator's login %q: who owns the tables must not serve", l.flag, l.role)
		}
		if err := l.checkPlain(ctx); err != nil {
			return nil, err
		}
	}
	cfg, key, err := d.settle()
	if err != nil {
		return nil, err
	}
	cfg.Lifecycle.NoRunner = true // who serves has no login that could make a tenant's place
	a := &App{live: notes.NewLive(), secret: d.JWTSecret, log: d.Logger}
	verifier, err := newVerifier(a.secret)
	if err != nil {
		return nil, err
	}
	b := &backend{}
	a.close = sync.OnceValue(func() error { return b.close.run() })
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	urls := postgresURLs{app: d.AppURL, system: d.SystemURL, catalogue: d.CatalogueURL, tenants: d.AppURL, pooler: true}
	roles := isolation.Roles{
		App: logins[0].role, System: logins[1].role, Migrator: d.MigratorRole,
		Creates: cfg.Lifecycle.IsolationStrategy != tenancy.StrategyRowLevel,
	}
	if err := urls.open(b, roles, cfg.Lifecycle.IsolationStrategy, key); err != nil {
		return nil, err
	}
	b.place = "a deployment's database " + logins[0].database
	if err := a.build(ctx, cfg, b, false); err != nil {
		return nil, fmt.Errorf("%w\nif it was not migrated, run tenancy demo migrate with the DBA's and the migrator's login first", err)
	}
	if err := a.run(ctx, b, &postgreSQL, verifier); err != nil {
		return nil, err
	}
	return a, nil
}

// checkPlain refuses a login that may do more than serve.
func (l login) checkPlain(ctx context.Context) (err error) {
	cfg, err := pgx.ParseConfig(l.url)
	if err != nil {
		return fmt.Errorf("%s holds a URL that pgx cannot read", l.flag)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler may be between
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	return checkPlain(ctx, db, l.flag, l.role)
}

// checkPlain asks db what a role may do, and what it may become.
func checkPlain(ctx context.Context, db *sql.DB, flag, role string) error {
	var powers string
	if err := db.QueryRowContext(ctx, rolePowers, role).Scan(&powers); err != nil {
		return fmt.Errorf("%s: ask what the login %q may do: %w", flag, role, err)
	}
	if powers != "" {
		return fmt.Errorf("%s: the login %q %s: a deployment serves with plain logins only, as tenancy demo migrate makes them; give the DBA's and the migrator's to that job alone",
			flag, role, powers)
	}
	return nil
}

// rolePowers tells what a role may do beside what was granted to it, by itself or by a role that it
// could take; ” for a plain one. A role that does not exist is no row.
const rolePowers = `
SELECT COALESCE((SELECT pg_catalog.string_agg(DISTINCT powers.what, ', ')
	FROM pg_catalog.pg_roles AS r
	CROSS JOIN LATERAL (VALUES
		(r.rolsuper, 'is a superuser'), (r.rolbypassrls, 'passes row security'), (r.rolcreaterole, 'may make roles'),
		(r.rolcreatedb, 'may make databases'), (r.rolreplication, 'may replicate'),
		(r.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), 'owns the database'),
		(r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
			'pg_execute_server_program'), 'is in ' || r.rolname)) AS powers (has, what)
	WHERE powers.has AND (r.oid = me.oid OR NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER'))), '')
FROM pg_catalog.pg_roles AS me WHERE me.rolname = $1::text`
