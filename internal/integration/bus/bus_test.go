package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/storetest"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestBus(t *testing.T) {
	t.Parallel()
	for _, broker := range brokers {
		t.Run(broker.name, func(t *testing.T) {
			t.Parallel()
			storetest.RunBus(t, func(t *testing.T) (a, b tenancy.Bus) {
				c := broker.open(t, false)
				return c.bus(t, c.server.Addr()), c.bus(t, c.server.Addr())
			})
		})
	}
}

func TestBusBehindAPoolerIsRefused(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	bus, err := tenantpgx.NewBus(servers.PgBouncer(t, pg).URL(pg.CreateDatabase(t)))
	must(t, err)
	_, err = bus.Subscribe(t.Context())
	mustBe(t, err, isolation.ErrSessionUnsupported)
}

// published counts, so that no two changes are the same.
var published atomic.Int64

// heardBy fails unless a change that is published now is heard.
func heardBy(t *testing.T, bus tenancy.Bus, sub tenancy.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	want := tenancy.Change{TenantID: "acme", Revision: published.Add(1)}
	must(t, bus.Publish(ctx, want))
	for heard := (tenancy.Change{}); heard != want; { // others publish as well
		var err error
		heard, err = sub.Next(ctx)
		must(t, err)
	}
}

// subscribe returns a subscription that hears.
func subscribe(t *testing.T, bus tenancy.Bus) tenancy.Subscription {
	t.Helper()
	sub, err := bus.Subscribe(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(sub.Close(), sub.Close())) })
	heardBy(t, bus, sub)
	return sub
}

// ends fails unless the subscription says, in time and for good, that it may have missed something.
func ends(t *testing.T, sub tenancy.Subscription, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for range 2 {
		if c, err := sub.Next(ctx); err == nil || ctx.Err() != nil {
			t.Fatalf("heard %+v, error %v", c, err)
		}
	}
}

// TestLostSubscriptionEnds cuts the connections, which the clients of some brokers would mend by
// themselves.
func TestLostSubscriptionEnds(t *testing.T) {
	overEach(t, false, func(t *testing.T, c channel) {
		gate := newGate(t, c.server.Addr())
		bus := c.bus(t, gate.addr())
		sub := subscribe(t, bus)
		gate.cut()
		ends(t, sub, 5*time.Second)
		subscribe(t, bus) // the bus is none the worse for it

		sub = subscribe(t, bus)
		gate.close()
		ends(t, sub, 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := bus.Publish(ctx, tenancy.Change{TenantID: "acme"}); err == nil {
			t.Error("a change was handed over to nobody")
		}
		if _, err := bus.Subscribe(ctx); err == nil {
			t.Error("subscribed to nobody")
		}
		mustBe(t, ctx.Err(), nil) // neither waited for the end of time
		gate.open()
		subscribe(t, bus)
	})
}

// TestSilentServerIsNoticed lets nothing through any more, as a firewall does that has forgotten a
// connection.
func TestSilentServerIsNoticed(t *testing.T) {
	overEach(t, false, func(t *testing.T, c channel) {
		gate := newGate(t, c.server.Addr())
		bus, other := c.bus(t, gate.addr()), c.bus(t, c.server.Addr())
		idle := subscribe(t, other)
		sub := subscribe(t, bus)
		gate.hold()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := bus.Publish(ctx, tenancy.Change{TenantID: "globex"}); err == nil {
			t.Error("a change was handed over to nobody")
		}
		if _, err := bus.Subscribe(ctx); err == nil {
			t.Error("subscribed to nobody")
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("a bounded call took %v", took)
		}
		ends(t, sub, 20*time.Second)
		heardBy(t, other, idle) // although nobody has said a word to it meanwhile
	})
}

func TestServerIsGone(t *testing.T) {
	overEach(t, true, func(t *testing.T, c channel) {
		bus := c.bus(t, c.server.Addr())
		sub := subscribe(t, bus)
		must(t, c.server.Kill())
		ends(t, sub, 5*time.Second)
		if err := bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}); err == nil {
			t.Error("a change was handed over to nobody")
		}
		if _, err := bus.Subscribe(t.Context()); err == nil {
			t.Error("subscribed to nobody")
		}
		must(t, c.server.Start())
		sub = subscribe(t, bus)
		must(t, c.server.Restart()) // too fast for anybody who only looks whether it is there
		ends(t, sub, 5*time.Second)
		subscribe(t, bus)
	})
}

// TestNonsenseIsNewsOfAnyTenant has a stranger in the channel.
func TestNonsenseIsNewsOfAnyTenant(t *testing.T) {
	overEach(t, false, func(t *testing.T, c channel) {
		bus := c.bus(t, c.server.Addr())
		sub := subscribe(t, bus)
		for _, text := range []string{
			"acme", "null", "[[", `{"tenant_id":7}`, `{"tenant_id":"acme","more":1}`, "SUBSCRIBE x\r\n+OK\r\n", strings.Repeat("x", 7900),
		} {
			c.say(t, text)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			got, err := sub.Next(ctx)
			cancel()
			if err != nil || got != (tenancy.Change{}) {
				t.Errorf("%.20q is heard as %+v, %v", text, got, err)
			}
		}
		heardBy(t, bus, sub)
	})
}
