package hunt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// flaw is what a handle does wrong.
type flaw string

// server is a database server with sessions, in one SQLite file. Each tenant has a table of its
// own there; a session sees the one of the tenant that it is bound to, as after SET search_path
// or USE. What is not bound fails, unless the server has a fallback, as a URL names a database.
type server struct {
	flaw     flaw
	path     string
	fallback string

	statements atomic.Int64 // that it was asked

	mu       sync.Mutex
	sessions map[*session]bool
	plans    map[string]int // how many columns the answer to a text has
}

// planned returns an error at the first answer to a text that has other columns than the one before,
// as a cached plan does.
func (s *server) planned(query string, columns int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.plans[query]
	s.plans[query] = columns
	if known && before != columns && s.flaw == plansShared {
		return errors.New("cached plan must not change result type")
	}
	return nil
}

var errUnbound, errLost, errOther = errors.New("no tenant is bound"), errors.New("the connection was lost"),
	errors.New("another tenant's work is under way")

var errRefused = errors.New("the statement cannot be kept in its tenant")

type (
	tenantKey struct{}
	retryKey  struct{}
)

// control matches what begins or ends a transaction.
var control = regexp.MustCompile(`(?i)^\W*(/\* x \*/ |-- y\n)?(begin|start|commit|abort|rollback$)`)

// aggregates matches the forms of "how many are there?".
var aggregates = regexp.MustCompile(`(?i)\b(count|sum)\(`)

func tenantOf(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}

// Connect opens a session.
func (s *server) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inner, err := s.Driver().Open("file:" + s.path + "?_pragma=busy_timeout(3000)&_pragma=journal_mode(WAL)&_pragma=synchronous(0)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	c := &session{server: s, inner: inner.(sqliteConn)}
	c.alive, c.kill = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[c] = true
	return c, nil
}

// Driver returns SQLite's.
func (s *server) Driver() driver.Driver { return &sqlite.Driver{} }

// killSome ends sessions.
func (s *server) killSome(_ context.Context, most int) (killed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		if most > 0 && killed == most {
			break
		}
		c.kill()
		delete(s.sessions, c)
		killed++
	}
	return killed, nil
}

type sqliteConn interface {
	driver.Conn
	driver.QueryerContext
	driver.ExecerContext
	driver.ConnBeginTx
	driver.ConnPrepareContext
}

// session is the connection of a handle that binds it at each use and unbinds it afterwards.
type session struct {
	server *server
	inner  sqliteConn
	alive  context.Context // ends when the server kills it
	kill   context.CancelFunc
	open   bool // a transaction
	keep   bool // the next end of a use forgets to unbind
	dirty  bool // the session cannot be used again

	mu     sync.Mutex
	tenant string
}

func (c *session) bound() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tenant
}

func (c *session) bind(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenant = tenant
}

// use begins a use: the session is bound to the tenant of ctx, if there is one.
func (c *session) use(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.alive.Err() != nil {
		return errLost
	}
	tenant := tenantOf(ctx)
	switch {
	case c.server.flaw == sessionSet:
		return nil
	case tenant == "" && c.server.flaw == retryUnbound && ctx.Value(retryKey{}) == nil:
		return errUnbound
	case tenant == "":
		return nil
	}
	if c.open && tenant != c.bound() {
		if c.server.flaw == nestedAnswered {
			return nil
		}
		return errOther
	}
	c.bind(tenant)
	return nil
}

// end ends a use.
func (c *session) end(ctx context.Context) {
	switch {
	case c.open:
	case c.keep:
		c.keep = false
	case c.server.flaw == sessionSet:
	case c.server.flaw == resetCancelled && ctx.Err() != nil:
	case c.server.flaw == resetElsewhere:
		c.server.mu.Lock()
		defer c.server.mu.Unlock()
		for other := range c.server.sessions { // any connection of the pool
			other.bind("")
			return
		}
	default:
		c.bind("")
	}
}

// text resolves the name of the table, as the server does.
func (c *session) text(query string) (string, error) {
	if !strings.Contains(query, table) {
		return query, nil
	}
	tenant := c.bound()
	if tenant == "" {
		tenant = c.server.fallback
	}
	if tenant == "" {
		return "", errUnbound
	}
	if c.server.flaw == noParentheses {
		return filtered(query, tenant), nil
	}
	return strings.ReplaceAll(query, table, table+"_"+tenant), nil
}

// filtered adds a condition to a statement, as careless libraries do.
func filtered(query, tenant string) string {
	if strings.HasPrefix(query, "INSERT") || strings.HasPrefix(query, "REPLACE") {
		return query
	}
	query, returning, _ := strings.Cut(query, " RETURNING ")
	word := " WHERE "
	if strings.Contains(query, word) {
		word = " AND "
	}
	query += word + "owner = '" + tenant + "'"
	if returning != "" {
		query += " RETURNING " + returning
	}
	return query
}

// living returns a context that ends with the session as well.
func (c *session) living(ctx context.Context) (context.Context, func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, context.AfterFunc(c.alive, cancel)
}

func (c *session) lost(err error) error {
	if err != nil && c.alive.Err() != nil {
		return errLost
	}
	return err
}

func (c *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if tenant, ok := strings.CutPrefix(query, "USE "); ok {
		c.bind(tenant)
		return driver.ResultNoRows, nil
	}
	c.server.statements.Add(1)
	if query == "KEEP" {
		c.keep = true
		return driver.ResultNoRows, nil
	}
	if control.MatchString(query) {
		return nil, errors.New("the statement controls the transaction")
	}
	c.dirty = c.dirty || strings.Contains(query, "TEMPORARY")
	if err := c.use(ctx); err != nil {
		return nil, err
	}
	defer c.end(ctx)
	query, err := c.text(query)
	if err != nil {
		return nil, err
	}
	living, stop := c.living(ctx)
	defer stop()
	result, err := c.inner.ExecContext(living, query, args)
	return result, c.lost(err)
}

func (c *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.server.statements.Add(1)
	if c.server.flaw == formsRefused && aggregates.MatchString(query) {
		return nil, errRefused
	}
	if err := c.use(ctx); err != nil {
		return nil, err
	}
	asked := query
	query, err := c.text(query)
	var inner driver.Rows
	if err == nil {
		inner, err = c.inner.QueryContext(ctx, query, args)
	}
	if err == nil {
		if err = c.server.planned(asked, len(inner.Columns())); err != nil {
			err = errors.Join(err, inner.Close())
		}
	}
	if err != nil {
		c.end(ctx)
		return nil, c.lost(err)
	}
	return &sessionRows{Rows: inner, session: c, ctx: ctx}, nil
}

// sessionRows end the use when they are closed.
type sessionRows struct {
	driver.Rows
	session *session
	ctx     context.Context
	read    bool // to the end
}

func (r *sessionRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	r.read = r.read || err != nil
	return r.session.lost(err)
}

func (r *sessionRows) Close() error {
	err := r.Rows.Close()
	if r.session.server.flaw != rowsKeep || r.read {
		r.session.end(r.ctx)
	}
	return err
}

func (c *session) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if c.server.flaw != preparedKeeps {
		return &sessionStmt{c, query}, nil
	}
	if err := c.use(ctx); err != nil {
		return nil, err
	}
	defer c.end(ctx)
	query, err := c.text(query)
	if err != nil {
		return nil, err
	}
	return c.inner.PrepareContext(ctx, query)
}

func (c *session) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// sessionStmt is a text.
type sessionStmt struct {
	session *session
	query   string
}

func (s *sessionStmt) Close() error                               { return nil }
func (s *sessionStmt) NumInput() int                              { return -1 }
func (s *sessionStmt) Exec([]driver.Value) (driver.Result, error) { return nil, errors.ErrUnsupported }

func (s *sessionStmt) Query([]driver.Value) (driver.Rows, error) { return nil, errors.ErrUnsupported }

func (s *sessionStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.session.ExecContext(ctx, s.query, args)
}

func (s *sessionStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.session.QueryContext(ctx, s.query, args)
}

func (c *session) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.use(ctx); err != nil {
		return nil, err
	}
	inner, err := c.inner.BeginTx(ctx, opts)
	if err != nil {
		c.end(ctx)
		return nil, c.lost(err)
	}
	c.open = true
	return &sessionTx{inner, c, ctx}, nil
}

func (c *session) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

type sessionTx struct {
	inner   driver.Tx
	session *session
	ctx     context.Context
}

func (t *sessionTx) Commit() error {
	defer t.session.end(t.ctx)
	t.session.open = false
	if t.session.alive.Err() != nil {
		_ = t.inner.Rollback()
		if t.session.server.flaw == commitSwallowed {
			return nil
		}
		return errLost
	}
	return t.inner.Commit()
}

func (t *sessionTx) Rollback() error {
	defer t.session.end(t.ctx)
	t.session.open = false
	return t.inner.Rollback()
}

func (c *session) ResetSession(context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}

func (c *session) IsValid() bool { return c.alive.Err() == nil && !c.dirty }

func (c *session) Close() error {
	c.server.mu.Lock()
	delete(c.server.sessions, c)
	c.server.mu.Unlock()
	c.kill()
	return c.inner.Close()
}

// library is a handle over sessions, with transactions by callback.
type library struct {
	*sql.DB
	server *server
	direct *sql.DB // past all sessions
	flaw   flaw
	left   atomic.Bool
	end    <-chan struct{} // of the test
}

// newLibrary returns a handle with a flaw; "" has none.
func newLibrary(t testing.TB, f flaw) isolationtest.Handle {
	t.Helper()
	s := &server{flaw: f, path: filepath.Join(t.TempDir(), "server.db"), sessions: map[*session]bool{}, plans: map[string]int{}}
	tenants := []string{"acme", "globex", "initech"}
	direct, err := sql.Open("sqlite", "file:"+s.path+"?_pragma=busy_timeout(3000)")
	must(t, err)
	t.Cleanup(func() { _ = direct.Close() })
	for _, suffix := range []string{"", "_acme", "_globex", "_initech", "_nobody"} {
		for _, ddl := range append([]string{isolationtest.CreateTable(isolation.EngineSQLite, table+suffix, "")},
			isolationtest.CreateRelated(isolation.EngineSQLite, table+suffix, "")...) {
			_, err := direct.ExecContext(t.Context(), ddl)
			must(t, err)
		}
	}
	migrate := func(ctx context.Context, tenant, statement string) error {
		_, err := direct.ExecContext(ctx, strings.ReplaceAll(statement, table, table+"_"+tenant))
		return err
	}
	switch f {
	case retryUnbound:
		s.fallback = "acme"
	case emptyWithoutTenant:
		s.fallback = "nobody"
	}
	open := func(conns int) (isolationtest.DB, error) {
		db := sql.OpenDB(s)
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		return &library{DB: db, server: s, direct: direct, flaw: f, end: t.Context().Done()}, nil
	}
	db, err := open(8)
	must(t, err)
	t.Cleanup(func() { _ = db.(*library).Close() })
	return isolationtest.Handle{
		DB: db, Engine: isolation.EngineSQLite, Tenants: tenants, Open: open, Kill: s.killSome,
		Migrate: migrate, Related: true, Refuses: func(err error) bool { return errors.Is(err, errRefused) },
		Bind: func(ctx context.Context, tenant string) context.Context {
			return context.WithValue(ctx, tenantKey{}, tenant)
		},
	}
}

// set binds some connection of the pool for good.
func (l *library) set(ctx context.Context) error {
	if tenant := tenantOf(ctx); l.flaw == sessionSet && tenant != "" {
		_, err := l.DB.ExecContext(ctx, "USE "+tenant)
		return err
	}
	return nil
}

// leave leaves a connection or a goroutine behind, once.
func (l *library) leave(ctx context.Context) error {
	if l.DB.Stats().MaxOpenConnections != 4 || l.left.Swap(true) {
		return nil
	}
	switch l.flaw {
	case connectionLeft:
		rows, err := l.DB.QueryContext(context.WithoutCancel(ctx), "SELECT 1") //nolint:sqlclosecheck // that is the flaw
		if err == nil {
			err = rows.Err()
		}
		return err
	case goroutineLeft:
		go func() { <-l.end }()
	}
	return nil
}

// again reports whether a statement is to be repeated, and with which context.
func (l *library) again(ctx context.Context, err error) (context.Context, bool) {
	if l.flaw == retryUnbound && errors.Is(err, errLost) && tenantOf(ctx) != "" {
		return context.WithValue(context.WithValue(ctx, tenantKey{}, ""), retryKey{}, true), true
	}
	return ctx, false
}

// Conn refuses: a session belongs to one use.
func (l *library) Conn(context.Context) (*sql.Conn, error) {
	return nil, isolation.ErrSessionUnsupported
}

func (l *library) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := l.set(ctx); err != nil {
		return nil, err
	}
	result, err := l.DB.ExecContext(ctx, query, args...)
	if ctx, again := l.again(ctx, err); again {
		return l.DB.ExecContext(ctx, query, args...)
	}
	return result, err
}

func (l *library) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := l.set(ctx); err != nil {
		return nil, err
	}
	if err := l.leave(ctx); err != nil {
		return nil, err
	}
	rows, err := l.DB.QueryContext(ctx, query, args...)
	if ctx, again := l.again(ctx, err); again {
		return l.DB.QueryContext(ctx, query, args...)
	}
	return rows, err
}

func (l *library) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	if err := l.set(ctx); err != nil {
		return nil, err
	}
	return l.DB.BeginTx(ctx, opts)
}

func (l *library) InTx(ctx context.Context, opts *sql.TxOptions, fn func(tx *sql.Tx) error) error {
	tx, err := l.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if done {
			return
		}
		switch l.flaw { // fn has panicked
		case panicKeeps:
			_, _ = tx.ExecContext(ctx, "KEEP")
			_ = tx.Rollback()
		case panicCommits:
			_ = tx.Commit()
		default:
			_ = tx.Rollback()
		}
	}()
	err = fn(tx)
	done = true
	switch {
	case err == nil:
		return tx.Commit()
	case l.flaw == errorCommits:
		return errors.Join(err, tx.Commit())
	case l.flaw == errorSwallowed:
		return tx.Rollback()
	default:
		_ = tx.Rollback()
		return fmt.Errorf("in a transaction: %w", err)
	}
}
