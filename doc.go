// Package tenancy answers one question for a Go web application that serves many
// customers from one deployment: which tenant does this piece of work belong to, and may
// it? It resolves a tenant from a request, checks that the tenant exists, is active and has
// the user as a member, binds it to the context, and keeps the tenants themselves: their
// lifecycle, their events and their settings.
//
// The package does not talk to a network, a router or a database. HTTP lives in tenanthttp,
// SQL in isolation and tenantpgx, the catalogue of tenants in memstore and sqlstore.
//
// Everything fails closed: a context without a tenant is an error that names the remedy,
// never "all tenants". Work for the whole system says so with [AsSystem] and a reason.
package tenancy
