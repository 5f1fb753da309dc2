package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy/isolation"
)

// captured are the inner connections of the role app, so that a test can look at the state in
// which the library left them.
type captured struct {
	mu    sync.Mutex
	conns []driver.Conn
}

// capture is an option of a cell on PostgreSQL.
func (p *captured) option(config *isolation.Config) {
	pg, ok := config.Servers["main"].(isolation.PostgreSQL)
	if !ok {
		return
	}
	pg.App = capturingConnector{pg.App, p}
	config.Servers["main"] = pg
}

type capturingConnector struct {
	driver.Connector
	to *captured
}

func (c capturingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err == nil {
		c.to.mu.Lock()
		c.to.conns = append(c.to.conns, conn)
		c.to.mu.Unlock()
	}
	return conn, err
}

// unbound runs a query on each connection past the library, as the role app and as nobody.
func (p *captured) unbound(t *testing.T, query string, check func(value any, err error)) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		t.Fatal("no connection was opened")
	}
	asked := 0
	for _, conn := range p.conns {
		if v, ok := conn.(driver.Validator); ok && !v.IsValid() {
			continue // closed: nobody will use it again
		}
		db := sql.OpenDB(fixed{conn})
		var value any
		err := db.QueryRowContext(context.Background(), query).Scan(&value)
		if errors.Is(err, driver.ErrBadConn) {
			continue
		}
		asked++
		check(value, err)
	}
	t.Logf("asked %d of %d connections", asked, len(p.conns))
}

// clean fails the test if a connection carries a binding.
func (p *captured) clean(t *testing.T) {
	t.Helper()
	p.unbound(t, `SELECT coalesce(current_setting('app.tenant_id', true), '')
		|| CASE WHEN current_user <> session_user THEN current_user ELSE '' END
		|| CASE WHEN current_setting('search_path') LIKE '%t\_%' THEN current_setting('search_path') ELSE '' END`, func(value any, err error) {
		must(t, err)
		if value != "" {
			t.Errorf("a connection is still bound to %q", value)
		}
	})
	p.unbound(t, "SELECT count(*) FROM notes", func(value any, err error) {
		if err == nil {
			t.Errorf("an unbound connection counted %v notes", value)
		}
	})
}

// fixed is a connector of one connection, which it does not close.
type fixed struct{ conn driver.Conn }

func (f fixed) Connect(context.Context) (driver.Conn, error) { return f.conn, nil }
func (f fixed) Driver() driver.Driver                        { return nil }

// pgxOf returns the pgx connection of a driver's connection.
func pgxOf(driverConn any) *pgx.Conn { return driverConn.(interface{ Conn() *pgx.Conn }).Conn() }

// readOnly opens connections that cannot write, as those of a replica.
type readOnly struct{ driver.Connector }

func (r readOnly) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err == nil {
		_, err = pgxOf(conn).Exec(ctx, "SET default_transaction_read_only = on")
	}
	return conn, err
}
