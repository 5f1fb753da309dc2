package tenantpgx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// scoped is a connection that belongs to one tenant, with pgx's methods on it. A Pool has one for
// each call, a PoolConn and a transaction have one as long as they live.
type scoped struct {
	lease   *isolation.Lease
	conn    *Conn
	session bool
	tx      *tx               // the open transaction
	names   map[string]string // texts of its prepared statements
	escaped bool              // the application has the pgx connection
}

func (p *Pool) acquire(ctx context.Context, session bool) (*scoped, error) {
	lease, err := p.db.Lease(ctx, session)
	if err != nil {
		return nil, err
	}
	conn, ok := lease.Conn().(*Conn)
	if !ok {
		err := fmt.Errorf("tenantpgx.Pool on a connection of type %T: %w: open PostgreSQL by tenantpgx.NewConnector; "+
			"for other databases use isolation.DB", lease.Conn(), isolation.ErrUnsupported)
		lease.Release()
		return nil, err
	}
	if scope, err := tenancy.ScopeOf(ctx); err == nil && p.name != nil && !scope.System() {
		name := p.name(scope.Tenant.ID)
		lease.Label(isolation.Setting{
			Name: applicationName, Value: name[:min(len(name), maxApplicationName)],
			Off: conn.pg.ParameterStatus(applicationName), // which a pooler counts on
		})
	}
	return &scoped{lease: lease, conn: conn, session: session}, nil
}

const (
	applicationName = "application_name"
	// maxApplicationName is the length of PostgreSQL's names in bytes. It writes a ? for what is not
	// ASCII, so that nothing is cut in the middle.
	maxApplicationName = 63
)

// release ends the lease, and a transaction that is open. A connection that the application may still
// hold is closed.
func (s *scoped) release() {
	if s.tx != nil {
		s.tx.closed = true
		s.tx = nil
	}
	if s.escaped {
		_ = s.conn.Close() // nobody waits for its farewell
	}
	s.lease.Release()
}

// newCall returns a statement as pgx's methods take it. The text of a statement that the
// transaction prepared stands for its name.
func (s *scoped) newCall(ctx context.Context, sql string, args []any, rows bool) (call, error) {
	if text, ok := s.names[sql]; ok {
		sql = text
	}
	c, err := s.conn.newCall(ctx, sql, args)
	c.sql, c.rows, c.formats.native = s.lease.Text(c.sql), rows, true
	return c, err
}

// admit returns the frame of statements that make one transaction, or that belong to the open one.
func (s *scoped) admit(ctx context.Context, queries ...string) (frame, error) {
	bind, atomic, err := s.lease.Admit(ctx, queries...)
	return frame{bind: bind, explicit: !atomic && len(bind) > 0}, err
}

func (s *scoped) exec(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if tracer := s.conn.tracer; tracer != nil {
		ctx = tracer.TraceQueryStart(ctx, s.conn.pgx, pgx.TraceQueryStartData{SQL: sql, Args: args})
		defer func() {
			tracer.TraceQueryEnd(ctx, s.conn.pgx, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
		}()
	}
	c, err := s.newCall(ctx, sql, args, false)
	if err != nil {
		return tag, err
	}
	return s.run(ctx, c)
}

// run is exec without the tracer.
func (s *scoped) run(ctx context.Context, c call) (pgconn.CommandTag, error) {
	f, err := s.admit(ctx, c.sql)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := s.conn.run(ctx, f, c)
	if s.session && s.tx == nil && needsNoTransaction(err) {
		tag, err = s.conn.run(ctx, frame{}, c)
	}
	return tag, s.lease.Explain(err)
}

// needsNoTransaction reports whether the server refused, before it ran anything, a statement that
// cannot be in a transaction.
func needsNoTransaction(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "25001"
}

// query returns rows in any case; with an error they are closed.
func (s *scoped) query(ctx context.Context, sql string, args []any) (*rows, error) {
	tracer := s.conn.tracer
	if tracer != nil {
		ctx = tracer.TraceQueryStart(ctx, s.conn.pgx, pgx.TraceQueryStartData{SQL: sql, Args: args})
	}
	r, err := s.start(ctx, sql, args)
	if err != nil {
		if tracer != nil {
			tracer.TraceQueryEnd(ctx, s.conn.pgx, pgx.TraceQueryEndData{Err: err})
		}
		return failedRows(err), err
	}
	r.tracer = tracer
	return r, nil
}

func (s *scoped) start(ctx context.Context, sql string, args []any) (*rows, error) {
	c, err := s.newCall(ctx, sql, args, true)
	if err != nil {
		return nil, err
	}
	f, err := s.admit(ctx, c.sql)
	if err != nil {
		return nil, err
	}
	x, result, err := s.conn.start(ctx, f, c)
	if err != nil {
		return nil, s.lease.Explain(err)
	}
	return &rows{ctx: ctx, conn: s, exchange: x, base: pgx.RowsFromResultReader(s.conn.pgx.TypeMap(), result)}, nil
}

func (s *scoped) ping(ctx context.Context) error {
	if _, err := s.admit(ctx); err != nil {
		return err
	}
	return s.lease.Explain(s.conn.Ping(ctx))
}
