package tenancy

import (
	"context"
	"slices"
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
	Roles []string `json:"roles,omitempty"`
	// Expires ends the membership. The zero time means never.
	Expires time.Time `json:"expires,omitzero"`
	// Reason says why access was granted for a time; "" for an ordinary member.
	Reason string `json:"reason,omitempty"`
	// GrantedBy and GrantedAt say who granted the access and when.
	GrantedBy string    `json:"granted_by,omitempty"`
	GrantedAt time.Time `json:"granted_at,omitzero"`
}

// Expired reports whether the membership has ended at a time.
func (m Member) Expired(at time.Time) bool { return !m.Expires.IsZero() && !at.Before(m.Expires) }

// IsGrant reports whether the membership is access that somebody granted for a time.
func (m Member) IsGrant() bool { return m.Reason != "" }

// Clone returns a copy that shares nothing with m.
func (m Member) Clone() Member {
	m.Roles = slices.Clone(m.Roles)
	return m
}

// MembershipFunc makes a [Membership] of a function.
type MembershipFunc func(ctx context.Context, userID, tenantID string) (Member, error)

// Member calls f.
func (f MembershipFunc) Member(ctx context.Context, userID, tenantID string) (Member, error) {
	return f(ctx, userID, tenantID)
}

// MemberStore keeps memberships. [Tenancy.Members] is how an application changes them.
type MemberStore interface {
	Membership
	// SetMember adds the user to the tenant or replaces what it was there. An unknown tenant
	// is [ErrNotFound].
	SetMember(ctx context.Context, userID, tenantID string, m Member) error
	// GrantMember is SetMember, except that it replaces no ordinary membership: when there is one
	// without a Reason that has not expired at m.GrantedAt, it is [ErrConflict] and nothing changes.
	GrantMember(ctx context.Context, userID, tenantID string, m Member) error
	// RemoveMember ends a membership. One that does not exist is no error.
	RemoveMember(ctx context.Context, userID, tenantID string) error
	// ListMembers returns one page of memberships, expired ones too: those of a tenant by user id, or
	// those of a user by tenant id, in the order of bytes. Without either, or with an After that
	// could not be such an id, it is an [*InvalidError].
	ListMembers(ctx context.Context, opts MemberListOptions) (MemberPage, error)
	// PruneMembers removes a tenant's memberships that have expired at a time, and returns how many
	// there were.
	PruneMembers(ctx context.Context, tenantID string, at time.Time) (int, error)
}

// MemberListOptions chooses memberships. Exactly one of TenantID and UserID is required.
type MemberListOptions struct {
	// TenantID lists the members of a tenant.
	TenantID string
	// UserID lists the memberships of a user.
	UserID string
	// After is the Next of the page before, or "" for the first page.
	After string
	// Limit is the size of a page. Defaults to 100, at most 1000.
	Limit int
}

// PageLimit returns Limit with its default and its bound.
func (o MemberListOptions) PageLimit() int { return ListOptions{Limit: o.Limit}.PageLimit() }

// MemberRecord is one membership of a listing.
type MemberRecord struct {
	TenantID string `json:"tenant_id"`
	UserID   string `json:"user_id"`
	Member
	// Expired says that the membership counts no more. [Members.List] fills it; stores do not.
	Expired bool `json:"expired,omitempty"`
}

// MemberPage is a part of a listing.
type MemberPage struct {
	Members []MemberRecord
	// Next continues the listing, as MemberListOptions.After; "" on the last page.
	Next string
}
