package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Check reports, as the role that db logs in as, every way past the wall that it finds: rights of
// the role (superuser, BYPASSRLS, ownership, TRUNCATE, REFERENCES, a role it could switch to), and
// tables without ENABLE, FORCE, the policy, or with a second policy that opens them. The db is the
// role app's. It returns nil when the wall stands, else all findings joined.
func (r RLS) Check(ctx context.Context, db *sql.DB) error {
	if err := r.validate(); err != nil {
		return err
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	var role, could, value string
	var super, bypass bool
	err := db.QueryRowContext(ctx, dialect.Login, r.Roles.System, r.setting()).Scan(&role, &super, &bypass, &could, &value)
	if err != nil {
		return fmt.Errorf("check the login: %w", err)
	}
	if role != r.Roles.App {
		fail("the application logs in as %q, but RLS.Roles.App is %q: make them the same", role, r.Roles.App)
	}
	if super {
		fail("role %q is a superuser and passes row security: log in as a plain role (Roles.Create makes one)", role)
	}
	if bypass {
		fail("role %q has BYPASSRLS: ALTER ROLE %s NOBYPASSRLS", role, dialect.Ident(role))
	}
	if could != "" {
		fail("role %q is a member of %s, which pass row security: revoke the membership", role, could)
	}
	if value != "" {
		fail("a new session of role %q already has %s = %q: RESET it for the role and the database", role, r.setting(), value)
	}
	for _, t := range r.tables() {
		if err := checkTable(ctx, db, role, t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func checkTable(ctx context.Context, db *sql.DB, role string, t dialect.Table) error {
	var enabled, forced, owner, truncate, references, column, policy bool
	var others string
	name := t.Schema + "." + t.Name
	err := db.QueryRowContext(ctx, dialect.WalledTable, t.Schema, t.Name, t.Column).
		Scan(&enabled, &forced, &owner, &truncate, &references, &column, &policy, &others)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("table %q does not exist: migrate the database, then apply RLS.Up", name)
	case err != nil:
		return fmt.Errorf("check table %q: %w", name, err)
	}
	var errs []error
	for _, finding := range []struct {
		bad    bool
		remedy string
	}{
		{!column, "has no column " + dialect.Ident(t.Column) + ": add it and fill it in"},
		{!enabled, "has no row security: apply RLS.Up"},
		{!forced, "does not force row security on its owner: apply RLS.Up"},
		{!policy, "lacks the policy " + dialect.PolicyTenant + " for reads and writes: apply RLS.Up"},
		{others != "", "has further policies that open it to this role (" + others + "): drop them or make them RESTRICTIVE"},
		{owner, "is owned by the application's role: give it to the migrator"},
		{truncate, "may be TRUNCATEd, which row security does not stop: REVOKE TRUNCATE"},
		{references, "may be REFERENCEd, which shows foreign keys: REVOKE REFERENCES"},
	} {
		if finding.bad {
			errs = append(errs, fmt.Errorf("table %q, role %q: %s", name, role, finding.remedy))
		}
	}
	return errors.Join(errs...)
}
