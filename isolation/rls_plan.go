package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Adoption says how tables that one customer has used become tables of tenants.
type Adoption struct {
	// Tenant is the id of the tenant whose rows those without a tenant are. Required when a
	// table lacks the column.
	Tenant string
	// Blocks is the number of 8 kB blocks whose rows are given to the tenant in one
	// transaction. Defaults to 20.
	Blocks int
}

func (a Adoption) blocks() int {
	if a.Blocks <= 0 {
		return 20
	}
	return a.Blocks
}

// Plan is a list of statements that wall tables while they are in use. They are run in order and
// one by one, outside of a transaction; after a failure a new plan has what is left.
type Plan struct {
	Steps []Step
	down  string
}

// Step is one statement of a plan.
type Step struct {
	// Table is what it changes, empty for what concerns all.
	Table string
	// Phase is column, backfill, not null, key, index, foreign key, wall or old key.
	Phase string
	// SQL is the statement, without a semicolon at its end.
	SQL string
	// Online tells that it may run long, because nobody waits for it. Every other step needs a
	// strong lock for a moment, and gives up when it does not get it in half a second.
	Online bool
	// restore takes it back; another step does so as well, and Run, when the plan fails between.
	restore string
}

// stepTimeout is how long a step may wait for a lock, and others behind it.
const stepTimeout = "500ms"

// planLock is the advisory lock of Plan.Run. It differs from that of Apply: a session that waits
// for a lock holds up CREATE INDEX CONCURRENTLY.
const planLock = applyLock + 1

// Plan returns what brings the tables behind the wall from where they are now: it adds and fills
// the tenant's column, replaces unique keys and foreign keys by such as include it, and puts
// up the policies. No step rewrites or reads a table while others wait. Old unique keys are
// replaced once Roles.Legacy is empty, because the application that leaves may rely on them. The
// db is the tables' owner's. An empty plan means that there is nothing to do.
//
// It cannot replace some keys: exclusion constraints, foreign keys of and to tables with Via.
// [RLS.Verify] reports what is left. A partitioned table whose column is missing is an error.
func (r RLS) Plan(ctx context.Context, db *sql.DB, adopt Adoption) (Plan, error) {
	if err := r.validate(); err != nil {
		return Plan{}, err
	}
	p := planner{wall: r.wall(), adopt: adopt}
	p.down = p.wall.Down()
	err := r.look(ctx, db, func(tx *sql.Tx, input string) error { return p.read(ctx, tx, input) })
	if err != nil {
		return Plan{}, fmt.Errorf("plan the wall: %w", err)
	}
	err = p.write()
	return p.Plan, err
}

// planner knows what stands, and collects the steps.
type planner struct {
	Plan
	wall        dialect.Wall
	adopt       Adoption
	states      states
	kinds       map[int]tableKind
	keys        []dialect.OldKey
	references  []dialect.OldReference
	beginsTable map[int]bool // a new key begins with the tenant's column
}

type tableKind struct{ partitioned, column bool }

func (p *planner) read(ctx context.Context, tx *sql.Tx, input string) (err error) {
	if p.states, err = readStates(ctx, tx, p.wall); err != nil {
		return err
	}
	p.kinds, p.beginsTable = map[int]tableKind{}, map[int]bool{}
	err = eachRow(ctx, tx, dialect.TableKinds, func(rows *sql.Rows) error {
		var i int
		var k tableKind
		err := rows.Scan(&i, &k.partitioned, &k.column)
		p.kinds[i] = k
		return err
	}, input)
	if err != nil {
		return err
	}
	err = eachRow(ctx, tx, dialect.OldKeys, func(rows *sql.Rows) error {
		var k dialect.OldKey
		err := rows.Scan(&k.Table, &k.Index, &k.Constraint, &k.Primary, &k.Deferrable, &k.Columns, &k.Kept, &k.Referenced, &k.Added)
		p.keys = append(p.keys, k)
		return err
	}, input)
	if err != nil {
		return err
	}
	return eachRow(ctx, tx, dialect.OldReferences, func(rows *sql.Rows) error {
		var o dialect.OldReference
		err := rows.Scan(&o.Table, &o.Parent, &o.Constraint, &o.Columns, &o.Keys, &o.OnDelete, &o.OnUpdate, &o.Deferrable, &o.Refused)
		p.references = append(p.references, o)
		return err
	}, input)
}

// write makes the steps, or reports everything that forbids them.
func (p *planner) write() error {
	if err := p.refuse(); err != nil {
		return err
	}
	if !p.states.functions {
		functions, err := p.wall.UpFunctions()
		if err != nil {
			return err
		}
		p.security("", functions)
	}
	for i, t := range p.wall.Tables {
		p.column(i, t)
	}
	for _, k := range p.keys {
		p.newKey(k)
	}
	for i, t := range p.wall.Tables {
		if name, create := t.Index(); !p.states.tables[i].Index && !p.beginsTable[i+1] {
			p.createIndex(t, "index", name, create)
		}
	}
	for _, r := range p.references {
		child, parent := p.wall.Tables[r.Table-1], p.wall.Tables[r.Parent-1]
		p.step(child, "foreign key", r.Add(child, parent))
		p.validate(r)
		for _, statement := range r.Replace(child) {
			p.step(child, "foreign key", statement)
		}
	}
	for i, t := range p.wall.Tables {
		p.security(t.String(), p.wall.UpSecurity(t, p.states.tables[i]))
	}
	for i, n := range p.wall.Shared {
		if !p.states.shared[i] {
			p.security(n.String(), p.wall.UpShared(n))
		}
	}
	for i, n := range p.wall.Private {
		if !p.states.private[i] {
			p.security(n.String(), p.wall.UpPrivate(n))
		}
	}
	p.oldKeys()
	return nil
}

var idPatterns = map[string]*regexp.Regexp{
	"":     regexp.MustCompile(`^[A-Za-z0-9._~-]+$`),
	"uuid": regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
}

var numberPattern = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

func (p *planner) refuse() error {
	var errs []error
	for i, t := range p.wall.Tables {
		kind, exists := p.kinds[i+1]
		switch {
		case !exists:
			errs = append(errs, fmt.Errorf("table %s does not exist", t.Name))
		case t.Via != nil && !kind.column:
			errs = append(errs, fmt.Errorf("table %s has no column %q, which its Via names", t.Name, t.Column))
		case kind.partitioned && !p.states.tables[i].Stands():
			errs = append(errs, fmt.Errorf("table %s is partitioned: indexes on it cannot be built while it is in use; "+
				"prepare its partitions by hand, or run RLS.Up in a maintenance window", t.Name))
		case t.Via == nil && !kind.column && p.adopt.Tenant == "":
			errs = append(errs, fmt.Errorf("table %s has no column %q: set Adoption.Tenant to say whose its rows are", t.Name, t.Column))
		}
		if p.adopt.Tenant == "" || t.Via != nil {
			continue
		}
		cast, _ := dialect.ColumnType(t.Type)
		pattern, ok := idPatterns[cast]
		if !ok {
			pattern = numberPattern
		}
		if !pattern.MatchString(p.adopt.Tenant) {
			errs = append(errs, fmt.Errorf("Adoption.Tenant %q is no %s as PostgreSQL writes it, the type of %s.%s",
				p.adopt.Tenant, t.Type, t.Name, dialect.Ident(t.Column)))
		}
	}
	for _, r := range p.references {
		if r.Refused != "" {
			errs = append(errs, fmt.Errorf("foreign key %q of %s cannot take in the tenant: %s; replace it by hand first",
				r.Constraint, p.wall.Tables[r.Table-1].Name, r.Refused))
		}
	}
	return errors.Join(errs...)
}

// column adds the column, fills it and makes it NOT NULL.
func (p *planner) column(i int, t dialect.Table) {
	have := p.states.tables[i]
	if t.Via == nil {
		switch {
		case !p.kinds[i+1].column:
			p.step(t, "column", p.wall.AddColumn(t, p.adopt.Tenant))
		case !have.Default:
			p.step(t, "column", p.wall.SetDefault(t, p.adopt.Tenant))
		}
		if !have.NotNull && p.adopt.Tenant != "" {
			p.online(t, "backfill", dialect.Backfill(t, p.adopt.Tenant, p.adopt.blocks()))
		}
	}
	if !have.NotNull {
		add, validate, set := dialect.NotNull(t)
		p.step(t, "not null", add)
		p.online(t, "not null", validate)
		p.step(t, "not null", set)
	}
}

func (p *planner) newKey(k dialect.OldKey) {
	if k.Kept && !k.Referenced {
		return
	}
	p.beginsTable[k.Table] = true
	if !k.Added {
		t := p.wall.Tables[k.Table-1]
		p.createIndex(t, "key", k.New(), k.AddKey(t))
	}
}

func (p *planner) createIndex(t dialect.Table, phase, name, create string) {
	p.step(t, phase, dialect.DropInvalid(t, name))
	p.online(t, phase, create)
}

// validate reads the rows of both tables as their owner, whom a wall that stands already would hold
// back: it is not forced for as long.
func (p *planner) validate(r dialect.OldReference) {
	var walled []dialect.Table
	for _, i := range slices.Compact([]int{r.Table, r.Parent}) {
		if have := p.states.tables[i-1]; have.Enabled && have.Forced {
			walled = append(walled, p.wall.Tables[i-1])
		}
	}
	for _, t := range walled {
		p.step(t, "foreign key", dialect.Force(t, false))
		p.Steps[len(p.Steps)-1].restore = dialect.Force(t, true)
	}
	child := p.wall.Tables[r.Table-1]
	p.online(child, "foreign key", r.Validate(child))
	for _, t := range walled {
		p.step(t, "foreign key", dialect.Force(t, true))
	}
}

// oldKeys replaces the keys that the application which leaves may have relied on.
func (p *planner) oldKeys() {
	if p.wall.Legacy != "" {
		return
	}
	for _, k := range p.keys {
		if k.Kept {
			continue
		}
		t := p.wall.Tables[k.Table-1]
		for _, statement := range k.Replace(t) {
			p.add(t.String(), "old key", statement, strings.HasPrefix(statement, "DROP INDEX CONCURRENTLY"))
		}
	}
}

func (p *planner) add(table, phase, statement string, online bool) {
	p.Steps = append(p.Steps, Step{Table: table, Phase: phase, SQL: statement, Online: online})
}

func (p *planner) step(t dialect.Table, phase, statement string) {
	p.add(t.String(), phase, statement, false)
}

func (p *planner) online(t dialect.Table, phase, statement string) {
	p.add(t.String(), phase, statement, true)
}

// security adds the statements of a script that puts up a part of the wall.
func (p *planner) security(table, script string) {
	for _, statement := range dialect.Split(script) {
		p.add(table, "wall", statement, false)
	}
}

// Run runs the steps. One that does not get its lock is repeated, so that others can pass. After
// an error the steps before it stay done; make a new plan to go on. The db must not lead through
// a pooler in transaction mode; with a tenantpgx connector that is [ErrSessionUnsupported].
func (p Plan) Run(ctx context.Context, db *sql.DB) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := onSession(ctx, conn); err != nil {
		return err
	}
	var alone bool
	if err := conn.QueryRowContext(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", planLock).Scan(&alone); err != nil {
		return err
	}
	if !alone {
		return errors.New("another process runs a plan on this database: wait for it, then make a new one")
	}
	defer func() {
		// Without the context: the connection goes back to the pool.
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("SELECT pg_catalog.pg_advisory_unlock(%d)", planLock))
		_, reset := conn.ExecContext(context.WithoutCancel(ctx), "RESET lock_timeout")
		err = errors.Join(err, unlock, reset)
	}()
	var open []Step
	for _, step := range p.Steps {
		if err := step.run(ctx, conn); err != nil {
			err = fmt.Errorf("%s of %s: %w\nin: %s", step.Phase, step.Table, err, step.SQL)
			for _, o := range open {
				err = errors.Join(err, o.run(context.WithoutCancel(ctx), conn))
			}
			return err
		}
		open = slices.DeleteFunc(open, func(o Step) bool { return o.SQL == step.SQL })
		if step.restore != "" {
			open = append(open, Step{SQL: step.restore})
		}
	}
	return nil
}

// onSession refuses a connection that is known to lead through a pooler: its settings and locks
// would be somebody else's.
func onSession(ctx context.Context, conn *sql.Conn) error {
	return conn.Raw(func(driverConn any) error {
		session, ok := driverConn.(SessionConn)
		if !ok {
			return nil
		}
		direct, err := session.Direct(ctx)
		if err == nil && !direct {
			err = fmt.Errorf("run a plan: %w", ErrSessionUnsupported)
		}
		return err
	})
}

func (s Step) run(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET lock_timeout TO "+s.timeout()); err != nil {
		return err
	}
	run := func() error {
		_, err := conn.ExecContext(ctx, s.SQL)
		return err
	}
	if s.Online {
		return run() // what it leaves behind when it fails, a new plan clears up first
	}
	return repeatLocked(ctx, run)
}

// timeout is how long the step may wait for a lock, as SQL.
func (s Step) timeout() string {
	if s.Online {
		return "0"
	}
	return "'" + stepTimeout + "'"
}

// SQL returns the plan as a script for psql, to be run with ON_ERROR_STOP and without
// --single-transaction. When a step fails because of its lock_timeout, a new plan has the rest.
func (p Plan) SQL() string {
	var b strings.Builder
	timeout, table, phase := "", "", ""
	for _, step := range p.Steps {
		if step.Table != table || step.Phase != phase {
			table, phase = step.Table, step.Phase
			fmt.Fprintf(&b, "\n-- %s\n", strings.TrimPrefix(table+": "+phase, ": "))
		}
		if step.timeout() != timeout {
			timeout = step.timeout()
			fmt.Fprintf(&b, "SET lock_timeout TO %s;\n", timeout)
		}
		b.WriteString(step.SQL + ";\n")
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// Goose returns the plan as a migration file for goose, with RLS.Down as its way back.
func (p Plan) Goose() string {
	var b strings.Builder
	statement := func(sql string) {
		b.WriteString("-- +goose StatementBegin\n" + sql + ";\n-- +goose StatementEnd\n")
	}
	b.WriteString("-- +goose NO TRANSACTION\n-- +goose Up\n")
	for _, step := range p.Steps {
		statement("SET lock_timeout TO " + step.timeout())
		statement(step.SQL)
	}
	statement("RESET lock_timeout")
	b.WriteString("-- +goose Down\n")
	for _, sql := range dialect.Split(p.down) {
		statement(sql)
	}
	return b.String()
}
