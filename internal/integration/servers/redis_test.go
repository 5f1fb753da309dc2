package servers_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"lexigram.dev/tenancy/internal/integration/servers"
)

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	must(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { must(t, client.Close()) })
	return client
}

func TestRedis(t *testing.T) {
	t.Parallel()
	server := servers.Redis(t)
	if servers.Redis(t) != server {
		t.Error("a second call started a second server")
	}
	must(t, redisClient(t, server.URL()).Ping(t.Context()).Err())
	if err := redisClient(t, "redis://"+server.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("nobody is let in")
	}
}

func TestNewRedis(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	for name, end := range map[string]func() error{
		"restart": server.Restart, "kill and start": func() error { return errors.Join(server.Kill(), server.Kill(), server.Start()) },
	} {
		addr, client := server.Addr(), redisClient(t, server.URL())
		must(t, client.Set(t.Context(), "k", name, 0).Err())
		must(t, end())
		if server.Addr() != addr {
			t.Errorf("%s: moved from %s to %s", name, addr, server.Addr())
		}
		if n, err := client.DBSize(t.Context()).Result(); n != 0 || err != nil {
			t.Errorf("%s: %d keys are left: %v", name, n, err)
		}
	}
	must(t, server.Stop())
	if err := redisClient(t, server.URL()).Ping(t.Context()).Err(); err == nil {
		t.Error("a stopped server answers")
	}
}
