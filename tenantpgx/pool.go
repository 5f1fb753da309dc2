package tenantpgx

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy/isolation"
)

// Pool has the methods of a pgxpool.Pool, and each call runs inside the tenant of its context. Code
// that sqlc generated for pgx takes it as its DBTX. It may be used concurrently.
//
// What differs from pgxpool: without a tenant every call is tenancy.ErrNoTenant. Statements always
// go by the extended protocol, one per call; a pgx.QueryExecMode among the arguments has no effect.
// A transaction is sent with its first statement. The tracer of the connector's config sees the
// caller's statements, and neither bindings nor BEGIN and COMMIT. What is closed or released stays
// closed: rows answer nothing after Close, where pgx's read on in a connection that is no longer
// theirs.
type Pool struct {
	db   *isolation.DB
	name func(tenantID string) string // for application_name; nil leaves it alone
}

// New returns a pool over the servers, strategies and connections of db; both share one budget. The
// connectors of db must be this package's: a tenant whose connections are another driver's gets
// isolation.ErrUnsupported.
func New(db *isolation.DB) *Pool { return &Pool{db: db} }

// WithApplicationName returns a pool on the same connections that tells the server who uses them:
// as long as a tenant's statement or transaction runs, its application_name, which
// pg_stat_activity and the server's log show, is what name returns, cut to 63 bytes. It costs no round
// trip. Tenants with a login of their own, and the system, are told by that and keep theirs.
func (p *Pool) WithApplicationName(name func(tenantID string) string) *Pool {
	return &Pool{db: p.db, name: name}
}

// DB returns the database/sql side of the pool.
func (p *Pool) DB() *isolation.DB { return p.db }

// Close closes the DB under the pool. Connections in use close as they are released.
func (p *Pool) Close() error { return p.db.Close() }

// Ping checks the server of ctx's tenant, or without a tenant the default one.
func (p *Pool) Ping(ctx context.Context) error { return p.db.PingContext(ctx) }

// Stat counts the connections, those of the DB under the pool included.
func (p *Pool) Stat() isolation.PoolStats { return p.db.PoolStats() }

// Exec runs one statement for the tenant of ctx, in one network write.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	s, err := p.acquire(ctx, false)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer s.release()
	return s.exec(ctx, sql, args)
}

// Query runs one statement for the tenant of ctx, in one network write. The connection is the
// rows' until they are closed or read to the end.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.query(ctx, sql, args)
}

// QueryRow is Query for the first row. Its errors come from Scan, which must be called.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, _ := p.query(ctx, sql, args) // Scan returns the error
	return row{r}
}

func (p *Pool) query(ctx context.Context, sql string, args []any) (r *rows, err error) {
	s, err := p.acquire(ctx, false)
	if err != nil {
		return failedRows(err), err
	}
	defer func() {
		if r == nil || r.closed { // or a panic of one of the arguments
			s.release()
		}
	}()
	r, err = s.query(ctx, sql, args)
	r.last = true
	return r, err
}

// SendBatch runs the statements of b for the tenant of ctx, in one network write and one
// transaction. [pgx.Batch.BeginTx] is refused. The results must be closed.
func (p *Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	s, err := p.acquire(ctx, false)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	var r *batchResults
	defer func() {
		if r == nil || r.closed {
			s.release()
		}
	}()
	r, err = s.sendBatch(ctx, b)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	r.last = true
	return r
}

// CopyFrom copies rows into a table of ctx's tenant, in one transaction, and returns their number.
// PostgreSQL refuses COPY into a table with row security: there the rows go through a temporary
// table, for which the login needs the right TEMPORARY on the database, and a row of another tenant
// fails the policy.
func (p *Pool) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	s, err := p.acquire(ctx, false)
	if err != nil {
		return 0, err
	}
	defer s.release()
	return s.copyFrom(ctx, table, columns, source)
}

// Begin begins a transaction of ctx's tenant.
func (p *Pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx begins a transaction of ctx's tenant. It is sent with its first statement. As with pgx, ctx
// does not end it: call Commit or Rollback. Texts of one's own to begin or commit are refused.
func (p *Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	s, err := p.acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	t, err := s.begin(ctx, options)
	if err != nil {
		s.release()
		return nil, err
	}
	t.last = true
	return t, nil
}

// Acquire leases one connection for several statements of ctx's tenant. It must be released. Behind
// a pooler it is isolation.ErrSessionUnsupported.
func (p *Pool) Acquire(ctx context.Context) (*PoolConn, error) {
	s, err := p.acquire(ctx, true)
	if err != nil {
		return nil, err
	}
	return &PoolConn{s}, nil
}

// AcquireFunc runs fn with a leased connection, which is released afterwards, also after a panic.
func (p *Pool) AcquireFunc(ctx context.Context, fn func(*PoolConn) error) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return fn(c)
}
