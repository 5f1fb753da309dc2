package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	gormmysql "gorm.io/driver/mysql"
	gormpostgres "gorm.io/driver/postgres"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
	"lexigram.dev/tenancy/tenantpgx"
)

// A layer is what a handler holds. It returns the tasks of each tenant, by name.
type layer func(b *testing.B, s *site, a access, plainWire, scopedWire *wire) (plain, scoped [2]tasks)

// tasks are what is measured. Those of one name do the same work.
type tasks map[string]func() error

// The names of tasks.
const (
	selectOne   = "select-one"  // a row by its key
	selectMany  = "select-100"  // 100 rows in order
	updateOne   = "update"      // a row by its key
	transaction = "tx-of-3"     // three times a row by its key, in a transaction
	batch       = "batch-of-10" // ten times a row by its key, in one batch
	turns       = "two-in-turn" // select-one of two tenants by turns
	perTx       = 3
)

// bodies are written by turns: a server may find out that a value is as it was.
func bodies() func() string {
	n := 0
	return func() string { n++; return [...]string{"new", "newer"}[n&1] }
}

// bySQL is database/sql.
func bySQL(b *testing.B, s *site, a access, plainWire, scopedWire *wire) (plain, scoped [2]tasks) {
	handle, byHand := s.scoped(b, a, scopedWire), s.plain(b, a, plainWire)
	for i := range s.tenants {
		plain[i] = sqlTasks(context.Background(), byHand[i], s.statements(i, false))
		scoped[i] = sqlTasks(s.context(i), handle.DB, s.statements(i, true))
	}
	return plain, scoped
}

// bySQLFiltered is database/sql where the database is a wall for writes alone: both sides filter by
// hand, and scoped says so.
func bySQLFiltered(b *testing.B, s *site, a access, plainWire, scopedWire *wire) (plain, scoped [2]tasks) {
	handle, byHand := s.scoped(b, a, scopedWire), s.plain(b, a, plainWire)
	for i := range s.tenants {
		q := s.statements(i, false)
		plain[i] = sqlTasks(context.Background(), byHand[i], q)
		scoped[i] = sqlTasks(isolation.UnsafeFiltered(s.context(i), q.update), handle.DB, q)
	}
	return plain, scoped
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func sqlTasks(ctx context.Context, db *sql.DB, q statements) tasks {
	body := bodies()
	return tasks{
		selectOne:  func() error { return one(ctx, db, q.one, q.oneArgs()...) },
		selectMany: func() error { return many(ctx, db, q.many, q.tenant...) },
		updateOne:  func() error { return update(ctx, db, q.update, q.updateArgs(body())...) },
		transaction: func() error {
			return inTx(ctx, db, func(tx *sql.Tx) error {
				for range perTx {
					if err := one(ctx, tx, q.one, q.oneArgs()...); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func one(ctx context.Context, q queryer, query string, args ...any) error {
	var id int64
	var body string
	return q.QueryRowContext(ctx, query, args...).Scan(&id, &body)
}

func many(ctx context.Context, q queryer, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := int64(0)
	for ; rows.Next(); n++ {
		var id int64
		var body string
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return wantRows(n, rowsPerTenant)
}

func wantRows(n, want int64) error {
	if n != want {
		return fmt.Errorf("%d rows, want %d", n, want)
	}
	return nil
}

func update(ctx context.Context, q queryer, query string, args ...any) error {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	return wantRows(n, 1)
}

func inTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// byPool is pgx's own methods: tenantpgx.Pool against a pgxpool.Pool.
func byPool(b *testing.B, s *site, a access, plainWire, scopedWire *wire) (plain, scoped [2]tasks) {
	pool, byHand := tenantpgx.New(s.scoped(b, a, scopedWire)), s.plainPool(b, a, plainWire)
	for i := range s.tenants {
		plain[i] = pgxTasks(context.Background(), byHand[i], s.statements(i, false))
		scoped[i] = pgxTasks(s.context(i), pool, s.statements(i, true))
	}
	return plain, scoped
}

// pgxPool is a pool of pgx's kind.
type pgxPool interface {
	pgxQueryer
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// pgxQueryer is a pool or a transaction of pgx's kind.
type pgxQueryer interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

func pgxTasks(ctx context.Context, pool pgxPool, q statements) tasks {
	body := bodies()
	return tasks{
		selectOne:  func() error { return pgxOne(ctx, pool, q) },
		selectMany: func() error { return pgxMany(ctx, pool, q) },
		updateOne: func() error {
			tag, err := pool.Exec(ctx, q.update, q.updateArgs(body())...)
			if err != nil {
				return err
			}
			return wantRows(tag.RowsAffected(), 1)
		},
		transaction: func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				for range perTx {
					if err := pgxOne(ctx, tx, q); err != nil {
						return err
					}
				}
				return nil
			})
		},
		batch: func() error {
			var b pgx.Batch
			for range 10 {
				b.Queue(q.one, q.oneArgs()...)
			}
			return pool.SendBatch(ctx, &b).Close()
		},
	}
}

func pgxOne(ctx context.Context, q pgxQueryer, s statements) error {
	var id int64
	var body string
	return q.QueryRow(ctx, s.one, s.oneArgs()...).Scan(&id, &body)
}

func pgxMany(ctx context.Context, q pgxQueryer, s statements) error {
	rows, err := q.Query(ctx, s.many, s.tenant...)
	if err != nil {
		return err
	}
	var id int64
	var body string
	tag, err := pgx.ForEachRow(rows, []any{&id, &body}, func() error { return nil })
	if err != nil {
		return err
	}
	return wantRows(tag.RowsAffected(), rowsPerTenant)
}

// byGORM is GORM: over the handle where the database is the wall, and with the plugin where it is
// not, against GORM with the tenant in each condition.
func byGORM(b *testing.B, s *site, a access, plainWire, scopedWire *wire) (plain, scoped [2]tasks) {
	handle, byHand := s.scoped(b, a, scopedWire), s.plain(b, a, plainWire)
	over := openGORM(b, s.engine, handle.DB)
	if walled, err := handle.Walled(s.context(0)); err != nil || !walled {
		must(b, err)
		plugin, err := tenantgorm.New(tenantgorm.Config{Walls: handle, Tables: map[string]string{"notes": ""}})
		must(b, err)
		must(b, over.Use(plugin))
	}
	for i := range s.tenants {
		db := openGORM(b, s.engine, byHand[i])
		plain[i] = gormTasks(context.Background(), db, func(tx *gorm.DB) *gorm.DB {
			tx = tx.Table(s.tables[i])
			if s.shared {
				tx = tx.Where("tenant_id = ?", s.tenants[i].ID)
			}
			return tx
		})
		scoped[i] = gormTasks(s.context(i), over, func(tx *gorm.DB) *gorm.DB { return tx })
	}
	return plain, scoped
}

func openGORM(b *testing.B, engine isolation.Engine, pool *sql.DB) *gorm.DB {
	b.Helper()
	dialector := map[isolation.Engine]gorm.Dialector{
		isolation.EnginePostgreSQL: gormpostgres.New(gormpostgres.Config{Conn: pool}),
		isolation.EngineMariaDB:    gormmysql.New(gormmysql.Config{Conn: pool}),
		isolation.EngineSQLite:     gormsqlite.New(gormsqlite.Config{Conn: pool}),
	}[engine]
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	must(b, err)
	return db
}

// note is a row of notes as GORM has it. It knows of no tenant.
type note struct {
	ID   int64
	Body string
}

// gormTasks are tasks on the rows that mine chooses.
func gormTasks(ctx context.Context, db *gorm.DB, mine func(tx *gorm.DB) *gorm.DB) tasks {
	body := bodies()
	take := func(tx *gorm.DB) error {
		var n note
		return mine(tx).Where("id = ?", 50).Take(&n).Error
	}
	return tasks{
		selectOne: func() error { return take(db.WithContext(ctx)) },
		selectMany: func() error {
			var all []note
			if err := mine(db.WithContext(ctx)).Order("id").Find(&all).Error; err != nil {
				return err
			}
			return wantRows(int64(len(all)), rowsPerTenant)
		},
		updateOne: func() error { // in a transaction of GORM's
			tx := mine(db.WithContext(ctx).Model(&note{})).Where("id = ?", 50).Update("body", body())
			if tx.Error != nil {
				return tx.Error
			}
			return wantRows(tx.RowsAffected, 1)
		},
		transaction: func() error {
			return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				for range perTx {
					if err := take(tx); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}
