package notes_test

import (
	"testing"

	"lexigram.dev/tenancy/cmd/tenancy/demo/notes"
)

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ statement, dollars string }{
		{"SELECT 1", "SELECT 1"},
		{"SELECT ?", "SELECT $1"},
		{"UPDATE t SET a = ?, b = ? WHERE c = ?", "UPDATE t SET a = $1, b = $2 WHERE c = $3"},
	} {
		if got := notes.Dollars(c.statement); got != c.dollars {
			t.Errorf("Dollars(%q) = %q, want %q", c.statement, got, c.dollars)
		}
		if got := notes.QuestionMarks(c.statement); got != c.statement {
			t.Errorf("QuestionMarks(%q) = %q", c.statement, got)
		}
	}
}
