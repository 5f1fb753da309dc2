package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/tenantredis"
)

// TestRedisConnectionIsKilled has the server end the connection of a subscription and nothing else, which
// the client would mend before anybody saw it.
func TestRedisConnectionIsKilled(t *testing.T) {
	t.Parallel()
	c := openRedis(t, true)
	bus := c.bus(t, c.server.Addr())
	sub := subscribe(t, bus)
	killed, err := redisClient(t, c.server.(*servers.RedisServer)).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result()
	must(t, err)
	if killed != 1 {
		t.Fatalf("%d connections were killed", killed)
	}
	ends(t, sub, 5*time.Second)
	subscribe(t, bus)
}

func TestRedisMessageWithoutEndEndsTheSubscription(t *testing.T) {
	t.Parallel()
	c := openRedis(t, false)
	bus := c.bus(t, c.server.Addr())
	sub := subscribe(t, bus)
	c.say(t, strings.Repeat("x", 4<<20)) // less than what the server itself cuts off
	ends(t, sub, 20*time.Second)
	sub = subscribe(t, bus)
	for range 200 { // many are no reason
		c.say(t, strings.Repeat("x", 16<<10))
	}
	heardBy(t, bus, sub)
}

func TestRedisLoginsWithoutARight(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	admin := redisClient(t, server)
	for user, rights := range map[string][]any{
		"deaf": {"&tenancy_changes", "-subscribe"}, "mute": {"&tenancy_changes", "-publish"}, "elsewhere": {"&other"},
	} {
		must(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", user, "on", ">secret", "+@all"}, rights...)...).Err())
	}
	for _, c := range []struct {
		user, password        string
		publishes, subscribes bool
	}{
		{"deaf", "secret", true, false},
		{"mute", "secret", false, true},
		{"elsewhere", "secret", false, false},
		{"deaf", "wrong", false, false},
		{"", "", false, false},
	} {
		bus, err := tenantredis.NewBus(tenantredis.BusConfig{Redis: &redis.Options{Addr: server.Addr(), Username: c.user, Password: c.password}})
		must(t, err)
		defer func() { must(t, bus.Close()) }()
		if err := bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}); (err == nil) != c.publishes {
			t.Errorf("%s:%s publishes: %v", c.user, c.password, err)
		}
		sub, err := bus.Subscribe(t.Context())
		if (err == nil) != c.subscribes {
			t.Errorf("%s:%s subscribes: %v", c.user, c.password, err)
		}
		if err != nil && !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "WRONGPASS") && !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("%s:%s is told %v", c.user, c.password, err)
		}
		if sub != nil {
			must(t, sub.Close())
		}
	}
}
