package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"
	"testing"
)

// recorder is a driver.Connector that notes every statement before the inner driver runs it.
type recorder struct {
	inner driver.Driver
	url   string

	mu         sync.Mutex
	statements []statement
}

type statement struct {
	text string
	args []any
}

// record opens a database whose statements are noted.
func record(t *testing.T, driverName, url string) (*sql.DB, *recorder) {
	t.Helper()
	db, err := sql.Open(driverName, url)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{inner: db.Driver(), url: url}
	_ = db.Close()
	db = sql.OpenDB(r)
	t.Cleanup(func() { _ = db.Close() })
	return db, r
}

// during returns what is run while fn does.
func (r *recorder) during(fn func()) []statement {
	r.mu.Lock()
	from := len(r.statements)
	r.mu.Unlock()
	fn()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.statements[from:]
}

func (r *recorder) note(text string, args []driver.NamedValue) {
	s := statement{text: text}
	for _, a := range args {
		s.args = append(s.args, a.Value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = append(r.statements, s)
}

func (r *recorder) Driver() driver.Driver { return r.inner }

func (r *recorder) Connect(context.Context) (driver.Conn, error) {
	conn, err := r.inner.Open(r.url)
	return &recordedConn{conn, r}, err
}

// recordedConn passes on what both drivers of these tests can do.
type recordedConn struct {
	driver.Conn
	r *recorder
}

func (c *recordedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.r.note("BEGIN", nil)
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *recordedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.r.note(query, args)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *recordedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.r.note(query, args)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *recordedConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (s statement) String() string { return strings.Join(strings.Fields(s.text), " ") }
