package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// listQuery reads, for each status, a page from the one index that begins with the filters
// and goes on in the order of the page, and orders these few rows. It asks for one row more
// than the page has, to know whether another page follows.
//
// Filters are written as bounds of the whole index key, such as (status, id) > (?, ?) AND
// status <= ?, and the order names the whole key. With plain equality PostgreSQL believes
// that ids alone are the order and may walk all tenants by their primary key; without a
// limit in each part it may sort them all.
func listQuery(statuses []tenancy.Status, opts tenancy.ListOptions) (query string, args []any) {
	limit := opts.PageLimit() + 1
	parts := make([]string, len(statuses))
	order := "id"
	for i, status := range statuses {
		var columns []string
		var key []any
		if opts.Parent != "" {
			columns, key = append(columns, "t.parent"), append(key, opts.Parent)
		}
		columns, key = append(columns, "t.status"), append(key, string(status))
		above, from := ">", opts.After
		upperColumns, upper := columns, key
		if opts.Prefix == "" {
			columns = append(slices.Clone(columns), "t.id")
		} else {
			order = "slug"
			columns = append(slices.Clone(columns), "t.slug")
			if from < opts.Prefix {
				above, from = ">=", opts.Prefix
			}
			// The bound lies behind all slugs with the prefix: { follows z, their last letter.
			upperColumns, upper = columns, append(slices.Clone(key), opts.Prefix+"{")
		}
		parts[i] = "SELECT " + tenantColumns + " FROM tenancy.tenants AS t WHERE " +
			"(" + strings.Join(columns, ", ") + ") " + above + " (" + list(len(columns), "?") + ") AND " +
			"(" + strings.Join(upperColumns, ", ") + ") <= (" + list(len(upperColumns), "?") + ") " +
			"ORDER BY " + strings.Join(columns, ", ") + " LIMIT ?"
		args = append(args, key...)
		args = append(args, from)
		args = append(args, upper...)
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
