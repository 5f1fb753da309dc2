package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Roles are the names of the logins on a PostgreSQL server.
type Roles struct {
	// App is what the application logs in as: held back by row security. Required.
	App string
	// System is what tenancy.AsSystem logs in as: it sees all tenants. Empty switches it off.
	System string
	// Migrator owns the tables and is held back by row security as well. Empty when another
	// role, such as the database's owner, does.
	Migrator string
	// Legacy is what an application logs in as while it adopts table by table: it sees all rows.
	// It exists already, and may be the migrator. Empty when there is none, or no longer.
	Legacy string
	// Creates lets the migrator make roles, schemas and databases, as the strategies schema and
	// database need, and takes from the role app the rights of roles that it does not act as.
	Creates bool
}

// Passwords are the passwords of [Roles]. An empty one leaves the role's password as it is; a
// new role then cannot log in by password.
type Passwords struct{ App, System, Migrator string }

func (r Roles) validate() error {
	var errs []error
	seen := map[string]bool{}
	for field, name := range map[string]string{"App": r.App, "System": r.System, "Migrator": r.Migrator, "Legacy": r.Legacy} {
		if name == "" && field != "App" || field == "Legacy" && name == r.Migrator {
			continue
		}
		if err := checkName(name); err != nil {
			errs = append(errs, fmt.Errorf("isolation.Roles.%s: %w", field, err))
		}
		if seen[name] {
			errs = append(errs, fmt.Errorf("isolation.Roles: %q is named twice: each role needs a login of its own", name))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

// SQL returns the statements of [Roles.Create] as a script for a DBA. It contains the passwords.
func (r Roles) SQL(passwords Passwords) (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, role := range []struct{ name, password string }{
		{r.App, passwords.App}, {r.System, passwords.System}, {r.Migrator, passwords.Migrator},
	} {
		if role.name == "" {
			continue
		}
		sql, err := dialect.CreateRole(role.name, role.password)
		if err != nil {
			return "", err
		}
		b.WriteString(sql)
	}
	if r.Migrator != "" {
		b.WriteString(dialect.GrantMigrator(r.Migrator))
		if r.Creates {
			b.WriteString(dialect.GrantCreation(r.Migrator, r.App))
		}
	}
	return b.String(), nil
}

// Create makes the roles that do not exist, sets the passwords given, and lets the migrator
// create tables in this database's schema public. It takes a superuser's db, or one of a role
// with CREATEROLE that owns the database. It may be repeated, and run in two processes at once.
func (r Roles) Create(ctx context.Context, db *sql.DB, passwords Passwords) error {
	script, err := r.SQL(passwords)
	if err != nil {
		return err
	}
	// Roles belong to the whole server and the lock to one database, so that two processes at
	// two databases can still meet at a role; one of them then repeats.
	for attempt := 0; ; attempt++ {
		err = runAlone(ctx, db, script)
		if err == nil || attempt == 10 || !strings.Contains(err.Error(), "tuple concurrently updated") {
			break
		}
	}
	if err != nil {
		// The text of the statement would carry a password into logs.
		text, _, _ := strings.Cut(err.Error(), "\nin: ")
		return fmt.Errorf("create roles: %s", text)
	}
	return nil
}
