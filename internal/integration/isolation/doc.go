// Package isolation holds the tests of package isolation on real servers: two tenants, hostile
// input, and a named test for each known leak. It has no code of its own.
package isolation
