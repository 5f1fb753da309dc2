// Package memstore answers how to run without a database: it keeps tenants, memberships,
// overrides, the change feed and the outbox in memory, for tests, single-process tools and
// first steps. It keeps nothing when the process ends; for that there is package sqlstore.
package memstore
