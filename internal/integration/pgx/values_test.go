package pgx_test

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestValuesAreThoseOfStdlib sends and reads every kind of value both ways.
func TestValuesAreThoseOfStdlib(t *testing.T) {
	day := time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)
	cases := []struct {
		query string
		args  []any
	}{
		{"SELECT $1::bool, $2::bool", []any{true, nil}},
		{"SELECT $1::int2, $2::int4, $3::int8", []any{int16(1), 2, int64(1) << 40}},
		{"SELECT $1::float4, $2::float8, $3::numeric", []any{1.5, 2.25, "123456789012345678901234567890.5"}},
		{"SELECT $1::text, $2::varchar(10), $3::char(3), $4::name", []any{"ä'\\\"", "b", "c", "d"}},
		{"SELECT $1::bytea, $2::bytea", []any{[]byte{0, 1, 255}, []byte(nil)}},
		{"SELECT $1::date, $2::timestamp, $3::timestamptz, $4::time, $5::interval", []any{day, day, day, "04:05:06", "1 day"}},
		{"SELECT $1::uuid, $2::inet, $3::xml", []any{"0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d", "10.0.0.1", "<a/>"}},
		{"SELECT $1::json, $2::jsonb, $3::jsonb", []any{`{"a": 1}`, map[string]any{"b": []int{2}}, []byte(`[3]`)}},
		{"SELECT $1::int[], $2::text[], '(1,2)'::point", []any{[]int{1, 2}, []string{"x", "y"}}},
		{"SELECT $1::int", []any{sql.NullInt64{Int64: 7, Valid: true}}},
		{"SELECT $1::int", []any{sql.NullInt64{}}},
		{"SELECT @a::int + @b::int", []any{pgx.NamedArgs{"a": 1, "b": 2}}},
		{"SELECT 1::oid, 'NaN'::float8, 'infinity'::timestamptz", nil},
		{"SELECT generate_series(1, 300) AS n, repeat('x', 1000)", nil},
		{"SELECT 1 WHERE false", nil},
		{"", nil},
		{"SELECT $1::int", []any{"no number"}},
		{"SELECT $1::int", nil},
		{"SELECT $1::int", []any{1, 2}},
		{"SELECT nonsense", nil},
		{"SELECT 1/0", nil},
		{"SELECT 1/(3-n) FROM generate_series(1, 5) n", nil},
	}
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			w := open(t, path)
			for _, c := range cases {
				for range 2 { // described, and from memory
					want := read(w.acme, w.plain, c.query, c.args)
					got := read(w.acme, w.db.DB, c.query, c.args)
					if got != want {
						t.Errorf("%s %v\n got %.300s\nwant %.300s", c.query, c.args, got, want)
					}
				}
			}
		})
	}
}

// read renders all that database/sql can say about a query.
func read(ctx context.Context, db *sql.DB, query string, args []any) string {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Sprintf("query: %v", err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return fmt.Sprintf("types: %v", err)
	}
	var text string
	for _, c := range types {
		length, hasLength := c.Length()
		precision, scale, hasPrecision := c.DecimalSize()
		nullable, knows := c.Nullable()
		text += fmt.Sprint(c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, precision, scale, hasPrecision, nullable, knows, "; ")
	}
	for rows.Next() {
		values := make([]any, len(types))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return fmt.Sprintf("%s scan: %v", text, err)
		}
		for _, v := range values {
			v := *v.(*any)
			text += fmt.Sprintf("%v %v, ", reflect.TypeOf(v), v)
		}
	}
	return fmt.Sprintf("%s end: %v", text, rows.Err())
}

func TestDifferentStatementsBeyondTheCaches(t *testing.T) {
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			w := open(t, path)
			for i := range 1500 {
				var n int
				must(t, w.db.QueryRowContext(w.acme, fmt.Sprintf("SELECT %d + $1::int", i), 1).Scan(&n))
				if n != i+1 {
					t.Fatalf("%d + 1 = %d", i, n)
				}
			}
			if path == direct {
				var n int
				must(t, w.db.QueryRowContext(w.acme, "SELECT count(*) FROM pg_prepared_statements").Scan(&n))
				if n > 300 {
					t.Errorf("%d prepared statements are kept", n)
				}
			}
		})
	}
}
