package bus_test

import (
	"net"
	"sync"
	"testing"
)

// gate stands before a server and can cut what goes through it.
type gate struct {
	to       string
	listener net.Listener
	group    sync.WaitGroup

	mu    sync.Mutex
	shut  bool
	held  chan struct{} // nothing goes through until it is closed; nil when everything does
	conns map[net.Conn]struct{}
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := &gate{to: to, listener: listener, conns: map[net.Conn]struct{}{}}
	g.group.Go(g.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		g.close()
		g.group.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", g.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		g.mu.Lock()
		if g.shut {
			g.mu.Unlock()
			_, _ = client.Close(), server.Close()
			continue
		}
		g.conns[client], g.conns[server] = struct{}{}, struct{}{}
		g.mu.Unlock()
		g.group.Go(func() { g.pass(client, server) })
		g.group.Go(func() { g.pass(server, client) })
	}
}

func (g *gate) pass(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		g.mu.Lock()
		held := g.held
		g.mu.Unlock()
		if held != nil {
			<-held
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// hold lets nothing through any more, without a word.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = make(chan struct{})
}

// cut ends all connections; new ones pass.
func (g *gate) cut() {
	g.close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// close ends all connections and takes no new ones until open or cut.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
	for conn := range g.conns {
		_ = conn.Close()
		delete(g.conns, conn)
	}
}

// open lets new connections pass.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}
