// Command ratios reads what go test -bench prints and answers by how much the library is within
// its budgets. Of all rounds the fastest time counts, because a busy machine only ever adds to it,
// and the worst of everything else. The cases of BenchmarkCells come first, one row each, then all
// others, one row per budget. The last line says how far the rounds of plain were apart.
//
//	go test -run '^$' -bench . ./bench/... | go run ./bench/cmd/ratios
//
// It copies its input to the standard error, so that a long run shows its progress. Its status
// is 1 when the input holds no case or a benchmark failed, never for a missed budget.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := run(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ratios:", err)
		os.Exit(1)
	}
}

// samples are the values of each unit, one per round.
type samples map[string][]float64

// comparison is what was measured of one case.
type comparison struct {
	name          string
	plain, scoped samples
}

// suffix is what go test adds to a name: "#01" to a repeated one, "-8" for the processors.
var suffix = regexp.MustCompile(`(#\d+)?(-\d+)?$`)

func run(in io.Reader, out, progress io.Writer) error {
	cases, err := parse(io.TeeReader(in, progress))
	if err != nil {
		return err
	}
	if len(cases) == 0 {
		return errors.New("the input has no benchmark with the parts plain and scoped")
	}
	if err := cells(cases, out); err != nil {
		return err
	}
	if err := table(cases, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nHalf of the cases had rounds of plain more than %.0f %% above the fastest, by the median.\n", 100*noise(cases))
	return err
}

// cellPrefix begins the names of cases that are Cells/strategy/engine/path/layer/case.
const cellPrefix = "Cells/"

// cells prints a row for each cell. A label that is the row's above is left out.
func cells(cases []*comparison, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var above []string
	for _, c := range cases {
		name, ok := strings.CutPrefix(c.name, cellPrefix)
		if !ok {
			continue
		}
		if above == nil {
			fmt.Fprintln(w, "strategy\tengine\tpath\tlayer\tcase\tplain µs\tscoped µs\tratio\tbudget\tallocs\tround trips\t")
		}
		labels := strings.Split(name, "/")
		row := slices.Clone(labels)
		for i := 0; i < len(above) && i < len(row) && labels[i] == above[i]; i++ {
			row[i] = ""
		}
		above = labels
		budget, verdict := "-", ""
		if _, ok := c.scoped.result("max-ratio"); ok {
			budget = format(c.scoped.result("max-ratio"))
		}
		for _, unit := range c.budgets() {
			if v := c.verdict(unit); v != within {
				verdict += v + " " + unit + " "
			}
		}
		row = append(row, c.plain.micro(), c.scoped.micro(), format(c.value("ratio")), budget,
			c.both("allocs/op"), c.both("round-trips/op"), verdict)
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if above != nil {
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// micro returns the fastest time in microseconds.
func (s samples) micro() string {
	ns, ok := s.result("ns/op")
	return format(ns/1000, ok)
}

// both returns a unit of plain and of scoped.
func (c *comparison) both(unit string) string {
	plain, ok := c.plain.result(unit)
	if !ok {
		return "-"
	}
	return format(plain, ok) + " → " + format(c.scoped.result(unit))
}

// noise returns by what part the rounds of plain are above the fastest: the median of the medians.
func noise(cases []*comparison) float64 {
	var all []float64
	for _, c := range cases {
		if rounds := slices.Sorted(slices.Values(c.plain["ns/op"])); len(rounds) > 0 {
			all = append(all, rounds[len(rounds)/2]/rounds[0]-1)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// parse collects the cases in the order of their appearance.
func parse(in io.Reader) ([]*comparison, error) {
	var cases []*comparison
	failed := false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL") {
			failed = true
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := suffix.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			continue
		}
		name, part := name[:slash], name[slash+1:]
		if part != "plain" && part != "scoped" {
			continue
		}
		at := slices.IndexFunc(cases, func(c *comparison) bool { return c.name == name })
		if at < 0 {
			at = len(cases)
			cases = append(cases, &comparison{name: name, plain: samples{}, scoped: samples{}})
		}
		into := cases[at].plain
		if part == "scoped" {
			into = cases[at].scoped
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			into[fields[i+1]] = append(into[fields[i+1]], value)
		}
	}
	if failed {
		return nil, errors.New("a benchmark failed")
	}
	return cases, lines.Err()
}

// result returns the fastest time or the highest value of another unit, or false without any.
func (s samples) result(unit string) (float64, bool) {
	switch values := s[unit]; {
	case len(values) == 0:
		return 0, false
	case unit == "ns/op" || unit == "cpu-ns/op":
		return slices.Min(values), true
	default:
		return slices.Max(values), true
	}
}

// value returns a metric of the case: one that scoped reported, or one that compares both parts.
func (c *comparison) value(unit string) (float64, bool) {
	compared := map[string]string{"ratio": "ns/op", "added-cpu-ns": "cpu-ns/op", "added-allocs": "allocs/op"}
	of, both := compared[unit]
	if !both {
		return c.scoped.result(unit)
	}
	scoped, ok1 := c.scoped.result(of)
	plain, ok2 := c.plain.result(of)
	switch {
	case !ok1 || !ok2 || (unit == "ratio" && plain == 0):
		return 0, false
	case unit == "ratio":
		return scoped / plain, true
	default:
		return scoped - plain, true
	}
}

// budgets returns the units that scoped has a budget for, in order.
func (c *comparison) budgets() []string {
	var units []string
	for unit := range c.scoped {
		if measured, ok := strings.CutPrefix(unit, "max-"); ok {
			units = append(units, measured)
		}
	}
	slices.Sort(units)
	return units
}

// within is the verdict on a budget that holds.
const within = "ok"

func (c *comparison) verdict(unit string) string {
	most, _ := c.scoped.result("max-" + unit)
	switch measured, ok := c.value(unit); {
	case !ok:
		return "NOT MEASURED"
	case measured > most:
		return "MISS"
	default:
		return within
	}
}

func table(cases []*comparison, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	heading := "case\tplain ns/op\tscoped ns/op\tratio\tadded allocs\tbudget\tmeasured\t\n"
	for _, c := range cases {
		if strings.HasPrefix(c.name, cellPrefix) {
			continue
		}
		fmt.Fprint(w, heading)
		heading = ""
		row := c.name
		for _, s := range []samples{c.plain, c.scoped} {
			row += "\t" + format(s.result("ns/op"))
		}
		row += "\t" + format(c.value("ratio")) + "\t" + format(c.value("added-allocs"))
		budgets := c.budgets()
		if len(budgets) == 0 {
			fmt.Fprintln(w, row+"\t-\t-\t")
		}
		for _, unit := range budgets {
			measured, ok := c.value(unit)
			fmt.Fprintf(w, "%s\t%s <= %s\t%s\t%s\n", row, unit, format(c.scoped.result("max-"+unit)), format(measured, ok), c.verdict(unit))
			row = "\t\t\t\t"
		}
	}
	return w.Flush()
}

// format writes a number with what digits say something.
func format(v float64, ok bool) string {
	switch {
	case !ok:
		return "-"
	case v == float64(int64(v)) || v >= 1000 || v <= -1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
