package tenancy

import (
	"cmp"
	"time"
)

// Position is a place in the outbox. The zero position is before all events.
type Position struct {
	Revision int64 `json:"revision"` // of the catalogue
	Index    int   `json:"index"`    // among the events of that revision, from 1
}

// Compare returns -1, 0 or 1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Revision, q.Revision), cmp.Compare(p.Index, q.Index))
}

// Next returns the first position after p.
func (p Position) Next() Position { return Position{p.Revision, p.Index + 1} }

// previous returns the last position before p, of those with p's revision.
func (p Position) previous() Position { return Position{p.Revision, p.Index - 1} }

// StoredEvent is an event of the outbox.
type StoredEvent struct {
	Event
	Position Position
}

// Sink is somebody that takes the events: a [Publisher], or the deployment's subscribers together.
type Sink struct {
	Name string `json:"name"`
	// Cursor is the last position up to which every event was taken or is held.
	Cursor Position `json:"cursor"`
	// Owner is the process that delivers, until Until. When that is past, nobody does.
	Owner string    `json:"owner"`
	Until time.Time `json:"until"`
	// Held and Parked are how many tenants wait for a further attempt, and for an operator.
	Held   int `json:"held"`
	Parked int `json:"parked"`
	// Backlog is how many events were not taken yet, those that are held included.
	Backlog int `json:"backlog"`
}

// Hold says that a sink refused an event, and that the tenant's later events wait behind it.
type Hold struct {
	TenantID string `json:"tenant_id"`
	// Position is where the tenant goes on: at the refused event, or after the last one that was taken.
	Position Position `json:"position"`
	// Attempts is how often the event was handed over.
	Attempts int `json:"attempts"`
	// Error is the last refusal's.
	Error string `json:"error"`
	// Due is when it is handed over again; zero for a parked event, which waits for an operator.
	Due time.Time `json:"due,omitzero"`
}

// Parked reports whether the hold waits for an operator.
func (h Hold) Parked() bool { return h.Due.IsZero() }

// HoldQuery chooses holds.
type HoldQuery struct {
	// Tenants keeps those of some tenants. Nil means all.
	Tenants []string
	// DueBy keeps those that are due by then, in the order of Due. The zero time keeps all, parked ones
	// included, in the order of the tenant's id.
	DueBy time.Time
	// Parked keeps those that are parked.
	Parked bool
	// After is the last tenant id of the page before. It needs a zero DueBy.
	After string
	// Limit is how many are returned at most. Defaults to 100.
	Limit int
}

// PageLimit returns Limit with its default.
func (q HoldQuery) PageLimit() int {
	if q.Limit <= 0 {
		return 100
	}
	return q.Limit
}

// HoldChange replaces one hold. From is the one that the change is based on, nil for none; To is the
// new one, nil for none. Of both, Position, Attempts and Due count in a comparison.
type HoldChange struct {
	From, To *Hold
}

// SinkProgress is what a delivery came to.
type SinkProgress struct {
	Sink, Owner string
	From, To    Position  // the cursor before and after
	Until       time.Time // when the claim ends now
	Holds       []HoldChange
}
