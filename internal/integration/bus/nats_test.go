package bus_test

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
