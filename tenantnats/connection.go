package tenantnats

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// quiet is how often a connection asks whether the server is still there. It gives up when a second
	// question is due and the first has no answer.
	quiet = 5 * time.Second
	// answerTimeout bounds the wait for an answer when the caller's context has no end.
	answerTimeout = 10 * time.Second
)

// connect connects to one of the servers. When the connection breaks it is over: one that comes back by
// itself hides what was missed meanwhile.
func connect(ctx context.Context, url string, options []nats.Option) (*nats.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type result struct {
		conn *nats.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := nats.Connect(url, append(options[:len(options):len(options)], once)...)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() { // the client has a timeout, but no context
			if r := <-done; r.err == nil {
				r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// once makes a connection end for good.
func once(o *nats.Options) error {
	o.AllowReconnect, o.RetryOnFailedConnect = false, false
	o.PingInterval, o.MaxPingsOut = quiet, 1
	o.PermissionErrOnSubscribe = true
	if o.AsyncErrorCB == nil { // by default it prints; whoever uses the connection asks it for its errors
		o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
	}
	return nil
}

// link is a connection that is made when it is needed, and anew after it broke.
type link struct {
	url     string
	options []nats.Option
	turn    chan struct{} // holds one while somebody looks at conn
	conn    *nats.Conn
}

func newLink(url string, options []nats.Option) *link {
	return &link{url: url, options: options, turn: make(chan struct{}, 1)}
}

// get returns a connection that was open a moment ago.
func (l *link) get(ctx context.Context) (*nats.Conn, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.conn != nil && !l.conn.IsClosed() {
		return l.conn, nil
	}
	conn, err := connect(ctx, l.url, l.options)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	return conn, nil
}

func (l *link) close() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// flush returns when the server has taken what was sent, and the server's complaint if it did not.
func flush(ctx context.Context, conn *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := conn.FlushWithContext(ctx); err != nil {
		return err
	}
	return conn.LastError() // comes before the answer to a flush
}

// checkSubject returns an error unless one can publish to the subject.
func checkSubject(field, subject string) error {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '>' }) {
			return fmt.Errorf("tenantnats: %s %q is no subject: give tokens of printable ASCII with dots between them, without * and >", field, subject)
		}
	}
	if strings.HasPrefix(subject, "$") {
		return fmt.Errorf("tenantnats: %s %q belongs to the server: give one that does not begin with $", field, subject)
	}
	return nil
}
