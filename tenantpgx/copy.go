package tenantpgx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// copyFrom copies rows into a table, in the open transaction or in one of its own.
func (s *scoped) copyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (n int64, err error) {
	if tracer, ok := s.conn.tracer.(pgx.CopyFromTracer); ok {
		ctx = tracer.TraceCopyFromStart(ctx, s.conn.pgx, pgx.TraceCopyFromStartData{TableName: table, ColumnNames: columns})
		defer func() {
			tag := pgconn.NewCommandTag(fmt.Sprintf("COPY %d", n))
			tracer.TraceCopyFromEnd(ctx, s.conn.pgx, pgx.TraceCopyFromEndData{CommandTag: tag, Err: err})
		}()
	}
	if _, err := s.admit(ctx); err != nil {
		return 0, err
	}
	if s.tx != nil {
		n, err = s.conn.copyFrom(ctx, table, columns, source)
		return n, s.lease.Explain(err)
	}
	t, err := s.begin(ctx, pgx.TxOptions{})
	if err != nil {
		return 0, err
	}
	defer func() {
		if !t.closed {
			err = errors.Join(err, t.Rollback(ctx))
		}
	}()
	if n, err = s.conn.copyFrom(ctx, table, columns, source); err != nil {
		return 0, s.lease.Explain(err)
	}
	if err := t.Commit(ctx); err != nil {
		return 0, err
	}
	return n, nil
}

// copyTable takes the rows for a table with row security, which COPY does not reach. It lives in a
// transaction, and has the schema's name before it, so that it stands for no other table.
const copyTable = "pg_temp.tenancy_copy"

// copyFrom copies rows into a table, in the transaction that is open.
func (c *Conn) copyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if len(columns) == 0 {
		return 0, errors.New("tenantpgx: CopyFrom without columns: name those that the rows have values for")
	}
	names := make([]string, len(columns))
	for i, name := range columns {
		names[i] = pgx.Identifier{name}.Sanitize()
	}
	into, list := table.Sanitize(), strings.Join(names, ", ")
	fields, walled, err := c.copyTarget(ctx, into, list)
	if err != nil {
		return 0, err
	}
	rows := &copyReader{types: c.pgx.TypeMap(), fields: fields, source: source, buf: append([]byte(nil), copyHeader...)}
	if !walled {
		return c.copyRows(ctx, into, list, rows)
	}
	_, err = c.batch(ctx, fmt.Sprintf("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA", copyTable, list, into))
	if err != nil {
		return 0, explainCopy(err)
	}
	if _, err := c.copyRows(ctx, copyTable, list, rows); err != nil {
		return 0, err
	}
	// As COPY does, the values given for identity columns count.
	tags, err := c.batch(ctx, fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %[2]s FROM %s", into, list, copyTable),
		"DROP TABLE "+copyTable)
	if err != nil {
		return 0, err
	}
	return tags[0].RowsAffected(), nil
}

// copyTarget describes the columns of a table, and reports whether row security holds this login
// back there.
func (c *Conn) copyTarget(ctx context.Context, table, columns string) (fields []pgconn.FieldDescription, walled bool, err error) {
	x, err := c.open(ctx, frame{}, "COPY")
	if err != nil {
		return nil, false, err
	}
	x.pipeline.SendPrepare("", "SELECT "+columns+" FROM "+table, nil)
	x.expect(answer{wanted: true})
	x.pipeline.SendQueryParams("SELECT pg_catalog.row_security_active($1::pg_catalog.text::pg_catalog.regclass)::pg_catalog.text",
		[][]byte{[]byte(table)}, nil, nil, nil)
	x.expect(answer{wanted: true})
	if err := x.flush(); err != nil {
		return nil, false, err
	}
	described, err := x.description()
	if err == nil {
		fields = described.Fields
		walled, err = readBool(x)
	}
	_, err = x.end(ctx, err)
	return fields, walled, err
}

func readBool(x *exchange) (bool, error) {
	r, err := x.results()
	if err != nil {
		return false, err
	}
	is := r.NextRow() && string(r.Values()[0]) == "true"
	_, err = r.Close()
	return is, err
}

// batch runs statements of our own in one write.
func (c *Conn) batch(ctx context.Context, statements ...string) ([]pgconn.CommandTag, error) {
	x, err := c.open(ctx, frame{}, statements[0])
	if err != nil {
		return nil, err
	}
	for _, sql := range statements {
		x.pipeline.SendQueryParams(sql, nil, nil, nil, nil)
		x.expect(answer{wanted: true})
	}
	if err := x.flush(); err != nil {
		return nil, err
	}
	tags := make([]pgconn.CommandTag, len(statements))
	for i := 0; i < len(tags) && err == nil; i++ {
		var r *pgconn.ResultReader
		if r, err = x.results(); err == nil {
			tags[i], err = r.Close()
		}
	}
	_, err = x.end(ctx, err)
	return tags, err
}

// explainCopy adds the remedy to a refused temporary table.
func explainCopy(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return fmt.Errorf("CopyFrom into a table with row security goes through a temporary table: "+
			"GRANT TEMPORARY ON the DATABASE to the application's role, or insert with SendBatch: %w", err)
	}
	return err
}

// copyRows runs COPY. When it returns, nobody reads the source any more.
func (c *Conn) copyRows(ctx context.Context, table, columns string, rows *copyReader) (int64, error) {
	defer rows.stop()
	tag, err := c.pg.CopyFrom(ctx, rows, "COPY "+table+" ("+columns+") FROM STDIN BINARY")
	return tag.RowsAffected(), err
}

// copyHeader begins a binary COPY: the signature, no flags, no extension.
const copyHeader = "PGCOPY\n\377\r\n\000" + "\000\000\000\000" + "\000\000\000\000"

// copyChunk is how much is encoded at once.
const copyChunk = 64 << 10

// copyReader encodes rows as COPY reads them. pgconn reads on a goroutine of its own.
type copyReader struct {
	types  *pgtype.Map
	fields []pgconn.FieldDescription
	source pgx.CopyFromSource

	mu   sync.Mutex
	buf  []byte
	sent int
	end  error // io.EOF, or why there is no more
}

// Read returns encoded rows.
func (r *copyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.sent == len(r.buf) && r.end == nil {
		r.buf, r.sent = r.buf[:0], 0
		r.fill()
	}
	if r.sent == len(r.buf) {
		return 0, r.end
	}
	n := copy(p, r.buf[r.sent:])
	r.sent += n
	return n, nil
}

// stop waits for a Read under way and ends the reader.
func (r *copyReader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf, r.sent, r.end = nil, 0, io.ErrClosedPipe
}

func (r *copyReader) fill() {
	for len(r.buf) < copyChunk {
		if !r.source.Next() {
			if r.end = r.source.Err(); r.end == nil {
				r.end = io.EOF
			}
			return
		}
		values, err := r.source.Values()
		if err == nil && len(values) != len(r.fields) {
			err = fmt.Errorf("expected %d values, got %d values", len(r.fields), len(values))
		}
		if err == nil {
			err = r.append(values)
		}
		if err != nil {
			r.end = err
			return
		}
	}
}

// append encodes a row: the number of its values, and each with its length.
func (r *copyReader) append(values []any) (err error) {
	r.buf = append(r.buf, byte(len(values)>>8), byte(len(values)))
	for i, v := range values {
		if r.buf, err = r.appendValue(r.buf, r.fields[i].DataTypeOID, v); err != nil {
			return fmt.Errorf("column %s: %w", r.fields[i].Name, err)
		}
	}
	return nil
}

// appendValue appends a value with its length; -1 stands for NULL.
func (r *copyReader) appendValue(row []byte, oid uint32, v any) ([]byte, error) {
	at := len(row)
	row = append(row, 0xff, 0xff, 0xff, 0xff)
	encoded, err := r.types.Encode(oid, pgtype.BinaryFormatCode, v, row)
	if err != nil {
		var again error
		if encoded, again = r.encodeText(row, oid, v); again != nil {
			return nil, err
		}
	}
	if encoded == nil {
		return row, nil
	}
	n := len(encoded) - at - 4
	encoded[at], encoded[at+1], encoded[at+2], encoded[at+3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return encoded, nil
}

// encodeText encodes a value that is known only as text, as pgx does: a string for a number, or an
// array in braces.
func (r *copyReader) encodeText(row []byte, oid uint32, v any) ([]byte, error) {
	text, ok := v.(string)
	if !ok {
		encoded, err := r.types.Encode(oid, pgtype.TextFormatCode, v, nil)
		if err != nil {
			return nil, err
		}
		text = string(encoded)
	}
	if t, ok := r.types.TypeForOID(oid); ok {
		if _, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			var array pgtype.Array[any]
			if err := r.types.Scan(oid, pgtype.TextFormatCode, []byte(text), &array); err == nil {
				return r.types.Encode(oid, pgtype.BinaryFormatCode, array, row)
			}
		}
	}
	var parsed any
	if err := r.types.Scan(oid, pgtype.TextFormatCode, []byte(text), &parsed); err != nil {
		return nil, err
	}
	return r.types.Encode(oid, pgtype.BinaryFormatCode, parsed, row)
}
