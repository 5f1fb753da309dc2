package tenantpgx

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy/isolation"
)

// tx is a transaction of one tenant, or a savepoint in one.
type tx struct {
	conn       *scoped
	inner      driver.Tx // of a transaction
	outer      *tx       // that a savepoint is in; nil for a transaction
	savepoint  string
	savepoints int  // made in the transaction so far
	last       bool // the lease ends with it
	closed     bool
}

var _ pgx.Tx = (*tx)(nil)

// begin begins a transaction; there is one at a time.
func (s *scoped) begin(ctx context.Context, options pgx.TxOptions) (*tx, error) {
	text, err := beginText(options)
	if err != nil {
		return nil, err
	}
	if s.tx != nil {
		return nil, errors.New("tenantpgx: a transaction is open already: Begin of that one makes a savepoint")
	}
	inner, err := s.lease.Begin(ctx, driver.TxOptions{})
	if err != nil {
		return nil, err
	}
	s.conn.begin[0] = text
	s.tx = &tx{conn: s, inner: inner}
	return s.tx, nil
}

// beginText writes the options, which are strings, only as PostgreSQL knows them.
func beginText(options pgx.TxOptions) (string, error) {
	if options.BeginQuery != "" || options.CommitQuery != "" {
		return "", fmt.Errorf("%w: leave pgx.TxOptions.BeginQuery and CommitQuery empty", isolation.ErrTransactionControl)
	}
	text := "BEGIN"
	for _, option := range []struct{ value, prefix string }{
		{string(options.IsoLevel), " ISOLATION LEVEL "},
		{string(options.AccessMode), " "},
		{string(options.DeferrableMode), " "},
	} {
		switch value := strings.ToLower(option.value); value {
		case "":
		case "serializable", "repeatable read", "read committed", "read uncommitted",
			"read write", "read only", "deferrable", "not deferrable":
			text += option.prefix + strings.ToUpper(value)
		default:
			return "", fmt.Errorf("tenantpgx: PostgreSQL has no transaction mode %q", option.value)
		}
	}
	return text, nil
}

// over reports whether the transaction, or one that it is in, has ended.
func (t *tx) over() bool {
	for ; t != nil; t = t.outer {
		if t.closed {
			return true
		}
	}
	return false
}

// Begin makes a savepoint.
func (t *tx) Begin(ctx context.Context) (pgx.Tx, error) {
	if t.over() {
		return nil, pgx.ErrTxClosed
	}
	root := t.conn.tx
	root.savepoints++
	name := "sp_" + strconv.Itoa(root.savepoints)
	if _, err := t.conn.run(ctx, call{sql: "SAVEPOINT " + name}); err != nil {
		return nil, err
	}
	return &tx{conn: t.conn, outer: t, savepoint: name}, nil
}

// Commit commits, or releases the savepoint. In the context of another tenant it rolls back.
func (t *tx) Commit(ctx context.Context) error {
	if t.over() {
		return pgx.ErrTxClosed
	}
	if t.outer != nil {
		t.closed = true
		_, err := t.conn.run(ctx, call{sql: "RELEASE SAVEPOINT " + t.savepoint})
		return err
	}
	if _, err := t.conn.admit(ctx); err != nil {
		return errors.Join(err, t.end(ctx, t.inner.Rollback))
	}
	return t.end(ctx, t.inner.Commit)
}

// Rollback rolls back, to the savepoint if it is one, whatever the state of the context. A
// connection on which it fails is closed.
func (t *tx) Rollback(ctx context.Context) error {
	switch {
	case t.over():
		return pgx.ErrTxClosed
	case t.outer != nil:
		t.closed = true
		return t.conn.conn.rollbackTo(ctx, t.savepoint)
	default:
		return t.end(ctx, t.inner.Rollback)
	}
}

func (t *tx) end(ctx context.Context, how func() error) error {
	s := t.conn
	t.closed = true
	if t.last {
		defer s.release()
	}
	s.tx, s.names = nil, nil
	s.conn.bound.ctx = ctx
	if err := how(); err != nil {
		return s.lease.Explain(err)
	}
	return nil
}

// Exec runs one statement in the transaction.
func (t *tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.over() {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	return t.conn.exec(ctx, sql, args)
}

// Query runs one statement in the transaction.
func (t *tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.query(ctx, sql, args)
}

// QueryRow is Query for the first row. Its errors come from Scan, which must be called.
func (t *tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, _ := t.query(ctx, sql, args) // Scan returns the error
	return row{r}
}

func (t *tx) query(ctx context.Context, sql string, args []any) (*rows, error) {
	if t.over() {
		return failedRows(pgx.ErrTxClosed), pgx.ErrTxClosed
	}
	return t.conn.query(ctx, sql, args)
}

// SendBatch runs the statements of b in the transaction, in one network write.
func (t *tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if t.over() {
		return pgx.FailedBatchResults(b, pgx.ErrTxClosed)
	}
	r, err := t.conn.sendBatch(ctx, b)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return r
}

// CopyFrom is [Pool.CopyFrom] in the transaction.
func (t *tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if t.over() {
		return 0, pgx.ErrTxClosed
	}
	return t.conn.copyFrom(ctx, table, columns, source)
}

// Prepare describes a statement and lets the name stand for it until the transaction ends. Nothing
// of that name is made on the server, which a pooler could lose or another tenant find.
func (t *tx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if t.over() {
		return nil, pgx.ErrTxClosed
	}
	s := t.conn
	f, err := s.admit(ctx, sql)
	if err != nil {
		return nil, err
	}
	desc, err := s.conn.describe(ctx, f, s.lease.Text(sql))
	if err != nil {
		return nil, s.lease.Explain(err)
	}
	if name != "" {
		if s.names == nil {
			s.names = make(map[string]string)
		}
		s.names[name] = sql
	}
	return &pgconn.StatementDescription{Name: name, SQL: sql, ParamOIDs: desc.ParamOIDs, Fields: desc.Fields}, nil
}

// LargeObjects returns large objects whose every method fails with pgx.ErrTxClosed: on the server
// they belong to a login, and tenants may share it. Keep bytes in a bytea column.
func (t *tx) LargeObjects() pgx.LargeObjects {
	var b pgx.Batch
	b.BeginTx(pgx.TxOptions{})
	return pgx.FailedBatchResults(&b, pgx.ErrTxClosed).Tx().LargeObjects()
}

// Conn returns the pgx connection, in the transaction and bound; nil after its end. What is done
// with it, no tracer and no check of this package sees. It must not end the transaction; when that
// ends, the connection is closed, because somebody may have kept it.
func (t *tx) Conn() *pgx.Conn {
	if t.over() {
		return nil
	}
	s := t.conn
	s.escaped = true
	if s.conn.sendBegin() != nil {
		_ = s.conn.Close() // every use of it fails
	}
	return s.conn.pgx
}
