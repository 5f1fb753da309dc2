package memstore

import (
	"context"
	"errors"
	"sync"

	"lexigram.dev/tenancy"
)

// backlog is how many changes a subscriber may be behind.
const backlog = 1024

var (
	errBehind = errors.New("memstore: the subscriber is too far behind")
	errClosed = errors.New("memstore: the subscription is closed")
)

// Bus joins several tenancies of one process. The zero value is ready.
type Bus struct {
	mu          sync.Mutex
	subscribers map[*subscription]struct{}
}

var _ tenancy.Bus = (*Bus)(nil)

// Publish tells every subscriber, without waiting: one that is too far behind is cut off.
func (b *Bus) Publish(ctx context.Context, c tenancy.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscribers {
		select {
		case s.changes <- c:
		default:
			b.end(s, errBehind)
		}
	}
	return nil
}

// Subscribe always succeeds unless ctx has ended.
func (b *Bus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &subscription{bus: b, changes: make(chan tenancy.Change, backlog), ended: make(chan struct{})}
	if b.subscribers == nil {
		b.subscribers = map[*subscription]struct{}{}
	}
	b.subscribers[s] = struct{}{}
	return s, nil
}

// end ends a subscription, once. The caller holds b.mu.
func (b *Bus) end(s *subscription, cause error) {
	if _, open := b.subscribers[s]; open {
		delete(b.subscribers, s)
		s.cause = cause
		close(s.ended)
	}
}

type subscription struct {
	bus     *Bus
	changes chan tenancy.Change
	ended   chan struct{}
	cause   error // once ended is closed
}

// Next implements [tenancy.Subscription].
func (s *subscription) Next(ctx context.Context) (tenancy.Change, error) {
	select {
	case <-s.ended:
		return tenancy.Change{}, s.cause
	default:
	}
	select {
	case <-ctx.Done():
		return tenancy.Change{}, ctx.Err()
	case <-s.ended:
		return tenancy.Change{}, s.cause
	case c := <-s.changes:
		return c, nil
	}
}

// Close implements [tenancy.Subscription].
func (s *subscription) Close() error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.bus.end(s, errClosed)
	return nil
}
