package storetest_test

import (
	"context"
	"sync/atomic"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/storetest"
)

func TestBusInMemory(t *testing.T) {
	storetest.RunBus(t, func(*testing.T) (a, b tenancy.Bus) {
		var bus memstore.Bus
		return &bus, &bus
	})
}

// wrongBus is a bus of two nodes with faults.
type wrongBus struct {
	*memstore.Bus
	other   *memstore.Bus // where a second node is
	publish func(ctx context.Context, b *wrongBus, c tenancy.Change) error
	next    func(ctx context.Context, s tenancy.Subscription) (tenancy.Change, error)
	keep    bool // a subscription outlives Close
	deaf    bool // Subscribe does not ask its context
	n       *atomic.Int64
}

func (b *wrongBus) Publish(ctx context.Context, c tenancy.Change) error {
	if b.publish != nil {
		return b.publish(ctx, b, c)
	}
	return b.Bus.Publish(ctx, c)
}

func (b *wrongBus) Subscribe(ctx context.Context) (tenancy.Subscription, error) {
	if b.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	s, err := b.Bus.Subscribe(ctx)
	return &wrongSubscription{s, b}, err
}

type wrongSubscription struct {
	tenancy.Subscription
	bus *wrongBus
}

func (s *wrongSubscription) Next(ctx context.Context) (tenancy.Change, error) {
	if s.bus.next != nil {
		return s.bus.next(ctx, s.Subscription)
	}
	return s.Subscription.Next(ctx)
}

func (s *wrongSubscription) Close() error {
	if s.bus.keep {
		return nil
	}
	return s.Subscription.Close()
}

var busFaults = map[string]struct {
	rejectedBy string
	bus        wrongBus
}{
	"no fault": {},
	"every tenth change is lost": {"nothing is lost among many who publish at once", wrongBus{
		publish: func(ctx context.Context, b *wrongBus, c tenancy.Change) error {
			if b.n.Add(1)%10 == 0 {
				return ctx.Err()
			}
			return b.Bus.Publish(ctx, c)
		},
		n: new(atomic.Int64),
	}},
	"the revision is lost": {"every node hears, the publisher's too", wrongBus{
		publish: func(ctx context.Context, b *wrongBus, c tenancy.Change) error {
			return b.Bus.Publish(ctx, tenancy.Change{TenantID: c.TenantID})
		},
	}},
	"ids are cut": {"every node hears, the publisher's too", wrongBus{
		publish: func(ctx context.Context, b *wrongBus, c tenancy.Change) error {
			c.TenantID = c.TenantID[:min(len(c.TenantID), 63)]
			return b.Bus.Publish(ctx, c)
		},
	}},
	"other nodes hear nothing":    {"every node hears, the publisher's too", wrongBus{other: &memstore.Bus{}}},
	"a subscription never ends":   {"what comes and goes disturbs nobody", wrongBus{keep: true, next: timidly}},
	"Publish asks no context":     {"an ended context ends what waits", wrongBus{publish: boldly}},
	"Subscribe asks no context":   {"an ended context ends what waits", wrongBus{deaf: true}},
	"Next answers with nothing":   {"an ended context ends what waits", wrongBus{next: timidly}},
	"news for one is news to all": {"", wrongBus{publish: twice}},
}

func boldly(ctx context.Context, b *wrongBus, c tenancy.Change) error {
	return b.Bus.Publish(context.WithoutCancel(ctx), c)
}

// twice is no fault: news may come twice.
func twice(ctx context.Context, b *wrongBus, c tenancy.Change) error {
	if err := b.Bus.Publish(ctx, c); err != nil {
		return err
	}
	return b.Bus.Publish(ctx, c)
}

// timidly takes the end of the context for news.
func timidly(ctx context.Context, s tenancy.Subscription) (tenancy.Change, error) {
	c, err := s.Next(ctx)
	if ctx.Err() != nil {
		return tenancy.Change{}, nil //nolint:nilerr // that is the fault
	}
	return c, err
}

func TestWrongBuses(t *testing.T) {
	rejected := map[string]string{}
	for name, fault := range busFaults {
		rejected[name] = fault.rejectedBy
	}
	rejects(t, rejected, func() {
		for name, fault := range busFaults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				storetest.RunBus(t, func(*testing.T) (a, b tenancy.Bus) {
					near, far := fault.bus, fault.bus
					near.Bus = &memstore.Bus{}
					if far.Bus = near.Bus; fault.bus.other != nil {
						far.Bus = &memstore.Bus{}
					}
					return &near, &far
				})
			})
		}
	})
}
