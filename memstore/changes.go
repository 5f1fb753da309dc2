package memstore

import (
	"context"

	"lexigram.dev/tenancy"
)

// Changes returns which tenants changed after the catalogue's revision since, each once; with
// since < 0 only the current revision. The feed remembers 10 000 changes at least; an older
// or an unknown revision is Lost.
func (s *Store) Changes(ctx context.Context, since int64) (tenancy.Changes, error) {
	if err := alive(ctx, "read changes since revision %d", since); err != nil {
		return tenancy.Changes{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	answer := tenancy.Changes{Revision: s.revision}
	if since < 0 {
		return answer, nil
	}
	missing := s.revision - since
	if missing < 0 || missing > int64(len(s.changes)) {
		answer.Lost = true
		return answer, nil
	}
	seen := map[string]bool{}
	for _, id := range s.changes[int64(len(s.changes))-missing:] {
		if !seen[id] {
			seen[id] = true
			answer.Tenants = append(answer.Tenants, id)
		}
	}
	return answer, nil
}
