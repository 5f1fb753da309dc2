package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
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

// everythingInRows is everything where tenants share it: a tenant works through a view of it.
var everythingInRows = strings.NewReplacer(
	"CREATE TABLE", "CREATE TABLE IF NOT EXISTS",
	"PRIMARY KEY AUTO_INCREMENT", "AUTO_INCREMENT",
	"UNIQUE (word)", "tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, PRIMARY KEY (tenant_id, id), KEY (id), UNIQUE (tenant_id, word)",
	"varchar(20)", "varchar(20) CHARACTER SET utf8mb4",
).Replace(everything)

// TestAnswersThroughViewsAreThoseOfThePlainHandle does the same through the views of row_level on
// MariaDB, and through the driver alone on a table of its own; with the driver's ways to read times.
func TestAnswersThroughViewsAreThoseOfThePlainHandle(t *testing.T) {
	t.Parallel()
	warsaw, err := time.LoadLocation("Europe/Warsaw")
	must(t, err)
	for name, tune := range map[string]func(*mysql.Config){
		"defaults":  func(*mysql.Config) {},
		"time zone": func(config *mysql.Config) { config.ParseTime, config.Loc = true, warsaw },
		"session of a time zone": func(config *mysql.Config) {
			config.ParseTime, config.InterpolateParams = true, true // a prepared statement is a text here, too
			config.Params = map[string]string{"time_zone": "'+05:30'"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers.MariaDB(t)
			c := openMariaDBRowsOn(t, server, func(rows *isolation.MariaDBRows) { rows.Tables["everything"] = "" },
				[]func(*isolation.Config){tuned(server, tune)}, mariaDBRowsSchema, everythingInRows)
			connector, err := connectMariaDB(server, isolation.Login{User: "root", Password: server.Password(), Database: server.CreateDatabase(t)}, tune)
			must(t, err)
			plain := sql.OpenDB(connector)
			defer plain.Close()
			_, err = plain.ExecContext(t.Context(), strings.ReplaceAll(everything, "varchar(20)", "varchar(20) CHARACTER SET utf8mb4"))
			must(t, err)
			sameAnswersThroughViews(t, plain, c, warsaw, name != "session of a time zone")
		})
	}
}

// tuned opens the tenants' connections with another configuration of the driver.
func tuned(server *servers.MariaDBServer, tune func(*mysql.Config)) func(*isolation.Config) {
	return func(config *isolation.Config) {
		main := config.Servers["main"].(isolation.MariaDB)
		open := main.Open
		main.Open = func(l isolation.Login) (driver.Connector, error) {
			if l.User == "" {
				return open(l)
			}
			return connectMariaDB(server, l, tune)
		}
		config.Servers["main"] = main
	}
}

// sameAnswersThroughViews also compares prepared statements, unless the driver is to write the
// values into the text: the handle's prepared statements are texts, so they get the types of texts.
func sameAnswersThroughViews(t *testing.T, plain *sql.DB, c *cell, zone *time.Location, binary bool) {
	t.Helper()
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, zone)
	insert := `INSERT INTO everything (tiny, number, big, ratio, word, doc, raw, day, at, stamp, kind, bits, uid)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	const every = "SELECT id, tiny, number, big, ratio, word, doc, raw, day, at, stamp, kind, bits, uid FROM everything"
	all := []any{
		true, int64(-7), "12345678901234567890.0123456789", 1.5, "żółć 👩‍👧", `{"a": [1, null]}`,
		[]byte{0, 1, 255},
		at, at, at.UTC(), "b",
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
		{"INSERT INTO everything (id, word) VALUES (?, 'z')", []any{uint64(1 << 40)}},
		{"INSERT INTO everything (word) VALUES ('x') ON DUPLICATE KEY UPDATE number = VALUES(number) + ?", []any{1}},
		{"UPDATE everything SET number = ? WHERE number IS NULL", []any{sql.NullInt64{}}},
		{"DELETE FROM everything WHERE word = ?", []any{"y"}},
		{every + " ORDER BY id", nil},
		{every + " WHERE id > ? ORDER BY id", []any{0}},
		{every + " WHERE tiny = ? AND at = ? AND stamp = ? AND big > ? ORDER BY id", []any{true, at, at, 5}},
		{"SELECT count(*), avg(ratio), sum(big), max(stamp), group_concat(word ORDER BY id) FROM everything", nil},
		{"SELECT json_value(doc, '$.a[0]'), bits + 0, kind + 0 FROM everything WHERE doc IS NOT NULL", nil},
		{"SELECT ? + ?, ?, CAST(? AS datetime(6))", []any{1, 2.5, "three", at}},
		{"SELECT @@session.time_zone", nil},
		{"SELECT 1 WHERE false", nil},
		{"SELECT no_such_column FROM everything", nil},
		{"SELECT ?", []any{sql.Named("x", 1)}},
		{"INSERT INTO everything (kind) VALUES ('c')", nil},
		{"INSERT INTO everything (word) VALUES (repeat('x', 21))", nil},
		{"INSERT INTO everything (number) VALUES (?)", []any{int64(1 << 40)}},
	} {
		want, got := answer(t.Context(), plain, do.query, do.args), answer(c.acme, c.db.DB, do.query, do.args)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s %v:\n got %+v\nwant %+v", do.query, do.args, got, want)
		}
		if len(do.args) == 0 || !binary {
			continue // the handle sends such a text as it is, and text has other Go types
		}
		wanted, gotten := prepared(t.Context(), plain, do.query, do.args), prepared(c.acme, c.db.DB, do.query, do.args)
		if !reflect.DeepEqual(gotten, wanted) {
			t.Errorf("prepared: %s %v:\n got %+v\nwant %+v", do.query, do.args, gotten, wanted)
		}
	}
	var n int
	must(t, c.db.QueryRowContext(c.globex, "SELECT count(*) FROM everything").Scan(&n))
	if n != 0 {
		t.Errorf("globex sees %d rows", n)
	}
}

// TestTransactionOptionsOnMariaDB finds out by what a transaction sees which level it has; the
// server does not tell.
func TestTransactionOptionsOnMariaDB(t *testing.T) {
	t.Parallel()
	each(t, isMariaDB, func(t *testing.T, a access) {
		c := a.open(t)
		server := servers.MariaDB(t)
		plain, err := sql.Open("mysql", server.DSN(server.CreateDatabase(t)))
		must(t, err)
		defer plain.Close()
		for _, statement := range []string{mariaDBSchema, "INSERT INTO notes (body) VALUES ('alone')"} {
			_, err = plain.ExecContext(t.Context(), statement)
			must(t, err)
		}
		for level, want := range map[sql.IsolationLevel]string{
			sql.LevelDefault: "REPEATABLE READ", sql.LevelReadUncommitted: "READ UNCOMMITTED", sql.LevelReadCommitted: "READ COMMITTED",
			sql.LevelRepeatableRead: "REPEATABLE READ", sql.LevelSerializable: "SERIALIZABLE",
		} {
			for _, readOnly := range []bool{false, true} {
				opts := &sql.TxOptions{Isolation: level, ReadOnly: readOnly}
				alone, got := levelOf(t, t.Context(), plain, opts), levelOf(t, c.acme, c.db.DB, opts)
				if got != want || alone != want {
					t.Errorf("%+v: the level is %s through the handle, %s through the driver alone, want %s", *opts, got, alone, want)
				}
			}
		}
	})
}

// levelOf returns the isolation level of a transaction with these options: by which rows of another
// transaction it sees, and whether its reading keeps the other from writing.
func levelOf(t *testing.T, ctx context.Context, db *sql.DB, opts *sql.TxOptions) string {
	t.Helper()
	tx, err := db.BeginTx(ctx, opts)
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	count := func() (n int) {
		must(t, tx.QueryRowContext(ctx, "SELECT count(*) FROM notes").Scan(&n))
		return n
	}
	before := count()
	other, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer func() { _ = other.Rollback() }()
	err = other.QueryRowContext(ctx, "SELECT id FROM notes ORDER BY id LIMIT 1 FOR UPDATE NOWAIT").Scan(new(int64))
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && e.Number == 1205 {
		return "SERIALIZABLE"
	}
	must(t, err)
	_, err = other.ExecContext(ctx, "INSERT INTO notes (body) VALUES ('other')")
	must(t, err)
	if count() != before {
		return "READ UNCOMMITTED"
	}
	must(t, other.Commit())
	if count() != before {
		return "READ COMMITTED"
	}
	return "REPEATABLE READ"
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
