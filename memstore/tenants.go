package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// Lookup returns the tenant that ref names, whatever its status, or [tenancy.ErrNotFound].
func (s *Store) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	if err := alive(ctx, "look up tenant %s", ref); err != nil {
		return tenancy.Tenant{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, found := s.tenants[s.names[ref.Key()]]
	if !found || !ref.Matches(t) {
		return tenancy.Tenant{}, fmt.Errorf("look up tenant %s: %w", ref, tenancy.ErrNotFound)
	}
	return t.Clone(), nil
}

// Create adds a tenant at revision 1. Times that are zero are filled by the store's clock. A
// name that any tenant has, purged ones included, is a [*tenancy.SlugConflictError]; a value
// that cannot be kept is a [*tenancy.InvalidError]. The parent need not exist.
func (s *Store) Create(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	fail := func(err error) (tenancy.Tenant, error) {
		return tenancy.Tenant{}, fmt.Errorf("create tenant %q: %w", t.ID, err)
	}
	kept, err := storable.Tenant(t)
	if err != nil {
		return fail(err)
	}
	if err := storable.Events(events); err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := storable.Names(kept)
	for _, name := range names {
		if _, taken := s.names[name]; taken {
			return fail(&tenancy.SlugConflictError{Name: name})
		}
	}
	kept = storable.Created(kept, s.Now())
	s.tenants[kept.ID] = kept
	at, _ := slices.BinarySearch(s.ids, kept.ID)
	s.ids = slices.Insert(s.ids, at, kept.ID)
	for _, name := range names {
		s.names[name] = kept.ID
	}
	s.commit(kept.ID, events...)
	return kept.Clone(), nil
}

// Update replaces the tenant with t.ID if its revision is still t.Revision, else
// [tenancy.ErrConflict]; an unknown id is [tenancy.ErrNotFound]. A name that t no longer has
// stops resolving at once and is free for others, unless t is purged: a purged tenant keeps
// every name it had, and loses its members, overrides and their history. CreatedAt cannot change; UpdatedAt is the caller's if it is later than
// the stored one, else the store's time.
func (s *Store) Update(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	fail := func(err error) (tenancy.Tenant, error) {
		return tenancy.Tenant{}, fmt.Errorf("update tenant %q: %w", t.ID, err)
	}
	kept, err := storable.Tenant(t)
	if err != nil {
		return fail(err)
	}
	if err := storable.Events(events); err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.tenants[kept.ID]
	if !found {
		return fail(tenancy.ErrNotFound)
	}
	if old.Revision != kept.Revision {
		return fail(tenancy.ErrConflict)
	}
	names := storable.Names(kept)
	for _, name := range names {
		if owner, taken := s.names[name]; taken && owner != kept.ID {
			return fail(&tenancy.SlugConflictError{Name: name})
		}
	}
	if kept.Status != tenancy.StatusPurged {
		for _, name := range storable.Without(storable.Names(old), names) {
			delete(s.names, name)
		}
	}
	for _, name := range names {
		s.names[name] = kept.ID
	}
	kept = storable.Updated(kept, old, s.Now())
	s.tenants[kept.ID] = kept
	if kept.Status == tenancy.StatusPurged {
		delete(s.config, kept.ID)
		delete(s.records, kept.ID)
		maps.DeleteFunc(s.members, func(m member, _ tenancy.Member) bool { return m.tenantID == kept.ID })
	}
	s.commit(kept.ID, events...)
	return kept.Clone(), nil
}

// List returns one page of the tenants that match, ordered by id; with a Prefix, by slug.
func (s *Store) List(ctx context.Context, opts tenancy.ListOptions) (tenancy.Page, error) {
	if err := alive(ctx, "list tenants"); err != nil {
		return tenancy.Page{}, err
	}
	if _, err := storable.Listing(opts); err != nil {
		return tenancy.Page{}, fmt.Errorf("list tenants: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	matches := func(t tenancy.Tenant) bool {
		return opts.Includes(t.Status) &&
			(opts.Parent == "" || t.Parent == opts.Parent) && strings.HasPrefix(t.Slug, opts.Prefix)
	}
	var found []tenancy.Tenant
	limit := opts.PageLimit()
	if opts.Prefix == "" {
		from, exact := slices.BinarySearch(s.ids, opts.After)
		if exact {
			from++
		}
		for _, id := range s.ids[from:] {
			if t := s.tenants[id]; matches(t) {
				if found = append(found, t.Clone()); len(found) > limit {
					break
				}
			}
		}
		return tenancy.Page{Tenants: found[:min(limit, len(found))], Next: next(found, limit, tenantID)}, nil
	}
	for _, t := range s.tenants {
		if t.Slug > opts.After && matches(t) {
			found = append(found, t.Clone())
		}
	}
	slices.SortFunc(found, func(a, b tenancy.Tenant) int { return strings.Compare(a.Slug, b.Slug) })
	return tenancy.Page{Tenants: found[:min(limit, len(found))], Next: next(found, limit, tenantSlug)}, nil
}

// next returns the cursor after the first limit of the tenants found, or "" when there are
// no more.
func next(found []tenancy.Tenant, limit int, cursor func(tenancy.Tenant) string) string {
	if len(found) <= limit {
		return ""
	}
	return cursor(found[limit-1])
}

func tenantID(t tenancy.Tenant) string   { return t.ID }
func tenantSlug(t tenancy.Tenant) string { return t.Slug }

// DueTenants returns up to limit tenants that have something to do now, the oldest first.
func (s *Store) DueTenants(ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error) {
	if err := alive(ctx, "find tenants with something to do"); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var due []tenancy.Tenant
	for _, t := range s.tenants {
		if at := t.Due(); !at.IsZero() && !at.After(now) {
			due = append(due, t)
		}
	}
	slices.SortFunc(due, func(a, b tenancy.Tenant) int {
		return cmp.Or(a.Due().Compare(b.Due()), strings.Compare(a.ID, b.ID))
	})
	due = due[:min(len(due), max(0, limit))]
	for i := range due {
		due[i] = due[i].Clone()
	}
	return due, nil
}
