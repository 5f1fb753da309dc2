package isolation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// Lease is a connection of a DB's pools that belongs to one tenant until Release. It is for packages
// that offer a driver's own methods where database/sql's do not fit, as tenantpgx.Pool does. They
// send nothing of the caller's to [Lease.Conn] that [Lease.Admit] has not admitted. A Lease is used
// by one goroutine at a time.
type Lease struct {
	conn     conn
	settings [4]Setting // room for the usual binding
	released bool
}

var errReleased = errors.New("isolation: the lease was released: take another")

// Lease takes a connection for the tenant of ctx, out of the same budget as every call of db. With
// session it serves several statements, which fails with [ErrSessionUnsupported] behind a pooler;
// what they leave on the session is gone after Release. Without a tenant it is tenancy.ErrNoTenant.
func (db *DB) Lease(ctx context.Context, session bool) (*Lease, error) {
	l := &Lease{conn: conn{connector: db.connector, marked: session}}
	l.conn.route.Bind = l.settings[:0]
	if err := l.conn.enter(ctx); err != nil {
		return nil, err
	}
	if err := l.conn.prepareSession(ctx); err != nil {
		l.Release()
		return nil, err
	}
	return l, nil
}

// Conn returns the driver's connection.
func (l *Lease) Conn() driver.Conn { return l.conn.inner.Conn }

// Text returns the text to send for a statement: where tenants can be at different versions of the
// tables, caches of the driver and the server must not mix them up.
func (l *Lease) Text(query string) string {
	_, bound := l.conn.inner.Conn.(BoundConn)
	return l.conn.route.tag(query, bound)
}

// Admit decides how statements run that make one transaction of their own, or that belong to the
// one of Begin. It refuses the context of another tenant and texts that control transactions. The
// settings bind the transaction; there are none if it is bound or needs no binding. Unless the
// statements are atomic, the transaction must be an explicit one, so that they cannot end it.
func (l *Lease) Admit(ctx context.Context, queries ...string) (bind []Setting, atomic bool, err error) {
	if l.released {
		return nil, false, errReleased
	}
	if len(queries) == 0 {
		return l.conn.binding(), true, l.conn.enter(ctx)
	}
	used := l.conn.used
	atomic = true
	for _, query := range queries {
		l.conn.used = used // together they use the session once
		kind, err := l.conn.admit(ctx, query)
		if err != nil {
			return nil, false, err
		}
		atomic = atomic && kind == kindData
	}
	return l.conn.binding(), atomic, nil
}

// Label adds a setting to the binding that says something about the tenant, such as
// application_name. A connection that needs no binding stays as it is. It must come before anything
// is admitted.
func (l *Lease) Label(s Setting) {
	if len(l.conn.route.Bind) > 0 {
		l.conn.route.Bind = append(l.conn.route.Bind, s)
	}
}

// Begin begins a bound transaction by [BoundConn.BeginBound]. Until it ends, what is admitted runs
// in it.
func (l *Lease) Begin(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if l.released {
		return nil, errReleased
	}
	t, err := l.conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, l.Explain(err)
	}
	return t, nil
}

// Explain adds the remedy to an error of the driver, which stays in the tree. A connection that
// the driver gives up is not used again, and nothing is repeated.
func (l *Lease) Explain(err error) error {
	if l.released && errors.Is(err, driver.ErrBadConn) {
		return fmt.Errorf("%w (%v)", ErrConnectionLost, err) //nolint:errorlint // driver.ErrBadConn does not leave
	}
	return l.conn.failed(err, false)
}

// Release ends the lease. The connection goes back only if it is known to be clean: no transaction
// open, no rows unread; else it is closed. It is idempotent.
func (l *Lease) Release() {
	l.released = true
	l.conn.giveBack()
}
