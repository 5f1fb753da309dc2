package tenancy

import (
	"context"
	"encoding/json"
	"time"
)

// Directory finds tenants. It is all that the request path needs; an application with its
// own table of organisations writes this one method.
type Directory interface {
	// Lookup returns the tenant that ref names, or [ErrNotFound] when there is none. Any
	// other error means that the answer is not known. [Ref.Matches] has the
	// rule: letter case does not count in ids and slugs, so that a directory whose ids differ
	// in case only must compare them exactly; for RefIDOrSlug compare both, for RefAlias the
	// alias of that kind. The tenant comes back whatever its status is.
	Lookup(ctx context.Context, ref Ref) (Tenant, error)
}

// DirectoryFunc makes a [Directory] of a function.
type DirectoryFunc func(ctx context.Context, ref Ref) (Tenant, error)

// Lookup calls f.
func (f DirectoryFunc) Lookup(ctx context.Context, ref Ref) (Tenant, error) { return f(ctx, ref) }

// Store keeps tenants. Events given to a write become durable with it or not at all.
type Store interface {
	Directory
	// Create adds a tenant at revision 1. A name that is taken, by an id, slug or alias of any
	// tenant, purged ones included, is a [*SlugConflictError].
	Create(ctx context.Context, t Tenant, events ...Event) (Tenant, error)
	// Update replaces the tenant with t.ID, its journal included, if its revision is still t.Revision, and counts
	// the revision up; otherwise [ErrConflict]. An unknown id is [ErrNotFound], a taken
	// name a [*SlugConflictError]. CreatedAt cannot change.
	Update(ctx context.Context, t Tenant, events ...Event) (Tenant, error)
	// List returns one page of the tenants that match, ordered by id, or with a Prefix by
	// slug. An After that no page returned is an [*InvalidError].
	List(ctx context.Context, opts ListOptions) (Page, error)
}

// ListOptions chooses tenants.
type ListOptions struct {
	// Statuses keeps tenants in one of these states. Empty means all but purged.
	Statuses []Status
	// Parent keeps the tenants that belong to this one. Empty means all.
	Parent string
	// Prefix keeps tenants whose slug begins so.
	Prefix string
	// After is the Next of the page before, or "" for the first page.
	After string
	// Limit is the size of a page. Defaults to 100, at most 1000.
	Limit int
}

// PageLimit returns Limit with its default and its bound.
func (o ListOptions) PageLimit() int {
	switch {
	case o.Limit <= 0:
		return 100
	case o.Limit > 1000:
		return 1000
	default:
		return o.Limit
	}
}

// Includes reports whether a tenant in state s is wanted.
func (o ListOptions) Includes(s Status) bool {
	if len(o.Statuses) == 0 {
		return s != StatusPurged
	}
	for _, want := range o.Statuses {
		if s == want {
			return true
		}
	}
	return false
}

// Page is a part of a listing.
type Page struct {
	Tenants []Tenant
	// Next continues the listing, as ListOptions.After; "" on the last page.
	Next string
}

// ConfigStore keeps the tenants' overrides.
type ConfigStore interface {
	// LoadConfig returns all overrides of a tenant; an empty map when there are none or no
	// such tenant.
	LoadConfig(ctx context.Context, tenantID string) (map[string]json.RawMessage, error)
	// SaveConfig changes overrides of a tenant in one transaction. It calls change with all that the
	// tenant has, a copy, while no other write of them can happen, and makes everything that comes
	// back durable or nothing. An empty write changes nothing. change may be called again when the
	// transaction has to be repeated, and must not use the store; its error is returned and nothing
	// changes. An unknown tenant is [ErrNotFound].
	SaveConfig(ctx context.Context, tenantID string,
		change func(own map[string]json.RawMessage) (ConfigWrite, error)) error
	// ConfigHistory returns one page of the records that were given to SaveConfig for a tenant, those
	// of the newest write first, those of one write last first; an empty page when there are none or
	// no such tenant. An After that no page returned is an [*InvalidError].
	ConfigHistory(ctx context.Context, tenantID string, opts HistoryOptions) (HistoryPage, error)
}

// ConfigWrite is one change of a tenant's overrides.
type ConfigWrite struct {
	// Values are set, nil ones removed. Others stay as they are.
	Values map[string]json.RawMessage
	// Events and History become durable with the values. The Revision of a record is the store's.
	Events  []Event
	History []ConfigRecord
}

// IsEmpty reports whether there is nothing to write.
func (w ConfigWrite) IsEmpty() bool { return len(w.Values)+len(w.Events)+len(w.History) == 0 }

// ChangeFeed is an optional interface of a [Directory]: it tells what changed, so that the
// caches of other nodes can follow without a bus.
type ChangeFeed interface {
	// Changes returns what changed after the catalogue's revision since. With since < 0 it
	// returns the current revision and no changes. Revisions are visible in order: after an
	// answer with Revision r, no change numbered r or less appears.
	Changes(ctx context.Context, since int64) (Changes, error)
}

// Changes is a stretch of a catalogue's history.
type Changes struct {
	// Revision is the catalogue's revision as of this answer.
	Revision int64
	// Tenants are the ids of tenants that changed in any way: record, aliases, overrides or
	// memberships.
	Tenants []string
	// Lost says that the history does not reach back to the revision asked for: drop
	// everything.
	Lost bool
}

// Outbox is an optional interface of a [Store]: the log of the events of its writes, and up to where
// each sink has taken them. Revisions become visible in their order, and so do events.
type Outbox interface {
	// ReadEvents returns up to limit events after a position, oldest first; of one tenant only,
	// unless tenantID is "".
	ReadEvents(ctx context.Context, after Position, tenantID string, limit int) ([]StoredEvent, error)
	// SinkWaits reports whether a claim would find something to do: an event after the sink's cursor,
	// a hold that is due by now, or no such sink yet.
	SinkWaits(ctx context.Context, sink string, now time.Time) (bool, error)
	// ClaimSink gives a sink to owner until then, unless it belongs to another until later than now,
	// and returns the sink, whosever it is. One that is not registered is; it begins before the oldest
	// event. Backlog is not counted.
	ClaimSink(ctx context.Context, sink, owner string, now, until time.Time) (Sink, error)
	// SaveSink keeps what a delivery came to, all of it or nothing. [ErrConflict] says that the sink
	// does not belong to the owner any more, that its cursor is not the one given, or that a hold is
	// not.
	SaveSink(ctx context.Context, p SinkProgress) error
	// Sinks returns all sinks, by name.
	Sinks(ctx context.Context) ([]Sink, error)
	// Holds returns the holds of a sink that match. An unknown sink has none.
	Holds(ctx context.Context, sink string, q HoldQuery) ([]Hold, error)
	// SaveHold changes one hold for an operator, whoever the sink belongs to. [ErrConflict] says that
	// the hold is not the one given, [ErrNoSink] that the sink is not registered.
	SaveHold(ctx context.Context, sink string, c HoldChange) error
	// ForgetSink removes a sink with its holds. One that is not registered is [ErrNoSink], one that
	// belongs to somebody until later than now [ErrConflict].
	ForgetSink(ctx context.Context, sink string, now time.Time) error
	// PruneEvents removes up to limit events that were stored before a time and that every sink has
	// taken, and returns how many. Without a sink, every event counts as taken.
	PruneEvents(ctx context.Context, before time.Time, limit int) (int, error)
}

// Provisioner gives a tenant the place where its data lives, and takes it away. Every
// method is idempotent: it may be repeated after an error or a crash.
type Provisioner interface {
	// Place decides where a new tenant lives. It changes nothing.
	Place(ctx context.Context, t Tenant) (Placement, error)
	// Provision makes the tenant's place complete: database or schema, roles, tables. It
	// returns the placement with its SchemaVersion.
	Provision(ctx context.Context, t Tenant) (Placement, error)
	// Deprovision removes the tenant's data and place for good.
	Deprovision(ctx context.Context, t Tenant) error
}
