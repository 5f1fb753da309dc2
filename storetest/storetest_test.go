package storetest_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/storetest"
)

// childProcess is the variable that makes a test run its suite on what is wrong.
const childProcess = "STORETEST_WRONG"

// The suite must reject every wrong store of faults.
func TestWrongStores(t *testing.T) {
	rejected := map[string]string{}
	faults := append(slices.Clone(faults), workFaults...)
	for _, fault := range faults {
		rejected[fault.name] = fault.rejectedBy
	}
	rejects(t, rejected, func() {
		for _, fault := range faults {
			t.Run(fault.name, func(t *testing.T) {
				t.Parallel()
				storetest.Run(t, storetest.Config{New: func(*testing.T) tenancy.Store { return fault.store() }})
			})
		}
	})
}

// rejects runs a suite on what is wrong. As its failures are failures of tests, they happen in a
// process of their own, whose output is read here: each name must fail in the example that it is
// mapped to, or in none for "".
func rejects(t *testing.T, rejectedBy map[string]string, suite func()) {
	t.Helper()
	if os.Getenv(childProcess) != "" {
		suite()
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), childProcess+"=1")
	output, err := child.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the suite accepts all that is wrong: %v", err)
	}
	if _, trace, panicked := strings.Cut(string(output), "\npanic: "); panicked {
		t.Fatalf("a panic ended the suite: %s", trace)
	}
	var failures []string
	for line := range strings.Lines(string(output)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "+t.Name()+"/"); found {
			failures = append(failures, name[:strings.LastIndex(name, " (")])
		}
	}
	for name, rejectedBy := range rejectedBy {
		t.Run(name, func(t *testing.T) {
			prefix := strings.ReplaceAll(name, " ", "_") + "/"
			want := prefix + strings.ReplaceAll(rejectedBy, " ", "_")
			if rejectedBy == "" {
				if i := slices.IndexFunc(failures, func(f string) bool { return strings.HasPrefix(f, prefix) }); i >= 0 {
					t.Errorf("%s fails", failures[i])
				}
			} else if !slices.Contains(failures, want) {
				t.Errorf("%s does not fail", want)
			}
		})
	}
}

// A store without optional interfaces passes when it says so.
func TestFeaturesThatAreLackingCanBeLeftOut(t *testing.T) {
	storetest.Run(t, storetest.Config{
		New:     func(*testing.T) tenancy.Store { return struct{ tenancy.Store }{memstore.New()} },
		Without: []storetest.Feature{storetest.Overrides, storetest.Memberships, storetest.Changes, storetest.Events, storetest.Work, storetest.Nodes},
	})
}
