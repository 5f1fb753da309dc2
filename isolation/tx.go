package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// tx is a transaction of one tenant.
type tx struct {
	conn  *conn
	inner driver.Tx
	unset bool // bound by hand: undo by hand what statements may have set for the session
	doubt bool // a statement that has run may have ended the transaction on the server
}

func (t *tx) Commit() error {
	if err := t.settle(context.Background()); err != nil {
		return errors.Join(err, t.Rollback())
	}
	if t.unset {
		if err := t.conn.unset(); err != nil {
			return errors.Join(err, t.Rollback())
		}
	}
	return t.end(t.inner.Commit())
}

func (t *tx) Rollback() error { return t.end(t.inner.Rollback()) }

func (t *tx) end(err error) error {
	t.conn.tx = nil
	if err != nil {
		if _, knows := t.conn.inner.Conn.(StatusConn); !knows {
			t.conn.inner.broken = true // nobody knows whether the transaction is over
		}
	}
	if errors.Is(err, driver.ErrBadConn) {
		t.conn.inner.broken = true
		return fmt.Errorf("%w (%v)", ErrConnectionLost, err) //nolint:errorlint // driver.ErrBadConn in the tree would make database/sql repeat the statement
	}
	return err
}

// beginInner begins a transaction on the inner connection and binds it; say is how, for a driver
// that is no BoundConn.
func (c *conn) beginInner(ctx context.Context, opts driver.TxOptions, say bindText) (*tx, error) {
	if bound, ok := c.inner.Conn.(BoundConn); ok && len(c.route.Bind) > 0 {
		inner, err := bound.BeginBound(ctx, c.route.Bind, opts)
		if err != nil {
			return nil, err
		}
		return &tx{conn: c, inner: inner}, nil
	}
	inner, err := innerBegin(ctx, c.inner.Conn, opts)
	if err != nil {
		return nil, err
	}
	t := &tx{conn: c, inner: inner, unset: len(c.route.Bind) > 0}
	if err := c.bind(ctx, say); err != nil {
		c.inner.broken = true
		_ = inner.Rollback()
		return nil, fmt.Errorf("bind the transaction: %w", err)
	}
	return t, nil
}

// unset removes what the statements of a transaction may have left on the session under the
// names of the binding. The tenant stays bound for what runs at COMMIT.
func (c *conn) unset() error {
	for _, s := range c.route.Bind {
		off, err := s.SetOff()
		if err != nil {
			return err
		}
		if err := execInner(context.Background(), c.inner.Conn, off); err != nil {
			return err
		}
	}
	if _, session := c.inner.Conn.(SessionConn); !session {
		// It counts as pooled, where nobody resets the session: temporary tables would come before
		// the tables of the next tenant.
		if err := execInner(context.Background(), c.inner.Conn, dialect.DiscardTemp); err != nil {
			return err
		}
	}
	return c.bind(context.Background(), Setting.SetLocal)
}

// bindText says in SQL that a setting holds for the transaction.
type bindText func(Setting) (string, error)

// bindNow is the bindText for a single statement, which SET TRANSACTION cannot follow.
func bindNow(s Setting) (string, error) { return dialect.Bind(s.Name, s.Value, s.Off) }

// bind binds the open transaction.
func (c *conn) bind(ctx context.Context, say bindText) error {
	for _, s := range c.route.Bind {
		sql, err := say(s)
		if err != nil {
			return err
		}
		if err := execInner(ctx, c.inner.Conn, sql); err != nil {
			return err
		}
	}
	return nil
}

// execFallback runs a statement in a bound transaction for a driver that is no BoundConn.
func (c *conn) execFallback(ctx context.Context, kind statementKind, query string, args []driver.NamedValue) (driver.Result, error) {
	t, err := c.beginInner(ctx, driver.TxOptions{}, bindNow)
	if err != nil {
		return nil, c.beginFailed(ctx, err)
	}
	t.unset = kind != kindData
	result, err := innerExec(ctx, c.inner.Conn, query, args)
	if err == nil {
		err = ctx.Err() // cancelled in time: it must not take effect
	}
	if err != nil {
		_ = t.Rollback()
		return nil, c.failed(err, false)
	}
	if err := t.Commit(); err != nil {
		return nil, err
	}
	return result, nil
}

// queryFallback runs a statement in a bound transaction that lives as long as its rows.
func (c *conn) queryFallback(ctx context.Context, kind statementKind, query string, args []driver.NamedValue) (driver.Rows, error) {
	t, err := c.beginInner(ctx, driver.TxOptions{}, bindNow)
	if err != nil {
		return nil, c.beginFailed(ctx, err)
	}
	t.unset = kind != kindData
	rows, err := innerQuery(ctx, c.inner.Conn, query, args)
	if err != nil {
		_ = t.Rollback()
		return nil, c.failed(err, false)
	}
	c.open = true
	return &boundRows{Rows: rows, ctx: ctx, conn: c, tx: t}, nil
}

// beginFailed lets a BEGIN or binding that failed with its connection be repeated on another:
// nothing of the caller's was written.
func (c *conn) beginFailed(ctx context.Context, err error) error {
	if !errors.Is(err, driver.ErrBadConn) && (ctx.Err() != nil || alive(ctx, c.inner)) {
		return explain(err)
	}
	c.inner.broken = true
	if c.session {
		return fmt.Errorf("%w (%v)", ErrConnectionLost, err) //nolint:errorlint // driver.ErrBadConn in the tree would make database/sql repeat the statement
	}
	return driver.ErrBadConn
}
