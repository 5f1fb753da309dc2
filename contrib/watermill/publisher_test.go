package watermill_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	watermillcore "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/contrib/watermill"
	"lexigram.dev/tenancy/memstore"
)

func TestEventsArriveInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermillcore.NopLogger{})
	defer channel.Close()
	messages, err := channel.Subscribe(ctx, "tenants")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan *message.Message, 10)
	go func() {
		for m := range messages {
			heard <- m
			m.Ack()
		}
	}()
	publisher := watermill.Publisher{To: channel, Topic: "tenants", Source: "/test"}
	tn, err := tenancy.New(tenancy.Config{
		Store: memstore.New(), Logger: slog.New(slog.DiscardHandler), Subscribers: []tenancy.Subscriber{publisher.Publish},
	})
	if err != nil {
		t.Fatal(err)
	}
	acme, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tn.Lifecycle().Suspend(ctx, acme.ID, "unpaid"); err != nil {
		t.Fatal(err)
	}
	if err := tn.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for _, want := range []tenancy.EventType{tenancy.TenantProvisioned, tenancy.TenantSuspended} {
		select {
		case m := <-heard:
			e, source, err := tenancy.ParseCloudEvent(m.Payload)
			if err != nil || e.Type != want || e.TenantID != acme.ID || source != "/test" || m.UUID != e.ID || m.Metadata.Get("tenant_id") != acme.ID {
				t.Errorf("heard %s, %s with %v, %v, want %s", m.UUID, m.Payload, m.Metadata, err, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s is missing", want)
		}
	}
}

// broken is a publisher whose broker is gone.
type broken struct{ err error }

func (b broken) Publish(string, ...*message.Message) error { return b.err }
func (b broken) Close() error                              { return nil }

func TestErrorsAreHandedOn(t *testing.T) {
	t.Parallel()
	gone := errors.New("the broker is gone")
	event := tenancy.Event{ID: "1", Type: tenancy.TenantUpdated, TenantID: "acme"}
	if err := (watermill.Publisher{To: broken{gone}, Topic: "t", Source: "/test"}).Publish(t.Context(), event); !errors.Is(err, gone) {
		t.Errorf("told %v", err)
	}
	if err := (watermill.Publisher{To: broken{}, Topic: "t"}).Publish(t.Context(), event); err == nil {
		t.Error("an event without a source was published")
	}
}
