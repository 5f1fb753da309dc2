package pgx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// tracer records what it is told.
type tracer struct {
	mu  sync.Mutex
	log []string
}

type traced struct{}

func (r *tracer) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

// took returns what was recorded since it was last asked.
func (r *tracer) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return log
}

func (r *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.note("start %s %v", d.SQL, d.Args)
	return context.WithValue(ctx, traced{}, d.SQL)
}

func (r *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	r.note("end %s: %v %s", ctx.Value(traced{}), d.CommandTag, state(d.Err))
}

func (r *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	r.note("start batch of %d", d.Batch.Len())
	return context.WithValue(ctx, traced{}, "batch")
}

func (r *tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	r.note("%s: %s %v: %v %s", ctx.Value(traced{}), d.SQL, d.Args, d.CommandTag, state(d.Err))
}

func (r *tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	r.note("end %s: %s", ctx.Value(traced{}), state(d.Err))
}

func (r *tracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	r.note("start copy %v %v", d.TableName, d.ColumnNames)
	return context.WithValue(ctx, traced{}, "copy")
}

func (r *tracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	r.note("end %s: %v %s", ctx.Value(traced{}), d.CommandTag, state(d.Err))
}

func (r *tracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	r.note("prepare %s", d.SQL)
	return ctx
}

func (r *tracer) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// TestTracerSeesTheCallersStatements and nothing else: each once, with its arguments.
func TestTracerSeesTheCallersStatements(t *testing.T) {
	t.Parallel()
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			t.Parallel()
			r := &tracer{}
			w := openWith(t, path, options{pool: one, config: func(c *pgx.ConnConfig) { c.Tracer = r }})
			add(t, w.acme, w.pool, "of acme")
			add(t, w.other, w.pool, "of other")
			checkTraces(t, w, r)
			checkTracesOfDB(t, w, r, path)
		})
	}
}

func checkTraces(t *testing.T, w *world, r *tracer) {
	t.Helper()
	const insert = "INSERT INTO notes (body) VALUES ($1)"
	w.bothSee(t)
	r.took()
	for _, c := range []struct {
		name string
		run  func() error
		want []string
	}{
		{"Exec", func() error { return second(w.pool.Exec(w.acme, insert, "traced")) }, []string{
			"start " + insert + " [traced]", "end " + insert + ": INSERT 0 1 ",
		}},
		{"a failed Exec", func() error { _, _ = w.pool.Exec(w.acme, "SELECT 1/0"); return nil }, []string{
			"start SELECT 1/0 []", "end SELECT 1/0:  22012",
		}},
		{"QueryRow", func() error {
			return w.pool.QueryRow(w.acme, "SELECT @a::text", pgx.NamedArgs{"a": "x"}).Scan(new(string))
		}, []string{
			"start SELECT @a::text [map[a:x]]", "end SELECT @a::text: SELECT 1 ",
		}},
		{"a failed Query", func() error { _, _ = w.pool.Query(w.acme, "SELECT nonsense"); return nil }, []string{
			"start SELECT nonsense []", "end SELECT nonsense:  42703",
		}},
		{"a transaction", func() error {
			return pgx.BeginFunc(w.acme, w.pool, func(tx pgx.Tx) error {
				inner, err := tx.Begin(w.acme)
				must(t, err)
				must(t, second(inner.Exec(w.acme, "SELECT 1")))
				return inner.Rollback(w.acme)
			})
		}, []string{"start SELECT 1 []", "end SELECT 1: SELECT 1 "}},
		{"a batch", func() error {
			var b pgx.Batch
			b.Queue(insert, "batch").Exec(func(pgconn.CommandTag) error { return nil })
			b.Queue("SELECT 2")
			return w.pool.SendBatch(w.acme, &b).Close()
		}, []string{
			"start batch of 2", "batch: " + insert + " [batch]: INSERT 0 1 ", "batch: SELECT 2 []: SELECT 1 ", "end batch: ",
		}},
		{"a batch that cannot be sent", func() error {
			var b pgx.Batch
			b.Queue("SELECT nonsense")
			_ = w.pool.SendBatch(w.acme, &b).Close()
			return nil
		}, []string{"start batch of 1", "end batch: 42703"}},
		{"a copy", func() error {
			return second(w.pool.CopyFrom(w.acme, pgx.Identifier{"notes"}, []string{"body"}, pgx.CopyFromRows([][]any{{"copy"}})))
		}, []string{"start copy [notes] [body]", "end copy: COPY 1 "}},
	} {
		must(t, c.run())
		if got := r.took(); !slices.Equal(got, c.want) {
			t.Errorf("%s: traced %q, want %q", c.name, got, c.want)
		}
	}
}

func checkTracesOfDB(t *testing.T, w *world, r *tracer, path through) {
	t.Helper()
	const insert = "INSERT INTO notes (body) VALUES ($1)"
	acme := w.acme
	for _, c := range []struct {
		name string
		run  func() error
		want []string
	}{
		{"Exec", func() error { return second(w.db.ExecContext(acme, insert, "traced")) }, []string{
			"start " + insert + " [traced]", "end " + insert + ": INSERT 0 1 ",
		}},
		{"a failed Exec", func() error { _, _ = w.db.ExecContext(acme, "SELECT 1/0"); return nil }, []string{
			"start SELECT 1/0 []", "end SELECT 1/0:  22012",
		}},
		{"QueryRow", func() error { return w.db.QueryRowContext(acme, "SELECT $1::text", "x").Scan(new(string)) }, []string{
			"start SELECT $1::text [x]", "end SELECT $1::text: SELECT 1 ",
		}},
		{"rows that are closed early", func() error {
			rows, err := w.db.QueryContext(acme, "SELECT generate_series(1, 3)")
			must(t, err)
			rows.Next()
			must(t, rows.Close())
			return rows.Err()
		}, []string{"start SELECT generate_series(1, 3) []", "end SELECT generate_series(1, 3): SELECT 3 "}},
		{"a query that cannot be described", func() error {
			return want(second(w.db.QueryContext(acme, "SELECT nonsense")))
		}, []string{"start SELECT nonsense []", "end SELECT nonsense:  42703"}},
		{"a query whose row fails", func() error { return want(w.db.QueryRowContext(acme, "SELECT 1/0").Scan(new(int))) }, []string{
			"start SELECT 1/0 []", "end SELECT 1/0:  22012",
		}},
		{"a transaction", func() error {
			return w.db.InTx(acme, nil, func(tx *sql.Tx) error { return second(tx.ExecContext(acme, "SELECT 1")) })
		}, []string{"start SELECT 1 []", "end SELECT 1: SELECT 1 "}},
		{"a prepared statement", func() error {
			s, err := w.db.PrepareContext(acme, insert)
			must(t, err)
			must(t, second(s.ExecContext(acme, "prepared")))
			return s.Close()
		}, []string{"start " + insert + " [prepared]", "end " + insert + ": INSERT 0 1 "}},
		{"what leaves the session to be reset", func() error { return second(w.db.ExecContext(acme, "SET work_mem TO '1MB'")) }, []string{
			"start SET work_mem TO '1MB' []", "end SET work_mem TO '1MB': SET ",
		}},
		{"the system's", func() error {
			return second(w.db.ExecContext(tenancy.AsSystem(t.Context(), "its connector has no tracer"), "SELECT 1"))
		}, nil},
		{"no tenant", func() error { return want(second(w.db.ExecContext(t.Context(), "SELECT 1"))) }, nil},
		{"a refused statement", func() error { return want(second(w.db.ExecContext(acme, "COMMIT"))) }, nil},
		{"verification", func() error { return second(w.db.Verify(t.Context())) }, nil},
		{"the connection beneath", func() error {
			return isolation.Raw(acme, w.db, func(c any) error {
				return second(c.(*tenantpgx.Conn).Conn().Exec(acme, "SELECT 2"))
			})
		}, []string{"start SELECT 2 []", "end SELECT 2: SELECT 1 "}},
	} {
		must(t, c.run())
		if got := r.took(); !slices.Equal(got, c.want) {
			t.Errorf("%s: traced %q, want %q", c.name, got, c.want)
		}
	}
	if path == direct {
		conn, err := w.db.Conn(acme)
		must(t, err)
		must(t, second(conn.ExecContext(acme, "VACUUM notes")))
		must(t, conn.Close()) // DISCARD ALL
		got := r.took()
		if len(got) < 2 || got[len(got)-1] != "end VACUUM notes: VACUUM " || slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, "VACUUM notes") }) {
			t.Errorf("a leased connection: traced %q", got)
		}
	}
}

// want turns the error that must come into nil.
func want(err error) error {
	if err == nil {
		return errors.New("there was no error")
	}
	return nil
}
