package tenantredis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/news"
)

const (
	// defaultChannel is what nodes subscribe to.
	defaultChannel = "tenancy_changes"
	// quiet is how often a subscription asks whether the server is still there.
	quiet = 5 * time.Second
)

var errClosed = errors.New("tenantredis: the subscription is closed")

// BusConfig is the configuration of a [Bus].
type BusConfig struct {
	// Redis says how to reach the server, as redis.ParseURL reads it from a URL. It is copied. Required.
	//
	// All nodes need the same server, or members of one Redis Cluster: what is published on a replica
	// stays there. The login needs the channel and PUBLISH, SUBSCRIBE and PING.
	Redis *redis.Options
	// Channel is the name of the channel, common to all nodes of a deployment and to nobody else.
	// Defaults to "tenancy_changes".
	Channel string
}

// Bus tells the nodes of a deployment of changed tenants by Redis's PUBLISH and SUBSCRIBE. Whoever may
// use the channel can hear the tenants' ids and make the nodes look tenants up again, no more: a message
// that is too long or not understood counts as news of any tenant. Each subscription has a connection of
// its own.
type Bus struct {
	options redis.Options
	channel string
	client  *redis.Client // publishes
}

var _ tenancy.Bus = (*Bus)(nil)

// NewBus returns a bus. It does no I/O.
func NewBus(cfg BusConfig) (*Bus, error) {
	if cfg.Redis == nil {
		return nil, errors.New("tenantredis: BusConfig.Redis is nil: set it, for example to what redis.ParseURL returns")
	}
	b := &Bus{options: *cfg.Redis, channel: cmp.Or(cfg.Channel, defaultChannel)}
	b.options.Dialer = dialer(&b.options)
	b.options.ContextTimeoutEnabled = true
	b.options.DialerRetries = 1
	b.options.MinIdleConns = 0
	// A connection must not move to another server by itself.
	b.options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	b.client = redis.NewClient(&b.options)
	return b, nil
}

// Publish tells all nodes of a change.
func (b *Bus) Publish(ctx context.Context, c tenancy.Change) error {
	text, err := news.Encode(c)
	if err == nil {
		err = b.client.Publish(ctx, b.channel, text).Err()
	}
	if err != nil {
		return fmt.Errorf("tenantredis: publish a change: %w", err)
	}
	return nil
}

// Close ends the connections that publish; the bus publishes nothing more. Subscriptions have their own.
func (b *Bus) Close() error {
	if err := b.client.Close(); !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

// Subscribe opens a connection that listens.
func (b *Bus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tenantredis: subscribe: %w", err)
	}
	s := &subscription{line: &line{dial: b.options.Dialer}, changes: make(chan tenancy.Change), ended: make(chan struct{})}
	options := b.options
	options.Dialer = s.line.connect
	s.client = redis.NewClient(&options)
	s.pubsub = s.client.Subscribe(ctx) // to nothing, which needs no connection and cannot fail
	stop := context.AfterFunc(ctx, s.line.close)
	err := s.begin(ctx, b.channel)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("tenantredis: subscribe: %w", errors.Join(err, s.Close()))
	}
	s.group.Go(s.read)
	s.group.Go(s.ask)
	return s, nil
}

// subscription is a connection that listens.
type subscription struct {
	client  *redis.Client
	pubsub  *redis.PubSub
	line    *line
	changes chan tenancy.Change
	group   sync.WaitGroup

	once  sync.Once
	ended chan struct{}
	cause error // once ended is closed
}

// begin returns when the server has confirmed that it will tell.
func (s *subscription) begin(ctx context.Context, channel string) error {
	if err := s.pubsub.Subscribe(ctx, channel); err != nil {
		return err
	}
	answer, err := s.pubsub.Receive(ctx)
	if err != nil {
		return err
	}
	if m, ok := answer.(*redis.Subscription); !ok || m.Kind != "subscribe" || m.Channel != channel {
		return fmt.Errorf("the server answers %v", answer)
	}
	return nil
}

// read hands over what is heard. While nobody takes it, it waits in the connection, and the server cuts
// off who is too far behind.
func (s *subscription) read() {
	for {
		s.line.rewind()
		answer, err := s.pubsub.ReceiveTimeout(context.Background(), 2*quiet)
		switch m := answer.(type) {
		case nil:
			s.end(fmt.Errorf("tenantredis: the subscription is lost: %w", err))
			return
		case *redis.Message:
			select {
			case s.changes <- news.Decode([]byte(m.Payload)):
			case <-s.ended:
				return
			}
		case *redis.Pong:
		default:
			s.end(fmt.Errorf("tenantredis: the subscription is lost: the server says %v", answer))
			return
		}
	}
}

// ask makes the server say something, so that one which is gone without a word is noticed.
func (s *subscription) ask() {
	ticker := time.NewTicker(quiet)
	defer ticker.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-ticker.C:
		}
		if err := s.pubsub.Ping(context.Background()); err != nil {
			s.end(fmt.Errorf("tenantredis: the subscription is lost: %w", err))
			return
		}
	}
}

// end ends the subscription, once.
func (s *subscription) end(cause error) {
	s.once.Do(func() {
		s.cause = cause
		close(s.ended)
		s.line.close()
	})
}

// Next implements [tenancy.Subscription].
func (s *subscription) Next(ctx context.Context) (tenancy.Change, error) {
	select {
	case <-s.ended: // before what was heard last: something is missing
		return tenancy.Change{}, s.cause
	default:
	}
	select {
	case <-s.ended:
		return tenancy.Change{}, s.cause
	case <-ctx.Done():
		return tenancy.Change{}, ctx.Err()
	case c := <-s.changes:
		return c, nil
	}
}

// Close implements [tenancy.Subscription].
func (s *subscription) Close() error {
	s.end(errClosed)
	s.group.Wait()
	for _, err := range []error{s.pubsub.Close(), s.client.Close()} {
		if err != nil && !errors.Is(err, redis.ErrClosed) {
			return err
		}
	}
	return nil
}
