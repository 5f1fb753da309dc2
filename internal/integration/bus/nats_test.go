package bus_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantnats"
)

// natsServer is a NATS in this process. With a folder it has JetStream, whose data stay over Kill.
type natsServer struct {
	options server.Options
	mu      sync.Mutex
	running *server.Server
}

// startNATS starts a server with JetStream that lives until the end of the test.
func startNATS(t *testing.T, change ...func(*server.Options)) *natsServer {
	t.Helper()
	s, err := newNATS(t.TempDir(), change...)
	must(t, err)
	t.Cleanup(func() { must(t, s.Kill()) })
	return s
}

func newNATS(folder string, change ...func(*server.Options)) (*natsServer, error) {
	s := &natsServer{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: folder != "", StoreDir: folder,
	}}
	for _, c := range change {
		c(&s.options)
	}
	return s, s.Start()
}

// Start starts the server, again on the port that it had.
func (s *natsServer) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	options := s.options
	running, err := server.NewServer(&options)
	if err != nil {
		return err
	}
	running.Start()
	if !running.ReadyForConnections(20 * time.Second) {
		return errors.New("NATS is not ready")
	}
	addr, ok := running.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("NATS listens on %v", running.Addr())
	}
	s.running, s.options.Port = running, addr.Port
	return nil
}

// Kill ends the server and every connection.
func (s *natsServer) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running.Shutdown()
	s.running.WaitForShutdown()
	return nil
}

// Restart is Kill and Start.
func (s *natsServer) Restart() error { return errors.Join(s.Kill(), s.Start()) }

// Addr returns the host and port.
func (s *natsServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.options.Port) }

// URL returns the connection string.
func (s *natsServer) URL() string { return "nats://" + s.Addr() }

// readDialer opens connections that count what their client has read and gone through.
type readDialer struct{ done atomic.Int64 }

func (d *readDialer) Dial(network, addr string) (net.Conn, error) {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	return &readConn{Conn: conn, dialer: d}, nil
}

type readConn struct {
	net.Conn
	dialer *readDialer
	read   int64
}

func (c *readConn) Read(b []byte) (int, error) {
	c.dialer.done.Store(c.read) // the client has gone through what it read before
	n, err := c.Conn.Read(b)
	c.read += int64(n)
	return n, err
}

// TestNATSDropsAreNoticed fills what a subscriber may be behind. Of some long messages one is lost, and
// there is room for a later one, upon which the client forgets that it lost one.
func TestNATSDropsAreNoticed(t *testing.T) {
	t.Parallel()
	for name, sizes := range map[string][]int{
		"many":           slices.Repeat([]int{10}, 20_000),
		"one among some": append(slices.Repeat([]int{900_000}, 10), 10),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dialer := startNATS(t), &readDialer{}
			bus, err := tenantnats.NewBus(tenantnats.BusConfig{URL: s.URL(), Options: []nats.Option{nats.SetCustomDialer(dialer)}})
			must(t, err)
			defer func() { must(t, bus.Close()) }()
			sub, err := bus.Subscribe(t.Context())
			must(t, err)
			defer sub.Close()
			conn, total := connectNATS(t, s), int64(0)
			for _, size := range sizes {
				must(t, conn.Publish("tenancy.changes", make([]byte, size)))
				total += int64(len(fmt.Sprintf("MSG tenancy.changes 1 %d\r\n\r\n", size)) + size)
			}
			must(t, conn.Flush())
			eventually(t, "all of it at the subscriber's", func() bool { return dialer.done.Load() >= total })
			ends(t, sub, 5*time.Second)
			subscribe(t, bus)
		})
	}
}

func connectNATS(t *testing.T, s *natsServer) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(s.URL())
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// withRights lets a user do only some things.
func withRights(publish, subscribe []string) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{{Username: "app", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
		}}}
	}
}

func TestNATSLoginsWithoutARight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                  string
		server                *natsServer
		user                  nats.Option
		publishes, subscribes bool
	}{
		{"deaf", startNATS(t, withRights([]string{"tenancy.>"}, []string{"other"})), nats.UserInfo("app", "secret"), true, false},
		{"mute", startNATS(t, withRights([]string{"other"}, []string{"tenancy.>"})), nats.UserInfo("app", "secret"), false, true},
		{"nobody", startNATS(t, withRights([]string{">"}, []string{">"})), nats.UserInfo("app", "wrong"), false, false},
	} {
		bus, err := tenantnats.NewBus(tenantnats.BusConfig{URL: c.server.URL(), Options: []nats.Option{c.user}})
		must(t, err)
		defer func() { must(t, bus.Close()) }()
		for range 2 {
			if err := bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}); (err == nil) != c.publishes {
				t.Errorf("%s publishes: %v", c.name, err)
			}
			sub, err := bus.Subscribe(t.Context())
			if (err == nil) != c.subscribes {
				t.Errorf("%s subscribes: %v", c.name, err)
			}
			if sub != nil {
				must(t, sub.Close())
			}
		}
	}
}
