// Command ratios reads what go test -bench prints and answers by how much the library is within
// its budgets: one row per budget. Of all rounds the fastest time counts, because a busy machine
// only ever adds to it, and the worst of everything else.
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
	return table(cases, out)
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

func table(cases []*comparison, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tplain ns/op\tscoped ns/op\tratio\tadded allocs\tbudget\tmeasured\t")
	for _, c := range cases {
		row := c.name
		for _, cell := range []struct {
			s    samples
			unit string
		}{{c.plain, "ns/op"}, {c.scoped, "ns/op"}} {
			row += "\t" + format(cell.s.result(cell.unit))
		}
		row += "\t" + format(c.value("ratio")) + "\t" + format(c.value("added-allocs"))
		var budgets []string
		for unit := range c.scoped {
			if measured, ok := strings.CutPrefix(unit, "max-"); ok {
				budgets = append(budgets, measured)
			}
		}
		slices.Sort(budgets)
		if len(budgets) == 0 {
			fmt.Fprintln(w, row+"\t-\t-\t")
		}
		for _, unit := range budgets {
			most, _ := c.scoped.result("max-" + unit)
			measured, ok := c.value(unit)
			verdict := "ok"
			switch {
			case !ok:
				verdict = "NOT MEASURED"
			case measured > most:
				verdict = "MISS"
			}
			fmt.Fprintf(w, "%s\t%s <= %s\t%s\t%s\n", row, unit, format(most, true), format(measured, ok), verdict)
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
