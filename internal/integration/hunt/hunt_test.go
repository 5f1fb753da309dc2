package hunt_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
)

// duration is how long each cell is searched: the variable TENANCY_LEAKHUNT, or a few seconds.
func duration(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("TENANCY_LEAKHUNT")
	switch {
	case text != "":
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			t.Fatalf("TENANCY_LEAKHUNT is %q: write a duration such as 5m", text)
		}
		return d
	case testing.Short():
		return time.Second
	default:
		return 3 * time.Second
	}
}

// least is a number that a cell must reach, of a variable; 0 without one.
func least(t testing.TB, variable string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(cmp.Or(os.Getenv(variable), "0"), 10, 64)
	if err != nil || n < 0 {
		t.Fatalf("%s is %q: write a number such as 100000", variable, os.Getenv(variable))
	}
	return n
}

func TestKnownLeaks(t *testing.T) {
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := watch(t)
			isolationtest.Run(w, c.open(t))
			if !w.partial {
				w.check(t, c.name)
			}
		})
	}
}

func TestHunt(t *testing.T) {
	length, operations, faults := duration(t), least(t, "TENANCY_LEAKHUNT_OPERATIONS"), least(t, "TENANCY_LEAKHUNT_FAULTS")
	all := newBook(operations, faults)
	t.Cleanup(func() { t.Logf("\n%s", all) })
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := c.open(t)
			s := isolationtest.Hunt(t, h, func(p *isolationtest.Plan) {
				p.Duration = length
				p.LeastOperations, p.LeastFaults = operations, faults
				if faults > 0 { // spread over the time, with some to spare
					p.KillEvery = min(max(length/time.Duration(3*faults), 10*time.Millisecond), 500*time.Millisecond)
					p.RestartEvery = length * 2 / time.Duration(3*faults)
				}
			})
			for _, why := range all.enter(c.name, isolationtest.Faults(h), s) {
				t.Error(why)
			}
		})
	}
}

// TestTooLittleIsAFailure checks the book that decides whether a hunt was long enough.
func TestTooLittleIsAFailure(t *testing.T) {
	faults := []isolationtest.Fault{isolationtest.NoTenant, isolationtest.RestartedServer}
	enough := isolationtest.Summary{
		Operations: 100, Faults: map[isolationtest.Fault]int64{isolationtest.NoTenant: 10, isolationtest.RestartedServer: 10},
	}
	for name, test := range map[string]struct {
		change func(s *isolationtest.Summary)
		want   int
	}{
		"enough":               {func(*isolationtest.Summary) {}, 0},
		"too few operations":   {func(s *isolationtest.Summary) { s.Operations = 99 }, 1},
		"too few of a fault":   {func(s *isolationtest.Summary) { s.Faults[isolationtest.NoTenant] = 9 }, 1},
		"a fault never was":    {func(s *isolationtest.Summary) { delete(s.Faults, isolationtest.RestartedServer) }, 1},
		"too few of all three": {func(s *isolationtest.Summary) { *s = isolationtest.Summary{} }, 3},
	} {
		s := enough
		s.Faults = map[isolationtest.Fault]int64{}
		for f, n := range enough.Faults {
			s.Faults[f] = n
		}
		test.change(&s)
		b := newBook(100, 10)
		if got := b.enter("a cell", faults, s); len(got) != test.want {
			t.Errorf("%s: got %q, want %d failures", name, got, test.want)
		}
	}
}

// TestTextPastTheFence checks the cell that has no hunt: without a wall for reads, and without
// GORM to filter them, every statement is refused.
func TestTextPastTheFence(t *testing.T) {
	h := onSQLite(tenancy.StrategyRowLevel)(t)
	ctx := h.Bind(t.Context(), h.Tenants[0])
	for _, query := range []string{
		"SELECT * FROM " + table, "UPDATE " + table + " SET n = 1", "DELETE FROM " + table,
		"INSERT INTO " + table + " (id, owner, n, body) VALUES ('a', 'b', 0, 'c')",
	} {
		if _, err := h.DB.ExecContext(ctx, query); !errors.Is(err, isolation.ErrUnfiltered) {
			t.Errorf("%s: got error %v, want ErrUnfiltered", query, err)
		}
		if err := readAll(ctx, h.DB, query); !errors.Is(err, isolation.ErrUnfiltered) {
			t.Errorf("%s as a query: got error %v, want ErrUnfiltered", query, err)
		}
	}
}

// readAll reads the rows of a query to their end.
func readAll(ctx context.Context, db isolationtest.DB, query string) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}
