// Package isolationtest answers the question "does this handle keep tenants apart?", for the
// handles of package isolation and for any other that speaks database/sql.
//
// [Run] looks for every known leak of connections and row filters, one subtest for each. [Hunt]
// looks for the unknown ones: many goroutines of several tenants read and write through the
// handle while contexts are cancelled, callbacks panic, connections are killed and rows are left
// open. Every row says whom it was written for and carries a token that cannot be guessed, and
// every answer is compared with what was acknowledged.
//
//	func TestNoLeak(t *testing.T) {
//		isolationtest.Hunt(t, isolationtest.NewHandle(db, isolation.EnginePostgreSQL, acme, globex))
//	}
//
// The tenants and their table belong to the test: both suites delete and write rows in it, and leave
// every table alone that is not theirs. [CreateTable] is its DDL; where tenants have tables of their own,
// the suites make it.
//
// [Covered] runs the verifier of row_level over the application's own schema, which no statement
// through a handle can show.
//
// The package does not look at requests and how they are bound to a tenant.
package isolationtest
