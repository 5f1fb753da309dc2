package pgx_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// things is a walled table with columns of many types.
const things = `CREATE TABLE things (
	id bigint GENERATED ALWAYS AS IDENTITY,
	tenant_id text NOT NULL,
	name text NOT NULL,
	n int, price numeric(12, 2), at timestamptz, day date, data jsonb, tags text[], ids int[],
	key uuid, short varchar(3), bytes bytea, ok bool,
	PRIMARY KEY (tenant_id, id));
	CREATE TABLE bare (x int, y text); GRANT SELECT, INSERT ON bare TO public`

var copyOptions = options{ddl: []string{things}, tables: []isolation.Table{{Name: "things"}}}

// TestR14CopyFromDoesNotPassTheWall copies rows of the tenant's own and of another's.
func TestR14CopyFromDoesNotPassTheWall(t *testing.T) {
	t.Parallel()
	each(t, copyOptions, func(t *testing.T, path through, w *world) {
		notes, columns := pgx.Identifier{"notes"}, []string{"body"}
		t.Run("own rows", func(t *testing.T) {
			n, err := w.pool.CopyFrom(w.acme, pgx.Identifier{"public", "notes"}, columns, pgx.CopyFromRows([][]any{{"b"}, {"c"}}))
			must(t, err)
			if n != 2 {
				t.Errorf("copied %d", n)
			}
			sees(t, w.acme, w.pool, "of acme", "b", "c")
			sees(t, w.other, w.pool, "of other")
			must(t, second(w.pool.Exec(w.acme, "DELETE FROM notes WHERE body <> 'of acme'")))
		})
		t.Run("own rows that name the tenant", func(t *testing.T) {
			n, err := w.pool.CopyFrom(w.acme, notes, []string{"tenant_id", "body"}, pgx.CopyFromRows([][]any{{"acme", "b"}}))
			must(t, err)
			if n != 1 {
				t.Errorf("copied %d", n)
			}
			must(t, second(w.pool.Exec(w.acme, "DELETE FROM notes WHERE body <> 'of acme'")))
		})
		t.Run("a row of another tenant among them", func(t *testing.T) {
			n, err := w.pool.CopyFrom(w.acme, notes, []string{"tenant_id", "body"},
				pgx.CopyFromRows([][]any{{"acme", "never"}, {"other", "never"}}))
			if state(err) != "42501" || n != 0 {
				t.Errorf("copied %d, %v", n, err)
			}
			w.bothSee(t)
		})
		t.Run("in the caller's transaction", func(t *testing.T) {
			tx, err := w.pool.Begin(w.acme)
			must(t, err)
			for range 2 {
				must(t, second(tx.CopyFrom(w.acme, notes, columns, pgx.CopyFromRows([][]any{{"b"}}))))
			}
			sees(t, w.acme, tx, "of acme", "b", "b")
			_, err = tx.CopyFrom(w.other, notes, columns, pgx.CopyFromRows([][]any{{"never"}}))
			mustBe(t, err, tenancy.ErrTenantMismatch)
			must(t, tx.Rollback(w.acme))
			w.bothSee(t)
		})
		t.Run("without a tenant", func(t *testing.T) {
			_, err := w.pool.CopyFrom(t.Context(), notes, columns, pgx.CopyFromRows([][]any{{"never"}}))
			mustBe(t, err, tenancy.ErrNoTenant)
		})
		t.Run("leaves no table", func(t *testing.T) {
			var n int
			must(t, w.admin.QueryRow("SELECT count(*) FROM pg_class WHERE relname = 'tenancy_copy'").Scan(&n))
			if n != 0 {
				t.Error("the temporary table is still there")
			}
		})
		t.Run("without the right to make a temporary table", func(t *testing.T) {
			must(t, second(w.admin.Exec(fmt.Sprintf("REVOKE TEMPORARY ON DATABASE %q FROM public", w.name))))
			defer func() { must(t, second(w.admin.Exec(fmt.Sprintf("GRANT TEMPORARY ON DATABASE %q TO public", w.name)))) }()
			_, err := w.pool.CopyFrom(w.acme, notes, columns, pgx.CopyFromRows([][]any{{"never"}}))
			if state(err) != "42501" || err.Error()[:8] != "CopyFrom" {
				t.Errorf("got %v", err)
			}
			n, err := w.pool.CopyFrom(w.acme, pgx.Identifier{"bare"}, []string{"x"}, pgx.CopyFromRows([][]any{{1}})) // no wall
			must(t, err)
			if n != 1 {
				t.Errorf("copied %d", n)
			}
		})
		w.bothSee(t)
		w.made.clean(t)
	})
}

func TestPoolCopiesWhatPgxCopies(t *testing.T) {
	t.Parallel()
	columns := []string{"name", "n", "price", "at", "day", "data", "tags", "ids", "key", "short", "bytes", "ok", "id"}
	at := time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)
	given := [][]any{
		{"all", 1, "12.50", at, at, map[string]any{"a": []int{1}}, []string{"x", "y,z"}, []int32{1, 2}, "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d", "abc", []byte{0, 255}, true, 100},
		{"none", nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, 101},
		{"texts", "7", 3.25, "2026-02-03 04:05:06Z", "2026-02-03", `{"b": 2}`, "{a,b}", "{3,4}", [16]byte{1}, "", []byte{}, false, 102},
	}
	each(t, copyOptions, func(t *testing.T, _ through, w *world) {
		must(t, second(w.admin.Exec("CREATE TABLE yardstick AS SELECT * FROM things WITH NO DATA")))
		config, err := pgx.ParseConfig(w.url)
		must(t, err)
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
		plain, err := pgx.ConnectConfig(t.Context(), config)
		must(t, err)
		defer plain.Close(context.Background())
		must(t, second(w.admin.Exec("GRANT ALL ON yardstick TO public")))
		must(t, second(plain.CopyFrom(t.Context(), pgx.Identifier{"yardstick"}, columns, pgx.CopyFromRows(given))))
		n, err := w.pool.CopyFrom(w.acme, pgx.Identifier{"things"}, columns, pgx.CopyFromRows(given))
		must(t, err)
		if n != 3 {
			t.Errorf("copied %d", n)
		}
		text := func(table string) (s string) {
			must(t, w.admin.QueryRow("SELECT string_agg((to_jsonb(t) - 'tenant_id')::text, E'\\n' ORDER BY id) FROM "+table+" t").Scan(&s))
			return s
		}
		if got, want := text("things"), text("yardstick"); got != want {
			t.Errorf("copied\n%s\nwant\n%s", got, want)
		}

		for name, rows := range map[string][][]any{
			"too few values": {{"x"}}, "no number": append([][]any{given[0]}, []any{"x", "y", nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, 1}),
			"too long":       {{"x", nil, nil, nil, nil, nil, nil, nil, nil, "abcd", nil, nil, 1}},
			"a missing name": {{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, 1}},
		} {
			if _, err := w.pool.CopyFrom(w.other, pgx.Identifier{"things"}, columns, pgx.CopyFromRows(rows)); err == nil {
				t.Errorf("%s: copied", name)
			}
		}
		broken := errors.New("the source broke")
		calls := 0
		_, err = w.pool.CopyFrom(w.other, pgx.Identifier{"things"}, []string{"name"}, pgx.CopyFromFunc(func() ([]any, error) {
			if calls++; calls > 5000 {
				return nil, broken
			}
			return []any{"many"}, nil
		}))
		if err == nil {
			t.Error("a broken source was copied")
		}
		for _, table := range []pgx.Identifier{{"nowhere"}, {"things", "things"}, {`things"; DROP TABLE notes; --`}, {}} {
			if _, err := w.pool.CopyFrom(w.other, table, []string{"name"}, pgx.CopyFromRows(nil)); err == nil {
				t.Errorf("copied into %q", table)
			}
		}
		if _, err := w.pool.CopyFrom(w.other, pgx.Identifier{"things"}, nil, pgx.CopyFromRows(nil)); err == nil {
			t.Error("copied no columns")
		}
		var left int
		must(t, w.pool.QueryRow(w.other, "SELECT count(*) FROM things").Scan(&left))
		if left != 0 {
			t.Errorf("%d rows of failed copies", left)
		}
		w.bothSee(t)
	})
}

// TestPoolCopiesManyRows also shows that the rows cost no round trips.
func TestPoolCopiesManyRows(t *testing.T) {
	t.Parallel()
	each(t, copyOptions, func(t *testing.T, _ through, w *world) {
		const rows = 50_000
		trips, _ := w.wire.count(func() {
			n, err := w.pool.CopyFrom(w.acme, pgx.Identifier{"things"}, []string{"name", "n"},
				pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{fmt.Sprintf("thing %d", i), i}, nil }))
			must(t, err)
			if n != rows {
				t.Errorf("copied %d", n)
			}
		})
		if trips > 6 {
			t.Errorf("%d round trips", trips)
		}
		var n, sum int
		must(t, w.pool.QueryRow(w.acme, "SELECT count(*), sum(n) FROM things").Scan(&n, &sum))
		if n != rows || sum != rows*(rows-1)/2 {
			t.Errorf("%d rows, sum %d", n, sum)
		}
	})
}
