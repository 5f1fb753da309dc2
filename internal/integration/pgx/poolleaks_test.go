package pgx_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// The tests of this file are named after the known leaks, and show that a Pool has none of them.
// Each fails when its defence is taken away.

func TestC01PoolNextBorrowerSeesItsOwn(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for range 5 {
			w.bothSee(t)
			w.made.clean(t)
		}
	})
}

func TestC02PoolMoreGoroutinesThanConnections(t *testing.T) {
	t.Parallel()
	each(t, options{pool: isolation.PoolConfig{MaxConns: 3, MaxPerTenant: 3}}, func(t *testing.T, _ through, w *world) {
		hammer(t, w)
		w.made.clean(t)
	})
}

// hammer reads and writes as both tenants from many goroutines, by every way that a Pool has, and
// checks every answer.
func hammer(t *testing.T, w *world) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 32 {
		ctx, own := w.acme, "of acme"
		if i%2 == 1 {
			ctx, own = w.other, "of other"
		}
		wg.Go(func() {
			for j := range 20 {
				all, err := work(ctx, w.pool, j, own)
				if err != nil {
					t.Error(err)
					return
				}
				for _, body := range all {
					if body != own {
						t.Errorf("a reader of %q saw %q", own, body)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for ctx, own := range map[context.Context]string{w.acme: "of acme", w.other: "of other"} {
		all, err := bodies(ctx, w.pool)
		must(t, err)
		if want := 1 + 16*4*4; len(all) != want {
			t.Errorf("%q has %d notes, want %d", own, len(all), want)
		}
	}
	if s := w.pool.Stat(); s.Open != s.Idle {
		t.Errorf("stats %+v", s)
	}
}

// work writes a note, by a way that j chooses, and returns what it sees; each fifth j writes none.
func work(ctx context.Context, pool *tenantpgx.Pool, j int, own string) (all []string, err error) {
	const insert = "INSERT INTO notes (body) VALUES ($1)"
	switch j % 5 {
	case 0:
		_, err = pool.Exec(ctx, insert, own)
	case 1:
		var b pgx.Batch
		b.Queue(insert, own)
		b.Queue("SELECT body FROM notes").Query(func(rows pgx.Rows) error {
			all, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return all, pool.SendBatch(ctx, &b).Close()
	case 2:
		return all, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, own); err != nil {
				return err
			}
			all, err = bodies(ctx, tx)
			return err
		})
	case 3:
		_, err = pool.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows([][]any{{own}}))
	}
	if err != nil {
		return nil, err
	}
	return bodies(ctx, pool)
}

const slow = "INSERT INTO notes (body) SELECT 'never' FROM pg_sleep(60)"

func TestC03PoolCancelledContextLeavesNoBinding(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for name, run := range map[string]func(ctx context.Context) error{
			"Exec":  func(ctx context.Context) error { return second(w.pool.Exec(ctx, slow)) },
			"Query": func(ctx context.Context) error { return second(bodiesOf(ctx, w.pool, slow+" RETURNING body")) },
			"QueryRow": func(ctx context.Context) error {
				return w.pool.QueryRow(ctx, slow+" RETURNING body").Scan(new(string))
			},
			"a transaction": func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
					if _, err := tx.Exec(ctx, "INSERT INTO notes (body) VALUES ('never')"); err != nil {
						return err
					}
					return second(tx.Exec(ctx, slow))
				})
			},
			"a batch": func(ctx context.Context) error {
				var b pgx.Batch
				b.Queue("INSERT INTO notes (body) VALUES ('never')")
				b.Queue(slow)
				return w.pool.SendBatch(ctx, &b).Close()
			},
			"a copy": func(ctx context.Context) error {
				return second(w.pool.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromFunc(func() ([]any, error) {
					<-ctx.Done()
					return []any{"never"}, nil
				})))
			},
		} {
			ctx, cancel := context.WithTimeout(w.acme, 100*time.Millisecond)
			if err := run(ctx); err == nil {
				t.Errorf("%s: a cancelled statement succeeded", name)
			}
			cancel()
			w.bothSee(t)
			w.made.clean(t)
		}
		t.Run("a transaction cannot commit", func(t *testing.T) {
			ctx, cancel := context.WithCancel(w.acme)
			tx, err := w.pool.Begin(ctx)
			must(t, err)
			add(t, ctx, tx, "never")
			cancel()
			mustBe(t, tx.Commit(ctx), context.Canceled)
			w.bothSee(t)
		})
		t.Run("a transaction rolls back", func(t *testing.T) {
			ctx, cancel := context.WithCancel(w.acme)
			tx, err := w.pool.Begin(ctx)
			must(t, err)
			add(t, ctx, tx, "never")
			cancel()
			must(t, tx.Rollback(ctx))
			w.bothSee(t)
		})
		t.Run("before the call", func(t *testing.T) {
			ctx, cancel := context.WithCancel(w.acme)
			cancel()
			mustBe(t, second(w.pool.Exec(ctx, "DELETE FROM notes")), context.Canceled)
			w.bothSee(t)
		})
	})
}

func bodiesOf(ctx context.Context, q dbtx, sql string) ([]string, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func TestC04PoolEveryConnectionIsClean(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, _ through, w *world) {
		var held []pgx.Rows
		for i := range 6 { // six connections at once, of both tenants
			ctx := w.acme
			if i%2 == 1 {
				ctx = w.other
			}
			rows, err := w.pool.Query(ctx, "SELECT body FROM notes")
			must(t, err)
			held = append(held, rows)
		}
		for _, rows := range held {
			rows.Close()
			must(t, rows.Err())
		}
		w.made.clean(t)
	})
}

func TestC05PoolBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	w := openWith(t, pgbouncer, options{server: 2})
	add(t, w.acme, w.pool, "of acme")
	add(t, w.other, w.pool, "of other")
	hammer(t, w)
	w.made.clean(t)
}

func TestC06PoolCallbackErrorRollsBack(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		sentinel := errors.New("the callback's")
		err := pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
			add(t, w.acme, tx, "never")
			return sentinel
		})
		if err != sentinel { //nolint:errorlint // it comes back as it is
			t.Errorf("got %v", err)
		}
		w.bothSee(t)
	})
}

func TestC07PoolPanicRollsBack(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for name, run := range map[string]func(){
			"in a transaction": func() {
				_ = pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
					add(t, w.acme, tx, "never")
					panic("boom")
				})
			},
			"in a transaction with rows open": func() {
				_ = pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
					_, err := tx.Query(w.acme, "INSERT INTO notes (body) VALUES ('never') RETURNING body")
					must(t, err)
					panic("boom")
				})
			},
			"in a value to send": func() { _, _ = w.pool.Exec(w.acme, "INSERT INTO notes (body) VALUES ($1)", exploding{}) },
			"in a value to ask":  func() { _, _ = w.pool.Query(w.acme, "SELECT $1::text", exploding{}) },
			"in a value to read": func() { _ = w.pool.QueryRow(w.acme, "SELECT 'x'").Scan(&exploding{}) },
			"in a batch": func() {
				var b pgx.Batch
				b.Queue("SELECT $1::text", exploding{})
				_ = w.pool.SendBatch(w.acme, &b)
			},
		} {
			t.Run(name, func(t *testing.T) {
				mustPanic(t, run)
				w.bothSee(t)
			})
		}
		w.made.clean(t)
	})
}

// exploding panics wherever pgx asks it something.
type exploding struct{}

func (exploding) Value() (driver.Value, error) { panic("boom") }
func (*exploding) Scan(any) error              { panic("boom") }

func TestC08PoolCallbackRollsBackByItself(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		err := pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
			add(t, w.acme, tx, "never")
			return tx.Rollback(w.acme)
		})
		mustBe(t, err, pgx.ErrTxClosed)
		w.bothSee(t)
		w.made.clean(t)
	})
}

func TestC09PoolKeepsTheSearchPath(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, _ through, w *world) {
		must(t, second(w.admin.Exec(fmt.Sprintf("ALTER ROLE %q SET search_path = public, pg_temp", w.roles.App))))
		must(t, second(w.admin.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", w.roles.App)))
		for _, ctx := range []context.Context{w.acme, w.other, w.acme} {
			var path string
			eventually(t, "a new session", func() bool { return w.pool.QueryRow(ctx, "SHOW search_path").Scan(&path) == nil })
			if path != "public, pg_temp" {
				t.Errorf("search_path is %q", path)
			}
		}
	})
}

func TestC10PoolMeetsAChangedTable(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		columns := func(ctx context.Context, q dbtx) int {
			rows, err := q.Query(ctx, "SELECT * FROM notes")
			must(t, err)
			rows.Next()
			values, err := rows.Values()
			must(t, err)
			rows.Close()
			must(t, rows.Err())
			return len(values)
		}
		before := columns(w.acme, w.pool)
		for i := range 3 {
			must(t, second(w.admin.Exec(fmt.Sprintf("ALTER TABLE notes ADD COLUMN extra%d int DEFAULT 7", i))))
			for _, ctx := range []context.Context{w.other, w.acme} {
				if n := columns(ctx, w.pool); n != before+i+1 {
					t.Errorf("%d columns, want %d", n, before+i+1)
				}
			}
		}
		batch := func(ctx context.Context) error {
			var b pgx.Batch
			b.Queue("INSERT INTO notes (body) VALUES ('batch')")
			b.Queue("SELECT * FROM notes")
			b.Queue("DELETE FROM notes WHERE body = 'batch'")
			return w.pool.SendBatch(ctx, &b).Close()
		}
		must(t, batch(w.acme))
		must(t, second(w.admin.Exec("ALTER TABLE notes ADD COLUMN more int")))
		if err := batch(w.other); err == nil {
			t.Error("a batch over a changed table was repeated in part")
		}
		w.bothSee(t) // all of it was taken back
		must(t, batch(w.other))
		must(t, batch(w.acme))
		must(t, second(w.admin.Exec("ALTER TABLE notes DROP COLUMN more, ALTER COLUMN extra0 TYPE text")))
		if n := columns(w.acme, w.pool); n != before+3 {
			t.Errorf("%d columns", n)
		}
	})
}

func TestC11PoolLostConnection(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, path through, w *world) {
		kill := func(where string) {
			eventually(t, "a session to kill", func() bool {
				var n int
				must(t, w.admin.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = $1 AND usename = $2 AND `+where, w.name, w.roles.App).Scan(&n))
				return n > 0
			})
		}
		t.Run("in a transaction is an error", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			add(t, w.acme, tx, "never")
			kill("state = 'idle in transaction'")
			_, err = tx.Exec(w.acme, "INSERT INTO notes (body) VALUES ('never either')")
			if err == nil || errors.Is(err, driver.ErrBadConn) {
				t.Errorf("got %v", err)
			}
			if err := tx.Commit(w.acme); err == nil {
				t.Error("the transaction was committed")
			}
			w.bothSee(t)
		})
		t.Run("before a commit is an error", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			add(t, w.acme, tx, "never")
			kill("state = 'idle in transaction'")
			if err := tx.Commit(w.acme); err == nil || errors.Is(err, driver.ErrBadConn) {
				t.Errorf("got %v", err)
			}
			w.bothSee(t)
		})
		for name, run := range map[string]func() error{
			"a statement": func() error { return second(w.pool.Exec(w.acme, slow)) },
			"rows":        func() error { return second(bodiesOf(w.acme, w.pool, slow+" RETURNING body")) },
			"a batch": func() error {
				var b pgx.Batch
				b.Queue("INSERT INTO notes (body) VALUES ('never')")
				b.Queue(slow)
				return w.pool.SendBatch(w.acme, &b).Close()
			},
		} {
			t.Run("in "+name+" is an error and not a second try", func(t *testing.T) {
				failed := make(chan error, 1)
				go func() { failed <- run() }()
				kill("wait_event = 'PgSleep'") // before it the statement has not begun, and may be tried again
				select {
				case err := <-failed:
					if err == nil || errors.Is(err, driver.ErrBadConn) {
						t.Errorf("got %v", err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("the statement was tried again")
				}
				w.bothSee(t)
			})
		}
		t.Run("of an unused connection is not noticed", func(t *testing.T) {
			w.bothSee(t)
			kill("state = 'idle'")
			if path == pgbouncer { // the connection is the pooler's, which may hand it out before it knows
				for _, ctx := range []context.Context{w.acme, w.other} {
					eventually(t, "an answer", func() bool { _, err := bodies(ctx, w.pool); return err == nil })
				}
				w.bothSee(t)
				return
			}
			eventually(t, "the end of the sessions", func() bool {
				var n int
				must(t, w.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename = $2", w.name, w.roles.App).Scan(&n))
				return n == 0
			})
			w.bothSee(t)
		})
	})
}

func TestC12PoolOtherTenantInside(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, _ through, w *world) {
		tx, err := w.pool.Begin(w.acme)
		must(t, err)
		add(t, w.acme, tx, "never")
		sees(t, t.Context(), tx, "of acme", "never") // a call without a tenant inherits
		scope, err := tenancy.ScopeOf(w.acme)
		must(t, err)
		moved := scope.Tenant.Clone()
		moved.Placement.Generation++
		for name, ctx := range map[string]context.Context{
			"another tenant": w.other,
			"the system":     tenancy.AsSystem(t.Context(), "test"),
			"after a move":   tenancy.UnsafeBind(t.Context(), moved, "test"),
		} {
			var b pgx.Batch
			b.Queue("SELECT 1")
			for call, err := range map[string]error{
				"Query":     second(bodies(ctx, tx)),
				"Exec":      second(tx.Exec(ctx, "DELETE FROM notes")),
				"QueryRow":  tx.QueryRow(ctx, "SELECT 1").Scan(new(int)),
				"SendBatch": tx.SendBatch(ctx, &b).Close(),
				"CopyFrom":  second(tx.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows(nil))),
				"Begin":     second(tx.Begin(ctx)),
				"Prepare":   second(tx.Prepare(ctx, "x", "SELECT 1")),
			} {
				if !errors.Is(err, tenancy.ErrTenantMismatch) {
					t.Errorf("%s as %s: %v", call, name, err)
				}
			}
		}
		mustBe(t, tx.Commit(w.other), tenancy.ErrTenantMismatch)
		mustBe(t, tx.Commit(w.acme), pgx.ErrTxClosed)
		w.bothSee(t)
	})
}

func TestC13PoolNoTenant(t *testing.T) {
	t.Parallel()
	each(t, options{}, func(t *testing.T, _ through, w *world) {
		for name, ctx := range map[string]context.Context{
			"none":            t.Context(),
			"an empty reason": tenancy.AsSystem(t.Context(), " "),
			"an inactive one": tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: "x", Slug: "x", Status: tenancy.StatusSuspended}, "test"),
			"a nameless one":  tenancy.UnsafeBind(t.Context(), tenancy.Tenant{Slug: "x", Status: tenancy.StatusActive}, "test"),
		} {
			var b pgx.Batch
			b.Queue("DELETE FROM notes")
			rows, err := w.pool.Query(ctx, "SELECT body FROM notes")
			if err == nil || rows.Next() || rows.Err() == nil {
				t.Errorf("%s: queried, %v", name, rows.Err())
			}
			for call, err := range map[string]error{
				"Exec":      second(w.pool.Exec(ctx, "DELETE FROM notes")),
				"QueryRow":  w.pool.QueryRow(ctx, "SELECT body FROM notes").Scan(new(string)),
				"SendBatch": w.pool.SendBatch(ctx, &b).Close(),
				"CopyFrom":  second(w.pool.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows(nil))),
				"Begin":     second(w.pool.Begin(ctx)),
				"Acquire":   second(w.pool.Acquire(ctx)),
			} {
				if err == nil || name == "none" && !errors.Is(err, tenancy.ErrNoTenant) {
					t.Errorf("%s: %s: %v", name, call, err)
				}
			}
		}
		must(t, w.pool.Ping(t.Context()))
		must(t, w.pool.Ping(w.acme))
		w.bothSee(t)
		if s := w.pool.Stat(); s.Open != s.Idle {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestC14PoolStatementsBelongToNobody(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for range 3 { // prepared by one, used by the other
			for ctx, own := range map[context.Context]string{w.acme: "of acme", w.other: "of other"} {
				must(t, pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
					_, err := tx.Prepare(ctx, "read", "SELECT body FROM notes WHERE body <> $1")
					must(t, err)
					for _, text := range []string{"read", "SELECT body FROM notes WHERE body <> $1"} {
						var body string
						must(t, tx.QueryRow(ctx, text, "x").Scan(&body))
						if body != own {
							t.Errorf("saw %q, want %q", body, own)
						}
					}
					return nil
				}))
			}
		}
	})
}

func TestC15PoolRowsLeftOpen(t *testing.T) {
	t.Parallel()
	const many = "SELECT body FROM notes, generate_series(1, 20000)"
	each(t, options{pool: one}, func(t *testing.T, path through, w *world) {
		t.Run("of a statement", func(t *testing.T) {
			rows, err := w.pool.Query(w.acme, many)
			must(t, err)
			rows.Next()
			rows.Close()
			must(t, rows.Err())
			w.bothSee(t)
		})
		t.Run("of a transaction", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			rows, err := tx.Query(w.acme, many)
			must(t, err)
			rows.Next()
			if _, err := tx.Exec(w.acme, "SELECT 1"); err == nil {
				t.Error("ran a statement between rows")
			}
			if err := tx.Commit(w.acme); err == nil {
				t.Error("committed between rows")
			}
			w.bothSee(t)
			rows.Close()
			w.bothSee(t)
		})
		t.Run("of a transaction go on after what was refused between", func(t *testing.T) {
			must(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				rows, err := tx.Query(w.acme, many)
				must(t, err)
				rows.Next()
				if _, err := tx.Exec(w.acme, "SELECT 1"); err == nil {
					t.Error("ran a statement between rows")
				}
				n := 1
				for rows.Next() {
					n++
				}
				if n != 20000 || rows.Err() != nil {
					t.Errorf("%d rows, %v", n, rows.Err())
				}
				return second(tx.Exec(w.acme, "SELECT 1"))
			}))
		})
		t.Run("of a batch", func(t *testing.T) {
			var b pgx.Batch
			b.Queue(many)
			b.Queue(many)
			results := w.pool.SendBatch(w.acme, &b)
			rows, err := results.Query()
			must(t, err)
			rows.Next()
			must(t, results.Close())
			w.bothSee(t)
			if rows.Next() {
				t.Error("rows outlived their batch")
			}
		})
		t.Run("of a leased connection", func(t *testing.T) {
			c, err := w.pool.Acquire(w.acme)
			if path == pgbouncer {
				mustBe(t, err, isolation.ErrSessionUnsupported)
				return
			}
			must(t, err)
			rows, err := c.Query(w.acme, many)
			must(t, err)
			rows.Next()
			if _, err := c.Exec(w.acme, "SELECT 1"); err == nil {
				t.Error("ran a statement between rows")
			}
			c.Release()
			w.bothSee(t)
			rows.Close()
			w.bothSee(t)
		})
		w.made.clean(t)
	})
}

func TestC16PoolEmptySettingRaises(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		w.bothSee(t) // the setting now exists and is ''
		c := w.made.conns[0].Conn()
		for _, text := range []string{
			"SELECT body FROM notes", "INSERT INTO notes (body) VALUES ('x')", "UPDATE notes SET body = 'x'", "DELETE FROM notes",
			"INSERT INTO notes (tenant_id, body) VALUES ('', 'x')",
		} {
			if _, err := c.Exec(t.Context(), text); err == nil || !strings.Contains(err.Error(), "no tenant is bound") {
				t.Errorf("%s: %v", text, err)
			}
		}
		w.bothSee(t)
	})
}

func TestC17PoolStatementsBehindAPooler(t *testing.T) {
	t.Parallel()
	w := openWith(t, pgbouncer, options{server: 2})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				err := pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
					if _, err := tx.Prepare(w.acme, "count", "SELECT count(*) FROM notes WHERE body = $1"); err != nil {
						return err
					}
					return tx.QueryRow(w.acme, "count", "x").Scan(new(int))
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestC19PoolSettingForTheSession(t *testing.T) {
	t.Parallel()
	const set = "SELECT set_config('app.tenant_id', 'acme', false)"
	each(t, options{pool: one}, func(t *testing.T, path through, w *world) {
		for name, run := range map[string]func() error{
			"Exec":     func() error { return second(w.pool.Exec(w.acme, set)) },
			"QueryRow": func() error { return w.pool.QueryRow(w.acme, set).Scan(new(string)) },
			"SET":      func() error { return second(w.pool.Exec(w.acme, "SET app.tenant_id = 'acme'")) },
			"a batch": func() error {
				var b pgx.Batch
				b.Queue("SELECT 1")
				b.Queue(set)
				return w.pool.SendBatch(w.acme, &b).Close()
			},
			"a transaction": func() error {
				return pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error { return second(tx.Exec(w.acme, set)) })
			},
			"the connection of a transaction": func() error {
				return pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error { return second(tx.Conn().Exec(w.acme, set)) })
			},
			"a leased connection": func() error {
				if path == pgbouncer {
					return nil
				}
				return w.pool.AcquireFunc(w.acme, func(c *tenantpgx.PoolConn) error { return second(c.Exec(w.acme, set)) })
			},
		} {
			must(t, run())
			t.Run(name, func(t *testing.T) {
				w.bothSee(t)
				must(t, run())
				w.made.clean(t)
			})
		}
	})
}

func TestC20PoolTransactionControl(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for _, text := range []string{
			"BEGIN", "begin isolation level serializable", " /* x */ COMMIT", "-- y\nROLLBACK", ";END", "START TRANSACTION",
			"ABORT", "/* a /* nested */ b */ commit", "PREPARE TRANSACTION 'x'",
		} {
			mustBe(t, second(w.pool.Exec(w.acme, text)), isolation.ErrTransactionControl)
			mustBe(t, second(w.pool.Query(w.acme, text)), isolation.ErrTransactionControl)
			var b pgx.Batch
			b.Queue("INSERT INTO notes (body) VALUES ('never')")
			b.Queue(text)
			mustBe(t, w.pool.SendBatch(w.acme, &b).Close(), isolation.ErrTransactionControl)
			mustBe(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				add(t, w.acme, tx, "never")
				return second(tx.Exec(w.acme, text))
			}), isolation.ErrTransactionControl)
		}
		for _, text := range []string{
			"DO $$ BEGIN INSERT INTO notes (body) VALUES ('never'); COMMIT; END $$", "VACUUM",
		} {
			mustBe(t, second(w.pool.Exec(w.acme, text)), isolation.ErrNoTransaction)
			mustBe(t, second(bodiesOf(w.acme, w.pool, text)), isolation.ErrNoTransaction)
		}
		mustBe(t, second(w.pool.Exec(w.acme, "SELECT 1; COMMIT; SELECT 2")), isolation.ErrSeveralStatements)
		w.bothSee(t)
		w.made.clean(t)
	})
}

func TestC21PoolSessionFeatures(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, path through, w *world) {
		// A temporary table would come before the walled one.
		must(t, second(w.pool.Exec(w.acme, "CREATE TEMP TABLE notes AS SELECT 1::bigint AS id, 'shadow'::text AS body")))
		w.bothSee(t)
		if path == pgbouncer { // a lock is the server's connection's, see docs/STRATEGIES.md
			return
		}
		must(t, second(w.pool.Exec(w.acme, "SELECT pg_advisory_lock(42)")))
		var locks int
		must(t, w.pool.QueryRow(w.other, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()").Scan(&locks))
		if locks != 0 {
			t.Error("an advisory lock outlived its statement's connection")
		}
	})
}

func TestC22PoolFloodStarvesNobody(t *testing.T) {
	t.Parallel()
	each(t, options{pool: isolation.PoolConfig{MaxConns: 4, MaxPerTenant: 2}}, func(t *testing.T, _ through, w *world) {
		ctx, cancel := context.WithCancel(w.acme)
		var wg sync.WaitGroup
		for range 20 { // two hold a connection, the others wait for one
			wg.Go(func() {
				tx, err := w.pool.Begin(ctx)
				if err != nil {
					return
				}
				<-ctx.Done()
				_ = tx.Rollback(ctx)
			})
		}
		eventually(t, "a flood", func() bool { return w.pool.Stat().Waiting >= 10 })
		for range 5 {
			sees(t, w.other, w.pool, "of other")
		}
		short, stop := context.WithTimeout(w.acme, 50*time.Millisecond)
		defer stop()
		err := second(w.pool.Exec(short, "SELECT 1"))
		mustBe(t, err, isolation.ErrPoolExhausted)
		mustBe(t, err, context.DeadlineExceeded)
		// The budget is one with that of the DB.
		short, stop = context.WithTimeout(w.acme, 50*time.Millisecond)
		defer stop()
		_, err = w.db.ExecContext(short, "SELECT 1")
		mustBe(t, err, isolation.ErrPoolExhausted)
		cancel()
		wg.Wait()
	})
}
