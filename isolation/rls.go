package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
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
	// Schema is where the tables are unless they say otherwise, and where the functions of the
	// wall go. Defaults to public.
	Schema string
	// Tables are the tables with tenants' rows. Required.
	Tables []Table
	// Shared are tables without a tenant: all tenants read them, none writes. Like Private, an
	// entry is a name, or a schema, a dot and a name.
	Shared []string
	// Private are tables that the role app has no business with, such as goose_db_version.
	Private []string
}

// Table is a table with tenants' rows. Its rows say whose they are by a column with the tenant's
// id, or by a reference to a row that does. It must have the column already; [RLS.Plan] adds it.
type Table struct {
	// Schema defaults to RLS.Schema.
	Schema string
	// Name is required.
	Name string
	// Column holds the tenant's id. Defaults to tenant_id.
	Column string
	// Type is the column's type: text, varchar, uuid, smallint, integer or bigint. Defaults to
	// text. A tenant whose id is no such value, in the form in which PostgreSQL writes it, gets
	// an error.
	Type string
	// Via is for a table without the tenant's id: its rows belong to whom a row of another
	// table belongs. Column and Type are empty then.
	Via *Via
}

// Via is a reference from a child table to its parent, which is in RLS.Tables too.
type Via struct {
	// Column is the child's column. Required.
	Column string
	// Schema is the parent's. Defaults to RLS.Schema.
	Schema string
	// Parent is the parent's name. Required.
	Parent string
	// Key is the parent's column. Defaults to id.
	Key string
}

var settingPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$`)

func (r RLS) setting() string { return cmpOr(r.Setting, "app.tenant_id") }

func (r RLS) schema() string { return cmpOr(r.Schema, "public") }

// tables returns the tables with their defaults filled in, those Via another after it.
func (r RLS) tables() []dialect.Table {
	tables := make([]dialect.Table, len(r.Tables))
	for i := range r.Tables {
		tables[i] = r.table(r.Tables[i], len(r.Tables))
	}
	return tables
}

// table fills in the defaults of t and its parents, as far as they lead within depth steps.
func (r RLS) table(t Table, depth int) dialect.Table {
	full := dialect.Table{
		Name:   dialect.Name{Schema: cmpOr(t.Schema, r.schema()), Name: t.Name},
		Column: cmpOr(t.Column, "tenant_id"), Type: cmpOr(t.Type, "text"), Functions: r.schema(),
	}
	if t.Via == nil {
		return full
	}
	full.Column, full.Type = t.Via.Column, "text"
	full.Via = &dialect.Via{Key: cmpOr(t.Via.Key, "id")}
	full.Via.Parent.Name = dialect.Name{Schema: cmpOr(t.Via.Schema, r.schema()), Name: t.Via.Parent}
	for _, parent := range r.Tables {
		if depth > 0 && parent.Name == t.Via.Parent && cmpOr(parent.Schema, r.schema()) == full.Via.Parent.Schema {
			full.Via.Parent = r.table(parent, depth-1)
		}
	}
	return full
}

// names returns the names of tables that may say their schema.
func (r RLS) names(list []string) []dialect.Name {
	var names []dialect.Name
	for _, entry := range list {
		name := dialect.Name{Schema: r.schema(), Name: entry}
		if schema, table, found := strings.Cut(entry, "."); found {
			name = dialect.Name{Schema: schema, Name: table}
		}
		names = append(names, name)
	}
	return names
}

func (r RLS) wall() dialect.Wall {
	return dialect.Wall{
		Schema: r.schema(), Setting: r.setting(),
		App: r.Roles.App, System: r.Roles.System, Legacy: r.Roles.Legacy,
		Tables: r.tables(), Shared: r.names(r.Shared), Private: r.names(r.Private),
	}
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
	seen := map[dialect.Name]string{}
	list := func(field string, n dialect.Name) {
		if err := errors.Join(checkName(n.Schema), checkName(n.Name)); err != nil {
			fail("%s: %s: %w", field, n, err)
		}
		if other, found := seen[n]; found && other == field {
			fail("%s: %s is listed twice", field, n)
		} else if found {
			fail("%s: %s is in %s already: a table either holds tenants' rows, or is shared, or private", field, n, other)
		}
		seen[n] = field
	}
	for i, t := range r.tables() {
		list("Tables", t.Name)
		if err := r.Tables[i].validate(t); err != nil {
			fail("Tables: %s: %w", t.Name, err)
		}
	}
	for _, n := range r.names(r.Shared) {
		list("Shared", n)
	}
	for _, n := range r.names(r.Private) {
		list("Private", n)
	}
	return errors.Join(errs...)
}

// validate checks a table beside its names; full is the same with its defaults.
func (t Table) validate(full dialect.Table) error {
	var errs []error
	name := func(field, value string) {
		if err := checkName(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	if _, ok := dialect.ColumnType(full.Type); !ok {
		errs = append(errs, fmt.Errorf("type %q: a tenant's id is text, varchar, uuid, smallint, integer or bigint; "+
			"in other types two ids can be equal", full.Type))
	}
	if t.Via == nil {
		name("Column", full.Column)
		return errors.Join(errs...)
	}
	name("Via.Column", full.Column)
	name("Via.Key", full.Via.Key)
	if t.Column != "" || t.Type != "" {
		errs = append(errs, errors.New("it has Via, and a Column or Type: a row says in one way whose it is"))
	}
	for via := full.Via; via != nil; via = via.Parent.Via {
		if via.Parent.Column == "" {
			errs = append(errs, fmt.Errorf("its Via leads to %s, which is not in Tables or leads back to itself: "+
				"end at a table with the tenant's id", via.Parent.Name))
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
// an index, and grants for the roles. Unbound access raises an error. It locks the tables while
// it reads them: where they are large and in use, follow [RLS.Plan].
func (r RLS) Up() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	w := r.wall()
	functions, err := w.UpFunctions()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(functions)
	for _, t := range w.Tables {
		b.WriteString(w.UpTable(t, dialect.State{}))
	}
	for _, n := range w.Shared {
		b.WriteString(w.UpShared(n))
	}
	for _, n := range w.Private {
		b.WriteString(w.UpPrivate(n))
	}
	return b.String(), nil
}

// Down returns the SQL that takes the wall away again: the way out. Rows, columns and grants
// stay. After it every role with a grant sees every tenant's rows.
func (r RLS) Down() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	return r.wall().Down(), nil
}

// Apply runs what is missing of Up in one transaction, alone among the processes that do. When
// the wall stands already, it changes nothing and takes no lock but those of reading. It waits for
// the lock of a table for two seconds at a time, so that others do not queue behind it for longer,
// and for minutes in all. The db is the tables' owner's.
func (r RLS) Apply(ctx context.Context, db *sql.DB) error {
	if err := r.validate(); err != nil {
		return err
	}
	return repeatLocked(ctx, func() error {
		missing, err := r.missing(ctx, db)
		if err != nil || missing == "" {
			return err
		}
		return inAlone(ctx, db, func(tx *sql.Tx) error {
			missing, err := r.missingIn(ctx, tx) // another process may have been faster
			if err != nil {
				return err
			}
			return execAll(ctx, tx, missing)
		})
	})
}

// missing returns the part of Up that the database lacks.
func (r RLS) missing(ctx context.Context, db *sql.DB) (string, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }() // it has only read
	return r.missingIn(ctx, tx)
}

// missingIn returns the same for a transaction, which then waits for locks for two seconds.
func (r RLS) missingIn(ctx context.Context, tx *sql.Tx) (string, error) {
	var path string
	if err := tx.QueryRowContext(ctx, "SELECT pg_catalog.current_setting('search_path')").Scan(&path); err != nil {
		return "", err
	}
	for _, set := range []string{dialect.SafePath, "SET LOCAL lock_timeout TO '2s'"} {
		if _, err := tx.ExecContext(ctx, set); err != nil {
			return "", err
		}
	}
	w := r.wall()
	stands, err := readStates(ctx, tx, w)
	if err != nil {
		return "", fmt.Errorf("read what stands of the wall: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_catalog.set_config('search_path', $1, true)", path); err != nil {
		return "", err
	}
	var b strings.Builder
	if !stands.functions {
		functions, err := w.UpFunctions()
		if err != nil {
			return "", err
		}
		b.WriteString(functions)
	}
	for i, t := range w.Tables {
		b.WriteString(w.UpTable(t, stands.tables[i]))
	}
	for i, n := range w.Shared {
		if !stands.shared[i] {
			b.WriteString(w.UpShared(n))
		}
	}
	for i, n := range w.Private {
		if !stands.private[i] {
			b.WriteString(w.UpPrivate(n))
		}
	}
	return b.String(), nil
}

// states is what stands of a wall. A table that does not exist has nothing.
type states struct {
	functions       bool
	tables          []dialect.State
	shared, private []bool
}

func readStates(ctx context.Context, tx *sql.Tx, w dialect.Wall) (states, error) {
	s := states{
		tables: make([]dialect.State, len(w.Tables)),
		shared: make([]bool, len(w.Shared)), private: make([]bool, len(w.Private)),
	}
	input := w.Input()
	if err := tx.QueryRowContext(ctx, dialect.FunctionsStand, input).Scan(&s.functions); err != nil {
		return s, err
	}
	err := eachRow(ctx, tx, dialect.TableStates, func(rows *sql.Rows) error {
		var i int
		var t dialect.State
		p := &t.Policies
		if err := rows.Scan(&i, &t.Default, &t.NotNull, &t.Index, &t.Enabled, &t.Forced, &p[0], &p[1], &p[2], &t.Granted, &t.Parts); err != nil {
			return err
		}
		s.tables[i-1] = t
		return nil
	}, input)
	if err != nil {
		return s, err
	}
	return s, eachRow(ctx, tx, dialect.OtherStates, func(rows *sql.Rows) error {
		var kind string
		var i int
		var stands bool
		if err := rows.Scan(&kind, &i, &stands); err != nil {
			return err
		}
		if kind == "shared" {
			s.shared[i-1] = stands
		} else {
			s.private[i-1] = stands
		}
		return nil
	}, input)
}

// rowQuerier is a *sql.Tx or *sql.Conn.
type rowQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// eachRow calls scan for every row that a query about a wall answers.
func eachRow(ctx context.Context, q rowQuerier, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// applyLock is the advisory lock of Apply and Roles.Create, one number for all applications.
const applyLock = 7274496

// runAlone runs a script in one transaction under an advisory lock.
func runAlone(ctx context.Context, db *sql.DB, script string) error {
	return inAlone(ctx, db, func(tx *sql.Tx) error { return execAll(ctx, tx, script) })
}

// inAlone runs fn in a transaction under an advisory lock.
func inAlone(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", applyLock)); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func execAll(ctx context.Context, tx *sql.Tx, script string) error {
	for _, statement := range dialect.Split(script) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%w\nin: %s", err, statement)
		}
	}
	return nil
}

// Lock errors are repeated for a minute and more, each time after a longer pause.
const (
	lockAttempts = 40
	lockPause    = 50 * time.Millisecond
	maxLockPause = 3 * time.Second
)

// repeatLocked runs fn until it does not fail for want of a lock.
func repeatLocked(ctx context.Context, fn func() error) error {
	pause := lockPause
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil || !isLocked(err) {
			return err
		}
		if attempt == lockAttempts {
			return fmt.Errorf("after %d attempts to lock a table: %w", attempt, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
		pause = min(2*pause, maxLockPause)
	}
}

// isLocked reports whether the server gave up waiting for a lock, or broke a deadlock.
func isLocked(err error) bool {
	state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return ok && (state.SQLState() == "55P03" || state.SQLState() == "40P01")
}
