package bus_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/tenantnats"
	"lexigram.dev/tenancy/tenantpgx"
	"lexigram.dev/tenancy/tenantredis"
)

func TestMain(m *testing.M) { servers.Main(m) }

// brokerServer is a broker that can fail.
type brokerServer interface {
	Addr() string
	Kill() error
	Start() error
	Restart() error
}

// channel is what some nodes share and nobody else hears.
type channel struct {
	server brokerServer
	// bus returns a node's handle; addr is the server's, or of a gate before it.
	bus func(t *testing.T, addr string) tenancy.Bus
	// say puts a text into the channel as a stranger does.
	say func(t *testing.T, text string)
}

// brokers open a channel on a server that tests share, or on one of the test's own.
var brokers = []struct {
	name string
	open func(t *testing.T, own bool) channel
}{
	{"LISTEN and NOTIFY", openPostgres},
	{"Redis", openRedis},
	{"NATS", openNATS},
}

// overEach runs a test for every broker.
func overEach(t *testing.T, own bool, test func(t *testing.T, c channel)) {
	t.Parallel()
	for _, broker := range brokers {
		t.Run(broker.name, func(t *testing.T) {
			t.Parallel()
			test(t, broker.open(t, own))
		})
	}
}

func openPostgres(t *testing.T, own bool) channel {
	t.Helper()
	var pg *servers.PostgresServer
	if own {
		pg = servers.NewPostgres(t, servers.PostgresConfig{})
	} else {
		pg = servers.Postgres(t)
	}
	url := pg.URL(pg.CreateDatabase(t))
	return channel{
		server: pg,
		bus: func(t *testing.T, addr string) tenancy.Bus {
			t.Helper()
			bus, err := tenantpgx.NewBus(strings.Replace(url, pg.Addr(), addr, 1))
			must(t, err)
			t.Cleanup(func() { must(t, bus.Close()) })
			return bus
		},
		say: func(t *testing.T, text string) {
			t.Helper()
			conn, err := pgx.Connect(t.Context(), url)
			must(t, err)
			defer func() { must(t, conn.Close(context.Background())) }()
			_, err = conn.Exec(t.Context(), "SELECT pg_notify('tenancy_changes', $1)", text)
			must(t, err)
		},
	}
}

func openRedis(t *testing.T, own bool) channel {
	t.Helper()
	var server *servers.RedisServer
	if own {
		server = servers.NewRedis(t)
	} else {
		server = servers.Redis(t)
	}
	name := rand.Text()
	return channel{
		server: server,
		bus: func(t *testing.T, addr string) tenancy.Bus {
			t.Helper()
			options, err := redis.ParseURL(strings.Replace(server.URL(), server.Addr(), addr, 1))
			must(t, err)
			bus, err := tenantredis.NewBus(tenantredis.BusConfig{Redis: options, Channel: name})
			must(t, err)
			t.Cleanup(func() { must(t, errors.Join(bus.Close(), bus.Close())) })
			return bus
		},
		say: func(t *testing.T, text string) {
			t.Helper()
			must(t, redisClient(t, server).Publish(t.Context(), name, text).Err())
		},
	}
}

func redisClient(t *testing.T, server *servers.RedisServer) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.URL())
	must(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { must(t, client.Close()) })
	return client
}

// commonNATS is a server that the tests share; it ends with the process.
var commonNATS = sync.OnceValues(func() (*natsServer, error) { return newNATS("") })

func openNATS(t *testing.T, own bool) channel {
	t.Helper()
	server, err := commonNATS()
	must(t, err)
	if own {
		server = startNATS(t)
	}
	subject := "test." + rand.Text()
	return channel{
		server: server,
		bus: func(t *testing.T, addr string) tenancy.Bus {
			t.Helper()
			bus, err := tenantnats.NewBus(tenantnats.BusConfig{URL: "nats://" + addr, Subject: subject})
			must(t, err)
			t.Cleanup(func() { must(t, errors.Join(bus.Close(), bus.Close())) })
			return bus
		},
		say: func(t *testing.T, text string) {
			t.Helper()
			conn, err := nats.Connect(server.URL())
			must(t, err)
			defer conn.Close()
			must(t, conn.Publish(subject, []byte(text)))
			must(t, conn.Flush())
		},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
