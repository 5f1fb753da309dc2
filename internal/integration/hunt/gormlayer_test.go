package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/pprof"
	"strings"
	"sync"

	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
)

// byGORM makes a layer of GORM over the handle, with the plugin, which knows where it is needed.
func byGORM(engine isolation.Engine, prepared, fenced bool) func(db *isolation.DB) (layer, error) {
	return func(handle *isolation.DB) (layer, error) {
		var dialector gorm.Dialector
		switch engine {
		case isolation.EnginePostgreSQL:
			dialector = postgres.New(postgres.Config{Conn: handle.DB})
		case isolation.EngineMariaDB:
			dialector = gormmysql.New(gormmysql.Config{Conn: handle.DB})
		case isolation.EngineSQLite:
			dialector = sqlite.New(sqlite.Config{Conn: handle.DB})
		default:
			return nil, fmt.Errorf("GORM has no dialect here for %q", engine)
		}
		var db *gorm.DB
		var err error
		unlabelled(func() {
			db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, PrepareStmt: prepared})
		})
		if err != nil {
			return nil, err
		}
		plugin, err := tenantgorm.New(tenantgorm.Config{Walls: handle, Tables: tablesOf()})
		if err != nil {
			return nil, err
		}
		return gormLayer{gormStatements{db, fenced}, handle}, db.Use(plugin)
	}
}

// unlabelled runs fn where the hunt does not count goroutines: GORM's cache of prepared statements
// starts one that nothing ends.
func unlabelled(fn func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		pprof.SetGoroutineLabels(context.Background())
		fn()
	})
	wg.Wait()
}

// hunted is the model of the suites' table. It knows of no tenant.
type hunted struct {
	ID    string `gorm:"primaryKey"`
	Owner string
	N     int64
	Body  string
}

func (hunted) TableName() string { return table }

func (r hunted) values(names []string) []driver.Value {
	all := make([]driver.Value, len(names))
	for i, name := range names {
		all[i] = map[string]driver.Value{"id": r.ID, "owner": r.Owner, "n": r.N, "body": r.Body}[name]
	}
	return all
}

type gormStatements struct {
	db     *gorm.DB
	fenced bool // only what GORM writes is taken
}

// The suites' statements, as GORM has methods for them. What is none of them is run as it is.
var (
	selecting  = regexp.MustCompile(`^SELECT (id, owner, n, body|\*) FROM (` + table + `\w*)(?: WHERE (.*))?$`)
	inserting  = regexp.MustCompile(`^INSERT INTO (` + table + `\w*) \((id, owner, n, body(?:, tenant_id)?)\) VALUES [?$(), 0-9]*?(?: ON CONFLICT \((.*)\) DO .*)?(?: RETURNING (.*))?$`)
	updating   = regexp.MustCompile(`^UPDATE (` + table + `\w*) SET (n|body|tenant_id) = (n|\?|n \+ 1)(?: WHERE (.*?))?(?: RETURNING (.*))?$`)
	deleting   = regexp.MustCompile(`^DELETE FROM (` + table + `\w*)(?: WHERE (.*?))?(?: RETURNING (.*))?$`)
	savepoint  = regexp.MustCompile(`^(SAVEPOINT|ROLLBACK TO SAVEPOINT|RELEASE SAVEPOINT) (\w+)$`)
	parameters = regexp.MustCompile(`\$[0-9]+`)
)

// forms are the suites' further queries, as one would write them with GORM.
var forms = map[string]func(db *gorm.DB) *gorm.DB{
	"SELECT count(*) FROM leak_hunt": func(db *gorm.DB) *gorm.DB { return db.Model(&hunted{}).Select("count(*)") },
	"select COUNT(1) from leak_hunt AS x": func(db *gorm.DB) *gorm.DB {
		return db.Table("leak_hunt AS x").Select("COUNT(1)")
	},
	"SELECT count(*) FROM (SELECT * FROM leak_hunt) AS x": func(db *gorm.DB) *gorm.DB {
		return db.Table("(?) AS x", inner(db).Model(&hunted{})).Select("count(*)")
	},
	"SELECT count(DISTINCT id) FROM leak_hunt WHERE id IN (SELECT id FROM leak_hunt)": func(db *gorm.DB) *gorm.DB {
		return db.Model(&hunted{}).Select("count(DISTINCT id)").Where("id IN (?)", inner(db).Model(&hunted{}).Select("id"))
	},
	"SELECT count(*) FROM leak_hunt AS l CROSS JOIN leak_hunt AS r": func(db *gorm.DB) *gorm.DB {
		return db.Table("leak_hunt AS l").Joins("CROSS JOIN leak_hunt AS r").Select("count(*)")
	},
	"SELECT count(*) FROM leak_hunt AS l LEFT JOIN leak_hunt AS r ON r.id <> l.id": func(db *gorm.DB) *gorm.DB {
		return db.Table("leak_hunt AS l").Joins("LEFT JOIN leak_hunt AS r ON r.id <> l.id").Select("count(*)")
	},
	"SELECT count(*) FROM leak_hunt AS l WHERE EXISTS (SELECT 1 FROM leak_hunt AS r WHERE r.owner <> l.owner)": func(db *gorm.DB) *gorm.DB {
		return db.Table("leak_hunt AS l").Select("count(*)").
			Where("EXISTS (?)", inner(db).Table("leak_hunt AS r").Select("1").Where("r.owner <> l.owner"))
	},
	"SELECT count(*) FROM leak_hunt AS l JOIN (SELECT owner FROM leak_hunt GROUP BY owner) AS r ON l.owner <> r.owner": func(db *gorm.DB) *gorm.DB {
		return db.Table("leak_hunt AS l").Select("count(*)").
			Joins("JOIN (?) AS r ON l.owner <> r.owner", inner(db).Model(&hunted{}).Select("owner").Group("owner"))
	},
}

// inner begins a sub-query.
func inner(db *gorm.DB) *gorm.DB { return db.Session(&gorm.Session{NewDB: true}) }

// isRefusal reports whether the plugin, or the fence under it, has refused a statement.
func isRefusal(err error) bool {
	for _, target := range []error{
		tenantgorm.ErrUnfiltered, tenantgorm.ErrUnclassified, tenantgorm.ErrForeignTenant, tenantgorm.ErrForeignRow, isolation.ErrUnfiltered,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func (s gormStatements) exec(ctx context.Context, query string, args []any) (driver.Result, error) {
	_, tx := s.run(ctx, query, args)
	return driver.RowsAffected(tx.RowsAffected), tx.Error
}

// run runs a statement by the methods of GORM and returns the rows that it was asked to return.
func (s gormStatements) run(ctx context.Context, query string, args []any) ([]hunted, *gorm.DB) {
	db := s.db.WithContext(ctx)
	var rows []hunted
	plain := parameters.ReplaceAllString(query, "?")
	if m := inserting.FindStringSubmatch(plain); m != nil && len(args) > 0 {
		if strings.HasSuffix(m[2], "tenant_id") {
			return nil, db.Table(m[1]).Create(map[string]any{"id": args[0], "owner": args[1], "n": args[2], "body": args[3], "tenant_id": args[4]})
		}
		for ; len(args) > 0; args = args[4:] {
			rows = append(rows, hunted{args[0].(string), args[1].(string), args[2].(int64), args[3].(string)})
		}
		if m[3] != "" {
			conflict := clause.OnConflict{DoUpdates: clause.Assignments(map[string]any{"n": gorm.Expr(m[1] + ".n + 1")})}
			for _, name := range strings.Split(m[3], ", ") {
				conflict.Columns = append(conflict.Columns, clause.Column{Name: name})
			}
			db = db.Clauses(conflict)
		}
		return rows, returning(db.Table(m[1]), m[4]).Create(&rows)
	}
	if m := updating.FindStringSubmatch(plain); m != nil {
		var value any = gorm.Expr(m[3])
		if m[3] == "?" {
			value, args = args[0], args[1:]
		}
		return rows, where(returning(db.Model(&rows).Table(m[1]), m[5]), m[4], args).Update(m[2], value)
	}
	if m := deleting.FindStringSubmatch(plain); m != nil {
		return rows, where(returning(db.Table(m[1]), m[3]), m[2], args).Delete(&rows)
	}
	if m := savepoint.FindStringSubmatch(query); m != nil {
		switch m[1] {
		case "SAVEPOINT":
			return nil, db.SavePoint(m[2])
		case "ROLLBACK TO SAVEPOINT":
			return nil, db.RollbackTo(m[2])
		}
		return nil, db // GORM releases none
	}
	if s.fenced && strings.Contains(query, "RECURSIVE") {
		return nil, s.slow(db, query, args)
	}
	return nil, db.Exec(query, args...)
}

// slow runs the suites' statements that take their time, which GORM has no method for. The filter is
// added here.
func (s gormStatements) slow(db *gorm.DB, query string, args []any) *gorm.DB {
	ctx := tenantgorm.UnsafeRaw(db.Statement.Context, "a slow statement")
	if rest, is := strings.CutPrefix(query, "INSERT INTO "+table+" (id"); is {
		scope, err := tenancy.ScopeOf(ctx)
		if err == nil && scope.Tenant == nil {
			err = tenancy.ErrNoTenant
		}
		if err != nil {
			_ = db.AddError(err)
			return db
		}
		query = "INSERT INTO " + table + " (tenant_id, id" + strings.Replace(rest, "SELECT ?", "SELECT ?, ?", 1)
		args = append([]any{scope.Tenant.ID}, args...)
	}
	return db.WithContext(ctx).Exec(query, args...)
}

func returning(db *gorm.DB, columns string) *gorm.DB {
	if columns == "" {
		return db
	}
	return db.Clauses(clause.Returning{})
}

func where(db *gorm.DB, condition string, args []any) *gorm.DB {
	if condition == "" {
		return db.Session(&gorm.Session{AllowGlobalUpdate: true})
	}
	return db.Where(condition, args...)
}

func (s gormStatements) query(ctx context.Context, query string, args []any) (driver.Rows, error) {
	plain := parameters.ReplaceAllString(query, "?")
	if m := selecting.FindStringSubmatch(plain); m != nil {
		db := s.db.WithContext(ctx).Table(m[2]).Select(strings.Split(m[1], ", "))
		if m[3] != "" {
			db = db.Where(m[3], args...)
		}
		return opened(db.Rows())
	}
	if form := forms[query]; form != nil {
		return opened(form(s.db.WithContext(ctx)).Rows())
	}
	if before, columns, found := strings.Cut(query, " RETURNING "); found {
		rows, tx := s.run(ctx, query, args)
		if rows == nil && tx.Error == nil && strings.HasPrefix(before, "INSERT") {
			return nil, fmt.Errorf("GORM returned no rows of %s", query)
		}
		return &readRowsOf{strings.Split(columns, ", "), rows}, tx.Error
	}
	return opened(s.db.WithContext(ctx).Raw(query, args...).Rows())
}

// readRowsOf are rows that GORM has read.
type readRowsOf struct {
	names []string
	rows  []hunted
}

func (r *readRowsOf) Columns() []string { return r.names }
func (r *readRowsOf) Close() error      { return nil }

func (r *readRowsOf) Next(into []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(into, r.rows[0].values(r.names))
	r.rows = r.rows[1:]
	return nil
}

// openRows are rows that GORM has not read.
type openRows struct {
	rows  *sql.Rows
	names []string
}

func opened(rows *sql.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, err
	}
	names, err := rows.Columns()
	if err != nil {
		return nil, firstOf(err, rows.Close())
	}
	return openRows{rows, names}, nil
}

func (r openRows) Columns() []string { return r.names }
func (r openRows) Close() error      { return r.rows.Close() }

func (r openRows) Next(into []driver.Value) error {
	if !r.rows.Next() {
		return firstOf(r.rows.Err(), r.rows.Close(), io.EOF)
	}
	targets := make([]any, len(into))
	for i := range into {
		targets[i] = (*any)(&into[i])
	}
	return r.rows.Scan(targets...)
}

type gormLayer struct {
	gormStatements
	handle *isolation.DB
}

func (s gormStatements) begin(ctx context.Context, options driver.TxOptions) (transaction, error) {
	tx := s.db.WithContext(ctx).Begin(&sql.TxOptions{ReadOnly: options.ReadOnly})
	if tx.Error != nil {
		return nil, tx.Error
	}
	return s.inTx(tx), nil
}

// lease is what gorm.DB.Connection does, whose callback this cannot be.
func (l gormLayer) lease(ctx context.Context) (leased, func() error, error) {
	conn, err := l.handle.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	db := l.db.WithContext(ctx)
	db.Statement.ConnPool = conn
	return gormStatements{db, l.fenced}, conn.Close, nil
}

func (l gormLayer) inTx(ctx context.Context, fn func(tx transaction) error) error {
	return l.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fn(l.gormStatements.inTx(tx)) })
}

type gormTx struct{ gormStatements }

// inTx takes a copy: the end of a context may end the transaction beside GORM's own callback.
func (s gormStatements) inTx(tx *gorm.DB) gormTx {
	return gormTx{gormStatements{tx.Session(&gorm.Session{NewDB: true}), s.fenced}}
}

func (t gormTx) commit() error   { return t.db.Commit().Error }
func (t gormTx) rollback() error { return t.db.Rollback().Error }
