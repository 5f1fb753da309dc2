package tenancy

import "context"

// Publisher hands domain events to a system outside of the process, such as a message broker. It is
// safe for concurrent use.
type Publisher interface {
	// Name tells the publisher from others of the deployment and must not change: what was handed over
	// is counted by it. It is 1 to 100 of a-z A-Z 0-9 . _ -.
	Name() string
	// Publish returns nil once the event is kept outside. Events of one tenant come in order, each at
	// least once; see [Event.ID] to de-duplicate. After an error the same event comes again later, and
	// that tenant's later events wait.
	Publish(ctx context.Context, e Event) error
}
