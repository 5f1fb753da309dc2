package memstore

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// historyLength is how many changes the feed remembers.
const historyLength = 10_000

// Store keeps a catalogue of tenants in memory. It is safe for concurrent use. Values that
// go in and come out are copies. Make one with [New].
type Store struct {
	// Now is the clock that dates tenants. Defaults to time.Now. Set it before the first use.
	Now func() time.Time

	mu       sync.RWMutex
	tenants  map[string]tenancy.Tenant
	ids      []string          // the keys of tenants, ascending
	names    map[string]string // every taken name, and the id of the tenant that has it
	members  map[member]tenancy.Member
	config   map[string]map[string]json.RawMessage
	records  map[string][]tenancy.ConfigRecord // what changed of a tenant's config, oldest first
	revision int64
	changes  []string // tenant ids; the last one is the change that made revision
	outbox   []entry
	sinks    map[string]*sink
	nodes    map[string]tenancy.Node
}

type member struct{ userID, tenantID string }

var (
	_ tenancy.Store       = (*Store)(nil)
	_ tenancy.ConfigStore = (*Store)(nil)
	_ tenancy.MemberStore = (*Store)(nil)
	_ tenancy.ChangeFeed  = (*Store)(nil)
	_ tenancy.Outbox      = (*Store)(nil)
	_ tenancy.DueStore    = (*Store)(nil)
	_ tenancy.NodeStore   = (*Store)(nil)
)

// New returns an empty store.
func New() *Store {
	return &Store{
		Now:     time.Now,
		tenants: map[string]tenancy.Tenant{},
		names:   map[string]string{},
		members: map[member]tenancy.Member{},
		config:  map[string]map[string]json.RawMessage{},
		records: map[string][]tenancy.ConfigRecord{},
		sinks:   map[string]*sink{},
		nodes:   map[string]tenancy.Node{},
	}
}

// commit counts the catalogue's revision up and keeps the events of a write. The caller
// holds mu and has nothing left to do that could fail.
func (s *Store) commit(tenantID string, events ...tenancy.Event) {
	s.revision++
	s.changes = append(s.changes, tenantID)
	if len(s.changes) > 2*historyLength {
		s.changes = append([]string(nil), s.changes[len(s.changes)-historyLength:]...)
	}
	for i, e := range events {
		s.outbox = append(s.outbox, entry{
			StoredEvent: tenancy.StoredEvent{Event: e.Clone(), Position: tenancy.Position{Revision: s.revision, Index: i + 1}},
			storedAt:    storable.Time(s.Now()),
		})
	}
}

// alive returns the error of an ended context with what was tried.
func alive(ctx context.Context, format string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	return nil
}
