package tenantnats

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/news"
)

const (
	// defaultSubject is what nodes subscribe to.
	defaultSubject = "tenancy.changes"
	// backlog is how many changes a subscriber may be behind, and backlogBytes how long they may be.
	backlog      = 16384
	backlogBytes = 8 << 20
)

var (
	errClosed = errors.New("tenantnats: the subscription is closed")
	errBehind = errors.New("tenantnats: the subscriber is too far behind, and what was dropped is not known")
)

// BusConfig is the configuration of a [Bus].
type BusConfig struct {
	// URL names the servers, with commas between them. Defaults to nats.DefaultURL.
	URL string
	// Options are further options of the connections, such as credentials and TLS. Those about
	// reconnecting and pings do not count.
	Options []nats.Option
	// Subject is common to all nodes of a deployment and to nobody else. Defaults to "tenancy.changes".
	Subject string
}

// Bus tells the nodes of a deployment of changed tenants by core NATS; JetStream is not needed. Whoever
// may use the subject can hear the tenants' ids and make the nodes look tenants up again, no more: a
// message that is too long or not understood counts as news of any tenant. It keeps a connection for what
// it publishes, and each subscription has one.
//
// Between the servers of a NATS cluster news can be lost without a sign, so that a node which
// uses another server than the publisher may have to find out by polling.
type Bus struct {
	url     string
	options []nats.Option
	subject string
	link    *link // publishes
}

var _ tenancy.Bus = (*Bus)(nil)

// NewBus returns a bus. It does no I/O.
func NewBus(cfg BusConfig) (*Bus, error) {
	b := &Bus{url: cmp.Or(cfg.URL, nats.DefaultURL), options: cfg.Options, subject: cmp.Or(cfg.Subject, defaultSubject)}
	if err := checkSubject("BusConfig.Subject", b.subject); err != nil {
		return nil, err
	}
	b.link = newLink(b.url, b.options)
	return b, nil
}

// Publish tells all nodes of a change and returns when the server has it. It tries a lost connection once
// more.
func (b *Bus) Publish(ctx context.Context, c tenancy.Change) error {
	text, err := news.Encode(c)
	if err == nil {
		if err = b.publish(ctx, text); errors.Is(err, nats.ErrConnectionClosed) && ctx.Err() == nil {
			err = b.publish(ctx, text)
		}
	}
	if err != nil {
		return fmt.Errorf("tenantnats: publish a change: %w", err)
	}
	return nil
}

func (b *Bus) publish(ctx context.Context, text []byte) error {
	conn, err := b.link.get(ctx)
	if err != nil {
		return err
	}
	if err := conn.Publish(b.subject, text); err != nil {
		return err
	}
	err = flush(ctx, conn)
	if err != nil && ctx.Err() == nil {
		conn.Close() // keeps its last error
	}
	return err
}

// Close ends the connection that publishes. Subscriptions have their own.
func (b *Bus) Close() error {
	b.link.close()
	return nil
}

// Subscribe opens a connection that listens.
func (b *Bus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	conn, err := connect(ctx, b.url, b.options)
	if err != nil {
		return nil, fmt.Errorf("tenantnats: subscribe: %w", err)
	}
	sub, err := listen(ctx, conn, b.subject)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("tenantnats: subscribe: %w", err)
	}
	return &subscription{conn: conn, sub: sub}, nil
}

// listen returns when the server has taken the subscription.
func listen(ctx context.Context, conn *nats.Conn, subject string) (*nats.Subscription, error) {
	sub, err := conn.SubscribeSync(subject)
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(backlog, backlogBytes); err != nil {
		return nil, err
	}
	return sub, flush(ctx, conn)
}

// subscription is a connection that listens.
type subscription struct {
	conn *nats.Conn
	sub  *nats.Subscription
	err  error // why it hears nothing more
}

// Next implements [tenancy.Subscription].
func (s *subscription) Next(ctx context.Context) (tenancy.Change, error) {
	if s.err != nil {
		return tenancy.Change{}, s.err
	}
	m, err := s.next(ctx)
	switch {
	case err == nil:
		return news.Decode(m.Data), nil
	case ctx.Err() != nil:
		return tenancy.Change{}, ctx.Err()
	default:
		s.err = fmt.Errorf("tenantnats: the subscription is lost: %w", err)
		s.conn.Close()
		return tenancy.Change{}, s.err
	}
}

// next waits for a message. The client forgets that it has dropped some as soon as it has room again,
// but not how many.
func (s *subscription) next(ctx context.Context) (*nats.Msg, error) {
	m, err := s.sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if dropped, err := s.sub.Dropped(); err != nil || dropped > 0 {
		return nil, cmp.Or(err, errBehind)
	}
	return m, nil
}

// Close implements [tenancy.Subscription].
func (s *subscription) Close() error {
	if s.err == nil {
		s.err = errClosed
		s.conn.Close()
	}
	return nil
}
