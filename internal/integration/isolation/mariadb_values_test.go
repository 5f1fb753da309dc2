package isolation_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy/internal/integration/servers"
)

// everything is a table of the types that applications use.
const everything = `CREATE TABLE everything (
	id bigint unsigned PRIMARY KEY AUTO_INCREMENT, tiny tinyint(1), number int, big decimal(30, 10), ratio double,
	word varchar(20), doc json, raw varbinary(20), day date, at datetime(6), stamp timestamp(6) NULL, kind enum('a', 'b'),
	bits bit(5), uid uuid, UNIQUE (word))`

// TestAnswersOnMariaDBAreThoseOfThePlainHandle does the same through the handle and through the
// driver alone, each on a table of its own.
func TestAnswersOnMariaDBAreThoseOfThePlainHandle(t *testing.T) {
	t.Parallel()
	each(t, hasMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		server := servers.MariaDB(t)
		plain, err := sql.Open("mysql", server.DSN(server.CreateDatabase(t)))
		must(t, err)
		defer plain.Close()
		for _, statement := range []string{"ALTER DATABASE CHARACTER SET utf8mb4", everything} {
			_, err = plain.ExecContext(t.Context(), statement)
			must(t, err)
		}
		_, err = c.admin.ExecContext(t.Context(), "CREATE TABLE "+databaseOf(t, c.acme)+"."+everything[len("CREATE TABLE "):])
		must(t, err)
		for _, db := range []*sql.DB{plain, c.db.DB} {
			if db == plain {
				_, err = plain.ExecContext(t.Context(), "CREATE PROCEDURE two() BEGIN SELECT 1 AS one; SELECT 2 AS two, 'b' AS b; END")
			} else {
				_, err = c.admin.ExecContext(t.Context(), "CREATE PROCEDURE "+databaseOf(t, c.acme)+".two() BEGIN SELECT 1 AS one; SELECT 2 AS two, 'b' AS b; END")
			}
			must(t, err)
		}
		at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
		insert := `INSERT INTO everything (tiny, number, big, ratio, word, doc, raw, day, at, stamp, kind, bits, uid)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
		all := []any{
			true, int64(-7), "12345678901234567890.0123456789", 1.5, "żółć 👩‍👧", `{"a": [1, null]}`,
			[]byte{0, 1, 255},
			at, at, at, "b",
			[]byte{21},
			"12345678-1234-5678-1234-567812345678",
		}
		for _, do := range []struct {
			query string
			args  []any
		}{
			{insert, all},
			{insert, make([]any, 13)},
			{insert, all}, // a duplicate
			{"INSERT INTO everything (word) VALUES (?), (?)", []any{"x", "y"}},
			{"REPLACE INTO everything (id, word) VALUES (?, 'z')", []any{uint64(1 << 40)}},
			{"INSERT INTO everything (word) VALUES ('x') ON DUPLICATE KEY UPDATE number = VALUES(number) + ?", []any{1}},
			{"INSERT INTO everything (word) VALUES (?) RETURNING id > 0, word", []any{"returned"}},
			{"UPDATE everything SET number = ? WHERE number IS NULL", []any{sql.NullInt64{}}},
			{"DELETE FROM everything WHERE word = ?", []any{"y"}},
			{"SELECT * FROM everything ORDER BY id", nil},
			{"SELECT * FROM everything WHERE id > ? ORDER BY id", []any{0}},
			{"SELECT * FROM everything WHERE tiny = ? AND at = ? AND big > ? ORDER BY id", []any{true, at, 5}},
			{"SELECT count(*), avg(ratio), sum(big), max(stamp), group_concat(word ORDER BY id) FROM everything", nil},
			{"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n", nil},
			{"SELECT json_value(doc, '$.a[0]') FROM everything WHERE doc IS NOT NULL", nil},
			{"SELECT ? + ?, ?", []any{1, 2.5, "three"}},
			{"SELECT 1 WHERE false", nil},
			{"CALL two()", nil},
			{"SELECT no_such_column FROM everything", nil},
			{"SELECT ?", []any{sql.Named("x", 1)}},
			{"INSERT INTO everything (kind) VALUES ('c')", nil},
			{"INSERT INTO everything (word) VALUES (repeat('x', 21))", nil},
		} {
			want := answer(t.Context(), plain, do.query, do.args)
			got := answer(c.acme, c.db.DB, do.query, do.args)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s %v:\n got %+v\nwant %+v", do.query, do.args, got, want)
			}
			if len(do.args) == 0 {
				continue // the handle sends such a text as it is, and text has other Go types
			}
			// The same as a prepared statement, inside a transaction that is not kept.
			wanted, gotten := prepared(t.Context(), plain, do.query, do.args), prepared(c.acme, c.db.DB, do.query, do.args)
			if !reflect.DeepEqual(gotten, wanted) {
				t.Errorf("prepared: %s %v:\n got %+v\nwant %+v", do.query, do.args, gotten, wanted)
			}
		}
		for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			tx, err := c.db.BeginTx(c.acme, &sql.TxOptions{Isolation: level, ReadOnly: true})
			must(t, err)
			_, err = tx.ExecContext(c.acme, "DELETE FROM everything")
			mariaDBRefuses(t, "a write in a read-only transaction", err, 1792)
			must(t, tx.Rollback())
		}
		_, err = c.db.BeginTx(c.acme, &sql.TxOptions{Isolation: sql.LevelLinearizable})
		if err == nil {
			t.Error("an isolation level that the driver does not know was taken")
		}
	})
}

// given is all that a statement answers.
type given struct {
	Sets     []resultSet
	ID, Rows int64
	Error    string
}

type resultSet struct {
	Columns []string
	Rows    [][]any
}

type querierExecer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// answer runs a query as a query, and everything else as a statement first.
func answer(ctx context.Context, db querierExecer, query string, args []any) given {
	g, err := func() (g given, err error) {
		switch query[:6] {
		case "INSERT", "REPLAC", "UPDATE", "DELETE":
			result, err := db.ExecContext(ctx, query, args...)
			if err != nil {
				return g, err
			}
			g.ID, err = result.LastInsertId()
			if err != nil {
				return g, err
			}
			g.Rows, err = result.RowsAffected()
			return g, err
		}
		rows, err := db.QueryContext(ctx, query, args...)
		if err != nil {
			return g, err
		}
		defer rows.Close()
		for {
			set, err := read(rows)
			if err != nil {
				return g, err
			}
			g.Sets = append(g.Sets, set)
			if !rows.NextResultSet() {
				return g, rows.Err()
			}
		}
	}()
	if err != nil {
		g.Error = err.Error()
		if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
			g.Error = fmt.Sprintf("%d %s", refused.Number, refused.SQLState)
		}
	}
	return g
}

func read(rows *sql.Rows) (set resultSet, err error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return set, err
	}
	for _, c := range types {
		nullable, knows := c.Nullable()
		length, hasLength := c.Length()
		precision, scale, hasScale := c.DecimalSize()
		set.Columns = append(set.Columns, fmt.Sprint(c.Name(), c.DatabaseTypeName(), c.ScanType(), nullable, knows, length, hasLength, precision, scale, hasScale))
	}
	for rows.Next() {
		values, pointers := make([]any, len(types)), make([]any, len(types))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return set, err
		}
		set.Rows = append(set.Rows, values)
	}
	return set, rows.Err()
}

// prepared runs the statement twice in a transaction and takes it back.
func prepared(ctx context.Context, db *sql.DB, query string, args []any) (all []given) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return []given{{Error: err.Error()}}
	}
	defer func() { _ = tx.Rollback() }()
	stmt, err := tx.PrepareContext(ctx, query)
	if err != nil { // the handle prepares at the first execution
		return []given{answer(ctx, tx, query, args)}
	}
	defer stmt.Close()
	for range 2 {
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return append(all, answer(ctx, failing{err}, query, args))
		}
		set, err := read(rows)
		if err := errors.Join(err, rows.Close()); err != nil {
			return append(all, answer(ctx, failing{err}, query, args))
		}
		all = append(all, given{Sets: []resultSet{set}})
	}
	return all
}

// failing answers with an error that is known already.
type failing struct{ err error }

func (f failing) QueryContext(context.Context, string, ...any) (*sql.Rows, error) { return nil, f.err }

func (f failing) ExecContext(context.Context, string, ...any) (sql.Result, error) { return nil, f.err }
