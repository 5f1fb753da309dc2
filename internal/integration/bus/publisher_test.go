package bus_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantnats"
)

// stream is what other systems read.
type stream struct {
	jetstream.Stream
	server *natsServer
}

func newStream(t *testing.T) *stream {
	t.Helper()
	s := &stream{server: startNATS(t)}
	s.create(t)
	return s
}

// create creates the stream.
func (s *stream) create(t *testing.T) {
	t.Helper()
	js, err := jetstream.New(connectNATS(t, s.server))
	must(t, err)
	s.Stream, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TENANCY", Subjects: []string{"tenancy.events.>"}})
	must(t, err)
}

// all returns what is stored.
func (s *stream) all(t *testing.T) []*jetstream.RawStreamMsg {
	t.Helper()
	info, err := s.Info(t.Context())
	must(t, err)
	var all []*jetstream.RawStreamMsg
	for i := info.State.FirstSeq; i <= info.State.LastSeq && info.State.Msgs > 0; i++ {
		m, err := s.GetMsg(t.Context(), i)
		must(t, err)
		all = append(all, m)
	}
	return all
}

func newPublisher(t *testing.T, s *natsServer, options ...nats.Option) *tenantnats.Publisher {
	t.Helper()
	p, err := tenantnats.NewPublisher(tenantnats.PublisherConfig{URL: s.URL(), Options: options, Source: "/test"})
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(p.Close(), p.Close())) })
	return p
}

// event returns an event of a tenant.
func event(tenantID string, revision int64) tenancy.Event {
	return tenancy.Event{
		ID: rand.Text(), Type: tenancy.TenantUpdated, TenantID: tenantID, Slug: "slug", Revision: revision, Time: time.Now().UTC(),
	}
}

func TestPublisherStoresEachEventOnce(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	p := newPublisher(t, s.server)
	e := event("acme", 3)
	for range 3 {
		must(t, p.Publish(t.Context(), e))
	}
	must(t, newPublisher(t, s.server).Publish(t.Context(), e)) // of another node
	all := s.all(t)
	if len(all) != 1 {
		t.Fatalf("%d messages are stored", len(all))
	}
	m := all[0]
	got, source, err := tenancy.ParseCloudEvent(m.Data)
	must(t, err)
	if got != e || source != "/test" || m.Subject != "tenancy.events.TenantUpdated.acme" ||
		m.Header.Get("Nats-Msg-Id") != e.ID || m.Header.Get("Content-Type") != tenancy.CloudEventContentType {
		t.Errorf("stored %s with %v: %s", m.Subject, m.Header, m.Data)
	}
}

func TestPublisherKeepsTheOrderOfATenant(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	p := newPublisher(t, s.server)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for revision := range int64(50) {
				e := event(fmt.Sprint("t-", i), revision)
				for range 1 + revision%2 {
					if err := p.Publish(t.Context(), e); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	next := map[string]int64{}
	for _, m := range s.all(t) {
		e, _, err := tenancy.ParseCloudEvent(m.Data)
		must(t, err)
		if e.Revision != next[e.TenantID] {
			t.Fatalf("%s: revision %d where %d is due", e.TenantID, e.Revision, next[e.TenantID])
		}
		next[e.TenantID]++
	}
	for tenant, n := range next {
		if n != 50 {
			t.Errorf("%s has %d events", tenant, n)
		}
	}
	if len(next) != 4 {
		t.Errorf("%d tenants", len(next))
	}
}

// TestNothingInAnIDChoosesASubject publishes events of tenants whose ids somebody has chosen with care.
func TestNothingInAnIDChoosesASubject(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	p := newPublisher(t, s.server)
	ids := []string{
		"a.b", "*", ">", ".", "..", "a b", "=2E", "$JS.API.STREAM.DELETE.TENANCY", "_INBOX.x", "Ünï", "a\u2028b", "a/b:c@d", strings.Repeat(">", 128),
	}
	for i, id := range ids {
		e := event(id, int64(i))
		must(t, p.Publish(t.Context(), e))
		e.ID, e.Type = rand.Text(), ">.*"
		must(t, p.Publish(t.Context(), e))
	}
	all := s.all(t)
	if len(all) != 2*len(ids) {
		t.Fatalf("%d messages are stored of %d", len(all), 2*len(ids))
	}
	subjects := map[string]bool{}
	for i, m := range all {
		tokens := strings.Split(m.Subject, ".")
		if len(tokens) != 4 || strings.ContainsAny(m.Subject, "*> \t\r\n") || !strings.HasPrefix(m.Subject, "tenancy.events.") {
			t.Errorf("%q chose the subject %q", ids[i/2], m.Subject)
		}
		subjects[m.Subject] = true
		e, _, err := tenancy.ParseCloudEvent(m.Data)
		must(t, err)
		if e.TenantID != ids[i/2] {
			t.Errorf("%q is stored as %q", ids[i/2], e.TenantID)
		}
	}
	if len(subjects) != len(all) {
		t.Errorf("%d subjects of %d", len(subjects), len(all))
	}
	for what, e := range map[string]tenancy.Event{
		"no id": event("", 1), "a line break": event("a\r\nNats-Msg-Id: x", 1), "a long id": event(strings.Repeat(">", 5000), 1),
		"an event without an id": {Type: tenancy.TenantUpdated, TenantID: "acme"},
	} {
		if err := p.Publish(t.Context(), e); err == nil {
			t.Errorf("%s: published", what)
		}
	}
	if len(s.all(t)) != len(all) {
		t.Error("what was refused is stored")
	}
}

func TestPublisherWithoutAStreamNamesTheRemedy(t *testing.T) {
	t.Parallel()
	s := &stream{server: startNATS(t)}
	p := newPublisher(t, s.server)
	e := event("acme", 1)
	err := p.Publish(t.Context(), e)
	mustBe(t, err, jetstream.ErrNoStreamResponse)
	if !strings.Contains(err.Error(), "create one with the subjects tenancy.events.>") {
		t.Error(err)
	}
	s.create(t)
	must(t, p.Publish(t.Context(), e))

	// A server without JetStream, and somebody who listens but stores nothing.
	plain, err := commonNATS()
	must(t, err)
	mustBe(t, newPublisher(t, plain).Publish(t.Context(), e), jetstream.ErrNoStreamResponse)
	listener := connectNATS(t, plain)
	_, err = listener.Subscribe("tenancy.events.>", func(m *nats.Msg) { _ = m.Respond([]byte("thanks")) })
	must(t, err)
	must(t, listener.Flush())
	if err := newPublisher(t, plain).Publish(t.Context(), e); err == nil {
		t.Error("an event is kept by nobody")
	}
}

func TestPublisherWithoutARightSaysSo(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, startNATS(t, withRights([]string{"other"}, []string{">"})), nats.UserInfo("app", "secret"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Publish(ctx, event("acme", 1)); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("told %v", err)
	}
}

func TestPublisherRefusesWhileTheServerIsGone(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	gate := newGate(t, s.server.Addr())
	p, err := tenantnats.NewPublisher(tenantnats.PublisherConfig{URL: "nats://" + gate.addr(), Source: "/test"})
	must(t, err)
	defer func() { must(t, p.Close()) }()
	first, second := event("acme", 1), event("acme", 2)
	must(t, p.Publish(t.Context(), first))

	refused := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := p.Publish(ctx, second); err == nil {
			t.Errorf("%s: published", what)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: refused after %v", what, took)
		}
	}
	gate.hold()
	refused("silent") // may arrive all the same
	gate.close()
	refused("cut off")
	gate.open()
	must(t, s.server.Kill())
	refused("gone")
	must(t, s.server.Start())
	must(t, p.Publish(t.Context(), first)) // the server remembers what it had
	must(t, p.Publish(t.Context(), second))
	eventually(t, "a connection of the reader", func() bool { _, err := s.Info(t.Context()); return err == nil })
	if all := s.all(t); len(all) != 2 || all[0].Header.Get("Nats-Msg-Id") != first.ID || all[1].Header.Get("Nats-Msg-Id") != second.ID {
		t.Errorf("%d messages are stored", len(all))
	}
}

// TestEventsComeWhenTheBrokerIsBack has a tenancy tell of what happened while nobody could be told.
func TestEventsComeWhenTheBrokerIsBack(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	must(t, s.server.Kill())
	tn, err := tenancy.New(tenancy.Config{
		Store: memstore.New(), Logger: slog.New(slog.DiscardHandler), Subscribers: []tenancy.Subscriber{newPublisher(t, s.server).Publish},
		Resolution: tenancy.ResolutionConfig{PollInterval: 50 * time.Millisecond},
	})
	must(t, err)
	must(t, tn.Start(t.Context()))
	t.Cleanup(func() { must(t, tn.Stop(context.Background())) })
	var want []string
	for _, slug := range []string{"acme", "globex"} {
		tenant, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: slug})
		must(t, err)
		_, err = tn.Lifecycle().Suspend(t.Context(), tenant.ID, "unpaid")
		must(t, err)
		want = append(want, slug+" TenantProvisioned", slug+" TenantSuspended")
	}
	must(t, s.server.Start())
	eventually(t, "all events", func() bool {
		info, err := s.Info(t.Context())
		return err == nil && info.State.Msgs >= uint64(len(want))
	})
	before := map[string]bool{}
	for _, m := range s.all(t) {
		e, _, err := tenancy.ParseCloudEvent(m.Data)
		must(t, err)
		if e.Type == tenancy.TenantSuspended && !before[e.Slug+" TenantProvisioned"] {
			t.Errorf("%s is suspended before it is provisioned", e.Slug)
		}
		before[e.Slug+" "+string(e.Type)] = true
	}
	for _, w := range want {
		if !before[w] {
			t.Errorf("%s is missing", w)
		}
	}
}
