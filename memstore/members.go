package memstore

import (
	"context"
	"fmt"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// Member returns what the user is in the tenant, or [tenancy.ErrNotMember]. A membership that
// has expired is returned with its expiry; the caller judges.
func (s *Store) Member(ctx context.Context, userID, tenantID string) (tenancy.Member, error) {
	if err := alive(ctx, "look up member %q of tenant %q", userID, tenantID); err != nil {
		return tenancy.Member{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	m, found := s.members[member{userID, tenantID}]
	if !found {
		return tenancy.Member{}, fmt.Errorf("look up member %q of tenant %q: %w", userID, tenantID, tenancy.ErrNotMember)
	}
	m.Roles = slices.Clone(m.Roles)
	return m, nil
}

// SetMember adds the user to the tenant or replaces what it was there. The expiry is kept in
// whole microseconds. An unknown tenant is [tenancy.ErrNotFound].
func (s *Store) SetMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	fail := func(err error) error {
		return fmt.Errorf("set member %q of tenant %q: %w", userID, tenantID, err)
	}
	if err := storable.CheckUserID(userID); err != nil {
		return fail(err)
	}
	kept, err := storable.Member(m)
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.tenants[tenantID]; !found {
		return fail(tenancy.ErrNotFound)
	}
	s.members[member{userID, tenantID}] = kept
	s.commit(tenantID)
	return nil
}

// RemoveMember ends a membership. One that does not exist is no error and no change.
func (s *Store) RemoveMember(ctx context.Context, userID, tenantID string) error {
	if err := alive(ctx, "remove member %q of tenant %q", userID, tenantID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.members[member{userID, tenantID}]; !found {
		return nil
	}
	delete(s.members, member{userID, tenantID})
	s.commit(tenantID)
	return nil
}
