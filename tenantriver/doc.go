// Package tenantriver does the work on tenants as jobs of River, over many nodes. It answers who does
// what is due, and when; what is due, and how often a step that fails is tried, says the tenant's
// journal. It makes no River client, starts nothing and migrates no table: those are the application's.
//
// A periodic job asks the catalogue what is due and inserts a job for each tenant, which does it under
// the tenant's lease. A job of a tenant never runs twice: when its step fails, River keeps the error,
// and the periodic job inserts another when the journal says that it is time.
//
// The package is linked with River, whose licence is the MPL 2.0.
package tenantriver
