package tenantpgx

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows are the rows of a statement of a Pool. The reader under them is one of the connection's, for
// all its statements: once they are closed, rows answer by themselves.
type rows struct {
	ctx      context.Context
	conn     *scoped
	base     pgx.Rows
	exchange *exchange     // what ends with the rows; nil in a batch
	batch    *batchResults // that the rows are of, or nil
	last     bool          // the lease ends with them
	tracer   pgx.QueryTracer
	closed   bool
	tag      pgconn.CommandTag
	err      error
}

var _ pgx.Rows = (*rows)(nil)

func failedRows(err error) *rows { return &rows{closed: true, err: err} }

var errRowsClosed = errors.New("tenantpgx: the rows are closed")

// Next reads a row. At the end it closes the rows.
func (r *rows) Next() bool {
	if r.closed {
		return false
	}
	if r.base.Next() {
		return true
	}
	r.finish(nil)
	return false
}

// Close reads what is left and ends the statement's transaction; its error is that of Err.
func (r *rows) Close() {
	if !r.closed {
		r.finish(nil)
	}
}

// finish ends the statement; then the connection is free. A cause is what the caller could not do
// with a row.
func (r *rows) finish(cause error) {
	r.closed = true
	if r.last {
		defer r.conn.release()
	}
	r.base.Close()
	r.tag, r.err = r.base.CommandTag(), r.base.Err()
	if r.err == nil {
		r.err = cause
	}
	x := r.exchange
	r.base, r.exchange = nil, nil
	if r.batch != nil {
		r.batch.finished(r)
		return
	}
	if _, err := x.end(r.ctx, r.err); err != nil {
		r.err = r.conn.lease.Explain(err)
	}
	if r.tracer != nil {
		r.tracer.TraceQueryEnd(r.ctx, r.conn.conn.pgx, pgx.TraceQueryEndData{CommandTag: r.tag, Err: r.err})
	}
}

// Err returns the error that ended the rows, which may be that of their transaction.
func (r *rows) Err() error {
	if r.closed {
		return r.err
	}
	return r.base.Err()
}

// CommandTag returns the statement's tag once the rows are closed.
func (r *rows) CommandTag() pgconn.CommandTag { return r.tag }

// FieldDescriptions describes the columns; nil once the rows are closed.
func (r *rows) FieldDescriptions() []pgconn.FieldDescription {
	if r.closed {
		return nil
	}
	return r.base.FieldDescriptions()
}

// Scan reads the values of the row. An error closes the rows.
func (r *rows) Scan(dest ...any) error {
	if r.closed {
		return errors.Join(errRowsClosed, r.err)
	}
	var err error
	if scanner, ok := only(dest).(pgx.RowScanner); ok {
		err = scanner.ScanRow(r) // which must not get hold of what is beneath
	} else {
		err = r.base.Scan(dest...)
	}
	if err != nil && !r.closed {
		r.finish(err)
	}
	return err
}

func only(dest []any) any {
	if len(dest) != 1 {
		return nil
	}
	return dest[0]
}

// Values returns the decoded values of the row.
func (r *rows) Values() ([]any, error) {
	if r.closed {
		return nil, errors.Join(errRowsClosed, r.err)
	}
	values, err := r.base.Values()
	if err != nil {
		r.finish(err)
	}
	return values, err
}

// RawValues returns the row's bytes as they came. They are valid until the next call.
func (r *rows) RawValues() [][]byte {
	if r.closed {
		return nil
	}
	return r.base.RawValues()
}

// Conn returns nil: the connection is the tenant's only as long as the rows.
func (r *rows) Conn() *pgx.Conn { return nil }

// TypeMap returns the types of the connection; nil once the rows are closed.
func (r *rows) TypeMap() *pgtype.Map {
	if r.closed {
		return nil
	}
	return r.base.TypeMap()
}

// row is the first of its rows.
type row struct{ rows *rows }

// Scan reads the row and closes the rows, also if a value panics. Without a row it returns
// pgx.ErrNoRows.
func (r row) Scan(dest ...any) error {
	defer r.rows.Close()
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			return errors.New("cannot scan into *pgtype.DriverBytes from QueryRow")
		}
	}
	if !r.rows.Next() {
		if r.rows.err != nil {
			return r.rows.err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.err
}
