package tenantpgx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// batchResults are the results of a batch of a Pool. They are read in the order of its statements.
type batchResults struct {
	ctx      context.Context
	conn     *scoped
	exchange *exchange // nil if the batch is empty
	queries  []*pgx.QueuedQuery
	calls    []call
	last     bool // the lease ends with the results
	tracer   pgx.BatchTracer

	read    int       // how many results were asked for
	asked   time.Time // when the last one was
	open    *rows     // those of the last one, until they are closed
	closing bool
	closed  bool
	err     error
}

var _ pgx.BatchResults = (*batchResults)(nil)

// sendBatch writes the statements of b. Outside of a transaction they make one of their own.
func (s *scoped) sendBatch(ctx context.Context, b *pgx.Batch) (r *batchResults, err error) {
	tracer, _ := s.conn.tracer.(pgx.BatchTracer)
	if tracer != nil {
		ctx = tracer.TraceBatchStart(ctx, s.conn.pgx, pgx.TraceBatchStartData{Batch: b})
		defer func() {
			if err != nil {
				tracer.TraceBatchEnd(ctx, s.conn.pgx, pgx.TraceBatchEndData{Err: err})
			}
		}()
	}
	r = &batchResults{ctx: ctx, conn: s, queries: b.QueuedQueries, tracer: tracer}
	r.calls = make([]call, len(r.queries))
	texts := make([]string, len(r.queries))
	for i, q := range r.queries {
		if r.calls[i], err = s.newCall(ctx, q.SQL, q.Arguments, true); err != nil {
			return nil, err
		}
		texts[i] = r.calls[i].sql
	}
	f, err := s.admit(ctx, texts...)
	if err != nil {
		return nil, err
	}
	if len(r.calls) == 0 {
		return r, nil
	}
	if r.exchange, err = s.conn.sendAll(ctx, f, r.calls); err != nil {
		return nil, s.lease.Explain(err)
	}
	return r, nil
}

// sendAll writes a frame with several statements in one network write. Those that no connection of
// the connector has used are described before, all in one write too.
func (c *Conn) sendAll(ctx context.Context, f frame, calls []call) (*exchange, error) {
	descs, err := c.describeAll(ctx, f, calls)
	if err != nil {
		return nil, err
	}
	builders := make([]pgx.ExtendedQueryBuilder, len(calls))
	for i, s := range calls {
		if err := c.encode(s, descs[i], &builders[i]); err != nil {
			return nil, fmt.Errorf("statement %d of the batch: %w", i+1, err)
		}
	}
	x, err := c.open(ctx, f, calls[0].sql)
	if err != nil {
		return nil, err
	}
	for i, s := range calls {
		x.sendCall(s, descs[i], &builders[i])
	}
	return x, x.sendEnd(f)
}

func (c *Conn) describeAll(ctx context.Context, f frame, calls []call) ([]*description, error) {
	var unknown []string
	known := make(map[string]*description, len(calls))
	for _, s := range calls {
		if _, seen := known[s.sql]; seen {
			continue
		}
		desc := c.descriptions.get(s.sql, c.place(f))
		known[s.sql] = desc
		if desc == nil {
			unknown = append(unknown, s.sql)
		}
	}
	if len(unknown) > 0 {
		descs, err := c.ask(ctx, f, unknown...)
		if err != nil {
			return nil, err
		}
		for i, sql := range unknown {
			known[sql] = descs[i]
		}
	}
	descs := make([]*description, len(calls))
	for i, s := range calls {
		descs[i] = known[s.sql]
	}
	return descs, nil
}

// Exec reads the next result.
func (r *batchResults) Exec() (pgconn.CommandTag, error) {
	rows := r.next()
	rows.Close()
	return rows.tag, rows.err
}

// Query reads the next result. The one after it closes its rows.
func (r *batchResults) Query() (pgx.Rows, error) {
	rows := r.next()
	return rows, rows.err
}

// QueryRow reads the next result's first row.
func (r *batchResults) QueryRow() pgx.Row { return row{r.next()} }

// Tx returns nil: a batch does not begin a transaction.
func (r *batchResults) Tx() pgx.Tx { return nil }

var (
	errBatchClosed = errors.New("tenantpgx: the batch is closed")
	errBatchRead   = errors.New("tenantpgx: the batch has no more results")
)

func (r *batchResults) next() *rows {
	if r.open != nil {
		r.open.Close()
	}
	switch {
	case r.err != nil:
		return failedRows(r.err)
	case r.closed:
		return failedRows(errBatchClosed)
	case r.read == len(r.calls):
		return failedRows(errBatchRead)
	}
	r.asked = time.Now()
	r.exchange.sql = r.calls[r.read].sql
	r.read++
	result, err := r.exchange.results()
	if err != nil {
		failed := failedRows(err)
		r.finished(failed)
		return failed
	}
	r.open = &rows{
		ctx: r.ctx, conn: r.conn, batch: r,
		base: pgx.RowsFromResultReader(r.conn.conn.pgx.TypeMap(), result),
	}
	return r.open
}

// finished notes the end of the result that was read last.
func (r *batchResults) finished(rows *rows) {
	r.open = nil
	if rows.err != nil {
		rows.err = r.conn.lease.Explain(rows.err)
		r.err = rows.err
	}
	if r.tracer != nil {
		q := r.queries[r.read-1]
		r.tracer.TraceBatchQuery(r.ctx, r.conn.conn.pgx, pgx.TraceBatchQueryData{
			SQL: q.SQL, Args: q.Arguments, CommandTag: rows.tag, Err: rows.err, ReadStartTime: r.asked,
		})
	}
}

// Close reads the results that are left and calls the functions of their statements, until one
// fails; then it ends the transaction. What the statements did is kept unless the server refused
// one of them: a function's error comes too late. It is idempotent.
func (r *batchResults) Close() error {
	if r.closing {
		return r.err
	}
	r.closing = true
	defer r.leave()
	for r.err == nil && r.read < len(r.calls) {
		read, fn := r.read, r.queries[r.read].Fn
		if fn != nil {
			if err := fn(r); err != nil && r.err == nil {
				r.err = err
			}
		}
		if r.read == read && r.err == nil {
			_, _ = r.Exec() // its error is the batch's
		}
	}
	if r.open != nil {
		r.open.Close()
	}
	if r.exchange != nil {
		if _, err := r.exchange.end(r.ctx, r.err); r.err == nil {
			r.err = r.conn.lease.Explain(err)
		}
	}
	if r.tracer != nil {
		r.tracer.TraceBatchEnd(r.ctx, r.conn.conn.pgx, pgx.TraceBatchEndData{Err: r.err})
	}
	return r.err
}

// leave ends the lease, also when a function panics.
func (r *batchResults) leave() {
	r.closed = true
	if r.last {
		r.conn.release()
	}
}
