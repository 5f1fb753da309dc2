package hunt_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// elsewhere says of the rows of the list of known leaks that [isolationtest.Run] leaves out in some
// cells why they cannot happen there, or which test shows them instead. What is no longer left out
// must go from here.
var elsewhere = []struct {
	row   string
	cells string // a regular expression of names
	why   string
}{
	{"C5", `^(row_level|schema|database)( on PostgreSQL)?( by (tenantpgx|pgx stdlib|Pool|GORM))?$|MariaDB|SQLite`, "no pooler is between"},
	{"C17", `^(row_level|schema|database)( on PostgreSQL)?( by (tenantpgx|pgx stdlib|Pool|GORM))?$|MariaDB|SQLite`, "no pooler is between"},
	{"C9", `^schema (by|on)|MariaDB|SQLite`, "search_path is the binding, or there is none: TestC09SearchPathOfTheDSNStays"},
	{"C11", `SQLite`, "a file has no server that could end a connection"},
	{"C16", `SQLite`, "there is no login past the handle: who opens the file has all of it"},
	{"C18", `SQLite`, "no name reaches another file but by ATTACH, which STRATEGIES.md names; in one file names have no qualifier"},
	{"C19", `SQLite`, "no statement binds a connection"},
	{"R3", `^(schema|database)`, "no column holds the tenant"},
	{"R7", `^(schema|database)`, "no column holds the tenant"},
	{"R11", `SQLite`, "there are no logins"},
	{"R14", `SQLite`, "there is no COPY"},
	{"R17", `PostgreSQL|tenantpgx|stdlib|Pool|^(row_level|schema) by GORM`, "PostgreSQL has no REPLACE"},
}

// rows are those of LEAKS.md that are about data.
func rows() []string {
	var all []string
	for i := 1; i <= 22; i++ {
		all = append(all, fmt.Sprintf("C%d", i))
	}
	for i := 1; i <= 18; i++ {
		all = append(all, fmt.Sprintf("R%d", i))
	}
	return all
}

// rowCheck is which rows were shown, and which left out, by name.
type rowCheck struct{ shown, skipped map[string]bool }

// watched is a test that knows which rows its subtests have shown.
type watched struct {
	*testing.T
	rowCheck
	partial bool // the flag -run has left some out
}

func watch(t *testing.T) *watched {
	return &watched{T: t, rowCheck: rowCheck{shown: map[string]bool{}, skipped: map[string]bool{}}}
}

var rowName = regexp.MustCompile(`^([CR])0?([0-9]+) `)

// Run runs a subtest whose name begins with its row.
func (w *watched) Run(name string, test func(t testing.TB)) bool {
	m := rowName.FindStringSubmatch(name)
	if m == nil {
		w.Errorf("%q names no row", name)
		return false
	}
	row, began := m[1]+m[2], false
	ok := w.T.Run(name, func(t *testing.T) {
		began = true
		t.Cleanup(func() {
			if t.Skipped() {
				w.skipped[row] = true
			} else {
				w.shown[row] = true
			}
		})
		test(t)
	})
	w.partial = w.partial || !began
	return ok
}

// check fails the test for rows that are neither shown nor explained.
func (c rowCheck) check(t testing.TB, cell string) {
	t.Helper()
	explained := map[string]string{}
	for _, e := range elsewhere {
		if regexp.MustCompile(e.cells).MatchString(cell) {
			explained[e.row] = e.why
		}
	}
	var left []string
	for _, row := range rows() {
		switch why := explained[row]; {
		case c.shown[row] && why != "":
			t.Errorf("%s is shown, and said to be left out: %s", row, why)
		case !c.shown[row] && why == "":
			t.Errorf("%s is neither shown nor explained", row)
		case !c.shown[row]:
			left = append(left, row+": "+why)
		}
		delete(c.skipped, row)
		delete(c.shown, row)
	}
	if len(c.shown)+len(c.skipped) > 0 {
		t.Errorf("subtests of no row: %v %v", c.shown, c.skipped)
	}
	t.Logf("left out:\n%s", strings.Join(left, "\n"))
}

// TestForgottenRowFails checks the check.
func TestForgottenRowFails(t *testing.T) {
	for _, test := range []struct {
		cell   string
		forget []string
		fails  bool
	}{
		{"row_level by tenantpgx", []string{"C5", "C17", "R17"}, false},
		{"row_level by tenantpgx", []string{"C5", "C17", "R17", "R14"}, true},
		{"row_level by tenantpgx", []string{"C5", "C17"}, true}, // R17 is said to be left out
		{"a cell of no kind", nil, false},
		{"a cell of no kind", []string{"C1"}, true},
	} {
		r := newRecorder(t)
		r.run(func(tb testing.TB) {
			c := rowCheck{shown: map[string]bool{}, skipped: map[string]bool{}}
			for _, row := range rows() {
				c.shown[row] = true
			}
			for _, row := range test.forget {
				delete(c.shown, row)
				c.skipped[row] = true
			}
			c.check(tb, test.cell)
		})
		if r.Failed() != test.fails {
			t.Errorf("%s without %q: failed %t: %q", test.cell, test.forget, r.Failed(), r.texts)
		}
	}
}
