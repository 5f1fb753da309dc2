package pgx_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The server tells the columns of a named statement once, with its first result. They must be
// those of every result, whatever happens to the table meanwhile.
func TestColumnsAreThoseOfTheResult(t *testing.T) {
	t.Parallel()
	each(t, options{ddl: []string{"CREATE TABLE plans (a int, b text)", "INSERT INTO plans VALUES (1, 'one')"}}, func(t *testing.T, _ through, w *world) {
		must(t, second(w.admin.Exec(fmt.Sprintf("GRANT SELECT ON plans TO %q", w.roles.App))))
		read := func() (names string, values []any) {
			t.Helper()
			rows, err := w.pool.Query(w.acme, "SELECT * FROM plans")
			must(t, err)
			defer rows.Close()
			for _, f := range rows.FieldDescriptions() {
				names += f.Name + " "
			}
			if !rows.Next() {
				t.Fatal("no row: ", rows.Err())
			}
			values, err = rows.Values()
			must(t, err)
			var id any
			must(t, w.db.QueryRowContext(w.other, "SELECT * FROM plans").Scan(&id, new(any)))
			values = append(values, id)
			return names, values
		}
		for _, change := range []struct{ ddl, names, values string }{
			{"", "a b ", "[1 one 1]"},
			{"ALTER TABLE plans RENAME a TO c", "c b ", "[1 one 1]"},
			{"ALTER TABLE plans ALTER c TYPE text", "c b ", "[1 one 1]"},
			{"ALTER TABLE plans DROP c, ADD c int DEFAULT 7", "b c ", "[one 7 one]"},
			{"DROP TABLE plans; CREATE TABLE plans (b int, c text); INSERT INTO plans VALUES (8, 'nine'); GRANT SELECT ON plans TO PUBLIC", "b c ", "[8 nine 8]"},
		} {
			if change.ddl != "" {
				must(t, second(w.admin.Exec(change.ddl)))
			}
			for range 3 {
				names, values := read()
				if names != change.names || fmt.Sprint(values) != change.values {
					t.Errorf("after %q: columns %q with %v, want %q with %s", change.ddl, names, values, change.names, change.values)
				}
			}
		}
	})
}

// Of a FETCH nobody knows the columns before it runs.
func TestColumnsOfACursor(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		for range 2 {
			must(t, pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				for _, c := range []struct{ query, name, value string }{
					{"SELECT 1 AS n", "n", "1"}, {"SELECT 'text' AS body", "body", "text"}, {"SELECT 2 AS n", "n", "2"},
				} {
					must(t, second(tx.Exec(w.acme, "DECLARE c CURSOR FOR "+c.query)))
					rows, err := tx.Query(w.acme, "FETCH c")
					must(t, err)
					if !rows.Next() {
						t.Fatal("no row: ", rows.Err())
					}
					values, err := rows.Values()
					must(t, err)
					if name := rows.FieldDescriptions()[0].Name; name != c.name || fmt.Sprint(values[0]) != c.value {
						t.Errorf("%s: %s is %v", c.query, name, values[0])
					}
					rows.Close()
					must(t, rows.Err())
					must(t, second(tx.Exec(w.acme, "CLOSE c")))
				}
				return nil
			}))
		}
	})
}

// A text that a batch repeats is parsed once, and runs with the values of each.
func TestBatchThatRepeatsAText(t *testing.T) {
	t.Parallel()
	each(t, options{pool: one}, func(t *testing.T, _ through, w *world) {
		const add, read = "INSERT INTO notes (body) VALUES ($1)", "SELECT body FROM notes WHERE body = $1"
		var b pgx.Batch
		var got []string
		for _, body := range []string{"one", "two", "three"} {
			b.Queue(add, body)
		}
		for _, q := range []struct{ text, body string }{{read, "two"}, {read, "three"}, {add, "four"}, {add, "five"}, {read, "one"}, {read, "five"}} {
			queued := b.Queue(q.text, q.body)
			if q.text == read {
				queued.QueryRow(func(row pgx.Row) error {
					got = append(got, "")
					return row.Scan(&got[len(got)-1])
				})
			}
		}
		for range 2 {
			got = nil
			must(t, w.pool.SendBatch(w.acme, &b).Close())
			if fmt.Sprint(got) != "[two three one five]" {
				t.Errorf("read %v", got)
			}
		}
		var n int
		must(t, w.pool.QueryRow(w.other, "SELECT count(*) FROM notes WHERE body IN ('one', 'two', 'three', 'four', 'five')").Scan(&n))
		if n != 0 {
			t.Errorf("the other tenant sees %d", n)
		}
	})
}
