package tenancy

import (
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Tenant is one customer of the application.
//
// A Tenant that comes from a [Validator], a [Binding] or a [Scope] is shared between
// requests: treat its Aliases and Metadata as read-only, and [Tenant.Clone] before a change.
type Tenant struct {
	// ID never changes. The application chooses it or gets a UUIDv7. Ids, slugs and aliases
	// share one namespace in which letter case does not count.
	ID string `json:"id"`
	// Slug is the tenant's name in addresses: one DNS label in lower case.
	Slug string `json:"slug"`
	// Name is for people. It may be empty and need not be unique.
	Name string `json:"name"`
	// Status says what the tenant may do. Only StatusActive may work.
	Status Status `json:"status"`
	// StatusReason says why the tenant is suspended. Its members may read it.
	StatusReason string `json:"status_reason,omitempty"`
	// Parent is the id of the tenant that this one belongs to, or "".
	Parent string `json:"parent,omitempty"`
	// Region names where the tenant's data must live, or "" for anywhere.
	Region string `json:"region,omitempty"`
	// Placement says where the tenant's data is. It is made once, at provisioning.
	Placement Placement `json:"placement,omitzero"`
	// Aliases are further names of the tenant at other systems; each made by [Alias].
	Aliases []Ref `json:"aliases,omitempty"`
	// Metadata is the application's own, at most 64 KiB of it.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Journal is the work on the tenant that is under way, nil when there is none.
	Journal *Journal `json:"journal,omitempty"`
	// Former are names that the tenant had and nobody else can take yet.
	Former []FormerName `json:"former,omitempty"`
	// PurgeAfter is when the grace of an archived tenant ends.
	PurgeAfter time.Time `json:"purge_after,omitzero"`
	// Revision counts the changes of this tenant, from 1. A write names the revision it saw.
	Revision int64 `json:"revision"`
	// CreatedAt and UpdatedAt are in UTC.
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Placement says where a tenant's data is. The provisioner makes it once; nothing computes
// it again, so that a later change of the naming rule cannot lose a tenant.
type Placement struct {
	// Strategy is the name of the isolation strategy, or "" before provisioning.
	Strategy string `json:"strategy,omitempty"`
	// Server is the name of a configured server.
	Server string `json:"server,omitempty"`
	// Database is the database's name, or the file's under the strategy's folder.
	Database string `json:"database,omitempty"`
	// Schema is the schema's name.
	Schema string `json:"schema,omitempty"`
	// Generation counts the moves of the tenant. Work under an old generation is refused.
	Generation int64 `json:"generation,omitempty"`
	// SchemaVersion is the version of the tenant's own tables, as its Migrator counts.
	SchemaVersion int64 `json:"schema_version,omitempty"`
}

// place is what of a placement says where the data is.
func (p Placement) place() Placement {
	p.SchemaVersion = 0
	return p
}

// FormerName is a slug or an alias in quarantine: it names nobody, but is not free.
type FormerName struct {
	Key   string    `json:"key"` // as [Ref.Key] has it
	Until time.Time `json:"until"`
}

// Clone returns a copy that shares nothing with t.
func (t Tenant) Clone() Tenant {
	t.Aliases = slices.Clone(t.Aliases)
	t.Metadata = maps.Clone(t.Metadata)
	t.Journal = t.Journal.clone()
	t.Former = slices.Clone(t.Former)
	return t
}

// Due returns when there is something to do for the tenant: to go on with its journal, or to free a
// former name. The zero time means never. Stores with [DueStore] keep it.
func (t Tenant) Due() time.Time {
	var due time.Time
	if t.Journal != nil {
		due = t.Journal.next()
	}
	for _, name := range t.Former {
		if t.Status != StatusPurged && (due.IsZero() || name.Until.Before(due)) { // a purged tenant keeps its names
			due = name.Until
		}
	}
	return due
}

// quarantine keeps what t was called before, and is not any more, from others for d.
func (t *Tenant) quarantine(before []Ref, now time.Time, d time.Duration) {
	keys := map[string]bool{}
	for _, ref := range t.Names() {
		keys[ref.Key()] = true
	}
	t.Former = slices.DeleteFunc(slices.Clone(t.Former), func(f FormerName) bool { return keys[f.Key] })
	for _, ref := range before {
		if key := ref.Key(); d > 0 && !keys[key] {
			keys[key] = true
			t.Former = append(t.Former, FormerName{Key: key, Until: now.Add(d)})
		}
	}
}

// free drops the former names whose quarantine is over.
func (t *Tenant) free(now time.Time) {
	t.Former = slices.DeleteFunc(slices.Clone(t.Former), func(f FormerName) bool { return !now.Before(f.Until) })
}

// may returns why t may not change to a state, or nil. Work that is under way comes to its end
// first, except a purge that is only planned.
func (t *Tenant) may(to Status) error {
	if t.Journal != nil && t.Journal.begun() {
		return &TransitionError{TenantID: t.ID, From: t.Status, To: to, Work: t.Journal.Work}
	}
	if !t.Status.CanBecome(to) {
		return &TransitionError{TenantID: t.ID, From: t.Status, To: to}
	}
	return nil
}

// Names returns every name by which a lookup can find t: id, slug, aliases.
func (t Tenant) Names() []Ref {
	return append([]Ref{ByID(t.ID), BySlug(t.Slug)}, t.Aliases...)
}

// LogValue keeps names, metadata and placement out of logs.
func (t Tenant) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("id", t.ID), slog.String("slug", t.Slug), slog.String("status", string(t.Status)))
}

// Status is the state of a tenant. The zero value is no state and may do nothing.
type Status string

// The states of a tenant. See [Status.CanBecome] for the ways between them.
const (
	StatusProvisioning Status = "provisioning"
	StatusActive       Status = "active"
	StatusSuspended    Status = "suspended"
	StatusInactive     Status = "inactive"
	StatusArchived     Status = "archived"
	StatusPurged       Status = "purged"
)

// Statuses lists all states in the order of a tenant's life.
func Statuses() []Status {
	return []Status{
		StatusProvisioning, StatusActive, StatusSuspended, StatusInactive, StatusArchived, StatusPurged,
	}
}

// Valid reports whether s is one of [Statuses].
func (s Status) Valid() bool { return slices.Contains(Statuses(), s) }

// Next returns the states that may follow s.
func (s Status) Next() []Status {
	switch s {
	case StatusProvisioning:
		return []Status{StatusActive, StatusPurged} // purged: the provisioning was given up
	case StatusActive:
		return []Status{StatusSuspended, StatusInactive}
	case StatusSuspended:
		return []Status{StatusActive, StatusInactive}
	case StatusInactive:
		return []Status{StatusActive, StatusArchived}
	case StatusArchived:
		return []Status{StatusInactive, StatusPurged}
	default:
		return nil
	}
}

// CanBecome reports whether a tenant in state s may change to state to.
func (s Status) CanBecome(to Status) bool { return slices.Contains(s.Next(), to) }

// Err returns why a tenant in this state may not work: nil for active, else
// [ErrProvisioning], [ErrSuspended] or [ErrInactive]. A state that is not known is inactive.
func (s Status) Err() error {
	switch s {
	case StatusActive:
		return nil
	case StatusProvisioning:
		return ErrProvisioning
	case StatusSuspended:
		return ErrSuspended
	default:
		return ErrInactive
	}
}
