package isolation

import (
	"context"

	"lexigram.dev/tenancy"
)

// ErrUnfiltered says that a statement came without the mark of [UnsafeFiltered] to a database that
// cannot keep tenants' rows apart for reads.
var ErrUnfiltered = tenancy.NewError(tenancy.CodeTenant, "nothing in this database filters the statement by tenant: "+
	"use GORM with the plugin tenantgorm, give each tenant a database of its own, or use PostgreSQL")

type filteredKey struct{}

// UnsafeFiltered tells a [DB] that the statement with this very text is filtered by the tenant of ctx. It
// is for query layers that write the filter themselves, as tenantgorm does. An application that
// calls it for its own SQL answers for the filter.
func UnsafeFiltered(ctx context.Context, query string) context.Context {
	return context.WithValue(ctx, filteredKey{}, query)
}

// isFiltered reports whether ctx has the mark of this very text.
func isFiltered(ctx context.Context, query string) bool {
	marked, ok := ctx.Value(filteredKey{}).(string)
	return ok && marked == query
}

// Walled reports whether the database keeps the tenant of ctx apart by itself. Where it does not,
// statements need the mark of [UnsafeFiltered]. System scope meets no wall and needs no mark: it is true.
// Without a tenant it is tenancy.ErrNoTenant. It does no I/O.
func (db *DB) Walled(ctx context.Context) (bool, error) {
	scope, err := tenancy.ScopeOf(ctx)
	if err != nil {
		return false, err
	}
	if scope.System() {
		return true, nil
	}
	strategy, server, placement, err := db.connector.place(scope.Tenant)
	if err != nil {
		return false, err
	}
	var route Route
	if err := strategy.Route(server, scope.Tenant, placement, &route); err != nil {
		return false, err
	}
	return !route.Fenced, nil
}
