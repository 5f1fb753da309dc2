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

// childProcess is the variable that makes TestWrongStores run the suite on wrong stores.
const childProcess = "STORETEST_WRONG_STORES"

// The suite must reject every wrong store of faults. As its failures are failures of tests,
// they happen in a process of their own, whose output is read here.
func TestWrongStores(t *testing.T) {
	if os.Getenv(childProcess) != "" {
		for _, fault := range faults {
			t.Run(fault.name, func(t *testing.T) {
				t.Parallel()
				storetest.Run(t, storetest.Config{New: func(*testing.T) tenancy.Store { return fault.store() }})
			})
		}
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWrongStores$", "-test.v")
	child.Env = append(os.Environ(), childProcess+"=1")
	output, err := child.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the suite accepts all wrong stores: %v", err)
	}
	if _, trace, panicked := strings.Cut(string(output), "\npanic: "); panicked {
		t.Fatalf("a panic ended the suite: %s", trace)
	}
	var failures []string
	for line := range strings.Lines(string(output)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: TestWrongStores/"); found {
			failures = append(failures, name[:strings.LastIndex(name, " (")])
		}
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			prefix := strings.ReplaceAll(fault.name, " ", "_") + "/"
			want := prefix + strings.ReplaceAll(fault.rejectedBy, " ", "_")
			if fault.rejectedBy == "" {
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
		Without: []storetest.Feature{storetest.Overrides, storetest.Memberships, storetest.Changes, storetest.Events},
	})
}
