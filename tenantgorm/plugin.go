package tenantgorm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// DefaultColumn is the tenant column unless [Config] names another one.
const DefaultColumn = "tenant_id"

// Walls says where the database itself keeps tenants apart. *isolation.DB is one.
type Walls interface {
	// Walled reports whether statements with this context meet such a database.
	Walled(ctx context.Context) (bool, error)
}

var _ Walls = (*isolation.DB)(nil)

// Config configures a [Plugin].
type Config struct {
	// Walls is the *isolation.DB that GORM was opened with. Where it is walled the plugin adds
	// nothing to a statement. Without it every statement is filtered.
	Walls Walls
	// Column is the tenant column of the models. Defaults to tenant_id.
	Column string
	// Models are the application's models. The plugin learns their tables and those of their
	// relations, and fails to initialize when one is neither owned nor shared. Tables that
	// are given by name alone, as in db.Table("notes"), are known by this or by Tables.
	Models []any
	// Tables are tables that belong to tenants although no model says so, by name with their
	// tenant column; "" means Column.
	Tables map[string]string
	// Shared are the tables that all tenants read and write alike.
	Shared []string
	// Logger gets the reason of each UnsafeRaw. Defaults to slog.Default().
	Logger *slog.Logger
}

// Plugin is a gorm.Plugin that filters statements by the tenant of their context. Give it to
// (*gorm.DB).Use, once per gorm.Open. It is safe for concurrent use.
type Plugin struct {
	config  Config
	tables  tables
	dialect string
	used    atomic.Bool
}

var _ gorm.Plugin = (*Plugin)(nil)

// New returns a plugin. It reports all problems of config at once.
func New(config Config) (*Plugin, error) {
	if config.Column == "" {
		config.Column = DefaultColumn
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	p := &Plugin{config: config, tables: tables{column: config.Column, owned: map[string]string{}, shared: map[string]bool{}}}
	var errs []error
	if !isPlainName(config.Column) {
		errs = append(errs, fmt.Errorf("tenantgorm.Config.Column is %q: give the bare name of a column", config.Column))
	}
	for _, name := range config.Shared {
		p.tables.shared[strings.ToLower(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(config.Tables)) {
		column := config.Tables[name]
		if column == "" {
			column = config.Column
		}
		if !isPlainName(column) {
			errs = append(errs, fmt.Errorf("tenantgorm.Config.Tables[%q] is %q: give the bare name of a column", name, column))
		}
		if p.tables.shared[strings.ToLower(name)] {
			errs = append(errs, fmt.Errorf("tenantgorm.Config: table %q is in Tables and in Shared: it can be only one of them", name))
		}
		p.tables.owned[strings.ToLower(name)] = column
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Name returns the name under which GORM keeps the plugin.
func (p *Plugin) Name() string { return "tenantgorm" }

// Initialize hooks the plugin into db. GORM calls it.
func (p *Plugin) Initialize(db *gorm.DB) error {
	if p.used.Swap(true) {
		return errors.New("tenantgorm: the plugin is in use already: make one by New for each gorm.Open")
	}
	if handle, ok := p.config.Walls.(*isolation.DB); ok && !isOver(db.ConnPool, handle) {
		return errors.New("tenantgorm.Config.Walls is not what GORM was opened over: give the dialector its Conn: handle.DB")
	}
	p.dialect = db.Name()
	if db.Logger == logger.Discard {
		db.Logger = logger.Discard.LogMode(logger.Silent) // so that finish can tell sub-queries by it
	}
	var errs []error
	for _, model := range p.config.Models {
		stmt := &gorm.Statement{DB: db}
		err := stmt.Parse(model)
		if err == nil {
			err = p.tables.register(stmt.Schema)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("tenantgorm.Config.Models: %T: %w", model, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.hookClauses(db)
	return p.hookCallbacks(db)
}

// isOver reports whether GORM's connections are the handle's. The walls of another one say nothing
// about them.
func isOver(pool gorm.ConnPool, handle *isolation.DB) bool {
	if prepared, ok := pool.(*gorm.PreparedStmtDB); ok {
		pool = prepared.ConnPool
	}
	switch pool := pool.(type) {
	case *sql.DB:
		return pool == handle.DB
	case gorm.GetDBConnector:
		db, err := pool.GetDBConn()
		return err == nil && db == handle.DB
	}
	return false
}

// The kinds of GORM's work.
const (
	kindCreate = "create"
	kindQuery  = "query"
	kindUpdate = "update"
	kindDelete = "delete"
	kindRow    = "row"
	kindRaw    = "raw"
)

// hookCallbacks makes the plugin the first and the last to see every kind of work.
func (p *Plugin) hookCallbacks(db *gorm.DB) error {
	on := db.Callback()
	begin := func(kind string) func(*gorm.DB) { return func(db *gorm.DB) { p.begin(kind, db) } }
	for _, clauses := range []*[]string{
		&on.Create().Clauses, &on.Query().Clauses, &on.Update().Clauses, &on.Delete().Clauses, &on.Row().Clauses,
	} {
		*clauses = append(slices.Clip(*clauses), clauseEnd)
	}
	const first, last = "tenantgorm:begin", "tenantgorm:end"
	return errors.Join(
		on.Create().Before("*").Register(first, begin(kindCreate)),
		on.Query().Before("*").Register(first, begin(kindQuery)),
		on.Update().Before("*").Register(first, begin(kindUpdate)),
		on.Delete().Before("*").Register(first, begin(kindDelete)),
		on.Row().Before("*").Register(first, begin(kindRow)),
		on.Raw().Before("*").Register(first, begin(kindRaw)),
		on.Create().Before("gorm:save_after_associations").Register("tenantgorm:upserted", upserted),
		on.Create().After("*").Register(last, end),
		on.Query().After("*").Register(last, end),
		on.Update().After("*").Register(last, end),
		on.Delete().After("*").Register(last, end),
		on.Row().After("*").Register(last, end),
		on.Raw().After("*").Register(last, end),
	)
}

// mode is what the plugin does with a statement.
type mode uint8

const (
	modeFilter mode = iota
	modeAside       // the database is the wall
	modeSystem      // the statement is the whole system's
)

// work is what the plugin knows of one statement while GORM builds and runs it.
type work struct {
	plugin   *Plugin
	mode     mode
	raw      bool   // the context allows what cannot be filtered
	tenantID string // "" in system scope
	seal     string // of a SELECT for this tenant
	ctx      context.Context
	failed   bool

	verb     string // SELECT, INSERT, UPDATE or DELETE
	column   string // the tenant column of the table that is written; "" for a shared one
	filtered bool   // the WHERE of an UPDATE or DELETE is written
	where    bool   // the WHERE was put there by the plugin
	rows     int    // to be inserted
	upsert   bool   // every one of them must take effect
}

const workKey = "tenantgorm:work"

func workOf(stmt *gorm.Statement) *work {
	v, _ := stmt.Settings.Load(workKey)
	w, _ := v.(*work)
	return w
}

// begin finds out what a statement may do before anything of it is built.
func (p *Plugin) begin(kind string, db *gorm.DB) {
	stmt := db.Statement
	if old := workOf(stmt); old != nil && old.ctx != nil && isMarked(stmt.Context) {
		stmt.Context = old.ctx
	}
	w := &work{plugin: p, ctx: stmt.Context}
	stmt.Settings.Store(workKey, w)
	stmt.Clauses[clauseEnd] = clause.Clause{Name: clauseEnd}
	if !slices.Contains(stmt.BuildClauses, clauseEnd) {
		stmt.BuildClauses = append(slices.Clip(stmt.BuildClauses), clauseEnd)
	}
	if db.Error != nil { // a sub-query's error is nobody's unless it is handed on
		w.failed = true
		stmt.Vars = append(stmt.Vars, refusal{db.Error})
		return
	}
	if err := p.decide(w); err != nil {
		w.refuse(stmt, err)
		return
	}
	isText := kind == kindRaw || stmt.SQL.Len() > 0
	if kind == kindCreate && !isText && w.mode != modeSystem {
		w.stamp(stmt)
	}
	if w.mode == modeFilter && isText {
		text := stmt.SQL.String()
		if !w.raw && !isSavepoint(text) {
			w.refuse(stmt, fmt.Errorf("%w: Raw and Exec are text", ErrUnfiltered))
			return
		}
		w.mark(stmt, text)
	}
}

// decide reads the context.
func (p *Plugin) decide(w *work) error {
	scope, err := tenancy.ScopeOf(w.ctx)
	if err != nil {
		return err
	}
	reason, raw := rawReason(w.ctx)
	if raw && reason == "" {
		return tenancy.ErrReasonRequired
	}
	w.raw = raw
	if scope.System() {
		w.mode = modeSystem
		return nil
	}
	if scope.Tenant.ID == "" {
		return fmt.Errorf("%w: the tenant has no id", tenancy.ErrNoTenant)
	}
	w.tenantID, w.seal = scope.Tenant.ID, sealSelect(scope.Tenant.ID)
	if p.config.Walls != nil {
		walled, err := p.config.Walls.Walled(w.ctx)
		if err != nil {
			return err
		}
		if walled {
			w.mode = modeAside
			return nil
		}
	}
	if raw {
		p.config.Logger.LogAttrs(w.ctx, slog.LevelInfo, "tenancy: unfiltered statement",
			slog.String("tenant", w.tenantID), slog.String("reason", reason))
	}
	return nil
}

// stamp writes the tenant's id into the rows to create that name no tenant, so that hooks and
// the caller see it. What a row says otherwise is judged when it is written.
func (w *work) stamp(stmt *gorm.Statement) {
	if stmt.Schema == nil {
		return
	}
	column, err := w.plugin.tables.columnOf(stmt, stmt.Schema.Table)
	if err != nil || column == "" {
		return // the error comes when the table is written
	}
	field := stmt.Schema.LookUpField(column)
	if field == nil {
		return
	}
	switch rv := stmt.ReflectValue; rv.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range rv.Len() {
			w.stampRow(stmt, field, reflect.Indirect(rv.Index(i)))
		}
	case reflect.Struct:
		w.stampRow(stmt, field, rv)
	}
}

func (w *work) stampRow(stmt *gorm.Statement, field *schema.Field, row reflect.Value) {
	if row.Kind() != reflect.Struct || !row.CanAddr() {
		return
	}
	if _, empty := field.ValueOf(stmt.Context, row); empty {
		if err := field.Set(stmt.Context, row, w.tenantID); err != nil {
			w.refuse(stmt, fmt.Errorf("write the tenant's id %q into %s: %w", w.tenantID, field.Name, err))
		}
	}
}

// finish checks the complete text of a statement and takes the seals out.
func (w *work) finish(stmt *gorm.Statement) {
	if w.failed {
		return
	}
	for _, v := range stmt.Vars {
		if r, ok := v.(refusal); ok {
			w.failed = true
			_ = stmt.AddError(r.err)
			return
		}
	}
	text := stmt.SQL.String()
	clean, err := unseal(text, w.seal)
	if err == nil && w.mode == modeFilter {
		err = w.check(stmt, text)
	}
	if err != nil {
		w.refuse(stmt, err)
		return
	}
	if w.where {
		delete(stmt.Clauses, "WHERE")
	}
	if stmt.DryRun && stmt.Logger == logger.Discard {
		clean = text // so GORM builds sub-queries: the statement around it looks at the seals
	}
	stmt.SQL.Reset()
	clean = strings.TrimRight(clean, " ")
	stmt.SQL.WriteString(clean)
	w.mark(stmt, clean)
}

func (w *work) check(stmt *gorm.Statement, sealed string) error {
	if w.column != "" && (w.verb == "UPDATE" || w.verb == "DELETE") && !w.filtered {
		if _, has := stmt.Clauses["WHERE"]; has || stmt.AllowGlobalUpdate {
			return fmt.Errorf("%w: its WHERE was not built by the plugin", ErrUnfiltered)
		}
		return nil // gorm.ErrMissingWhereClause is GORM's answer
	}
	if w.raw {
		return nil
	}
	return check(sealed, w.plugin.dialect, w.seal)
}

// mark tells the database handle that this very text is filtered.
func (w *work) mark(stmt *gorm.Statement, text string) {
	if w.mode == modeFilter {
		stmt.Context = markedContext{isolation.UnsafeFiltered(w.ctx, text)}
	}
}

// markedContext is a context that begin has to take off again.
type markedContext struct{ context.Context }

func isMarked(ctx context.Context) bool {
	_, ok := ctx.(markedContext)
	return ok
}

// refuse ends a statement with an error. GORM forgets the errors of sub-queries, so that the
// error also goes on as a parameter.
func (w *work) refuse(stmt *gorm.Statement, err error) {
	if w.failed {
		return
	}
	w.failed = true
	_ = stmt.AddError(err)
	stmt.Vars = append(stmt.Vars, refusal{err})
}

// refusal is a parameter that fails its statement.
type refusal struct{ err error }

var _ driver.Valuer = refusal{}

func (r refusal) Value() (driver.Value, error) { return nil, r.err }

// upserted fails a create whose upsert met rows that the tenant may not change. It runs before
// GORM's transaction ends.
func upserted(db *gorm.DB) {
	w := workOf(db.Statement)
	if w != nil && w.upsert && db.Error == nil && !db.DryRun && db.RowsAffected < int64(w.rows) {
		_ = db.AddError(fmt.Errorf("table %q: %w", db.Statement.Table, ErrForeignRow))
	}
}

// end takes the mark off, and gives Row an error to return: GORM would return nil.
func end(db *gorm.DB) {
	stmt := db.Statement
	w := workOf(stmt)
	if w == nil {
		return
	}
	if isMarked(stmt.Context) {
		stmt.Context = w.ctx
	}
	delete(stmt.Clauses, clauseEnd)
	if rows, isRow := db.Get("rows"); w.failed && isRow && rows == false {
		refused := sql.OpenDB(refusing{db.Error})
		stmt.Dest = refused.QueryRowContext(w.ctx, "")
		_ = refused.Close()
	}
}

// refusing is a database that answers with an error.
type refusing struct{ err error }

func (r refusing) Connect(context.Context) (driver.Conn, error) { return nil, r.err }
func (r refusing) Driver() driver.Driver                        { return nil }
