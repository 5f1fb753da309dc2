package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

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
	var m tenancy.Member
	var roles []byte
	err := s.row(ctx, `SELECT roles, expires_at FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`,
		tenantID, userID).Scan(&roles, instant{&m.Expires})
	if errors.Is(err, sql.ErrNoRows) {
		return fail(tenancy.ErrNotMember)
	}
	if err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(roles, &m.Roles); err != nil {
		return fail(fmt.Errorf("column roles: %w", err))
	}
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
	if !storable.IsTenantID(tenantID) {
		return fail(tenancy.ErrNotFound)
	}
	roles, err := toJSON(kept.Roles)
	if err != nil {
		return fail(err)
	}
	err = s.write(ctx, tenantID, func(w *write) error {
		if err := w.tenantExists(tenantID); err != nil {
			return err
		}
		if _, err := w.exec(`DELETE FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`, tenantID, userID); err != nil {
			return err
		}
		_, err := w.exec(`INSERT INTO tenancy.memberships (tenant_id, user_id, roles, expires_at) VALUES (?, ?, ?, ?)`,
			tenantID, userID, roles, s.dialect.time(kept.Expires))
		return err
	})
	if err != nil {
		return fail(err)
	}
	return nil
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
	err := s.write(ctx, tenantID, func(w *write) error {
		removed, err := w.exec(`DELETE FROM tenancy.memberships WHERE tenant_id = ? AND user_id = ?`, tenantID, userID)
		if err == nil && removed == 0 {
			return errNothingToDo
		}
		return err
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		return fail(err)
	}
	return nil
}
