package bench_test

import (
	"testing"

	"lexigram.dev/tenancy"
)

// way is a layer over an access path.
type way struct {
	name    string
	layer   layer
	access  access
	tasks   []string
	ratio   float64 // the budget, of single statements and batches; 0 is none
	oneTrip bool    // a statement is one round trip, a transaction of k one more than k
}

var (
	ordinary = []string{selectOne, selectMany, updateOne, transaction, turns}
	// of pgx's own methods
	own = []string{selectOne, selectMany, updateOne, transaction, batch, turns}
	// of GORM, which adds the same to both sides
	fewer = []string{selectOne, selectMany, updateOne, transaction}
)

// The ways of a PostgreSQL server.
var (
	sqlDirect    = way{"sql+tenantpgx", bySQL, pipelined, ordinary, 1.5, true}
	sqlPooled    = way{"sql+tenantpgx", bySQL, pipelinedPooled, ordinary, 1.5, true}
	stdlibDirect = way{"sql+pgx", bySQL, standard, ordinary, 0, false}
	stdlibPooled = way{"sql+pgx", bySQL, standardPooled, ordinary, 0, false}
	poolDirect   = way{"Pool", byPool, pipelined, own, 1.4, true}
	poolPooled   = way{"Pool", byPool, pipelinedPooled, own, 1.4, true}
	gormDirect   = way{"GORM+tenantpgx", byGORM, pipelined, fewer, 0, false}
	gormPooled   = way{"GORM+tenantpgx", byGORM, pipelinedPooled, fewer, 0, false}

	directly = []way{sqlDirect, stdlibDirect, poolDirect, gormDirect}
	byPooler = []way{sqlPooled, stdlibPooled, poolPooled, gormPooled}
)

// The ways of the other engines, which have one driver.
var (
	sqlOnly      = way{name: "sql", layer: bySQL, tasks: ordinary}
	sqlWrites    = way{name: "sql", layer: bySQLFiltered, tasks: []string{updateOne}}
	gormOnly     = way{name: "GORM", layer: byGORM, tasks: fewer}
	gormFiltered = way{name: "GORM+tenantgorm", layer: byGORM, tasks: fewer}
)

// BenchmarkCells is each strategy on each engine by each path and layer, against the same layer
// without the library: the same tables, with the tenant in the WHERE clause, the schema in the table's
// name, or the tenant's own database opened for it.
func BenchmarkCells(b *testing.B) {
	const row, schema, database = tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase
	for _, cell := range []struct {
		strategy, engine, path string
		open                   func(b *testing.B) *site
		ways                   []way
	}{
		{row, "PostgreSQL", "direct", onPostgreSQL(row, direct), directly},
		{row, "PostgreSQL", "PgBouncer", onPostgreSQL(row, pooled), byPooler},
		{schema, "PostgreSQL", "direct", onPostgreSQL(schema, direct), directly},
		{schema, "PostgreSQL", "PgBouncer", onPostgreSQL(schema, pooled), byPooler},
		{database, "PostgreSQL", "direct", onPostgreSQL(database, direct), directly},
		{database, "PostgreSQL", "PgBouncer", onPostgreSQL(database, pooled), byPooler},
		{row, "MariaDB", "direct", onMariaDB(row), []way{sqlOnly, gormOnly}},
		{schema, "MariaDB", "direct", onMariaDB(schema), []way{sqlOnly, gormOnly}},
		{database, "MariaDB", "direct", onMariaDB(database), []way{sqlOnly, gormOnly}},
		{row, "SQLite", "file", onSQLite(row), []way{sqlWrites, gormFiltered}},
		{database, "SQLite", "file", onSQLite(database), []way{sqlOnly, gormOnly}},
	} {
		b.Run(cell.strategy+"/"+cell.engine+"/"+cell.path, func(b *testing.B) {
			s := cell.open(b)
			for _, w := range cell.ways {
				b.Run(w.name, func(b *testing.B) { w.run(b, s) })
			}
		})
	}
}

func (w way) run(b *testing.B, s *site) {
	var plainWire, scopedWire wire
	plain, scoped := w.layer(b, s, w.access, &plainWire, &scopedWire)
	for _, name := range w.tasks {
		b.Run(name, func(b *testing.B) {
			of := func(all [2]tasks) side {
				if name != turns {
					return side{op: all[0][name]}
				}
				n := 0
				return side{op: func() error {
					n++
					return all[n&1][selectOne]()
				}}
			}
			p, q := of(plain), of(scoped)
			if s.wired {
				p.measured = perOp("round-trips/op", plainWire.trips.Load)
				q.measured = perOp("round-trips/op", scopedWire.trips.Load)
			}
			compare(b, w.budgets(name), p, q)
		})
	}
}

func (w way) budgets(task string) map[string]float64 {
	all := make(map[string]float64)
	if w.ratio > 0 && task != transaction {
		all["ratio"] = w.ratio
	}
	if w.oneTrip {
		all["round-trips/op"] = 1
		if task == transaction {
			all["round-trips/op"] = perTx + 1
		}
	}
	return all
}
