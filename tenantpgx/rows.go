package tenantpgx

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Rows are the rows of a framed statement. They answer as the rows of pgx's stdlib do.
type Rows struct {
	ctx      context.Context
	exchange *exchange
	result   *pgconn.ResultReader
	fields   []pgconn.FieldDescription
	values   []valueFunc
	columns  []string
	tracer   pgx.QueryTracer // that saw the statement, or nil
	ahead    bool            // a row was read and not handed out
	done     bool
	err      error
}

var (
	_ driver.Rows                           = (*Rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*Rows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*Rows)(nil)
	_ driver.RowsColumnTypeLength           = (*Rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*Rows)(nil)
)

// Columns returns the names of the columns.
func (r *Rows) Columns() []string {
	if r.columns == nil {
		r.columns = make([]string, len(r.fields))
		for i, f := range r.fields {
			r.columns[i] = f.Name
		}
	}
	return r.columns
}

// Next reads a row. At the end it ends the transaction, whose error comes instead of io.EOF.
func (r *Rows) Next(dest []driver.Value) error {
	if !r.ahead && (r.done || !r.result.NextRow()) {
		if err := r.finish(); err != nil {
			return err
		}
		return io.EOF
	}
	r.ahead = false
	if r.values == nil {
		r.values = make([]valueFunc, len(r.fields))
		for i, f := range r.fields {
			r.values[i] = newValueFunc(r.exchange.conn.pgx.TypeMap(), f.DataTypeOID, f.Format)
		}
	}
	for i, src := range r.result.Values() {
		if src == nil {
			dest[i] = nil
			continue
		}
		var err error
		if dest[i], err = r.values[i](src); err != nil {
			return fmt.Errorf("convert field %d failed: %w", i, err)
		}
	}
	return nil
}

// Close reads what is left and ends the transaction.
func (r *Rows) Close() error { return r.finish() }

// finish ends the frame; then the connection is free.
func (r *Rows) finish() error {
	if r.done {
		return r.err
	}
	r.done, r.ahead = true, false
	tag, err := r.result.Close()
	_, r.err = r.exchange.end(r.ctx, err)
	r.exchange.conn.traceEnd(r.ctx, r.tracer, tag, r.err)
	return r.err
}

// ColumnTypeDatabaseTypeName returns the type's name in upper case, or its OID.
func (r *Rows) ColumnTypeDatabaseTypeName(index int) string {
	oid := r.fields[index].DataTypeOID
	if t, ok := r.exchange.conn.pgx.TypeMap().TypeForOID(oid); ok {
		return strings.ToUpper(t.Name)
	}
	return strconv.FormatInt(int64(oid), 10)
}

// varHeaderSize is what PostgreSQL adds to the length in a type modifier.
const varHeaderSize = 4

// ColumnTypeLength returns the length of types of variable length.
func (r *Rows) ColumnTypeLength(index int) (int64, bool) {
	f := r.fields[index]
	switch f.DataTypeOID {
	case pgtype.TextOID, pgtype.ByteaOID:
		return math.MaxInt64, true
	case pgtype.VarcharOID, pgtype.BPCharOID:
		return int64(f.TypeModifier - varHeaderSize), true
	case pgtype.VarbitOID:
		return int64(f.TypeModifier), true
	default:
		return 0, false
	}
}

// ColumnTypePrecisionScale returns the precision and scale of numeric.
func (r *Rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	f := r.fields[index]
	if f.DataTypeOID != pgtype.NumericOID {
		return 0, 0, false
	}
	mod := f.TypeModifier - varHeaderSize
	return int64((mod >> 16) & 0xffff), int64(mod & 0xffff), true
}

// ColumnTypeScanType returns the Go type to scan a column into.
func (r *Rows) ColumnTypeScanType(index int) reflect.Type {
	switch r.fields[index].DataTypeOID {
	case pgtype.Float8OID, pgtype.NumericOID:
		return reflect.TypeFor[float64]()
	case pgtype.Float4OID:
		return reflect.TypeFor[float32]()
	case pgtype.Int8OID:
		return reflect.TypeFor[int64]()
	case pgtype.Int4OID:
		return reflect.TypeFor[int32]()
	case pgtype.Int2OID:
		return reflect.TypeFor[int16]()
	case pgtype.BoolOID:
		return reflect.TypeFor[bool]()
	case pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		return reflect.TypeFor[time.Time]()
	case pgtype.ByteaOID:
		return reflect.TypeFor[[]byte]()
	default:
		return reflect.TypeFor[string]()
	}
}

// valueFunc turns a column's bytes into a driver.Value.
type valueFunc func(src []byte) (driver.Value, error)

// newValueFunc chooses the same Go types as pgx's stdlib.
func newValueFunc(m *pgtype.Map, oid uint32, format int16) valueFunc {
	switch oid {
	case pgtype.BoolOID:
		return scanned[bool](m, oid, format)
	case pgtype.ByteaOID, pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return scanned[[]byte](m, oid, format)
	case pgtype.CIDOID, pgtype.OIDOID, pgtype.XIDOID:
		return valued[pgtype.Uint32](m, oid, format)
	case pgtype.DateOID:
		return valued[pgtype.Date](m, oid, format)
	case pgtype.TimestampOID:
		return valued[pgtype.Timestamp](m, oid, format)
	case pgtype.TimestamptzOID:
		return valued[pgtype.Timestamptz](m, oid, format)
	case pgtype.Float4OID:
		return converted(m, oid, format, func(v float32) driver.Value { return float64(v) })
	case pgtype.Float8OID:
		return scanned[float64](m, oid, format)
	case pgtype.Int2OID:
		return converted(m, oid, format, func(v int16) driver.Value { return int64(v) })
	case pgtype.Int4OID:
		return converted(m, oid, format, func(v int32) driver.Value { return int64(v) })
	case pgtype.Int8OID:
		return scanned[int64](m, oid, format)
	default:
		return scanned[string](m, oid, format)
	}
}

func scanned[T any](m *pgtype.Map, oid uint32, format int16) valueFunc {
	return converted(m, oid, format, func(v T) driver.Value { return v })
}

func converted[T any](m *pgtype.Map, oid uint32, format int16, convert func(T) driver.Value) valueFunc {
	var v T
	plan := m.PlanScan(oid, format, &v)
	return func(src []byte) (driver.Value, error) {
		if err := plan.Scan(src, &v); err != nil {
			return nil, err
		}
		return convert(v), nil
	}
}

func valued[T driver.Valuer](m *pgtype.Map, oid uint32, format int16) valueFunc {
	var v T
	plan := m.PlanScan(oid, format, &v)
	return func(src []byte) (driver.Value, error) {
		if err := plan.Scan(src, &v); err != nil {
			return nil, err
		}
		return v.Value()
	}
}
