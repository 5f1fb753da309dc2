package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
)

// The kinds of what a manifest lists.
const (
	itemRows     = "rows"
	itemTable    = "table"
	itemSchema   = "schema"
	itemDatabase = "database"
	itemFile     = "file"
	itemRole     = "role"
)

// unlisted is the kind of finding of a table that nobody has classified.
const unlisted = "table-unlisted"

// refuseUnlisted returns an error for the tables that nobody has classified: a purge would leave
// them, whatever of the tenant is in them.
func refuseUnlisted(findings []Finding) error {
	var errs []error
	for _, f := range findings {
		if f.Kind == unlisted {
			errs = append(errs, errors.New(f.String()))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("nobody knows whether these hold the tenant's data: %w", errors.Join(errs...))
	}
	return nil
}

// manifestTables lists the tables that a query names, with their rows. The query answers a name for
// people and the table as SQL has it.
func manifestTables(ctx context.Context, db *sql.DB, query string, args ...any) ([]tenancy.ManifestItem, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	defer rows.Close()
	var items []tenancy.ManifestItem
	var tables []string
	for rows.Next() {
		item, table := tenancy.ManifestItem{Kind: itemTable}, ""
		if err := rows.Scan(&item.Name, &table); err != nil {
			return nil, fmt.Errorf("list the tables: %w", err)
		}
		items, tables = append(items, item), append(tables, table)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	if err := rows.Close(); err != nil { // some engines have one connection only
		return nil, err
	}
	for i, table := range tables {
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&items[i].Rows); err != nil {
			return nil, fmt.Errorf("count the rows of %s: %w", items[i].Name, err)
		}
	}
	return items, nil
}

// itemIf adds an item if the query, which counts, finds it.
func itemIf(ctx context.Context, db *sql.DB, items []tenancy.ManifestItem, kind, name, query string, args ...any) ([]tenancy.ManifestItem, error) {
	var n int
	if err := db.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return nil, fmt.Errorf("look for the %s %q: %w", kind, name, err)
	}
	if n > 0 {
		items = append(items, tenancy.ManifestItem{Kind: kind, Name: name})
	}
	return items, nil
}
