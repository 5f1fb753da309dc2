package hunt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

func TestCovered(t *testing.T) {
	h := onPostgreSQL(tenancy.StrategyRowLevel, direct, pipelined)(t)
	db := h.DB.(*isolation.DB)
	covered := func(baseline string) *recorder {
		r := newRecorder(t)
		r.run(func(tb testing.TB) { isolationtest.Covered(tb, db, baseline) })
		return r
	}
	if r := covered(""); r.Failed() {
		t.Fatalf("the generated wall is rejected: %q", r.texts)
	}
	// A new table, which nobody has walled.
	must(t, h.Migrate(t.Context(), "", "CREATE TABLE forgotten (id int); GRANT SELECT ON forgotten TO app"))
	r := covered("")
	if !r.Failed() || !strings.Contains(strings.Join(r.texts, "\n"), "forgotten") {
		t.Fatalf("a forgotten table is accepted: %q", r.texts)
	}
	report, err := db.Verify(t.Context())
	must(t, err)
	file := filepath.Join(t.TempDir(), "baseline")
	must(t, os.WriteFile(file, []byte(report.Baseline("known in the test").String()), 0o600))
	if r := covered(file); r.Failed() {
		t.Errorf("a baseline that accepts everything does not: %q", r.texts)
	}
	must(t, h.Migrate(t.Context(), "", "DROP TABLE forgotten"))
	if r := covered(file); !r.Failed() {
		t.Error("a baseline that is out of date is accepted")
	}
	if r := covered("no such file"); !r.Failed() {
		t.Error("a missing baseline is accepted")
	}
	r = newRecorder(t)
	r.run(func(tb testing.TB) {
		isolationtest.Covered(tb, onSQLite(tenancy.StrategyDatabase)(tb).DB.(*isolation.DB), "")
	})
	if !r.Failed() {
		t.Error("a handle without any wall is covered")
	}
}
