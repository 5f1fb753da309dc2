package bench_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
)

// liveHeap stands for what a server keeps in memory. Without it the collector runs every 4 MiB,
// some thousand requests apart, and that would be measured instead.
var liveHeap = make([]byte, 64<<20)

func TestMain(m *testing.M) {
	liveHeap[0] = 1
	servers.Main(m)
}

// rounds is how often plain and scoped take turns.
const rounds = 12

// side is one way to do a case's work.
type side struct {
	op func() error
	// measured reports further metrics of n operations, or is nil.
	measured func(b *testing.B, n int)
}

// compare runs plain and scoped by turns. The budgets are metrics, reported with scoped.
func compare(b *testing.B, budgets map[string]float64, plain, scoped side) {
	b.Helper()
	for range rounds {
		b.Run("plain", func(b *testing.B) { measure(b, plain) })
		b.Run("scoped", func(b *testing.B) {
			measure(b, scoped)
			for unit, max := range budgets {
				b.ReportMetric(max, "max-"+unit)
			}
		})
	}
}

func measure(b *testing.B, s side) {
	for range 3 { // connections, caches
		must(b, s.op())
	}
	if s.measured != nil {
		s.measured(b, 0)
	}
	b.ReportAllocs()
	n, before := 0, cpuTime()
	for b.Loop() {
		if err := s.op(); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(n), "cpu-ns/op")
	if s.measured != nil {
		s.measured(b, n)
	}
}

// cpuTime returns the processor time of this process, the collector's included. Other processes
// on the machine do not count.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// perOp returns a side's measured, which reports how much a counter grew per operation.
func perOp(unit string, counter func() int64) func(b *testing.B, n int) {
	var before int64
	return func(b *testing.B, n int) {
		if n > 0 {
			b.ReportMetric(float64(counter()-before)/float64(n), unit)
		}
		before = counter()
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// inTenant returns a context inside a tenant.
func inTenant(id string, p tenancy.Placement) context.Context {
	return tenancy.UnsafeBind(context.Background(),
		tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive, Placement: p}, "benchmark")
}
