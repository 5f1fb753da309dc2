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
	l := s.layout()
	query, args := l.listQuery(statuses, opts)
	rows, err := s.db.QueryContext(ctx, s.query(query), args...)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		t, err := l.scan(rows.Scan)
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
// limit in each part it may sort them all. MariaDB and MySQL find no range in such a bound, and
// sort when the order names what equality has fixed: there the index is named instead.
func (l layout) listQuery(statuses []tenancy.Status, opts tenancy.ListOptions) (query string, args []any) {
	limit := opts.PageLimit() + 1
	parts := make([]string, len(statuses))
	order := "id"
	for i, status := range statuses {
		var r keyRange
		if opts.Parent != "" {
			r.filters, r.key = append(r.filters, "t.parent"), append(r.key, opts.Parent)
		}
		r.filters, r.key = append(r.filters, "t.status"), append(r.key, string(status))
		r.last, r.above, r.from = "t.id", ">", opts.After
		if opts.Prefix != "" {
			order, r.last = "slug", "t.slug"
			if r.from < opts.Prefix {
				r.above, r.from = ">=", opts.Prefix
			}
			// The bound lies behind all slugs with the prefix: { follows z, their last letter.
			r.upTo = opts.Prefix + "{"
		}
		from, bounds := r.byRow()
		if l.dialect.forceIndex {
			from, bounds = r.byColumn(indexOf(opts))
		}
		parts[i] = "SELECT " + l.columns() + " FROM tenancy.tenants AS t" + from + " LIMIT ?"
		args = append(append(args, bounds...), limit)
	}
	if len(parts) == 1 {
		return parts[0], args
	}
	for i, part := range parts {
		parts[i] = "SELECT * FROM (" + part + ") AS " + string(statuses[i])
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY " + order + " LIMIT ?", append(args, limit)
}

// keyRange is a stretch of an index: the filters have the values of key, and the last column goes
// on from there.
type keyRange struct {
	filters []string
	key     []any
	last    string
	above   string // > or >=
	from    string
	upTo    string // "" for the end
}

// byRow compares rows of columns. It returns what follows the table's name up to the limit.
func (r keyRange) byRow() (query string, args []any) {
	columns := append(slices.Clone(r.filters), r.last)
	upper, upTo := r.filters, r.key
	if r.upTo != "" {
		upper, upTo = columns, append(slices.Clone(r.key), r.upTo)
	}
	query = " WHERE (" + strings.Join(columns, ", ") + ") " + r.above + " (" + list(len(columns), "?") + ") AND " +
		"(" + strings.Join(upper, ", ") + ") <= (" + list(len(upper), "?") + ") " +
		"ORDER BY " + strings.Join(columns, ", ")
	return query, append(append(slices.Clone(r.key), r.from), upTo...)
}

// byColumn compares each column, in the index of that name.
func (r keyRange) byColumn(index string) (query string, args []any) {
	query = " FORCE INDEX (" + index + ") WHERE " + strings.Join(r.filters, " = ? AND ") + " = ? AND " + r.last + " " + r.above + " ?"
	args = append(slices.Clone(r.key), r.from)
	if r.upTo != "" {
		query, args = query+" AND "+r.last+" <= ?", append(args, r.upTo)
	}
	return query + " ORDER BY " + r.last, args
}

// indexOf names the index that begins with the filters and goes on in the order of the page.
func indexOf(opts tenancy.ListOptions) string {
	switch {
	case opts.Parent != "" && opts.Prefix != "":
		return "tenancy.tenants_by_parent_slug"
	case opts.Parent != "":
		return "tenancy.tenants_by_parent"
	case opts.Prefix != "":
		return "tenancy.tenants_by_slug"
	default:
		return "tenancy.tenants_by_status"
	}
}
