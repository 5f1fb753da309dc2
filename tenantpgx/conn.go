package tenantpgx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy/isolation"
)

// Conn is a connection of a [Connector]. Like every driver.Conn it is used by one goroutine at a
// time.
type Conn struct {
	std          *stdlib.Conn
	pgx          *pgx.Conn
	pg           *pgconn.PgConn
	descriptions *descriptions
	socket       *socket
	tracer       pgx.QueryTracer // of the callers' statements, or nil
	caller       string          // the text of the next statement as its caller wrote it; "" for the library's own

	direct   bool // no pooler is between
	prepared statements
	begin    []string  // BEGIN and binding that travel with a transaction's first statement
	bound    *Tx       // the open transaction
	lastUse  time.Time // when the server last answered
	builder  pgx.ExtendedQueryBuilder
	params   [6][]byte // scratch for the parameters of a binding
	exchange exchange  // the one on its way
}

func newConn(std *stdlib.Conn, d *descriptions) *Conn {
	return &Conn{
		std: std, pgx: std.Conn(), pg: std.Conn().PgConn(), descriptions: d,
		socket: newSocket(std.Conn().PgConn().Conn()), tracer: std.Conn().Config().Tracer, lastUse: time.Now(),
	}
}

var (
	_ driver.Conn               = (*Conn)(nil)
	_ driver.ConnBeginTx        = (*Conn)(nil)
	_ driver.ConnPrepareContext = (*Conn)(nil)
	_ driver.ExecerContext      = (*Conn)(nil)
	_ driver.QueryerContext     = (*Conn)(nil)
	_ driver.Pinger             = (*Conn)(nil)
	_ driver.SessionResetter    = (*Conn)(nil)
	_ driver.Validator          = (*Conn)(nil)
	_ driver.NamedValueChecker  = (*Conn)(nil)
	_ isolation.BoundConn       = (*Conn)(nil)
	_ isolation.StatusConn      = (*Conn)(nil)
	_ isolation.SessionConn     = (*Conn)(nil)
	_ isolation.LiveConn        = (*Conn)(nil)
	_ isolation.TracedConn      = (*Conn)(nil)
)

// Conn returns the pgx connection, as (*stdlib.Conn).Conn does, for use inside isolation.Raw.
func (c *Conn) Conn() *pgx.Conn { return c.pgx }

// Close closes the connection.
func (c *Conn) Close() error { return c.std.Close() }

// CheckNamedValue takes every value; pgx encodes it.
func (c *Conn) CheckNamedValue(*driver.NamedValue) error { return nil }

// Ping asks the server for a sign of life.
func (c *Conn) Ping(ctx context.Context) error { return c.std.Ping(ctx) }

// IsValid reports whether the connection is open and idle.
func (c *Conn) IsValid() bool { return c.Idle() }

// ResetSession reports a connection that cannot be used again.
func (c *Conn) ResetSession(ctx context.Context) error {
	if !c.Idle() || c.Live(ctx) != nil {
		return driver.ErrBadConn
	}
	return nil
}

// Idle reports whether no transaction is open and nothing waits to be read.
func (c *Conn) Idle() bool {
	return !c.pg.IsClosed() && !c.pg.IsBusy() && c.pg.TxStatus() == 'I' && c.begin == nil && c.bound == nil
}

// Live finds out, without a round trip, whether the server has closed the connection. Where the
// socket cannot tell, it asks the server after a second without use.
func (c *Conn) Live(ctx context.Context) error {
	if c.pg.IsClosed() {
		return driver.ErrBadConn
	}
	switch quiet, err := c.socket.isQuiet(); {
	case err == nil && quiet:
		return nil
	case err == nil, time.Since(c.lastUse) > time.Second:
		if c.pg.Ping(ctx) != nil { // it reads what is there: a farewell, or only a notice
			return driver.ErrBadConn
		}
		c.lastUse = time.Now()
	}
	return nil
}

// Caller says that the tracer is to see the next statement, and by which text.
func (c *Conn) Caller(query string) {
	if c.tracer != nil {
		c.caller = query
	}
}

// Direct reports whether the connection speaks to one server process all the time.
func (c *Conn) Direct(context.Context) (bool, error) { return c.direct, nil }

// findPooler compares the process that answers with the one that the connection was made with. A
// pooler announces a number of its own.
func (c *Conn) findPooler(ctx context.Context) error {
	result := c.pg.ExecParams(ctx, "SELECT pg_catalog.pg_backend_pid()::text", nil, nil, nil, nil).Read()
	if result.Err != nil {
		return result.Err
	}
	c.direct = len(result.Rows) == 1 && c.pg.PID() > 0 &&
		string(result.Rows[0][0]) == strconv.FormatUint(uint64(c.pg.PID()), 10)
	return nil
}

// Prepare prepares a named statement, which a pooler in transaction mode may lose.
func (c *Conn) Prepare(query string) (driver.Stmt, error) { return c.std.Prepare(query) }

// PrepareContext prepares a named statement, which a pooler in transaction mode may lose.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.std.PrepareContext(ctx, query)
}

// Begin begins a transaction.
func (c *Conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx begins a transaction that is bound to nobody; it travels with its first statement.
func (c *Conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.BeginBound(ctx, nil, opts)
}

// ExecContext runs a statement unbound, or in the transaction that is open.
func (c *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, frame{}, query, args)
}

// QueryContext runs a statement unbound, or in the transaction that is open.
func (c *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, frame{}, query, args)
}

// ExecBound runs a statement in a bound transaction of its own, in one network write.
func (c *Conn) ExecBound(ctx context.Context, bind []isolation.Setting, atomic bool, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.exec(ctx, frame{bind: bind, explicit: !atomic}, query, args)
}

// QueryBound runs a statement in a bound transaction of its own, in one network write.
func (c *Conn) QueryBound(ctx context.Context, bind []isolation.Setting, atomic bool, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.query(ctx, frame{bind: bind, explicit: !atomic}, query, args)
}

// BeginBound begins a bound transaction. Nothing is sent before its first statement.
func (c *Conn) BeginBound(ctx context.Context, bind []isolation.Setting, opts driver.TxOptions) (driver.Tx, error) {
	switch {
	case c.pg.IsClosed():
		return nil, driver.ErrBadConn
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case c.bound != nil:
		return nil, errors.New("tenantpgx: a transaction is open already: use a savepoint")
	}
	sql, err := beginSQL(opts)
	if err != nil {
		return nil, err
	}
	begin := make([]string, 1, 1+len(bind))
	begin[0] = sql
	t := &Tx{conn: c, ctx: ctx, bind: slices.Clone(bind)}
	for _, s := range bind {
		local, err := s.SetLocal()
		if err != nil {
			return nil, fmt.Errorf("bind %s: %w", s.Name, err)
		}
		off, err := s.SetOff()
		if err != nil {
			return nil, fmt.Errorf("bind %s: %w", s.Name, err)
		}
		begin = append(begin, local)
		// What a statement set for the session goes; the tenant stays for what runs at COMMIT.
		t.commit = append(t.commit, off, local)
	}
	if !c.direct {
		t.commit = append(t.commit, discardTemp)
	}
	t.commit = append(t.commit, "COMMIT")
	c.begin, c.bound = begin, t
	return t, nil
}

func beginSQL(opts driver.TxOptions) (string, error) {
	text := "BEGIN"
	switch sql.IsolationLevel(opts.Isolation) {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted:
		text += " ISOLATION LEVEL READ UNCOMMITTED"
	case sql.LevelReadCommitted:
		text += " ISOLATION LEVEL READ COMMITTED"
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		text += " ISOLATION LEVEL REPEATABLE READ"
	case sql.LevelSerializable:
		text += " ISOLATION LEVEL SERIALIZABLE"
	default:
		return "", fmt.Errorf("unsupported isolation: %v", opts.Isolation)
	}
	if opts.ReadOnly {
		text += " READ ONLY"
	}
	return text, nil
}
