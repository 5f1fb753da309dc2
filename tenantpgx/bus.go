package tenantpgx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/news"
	"lexigram.dev/tenancy/isolation"
)

const (
	// channel is what nodes listen on.
	channel = "tenancy_changes"
	// quiet is how long a subscription hears nothing before it asks whether the server is still there.
	quiet = 5 * time.Second
	// closeTimeout bounds the farewell to a server.
	closeTimeout = time.Second
)

// Bus tells the nodes of a deployment of changed tenants by PostgreSQL's LISTEN and NOTIFY, in the
// database that it connects to. Whoever may connect to that database can hear the tenants' ids and
// make the nodes look tenants up again, so that the catalogue's is the right one, and not one that a
// tenant's login reaches. It keeps a connection for what it publishes, and each subscription has one.
type Bus struct {
	config *pgx.ConnConfig

	mu   sync.Mutex
	conn *pgx.Conn // what publishes; nil until it is needed and after an error
}

var _ tenancy.Bus = (*Bus)(nil)

// NewBus returns a bus for a URL or DSN, as pgx.ParseConfig reads it. It does no I/O. The login needs
// no right but CONNECT. The server must be reached directly: behind a pooler in transaction mode
// nobody hears anything, so that Subscribe fails with [isolation.ErrSessionUnsupported].
func NewBus(url string) (*Bus, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("tenantpgx: %w", err)
	}
	return NewBusConfig(config), nil
}

// NewBusConfig returns a bus for a config that came from pgx.ParseConfig and was edited. The config is
// copied.
func NewBusConfig(config *pgx.ConnConfig) *Bus { return &Bus{config: config.Copy()} }

// Publish tells all nodes of a change. It tries a lost connection once more.
func (b *Bus) Publish(ctx context.Context, c tenancy.Change) error {
	message, err := news.Encode(c)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for first := true; ; first = false {
		fresh := b.conn == nil
		if fresh {
			if b.conn, err = pgx.ConnectConfig(ctx, b.config); err != nil {
				b.conn = nil
				return fmt.Errorf("tenantpgx: publish a change: %w", err)
			}
		}
		_, err = b.conn.Exec(ctx, "SELECT pg_catalog.pg_notify($1, $2)", pgx.QueryExecModeExec, channel, string(message))
		if err == nil {
			return nil
		}
		bye(b.conn)
		b.conn = nil
		if fresh || !first || ctx.Err() != nil {
			return fmt.Errorf("tenantpgx: publish a change: %w", err)
		}
	}
}

// Close ends the connection that publishes. Subscriptions have their own.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		bye(b.conn)
		b.conn = nil
	}
	return nil
}

// bye closes a connection. The server notices in any case, so that its error is nobody's concern.
func bye(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

// Subscribe opens a connection that listens.
func (b *Bus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	conn, err := pgx.ConnectConfig(ctx, b.config)
	if err != nil {
		return nil, fmt.Errorf("tenantpgx: subscribe: %w", err)
	}
	if err := listen(ctx, conn); err != nil {
		bye(conn)
		return nil, fmt.Errorf("tenantpgx: subscribe: %w", err)
	}
	return &subscription{conn: conn}, nil
}

func listen(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return err
	}
	if pid == 0 || pid != conn.PgConn().PID() {
		return isolation.ErrSessionUnsupported
	}
	return nil
}

// subscription is a connection that listens.
type subscription struct {
	conn *pgx.Conn
	err  error // why it hears nothing more
}

// Next implements [tenancy.Subscription].
func (s *subscription) Next(ctx context.Context) (tenancy.Change, error) {
	if s.err != nil {
		return tenancy.Change{}, s.err
	}
	c, err := s.next(ctx)
	if err != nil {
		s.err = err
		bye(s.conn)
	}
	return c, err
}

func (s *subscription) next(ctx context.Context) (tenancy.Change, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, quiet)
		n, err := s.conn.WaitForNotification(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return tenancy.Change{}, ctx.Err()
		case err == nil:
			return news.Decode([]byte(n.Payload)), nil
		case !errors.Is(err, context.DeadlineExceeded) || s.conn.IsClosed():
			return tenancy.Change{}, err
		}
		if err := s.ping(ctx); err != nil { // the other end may be gone without a word
			return tenancy.Change{}, err
		}
	}
}

func (s *subscription) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	return s.conn.Ping(ctx)
}

// Close implements [tenancy.Subscription].
func (s *subscription) Close() error {
	if s.err == nil {
		s.err = errors.New("tenantpgx: the subscription is closed")
		bye(s.conn)
	}
	return nil
}
