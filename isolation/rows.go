package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
)

// boundRows are rows whose transaction ends with them: by COMMIT when they were read or closed,
// by ROLLBACK after an error or when the context is over. It has every optional interface of
// driver.Rows and answers for an inner one without it as database/sql does.
type boundRows struct {
	driver.Rows
	ctx    context.Context
	conn   *conn
	tx     *tx
	closed bool
	err    error
}

var (
	_ driver.RowsNextResultSet              = (*boundRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*boundRows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*boundRows)(nil)
	_ driver.RowsColumnTypeLength           = (*boundRows)(nil)
	_ driver.RowsColumnTypeNullable         = (*boundRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*boundRows)(nil)
)

func (r *boundRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		if r.HasNextResultSet() {
			return err
		}
		if err := r.end(nil); err != nil {
			return err
		}
		return io.EOF
	default:
		_ = r.end(err)
		return r.conn.failed(err, false)
	}
}

// Close ends the transaction if reading to the end has not.
func (r *boundRows) Close() error { return r.end(nil) }

func (r *boundRows) end(cause error) error {
	if r.closed {
		return r.err
	}
	r.closed = true
	err := r.Rows.Close()
	if cause == nil && err == nil {
		cause = r.ctx.Err()
	}
	if cause == nil {
		cause = err
	}
	if cause != nil {
		_ = r.tx.Rollback()
		r.err = cause
	} else {
		r.err = r.tx.Commit()
	}
	r.conn.open = false
	return r.err
}

func (r *boundRows) HasNextResultSet() bool {
	next, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && next.HasNextResultSet()
}

func (r *boundRows) NextResultSet() error {
	if next, ok := r.Rows.(driver.RowsNextResultSet); ok {
		return next.NextResultSet()
	}
	return io.EOF
}

func (r *boundRows) ColumnTypeScanType(index int) reflect.Type {
	if t, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(index)
	}
	return reflect.TypeFor[any]()
}

func (r *boundRows) ColumnTypeDatabaseTypeName(index int) string {
	if t, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

func (r *boundRows) ColumnTypeLength(index int) (int64, bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(index)
	}
	return 0, false
}

func (r *boundRows) ColumnTypeNullable(index int) (nullable, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return t.ColumnTypeNullable(index)
	}
	return false, false
}

func (r *boundRows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return t.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}
