package pgx_test

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy/isolation"
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
func read(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, args []any,
) string {
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

// zoned are values that depend on the zone of the session or of the Go value, and ranges.
func zoned(t *testing.T) (cases []query) {
	t.Helper()
	for _, zone := range []string{"America/New_York", "Asia/Kolkata"} {
		location, err := time.LoadLocation(zone)
		must(t, err)
		at := time.Date(2024, 11, 3, 1, 30, 0, 123456000, location) // New York has this hour twice
		cases = append(
			cases,
			query{"SELECT $1::timestamptz, $1::timestamptz::text, $2::timestamp, $2::timestamp::text", []any{at, at}},
			query{"SELECT $1::date, $2::timetz, $3::timestamptz::date", []any{at, "01:30:00+05:30", at}},
			query{"INSERT INTO zoned (at, local, day, span, days) VALUES ($1, $2, $3, $4::tstzrange, $5::daterange) RETURNING at, local, day, span, days, at::text", []any{
				at, at, at, "[2024-11-03 01:30:00-04, 2024-11-03 01:30:00-05)", "[2024-01-01,2024-12-31]",
			}},
			query{"SELECT at, local, day, span, days FROM zoned WHERE at = $1 AND span @> $1 ORDER BY id", []any{at}},
			query{"SELECT $1::tstzrange, tstzrange($2::timestamptz, NULL, '(]')", []any{pgtype.Range[time.Time]{
				Lower: at, Upper: at.Add(time.Hour), LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true,
			}, at}},
		)
	}
	return append(
		cases,
		query{"SHOW TimeZone", nil},
		query{"SELECT '2024-07-01 12:00'::timestamptz, '2024-07-01 12:00'::timestamptz AT TIME ZONE 'UTC', date_trunc('day', '2024-07-01 01:00Z'::timestamptz)::text", nil},
		query{"SELECT $1::int4range, $2::int8range, $3::numrange", []any{"[1,5]", "(,7)", "empty"}},
		query{"SELECT $1::int4range, $2::int4range", []any{
			pgtype.Range[pgtype.Int4]{Lower: pgtype.Int4{Int32: 1, Valid: true}, Upper: pgtype.Int4{Int32: 5, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Inclusive, Valid: true},
			nil,
		}},
		query{"SELECT $1::int4multirange, lower($2::int4range), 3 <@ $2::int4range", []any{"{[1,2], [5,9)}", "[3,4)"}},
		query{"SELECT $1::int4range", []any{"[5,1]"}},
		query{"SELECT $1::timestamptz", []any{"2024-07-01 12:00 Nowhere/Else"}},
		query{"SELECT $1::timestamptz, $2::timestamp", []any{sql.NullTime{}, pgtype.Timestamp{InfinityModifier: pgtype.Infinity, Valid: true}}},
	)
}

type query struct {
	text string
	args []any
}

// TestTimeZonesAndRangesAreThoseOfPgx compares the handle over each driver with stdlib alone, and
// the Pool with a pgx connection, in sessions of another zone.
func TestTimeZonesAndRangesAreThoseOfPgx(t *testing.T) {
	const table = `CREATE TABLE zoned (id bigint GENERATED ALWAYS AS IDENTITY, tenant_id text NOT NULL, at timestamptz, local timestamp,
		day date, span tstzrange, days daterange, PRIMARY KEY (tenant_id, id))`
	for _, path := range paths {
		for _, zone := range []string{"Asia/Tokyo", "America/New_York"} {
			t.Run(string(path)+" in "+zone, func(t *testing.T) {
				t.Parallel()
				w := openWith(t, path, options{ddl: []string{table}, tables: []isolation.Table{{Name: "zoned"}}, config: func(config *pgx.ConnConfig) {
					config.RuntimeParams["timezone"] = zone
				}})
				config, err := pgx.ParseConfig(w.url)
				must(t, err)
				config.RuntimeParams["timezone"] = zone
				if path == pgbouncer {
					config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
				}
				c := w.config
				server := c.Servers["main"].(isolation.PostgreSQL)
				server.App = stdlib.GetConnector(*config)
				c.Servers = map[string]isolation.Server{"main": server}
				overStdlib, err := isolation.Open(c)
				must(t, err)
				defer overStdlib.Close()
				plain := stdlib.OpenDB(*config)
				defer plain.Close()
				bare, err := pgx.ConnectConfig(t.Context(), config)
				must(t, err)
				defer bare.Close(context.Background())
				_, err = w.admin.ExecContext(t.Context(), "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+w.roles.App)
				must(t, err)
				for _, q := range zoned(t) {
					want := bound(t, w.acme, plain, q)
					for name, db := range map[string]*sql.DB{"tenantpgx": w.db.DB, "stdlib": overStdlib.DB} {
						if got := read(w.acme, db, q.text, q.args); got != want {
							t.Errorf("%s: %s %v\n got %s\nwant %s", name, q.text, q.args, got, want)
						}
					}
					wanted, got := boundPgx(t, w.acme, bare, q), readPgx(w.acme, w.pool, q)
					if got != wanted {
						t.Errorf("Pool: %s %v\n got %s\nwant %s", q.text, q.args, got, wanted)
					}
				}
				var zoneHere string
				must(t, w.db.QueryRowContext(w.acme, "SHOW TimeZone").Scan(&zoneHere))
				if zoneHere != zone {
					t.Errorf("the session's zone is %q, want %q of the DSN", zoneHere, zone)
				}
			})
		}
	}
}

// bound reads a query by the driver alone, as acme.
func bound(t *testing.T, ctx context.Context, db *sql.DB, q query) string {
	t.Helper()
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	defer func() { must(t, tx.Commit()) }()
	_, err = tx.ExecContext(ctx, "SET LOCAL app.tenant_id = 'acme'; SAVEPOINT s")
	must(t, err)
	answer := read(ctx, tx, q.text, q.args)
	_, err = tx.ExecContext(ctx, "ROLLBACK TO s")
	must(t, err)
	return answer
}

func boundPgx(t *testing.T, ctx context.Context, conn *pgx.Conn, q query) string {
	t.Helper()
	tx, err := conn.Begin(ctx)
	must(t, err)
	defer func() { must(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, "SET LOCAL app.tenant_id = 'acme'")
	must(t, err)
	return readPgx(ctx, tx, q)
}

// readPgx renders the values and the error that pgx gives, be it at once or at the end of the rows.
func readPgx(ctx context.Context, db dbtx, q query) (text string) {
	rows, err := db.Query(ctx, q.text, q.args...)
	if err != nil {
		return fmt.Sprintf(" end: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return fmt.Sprintf("%s values: %v", text, err)
		}
		for _, v := range values {
			text += fmt.Sprintf("%T %v, ", v, v)
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
