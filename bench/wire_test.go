package bench_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// wire counts round trips at the socket: a write, or several in a row, followed by a read.
type wire struct{ trips atomic.Int64 }

func (w *wire) attach(config *pgx.ConnConfig) { config.DialFunc = w.through(config.DialFunc) }

func (w *wire) attachMySQL(config *mysql.Config) {
	config.DialFunc = w.through((&net.Dialer{}).DialContext)
}

// through dials connections that are counted.
func (w *wire) through(dial func(ctx context.Context, network, addr string) (net.Conn, error),
) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			return &countedConn{TCPConn: tcp, wire: w}, nil
		}
		return nil, fmt.Errorf("dialled a %T", c)
	}
}

// countedConn embeds the TCPConn itself, so that its socket can still be looked at.
type countedConn struct {
	*net.TCPConn
	wire  *wire
	wrote atomic.Bool
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	return c.TCPConn.Write(p)
}

func (c *countedConn) Read(p []byte) (int, error) {
	if c.wrote.Swap(false) {
		c.wire.trips.Add(1)
	}
	return c.TCPConn.Read(p)
}
