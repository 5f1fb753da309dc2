// Package demo tests the demo as its users meet it: over real HTTP, in this process with the
// race detector and as the built program, on SQLite, PostgreSQL and through PgBouncer.
package demo
