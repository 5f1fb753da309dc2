package tenantpgx

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tx is a transaction. Of k statements it costs k+1 round trips; without a statement none.
type Tx struct {
	conn   *Conn
	ctx    context.Context
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
		c.rollback(t.ctx)
		return pgx.ErrTxCommitRollback
	}
	x := &exchange{conn: c, explicit: true}
	if err := c.start(t.ctx, x, frame{}); err != nil {
		if !c.pg.IsClosed() {
			c.rollback(t.ctx)
		}
		return err
	}
	for _, sql := range t.commit {
		x.sendAfter(sql)
	}
	if err := x.pipeline.Sync(); err != nil {
		return err
	}
	var (
		tag pgconn.CommandTag
		err error
	)
	for ; x.after > 0 && err == nil; x.after-- {
		tag, err = x.next()
	}
	if err := x.end(t.ctx, err); err != nil {
		return err
	}
	if tag.String() == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return nil
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

func (c *Conn) rollback(ctx context.Context) error {
	if c.pg.IsClosed() {
		return driver.ErrBadConn
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := c.pg.Exec(ctx, "ROLLBACK").ReadAll()
	if err != nil {
		_ = c.pg.Close(ctx)
	}
	return err
}
