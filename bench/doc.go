// Package bench answers what the library costs: its benchmarks do the same work with it and
// without it, by turns in one run, because only their ratio means anything on another machine.
//
//	make bench
//
// BenchmarkCells has each strategy on each engine, by each path and layer; the same cells again, as
// make bench prints them, are in docs/STRATEGIES.md. Its names can be chosen part by part:
//
//	make bench BENCH=Cells/schema/PostgreSQL/PgBouncer/Pool
//
// A case has the sub-benchmarks plain and scoped. A metric max-X that a benchmark reports is the
// budget of its metric X; cmd/ratios compares them. Nothing here is a test: a budget that is
// missed fails nobody's build.
package bench
