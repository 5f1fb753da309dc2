package isolation_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"modernc.org/sqlite"

	"lexigram.dev/tenancy/isolation"
)

// everythingInAFile is everything for SQLite.
const everythingInAFile = `CREATE TABLE everything (
	id integer PRIMARY KEY AUTOINCREMENT, tiny boolean, number int, big numeric, ratio real, word varchar(20) UNIQUE,
	doc json, raw blob, day date, at datetime, stamp timestamp, bare, strict text NOT NULL DEFAULT 'x' CHECK (length(strict) < 5))`

// TestAnswersOnSQLiteAreThoseOfThePlainHandle does the same through the handle and through the
// driver alone, each on a file of its own.
func TestAnswersOnSQLiteAreThoseOfThePlainHandle(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]url.Values{
		"defaults":    nil,
		"time format": {"_time_format": {"sqlite"}, "_texttotime": {"1"}, "_timezone": {"America/New_York"}},
		"numbers":     {"_time_integer_format": {"unix_milli"}, "_inttotime": {"1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openSQLite(t, func(config *isolation.Config) {
				files := config.Servers["files"].(isolation.SQLite)
				files.Options = options
				config.Servers["files"] = files
			})
			dsn := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
			for key, values := range options {
				dsn[key] = values
			}
			plain, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "plain.sqlite")+"?"+dsn.Encode())
			must(t, err)
			defer plain.Close()
			plain.SetMaxOpenConns(1)
			_, err = plain.ExecContext(t.Context(), everythingInAFile)
			must(t, err)
			_, err = c.db.ExecContext(c.acme, everythingInAFile)
			must(t, err)
			sameAnswers(t, plain, c)
		})
	}
}

func sameAnswers(t *testing.T, plain *sql.DB, c *cell) {
	t.Helper()
	warsaw, err := time.LoadLocation("Europe/Warsaw")
	must(t, err)
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456789, warsaw)
	insert := "INSERT INTO everything (tiny, number, big, ratio, word, doc, raw, day, at, stamp, bare) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	all := []any{true, int64(-1 << 62), "12345678901234567890.5", 1.5, "żółć 👩‍👧", `{"a": [1, null]}`, []byte{0, 1, 255}, at, at, at.UTC(), []byte{}}
	for _, do := range []struct {
		query string
		args  []any
	}{
		{insert, all},
		{insert, make([]any, 11)},
		{insert, all}, // a duplicate
		{"INSERT INTO everything (word) VALUES (?), ($2)", []any{"x", "y"}},
		{"INSERT INTO everything (word, number) VALUES (:word, @number)", []any{sql.Named("word", "named"), sql.Named("number", int8(3))}},
		{"INSERT INTO everything (word) VALUES (:word)", []any{sql.Named("other", "named")}},
		{"REPLACE INTO everything (id, word) VALUES (?, 'z')", []any{int64(1 << 40)}},
		{"INSERT INTO everything (word) VALUES ('x') ON CONFLICT (word) DO UPDATE SET number = coalesce(number, 0) + ?", []any{1}},
		{"UPDATE everything SET number = ? WHERE number IS NULL", []any{sql.NullInt64{}}},
		{"DELETE FROM everything WHERE word = ?", []any{"y"}},
		{"SELECT * FROM everything ORDER BY id", nil},
		{"SELECT * FROM everything WHERE id > ? ORDER BY id", []any{0}},
		{"SELECT word FROM everything WHERE tiny = ? AND at = ? AND raw = ?", []any{true, at, []byte{0, 1, 255}}},
		{"SELECT count(*), avg(ratio), sum(number) AS total, max(stamp), group_concat(word) FROM everything", nil},
		{"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n", nil},
		{"SELECT doc ->> '$.a[0]', json_type(doc, '$.a[1]') FROM everything WHERE doc IS NOT NULL", nil},
		{"SELECT ? + ?, ?, typeof(?), typeof(?)", []any{1, 2.5, "three", []byte("b"), nil}},
		{"SELECT ?, typeof(?1)", []any{at}},
		{"SELECT ?, ?", []any{sql.NullString{String: "a", Valid: true}, sql.NullTime{}}},
		{"SELECT 1 WHERE false", nil},
		{"SELECT 1 AS one; SELECT 2 AS two, 'b' AS b", nil},
		{"SELECT no_such_column FROM everything", nil},
		{"SELECT ?", []any{1, 2}},
		{"SELECT ?, ?", []any{1}},
		{"SELECT ?", []any{uint64(1 << 63)}},
		{"SELECT ?", []any{struct{}{}}},
		{"INSERT INTO everything (strict) VALUES (NULL)", nil},
		{"INSERT INTO everything (strict) VALUES ('too long')", nil},
		{"INSERT INTO everything (word) VALUES ('returned') RETURNING id > 0, word", nil},
	} {
		ask := answer
		if do.query[len(do.query)-4:] == "word" && do.query[:6] == "INSERT" {
			ask = rowsOnly
		}
		want, got := ask(t.Context(), plain, do.query, do.args), ask(c.acme, c.db.DB, do.query, do.args)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s %v:\n got %+v\nwant %+v", do.query, do.args, got, want)
		}
		// The same as a prepared statement, inside a transaction that is not kept.
		wanted, gotten := prepared(t.Context(), plain, do.query, do.args), prepared(c.acme, c.db.DB, do.query, do.args)
		if !reflect.DeepEqual(gotten, wanted) {
			t.Errorf("prepared: %s %v:\n got %+v\nwant %+v", do.query, do.args, gotten, wanted)
		}
	}
}

// rowsOnly is answer for a statement that changes rows and returns them.
func rowsOnly(ctx context.Context, db querierExecer, query string, args []any) (g given) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return given{Error: err.Error()}
	}
	defer rows.Close()
	set, err := read(rows)
	if err != nil {
		g.Error = err.Error()
	}
	g.Sets = []resultSet{set}
	return g
}

// TestErrorsOnSQLiteAreTheDrivers compares the driver's own error, which each way must lead to.
func TestErrorsOnSQLiteAreTheDrivers(t *testing.T) {
	t.Parallel()
	c := openSQLite(t)
	const table = "CREATE TABLE parents (id integer PRIMARY KEY, name text UNIQUE); " +
		"CREATE TABLE children (parent integer NOT NULL REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
	_, err := c.db.ExecContext(c.acme, table)
	must(t, err)
	_, err = c.db.ExecContext(c.acme, "INSERT INTO parents (name) VALUES ('a')")
	must(t, err)
	const unique, notNull, foreignKey = 2067, 1299, 787
	code := func(what string, err error, want int) {
		t.Helper()
		if e, ok := errors.AsType[*sqlite.Error](err); !ok || e.Code() != want {
			t.Errorf("%s: the error is %v, want the driver's of code %d", what, err, want)
		}
	}
	_, err = c.db.ExecContext(c.acme, "INSERT INTO parents (name) VALUES (?)", "a")
	code("a statement", err, unique)
	code("a row", c.db.QueryRowContext(c.acme, "INSERT INTO parents (name) VALUES ('a') RETURNING id").Scan(new(int)), unique)
	stmt, err := c.db.PrepareContext(c.acme, "INSERT INTO children VALUES (?)")
	must(t, err)
	_, err = stmt.ExecContext(c.acme, nil)
	code("a prepared statement", err, notNull)
	must(t, stmt.Close())
	code("a commit", c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(c.acme, "INSERT INTO children VALUES (9)")
		must(t, err)
		return nil
	}), foreignKey)
	err = isolation.Raw(c.acme, c.db, func(driverConn any) error {
		_, err := rawExec(t, driverConn, "INSERT INTO parents (name) VALUES ('a')")
		return err
	})
	code("Raw", err, unique)
}

// TestTransactionsOnSQLite compares what the driver makes of the options of a transaction.
func TestTransactionsOnSQLite(t *testing.T) {
	t.Parallel()
	c := openSQLite(t)
	plain, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "plain.sqlite")+"?_txlock=immediate")
	must(t, err)
	defer plain.Close()
	_, err = plain.ExecContext(t.Context(), fileSchema)
	must(t, err)
	for _, opts := range []sql.TxOptions{
		{},
		{ReadOnly: true},
		{Isolation: sql.LevelReadUncommitted},
		{Isolation: sql.LevelReadCommitted},
		{Isolation: sql.LevelSerializable},
		{Isolation: sql.LevelSerializable, ReadOnly: true},
		{Isolation: sql.LevelLinearizable},
	} {
		want, got := inOptions(t.Context(), plain, opts), inOptions(c.acme, c.db.DB, opts)
		if got != want {
			t.Errorf("%+v: %s, want %s", opts, got, want)
		}
	}
	must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
		for _, statement := range []string{
			"INSERT INTO notes (body) VALUES ('kept')", "SAVEPOINT s", "INSERT INTO notes (body) VALUES ('undone')", "ROLLBACK TO s", "RELEASE s",
		} {
			_, err := tx.ExecContext(c.acme, statement)
			must(t, err)
		}
		return nil
	}))
	sees(t, c.acme, c.db, "of acme", "kept")
}

// inOptions says how a transaction with these options begins, writes and ends.
func inOptions(ctx context.Context, db *sql.DB, opts sql.TxOptions) string {
	tx, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return "begin: " + err.Error()
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "DELETE FROM notes WHERE id = -1"); err != nil {
		return "write: " + err.Error()
	}
	if err := tx.Commit(); err != nil {
		return "commit: " + err.Error()
	}
	return "committed"
}
