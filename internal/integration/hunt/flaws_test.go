package hunt_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy/isolationtest"
)

// The flaws, each seen in a library or in a first sketch of this one.
const (
	sessionSet         flaw = "sets the tenant on some connection of the pool"
	noParentheses      flaw = "adds its filter without parentheses"
	resetElsewhere     flaw = "resets another connection of the pool"
	resetCancelled     flaw = "resets by a context that has ended"
	retryUnbound       flaw = "forgets the tenant when it repeats a statement"
	panicKeeps         flaw = "forgets the reset after a panic"
	panicCommits       flaw = "commits after a panic"
	errorCommits       flaw = "commits after an error of the callback"
	errorSwallowed     flaw = "swallows the error of the callback"
	commitSwallowed    flaw = "swallows the error of a commit"
	preparedKeeps      flaw = "a prepared statement keeps its tenant"
	rowsKeep           flaw = "resets only when rows are read to the end"
	nestedAnswered     flaw = "answers another tenant inside a transaction"
	emptyWithoutTenant flaw = "finds nothing without a tenant"
	plansShared        flaw = "keeps a plan per text for tenants whose tables differ"
	formsRefused       flaw = "refuses every form of a query, and says that it cannot keep them"
	connectionLeft     flaw = "leaves rows open"
	goroutineLeft      flaw = "leaves a goroutine"
)

// wrongTenant are the checks that find a statement which runs as whoever was there before.
var wrongTenant = []isolationtest.Check{
	isolationtest.ForeignRow, isolationtest.UnboundAccess, isolationtest.LostWrite, isolationtest.PhantomRow, isolationtest.OtherTenantInside,
}

// flaws are what must be found, by which test of Run and by which checks of Hunt, of which one
// comes first: which, is chance.
var flaws = []struct {
	flaw  flaw
	known string
	hunt  []isolationtest.Check
}{
	{"", "", nil},
	{sessionSet, "C01 the next borrower sees its own rows", wrongTenant},
	{noParentheses, "R01 a condition with OR", []isolationtest.Check{isolationtest.ForeignRow}},
	{resetElsewhere, "C04 every connection comes back clean", []isolationtest.Check{isolationtest.UnboundAccess, isolationtest.UnexplainedError}},
	{resetCancelled, "C03 a cancelled context leaves no binding", []isolationtest.Check{isolationtest.UnboundAccess}},
	{retryUnbound, "C11 a connection lost in a statement", wrongTenant},
	{panicKeeps, "C07 a panic of the callback rolls back and goes on", []isolationtest.Check{isolationtest.UnboundAccess}},
	{panicCommits, "C07 a panic of the callback rolls back and goes on", []isolationtest.Check{isolationtest.PhantomRow, isolationtest.LostWrite}},
	{errorCommits, "C06 an error of the callback rolls back and comes back", []isolationtest.Check{isolationtest.PhantomRow, isolationtest.LostWrite}},
	{errorSwallowed, "C06 an error of the callback rolls back and comes back", []isolationtest.Check{isolationtest.SwallowedError}},
	{commitSwallowed, "C11 a connection lost in a transaction", []isolationtest.Check{isolationtest.LostWrite, isolationtest.PhantomRow}},
	{preparedKeeps, "C14 prepared under one tenant, executed under the other", wrongTenant},
	{rowsKeep, "C15 rows left open", []isolationtest.Check{isolationtest.UnboundAccess}},
	{nestedAnswered, "C12 another tenant inside a transaction", []isolationtest.Check{isolationtest.OtherTenantInside}},
	{emptyWithoutTenant, "R18 an empty answer without a tenant", []isolationtest.Check{isolationtest.UnboundAccess}},
	{plansShared, "C10 a table that changes", nil},   // the hunt changes no tables
	{formsRefused, "R04 every form of a query", nil}, // the hunt asks for rows only
	{connectionLeft, "", []isolationtest.Check{isolationtest.ConnectionLeft}},
	{goroutineLeft, "", []isolationtest.Check{isolationtest.GoroutineLeft}},
}

// What a flaw must be found within: a few seconds on a machine that has nothing else to do, counted,
// because this one may have.
const (
	mostOperations = 10_000 // of a hunt, which does some thousand in a second
	mostStatements = 5_000  // of one test of Run
)

func TestFlawsAreFound(t *testing.T) {
	for _, f := range flaws {
		name := string(f.flaw)
		if name == "" {
			name = "no flaw"
		}
		t.Run(name+"/by name", func(t *testing.T) {
			t.Parallel()
			r := newRecorder(t)
			r.only = f.known
			h := newLibrary(t, f.flaw)
			r.run(func(tb testing.TB) { isolationtest.Run(tb, h) })
			asked := h.DB.(*library).server.statements.Load()
			switch {
			case f.known == "" && r.Failed(): // a leak of resources is no known leak of data
				t.Errorf("rejected by %q:\n%s", r.failures, strings.Join(r.texts, "\n"))
			case f.known != "" && !r.failedIn(f.known):
				t.Errorf("not rejected by %q but by %q:\n%s", f.known, r.failures, strings.Join(r.texts, "\n"))
			case f.known != "" && asked > mostStatements:
				t.Errorf("rejected after %d statements; want no more than %d", asked, mostStatements)
			case f.known != "":
				t.Logf("rejected after %d statements: %s", asked, strings.Join(r.texts, "\n"))
			}
		})
		t.Run(name+"/by the hunt", func(t *testing.T) {
			t.Parallel()
			r := newRecorder(t)
			var s isolationtest.Summary
			r.run(func(tb testing.TB) {
				s = isolationtest.Hunt(tb, newLibrary(t, f.flaw), func(p *isolationtest.Plan) {
					p.Duration, p.Workers, p.Operations = time.Minute, 3, mostOperations
					switch f.flaw {
					case "":
						p.Duration = 5 * time.Second
					case commitSwallowed: // to be found by what is killed inside transactions
						p.KillEvery = time.Hour
					case connectionLeft, goroutineLeft: // they show at the end
						p.Duration = time.Second
					}
				})
			})
			switch {
			case f.hunt == nil && r.Failed():
				t.Errorf("rejected: %v\n%s", s.Findings, s)
			case f.hunt != nil && len(s.Findings) == 0:
				t.Errorf("not found in %d operations: %v", mostOperations, s)
			case f.hunt != nil && (!r.Failed() || !slices.Contains(f.hunt, s.Findings[0].Check)):
				t.Errorf("found by %v; want %q", s.Findings, f.hunt)
			case f.hunt != nil:
				t.Logf("found in %d operations (%s): %v", s.Operations, s.Elapsed, s.Findings[0])
			}
		})
	}
}
