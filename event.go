package tenancy

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// EventType is the name of a domain event.
type EventType string

// The domain events, named as in lexigram-tenancy.
const (
	TenantProvisioned   EventType = "TenantProvisioned"
	TenantUpdated       EventType = "TenantUpdated"
	TenantActivated     EventType = "TenantActivated"
	TenantDeactivated   EventType = "TenantDeactivated"
	TenantSuspended     EventType = "TenantSuspended"
	TenantArchived      EventType = "TenantArchived"
	TenantPurged        EventType = "TenantPurged"
	TenantConfigChanged EventType = "TenantConfigChanged"
)

// Event tells that something happened to a tenant. A store keeps it in the same
// transaction as the change, so that neither exists without the other.
type Event struct {
	ID       string    `json:"id"` // unique; the key to de-duplicate by
	Type     EventType `json:"type"`
	TenantID string    `json:"tenant_id"`
	Slug     string    `json:"slug"`
	Revision int64     `json:"revision"` // of the tenant, after the change
	Time     time.Time `json:"time"`     // UTC
	Reason   string    `json:"reason,omitempty"`
	// Config is set on TenantConfigChanged only.
	Config *ConfigChange `json:"config,omitempty"`
	// Manifest is what was removed; it is set on TenantPurged only.
	Manifest *Manifest `json:"manifest,omitempty"`
}

// Clone returns a deep copy.
func (e Event) Clone() Event {
	if e.Config != nil {
		change := *e.Config
		change.Old, change.New = slices.Clone(change.Old), slices.Clone(change.New)
		e.Config = &change
	}
	e.Manifest = e.Manifest.clone()
	return e
}

// ConfigChange is one changed override. A value that was or is not set is nil.
type ConfigChange struct {
	Key string          `json:"key"`
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
}

// Subscriber handles an event. Events of one tenant arrive in order, each at least once on one node of
// the deployment. After an error, or a panic, the same event comes again later, and that tenant's later
// events wait; see [Events]. It has to return when its context ends.
type Subscriber func(ctx context.Context, e Event) error
