package tenancy

import (
	"context"
	"time"
)

// Membership answers whether a user belongs to a tenant.
type Membership interface {
	// Member returns the user's roles in the tenant, or [ErrNotMember] when there are none.
	// Any other error means that the answer is not known. Answers are cached; see
	// ResolutionConfig.MembershipCacheTTL. The tenant may not exist: outsiders must not be
	// able to tell by the calls that are made.
	Member(ctx context.Context, userID, tenantID string) (Member, error)
}

// Member is what a user is in a tenant.
type Member struct {
	// Roles are the application's own words, in its order.
	Roles []string
	// Expires ends the membership. The zero time means never.
	Expires time.Time
}

// MembershipFunc makes a [Membership] of a function.
type MembershipFunc func(ctx context.Context, userID, tenantID string) (Member, error)

// Member calls f.
func (f MembershipFunc) Member(ctx context.Context, userID, tenantID string) (Member, error) {
	return f(ctx, userID, tenantID)
}

// MemberStore keeps memberships.
type MemberStore interface {
	Membership
	// SetMember adds the user to the tenant or replaces what it was there. An unknown tenant
	// is [ErrNotFound].
	SetMember(ctx context.Context, userID, tenantID string, m Member) error
	// RemoveMember ends a membership. One that does not exist is no error.
	RemoveMember(ctx context.Context, userID, tenantID string) error
}
