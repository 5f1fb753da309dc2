package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// progress is what a tenant has of its own only for a time, as one column keeps it.
type progress struct {
	Journal    *tenancy.Journal     `json:"journal,omitempty"`
	Former     []tenancy.FormerName `json:"former,omitempty"`
	PurgeAfter time.Time            `json:"purge_after,omitzero"`
}

// layout is how a version of the catalogue keeps tenants.
type layout struct {
	dialect *dialect
	second  bool // version 2, with progress and due
}

// layout returns the one of the version that was found last. It is asked once for a call.
func (s *Store) layout() layout { return layout{&s.dialect, s.second()} }

// columns are the columns of a tenant, as scan reads them.
func (l layout) columns() string {
	const first = `t.id, t.slug, t.name, t.status, t.status_reason, t.parent, t.region, ` +
		`t.placement, t.aliases, t.metadata, t.revision, t.created_at, t.updated_at`
	if l.second {
		return first + `, t.progress`
	}
	return first
}

// scan reads columns.
func (l layout) scan(scan func(dest ...any) error) (tenancy.Tenant, error) {
	var t tenancy.Tenant
	var p progress
	var placement, aliases, metadata, under []byte
	into := []any{
		&t.ID, &t.Slug, &t.Name, &t.Status, &t.StatusReason, &t.Parent, &t.Region,
		&placement, &aliases, &metadata, &t.Revision,
		instant{&t.CreatedAt},
		instant{&t.UpdatedAt},
	}
	if l.second {
		into = append(into, &under)
	}
	if err := scan(into...); err != nil {
		return tenancy.Tenant{}, err
	}
	if under == nil {
		under = []byte("{}")
	}
	for _, column := range []struct {
		name string
		text []byte
		to   any
	}{
		{"placement", placement, &t.Placement},
		{"aliases", aliases, &t.Aliases},
		{"metadata", metadata, &t.Metadata},
		{"progress", under, &p},
	} {
		if err := json.Unmarshal(column.text, column.to); err != nil {
			return tenancy.Tenant{}, fmt.Errorf("column %s of tenant %q: %w", column.name, t.ID, err)
		}
	}
	t.Journal, t.Former, t.PurgeAfter = p.Journal, p.Former, p.PurgeAfter
	return t, nil
}

// keepable returns t as this version of the catalogue can keep it. One of version 1 frees former names
// at once, as programs did then; work, and what has a grace, it cannot keep.
func (l layout) keepable(t tenancy.Tenant) (tenancy.Tenant, error) {
	if l.second {
		return t, nil
	}
	t.Former = nil
	if t.Journal != nil || !t.PurgeAfter.IsZero() {
		return t, &SchemaError{Have: 1, Want: 2}
	}
	return t, nil
}

// values returns the columns that a tenant is written to, and what they get.
func (l layout) values(t tenancy.Tenant) (columns string, values []any, err error) {
	columns = `id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at`
	placement, err1 := toJSON(t.Placement)
	aliases, err2 := toJSON(t.Aliases)
	metadata, err3 := toJSON(t.Metadata)
	values = []any{
		t.ID, t.Slug, t.Name, string(t.Status), t.StatusReason, t.Parent, t.Region,
		placement, aliases, metadata, t.Revision, l.dialect.time(t.CreatedAt), l.dialect.time(t.UpdatedAt),
	}
	if err := errors.Join(err1, err2, err3); err != nil || !l.second {
		return columns, values, err
	}
	var under any // NULL where there is nothing
	if t.Journal != nil || len(t.Former) > 0 || !t.PurgeAfter.IsZero() {
		if under, err = toJSON(progress{t.Journal, t.Former, t.PurgeAfter}); err != nil {
			return columns, values, err
		}
	}
	return columns + `, progress, due`, append(values, under, l.dialect.time(t.Due())), nil
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
	l := s.layout()
	t, err := l.scan(s.row(ctx, `SELECT `+l.columns()+`
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
	if err := s.ready(ctx); err != nil {
		return fail(withCause(ctx, err))
	}
	l := s.layout()
	if kept, err = l.keepable(kept); err != nil {
		return fail(err)
	}
	kept = storable.Created(kept, s.now())
	columns, values, err := l.values(kept)
	if err != nil {
		return fail(err)
	}
	err = s.write(ctx, kept.ID, func(w *write) error {
		names := storable.Names(kept)
		owned, err := w.namesFreeFor("", names)
		if err != nil {
			return err
		}
		if _, err := w.exec(`INSERT INTO tenancy.tenants (`+columns+`) VALUES (`+list(len(values), "?")+`)`, values...); err != nil {
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
	if err := s.ready(ctx); err != nil {
		return fail(withCause(ctx, err))
	}
	l := s.layout()
	if kept, err = l.keepable(kept); err != nil {
		return fail(err)
	}
	var stored tenancy.Tenant
	err = s.write(ctx, kept.ID, func(w *write) error {
		old, err := l.scan(w.row(`SELECT `+l.columns()+` FROM tenancy.tenants AS t WHERE t.id = ?`, kept.ID).Scan)
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
		columns, values, err := l.values(stored)
		if err != nil {
			return err
		}
		set := strings.ReplaceAll(columns, ", ", " = ?, ") + " = ?"
		if _, err := w.exec(`UPDATE tenancy.tenants SET `+set+` WHERE id = ?`, append(values, kept.ID)...); err != nil {
			return err
		}
		if stored.Status == tenancy.StatusPurged {
			if err := w.forget(l, stored.ID); err != nil {
				return err
			}
		}
		return w.keepEvents(events)
	})
	if err != nil {
		return fail(err)
	}
	return stored, nil
}

// forget removes what the catalogue has of a purged tenant beside its record and names.
func (w *write) forget(l layout, id string) error {
	tables := []string{"config", "memberships"}
	if l.second {
		tables = append(tables, "config_history")
	}
	for _, table := range tables {
		if _, err := w.exec(`DELETE FROM tenancy.`+table+` WHERE tenant_id = ?`, id); err != nil {
			return err
		}
	}
	return nil
}

// DueTenants returns up to limit tenants that have something to do now, the oldest first. A catalogue
// of version 1 has none.
func (s *Store) DueTenants(ctx context.Context, now time.Time, limit int) (due []tenancy.Tenant, err error) {
	fail := func(err error) ([]tenancy.Tenant, error) {
		return nil, fmt.Errorf("find tenants with something to do: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	l := s.layout()
	if !l.second {
		return nil, nil
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT `+l.columns()+` FROM tenancy.tenants AS t
		WHERE t.due <= ? ORDER BY t.due, t.id LIMIT ?`), s.dialect.time(now), max(0, limit))
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		t, err := l.scan(rows.Scan)
		if err != nil {
			return fail(err)
		}
		due = append(due, t)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return due, nil
}
