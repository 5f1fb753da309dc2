package tenantnats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lexigram.dev/tenancy"
)

// longestSubject is how many bytes a subject may have. Ids of the catalogue need far less.
const longestSubject = 1024

// PublisherConfig is the configuration of a [Publisher].
type PublisherConfig struct {
	// URL names the servers, with commas between them. Defaults to nats.DefaultURL.
	URL string
	// Options are further options of the connection, such as credentials and TLS. Those about
	// reconnecting and pings do not count.
	Options []nats.Option
	// Source names the deployment, as CloudEvents has it: a URI reference such as
	// https://app.example/tenancy. Required.
	Source string
	// Subject is what the subjects of all events begin with. Defaults to "tenancy.events".
	Subject string
	// Name is the publisher's for [tenancy.Publisher]. Defaults to "nats".
	Name string
}

// Publisher hands domain events to a JetStream stream as CloudEvents in structured JSON, each to the
// subject that [Publisher.Subject] returns. The stream must exist and include these subjects; its window
// for duplicates (two minutes unless it says otherwise) is how long an event that is published again is
// stored once.
type Publisher struct {
	source  string
	subject string
	name    string
	link    *link
}

var _ tenancy.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher. It does no I/O.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	p := &Publisher{
		source: cfg.Source, subject: cmp.Or(cfg.Subject, "tenancy.events"), name: cmp.Or(cfg.Name, "nats"),
		link: newLink(cmp.Or(cfg.URL, nats.DefaultURL), cfg.Options),
	}
	_, err := tenancy.CloudEvent(tenancy.Event{ID: "x", Type: "x", TenantID: "x"}, cfg.Source)
	if err != nil {
		err = fmt.Errorf("tenantnats: PublisherConfig.Source: %w", err)
	}
	if err := errors.Join(err, checkSubject("PublisherConfig.Subject", p.subject)); err != nil {
		return nil, err
	}
	return p, nil
}

// Name implements [tenancy.Publisher].
func (p *Publisher) Name() string { return p.name }

// Subject returns the subject of an event: the prefix, the event's type and the tenant's id, such as
// tenancy.events.TenantSuspended.acme. In type and id every byte but a-z A-Z 0-9 _ - is written as = and
// two hexadecimal digits, so that each is one token and no two ids have the same.
func (p *Publisher) Subject(e tenancy.Event) string {
	return p.subject + "." + token(string(e.Type)) + "." + token(e.TenantID)
}

// token writes a text that anybody may have chosen as one token of a subject.
func token(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// Publish returns when the stream has stored the event, now or before. Without a deadline in ctx it gives
// up after some seconds.
func (p *Publisher) Publish(ctx context.Context, e tenancy.Event) error {
	if err := p.publish(ctx, e); err != nil {
		return fmt.Errorf("tenantnats: publish event %q of tenant %q: %w", e.ID, e.TenantID, err)
	}
	return nil
}

func (p *Publisher) publish(ctx context.Context, e tenancy.Event) error {
	body, err := tenancy.CloudEvent(e, p.source)
	if err != nil {
		return err
	}
	message := nats.NewMsg(p.Subject(e))
	if len(message.Subject) > longestSubject {
		return fmt.Errorf("its subject would have %d bytes, at most %d are possible: shorten the tenant's id", len(message.Subject), longestSubject)
	}
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, e.ID)
	message.Header.Set("Content-Type", tenancy.CloudEventContentType)
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := p.link.get(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	if _, err = js.PublishMsg(ctx, message); err == nil {
		return nil
	}
	if complaint := conn.LastError(); complaint != nil { // such as a missing permission
		conn.Close()
		err = errors.Join(err, complaint)
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("%w: no stream stores %s: create one with the subjects %s.>", err, message.Subject, p.subject)
	}
	return err
}

// Close ends the connection. It is made again when an event is published.
func (p *Publisher) Close() error {
	p.link.close()
	return nil
}
