package pgx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// dbtx is what sqlc's generated code asks for, and pgx's own code beside it.
type dbtx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

var (
	_ dbtx = (*tenantpgx.Pool)(nil)
	_ dbtx = (*tenantpgx.PoolConn)(nil)
	_ dbtx = pgx.Tx(nil)
)

// one lets a world have a single connection, so that every use is a reuse.
var one = isolation.PoolConfig{MaxConns: 1, MaxPerTenant: 1}

// each runs a test directly and through PgBouncer.
func each(t *testing.T, o options, test func(t *testing.T, path through, w *world)) {
	t.Helper()
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			t.Parallel()
			w := openWith(t, path, o)
			add(t, w.acme, w.pool, "of acme")
			add(t, w.other, w.pool, "of other")
			test(t, path, w)
		})
	}
}

func add(t testing.TB, ctx context.Context, q dbtx, body string) {
	t.Helper()
	tag, err := q.Exec(ctx, "INSERT INTO notes (body) VALUES ($1)", body)
	must(t, err)
	if tag.RowsAffected() != 1 {
		t.Fatalf("inserted: %v", tag)
	}
}

// bodies returns what a tenant sees.
func bodies(ctx context.Context, q dbtx) ([]string, error) {
	rows, err := q.Query(ctx, "SELECT body FROM notes ORDER BY id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// sees fails the test unless the tenant of ctx sees exactly these notes.
func sees(t testing.TB, ctx context.Context, q dbtx, want ...string) {
	t.Helper()
	got, err := bodies(ctx, q)
	must(t, err)
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("saw %q, want %q", got, want)
	}
}

// bothSee fails the test unless each tenant sees its own note.
func (w *world) bothSee(t testing.TB) {
	t.Helper()
	sees(t, w.acme, w.pool, "of acme")
	sees(t, w.other, w.pool, "of other")
}

func TestPoolRoundTrips(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, path through, w *world) {
		transaction := func(k int) func(context.Context) error {
			return func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
					for range k {
						if _, err := tx.Exec(ctx, "UPDATE notes SET body = body WHERE body = $1", "x"); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		for _, c := range []struct {
			name          string
			run           func(ctx context.Context) error
			trips, writes int64
		}{
			{"Exec", func(ctx context.Context) error {
				_, err := w.pool.Exec(ctx, "UPDATE notes SET body = body WHERE body = $1", "x")
				return err
			}, 1, 1},
			{"QueryRow", func(ctx context.Context) error {
				var n int
				return w.pool.QueryRow(ctx, "SELECT count(*) FROM notes WHERE body <> $1", "x").Scan(&n)
			}, 1, 1},
			{"Query", func(ctx context.Context) error { _, err := bodies(ctx, w.pool); return err }, 1, 1},
			{"SendBatch", func(ctx context.Context) error {
				var b pgx.Batch
				for range 5 {
					b.Queue("SELECT count(*) FROM notes WHERE body = $1", "x")
					b.Queue("UPDATE notes SET body = body WHERE body = $1", "x")
				}
				return w.pool.SendBatch(ctx, &b).Close()
			}, 1, 1},
			{"a transaction of none", transaction(0), 0, 0},
			{"a transaction of one", transaction(1), 2, 2},
			{"a transaction of three", transaction(3), 4, 4},
			{"a batch in a transaction", func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
					var b pgx.Batch
					b.Queue("SELECT count(*) FROM notes WHERE body = $1", "x")
					b.Queue("SELECT 1")
					return tx.SendBatch(ctx, &b).Close()
				})
			}, 2, 2},
		} {
			must(t, c.run(w.acme)) // described
			for _, ctx := range []context.Context{w.acme, w.other} {
				trips, writes := w.wire.count(func() { must(t, c.run(ctx)) })
				if trips != c.trips || writes != c.writes {
					t.Errorf("%s: %d round trips and %d writes, want %d and %d", c.name, trips, writes, c.trips, c.writes)
				}
			}
		}
		if n := w.wire.dials.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

func TestPoolRowsAnswerAsPgx(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		type note struct {
			ID   int64
			Body string
		}
		rows, err := w.pool.Query(w.acme, "SELECT id, body FROM notes WHERE body = @body", pgx.NamedArgs{"body": "of acme"})
		must(t, err)
		if f := rows.FieldDescriptions(); len(f) != 2 || f[1].Name != "body" {
			t.Errorf("columns %v", f)
		}
		if rows.TypeMap() == nil {
			t.Error("no types")
		}
		n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[note])
		must(t, err)
		if n.Body != "of acme" {
			t.Errorf("read %+v", n)
		}
		if rows.CommandTag().String() != "SELECT 1" {
			t.Errorf("tag %v", rows.CommandTag())
		}

		err = w.pool.QueryRow(w.acme, "SELECT body FROM notes WHERE false").Scan(new(string))
		mustBe(t, err, pgx.ErrNoRows)
		values, err := pgx.CollectRows(must1(t)(w.pool.Query(w.acme, "SELECT 1::int8, 'a', ARRAY[1, 2], '{\"x\": 1}'::jsonb")), pgx.RowToMap)
		must(t, err)
		if got := fmt.Sprint(values); got != "[map[?column?:a array:[1 2] int8:1 jsonb:map[x:1]]]" {
			t.Errorf("values %s", got)
		}
		// A format of one's own.
		rows, err = w.pool.Query(w.acme, "SELECT 7", pgx.QueryResultFormats{pgx.TextFormatCode})
		must(t, err)
		if rows.Next(); string(rows.RawValues()[0]) != "7" {
			t.Errorf("raw %q", rows.RawValues())
		}
		rows.Close()
		rows, err = w.pool.Query(w.acme, "SELECT 7", pgx.QueryResultFormatsByOID{23: pgx.BinaryFormatCode})
		must(t, err)
		if rows.Next(); string(rows.RawValues()[0]) != "\x00\x00\x00\x07" {
			t.Errorf("raw %q", rows.RawValues())
		}
		rows.Close()

		if all, err := pgx.CollectRows(must1(t)(w.pool.Query(w.acme, "")), pgx.RowToMap); err != nil || len(all) != 0 {
			t.Errorf("nothing answered %v, %v", all, err)
		}
		must(t, second(w.pool.Exec(w.acme, "")))

		// A failed Scan closes the rows.
		rows, err = w.pool.Query(w.acme, "SELECT 'x' FROM generate_series(1, 100)")
		must(t, err)
		rows.Next()
		if err := rows.Scan(new(int)); err == nil || rows.Err() == nil || rows.Next() {
			t.Errorf("a failed Scan: %v, %v", err, rows.Err())
		}
		// The error of a later row, and of the arguments.
		rows, err = w.pool.Query(w.acme, "SELECT 1/(3-n) FROM generate_series(1, 5) n")
		must(t, err)
		for rows.Next() {
		}
		if state(rows.Err()) != "22012" {
			t.Errorf("got %v", rows.Err())
		}
		if _, err := w.pool.Exec(w.acme, "SELECT $1::int", 1, 2); err == nil {
			t.Error("two arguments for one parameter")
		}
		if _, err := w.pool.Query(w.acme, "SELECT $1::int", "x"); err == nil {
			t.Error("no number")
		}
		w.bothSee(t)
		if s := w.pool.Stat(); s.Open != 1 || s.Idle != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestPoolRowsAreOverOnceClosed keeps rows beyond their end, when the connection is another
// tenant's.
func TestPoolRowsAreOverOnceClosed(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		var kept pgx.Rows
		rows, err := w.pool.Query(w.acme, "SELECT id, body FROM notes")
		must(t, err)
		rows.Next()
		must(t, rows.Scan(keeper(func(r pgx.Rows) { kept = r })))
		rows.Close()
		theirs, err := w.pool.Query(w.other, "SELECT body AS secret FROM notes")
		must(t, err)
		theirs.Next()
		for name, r := range map[string]pgx.Rows{"rows": rows, "rows given to a scanner": kept} {
			if f := r.FieldDescriptions(); f != nil {
				t.Errorf("%s: columns %v", name, f)
			}
			if v, err := r.Values(); err == nil {
				t.Errorf("%s: values %v", name, v)
			}
			if v := r.RawValues(); v != nil {
				t.Errorf("%s: raw values %q", name, v)
			}
			if r.Next() || r.Conn() != nil || r.Scan(new(int64), new(string)) == nil {
				t.Errorf("%s: go on", name)
			}
			r.Close()
		}
		var secret string
		must(t, theirs.Scan(&secret)) // undisturbed
		theirs.Close()
		must(t, theirs.Err())
		if secret != "of other" {
			t.Errorf("read %q", secret)
		}
	})
}

// keeper scans a row by keeping its rows.
type keeper func(pgx.Rows)

func (k keeper) ScanRow(r pgx.Rows) error { k(r); return nil }

func TestPoolBatch(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		t.Run("reads results in order and calls functions", func(t *testing.T) {
			var b pgx.Batch
			b.Queue("INSERT INTO notes (body) VALUES ($1)", "batch").Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != 1 {
					t.Errorf("tag %v", tag)
				}
				return nil
			})
			b.Queue("SELECT body FROM notes WHERE body = @b", pgx.NamedArgs{"b": "batch"}).QueryRow(func(row pgx.Row) error {
				var s string
				return row.Scan(&s)
			})
			b.Queue("SELECT body FROM notes ORDER BY id").Query(func(rows pgx.Rows) error {
				all, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if strings.Join(all, "|") != "of acme|batch" {
					t.Errorf("saw %q", all)
				}
				return err
			})
			b.Queue("DELETE FROM notes WHERE body = 'batch'")
			results := w.pool.SendBatch(w.acme, &b)
			must(t, results.Close())
			must(t, results.Close())
			if _, err := results.Exec(); err == nil {
				t.Error("a closed batch goes on")
			}
		})
		t.Run("is read by hand", func(t *testing.T) {
			var b pgx.Batch
			b.Queue("SELECT 1")
			b.Queue("SELECT body FROM notes")
			b.Queue("SELECT 2")
			results := w.pool.SendBatch(w.acme, &b)
			_, err := results.Exec()
			must(t, err)
			rows, err := results.Query() // stays open
			must(t, err)
			rows.Next()
			var n int
			must(t, results.QueryRow().Scan(&n))
			if n != 2 || rows.Next() {
				t.Errorf("read %d", n)
			}
			if _, err := results.Exec(); err == nil {
				t.Error("a fourth result")
			}
			must(t, results.Close())
		})
		t.Run("is one transaction", func(t *testing.T) {
			var b pgx.Batch
			b.Queue("INSERT INTO notes (body) VALUES ('never')")
			b.Queue("SELECT 1/(length(body) - length(body)) FROM notes")
			b.Queue("INSERT INTO notes (body) VALUES ('never either')")
			results := w.pool.SendBatch(w.acme, &b)
			_, err := results.Exec()
			must(t, err)
			if err := results.Close(); state(err) != "22012" {
				t.Errorf("got %v", err)
			}
			w.bothSee(t)
		})
		t.Run("with a statement that is more than data", func(t *testing.T) {
			var b pgx.Batch
			b.Queue("INSERT INTO notes (body) VALUES ('never')")
			b.Queue("DO $$ BEGIN RAISE 'no'; END $$")
			if err := w.pool.SendBatch(w.acme, &b).Close(); state(err) != "P0001" {
				t.Errorf("got %v", err)
			}
			b = pgx.Batch{}
			b.Queue("INSERT INTO notes (body) VALUES ('never')")
			b.Queue("DO $$ BEGIN COMMIT; END $$")
			mustBe(t, w.pool.SendBatch(w.acme, &b).Close(), isolation.ErrNoTransaction)
			w.bothSee(t)
		})
		t.Run("that cannot be sent", func(t *testing.T) {
			var b pgx.Batch
			b.BeginTx(pgx.TxOptions{})
			b.Queue("SELECT 1")
			mustBe(t, w.pool.SendBatch(w.acme, &b).Close(), isolation.ErrTransactionControl)
			b = pgx.Batch{}
			b.Queue("SELECT $1::int", "x")
			if err := w.pool.SendBatch(w.acme, &b).Close(); err == nil {
				t.Error("sent text as a number")
			}
			b = pgx.Batch{}
			b.Queue("SELECT nonsense")
			if err := w.pool.SendBatch(w.acme, &b).Close(); state(err) != "42703" {
				t.Errorf("got %v", err)
			}
			must(t, w.pool.SendBatch(w.acme, &pgx.Batch{}).Close())
			b = pgx.Batch{}
			b.Queue("SELECT 1")
			mustBe(t, w.pool.SendBatch(t.Context(), &b).Close(), tenancy.ErrNoTenant)
		})
		t.Run("whose function panics", func(t *testing.T) {
			var b pgx.Batch
			b.Queue("SELECT 1").Query(func(pgx.Rows) error { panic("boom") })
			results := w.pool.SendBatch(w.acme, &b)
			mustPanic(t, func() { _ = results.Close() })
			w.bothSee(t)
			if _, err := results.Exec(); err == nil {
				t.Error("goes on")
			}
		})
		t.Run("of more statements than are kept", func(t *testing.T) {
			for range 2 {
				var b pgx.Batch
				for i := range 1200 {
					b.Queue(fmt.Sprintf("SELECT %d + $1::int", i), 1).QueryRow(func(row pgx.Row) error {
						var n int
						err := row.Scan(&n)
						if n != i+1 {
							t.Errorf("%d + 1 = %d", i, n)
						}
						return err
					})
				}
				must(t, w.pool.SendBatch(w.acme, &b).Close())
			}
			w.bothSee(t) // deallocates
			var n int
			must(t, w.pool.QueryRow(w.acme, "SELECT count(*) FROM pg_prepared_statements").Scan(&n))
			if n > 300 {
				t.Errorf("%d prepared statements are kept", n)
			}
		})
		w.made.clean(t)
	})
}

func TestPoolTransaction(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		t.Run("commits and rolls back", func(t *testing.T) {
			tx, err := w.pool.BeginTx(w.acme, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadWrite, DeferrableMode: pgx.NotDeferrable})
			must(t, err)
			var level string
			must(t, tx.QueryRow(w.acme, "SHOW transaction_isolation").Scan(&level))
			if level != "serializable" {
				t.Errorf("isolation %q", level)
			}
			add(t, w.acme, tx, "more")
			sees(t, w.acme, tx, "of acme", "more")
			must(t, tx.Rollback(w.acme))
			mustBe(t, tx.Rollback(w.acme), pgx.ErrTxClosed)
			mustBe(t, tx.Commit(w.acme), pgx.ErrTxClosed)
			_, err = tx.Exec(w.acme, "SELECT 1")
			mustBe(t, err, pgx.ErrTxClosed)
			_, err = tx.Begin(w.acme)
			mustBe(t, err, pgx.ErrTxClosed)
			w.bothSee(t)
		})
		t.Run("is read only", func(t *testing.T) {
			err := pgx.BeginTxFunc(w.acme, w.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				_, err := tx.Exec(w.acme, "DELETE FROM notes")
				return err
			})
			if state(err) != "25006" {
				t.Errorf("got %v", err)
			}
		})
		t.Run("has savepoints", func(t *testing.T) {
			must(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				kept, err := tx.Begin(w.acme)
				must(t, err)
				add(t, w.acme, kept, "kept")
				inner, err := kept.Begin(w.acme)
				must(t, err)
				add(t, w.acme, inner, "never")
				cancelled, cancel := context.WithCancel(w.acme)
				cancel()
				must(t, inner.Rollback(cancelled)) // also with a context that has ended
				mustBe(t, inner.Rollback(w.acme), pgx.ErrTxClosed)
				must(t, kept.Commit(w.acme))
				_, err = inner.Exec(w.acme, "SELECT 1")
				mustBe(t, err, pgx.ErrTxClosed)
				return nil
			}))
			sees(t, w.acme, w.pool, "of acme", "kept")
			_, err := w.pool.Exec(w.acme, "DELETE FROM notes WHERE body = 'kept'")
			must(t, err)
		})
		t.Run("that failed does not commit", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			add(t, w.acme, tx, "never")
			if _, err := tx.Exec(w.acme, "SELECT 1/0"); err == nil {
				t.Error("divided by zero")
			}
			mustBe(t, tx.Commit(w.acme), pgx.ErrTxCommitRollback)
			w.bothSee(t)
		})
		t.Run("prepares for itself", func(t *testing.T) {
			for range 2 {
				must(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
					desc, err := tx.Prepare(w.acme, "mine", "SELECT body FROM notes WHERE body = $1")
					must(t, err)
					if len(desc.ParamOIDs) != 1 || len(desc.Fields) != 1 || desc.Name != "mine" {
						t.Errorf("described %+v", desc)
					}
					var body string
					return tx.QueryRow(w.acme, "mine", "of acme").Scan(&body)
				}))
			}
			if _, err := w.pool.Exec(w.acme, "mine", "x"); err == nil {
				t.Error("a name outlived its transaction")
			}
		})
		t.Run("gives the pgx connection, once", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			conn := tx.Conn()
			var body string
			must(t, conn.QueryRow(w.acme, "SELECT body FROM notes").Scan(&body))
			if body != "of acme" || conn.PgConn().TxStatus() != 'T' {
				t.Errorf("read %q, status %c", body, conn.PgConn().TxStatus())
			}
			must(t, tx.Commit(w.acme))
			if !conn.IsClosed() || tx.Conn() != nil {
				t.Error("a connection that was handed out lives on")
			}
			w.bothSee(t)
		})
		t.Run("refuses large objects and texts of its own", func(t *testing.T) {
			must(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				objects := tx.LargeObjects()
				_, err := objects.Create(w.acme, 0)
				mustBe(t, err, pgx.ErrTxClosed)
				return nil
			}))
			for _, o := range []pgx.TxOptions{{BeginQuery: "BEGIN"}, {CommitQuery: "COMMIT"}} {
				_, err := w.pool.BeginTx(w.acme, o)
				mustBe(t, err, isolation.ErrTransactionControl)
			}
			if _, err := w.pool.BeginTx(w.acme, pgx.TxOptions{IsoLevel: "read committed; COMMIT"}); err == nil {
				t.Error("began with a text")
			}
		})
		w.bothSee(t)
		w.made.clean(t)
	})
}

func TestPoolConn(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, path through, w *world) {
		if path == pgbouncer {
			_, err := w.pool.Acquire(w.acme)
			mustBe(t, err, isolation.ErrSessionUnsupported)
			w.bothSee(t)
			return
		}
		_, err := w.pool.Acquire(t.Context())
		mustBe(t, err, tenancy.ErrNoTenant)
		must(t, w.pool.AcquireFunc(w.acme, func(c *tenantpgx.PoolConn) error {
			sees(t, w.acme, c, "of acme")
			sees(t, t.Context(), c, "of acme") // inherits
			_, err := bodies(w.other, c)
			mustBe(t, err, tenancy.ErrTenantMismatch)
			_, err = c.Exec(w.acme, "CREATE TEMP TABLE mine (x int)")
			must(t, err)
			n, err := c.CopyFrom(w.acme, pgx.Identifier{"mine"}, []string{"x"}, pgx.CopyFromRows([][]any{{1}, {2}}))
			must(t, err)
			if n != 2 {
				t.Errorf("copied %d", n)
			}
			_, err = c.Exec(w.acme, "VACUUM") // runs, unbound
			must(t, err)
			_, err = c.Exec(w.acme, "DO $$ BEGIN INSERT INTO notes (body) VALUES ('never'); COMMIT; END $$")
			mustBe(t, err, isolation.ErrNoTransaction)
			must(t, c.Ping(w.acme))
			tx, err := c.Begin(w.acme)
			must(t, err)
			if _, err := c.Begin(w.acme); err == nil {
				t.Error("a second transaction")
			}
			add(t, w.acme, c, "never") // in the transaction
			must(t, tx.Rollback(w.acme))
			sees(t, w.acme, c, "of acme")
			var b pgx.Batch
			b.Queue("SELECT body FROM notes")
			return c.SendBatch(w.acme, &b).Close()
		}))
		if _, err := w.pool.Exec(w.acme, "SELECT * FROM mine"); err == nil {
			t.Error("a temporary table outlived its lease")
		}
		mustPanic(t, func() {
			_ = w.pool.AcquireFunc(w.acme, func(*tenantpgx.PoolConn) error { panic("boom") })
		})
		c, err := w.pool.Acquire(w.acme)
		must(t, err)
		tx, err := c.Begin(w.acme)
		must(t, err)
		add(t, w.acme, tx, "never")
		inner, err := tx.Begin(w.acme)
		must(t, err)
		rows, err := inner.Query(w.acme, "SELECT body FROM notes, generate_series(1, 20000)")
		must(t, err)
		rows.Next()
		c.Release()
		c.Release()
		rows.Close()
		mustBe(t, second(inner.Exec(w.acme, "SELECT 1")), pgx.ErrTxClosed)
		mustBe(t, inner.Rollback(w.acme), pgx.ErrTxClosed)
		mustBe(t, tx.Commit(w.acme), pgx.ErrTxClosed)
		mustBe(t, tx.Rollback(w.acme), pgx.ErrTxClosed)
		w.bothSee(t)
		for name, err := range map[string]error{
			"Exec":      second(c.Exec(w.acme, "SELECT 1")),
			"Query":     second(c.Query(w.acme, "SELECT 1")),
			"QueryRow":  c.QueryRow(w.acme, "SELECT 1").Scan(new(int)),
			"SendBatch": c.SendBatch(w.acme, &pgx.Batch{}).Close(),
			"CopyFrom":  second(c.CopyFrom(w.acme, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows(nil))),
			"Begin":     second(c.Begin(w.acme)),
			"Ping":      c.Ping(w.acme),
		} {
			if err == nil {
				t.Errorf("%s on a released connection", name)
			}
		}
		w.bothSee(t)
		w.made.clean(t)
	})
}

func TestPoolSystemScope(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, _ through, w *world) {
		system := tenancy.AsSystem(t.Context(), "count")
		sees(t, system, w.pool, "of acme", "of other")
		n, err := w.pool.CopyFrom(system, pgx.Identifier{"notes"}, []string{"tenant_id", "body"},
			pgx.CopyFromRows([][]any{{"acme", "copied"}, {"other", "copied"}}))
		must(t, err)
		if n != 2 {
			t.Errorf("copied %d", n)
		}
		sees(t, w.acme, w.pool, "of acme", "copied")
		must(t, pgx.BeginFunc(system, w.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(system, "DELETE FROM notes WHERE body = 'copied'")
			return err
		}))
		w.bothSee(t)
	})
}

func TestPoolNeedsItsOwnConnector(t *testing.T) {
	t.Parallel()
	w := open(t, direct)
	config, err := pgx.ParseConfig(w.url)
	must(t, err)
	server := w.config.Servers["main"].(isolation.PostgreSQL)
	server.App = stdlib.GetConnector(*config)
	db, err := isolation.Open(isolation.Config{Servers: map[string]isolation.Server{"main": server}})
	must(t, err)
	pool := tenantpgx.New(db)
	_, err = pool.Exec(w.acme, "SELECT 1")
	mustBe(t, err, isolation.ErrUnsupported)
	if s := pool.Stat(); s.Open != s.Idle {
		t.Errorf("stats %+v", s)
	}
	must(t, pool.Close())
	_, err = pool.Exec(w.acme, "SELECT 1")
	mustBe(t, err, isolation.ErrClosed)
}

// state returns the SQLSTATE of an error.
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func second[T any](_ T, err error) error { return err }

// must1 returns the first of two results and fails the test with the second.
func must1(t testing.TB) func(pgx.Rows, error) pgx.Rows {
	return func(r pgx.Rows, err error) pgx.Rows {
		t.Helper()
		must(t, err)
		return r
	}
}

func mustPanic(t testing.TB, fn func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
	}()
	fn()
}
