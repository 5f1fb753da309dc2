package hunt_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"lexigram.dev/tenancy/isolationtest"
)

// book collects what hunts did. It may be used concurrently.
type book struct {
	operations, faults int64 // that every cell must reach

	mu    sync.Mutex
	cells map[string]isolationtest.Summary
}

func newBook(operations, faults int64) *book {
	return &book{operations: operations, faults: faults, cells: map[string]isolationtest.Summary{}}
}

// enter enters a hunt and returns what there was too little of.
func (b *book) enter(cell string, faults []isolationtest.Fault, s isolationtest.Summary) (short []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cells[cell] = s
	if s.Operations < b.operations {
		short = append(short, fmt.Sprintf("%d operations; want %d: hunt longer", s.Operations, b.operations))
	}
	for _, f := range faults {
		if n := s.Faults[f]; n < b.faults {
			short = append(short, fmt.Sprintf("%d %s; want %d: hunt longer", n, f, b.faults))
		}
	}
	return short
}

// String returns a table of all cells and their sum.
func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := isolationtest.Summary{Faults: map[isolationtest.Fault]int64{}}
	for _, s := range b.cells {
		sum.Operations += s.Operations
		sum.RowsRead += s.RowsRead
		sum.Written += s.Written
		sum.Ambiguous += s.Ambiguous
		sum.Findings = append(sum.Findings, s.Findings...)
		for f, n := range s.Faults {
			sum.Faults[f] += n
		}
	}
	faults := slices.Sorted(maps.Keys(sum.Faults))
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "operations\trows read\tacknowledged\tunknown\tfindings\t")
	for i := range faults {
		fmt.Fprintf(w, "(%d)\t", i+1)
	}
	line := func(name string, s isolationtest.Summary) {
		fmt.Fprintf(w, "\n%d\t%d\t%d\t%d\t%d\t", s.Operations, s.RowsRead, s.Written, s.Ambiguous, len(s.Findings))
		for _, f := range faults {
			fmt.Fprintf(w, "%d\t", s.Faults[f])
		}
		fmt.Fprintf(w, "  %s", name)
	}
	for _, name := range slices.Sorted(maps.Keys(b.cells)) {
		line(name, b.cells[name])
	}
	line(fmt.Sprintf("all %d cells", len(b.cells)), sum)
	_ = w.Flush() // a strings.Builder does not fail
	for i, f := range faults {
		fmt.Fprintf(&text, "\n(%d) %s", i+1, f)
	}
	return text.String()
}
