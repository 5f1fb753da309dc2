package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Check reports, as the role that db logs in as, every way past the wall that lies open: rights of
// the role (superuser, BYPASSRLS, ownership, TRUNCATE, REFERENCES, a role it could switch to), and
// tables without ENABLE, FORCE, the policy, or with a second policy that opens them. The db is the
// role app's. It returns nil when the wall stands, else all findings joined. [RLS.Verify] looks
// further.
func (r RLS) Check(ctx context.Context, db *sql.DB) error {
	if err := r.validate(); err != nil {
		return err
	}
	var errs []error
	err := r.look(ctx, db, func(tx *sql.Tx, input string) error {
		var role, value string
		if err := tx.QueryRowContext(ctx, dialect.LoginRole, r.setting()).Scan(&role, &value); err != nil {
			return fmt.Errorf("check the login: %w", err)
		}
		if role != r.Roles.App {
			errs = append(errs, fmt.Errorf("the application logs in as %q, but RLS.Roles.App is %q: make them the same", role, r.Roles.App))
		}
		if value != "" {
			errs = append(errs, fmt.Errorf("a new session of role %q already has %s = %q: RESET it for the role and the database",
				role, r.setting(), value))
		}
		var report Report
		for _, probe := range dialect.Probes {
			if !probe.Opens {
				continue
			}
			if err := report.probe(ctx, tx, probe, input); err != nil {
				return err
			}
		}
		for _, f := range report.Findings {
			if f.Kind != "policy-other" {
				errs = append(errs, errors.New(f.String()))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
