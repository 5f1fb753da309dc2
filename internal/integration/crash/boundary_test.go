package crash_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"os"
	"slices"
	"sync"
	"syscall"
)

// points counts the boundaries that a process passes and kills it at one of them.
type points struct {
	mu    sync.Mutex
	at    int // the process dies at this one; 0 is never
	names []string
}

// pass is called at each boundary.
func (p *points) pass(name string) {
	p.mu.Lock()
	defer p.mu.Unlock() // nobody goes past while the process dies
	p.names = append(p.names, name)
	if len(p.names) == p.at {
		die()
	}
}

// passed returns the boundaries that were passed so far.
func (p *points) passed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.names)
}

// die ends the process as kill -9 does: nothing is closed, given back or told.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// around passes the boundaries before and after fn.
func (p *points) around(name string, fn func() error) error {
	p.pass("before " + name)
	err := fn()
	p.pass("after " + name)
	return err
}

// byName opens connections of a registered driver.
type byName struct {
	driver driver.Driver
	name   string
}

func (c byName) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.name) }
func (c byName) Driver() driver.Driver                        { return c.driver }

// openCounted opens a database whose writes are boundaries: each COMMIT, and each statement outside a
// transaction that is not a query.
func openCounted(driverName, name string, p *points) (*sql.DB, error) {
	db, err := sql.Open(driverName, name)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return sql.OpenDB(countedConnector{byName{db.Driver(), name}, p}), nil
}

type countedConnector struct {
	driver.Connector
	points *points
}

func (c countedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, points: c.points}, nil
}

type countedConn struct {
	driver.Conn
	points *points
	inTx   bool
}

func (c *countedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.inTx = true
	return countedTx{tx, c}, nil
}

// write passes the boundaries of a statement that commits by itself.
func (c *countedConn) write(fn func() (driver.Result, error)) (result driver.Result, err error) {
	if c.inTx {
		return fn()
	}
	err = c.points.around("a statement of the catalogue", func() error {
		result, err = fn()
		return err
	})
	return result, err
}

func (c *countedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.write(func() (driver.Result, error) { return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args) })
}

func (c *countedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *countedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return countedStmt{stmt, c}, nil
}

func (c *countedConn) ResetSession(ctx context.Context) error {
	if r, ok := c.Conn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *countedConn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *countedConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type countedTx struct {
	driver.Tx
	conn *countedConn
}

func (t countedTx) Commit() error {
	t.conn.inTx = false
	return t.conn.points.around("a commit of the catalogue", t.Tx.Commit)
}

func (t countedTx) Rollback() error {
	t.conn.inTx = false
	return t.Tx.Rollback()
}

type countedStmt struct {
	driver.Stmt
	conn *countedConn
}

func (s countedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.write(func() (driver.Result, error) { return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args) })
}

func (s countedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

func (s countedStmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.Stmt.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}
