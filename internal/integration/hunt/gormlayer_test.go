package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
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

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
)

// byGORM makes a layer of GORM over the handle, with the plugin, which knows where it is needed.
func byGORM(engine isolation.Engine, prepared bool) func(db *isolation.DB) (layer, error) {
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
		plugin, err := tenantgorm.New(tenantgorm.Config{Walls: handle, Tables: map[string]string{table: ""}})
		if err != nil {
			return nil, err
		}
		return gormLayer{gormStatements{db}, handle}, db.Use(plugin)
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

type gormStatements struct{ db *gorm.DB }

// The suites' statements, as GORM has methods for them. What is none of them is run as it is.
var (
	selecting  = regexp.MustCompile(`^SELECT (id, owner, n, body) FROM ` + table + `(?: WHERE (.*))?$`)
	inserting  = regexp.MustCompile(`^INSERT INTO ` + table + ` \(id, owner, n, body\) VALUES [?$(), 0-9]*?(?: RETURNING (.*))?$`)
	updating   = regexp.MustCompile(`^UPDATE ` + table + ` SET n = (n|\?|n \+ 1)(?: WHERE (.*?))?(?: RETURNING (.*))?$`)
	deleting   = regexp.MustCompile(`^DELETE FROM ` + table + `(?: WHERE (.*?))?(?: RETURNING (.*))?$`)
	savepoint  = regexp.MustCompile(`^(SAVEPOINT|ROLLBACK TO SAVEPOINT|RELEASE SAVEPOINT) (\w+)$`)
	parameters = regexp.MustCompile(`\$[0-9]+`)
)

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
		for ; len(args) > 0; args = args[4:] {
			rows = append(rows, hunted{args[0].(string), args[1].(string), args[2].(int64), args[3].(string)})
		}
		return rows, returning(db, m[1]).Create(&rows)
	}
	if m := updating.FindStringSubmatch(plain); m != nil {
		var n any = gorm.Expr(m[1])
		if m[1] == "?" {
			n, args = args[0], args[1:]
		}
		return rows, where(returning(db.Model(&rows), m[3]), m[2], args).Update("n", n)
	}
	if m := deleting.FindStringSubmatch(plain); m != nil {
		return rows, where(returning(db, m[2]), m[1], args).Delete(&rows)
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
	return nil, db.Exec(query, args...)
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
		db := s.db.WithContext(ctx).Model(&hunted{}).Select(strings.Split(m[1], ", "))
		if m[2] != "" {
			db = db.Where(m[2], args...)
		}
		return opened(db.Rows())
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
	return newGormTx(tx), nil
}

// lease is what gorm.DB.Connection does, whose callback this cannot be.
func (l gormLayer) lease(ctx context.Context) (leased, func() error, error) {
	conn, err := l.handle.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	db := l.db.WithContext(ctx)
	db.Statement.ConnPool = conn
	return gormStatements{db}, conn.Close, nil
}

func (l gormLayer) inTx(ctx context.Context, fn func(tx transaction) error) error {
	return l.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fn(newGormTx(tx)) })
}

type gormTx struct{ gormStatements }

// newGormTx takes a copy: the end of a context may end the transaction beside GORM's own callback.
func newGormTx(tx *gorm.DB) gormTx {
	return gormTx{gormStatements{tx.Session(&gorm.Session{NewDB: true})}}
}

func (t gormTx) commit() error   { return t.db.Commit().Error }
func (t gormTx) rollback() error { return t.db.Rollback().Error }
