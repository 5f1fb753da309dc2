package tenantredis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// mostAtOnce is how many bytes may come before a message is complete: the client would take any length
// that a message claims. A read may bring several, and a buffer of the client's.
const mostAtOnce = 1 << 20

var (
	errBroken  = errors.New("the connection broke, and what was said meanwhile is not known")
	errTooMuch = errors.New("a message is longer than any of a bus")
)

// dialFunc is redis.Options.Dialer.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the dialer of the options, or one that ends with its context, with TLS too.
func dialer(o *redis.Options) dialFunc {
	plain := &net.Dialer{Timeout: cmp.Or(o.DialTimeout, 5*time.Second)}
	switch {
	case o.Dialer != nil:
		return o.Dialer
	case o.TLSConfig != nil:
		return (&tls.Dialer{NetDialer: plain, Config: o.TLSConfig}).DialContext
	default:
		return plain.DialContext
	}
}

// line is the one connection of a subscription. The client would silently dial another when it breaks;
// here that fails.
type line struct {
	dial dialFunc

	mu     sync.Mutex
	used   bool
	closed bool
	conn   net.Conn
	read   atomic.Int64 // bytes since the last message
}

// connect dials, until it has succeeded once.
func (l *line) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used || l.closed {
		return nil, errBroken
	}
	conn, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.used, l.conn = true, conn
	return &counted{Conn: conn, line: l}, nil
}

// close ends the connection at once, whoever reads or writes.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn != nil {
		_ = l.conn.Close() // the server notices in any case
	}
}

// rewind says that a message is complete.
func (l *line) rewind() { l.read.Store(0) }

// counted is a connection that reads so much and no more.
type counted struct {
	net.Conn
	line *line
}

func (c *counted) Read(b []byte) (int, error) {
	if c.line.read.Load() > mostAtOnce {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b)
	c.line.read.Add(int64(n))
	return n, err
}
