package notes

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"lexigram.dev/tenancy"
)

const (
	// Protocol is the WebSocket subprotocol of the feed, for clients that ask for one.
	Protocol = "notes.v1"

	backlog      = 64 // notes that a listener may be behind
	sendTimeout  = 10 * time.Second
	pingInterval = 30 * time.Second
)

// Live tells listeners of the notes that are written through this process. Make one with
// [NewLive].
//
// The listeners are in memory, where no database keeps tenants apart, so this is the one
// place of the application that says which tenant it means: room.
type Live struct {
	mu      sync.Mutex
	rooms   map[string]map[*listener]struct{}
	closing chan struct{}
	open    sync.WaitGroup
}

// NewLive returns a feed that nobody listens to yet.
func NewLive() *Live {
	return &Live{rooms: map[string]map[*listener]struct{}{}, closing: make(chan struct{})}
}

type listener struct {
	messages chan []byte
	slow     context.Context // ends when the listener fell too far behind
	cut      context.CancelFunc
}

var errClosing = &Failure{http.StatusServiceUnavailable, "the server is shutting down"}

// room returns where the notes of this context belong. It fails where a statement would.
func room(ctx context.Context) (string, error) {
	binding, err := tenancy.Require(ctx)
	return binding.Tenant.ID, err
}

// announce sends n to the listeners of the tenant that wrote it. It never waits: a listener
// that does not keep up is cut off, and reads what it missed from GET /notes.
func (l *Live) announce(ctx context.Context, n Note) {
	name, err := room(ctx)
	if err != nil {
		return // then no database has stored the note either
	}
	message, err := json.Marshal(n)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for to := range l.rooms[name] {
		select {
		case to.messages <- message:
		default:
			to.cut()
			l.leave(name, to)
		}
	}
}

// Close sends every listener away, lets nobody in any more and returns when all are gone or
// ctx ends. It may be repeated.
func (l *Live) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.isClosing() {
		close(l.closing)
	}
	l.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.open.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Live) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

func (l *Live) enter(name string, who *listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosing() {
		return false
	}
	if l.rooms[name] == nil {
		l.rooms[name] = map[*listener]struct{}{}
	}
	l.rooms[name][who] = struct{}{}
	l.open.Add(1)
	return true
}

// leave forgets a listener. The caller holds l.mu.
func (l *Live) leave(name string, who *listener) {
	delete(l.rooms[name], who)
	if len(l.rooms[name]) == 0 {
		delete(l.rooms, name)
	}
}

// serve is one listener's connection. The tenant that the handshake was bound to stays the
// connection's until its end, which comes at once when the tenant or the user may not work any more.
func (l *Live) serve(w http.ResponseWriter, r *http.Request) error {
	name, err := room(r.Context())
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") == "" {
		w.Header().Set("Upgrade", "websocket")
		return &Failure{http.StatusUpgradeRequired, "this is a WebSocket: open it with a WebSocket client"}
	}
	slow, cut := context.WithCancel(r.Context())
	defer cut()
	who := &listener{messages: make(chan []byte, backlog), slow: slow, cut: cut}
	// Enter before the handshake is answered: a client that sees it open misses no note.
	if !l.enter(name, who) {
		return errClosing
	}
	defer l.open.Done()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave(name, who)
	}()

	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Protocol}})
	if err != nil {
		return nil // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }() // after a Close it is one too many
	l.listen(r.Context(), conn, who)
	return nil
}

// listen sends messages until the client goes, falls behind or is sent away, or ctx ends.
func (l *Live) listen(ctx context.Context, conn *websocket.Conn, who *listener) {
	gone := conn.CloseRead(context.WithoutCancel(ctx)) // so that there is somebody to tell why
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-gone.Done():
			return
		case <-ctx.Done():
			_ = conn.Close(websocket.StatusPolicyViolation, "you may not listen any more")
			return
		case <-l.closing:
			_ = conn.Close(websocket.StatusGoingAway, errClosing.Detail)
			return
		case <-who.slow.Done():
			if ctx.Err() != nil {
				continue
			}
			_ = conn.Close(websocket.StatusTryAgainLater, "too slow: notes were missed")
			return
		case message := <-who.messages:
			err = within(who.slow, func(ctx context.Context) error {
				return conn.Write(ctx, websocket.MessageText, message)
			})
		case <-ping.C:
			err = within(who.slow, conn.Ping)
		}
		if err != nil {
			return
		}
	}
}

func within(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return send(ctx)
}
