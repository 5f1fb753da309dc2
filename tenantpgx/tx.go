package tenantpgx

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy/isolation"
)

// Tx is a transaction. Of k statements it costs k+1 round trips; without a statement none.
type Tx struct {
	conn   *Conn
	ctx    context.Context
	bind   []isolation.Setting
	commit []string // the end of the transaction, sent in one write
}

var _ driver.Tx = (*Tx)(nil)

// Commit commits. After a failed statement it rolls back and returns pgx.ErrTxCommitRollback.
func (t *Tx) Commit() error {
	c := t.conn
	if t.over() {
		return nil
	}
	if c.pg.TxStatus() == 'E' {
		_ = c.rollback(t.ctx) // a connection on which it fails is closed
		return pgx.ErrTxCommitRollback
	}
	x, err := c.open(t.ctx, frame{}, "COMMIT")
	if err != nil {
		_ = c.rollback(t.ctx)
		return err
	}
	return t.finish(x)
}

func (t *Tx) finish(x *exchange) error {
	x.explicit = true // a transaction that cannot be committed is rolled back
	for _, sql := range t.commit {
		x.sendText(sql)
	}
	if err := x.pipeline.Sync(); err != nil {
		return err
	}
	tag, err := x.end(t.ctx, nil)
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// Rollback rolls back, whatever the state of the context.
func (t *Tx) Rollback() error {
	if t.over() {
		return nil
	}
	return t.conn.rollback(t.ctx)
}

// over ends the transaction here, and reports whether the server never heard of it.
func (t *Tx) over() bool {
	unsent := t.conn.begin != nil
	t.conn.begin, t.conn.bound = nil, nil
	return unsent
}

// rollbackTimeout bounds a rollback; a connection on which it fails is closed.
const rollbackTimeout = 5 * time.Second

func (c *Conn) rollback(ctx context.Context) error { return c.undo(ctx, "ROLLBACK") }

func (c *Conn) rollbackTo(ctx context.Context, savepoint string) error {
	return c.undo(ctx, "ROLLBACK TO SAVEPOINT "+savepoint)
}

func (c *Conn) undo(ctx context.Context, sql string) error {
	if c.pg.IsClosed() {
		return driver.ErrBadConn
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := c.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		_ = c.pg.Close(ctx)
	}
	return err
}

// sendBegin sends what waits for the transaction's first statement.
func (c *Conn) sendBegin() error {
	if c.begin == nil {
		return nil
	}
	x, err := c.open(c.bound.ctx, frame{}, "BEGIN")
	if err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	_, err = x.end(c.bound.ctx, nil)
	return err
}
