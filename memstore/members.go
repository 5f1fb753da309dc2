package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	return m.Clone(), nil
}

// SetMember adds the user to the tenant or replaces what it was there. The expiry is kept in
// whole microseconds. An unknown tenant is [tenancy.ErrNotFound].
func (s *Store) SetMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	return s.setMember(ctx, "set", userID, tenantID, m, false)
}

// GrantMember is SetMember, except that an ordinary membership that has not expired at m.GrantedAt is
// [tenancy.ErrConflict].
func (s *Store) GrantMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	return s.setMember(ctx, "grant", userID, tenantID, m, true)
}

func (s *Store) setMember(ctx context.Context, verb, userID, tenantID string, m tenancy.Member, grant bool) error {
	fail := func(err error) error {
		return fmt.Errorf("%s member %q of tenant %q: %w", verb, userID, tenantID, err)
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
	old, found := s.members[member{userID, tenantID}]
	if grant && found && !old.IsGrant() && !old.Expired(kept.GrantedAt) {
		return fail(tenancy.ErrConflict)
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

// ListMembers returns one page of the members of a tenant by user id, or of the memberships of a user
// by tenant id.
func (s *Store) ListMembers(ctx context.Context, opts tenancy.MemberListOptions) (page tenancy.MemberPage, _ error) {
	if err := alive(ctx, "list members"); err != nil {
		return page, err
	}
	if possible, err := storable.MemberListing(opts); err != nil || !possible {
		return page, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	cursor := func(r tenancy.MemberRecord) string {
		if opts.TenantID != "" {
			return r.UserID
		}
		return r.TenantID
	}
	for key, m := range s.members {
		r := tenancy.MemberRecord{TenantID: key.tenantID, UserID: key.userID, Member: m.Clone()}
		if (r.TenantID == opts.TenantID || r.UserID == opts.UserID) && cursor(r) > opts.After {
			page.Members = append(page.Members, r)
		}
	}
	slices.SortFunc(page.Members, func(a, b tenancy.MemberRecord) int { return strings.Compare(cursor(a), cursor(b)) })
	if limit := opts.PageLimit(); len(page.Members) > limit {
		page.Members = page.Members[:limit]
		page.Next = cursor(page.Members[limit-1])
	}
	return page, nil
}

// PruneMembers removes a tenant's memberships that have expired at a time.
func (s *Store) PruneMembers(ctx context.Context, tenantID string, at time.Time) (int, error) {
	if err := alive(ctx, "prune the members of tenant %q", tenantID); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for key, m := range s.members {
		if key.tenantID == tenantID && m.Expired(at) {
			delete(s.members, key)
			n++
		}
	}
	if n > 0 {
		s.commit(tenantID)
	}
	return n, nil
}
