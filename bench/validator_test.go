package bench_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"lexigram.dev/tenancy"
)

const cachedTenants = 100_000

// numbered is the nth tenant, made anew with every string of its own.
func numbered(slug string) tenancy.Tenant {
	return tenancy.Tenant{
		ID: "0197f3c0-0000-7000-8000-" + slug[1:], Slug: slug, Name: "Customer " + slug, Status: tenancy.StatusActive,
		Placement: tenancy.Placement{Strategy: tenancy.StrategyRowLevel, Server: "main"}, Revision: 1,
	}
}

func slugOf(n uint64) string { return fmt.Sprintf("t%012d", n) }

// BenchmarkValidator is a cached tenant out of 100 000, asked for with Zipf's frequencies,
// against the same out of a map that nobody writes to.
func BenchmarkValidator(b *testing.B) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	v, err := tenancy.NewValidator(tenancy.ValidatorConfig{
		Directory: tenancy.DirectoryFunc(func(_ context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
			return numbered(ref.Value()), nil
		}),
		Resolution: tenancy.ResolutionConfig{CacheSize: cachedTenants + cachedTenants/10},
	})
	must(b, err)
	ctx := context.Background()
	for n := range uint64(cachedTenants) {
		_, err := v.Validate(ctx, tenancy.BySlug(slugOf(n)))
		must(b, err)
	}
	perTenant := (heap() - before) / cachedTenants

	plain := make(map[tenancy.Ref]*tenancy.Tenant, cachedTenants)
	for n := range uint64(cachedTenants) {
		t := numbered(slugOf(n))
		plain[tenancy.BySlug(t.Slug)] = &t
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, cachedTenants-1)
	asked := make([]tenancy.Ref, 1<<16)
	for i := range asked {
		asked[i] = tenancy.BySlug(slugOf(zipf.Uint64()))
	}
	errWrong := errors.New("another tenant, or none")
	through := func(find func(ref tenancy.Ref) (tenancy.Tenant, error)) func() error {
		i := 0
		return func() error {
			ref := asked[i%len(asked)]
			i++
			if t, err := find(ref); err != nil || t.Slug != ref.Value() {
				return errWrong
			}
			return nil
		}
	}
	b.ResetTimer()
	compare(b, map[string]float64{"cpu-ns/op": 100, "allocs/op": 0, "B/tenant": 1024},
		side{op: through(func(ref tenancy.Ref) (tenancy.Tenant, error) { return *plain[ref], nil })},
		side{
			op:       through(func(ref tenancy.Ref) (tenancy.Tenant, error) { return v.Validate(ctx, ref) }),
			measured: func(b *testing.B, _ int) { b.ReportMetric(perTenant, "B/tenant") },
		},
	)
}

// BenchmarkScope is the question that every data access asks.
func BenchmarkScope(b *testing.B) {
	ctx := tenancy.ReadOnly(inTenant("acme", tenancy.Placement{})) // with a value on top
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tenancy.ScopeOf(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
