package main

import (
	"io"
	"strings"
	"testing"
)

const output = `goos: linux
BenchmarkStatement/direct/plain-2         	    1000	      100.0 ns/op	       0 B/op	       2 allocs/op
BenchmarkStatement/direct/scoped-2        	    1000	      180.0 ns/op	       1.500 max-ratio	       1.000 max-round-trips/op	       1.000 round-trips/op	       0 B/op	       5 allocs/op
BenchmarkStatement/direct/plain#01-2      	    1000	      120.0 ns/op	       0 B/op	       2 allocs/op
BenchmarkStatement/direct/scoped#01-2     	    1000	      140.0 ns/op	       1.500 max-ratio	       1.000 max-round-trips/op	       2.000 round-trips/op	       0 B/op	       5 allocs/op
BenchmarkHit/plain                        	    1000	      10.0 ns/op
BenchmarkHit/scoped                       	    1000	      20.5 ns/op	       3.000 max-allocs/op
BenchmarkOther-2                          	    1000	      10.0 ns/op
BenchmarkCells/row_level/SQLite/file/sql/update/plain-2     	    1000	    100000 ns/op	       2 allocs/op
BenchmarkCells/row_level/SQLite/file/sql/update/scoped-2    	    1000	    150000 ns/op	       5 allocs/op
BenchmarkCells/row_level/SQLite/file/GORM/update/plain-2    	    1000	    100000 ns/op	       2.000 round-trips/op	       2 allocs/op
BenchmarkCells/row_level/SQLite/file/GORM/update/scoped-2   	    1000	    150000 ns/op	       1.000 max-round-trips/op	       2.000 round-trips/op	       1.400 max-ratio	       5 allocs/op
BenchmarkFree/scoped-2                    	    1000	      1234 ns/op
PASS
`

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(strings.NewReader(output), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"strategy engine path layer case plain µs scoped µs ratio budget allocs round trips",
		"row_level SQLite file sql update 100 150 1.50 - 2 → 5 -",
		"GORM update 100 150 1.50 1.40 2 → 5 2 → 2 MISS ratio MISS round-trips/op",
		"",
		"case plain ns/op scoped ns/op ratio added allocs budget measured",
		"Statement/direct 100 140 1.40 3 ratio <= 1.50 1.40 ok", // the fastest of each
		"round-trips/op <= 1 2 MISS",                            // the worst
		"Hit 10 20.50 2.05 - allocs/op <= 3 - NOT MEASURED",
		"Free - 1234 - - - -",
		"",
		"Half of the cases had rounds of plain more than 0 % above the fastest, by the median.",
	}
	if got := strings.Join(rows, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestInputWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, input := range map[string]string{
		"nothing":             "",
		"no comparison":       "BenchmarkOther-2 1000 10.0 ns/op\nPASS\n",
		"a failed benchmark":  output + "--- FAIL: BenchmarkStatement\n",
		"a failed package":    output + "FAIL\tlexigram.dev/tenancy/bench [build failed]\n",
		"a line that is torn": "BenchmarkStatement/plain-2 1000 x ns/op\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(strings.NewReader(input), io.Discard, io.Discard); err == nil {
				t.Error("no error")
			}
		})
	}
}
