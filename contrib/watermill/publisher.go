// Package watermill answers the question "how do domain events reach the broker that the application has
// Watermill for?". It is an example to copy: a bridge, not a module that is released.
package watermill

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"lexigram.dev/tenancy"
)

// Publisher is a [tenancy.Publisher] over any publisher of Watermill.
//
// It is as good as what is below it: To must wait until the broker keeps the message, and should end with
// the message's context. Order per tenant holds where the broker keeps it; one with partitions needs the
// metadata tenant_id as its key.
type Publisher struct {
	To     message.Publisher
	Topic  string
	Source string // of the CloudEvents, a URI reference such as https://app.example/tenancy
}

var _ tenancy.Publisher = Publisher{}

// Name implements [tenancy.Publisher].
func (p Publisher) Name() string { return "watermill." + p.Topic }

// Publish implements [tenancy.Publisher]. The message's UUID is the event's id.
func (p Publisher) Publish(ctx context.Context, e tenancy.Event) error {
	body, err := tenancy.CloudEvent(e, p.Source)
	if err != nil {
		return err
	}
	m := message.NewMessageWithContext(ctx, e.ID, body)
	m.Metadata = message.Metadata{"tenant_id": e.TenantID, "content-type": tenancy.CloudEventContentType}
	return p.To.Publish(p.Topic, m)
}
