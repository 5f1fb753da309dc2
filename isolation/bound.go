package isolation

import (
	"context"
	"database/sql/driver"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Setting is a server setting that holds for one transaction. Settings are how a connection
// is bound to a tenant.
type Setting struct {
	// Name is the setting's name, such as app.tenant_id. It comes from configuration.
	Name string
	// Value may be anything that the server's text type can hold. That of search_path is a list
	// of names as set_config takes it.
	Value string
	// Off is the value that binds nobody. Whatever statements set under the name for the session
	// is replaced by it. An empty one of search_path is the login's own, which other connections of
	// the server process may count on.
	Off string
}

// SetLocal returns the statement that binds a transaction. It takes no snapshot, so that SET
// TRANSACTION may follow.
func (s Setting) SetLocal() (string, error) { return dialect.SetLocal(s.Name, s.Value) }

// SetOff returns the statement that removes what statements set under the name for the session.
func (s Setting) SetOff() (string, error) { return dialect.SetOff(s.Name, s.Off) }

// BoundConn is an optional interface of a driver's connection: it binds a transaction and runs
// a statement in one network write. Without it, a statement costs four round trips (BEGIN, bind,
// statement, COMMIT).
//
// The binding must be transaction-local and must be gone when the call, its rows or its
// transaction end, whatever ends them. An error of COMMIT is the error of ExecBound, of the last
// Rows.Next or of Rows.Close.
type BoundConn interface {
	driver.Conn
	// QueryBound runs one statement in a transaction of its own. Unless the statement is atomic,
	// the transaction must be an explicit one, so that the statement cannot end it.
	QueryBound(ctx context.Context, bind []Setting, atomic bool, query string, args []driver.NamedValue) (driver.Rows, error)
	// ExecBound is QueryBound for a statement whose rows nobody wants.
	ExecBound(ctx context.Context, bind []Setting, atomic bool, query string, args []driver.NamedValue) (driver.Result, error)
	// BeginBound begins a bound transaction. It may wait for the first statement and travel with
	// it. The settings must leave a first SET TRANSACTION possible.
	BeginBound(ctx context.Context, bind []Setting, opts driver.TxOptions) (driver.Tx, error)
}

// StatusConn is an optional interface of a driver's connection: it knows whether the server sees
// a transaction open. A connection that is not idle at the end of its use is destroyed.
type StatusConn interface {
	// Idle reports whether no transaction is open, and nothing waits to be read. It does no I/O.
	Idle() bool
}

// SessionConn is an optional interface of a driver's connection: it knows whether it speaks to
// one server process all the time. A connection without it counts as pooled.
type SessionConn interface {
	// Direct reports whether there is no pooler between. It may ask the server.
	Direct(ctx context.Context) (bool, error)
}

// LiveConn is an optional interface of a driver's connection: a check whether the server has
// closed it, cheap enough for every use. It blocks only if something is there to read.
type LiveConn interface {
	// Live returns an error when the connection cannot be used any more.
	Live(ctx context.Context) error
}

// TracedConn is an optional interface of a driver's connection that shows statements to a tracer of
// the application.
type TracedConn interface {
	// Caller says that the next statement of the connection is the caller's, and how the caller wrote
	// it. All others are the library's own.
	Caller(query string)
}
