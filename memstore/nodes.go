package memstore

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

// SaveNode keeps a node's record and removes those that were not seen since before.
func (s *Store) SaveNode(ctx context.Context, n tenancy.Node, before time.Time) error {
	if err := alive(ctx, "save node %q", n.ID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.nodes, func(_ string, n tenancy.Node) bool { return n.Seen.Before(before) })
	s.nodes[n.ID] = n
	return nil
}

// RemoveNode removes a record. An unknown id is no error.
func (s *Store) RemoveNode(ctx context.Context, id string) error {
	if err := alive(ctx, "remove node %q", id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, id)
	return nil
}

// Nodes returns all records, ordered by id.
func (s *Store) Nodes(ctx context.Context) ([]tenancy.Node, error) {
	if err := alive(ctx, "list nodes"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b tenancy.Node) int { return strings.Compare(a.ID, b.ID) }), nil
}
