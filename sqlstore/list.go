package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/storable"
)

// List returns one page of the tenants that match, ordered by id; with a Prefix, by slug. A
// page reads about as many rows as it returns, per status that is wanted, however many
// tenants there are.
func (s *Store) List(ctx context.Context, opts tenancy.ListOptions) (page tenancy.Page, err error) {
	fail := func(err error) (tenancy.Page, error) {
		return tenancy.Page{}, fmt.Errorf("list tenants: %w", withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	statuses, err := storable.Listing(opts)
	if err != nil {
		return fail(err)
	}
	if len(statuses) == 0 {
		return tenancy.Page{}, nil
	}
	query, args := listQuery(statuses, opts)
	rows, err := s.db.QueryContext(ctx, s.query(query), args...)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		t, err := scanTenant(rows.Scan)
		if err != nil {
			return fail(err)
		}
		page.Tenants = append(page.Tenants, t)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	if limit := opts.PageLimit(); len(page.Tenants) > limit {
		page.Tenants = page.Tenants[:limit]
		page.Next = page.Tenants[limit-1].ID
		if opts.Prefix != "" {
			page.Next = page.Tenants[limit-1].Slug
		}
	}
	return page, nil
}

// listQuery reads, for each status, a page in the order of an index that begins with the
// status, and merges these. It asks for one row more than the page has, to know whether
// another page follows.
func listQuery(statuses []tenancy.Status, opts tenancy.ListOptions) (query string, args []any) {
	order := "id"
	if opts.Prefix != "" {
		order = "slug"
	}
	limit := opts.PageLimit() + 1
	parts := make([]string, len(statuses))
	for i, status := range statuses {
		where := "t.status = ?"
		args = append(args, string(status))
		if opts.Parent != "" {
			where += " AND t.parent = ?"
			args = append(args, opts.Parent)
		}
		if opts.Prefix != "" {
			where += " AND t.slug >= ? AND t.slug < ?"
			args = append(args, opts.Prefix, opts.Prefix+"{") // { follows z, the last letter of a slug
		}
		if opts.After != "" {
			where += " AND t." + order + " > ?"
			args = append(args, opts.After)
		}
		parts[i] = "SELECT " + tenantColumns + " FROM tenancy.tenants AS t WHERE " + where + " ORDER BY t." + order + " LIMIT ?"
		args = append(args, limit)
	}
	if len(parts) == 1 {
		return parts[0], args
	}
	for i, part := range parts {
		parts[i] = "SELECT * FROM (" + part + ") AS " + string(statuses[i])
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY " + order + " LIMIT ?", append(args, limit)
}
