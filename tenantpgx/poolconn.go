package tenantpgx

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PoolConn is a connection of one tenant, leased from a [Pool] for several statements. Each of them
// is bound by itself. The context of another tenant is tenancy.ErrTenantMismatch, one without a
// tenant inherits. A statement that cannot run in a transaction, such as VACUUM, runs unbound. It is
// used by one goroutine at a time.
type PoolConn struct{ conn *scoped }

// errReleased answers for a connection that is no longer the caller's.
var errReleased = errors.New("tenantpgx: the connection was released: acquire another")

// Release gives the connection back. What the statements left on its session is gone; with a
// transaction or rows open it is closed. It is idempotent.
func (c *PoolConn) Release() {
	if c.conn != nil {
		c.conn.release()
		c.conn = nil
	}
}

// Exec runs one statement.
func (c *PoolConn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if c.conn == nil {
		return pgconn.CommandTag{}, errReleased
	}
	return c.conn.exec(ctx, sql, args)
}

// Query runs one statement. Until its rows are closed the connection can do nothing else.
func (c *PoolConn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return c.query(ctx, sql, args)
}

// QueryRow is Query for the first row. Its errors come from Scan, which must be called.
func (c *PoolConn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, _ := c.query(ctx, sql, args) // Scan returns the error
	return row{r}
}

func (c *PoolConn) query(ctx context.Context, sql string, args []any) (*rows, error) {
	if c.conn == nil {
		return failedRows(errReleased), errReleased
	}
	return c.conn.query(ctx, sql, args)
}

// SendBatch is [Pool.SendBatch] on the connection; in its transaction, if one is open.
func (c *PoolConn) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if c.conn == nil {
		return pgx.FailedBatchResults(b, errReleased)
	}
	r, err := c.conn.sendBatch(ctx, b)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return r
}

// CopyFrom is [Pool.CopyFrom] on the connection; in its transaction, if one is open.
func (c *PoolConn) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if c.conn == nil {
		return 0, errReleased
	}
	return c.conn.copyFrom(ctx, table, columns, source)
}

// Begin begins a transaction.
func (c *PoolConn) Begin(ctx context.Context) (pgx.Tx, error) {
	return c.BeginTx(ctx, pgx.TxOptions{})
}

// BeginTx is [Pool.BeginTx] on the connection. There is one at a time; Begin of that makes a
// savepoint.
func (c *PoolConn) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	if c.conn == nil {
		return nil, errReleased
	}
	t, err := c.conn.begin(ctx, options)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Ping asks the server for a sign of life.
func (c *PoolConn) Ping(ctx context.Context) error {
	if c.conn == nil {
		return errReleased
	}
	return c.conn.ping(ctx)
}
