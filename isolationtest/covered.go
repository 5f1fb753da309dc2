package isolationtest

import (
	"context"
	"os"
	"strings"
	"testing"

	"lexigram.dev/tenancy/isolation"
)

// Verifier is what [Covered] asks: an isolation.DB with the wall of row_level.
type Verifier interface {
	// Verify returns every way past the wall.
	Verify(ctx context.Context) (isolation.Report, error)
}

var _ Verifier = (*isolation.DB)(nil)

// Covered fails the test with each way past the wall that the verifier finds in the application's
// schema and that the baseline does not accept, and with each line of the baseline that is out of
// date. The baseline is the name of a file, see [isolation.ReadBaseline], or "" when nothing is
// accepted. What the verifier does not look into is logged.
func Covered(t testing.TB, db Verifier, baseline string) {
	t.Helper()
	var accepted isolation.Baseline
	if baseline != "" {
		text, err := os.ReadFile(baseline)
		if err != nil {
			t.Fatalf("isolationtest: read the baseline: %v", err)
		}
		if accepted, err = isolation.ReadBaseline(strings.NewReader(string(text))); err != nil {
			t.Fatalf("isolationtest: %s: %v", baseline, err)
		}
	}
	report, err := db.Verify(t.Context())
	if err != nil {
		t.Fatalf("isolationtest: %v", err)
	}
	fresh, gone := report.Against(accepted)
	for _, f := range fresh {
		t.Errorf("not covered: %v", f)
	}
	for _, a := range gone {
		t.Errorf("%s: %s %q does not occur any more: take it out, or the same hole can open again unseen", baseline, a.Kind, a.Object)
	}
	for _, what := range report.Unseen {
		t.Logf("not looked into: %s", what)
	}
}
