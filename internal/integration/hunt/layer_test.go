package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// layer is a library over the handle that has methods of its own: pgx's, or GORM's.
type layer interface {
	statements
	begin(ctx context.Context, options driver.TxOptions) (transaction, error)
	// lease returns one connection. The function gives it back.
	lease(ctx context.Context) (leased, func() error, error)
	// inTx runs fn in a transaction by the layer's own callback.
	inTx(ctx context.Context, fn func(tx transaction) error) error
}

type statements interface {
	exec(ctx context.Context, query string, args []any) (driver.Result, error)
	query(ctx context.Context, query string, args []any) (driver.Rows, error)
}

type leased interface {
	statements
	begin(ctx context.Context, options driver.TxOptions) (transaction, error)
}

type transaction interface {
	statements
	commit() error
	rollback() error
}

// layered is a layer in the shape that the suites drive. Each use of the embedded pool opens a
// connection that is none: whatever it is told it tells the layer.
type layered struct {
	*sql.DB
	layer layer
	under *isolation.DB
}

var _ isolationtest.DB = (*layered)(nil)

func newLayered(l layer, under *isolation.DB) *layered {
	db := sql.OpenDB(layerConnector{l})
	db.SetMaxIdleConns(-1)
	return &layered{DB: db, layer: l, under: under}
}

// over lets the suites drive a handle through a layer.
func over(h isolationtest.Handle, newLayer func(db *isolation.DB) (layer, error)) (isolationtest.Handle, error) {
	wrap := func(db isolationtest.DB) (isolationtest.DB, error) {
		under, ok := db.(*isolation.DB)
		if !ok {
			return nil, fmt.Errorf("%T is no *isolation.DB", db)
		}
		l, err := newLayer(under)
		if err != nil {
			return nil, errors.Join(err, under.Close())
		}
		return newLayered(l, under), nil
	}
	open := h.Open
	h.Open = func(conns int) (isolationtest.DB, error) {
		db, err := open(conns)
		if err != nil {
			return nil, err
		}
		return wrap(db)
	}
	var err error
	h.DB, err = wrap(h.DB)
	return h, err
}

func (l *layered) PoolStats() isolation.PoolStats { return l.under.PoolStats() }

func (l *layered) Close() error { return errors.Join(l.DB.Close(), l.under.Close()) }

// Keys of contexts that say what a connection is to be.
type (
	leaseKey  struct{}
	insideKey struct{}
)

func (l *layered) Conn(ctx context.Context) (*sql.Conn, error) {
	return l.DB.Conn(context.WithValue(ctx, leaseKey{}, true))
}

func (l *layered) InTx(ctx context.Context, _ *sql.TxOptions, fn func(tx *sql.Tx) error) error {
	return l.layer.inTx(ctx, func(tx transaction) error {
		in := &inside{transaction: tx}
		// The end of ctx is the layer's to see. database/sql would roll back in a goroutine of its own,
		// beside the layer, whose transactions are for one.
		outer, err := l.BeginTx(context.WithValue(context.WithoutCancel(ctx), insideKey{}, in), nil)
		if err != nil {
			return err
		}
		defer func() {
			in.over.Store(true)
			_ = outer.Rollback() // gives the connection back, and no more
		}()
		return fn(outer)
	})
}

// inside is a transaction that a callback of the layer ends.
type inside struct {
	transaction
	over atomic.Bool
}

func (i *inside) rollback() error {
	if i.over.Load() {
		return nil
	}
	return i.transaction.rollback()
}

func (i *inside) commit() error { return errors.New("the callback must not commit") }

type layerConnector struct{ layer layer }

func (c layerConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn := &layerConn{leased: c.layer}
	conn.inside, _ = ctx.Value(insideKey{}).(*inside)
	if ctx.Value(leaseKey{}) != nil {
		var err error
		if conn.leased, conn.release, err = c.layer.lease(ctx); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

func (c layerConnector) Driver() driver.Driver { return c }

func (c layerConnector) Open(string) (driver.Conn, error) {
	return nil, errors.New("a layer is opened by its connector")
}

type layerConn struct {
	leased  leased
	tx      transaction // nil outside
	inside  *inside
	release func() error // nil without a lease
}

var (
	_ driver.ConnBeginTx       = (*layerConn)(nil)
	_ driver.QueryerContext    = (*layerConn)(nil)
	_ driver.ExecerContext     = (*layerConn)(nil)
	_ driver.NamedValueChecker = (*layerConn)(nil)
)

func (c *layerConn) now() statements {
	if c.tx != nil {
		return c.tx
	}
	return c.leased
}

func (c *layerConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.now().exec(ctx, query, values(args))
}

func (c *layerConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.now().query(ctx, query, values(args))
}

func (c *layerConn) CheckNamedValue(*driver.NamedValue) error { return nil }

func values(args []driver.NamedValue) []any {
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = a.Value
	}
	return all
}

func (c *layerConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	var err error
	if c.inside != nil {
		c.tx = c.inside
	} else if c.tx, err = c.leased.begin(ctx, options); err != nil {
		c.tx = nil
		return nil, err
	}
	return c, nil
}

func (c *layerConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *layerConn) Commit() error {
	tx := c.tx
	c.tx = nil
	return tx.commit()
}

func (c *layerConn) Rollback() error {
	tx := c.tx
	c.tx = nil
	return tx.rollback()
}

func (c *layerConn) Prepare(query string) (driver.Stmt, error) {
	return &layerStmt{conn: c, query: query}, nil
}

func (c *layerConn) Close() error {
	if c.release != nil {
		return c.release()
	}
	return nil
}

// layerStmt is a text: the layers prepare by themselves.
type layerStmt struct {
	conn  *layerConn
	query string
}

var (
	_ driver.StmtExecContext  = (*layerStmt)(nil)
	_ driver.StmtQueryContext = (*layerStmt)(nil)
)

func (s *layerStmt) Close() error  { return nil }
func (s *layerStmt) NumInput() int { return -1 }

func (s *layerStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

func (s *layerStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

func (s *layerStmt) Exec([]driver.Value) (driver.Result, error) {
	return nil, errors.New("a statement needs a context")
}

func (s *layerStmt) Query([]driver.Value) (driver.Rows, error) {
	return nil, errors.New("a statement needs a context")
}
