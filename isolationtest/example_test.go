package isolationtest_test

import (
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// What an application has: a handle and two provisioned tenants for tests.
var (
	db           *isolation.DB
	acme, globex tenancy.Tenant
)

// Three lines look for leaks in a handle. Where tenants have tables of their own, the test makes one
// and drops it again.
func ExampleHunt() {
	_ = func(t *testing.T) { // func TestNoLeak(t *testing.T)
		h := isolationtest.NewHandle(db, isolation.EngineSQLite, acme, globex)
		isolationtest.Hunt(t, h)
	}
}

// A hunt can be long, and can be repeated.
func ExampleHunt_plan() {
	_ = func(t *testing.T) {
		h := isolationtest.NewHandle(db, isolation.EnginePostgreSQL, acme, globex)
		h.TenantColumn = "tenant_id" // of a table made by CreateTable and walled by isolation.RLS
		isolationtest.Hunt(t, h, func(p *isolationtest.Plan) {
			p.Duration = 10 * time.Minute
			p.Seed = 4711
		})
	}
}

// The known leaks, one subtest for each.
func ExampleRun() {
	_ = func(t *testing.T) {
		h := isolationtest.NewHandle(db, isolation.EnginePostgreSQL, acme, globex)
		h.TenantColumn = "tenant_id"
		isolationtest.Run(t, h)
	}
}

// The application's schema, with a file of the findings that somebody has accepted.
func ExampleCovered() {
	_ = func(t *testing.T) {
		isolationtest.Covered(t, db, "testdata/wall.baseline")
	}
}
