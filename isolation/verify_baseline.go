package isolation

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Accepted is a finding that somebody has decided to live with, and why.
type Accepted struct{ Kind, Object, Reason string }

// Baseline is a list of accepted findings, to be committed beside the code. As text it has one
// line for each: kind, object in double quotes, reason. Empty lines and lines that begin with #
// are comments.
type Baseline []Accepted

// ReadBaseline reads the text of a baseline. It reports all its problems at once, each with its
// line: a line that is none, one without a reason, one that is there twice.
func ReadBaseline(r io.Reader) (Baseline, error) {
	var b Baseline
	var errs []error
	seen := map[[2]string]int{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a, err := readAccepted(line)
		key := [2]string{a.Kind, a.Object}
		if err == nil && seen[key] > 0 {
			err = fmt.Errorf("%s %q is in line %d already", a.Kind, a.Object, seen[key])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("baseline, line %d: %w", n, err))
			continue
		}
		seen[key] = n
		b = append(b, a)
	}
	return b, errors.Join(append(errs, lines.Err())...)
}

func readAccepted(line string) (Accepted, error) {
	kind, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return Accepted{}, errors.New(`write a kind, an object in double quotes, and a reason`)
	}
	object, err := strconv.Unquote(quoted)
	if err != nil {
		return Accepted{}, fmt.Errorf("object %s: %w", quoted, err)
	}
	reason := strings.TrimSpace(rest[len(quoted):])
	if reason == "" {
		return Accepted{}, fmt.Errorf("%s %s has no reason: say why it may stay", kind, quoted)
	}
	return Accepted{Kind: kind, Object: object, Reason: reason}, nil
}

// String returns the text of the baseline, ordered by kind and object.
func (b Baseline) String() string {
	sorted := slices.Clone(b)
	slices.SortFunc(sorted, func(x, y Accepted) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Object, y.Object))
	})
	var text strings.Builder
	for _, a := range sorted {
		fmt.Fprintf(&text, "%s %q %s\n", a.Kind, a.Object, a.Reason)
	}
	return text.String()
}

// Against returns the findings that baseline does not accept, and the entries of it that no
// longer occur: take them out, or the same hole can open again unseen.
func (p Report) Against(baseline Baseline) (fresh []Finding, gone Baseline) {
	for _, f := range p.Findings {
		if !slices.ContainsFunc(baseline, func(a Accepted) bool { return a.Kind == f.Kind && a.Object == f.Object }) {
			fresh = append(fresh, f)
		}
	}
	for _, a := range baseline {
		if !slices.ContainsFunc(p.Findings, func(f Finding) bool { return a.Kind == f.Kind && a.Object == f.Object }) {
			gone = append(gone, a)
		}
	}
	return fresh, gone
}

// Baseline returns the findings as accepted, all for one reason: a beginning, to be edited.
func (p Report) Baseline(reason string) Baseline {
	var b Baseline
	for _, f := range p.Findings {
		a := Accepted{Kind: f.Kind, Object: f.Object, Reason: reason}
		if !slices.Contains(b, a) {
			b = append(b, a)
		}
	}
	return b
}
