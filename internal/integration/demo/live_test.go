package demo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// listen opens GET /live as c asks.
func (s *site) listen(ctx context.Context, c call, protocols ...string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	for name, values := range c.header {
		header[name] = values
	}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	opts := &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols}
	if c.host != "" {
		opts.Host = c.host + ".localhost"
	}
	return websocket.Dial(ctx, "ws://"+s.addr+c.path, opts)
}

func (s *site) mustListen(t *testing.T, c call, protocols ...string) *websocket.Conn {
	t.Helper()
	conn, _, err := s.listen(t.Context(), c, protocols...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func hear(t *testing.T, conn *websocket.Conn) note {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, message, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var n note
	if err := json.Unmarshal(message, &n); err != nil {
		t.Fatalf("%v in %s", err, message)
	}
	return n
}

func TestLiveTellsOnlyTheTenantsNotes(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		write := func(user, tenant, text string) note {
			return decode[note](t, s.do(t, s.as(t, user, tenant, call{method: "POST", path: "/notes", body: `{"text":"` + text + `"}`})).want(t, 201))
		}
		listeners := map[string][]*websocket.Conn{}
		for _, resolver := range resolvers {
			for _, tenant := range []string{"acme", "globex"} {
				listeners[tenant] = append(listeners[tenant], s.mustListen(t, s.naming(t, resolver, "carol", tenant, call{path: "/live"})))
			}
		}
		var acme, globex []note
		for i := range 10 {
			acme = append(acme, write("alice", "acme", fmt.Sprint("acme ", i)))
			globex = append(globex, write("bob", "globex", fmt.Sprint("globex ", i)))
		}
		for tenant, want := range map[string][]note{"acme": acme, "globex": globex} {
			for i, conn := range listeners[tenant] {
				for _, n := range want {
					if got := hear(t, conn); got != n {
						t.Fatalf("listener %d of %s hears %+v, want %+v", i, tenant, got, n)
					}
				}
			}
		}
	})
}

func TestWhoMayListen(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		refused := func(name string, c call, status int) {
			t.Run(name, func(t *testing.T) {
				c.path = orElse(c.path, "/live")
				conn, res, err := s.listen(t.Context(), c)
				if err == nil {
					_ = conn.CloseNow()
					t.Fatal("the handshake succeeded")
				}
				if res == nil || res.StatusCode != status {
					t.Errorf("got %v, want status %d", err, status)
				}
			})
		}
		live := call{path: "/live"}
		refused("nobody", call{}, 401)
		refused("nobody who names a tenant", s.naming(t, "header", "", "acme", live), 403)
		refused("no tenant", s.as(t, "alice", "", live), 400)
		refused("an outsider", s.naming(t, "header", "mallory", "acme", live), 403)
		refused("a suspended tenant", s.naming(t, "header", "dave", "initech", live), 403)
		refused("a suspended tenant's claim", s.as(t, "dave", "initech", live), 403)
		refused("a token in the query", call{path: "/live?access_token=" + s.token(t, "alice", "acme")}, 401)
		foreign := s.as(t, "alice", "acme", live)
		foreign.header = http.Header{"Origin": {"https://evil.example"}}
		refused("a page of another origin", foreign, 403)

		t.Run("a token as subprotocol, which is not echoed", func(t *testing.T) {
			conn := s.mustListen(t, live, "notes.v1", "bearer."+s.token(t, "alice", "acme"))
			if got := conn.Subprotocol(); got != "notes.v1" {
				t.Errorf("subprotocol %q", got)
			}
			s.do(t, s.as(t, "alice", "acme", call{method: "POST", path: "/notes", body: `{"text":"x"}`})).want(t, 201)
			hear(t, conn)
		})
	})
}

func TestListenersAreSentAwayWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := start(t, backends[0].open(t))
	conn := s.mustListen(t, s.as(t, "alice", "acme", call{path: "/live"}))
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	_, _, err := conn.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %v, want a close with status 1001", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A listener that does not read must neither hold up who writes nor fill the memory.
func TestSlowListenersAreCutOff(t *testing.T) {
	t.Parallel()
	s := start(t, backends[0].open(t))
	slow := s.mustListen(t, s.as(t, "alice", "acme", call{path: "/live"}))
	other := s.mustListen(t, s.as(t, "bob", "globex", call{path: "/live"}))
	text := strings.Repeat("x", 8000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1500 { // far more than the buffers of two sockets hold
			a, err := s.send(t.Context(), s.as(t, "alice", "acme", call{method: "POST", path: "/notes", body: `{"text":"` + text + `"}`}))
			if err != nil || a.status != http.StatusCreated {
				t.Errorf("POST: %v %d", err, a.status)
				return
			}
		}
	}()
	<-done
	heard := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, _, err := slow.Read(ctx)
		timedOut := ctx.Err() != nil
		cancel()
		if err != nil {
			if timedOut || errors.Is(err, context.DeadlineExceeded) {
				t.Error("the listener that did not read is still connected")
			}
			break
		}
		heard++
	}
	if heard == 0 || heard >= 1500 {
		t.Errorf("the slow listener heard %d of 1500 notes", heard)
	}
	s.do(t, s.as(t, "bob", "globex", call{method: "POST", path: "/notes", body: `{"text":"x"}`})).want(t, 201)
	if got := hear(t, other); got.Text != "x" {
		t.Errorf("globex hears %.20q", got.Text)
	}
}
