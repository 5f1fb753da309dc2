package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// memberColumns are what a membership holds. The catalogue's first version has no grants.
func (s *Store) memberColumns() string {
	if s.second() {
		return "roles, expires_at, reason, granted_by, granted_at"
	}
	return "roles, expires_at, NULL, NULL, NULL"
}

// memberScan is a membership as memberColumns read it.
type memberScan struct {
	m                 tenancy.Member
	roles             []byte
	reason, grantedBy sql.NullString
}

func (c *memberScan) targets() []any {
	return []any{&c.roles, instant{&c.m.Expires}, &c.reason, &c.grantedBy, instant{&c.m.GrantedAt}}
}

func (c *memberScan) member() (tenancy.Member, error) {
	if err := json.Unmarshal(c.roles, &c.m.Roles); err != nil {
		return c.m, fmt.Errorf("column roles: %w", err)
	}
	c.m.Reason, c.m.GrantedBy = c.reason.String, c.grantedBy.String
	return c.m, nil
}

// Member returns what the user is in the tenant, or [tenancy.ErrNotMember]. A membership that
// has expired is returned with its expiry; the caller judges.
func (s *Store) Member(ctx context.Context, userID, tenantID string) (tenancy.Member, error) {
	fail := func(err error) (tenancy.Member, error) {
		return tenancy.Member{}, fmt.Errorf("look up member %q of tenant %q: %w", userID, tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if !storable.IsUserID(userID) || !storable.IsTenantID(tenantID) {
		return fail(tenancy.ErrNotMember)
	}
	var c memberScan
	err := s.row(ctx, `SELECT `+s.memberColumns()+` FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`,
		tenantID, userID).Scan(c.targets()...)
	if errors.Is(err, sql.ErrNoRows) {
		return fail(tenancy.ErrNotMember)
	}
	if err != nil {
		return fail(err)
	}
	m, err := c.member()
	if err != nil {
		return fail(err)
	}
	return m, nil
}

// SetMember adds the user to the tenant or replaces what it was there. Times are kept in whole
// microseconds. An unknown tenant is [tenancy.ErrNotFound]. A grant needs a catalogue of version 2.
func (s *Store) SetMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	if err := s.setMember(ctx, userID, tenantID, m, false); err != nil {
		return fmt.Errorf("set member %q of tenant %q: %w", userID, tenantID, err)
	}
	return nil
}

// GrantMember is SetMember, except that an ordinary membership that has not expired at m.GrantedAt is
// [tenancy.ErrConflict]. It needs a catalogue of version 2.
func (s *Store) GrantMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	if err := s.setMember(ctx, userID, tenantID, m, true); err != nil {
		return fmt.Errorf("grant member %q of tenant %q: %w", userID, tenantID, err)
	}
	return nil
}

func (s *Store) setMember(ctx context.Context, userID, tenantID string, m tenancy.Member, grant bool) error {
	if err := storable.CheckUserID(userID); err != nil {
		return err
	}
	m, err := storable.Member(m)
	if err != nil {
		return err
	}
	if !storable.IsTenantID(tenantID) {
		return tenancy.ErrNotFound
	}
	roles, err := toJSON(m.Roles)
	if err != nil {
		return err
	}
	return s.write(ctx, tenantID, func(w *write) error {
		if err := w.tenantExists(tenantID); err != nil {
			return err
		}
		if grant || m.IsGrant() || m.GrantedBy != "" || !m.GrantedAt.IsZero() {
			if err := s.needSecond(); err != nil {
				return err
			}
		}
		if grant {
			if err := w.noOrdinaryMember(userID, tenantID, m.GrantedAt); err != nil {
				return err
			}
		}
		if _, err := w.exec(`DELETE FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`, tenantID, userID); err != nil {
			return err
		}
		if !s.second() {
			_, err := w.exec(`INSERT INTO tenancy.memberships (tenant_id, user_id, roles, expires_at) VALUES (?, ?, ?, ?)`,
				tenantID, userID, roles, s.dialect.time(m.Expires))
			return err
		}
		_, err := w.exec(`INSERT INTO tenancy.memberships
			(tenant_id, user_id, roles, expires_at, reason, granted_by, granted_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			tenantID, userID, roles, s.dialect.time(m.Expires), m.Reason, m.GrantedBy, s.dialect.time(m.GrantedAt))
		return err
	})
}

// noOrdinaryMember answers [tenancy.ErrConflict] when the user is a member without a grant.
func (w *write) noOrdinaryMember(userID, tenantID string, at time.Time) error {
	var c memberScan
	err := w.row(`SELECT `+w.store.memberColumns()+` FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`,
		tenantID, userID).Scan(c.targets()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := c.member()
	if err == nil && !old.IsGrant() && !old.Expired(at) {
		err = tenancy.ErrConflict
	}
	return err
}

// errNothingToDo rolls a write back that would change nothing.
var errNothingToDo = errors.New("nothing to do")

// RemoveMember ends a membership. One that does not exist is no error and no change.
func (s *Store) RemoveMember(ctx context.Context, userID, tenantID string) error {
	fail := func(err error) error {
		return fmt.Errorf("remove member %q of tenant %q: %w", userID, tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if !storable.IsUserID(userID) || !storable.IsTenantID(tenantID) {
		return nil
	}
	_, err := s.deleteMembers(ctx, tenantID, `DELETE FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`, tenantID, userID)
	if err != nil {
		return fail(err)
	}
	return nil
}

// PruneMembers removes a tenant's memberships that have expired at a time, and returns how many there
// were.
func (s *Store) PruneMembers(ctx context.Context, tenantID string, at time.Time) (int, error) {
	fail := func(err error) (int, error) {
		return 0, fmt.Errorf("prune the members of tenant %q: %w", tenantID, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if !storable.IsTenantID(tenantID) {
		return 0, nil
	}
	n, err := s.deleteMembers(ctx, tenantID, `DELETE FROM tenancy.memberships WHERE tenant_id = ? AND expires_at <= ?`,
		tenantID, s.dialect.timeValue(storable.Time(at)))
	if err != nil {
		return fail(err)
	}
	return n, nil
}

// deleteMembers returns how many memberships a statement removed; without any, nothing changes.
func (s *Store) deleteMembers(ctx context.Context, tenantID, query string, args ...any) (int, error) {
	var removed int64
	err := s.write(ctx, tenantID, func(w *write) (err error) {
		removed, err = w.exec(query, args...)
		if err == nil && removed == 0 {
			return errNothingToDo
		}
		return err
	})
	if errors.Is(err, errNothingToDo) {
		return 0, nil
	}
	return int(removed), err
}

// ListMembers returns one page of the members of a tenant by user id, or of the memberships of a user
// by tenant id. A page reads about as many rows as it returns. It needs a catalogue of version 2.
func (s *Store) ListMembers(ctx context.Context, opts tenancy.MemberListOptions) (page tenancy.MemberPage, err error) {
	fail := func(err error) (tenancy.MemberPage, error) {
		return tenancy.MemberPage{}, fmt.Errorf("list members: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if err := s.needSecond(); err != nil {
		return fail(err)
	}
	if possible, err := storable.MemberListing(opts); err != nil || !possible {
		return page, err
	}
	r, index := keyRange{filters: []string{"tenant_id"}, key: []any{opts.TenantID}, last: "user_id", above: ">", from: opts.After}, "PRIMARY"
	if opts.UserID != "" {
		r.filters, r.key, r.last, index = []string{"user_id"}, []any{opts.UserID}, "tenant_id", "tenancy.memberships_by_user"
	}
	bounds, args := r.byRow()
	if s.dialect.forceIndex {
		bounds, args = r.byColumn(index)
	}
	limit := opts.PageLimit()
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT tenant_id, user_id, `+s.memberColumns()+
		` FROM tenancy.memberships`+bounds+` LIMIT ?`), append(args, limit+1)...)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r tenancy.MemberRecord
		var c memberScan
		if err := rows.Scan(append([]any{&r.TenantID, &r.UserID}, c.targets()...)...); err != nil {
			return fail(err)
		}
		if r.Member, err = c.member(); err != nil {
			return fail(err)
		}
		page.Members = append(page.Members, r)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	if len(page.Members) > limit {
		page.Members = page.Members[:limit]
		last := page.Members[limit-1]
		if page.Next = last.UserID; opts.UserID != "" {
			page.Next = last.TenantID
		}
	}
	return page, nil
}
