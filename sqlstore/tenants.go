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

const tenantColumns = `t.id, t.slug, t.name, t.status, t.status_reason, t.parent, t.region, ` +
	`t.placement, t.aliases, t.metadata, t.revision, t.created_at, t.updated_at`

// scanTenant reads tenantColumns.
func scanTenant(scan func(dest ...any) error) (tenancy.Tenant, error) {
	var t tenancy.Tenant
	var placement, aliases, metadata []byte
	err := scan(&t.ID, &t.Slug, &t.Name, &t.Status, &t.StatusReason, &t.Parent, &t.Region,
		&placement, &aliases, &metadata, &t.Revision, instant{&t.CreatedAt}, instant{&t.UpdatedAt})
	if err != nil {
		return tenancy.Tenant{}, err
	}
	for _, column := range []struct {
		name string
		text []byte
		to   any
	}{
		{"placement", placement, &t.Placement},
		{"aliases", aliases, &t.Aliases},
		{"metadata", metadata, &t.Metadata},
	} {
		if err := json.Unmarshal(column.text, column.to); err != nil {
			return tenancy.Tenant{}, fmt.Errorf("column %s of tenant %q: %w", column.name, t.ID, err)
		}
	}
	return t, nil
}

// tenantValues returns what tenantColumns hold, in their order.
func (s *Store) tenantValues(t tenancy.Tenant) ([]any, error) {
	placement, err1 := toJSON(t.Placement)
	aliases, err2 := toJSON(t.Aliases)
	metadata, err3 := toJSON(t.Metadata)
	return []any{
		t.ID, t.Slug, t.Name, string(t.Status), t.StatusReason, t.Parent, t.Region,
		placement, aliases, metadata, t.Revision, s.dialect.time(t.CreatedAt), s.dialect.time(t.UpdatedAt),
	}, errors.Join(err1, err2, err3)
}

// Lookup returns the tenant that ref names, whatever its status, or [tenancy.ErrNotFound]. It
// is one query on an index.
func (s *Store) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	fail := func(err error) (tenancy.Tenant, error) {
		return tenancy.Tenant{}, fmt.Errorf("look up tenant %s: %w", ref, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if ref.Key() == "" {
		return fail(tenancy.ErrNotFound)
	}
	t, err := scanTenant(s.row(ctx, `SELECT `+tenantColumns+`
		FROM tenancy.names AS n JOIN tenancy.tenants AS t ON t.id = n.tenant_id
		WHERE n.name = ?`, ref.Key()).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fail(tenancy.ErrNotFound)
	case err != nil:
		return fail(err)
	case !ref.Matches(t): // a slug that is another's id, or a name that a purged tenant gave up
		return fail(tenancy.ErrNotFound)
	}
	return t, nil
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
	kept = storable.Created(kept, s.now())
	values, err := s.tenantValues(kept)
	if err != nil {
		return fail(err)
	}
	err = s.write(ctx, kept.ID, func(w *write) error {
		names := storable.Names(kept)
		owned, err := w.namesFreeFor("", names)
		if err != nil {
			return err
		}
		if _, err := w.exec(`INSERT INTO tenancy.tenants
			(id, slug, name, status, status_reason, parent, region,
			 placement, aliases, metadata, revision, created_at, updated_at)
			VALUES (`+list(len(values), "?")+`)`, values...); err != nil {
			return err
		}
		if err := w.claimNames(kept.ID, storable.Without(names, owned)); err != nil {
			return err
		}
		return w.keepEvents(events)
	})
	if err != nil {
		return fail(err)
	}
	return kept, nil
}

// Update replaces the tenant with t.ID if its revision is still t.Revision, else
// [tenancy.ErrConflict]; an unknown id is [tenancy.ErrNotFound]. A name that t no longer has
// stops resolving at once and is free for others, unless t is purged: a purged tenant keeps
// every name it had. CreatedAt cannot change; UpdatedAt is the caller's if it is later than
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
	var stored tenancy.Tenant
	err = s.write(ctx, kept.ID, func(w *write) error {
		old, err := scanTenant(w.row(`SELECT `+tenantColumns+` FROM tenancy.tenants AS t WHERE t.id = ?`, kept.ID).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return tenancy.ErrNotFound
		}
		if err != nil {
			return err
		}
		if old.Revision != kept.Revision {
			return tenancy.ErrConflict
		}
		names := storable.Names(kept)
		owned, err := w.namesFreeFor(kept.ID, names)
		if err != nil {
			return err
		}
		if kept.Status != tenancy.StatusPurged {
			if err := w.freeNames(kept.ID, storable.Without(storable.Names(old), names)); err != nil {
				return err
			}
		}
		if err := w.claimNames(kept.ID, storable.Without(names, owned)); err != nil {
			return err
		}
		stored = storable.Updated(kept, old, s.now())
		values, err := s.tenantValues(stored)
		if err != nil {
			return err
		}
		if _, err := w.exec(`UPDATE tenancy.tenants SET
			slug = ?, name = ?, status = ?, status_reason = ?, parent = ?, region = ?,
			placement = ?, aliases = ?, metadata = ?, revision = ?, created_at = ?, updated_at = ?
			WHERE id = ?`, append(values[1:], kept.ID)...); err != nil {
			return err
		}
		return w.keepEvents(events)
	})
	if err != nil {
		return fail(err)
	}
	return stored, nil
}
