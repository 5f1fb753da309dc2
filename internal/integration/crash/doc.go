// Package crash holds the tests that kill processes: nodes that create, archive and purge tenants, at
// every boundary and at random moments, and the catalogue under load. It has no code of its own.
package crash
