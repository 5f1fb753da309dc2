package demo

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// Migration is the job that makes what a [Deployment] serves from.
type Migration struct {
	// Logins are the ones to make. Of their URLs the login, the password and the database count.
	Logins
	// DBAURL is a superuser's, and MigratorURL the tables' owner's, past every pooler. Required.
	DBAURL, MigratorURL string
	// PoolerUsers is where PgBouncer's list of users is written: the logins of run time and, with the
	// strategy database, each tenant's, all with what PostgreSQL stores of their passwords. Empty when
	// there is no pooler.
	PoolerUsers string
}

// Migrate makes the roles, the catalogue, the tables and their walls, and the demo's tenants, as far as
// they are missing. It may be repeated: what is as it should be stays as it is.
func Migrate(ctx context.Context, m Migration) (err error) {
	m.Logger = cmp.Or(m.Logger, slog.Default())
	dba, users, err := m.logins()
	if err != nil {
		return err
	}
	cfg, key, err := m.settle()
	if err != nil {
		return err
	}
	cfg.Lifecycle.NoRunner = true
	users.roles.Creates = cfg.Lifecycle.IsolationStrategy != tenancy.StrategyRowLevel

	config, err := pgx.ParseConfig(m.DBAURL)
	if err != nil {
		return errors.New("--dba-url-file holds a URL that pgx cannot read")
	}
	owner := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, owner.Close()) }()
	owner.SetMaxOpenConns(2)
	if err := users.makeGiven(ctx, owner); err != nil {
		return fmt.Errorf("--dba-url-file: as %q: %w", dba.role, err)
	}
	if err := makeCatalogue(ctx, owner, users.catalogue); err != nil {
		return err
	}
	urls, err := m.direct(dba.database)
	if err != nil {
		return err
	}
	b := &backend{}
	a := &App{log: m.Logger, close: sync.OnceValue(func() error { return b.close.run() })}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := urls.open(b, users.roles, cfg.Lifecycle.IsolationStrategy, key); err != nil {
		return err
	}
	if err := a.build(ctx, cfg, b, true); err != nil {
		return err
	}
	if m.PoolerUsers == "" {
		return nil
	}
	names := []string{users.roles.App, users.roles.System, users.catalogue}
	tenants, err := databases(ctx, a.tn.Lifecycle())
	if err != nil {
		return err
	}
	return writePoolerUsers(ctx, owner, append(names, tenants...), m.PoolerUsers)
}

// logins returns the DBA's, and those to make, with their passwords.
func (m Migration) logins() (dba login, users *postgresLogins, err error) {
	run, err := m.parse()
	dba, dbaErr := parseLogin("--dba-url-file", m.DBAURL)
	migrator, migratorErr := parseLogin("--migrator-url-file", m.MigratorURL)
	if err := errors.Join(err, dbaErr, migratorErr); err != nil {
		return dba, nil, err
	}
	var errs []error
	for _, l := range append(run[:], migrator) {
		if l.role == dba.role {
			errs = append(errs, fmt.Errorf("%s has the DBA's login %q: name a plain one, which is made", l.flag, l.role))
		}
		if l.database != dba.database {
			errs = append(errs, fmt.Errorf("%s is for the database %q and --dba-url-file for %q: make them the same", l.flag, l.database, dba.database))
		}
		if l.role == migrator.role && l.flag != migrator.flag {
			errs = append(errs, fmt.Errorf("%s has the migrator's login %q: who owns the tables must not serve", l.flag, l.role))
		}
	}
	users = &postgresLogins{
		roles:     isolation.Roles{App: run[0].role, System: run[1].role, Migrator: migrator.role},
		catalogue: run[2].role, passwords: passwords{},
	}
	for _, l := range append(run[:], migrator) {
		users.passwords[l.role] = l.password
	}
	return dba, users, errors.Join(errs...)
}

// makeGiven makes the roles with the passwords given, and checks that those which serve are plain. A role
// that has its password already keeps what the server stores of it, for a pooler may know that.
func (l *postgresLogins) makeGiven(ctx context.Context, owner *sql.DB) error {
	for role, password := range l.passwords {
		verifier, err := storedPassword(ctx, owner, role)
		switch {
		case err != nil:
			return err
		case isPasswordOf(verifier, password):
			l.passwords[role] = ""
			continue
		}
		if l.passwords[role], err = scramVerifier(password); err != nil {
			return fmt.Errorf("the login %q: %w", role, err)
		}
	}
	if err := l.create(ctx, owner); err != nil {
		return err
	}
	for flag, role := range map[string]string{
		"--app-url-file": l.roles.App, "--system-url-file": l.roles.System, "--catalogue-url-file": l.catalogue,
	} {
		if err := checkPlain(ctx, owner, flag, role); err != nil {
			return err
		}
	}
	return nil
}

// storedPassword returns what the server stores of a role's password; "" for none, or no role.
func storedPassword(ctx context.Context, owner *sql.DB, role string) (string, error) {
	var verifier sql.NullString
	err := owner.QueryRowContext(ctx, `SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1`, role).Scan(&verifier)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("read what is stored of passwords, which needs a superuser: %w", err)
	}
	return verifier.String, nil
}

// direct returns where the job connects: each login at the DBA's address, past every pooler.
func (m Migration) direct(database string) (u postgresURLs, err error) {
	base, err := url.Parse(m.DBAURL)
	if err != nil {
		return u, errors.New("--dba-url-file holds no URL")
	}
	for _, login := range []struct {
		url  *string
		from string
	}{{&u.app, m.AppURL}, {&u.system, m.SystemURL}, {&u.catalogue, m.CatalogueURL}} {
		from, err := url.Parse(login.from)
		if err != nil {
			return u, errors.New("a login is no URL")
		}
		at := *base
		at.User, at.Path = from.User, "/"+database
		*login.url = at.String()
	}
	u.migrator, u.tenants = m.MigratorURL, m.MigratorURL
	return u, nil
}

// databases returns the tenants' own databases, which their logins are named like.
func databases(ctx context.Context, l *tenancy.Lifecycle) (names []string, err error) {
	var page tenancy.Page
	for first := true; first || page.Next != ""; first = false {
		if page, err = l.List(ctx, tenancy.ListOptions{After: page.Next, Limit: 1000}); err != nil {
			return nil, err
		}
		for _, t := range page.Tenants {
			if t.Placement.Database != "" && t.Status != tenancy.StatusProvisioning {
				names = append(names, t.Placement.Database)
			}
		}
	}
	return names, nil
}

// writePoolerUsers writes PgBouncer's list of users unless it is there. PgBouncer reads a new one when
// it is told to, by SIGHUP.
func writePoolerUsers(ctx context.Context, owner *sql.DB, roles []string, path string) error {
	var list strings.Builder
	for _, role := range roles {
		verifier, err := storedPassword(ctx, owner, role)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(verifier, "SCRAM-SHA-256$") {
			return fmt.Errorf("the login %q has no SCRAM password: set the server's password_encryption to scram-sha-256", role)
		}
		fmt.Fprintf(&list, "%s %s\n", poolerQuote(role), poolerQuote(verifier))
	}
	text := []byte(list.String())
	switch old, err := os.ReadFile(path); {
	case err == nil && bytes.Equal(old, text):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--pooler-users: %w", err)
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("--pooler-users: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("--pooler-users: %w", err)
	}
	return nil
}

func poolerQuote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
