package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// RLS describes the wall of row_level on PostgreSQL and generates its SQL. Names are always
// quoted, so they are written as they are stored: lower case, unless created otherwise.
type RLS struct {
	// Setting is the server setting that carries the tenant's id through a transaction: two
	// names of a-z 0-9 _ and a dot. Defaults to app.tenant_id.
	Setting string
	// Roles are the logins. Roles.App is required.
	Roles Roles
	// Schema is where the tables are unless they say otherwise, and where the two functions of
	// the wall go. Defaults to public.
	Schema string
	// Tables are the tables with tenants' rows. Required.
	Tables []Table
	// Shared are tables without a tenant, in Schema: all tenants read them, none writes.
	Shared []string
}

// Table is a table with tenants' rows. It must have the column already.
type Table struct {
	// Schema defaults to RLS.Schema.
	Schema string
	// Name is required.
	Name string
	// Column holds the tenant's id. Defaults to tenant_id.
	Column string
	// Type is the column's type, such as uuid or bigint. Defaults to text.
	Type string
}

var (
	settingPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$`)
	typePattern    = regexp.MustCompile(`^[a-z_][a-z0-9_ ]*(\([0-9, ]+\))?$`)
)

func (r RLS) setting() string {
	if r.Setting == "" {
		return "app.tenant_id"
	}
	return r.Setting
}

func (r RLS) schema() string {
	if r.Schema == "" {
		return "public"
	}
	return r.Schema
}

// tables returns the tables with their defaults filled in.
func (r RLS) tables() []dialect.Table {
	tables := make([]dialect.Table, len(r.Tables))
	for i, t := range r.Tables {
		tables[i] = dialect.Table{
			Schema: cmpOr(t.Schema, r.schema()), Name: t.Name, Column: cmpOr(t.Column, "tenant_id"),
			Type: cmpOr(t.Type, "text"), FunctionSchema: r.schema(),
		}
	}
	return tables
}

func cmpOr(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

func (r RLS) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("RLS."+format, args...)) }
	if !settingPattern.MatchString(r.setting()) {
		fail("Setting %q: write two names of a-z, 0-9 and _ with a dot between, such as app.tenant_id", r.Setting)
	}
	if err := r.Roles.validate(); err != nil {
		fail("%w", err)
	}
	if len(r.Tables) == 0 {
		fail("Tables is empty: list the tables that hold tenants' rows")
	}
	seen := map[string]bool{}
	for _, t := range r.tables() {
		name := t.Schema + "." + t.Name
		for what, v := range map[string]string{"schema": t.Schema, "name": t.Name, "column": t.Column} {
			if err := checkName(v); err != nil {
				fail("Tables: %s of %q: %w", what, name, err)
			}
		}
		if !typePattern.MatchString(t.Type) {
			fail("Tables: type %q of %q: write a type's name in lower case, such as uuid", t.Type, name)
		}
		if seen[name] {
			fail("Tables: %q is listed twice", name)
		}
		seen[name] = true
	}
	for _, name := range r.Shared {
		if err := checkName(name); err != nil {
			fail("Shared: %q: %w", name, err)
		}
		if seen[r.schema()+"."+name] {
			fail("Shared: %q is in Tables too: a table either holds tenants' rows or is shared", name)
		}
	}
	return errors.Join(errs...)
}

// checkName accepts the names that PostgreSQL stores unchanged and a script can hold.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > 63:
		return errors.New("the name is longer than 63 bytes")
	case strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, "$tenancy$"):
		return errors.New("the name contains a control character or $tenancy$: rename it")
	}
	return nil
}

// Up returns the SQL that walls the tables, to be run in one transaction by their owner, after
// the tables and roles exist. It may be run again. Each walled table gets ENABLE and FORCE ROW
// LEVEL SECURITY, a policy with USING and WITH CHECK, the tenant as the default of its column,
// an index, and grants for the roles. Unbound access raises an error.
func (r RLS) Up() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	functions, err := dialect.Functions(r.schema(), r.setting())
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(functions)
	for _, role := range r.Roles.users() {
		fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s;\n", dialect.Ident(r.schema()), dialect.Ident(role))
	}
	for _, t := range r.tables() {
		if t.Schema != r.schema() {
			for _, role := range r.Roles.users() {
				fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s;\n", dialect.Ident(t.Schema), dialect.Ident(role))
			}
		}
		b.WriteString(t.Wall(r.Roles.App, r.Roles.System))
	}
	for _, name := range r.Shared {
		b.WriteString(dialect.ShareTable(r.schema(), name, r.Roles.App, r.Roles.System))
	}
	return b.String(), nil
}

// Down returns the SQL that takes the wall away again: the way out. Rows, columns and grants
// stay. After it every role with a grant sees every tenant's rows.
func (r RLS) Down() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, t := range r.tables() {
		b.WriteString(t.Unwall())
	}
	schema := dialect.Ident(r.schema())
	fmt.Fprintf(&b, "DROP FUNCTION IF EXISTS %s.%s();\n", schema, dialect.Ident(dialect.TenantFunction))
	fmt.Fprintf(&b, "DROP FUNCTION IF EXISTS %s.%s();\n", schema, dialect.Ident(dialect.UnboundFunction))
	return b.String(), nil
}

// Apply runs Up in one transaction, alone among the processes that do. The db is the tables'
// owner's.
func (r RLS) Apply(ctx context.Context, db *sql.DB) error {
	up, err := r.Up()
	if err != nil {
		return err
	}
	return runAlone(ctx, db, up)
}

// applyLock is the advisory lock of Apply and Roles.Create, one number for all applications.
const applyLock = 7274496

// runAlone runs a script in one transaction under an advisory lock.
func runAlone(ctx context.Context, db *sql.DB, script string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", applyLock)); err != nil {
		return err
	}
	for _, statement := range dialect.Split(script) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%w\nin: %s", err, statement)
		}
	}
	return tx.Commit()
}
