package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Members changes and lists who belongs to a tenant, where [Config].Membership is a [MemberStore].
// A change reaches other nodes as one of a tenant does, and ends the open requests of a user who
// belongs to the tenant no more. Who may call it is the application's to check. It is safe for
// concurrent use.
type Members struct {
	tn *Tenancy
}

// Grant asks for access of a user to a tenant for a time: support looks into a customer's account.
type Grant struct {
	UserID, TenantID string
	Roles            []string
	// Reason is required: a ticket, a question of the customer's.
	Reason string
	// Expires is required: in the future, and no later than lifecycle.max_grant from now.
	Expires time.Time
}

// Add makes the user a member of the tenant, or replaces what it was there, a grant included. The
// expiry of m is optional. An unknown tenant is [ErrNotFound].
func (s *Members) Add(ctx context.Context, userID, tenantID string, m Member) error {
	fail := func(err error) error { return fmt.Errorf("add user %q to tenant %q: %w", userID, tenantID, err) }
	if m.Reason != "" || m.GrantedBy != "" || !m.GrantedAt.IsZero() {
		return fail(&InvalidError{Field: "reason", Value: truncate(m.Reason, maxReason), Remedy: "leave it and GrantedBy and GrantedAt empty, or use Members.Grant"})
	}
	if m.Expired(s.tn.cfg.Now()) {
		return fail(&InvalidError{Field: "expiry", Value: m.Expires.Format(time.RFC3339), Remedy: "give one in the future, or use Members.Remove"})
	}
	store, err := s.store()
	if err != nil {
		return fail(err)
	}
	err = store.SetMember(ctx, userID, tenantID, m)
	_ = s.tn.Changed(ctx, tenantID) // also after an error: nobody knows what was committed
	if err != nil {
		return fail(err)
	}
	return nil
}

// Grant gives a user access for a time. The reason, and who gives it as [WithActor] says, are kept
// with it and listed; without either it is refused. An earlier grant of the user's is replaced; an
// ordinary member stays what it is, and the error is [ErrConflict].
func (s *Members) Grant(ctx context.Context, g Grant) error {
	fail := func(err error) error {
		return fmt.Errorf("grant user %q access to tenant %q: %w", g.UserID, g.TenantID, err)
	}
	now := s.tn.lifecycle.now()
	m := Member{
		Roles: g.Roles, Expires: g.Expires, Reason: strings.TrimSpace(g.Reason), GrantedBy: actorOf(ctx), GrantedAt: now,
	}
	if err := s.check(m); err != nil {
		return fail(err)
	}
	store, err := s.store()
	if err != nil {
		return fail(err)
	}
	err = store.GrantMember(ctx, g.UserID, g.TenantID, m)
	_ = s.tn.Changed(ctx, g.TenantID) // also after an error: nobody knows what was committed
	if errors.Is(err, ErrConflict) {
		return fail(fmt.Errorf("%w: the user is a member already: remove that membership first, if it should end", err))
	}
	if err != nil {
		return fail(err)
	}
	s.tn.log.InfoContext(ctx, "tenancy: granted access", "tenant_id", g.TenantID, "user_id", g.UserID,
		"by", m.GrantedBy, "reason", m.Reason, "expires", m.Expires)
	return nil
}

// check reports what is wrong with a grant.
func (s *Members) check(m Member) error {
	var problems []error
	if m.Reason == "" || len(m.Reason) > maxReason {
		problems = append(problems, &InvalidError{
			Field: "reason", Value: truncate(m.Reason, 64), Remedy: fmt.Sprintf("say why, in at most %d bytes", maxReason),
		})
	}
	if m.GrantedBy == "" {
		problems = append(problems, &InvalidError{
			Field: "actor", Value: "", Remedy: "say who grants it: in a bound request, or by tenancy.WithActor(ctx, name)",
		})
	}
	bound := s.tn.cfg.Lifecycle.MaxGrant
	switch latest := m.GrantedAt.Add(bound); {
	case bound < 0:
		problems = append(problems, &ConfigError{Key: "lifecycle.max_grant", Err: errors.New("nothing may be granted: set how long, such as 24h")})
	case m.Expires.IsZero() || !m.Expires.After(m.GrantedAt) || m.Expires.After(latest):
		problems = append(problems, &InvalidError{
			Field: "expiry", Value: m.Expires.Format(time.RFC3339),
			Remedy: fmt.Sprintf("give one in the future and not after %s, which lifecycle.max_grant allows", latest.Format(time.RFC3339)),
		})
	}
	return errors.Join(problems...)
}

// Remove ends a membership or a grant. One that does not exist is no error.
func (s *Members) Remove(ctx context.Context, userID, tenantID string) error {
	store, err := s.store()
	if err == nil {
		err = store.RemoveMember(ctx, userID, tenantID)
		_ = s.tn.Changed(ctx, tenantID) // also after an error: nobody knows what was committed
	}
	if err != nil {
		return fmt.Errorf("remove user %q from tenant %q: %w", userID, tenantID, err)
	}
	return nil
}

// Get returns what the user is in the tenant as the store has it now, expired or not, or
// [ErrNotMember].
func (s *Members) Get(ctx context.Context, userID, tenantID string) (MemberRecord, error) {
	store, err := s.store()
	if err != nil {
		return MemberRecord{}, err
	}
	m, err := store.Member(ctx, userID, tenantID)
	if err != nil {
		return MemberRecord{}, err
	}
	return MemberRecord{TenantID: tenantID, UserID: userID, Member: m, Expired: m.Expired(s.tn.cfg.Now())}, nil
}

// List returns one page of the members of a tenant or of the memberships of a user, expired ones
// marked.
func (s *Members) List(ctx context.Context, opts MemberListOptions) (MemberPage, error) {
	store, err := s.store()
	if err != nil {
		return MemberPage{}, err
	}
	page, err := store.ListMembers(ctx, opts)
	if err != nil {
		return MemberPage{}, err
	}
	now := s.tn.cfg.Now()
	for i := range page.Members {
		page.Members[i].Expired = page.Members[i].Member.Expired(now)
	}
	return page, nil
}

// Prune removes the tenant's memberships that have expired, and with them what was kept of grants.
// It returns how many there were.
func (s *Members) Prune(ctx context.Context, tenantID string) (int, error) {
	store, err := s.store()
	if err != nil {
		return 0, err
	}
	n, err := store.PruneMembers(ctx, tenantID, s.tn.cfg.Now())
	if err != nil {
		return 0, fmt.Errorf("prune the members of tenant %q: %w", tenantID, err)
	}
	return n, nil
}

func (s *Members) store() (MemberStore, error) {
	store, ok := s.tn.cfg.Membership.(MemberStore)
	if !ok {
		return nil, fmt.Errorf("the members of tenants: %w: configure tenancy.Config.Membership with a MemberStore such as sqlstore", errors.ErrUnsupported)
	}
	return store, nil
}
