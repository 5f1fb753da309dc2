// Package servers answers the question "on which real server does this test run?": it starts
// throwaway PostgreSQL, PgBouncer, MariaDB and Redis processes from the binaries of the machine, on free
// ports of 127.0.0.1, as any user, root included.
//
// A server lives at most as long as the test process that asked for it, however that process
// ends, and its files go with it. The package never connects to, configures or stops a server
// that it did not start. It does not install anything: scripts/install-servers does.
//
// A test that needs a server whose binaries are missing is skipped with the remedy; when CI or
// TENANCY_REQUIRE_SERVERS is set, it fails instead.
package servers
