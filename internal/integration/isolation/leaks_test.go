package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// The tests of this file are named after the known leaks. Each fails when its defence is taken
// away.

func TestC01NextBorrowerSeesItsOwn(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		for range 5 {
			sees(t, c.acme, c.db, "of acme")
			sees(t, c.globex, c.db, "of globex")
		}
		if a.shared {
			inner.clean(t)
		}
	})
}

func TestC02MoreGoroutinesThanConnections(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, func(config *isolation.Config) { config.Pool.MaxConns, config.Pool.MaxPerTenant = 3, 3 })
		hammer(t, c)
	})
}

// hammer reads and writes as both tenants from many goroutines and checks every answer.
func hammer(t *testing.T, c *cell) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 32 {
		ctx, own := c.acme, "of acme"
		if i%2 == 1 {
			ctx, own = c.globex, "of globex"
		}
		wg.Go(func() {
			for j := range 25 {
				if j%5 == 0 {
					if _, err := c.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", own); err != nil {
						t.Error(err)
						return
					}
				}
				all, err := bodies(ctx, c.db)
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
	for ctx, own := range map[context.Context]string{c.acme: "of acme", c.globex: "of globex"} {
		all, err := bodies(ctx, c.db)
		must(t, err)
		if len(all) != 1+16*5 {
			t.Errorf("%q has %d notes, want %d", own, len(all), 1+16*5)
		}
	}
}

// slow is a statement that runs until it is cancelled, and writes.
func slow(a access) string {
	if a.shared {
		return "INSERT INTO notes (body) SELECT 'never' FROM pg_sleep(60)"
	}
	return `INSERT INTO notes (body)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'never' FROM n WHERE i < 0`
}

func TestC03CancelledContextLeavesNoBinding(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		for name, run := range map[string]func(ctx context.Context) error{
			"a statement": func(ctx context.Context) error {
				_, err := c.db.ExecContext(ctx, slow(a))
				return err
			},
			"a transaction": func(ctx context.Context) error {
				return c.db.InTx(ctx, nil, func(tx *sql.Tx) error {
					if _, err := tx.ExecContext(ctx, "INSERT INTO notes (body) VALUES ('never')"); err != nil {
						return err
					}
					_, err := tx.ExecContext(ctx, slow(a))
					return err
				})
			},
		} {
			ctx, cancel := context.WithTimeout(c.acme, 100*time.Millisecond)
			if err := run(ctx); err == nil {
				t.Errorf("%s: a cancelled statement succeeded", name)
			}
			cancel()
			sees(t, c.globex, c.db, "of globex")
			sees(t, c.acme, c.db, "of acme")
		}
		if a.shared {
			inner.clean(t)
		}
	})
}

func TestC03CancelledTransactionCannotCommit(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, one)
		ctx, cancel := context.WithCancel(c.acme)
		tx, err := c.db.BeginTx(ctx, nil)
		must(t, err)
		_, err = tx.ExecContext(ctx, "INSERT INTO notes (body) VALUES ('never')")
		must(t, err)
		cancel()
		if err := tx.Commit(); err == nil {
			t.Error("a cancelled transaction was committed")
		}
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestC04EveryConnectionIsClean(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, inner.option)
		var held []*sql.Rows
		for i := range 6 { // six connections at once, of both tenants
			ctx := c.acme
			if i%2 == 1 {
				ctx = c.globex
			}
			rows, err := c.db.QueryContext(ctx, "SELECT body FROM notes")
			must(t, err)
			held = append(held, rows)
		}
		for _, rows := range held {
			must(t, rows.Close())
		}
		inner.clean(t)
	})
}

func TestC05TransactionPooler(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	bouncer := servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: 2})
	c := openPostgres(t, tenancy.StrategyRowLevel, pg, bouncer, pipelined(t), nil)
	hammer(t, c)
}

func TestC06CallbackErrorRollsBack(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, one)
		sentinel := errors.New("the callback's")
		err := c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
			must(t, err)
			return sentinel
		})
		if err != sentinel { //nolint:errorlint // it comes back as it is
			t.Errorf("got %v", err)
		}
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestC07PanicRollsBack(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, one)
		func() {
			defer func() {
				if recover() != "boom" {
					t.Error("the panic was swallowed")
				}
			}()
			_ = c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
				must(t, err)
				panic("boom")
			})
		}()
		sees(t, c.acme, c.db, "of acme")
		sees(t, c.globex, c.db, "of globex")
	})
}

func TestC08CallbackRollsBackByItself(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		err := c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
			must(t, err)
			return tx.Rollback()
		})
		mustBe(t, err, sql.ErrTxDone)
		sees(t, c.globex, c.db, "of globex")
		sees(t, c.acme, c.db, "of acme")
		if a.shared {
			inner.clean(t)
		}
	})
}

func TestC09SearchPathOfTheDSNStays(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	_, err := c.admin.Exec(fmt.Sprintf(`ALTER ROLE %q SET search_path = public, pg_temp`, c.roles.App))
	must(t, err)
	c.db, err = isolation.Open(c.config) // new connections
	must(t, err)
	defer c.db.Close()
	for _, ctx := range []context.Context{c.acme, c.globex, c.acme} {
		var path string
		must(t, c.db.QueryRowContext(ctx, "SHOW search_path").Scan(&path))
		if path != "public, pg_temp" {
			t.Errorf("search_path is %q", path)
		}
	}
}

func TestC10ChangedTable(t *testing.T) {
	t.Parallel()
	each(t, isRows, func(t *testing.T, a access) {
		c := a.open(t, one)
		const query = "SELECT * FROM notes"
		columns := func(ctx context.Context) int {
			rows, err := c.db.QueryContext(ctx, query)
			var stale *pgconn.PgError
			if !a.bound && errors.As(err, &stale) && stale.Code == "0A000" {
				rows, err = c.db.QueryContext(ctx, query) // pgx stdlib itself fails once after a change
			}
			must(t, err)
			defer rows.Close()
			names, err := rows.Columns()
			must(t, err)
			return len(names)
		}
		before := columns(c.acme)
		_, err := c.admin.Exec("ALTER TABLE notes ADD COLUMN extra text")
		must(t, err)
		for _, ctx := range []context.Context{c.globex, c.acme} {
			if n := columns(ctx); n != before+1 {
				t.Errorf("%d columns, want %d", n, before+1)
			}
		}
	})
}

func TestC11LostConnection(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		c := a.open(t)
		kill := func(where string) {
			eventually(t, "a session to kill", func() bool {
				var n int
				must(t, c.admin.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = $1 AND usename = $2 AND `+where, c.name, c.roles.App).Scan(&n))
				return n > 0
			})
		}
		t.Run("in a transaction is an error", func(t *testing.T) {
			tx, err := c.db.BeginTx(c.acme, nil)
			must(t, err)
			_, err = tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never')")
			must(t, err)
			kill("state = 'idle in transaction'")
			_, err = tx.ExecContext(c.acme, "INSERT INTO notes (body) VALUES ('never either')")
			if err == nil || errors.Is(err, driver.ErrBadConn) {
				t.Errorf("got %v", err)
			}
			if err := tx.Commit(); err == nil {
				t.Error("the transaction was committed")
			}
			sees(t, c.acme, c.db, "of acme")
		})
		t.Run("in a statement is an error and not a second try", func(t *testing.T) {
			failed := make(chan error, 1)
			go func() {
				_, err := c.db.ExecContext(c.acme, slow(a))
				failed <- err
			}()
			kill("wait_event = 'PgSleep'")
			select {
			case err := <-failed:
				if err == nil || errors.Is(err, driver.ErrBadConn) {
					t.Errorf("got %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the statement was tried again")
			}
			sees(t, c.acme, c.db, "of acme")
		})
		t.Run("of an unused connection is not noticed", func(t *testing.T) {
			sees(t, c.acme, c.db, "of acme")
			kill("state = 'idle'")
			if a.pooled { // the connection is the pooler's, which may hand it out before it knows
				answersAgain(t, c)
				return
			}
			eventually(t, "the end of the session", func() bool {
				var n int
				must(t, c.admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename = $2", c.name, c.roles.App).Scan(&n))
				return n == 0
			})
			sees(t, c.globex, c.db, "of globex")
		})
	})
}

// answersAgain waits until each tenant gets an answer, which must be its own rows.
func answersAgain(t *testing.T, c *cell) {
	t.Helper()
	for ctx, own := range map[context.Context]string{c.acme: "of acme", c.globex: "of globex"} {
		var got []string
		eventually(t, "an answer", func() bool {
			var err error
			got, err = bodies(ctx, c.db)
			return err == nil
		})
		if !slices.Equal(got, []string{own}) {
			t.Errorf("saw %q, want %q", got, own)
		}
	}
}

func TestC12OtherTenantInside(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		t.Run("a transaction", func(t *testing.T) {
			tx, err := c.db.BeginTx(c.acme, nil)
			must(t, err)
			defer func() { _ = tx.Rollback() }()
			sees(t, c.acme, tx, "of acme")
			_, err = bodies(c.globex, tx)
			mustBe(t, err, tenancy.ErrTenantMismatch)
			_, err = bodies(tenancy.AsSystem(t.Context(), "test"), tx)
			mustBe(t, err, tenancy.ErrTenantMismatch)
			sees(t, t.Context(), tx, "of acme") // a call without a tenant inherits
		})
		t.Run("a leased connection", func(t *testing.T) {
			conn, err := c.db.Conn(c.acme)
			must(t, err)
			defer conn.Close()
			_, err = bodies(c.globex, conn)
			mustBe(t, err, tenancy.ErrTenantMismatch)
			if a.pooled || a.shared && !a.bound {
				_, err = bodies(t.Context(), conn)
				mustBe(t, err, isolation.ErrSessionUnsupported)
				return
			}
			sees(t, t.Context(), conn, "of acme")
			sees(t, c.acme, conn, "of acme")
		})
		t.Run("after a move", func(t *testing.T) {
			tx, err := c.db.BeginTx(c.acme, nil)
			must(t, err)
			defer func() { _ = tx.Rollback() }()
			scope, err := tenancy.ScopeOf(c.acme)
			must(t, err)
			moved := scope.Tenant.Clone()
			moved.Placement.Generation++
			_, err = bodies(tenancy.UnsafeBind(t.Context(), moved, "test"), tx)
			mustBe(t, err, tenancy.ErrTenantMismatch)
		})
	})
}

func TestC13NoTenant(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t)
		sees(t, c.acme, c.db, "of acme")
		for name, ctx := range map[string]context.Context{
			"none":             t.Context(),
			"an empty reason":  tenancy.AsSystem(t.Context(), " "),
			"an inactive one":  tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: "x", Slug: "x", Status: tenancy.StatusSuspended}, "test"),
			"a nameless one":   tenancy.UnsafeBind(t.Context(), tenancy.Tenant{Slug: "x", Status: tenancy.StatusActive}, "test"),
			"an unplaced file": nil,
		} {
			if ctx == nil {
				if a.shared {
					continue
				}
				ctx = tenancy.UnsafeBind(t.Context(), tenant("never-provisioned"), "test")
			}
			if all, err := bodies(ctx, c.db); err == nil {
				t.Errorf("%s: saw %q", name, all)
			}
			if _, err := c.db.ExecContext(ctx, "DELETE FROM notes"); err == nil {
				t.Errorf("%s: deleted", name)
			}
			if tx, err := c.db.BeginTx(ctx, nil); err == nil {
				_, err = bodies(ctx, tx)
				_ = tx.Rollback()
				if err == nil {
					t.Errorf("%s: began", name)
				}
			}
		}
		_, err := c.db.Query("SELECT body FROM notes")
		mustBe(t, err, tenancy.ErrNoTenant)
		must(t, c.db.Ping())
		must(t, c.db.PingContext(c.acme))
		sees(t, c.acme, c.db, "of acme")
		sees(t, c.globex, c.db, "of globex")
	})
}

func TestC14PreparedUnderOneTenantRunsInTheOther(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, one)
		for _, prepare := range []context.Context{c.acme, context.Background()} {
			stmt, err := c.db.PrepareContext(prepare, "SELECT body FROM notes WHERE body <> $1")
			must(t, err)
			for range 3 {
				for ctx, own := range map[context.Context]string{c.acme: "of acme", c.globex: "of globex"} {
					var body string
					must(t, stmt.QueryRowContext(ctx, "x").Scan(&body))
					if body != own {
						t.Errorf("saw %q, want %q", body, own)
					}
				}
			}
			var body string
			mustBe(t, stmt.QueryRowContext(t.Context(), "x").Scan(&body), tenancy.ErrNoTenant)
			tx, err := c.db.BeginTx(c.globex, nil)
			must(t, err)
			must(t, tx.StmtContext(c.globex, stmt).QueryRowContext(c.globex, "x").Scan(&body))
			if body != "of globex" {
				t.Errorf("in a transaction: saw %q", body)
			}
			must(t, tx.Rollback())
			must(t, stmt.Close())
		}
	})
}

func TestC15RowsLeftOpen(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		for range 50 {
			c.add(t, c.acme, "of acme")
		}
		ctx, cancel := context.WithCancel(c.acme)
		rows, err := c.db.QueryContext(ctx, "SELECT body FROM notes")
		must(t, err)
		rows.Next()
		cancel() // nobody closes the rows
		sees(t, c.globex, c.db, "of globex")

		tx, err := c.db.BeginTx(c.acme, nil)
		must(t, err)
		left, err := tx.QueryContext(c.acme, "SELECT body FROM notes")
		must(t, err)
		left.Next()
		must(t, tx.Rollback())
		_ = left.Close()
		sees(t, c.globex, c.db, "of globex")
		if a.shared {
			inner.clean(t)
		}
	})
}

func TestC16EmptySettingRaises(t *testing.T) {
	t.Parallel()
	each(t, isRows, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		sees(t, c.acme, c.db, "of acme") // the setting now exists and is ''
		for _, statement := range []string{
			"SELECT body FROM notes", "INSERT INTO notes (body) VALUES ('x') RETURNING body",
			"INSERT INTO notes (tenant_id, body) VALUES ('', 'x') RETURNING body",
			"UPDATE notes SET body = 'x' RETURNING body", "DELETE FROM notes RETURNING body",
		} {
			inner.unbound(t, statement, func(value any, err error) {
				if err == nil || !strings.Contains(err.Error(), "no tenant is bound") {
					t.Errorf("%s: answered %v, %v", statement, value, err)
				}
			})
		}
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestC17StatementsBehindAPooler(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	c := openPostgres(t, tenancy.StrategyRowLevel, pg, servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{PoolSize: 2}), pipelined(t), nil)
	stmt, err := c.db.Prepare("SELECT body FROM notes WHERE body = $1")
	must(t, err)
	defer stmt.Close()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				err := c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
					var body string
					if err := tx.QueryRowContext(c.acme, "SELECT body FROM notes WHERE body = $1", "of acme").Scan(&body); err != nil {
						return err
					}
					return tx.StmtContext(c.acme, stmt).QueryRowContext(c.acme, "of acme").Scan(&body)
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

func TestC19SettingForTheSession(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		var inner captured
		c := a.open(t, one, inner.option)
		setting, value := "app.tenant_id", "acme"
		if !a.rows {
			setting, value = "role", placementOf(t, c.acme).Schema
		}
		call := fmt.Sprintf("SELECT set_config('%s', '%s', false)", setting, value)
		_, err := c.admin.Exec("CREATE FUNCTION public.hidden() RETURNS text LANGUAGE sql AS $$ " + call + " $$")
		must(t, err)
		for name, run := range map[string]func() error{
			"set_config": func() error {
				_, err := c.db.ExecContext(c.acme, call)
				return err
			},
			"set_config in a query": func() error {
				var s string
				return c.db.QueryRowContext(c.acme, call).Scan(&s)
			},
			"SET": func() error {
				_, err := c.db.ExecContext(c.acme, fmt.Sprintf("SET %s = '%s'", setting, value))
				return err
			},
			"set_config in a transaction": func() error {
				return c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(c.acme, call)
					return err
				})
			},
			"hidden in a function, after the next use": func() error {
				if _, err := c.db.ExecContext(c.acme, "SELECT public.hidden()"); err != nil {
					return err
				}
				_, err := bodies(c.globex, c.db)
				return err
			},
		} {
			if err := run(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Run(name, func(t *testing.T) {
				sees(t, c.globex, c.db, "of globex")
				_, err := bodies(t.Context(), c.db)
				mustBe(t, err, tenancy.ErrNoTenant)
			})
			if err := run(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Run(name+" leaves nothing", inner.clean)
		}
	})
}

func TestC20TransactionControl(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, one)
		for _, text := range []string{
			"BEGIN", "begin immediate", " /* x */ COMMIT", "-- y\nROLLBACK", ";END", "START TRANSACTION",
			"ABORT", "Rollback Work", "/* a /* nested */ b */ commit", "PREPARE TRANSACTION 'x'",
		} {
			if isMariaDB(a) && strings.Contains(text, "nested") {
				continue // comments do not nest there
			}
			_, err := c.db.ExecContext(c.acme, text)
			mustBe(t, err, isolation.ErrTransactionControl)
			_, err = c.db.QueryContext(c.acme, text)
			mustBe(t, err, isolation.ErrTransactionControl)
			err = c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(c.acme, text)
				return err
			})
			mustBe(t, err, isolation.ErrTransactionControl)
		}
		must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
			for _, text := range []string{"SAVEPOINT a", "INSERT INTO notes (body) VALUES ('x')", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a"} {
				if _, err := tx.ExecContext(c.acme, text); err != nil {
					return err
				}
			}
			return nil
		}))
		sees(t, c.acme, c.db, "of acme")
	})
}

func TestC20ProcedureWithCommit(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		c := a.open(t, one)
		_, err := c.admin.Exec(`CREATE PROCEDURE public.halves() LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO notes (body) VALUES ('one'); COMMIT; INSERT INTO notes (body) VALUES ('two'); END $$`)
		must(t, err)
		for _, text := range []string{
			"CALL public.halves()", "DO $$ BEGIN INSERT INTO notes (body) VALUES ('one'); COMMIT; END $$", "VACUUM",
			"SELECT 1; COMMIT; SELECT 2",
		} {
			_, err := c.db.ExecContext(c.acme, text)
			if err == nil {
				t.Errorf("%s: ran", text)
			}
			if !strings.HasPrefix(text, "SELECT") {
				mustBe(t, err, isolation.ErrNoTransaction)
			}
			sees(t, c.globex, c.db, "of globex")
			sees(t, c.acme, c.db, "of acme")
		}
	})
}

func TestC21SessionFeatures(t *testing.T) {
	t.Parallel()
	each(t, isShared, func(t *testing.T, a access) {
		c := a.open(t, one)
		// A temporary table would come before the walled one.
		_, err := c.db.ExecContext(c.acme, "CREATE TEMP TABLE notes AS SELECT 1::bigint AS id, 'shadow'::text AS body")
		must(t, err)
		sees(t, c.globex, c.db, "of globex")
		sees(t, c.acme, c.db, "of acme")
		if !a.pooled { // behind a pooler a lock is the server's connection's, see docs/STRATEGIES.md
			_, err = c.db.ExecContext(c.acme, "SELECT pg_advisory_lock(42)")
			must(t, err)
			var locks int
			must(t, c.db.QueryRowContext(c.globex, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()").Scan(&locks))
			if locks != 0 {
				t.Error("an advisory lock outlived its statement's connection")
			}
		}
		conn, err := c.db.Conn(c.acme)
		must(t, err)
		_, err = conn.ExecContext(c.acme, "CREATE TEMP TABLE mine (x int)")
		if a.pooled || !a.bound {
			mustBe(t, err, isolation.ErrSessionUnsupported)
			must(t, conn.Close())
			// Without the mark of DB.Conn the second statement tells.
			plain, err := c.db.DB.Conn(c.acme)
			must(t, err)
			defer plain.Close()
			_, err = bodies(c.acme, plain)
			must(t, err)
			_, err = bodies(c.acme, plain)
			mustBe(t, err, isolation.ErrSessionUnsupported)
			return
		}
		must(t, err)
		_, err = conn.ExecContext(c.acme, "INSERT INTO mine VALUES (1)")
		must(t, err)
		sees(t, c.acme, conn, "of acme")
		must(t, conn.Close())
		if _, err := c.db.ExecContext(c.globex, "SELECT * FROM mine"); err == nil {
			t.Error("a temporary table outlived its lease")
		}
	})
}

func TestC22FloodStarvesNobody(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, a access) {
		c := a.open(t, func(config *isolation.Config) { config.Pool.MaxConns, config.Pool.MaxPerTenant = 4, 2 })
		ctx, cancel := context.WithCancel(c.acme)
		var wg sync.WaitGroup
		for range 20 { // two hold a connection, the others wait for one
			wg.Go(func() {
				conn, err := c.db.Conn(ctx)
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.ExecContext(ctx, "SELECT 1")
				rows, err := c.db.QueryContext(ctx, "SELECT body FROM notes")
				if err != nil {
					return
				}
				<-ctx.Done()
				_ = rows.Close()
			})
		}
		eventually(t, "a flood", func() bool { return c.db.PoolStats().Waiting >= 10 })
		for range 5 {
			sees(t, c.globex, c.db, "of globex")
		}
		cancel()
		wg.Wait()
	})
}
