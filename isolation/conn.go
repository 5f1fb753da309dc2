package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// sessionKey marks the context of DB.Conn.
type sessionKey struct{}

// conn is a virtual connection. database/sql holds it for one statement, one transaction or one
// sql.Conn. It leases an inner connection at its first use and gives it back in IsValid or Close,
// which database/sql calls when the holder is done and all rows are closed. database/sql never
// calls two methods at once.
type conn struct {
	connector *connector
	marked    bool          // leased by DB.Conn
	preset    owner         // whom DB.Conn's context named, if anybody
	scope     tenancy.Scope // of preset

	// The lease.
	inner   *inner
	owner   owner
	route   Route
	session bool // several statements share the inner connection
	used    bool // a statement has run
	open    bool // bound rows of the fallback are open
	tx      *tx
}

var (
	_ driver.Conn               = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.Pinger             = (*conn)(nil)
	_ driver.SessionResetter    = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
)

// start begins a new holder's time.
func (c *conn) start(ctx context.Context) {
	c.marked, c.preset, c.scope = ctx.Value(sessionKey{}) != nil, owner{}, tenancy.Scope{}
	if !c.marked {
		return
	}
	if scope, err := tenancy.ScopeOf(ctx); err == nil {
		c.preset, c.scope = ownerOf(scope), scope
	}
}

// ResetSession begins a new holder's time.
func (c *conn) ResetSession(ctx context.Context) error {
	c.giveBack()
	c.start(ctx)
	return nil
}

// IsValid ends a holder's time. A virtual connection is always valid.
func (c *conn) IsValid() bool {
	c.giveBack()
	return true
}

// Close ends a holder's time.
func (c *conn) Close() error {
	c.giveBack()
	return nil
}

// CheckNamedValue takes every value: which are allowed is the inner driver's to say, and that is
// known only when the context of the call has named the tenant.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

// Ping checks the server of the context's tenant, or without a tenant the default one.
func (c *conn) Ping(ctx context.Context) error {
	if err := c.enter(ctx); err != nil {
		if !errors.Is(err, tenancy.ErrNoTenant) {
			return err
		}
		if err := c.leaseUnbound(ctx); err != nil {
			return err
		}
	}
	pinger, ok := c.inner.Conn.(driver.Pinger)
	if !ok {
		return nil
	}
	err := pinger.Ping(ctx)
	c.inner.broken = c.inner.broken || err != nil
	return err
}

// enter makes sure that the connection is leased, for the tenant of ctx.
func (c *conn) enter(ctx context.Context) error {
	scope, err := tenancy.ScopeOf(ctx)
	if c.inner != nil && c.owner.kind == ownerUnbound {
		c.giveBack()
	}
	held := c.owner
	if c.inner == nil {
		held = c.preset
	}
	switch {
	case err == nil && held.kind == ownerNone:
		return c.lease(ctx, scope)
	case err == nil:
		if wants := ownerOf(scope); wants != held {
			return mismatch(held, wants)
		}
	case held.kind == ownerNone || !errors.Is(err, tenancy.ErrNoTenant):
		return err
	}
	switch {
	case c.inner == nil:
		return c.lease(ctx, c.scope)
	case c.inner.broken:
		return fmt.Errorf("%w: the connection broke in an earlier statement", ErrConnectionLost)
	}
	return nil
}

func mismatch(held, wants owner) error {
	if held.tenant == wants.tenant && held.kind == wants.kind {
		return fmt.Errorf("%w: %v has moved since the work began: begin again", tenancy.ErrTenantMismatch, held)
	}
	return fmt.Errorf("%w: it is %v's and the context is %v's: finish one before you begin the other",
		tenancy.ErrTenantMismatch, held, wants)
}

// lease takes an inner connection for a scope.
func (c *conn) lease(ctx context.Context, scope tenancy.Scope) error {
	c.route = Route{Bind: c.route.Bind[:0]}
	share := systemShare
	if scope.System() {
		c.connector.recordSystem(ctx, scope.Reason)
		if err := c.connector.strategy.RouteSystem(c.connector.servers[c.connector.server], &c.route); err != nil {
			return fmt.Errorf("system scope (%s): %w", scope.Reason, err)
		}
		c.route.Pool.Server = c.connector.server
	} else {
		share = scope.Tenant.ID
		if share == "" {
			return fmt.Errorf("%w: the tenant has no id", tenancy.ErrNoTenant)
		}
		strategy, server, placement, err := c.connector.place(scope.Tenant)
		if err != nil {
			return err
		}
		if err := strategy.Route(server, scope.Tenant, placement, &c.route); err != nil {
			return fmt.Errorf("tenant %q: %w", share, err)
		}
		c.route.Pool.Server = placement.Server
		if c.route.Replica != nil && tenancy.IsReadOnly(ctx) {
			c.route.Pool.Login, c.route.Connector = loginReplica, c.route.Replica
		}
	}
	return c.acquire(ctx, share, ownerOf(scope))
}

// leaseUnbound takes an inner connection that belongs to no tenant.
func (c *conn) leaseUnbound(ctx context.Context) error {
	c.route = Route{Bind: c.route.Bind[:0]}
	if err := c.connector.strategy.RouteUnbound(c.connector.servers[c.connector.server], &c.route); err != nil {
		return err
	}
	c.route.Pool.Server = c.connector.server
	return c.acquire(ctx, systemShare, owner{kind: ownerUnbound})
}

func (c *conn) acquire(ctx context.Context, share string, o owner) error {
	in, err := c.connector.pool.acquire(ctx, &c.route, share)
	if err != nil {
		return err
	}
	c.inner, c.owner = in, o
	return nil
}

// giveBack ends the lease. The inner connection goes back to its pool only if it is known to be
// as it was.
func (c *conn) giveBack() {
	in := c.inner
	if in == nil {
		return
	}
	clean := !in.broken && c.tx == nil && !c.open
	if status, ok := in.Conn.(StatusConn); clean && ok {
		clean = status.Idle()
	}
	if clean && (c.session || in.dirty) {
		clean = c.resetSession(in)
	}
	c.inner, c.owner, c.session, c.used, c.open, c.tx = nil, owner{}, false, false, false, nil
	if clean {
		in.dirty = false
		c.connector.pool.release(in)
	} else {
		c.connector.pool.destroy(in)
	}
}

// resetTimeout bounds the reset of a session; one that hangs is closed.
const resetTimeout = 5 * time.Second

// resetSession takes away what statements left on the session: temporary tables, settings,
// locks. It reports whether it could.
func (c *conn) resetSession(in *inner) bool {
	if c.route.Engine != EnginePostgreSQL {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), resetTimeout)
	defer cancel()
	session, ok := in.Conn.(SessionConn)
	if !ok {
		return false // pooled, for all that is known: the session may be anybody's
	}
	direct, err := session.Direct(ctx)
	if err != nil {
		return false
	}
	if !direct {
		return true // a pooler's client has no session; what the transaction left, it undid itself
	}
	return execInner(ctx, in.Conn, dialect.ResetSession) == nil
}

// prepareSession makes sure that a second statement on one lease finds the session of the first.
func (c *conn) prepareSession(ctx context.Context) error {
	if c.session || (!c.used && !c.marked) {
		return nil
	}
	if c.route.Engine == EnginePostgreSQL {
		session, ok := c.inner.Conn.(SessionConn)
		if !ok {
			return ErrSessionUnsupported
		}
		direct, err := session.Direct(ctx)
		if err != nil {
			c.inner.broken = true
			return fmt.Errorf("ask for the session's process: %w", err)
		}
		if !direct {
			return ErrSessionUnsupported
		}
	}
	c.session = true
	return nil
}

// admit decides how a statement runs: it leases, refuses what would end the binding, and notes
// what has to be cleaned up.
func (c *conn) admit(ctx context.Context, query string) (statementKind, error) {
	if err := c.enter(ctx); err != nil {
		if !errors.Is(err, tenancy.ErrNoTenant) || !versionQueries[c.connector.engine()][strings.TrimSpace(query)] {
			return 0, err
		}
		return kindData, c.leaseUnbound(ctx)
	}
	if c.route.Fenced && !isFiltered(ctx, query) {
		return 0, ErrUnfiltered
	}
	kind := kindOf(c.route.Engine, query)
	if c.tx != nil {
		if kind == kindTransaction {
			return kind, ErrTransactionControl
		}
		if kind == kindEnds {
			return kind, endsTransaction(query)
		}
		if err := c.tx.settle(ctx); err != nil {
			return kind, err
		}
	} else {
		if err := c.prepareSession(ctx); err != nil {
			return kind, err
		}
		if kind == kindTransaction && (!c.session || len(c.route.Bind) > 0) {
			return kind, ErrTransactionControl
		}
	}
	if _, single := c.inner.Conn.(BoundConn); !single && len(c.route.Bind) > 0 && several(query) ||
		c.route.Engine == EngineMariaDB && severalMariaDB(query) {
		return kind, ErrSeveralStatements
	}
	c.used = true
	if (kind == kindSession || kind == kindEnds) && (c.route.Engine == EnginePostgreSQL || c.route.Engine == EngineMariaDB) {
		c.inner.dirty = true
		if c.tx != nil {
			c.tx.doubt = c.route.Engine == EngineMariaDB
		}
	}
	return kind, nil
}

func (c *connector) engine() Engine { return c.servers[c.server].Engine() }

// ExecContext runs a statement for the tenant of ctx.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	kind, err := c.admit(ctx, query)
	if err != nil {
		return nil, err
	}
	bound, ok := c.inner.Conn.(BoundConn)
	written := query
	query = c.route.tag(query, ok)
	bind := c.binding()
	if bind == nil {
		c.announce(written)
		result, err := innerExec(ctx, c.inner.Conn, query, args)
		return result, c.failed(err, false)
	}
	if !ok {
		return c.execFallback(ctx, kind, query, args)
	}
	if args, err = convert(c.inner.Conn, nil, args); err != nil {
		return nil, err
	}
	c.announce(written)
	result, err := bound.ExecBound(ctx, bind, kind == kindData, query, args)
	if err != nil && c.session && sqlState(err) == stateNoTransaction {
		c.announce(written)
		result, err = innerExec(ctx, c.inner.Conn, query, args)
	}
	return result, c.failed(err, true)
}

// QueryContext runs a statement for the tenant of ctx.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	kind, err := c.admit(ctx, query)
	if err != nil {
		return nil, err
	}
	bound, ok := c.inner.Conn.(BoundConn)
	written := query
	query = c.route.tag(query, ok)
	bind := c.binding()
	if bind == nil {
		c.announce(written)
		rows, err := innerQuery(ctx, c.inner.Conn, query, args)
		return rows, c.failed(err, false)
	}
	if !ok {
		return c.queryFallback(ctx, kind, query, args)
	}
	if args, err = convert(c.inner.Conn, nil, args); err != nil {
		return nil, err
	}
	c.announce(written)
	rows, err := bound.QueryBound(ctx, bind, kind == kindData, query, args)
	return rows, c.failed(err, true)
}

// announce tells the driver that the next statement is the caller's.
func (c *conn) announce(query string) {
	if traced, ok := c.inner.Conn.(TracedConn); ok {
		traced.Caller(query)
	}
}

// binding returns what the next statement must be bound by; nil when the transaction already
// is, or when the connection is the tenant's own.
func (c *conn) binding() []Setting {
	if c.tx != nil || len(c.route.Bind) == 0 {
		return nil
	}
	return c.route.Bind
}

// failed passes on an error of the driver. driver.ErrBadConn would make database/sql repeat the
// statement; it leaves only when nothing of the statement has been written, which a BoundConn
// promises and other drivers do not.
func (c *conn) failed(err error, promised bool) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, driver.ErrBadConn) {
		c.inner.broken = true
		if promised && c.tx == nil && !c.session {
			return driver.ErrBadConn
		}
		return fmt.Errorf("%w (%v)", ErrConnectionLost, err) //nolint:errorlint // driver.ErrBadConn in the tree would make database/sql repeat the statement
	}
	return explain(err)
}

// BeginTx begins a transaction for the tenant of ctx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	if err := c.prepareSession(ctx); err != nil {
		return nil, err
	}
	c.used = true
	t, err := c.beginInner(ctx, opts, Setting.SetLocal)
	if err != nil {
		return nil, c.beginFailed(ctx, err)
	}
	c.tx = t
	return t, nil
}

// Begin is not called by database/sql.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// PrepareContext keeps the text. It needs no tenant and does no I/O: each execution runs in the
// tenant of its own context, and so do the errors of the text show then.
func (c *conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return &stmt{conn: c, query: query}, nil
}

// Prepare keeps the text.
func (c *conn) Prepare(query string) (driver.Stmt, error) { return &stmt{conn: c, query: query}, nil }

// raw runs fn on the driver's connection.
func (c *conn) raw(ctx context.Context, fn func(driverConn any) error) (err error) {
	if err := c.enter(ctx); err != nil {
		return err
	}
	if c.route.Fenced {
		return ErrUnfiltered
	}
	c.inner.dirty = true
	if len(c.route.Bind) == 0 {
		c.inner.broken = c.route.Engine != EnginePostgreSQL // its state is known to fn alone
		return fn(c.inner.Conn)
	}
	t, err := c.beginInner(ctx, driver.TxOptions{}, Setting.SetLocal)
	if err != nil {
		return err
	}
	c.tx = t
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, t.Rollback())
		}
	}()
	// A transaction that waits for its first statement must have begun when fn takes over.
	if err := execInner(ctx, c.inner.Conn, "SELECT 1"); err != nil {
		return err
	}
	if err := fn(c.inner.Conn); err != nil {
		return err
	}
	done = true
	return t.Commit()
}

// stmt is a prepared statement: a text. It belongs to no tenant.
type stmt struct {
	conn  *conn
	query string
}

var (
	_ driver.Stmt             = (*stmt)(nil)
	_ driver.StmtExecContext  = (*stmt)(nil)
	_ driver.StmtQueryContext = (*stmt)(nil)
)

func (s *stmt) Close() error  { return nil }
func (s *stmt) NumInput() int { return -1 } // the inner driver knows

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

var errNoContext = errors.New("isolation: call it with a context")

func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, errNoContext }
func (s *stmt) Query([]driver.Value) (driver.Rows, error)  { return nil, errNoContext }
