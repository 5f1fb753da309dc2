package isolationtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Check names what a hunt looks for.
type Check string

// The checks of a hunt.
const (
	// ForeignRow is a row of another tenant that was read or changed.
	ForeignRow Check = "foreign row"
	// LostWrite is an acknowledged write that is not there, or not as it was acknowledged.
	LostWrite Check = "lost write"
	// PhantomRow is a row that must not be there: rolled back, refused, or nobody's.
	PhantomRow Check = "phantom row"
	// UnboundAccess is a statement outside every tenant that did not fail.
	UnboundAccess Check = "unbound access"
	// OtherTenantInside is a statement of another tenant in a transaction that did not fail.
	OtherTenantInside Check = "other tenant inside"
	// SwallowedError is a callback's error or panic that did not come back.
	SwallowedError Check = "swallowed error"
	// ConnectionLeft is a connection that did not come back.
	ConnectionLeft Check = "connection left"
	// GoroutineLeft is a goroutine that did not end.
	GoroutineLeft Check = "goroutine left"
	// UnexplainedError is an error of a statement that nothing had disturbed.
	UnexplainedError Check = "unexplained error"
	// NoWork is a hunt that proves nothing, for nothing succeeded or a fault never happened.
	NoWork Check = "no work"
)

// Finding is one thing that a hunt found.
type Finding struct {
	Check Check
	// Text says what happened, to which tenant and where.
	Text string
}

func (f Finding) String() string { return string(f.Check) + ": " + f.Text }

// Summary says what a hunt did and found.
type Summary struct {
	Seed       uint64
	Elapsed    time.Duration
	Operations int64            // all of them
	ByName     map[string]int64 // operations by their name
	Faults     map[Fault]int64  // that happened
	RowsRead   int64            // and compared
	Written    int64            // changes of rows that were acknowledged
	Ambiguous  int64            // changes of rows whose outcome the client does not know
	Errors     map[string]int64 // of statements, by text; the most common
	Findings   []Finding
}

// String returns the summary as a few lines.
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d operations in %s (%.0f/s), %d rows read and compared, %d changes acknowledged, %d unknown, %d findings\n",
		s.Seed, s.Operations, s.Elapsed.Round(time.Millisecond), float64(s.Operations)/max(s.Elapsed.Seconds(), 1e-9),
		s.RowsRead, s.Written, s.Ambiguous, len(s.Findings))
	b.WriteString("operations:" + counts(s.ByName) + "\nfaults:" + counts(s.Faults))
	for _, text := range slices.Sorted(maps.Keys(s.Errors)) {
		fmt.Fprintf(&b, "\n%6d × %s", s.Errors[text], text)
	}
	return b.String()
}

func counts[K ~string](by map[K]int64) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(&b, " %d %s,", by[name], name)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// tally is a summary that many goroutines write.
type tally struct {
	mu sync.Mutex
	Summary
}

const (
	mostFindings = 20
	mostErrors   = 12
)

func (t *tally) did(operation string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ByName[operation]++
	t.Operations++
	return t.Operations
}

func (t *tally) happened(f Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Faults[f]++
}

func (t *tally) times(f Fault) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Faults[f]
}

func (t *tally) read(rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.RowsRead += int64(rows)
}

func (t *tally) wrote(acknowledged, ambiguous int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Written += int64(acknowledged)
	t.Ambiguous += int64(ambiguous)
}

func (t *tally) failed(err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.Errors[text]; ok || len(t.Errors) < mostErrors {
		t.Errors[text]++
	}
}

func (t *tally) found(f Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.Findings) < mostFindings {
		t.Findings = append(t.Findings, f)
	}
}

func (t *tally) snapshot() Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.Summary
	s.ByName, s.Faults, s.Errors = maps.Clone(s.ByName), maps.Clone(s.Faults), maps.Clone(s.Errors)
	s.Findings = slices.Clone(s.Findings)
	return s
}
