package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
)

const many = 100_000

// fill makes many tenants of every status, a tenth with a parent, in one statement.
var fill = map[sqlstore.Dialect][]string{
	sqlstore.SQLite: {
		`
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
		INSERT INTO tenancy_tenants (id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at)
		SELECT printf('id-%06d', i), printf('t-%06d', i * 7919 % 100000), 'A tenant',
			CASE i % 10 WHEN 0 THEN 'suspended' WHEN 1 THEN 'purged' WHEN 2 THEN 'inactive'
				WHEN 3 THEN 'archived' WHEN 4 THEN 'provisioning' ELSE 'active' END, '',
			CASE WHEN i / 10 % 10 = 0 THEN 'holding' ELSE '' END, '', '{}', 'null', 'null', 1, 0, 0
		FROM n`,
		`INSERT INTO tenancy_names SELECT id, id FROM tenancy_tenants UNION ALL SELECT slug, id FROM tenancy_tenants`,
	},
	sqlstore.MariaDB: {
		`
		INSERT INTO tenancy_tenants (id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at)
		SELECT concat('id-', lpad(seq, 6, '0')), concat('t-', lpad(seq * 7919 % 100000, 6, '0')), 'A tenant',
			CASE seq % 10 WHEN 0 THEN 'suspended' WHEN 1 THEN 'purged' WHEN 2 THEN 'inactive'
				WHEN 3 THEN 'archived' WHEN 4 THEN 'provisioning' ELSE 'active' END, '',
			CASE WHEN seq DIV 10 % 10 = 0 THEN 'holding' ELSE '' END, '', '{}', 'null', 'null', 1, 0, 0
		FROM seq_0_to_99999`,
		`INSERT INTO tenancy_names SELECT id, id FROM tenancy_tenants UNION ALL SELECT slug, id FROM tenancy_tenants`,
		`ANALYZE TABLE tenancy_tenants, tenancy_names`,
	},
	sqlstore.PostgreSQL: {
		`
		INSERT INTO tenancy.tenants (id, slug, name, status, status_reason, parent, region, placement, aliases, metadata, revision, created_at, updated_at)
		SELECT 'id-' || lpad(i::text, 6, '0'), 't-' || lpad((i * 7919 % 100000)::text, 6, '0'), 'A tenant',
			CASE i % 10 WHEN 0 THEN 'suspended' WHEN 1 THEN 'purged' WHEN 2 THEN 'inactive'
				WHEN 3 THEN 'archived' WHEN 4 THEN 'provisioning' ELSE 'active' END, '',
			CASE WHEN i / 10 % 10 = 0 THEN 'holding' ELSE '' END, '', '{}', 'null', 'null', 1, now(), now()
		FROM generate_series(0, 99999) AS i`,
		`INSERT INTO tenancy.names SELECT id, id FROM tenancy.tenants UNION ALL SELECT slug, id FROM tenancy.tenants`,
		`ANALYZE`,
	},
}

// The plan of every offered combination of filters reads rows of one page only, per status,
// from an index that has them in order.
func TestListsAndLookupsOfManyTenantsStayOnAnIndex(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		var db *sql.DB
		var recorded *recorder
		switch e.dialect {
		case sqlstore.SQLite:
			db, recorded = record(t, "sqlite", sqliteURL(t)+"&_pragma=cache_size(-200000)")
		case sqlstore.PostgreSQL:
			server := servers.Postgres(t)
			db, recorded = record(t, "pgx", server.URL(server.CreateDatabase(t)))
		case sqlstore.MariaDB:
			server := servers.MariaDB(t)
			db, recorded = record(t, "mysql", server.DSN(server.CreateDatabase(t)))
		}
		ctx := t.Context()
		store := newStore(t, db, e.config())
		if err := store.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		for _, statement := range fill[e.dialect] {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
		only := func(fn func() error) statement {
			t.Helper()
			all := recorded.during(func() {
				if err := fn(); err != nil {
					t.Fatal(err)
				}
			})
			if len(all) != 1 {
				t.Fatalf("%d statements are run; want one: %v", len(all), all)
			}
			return all[0]
		}
		const limit = 50
		for _, statuses := range [][]tenancy.Status{nil, {tenancy.StatusActive}, {tenancy.StatusArchived, tenancy.StatusPurged}, tenancy.Statuses()} {
			for _, parent := range []string{"", "holding", "nobody"} {
				for _, prefix := range []string{"", "t-", "t-00", "x"} {
					for _, after := range []bool{false, true} {
						opts := tenancy.ListOptions{Statuses: statuses, Parent: parent, Prefix: prefix, Limit: limit}
						if after {
							opts.After = "id-050000"
							if prefix != "" {
								opts.After = "t-000700"
							}
						}
						wanted := max(len(statuses), 1) // purged is left out by default, so five
						if statuses == nil {
							wanted = 5
						}
						s := only(func() error { _, err := store.List(ctx, opts); return err })
						bounded(t, e, db, fmt.Sprintf("List(%+v)", opts), s, wanted*(limit+1))
					}
				}
			}
		}
		for _, ref := range []tenancy.Ref{tenancy.ByID("id-000007"), tenancy.BySlug("t-000007"), tenancy.ByIDOrSlug("t-000007")} {
			s := only(func() error { _, err := store.Lookup(ctx, ref); return err })
			bounded(t, e, db, fmt.Sprintf("Lookup(%s)", ref), s, 2)
		}
		everyTenantIsListedOnce(t, store)
	})
}

func everyTenantIsListedOnce(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	seen := map[string]bool{}
	for _, status := range tenancy.Statuses() {
		opts := tenancy.ListOptions{Statuses: []tenancy.Status{status}, Limit: 1000}
		for {
			page, err := store.List(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, tenant := range page.Tenants {
				if seen[tenant.ID] || tenant.Status != status {
					t.Fatalf("tenant %q, which is %s, is listed again or among the %s", tenant.ID, tenant.Status, status)
				}
				seen[tenant.ID] = true
			}
			if opts.After = page.Next; opts.After == "" {
				break
			}
		}
	}
	if len(seen) != many {
		t.Fatalf("%d tenants were listed; want %d", len(seen), many)
	}
}

// bounded fails when a statement reads more rows than limit. What it sorts is then bounded
// as well.
func bounded(t *testing.T, e engine, db *sql.DB, what string, s statement, limit int) {
	t.Helper()
	if e.dialect == sqlstore.SQLite {
		for _, step := range sqlitePlan(t, db, s) {
			// The page of each status comes from a subquery with a limit, and only those few
			// rows may be scanned and sorted. A range of an index has both its ends.
			scans := strings.HasPrefix(step.text, "SCAN") && !tenancy.Status(strings.TrimPrefix(step.text, "SCAN ")).Valid()
			sorts := strings.Contains(step.text, "TEMP B-TREE") && (step.inSubquery || !strings.HasPrefix(s.text, "SELECT * FROM ("))
			ranges := strings.HasPrefix(step.text, "SEARCH") && strings.Contains(step.text, ">") != strings.Contains(step.text, "<")
			if scans || sorts || ranges {
				t.Errorf("%s: the plan has a step %q", what, step.text)
			}
		}
		return
	}
	if e.dialect == sqlstore.MariaDB {
		rows := 0
		for _, table := range mariaDBPlan(t, db, s) {
			// Above the pages of the statuses only their few rows are read and sorted.
			if derived := strings.HasPrefix(table.Name, "<"); derived {
				continue
			}
			if table.Access != "range" && table.Access != "ref" && table.Access != "eq_ref" && table.Access != "const" {
				t.Errorf("%s: the plan has %s on %s", what, table.Access, table.Name)
			}
			if table.sorted {
				t.Errorf("%s: rows of %s are sorted", what, table.Name)
			}
			rows += int(math.Round(table.Rows * table.Loops))
		}
		if rows > limit {
			t.Errorf("%s: %d rows are read; want %d at most", what, rows, limit)
		}
		return
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		plan := postgresPlan(t, db, s, mode)
		rows := 0
		plan.walk(func(n node) {
			if n.Type == "Seq Scan" || n.Type == "Bitmap Heap Scan" {
				t.Errorf("%s (%s): the plan has a %s on %s", what, mode, n.Type, n.Relation)
			}
			if n.Relation != "" {
				rows += int(n.Rows*n.Loops) + n.Removed
			}
		})
		if rows > limit {
			t.Errorf("%s (%s): %d rows are read; want %d at most", what, mode, rows, limit)
		}
	}
}

// step is a line of SQLite's plan.
type step struct {
	text       string
	inSubquery bool // it works on what is in the subquery of a FROM, not on its rows
}

func sqlitePlan(t *testing.T, db *sql.DB, s statement) (steps []step) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+s.text, s.args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	subqueries := map[int]bool{}
	for rows.Next() {
		var id, parent, unused int
		var text string
		if err := rows.Scan(&id, &parent, &unused, &text); err != nil {
			t.Fatal(err)
		}
		subqueries[id] = subqueries[parent] || strings.HasPrefix(text, "CO-ROUTINE") || strings.HasPrefix(text, "MATERIALIZE")
		steps = append(steps, step{text, subqueries[parent]})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 {
		t.Fatalf("no plan for %s", s)
	}
	return steps
}

// node is a step of PostgreSQL's plan, as it ran.
type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  int     `json:"Rows Removed by Filter"`
	Plans    []node  `json:"Plans"`
}

func (n node) walk(visit func(node)) {
	visit(n)
	for _, child := range n.Plans {
		child.walk(visit)
	}
}

// postgresPlan explains s as a prepared statement, planned with or without its values.
func postgresPlan(t *testing.T, db *sql.DB, s statement, mode string) node {
	t.Helper()
	ctx := t.Context()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	values := make([]string, len(s.args))
	for i, arg := range s.args {
		values[i] = "'" + strings.ReplaceAll(fmt.Sprint(arg), "'", "''") + "'"
	}
	for _, statement := range []string{"SET plan_cache_mode = " + mode, "PREPARE listing AS " + s.text} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "DEALLOCATE listing") }()
	var text []byte
	if err := conn.QueryRowContext(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE listing ("+strings.Join(values, ", ")+")").Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// access is how MariaDB's plan reads a table, as it ran.
type access struct {
	Name   string  `json:"table_name"`
	Access string  `json:"access_type"`
	Rows   float64 `json:"r_rows"`
	Loops  float64 `json:"r_loops"`
	sorted bool
}

func mariaDBPlan(t *testing.T, db *sql.DB, s statement) []access {
	t.Helper()
	text := s.text
	for _, arg := range s.args {
		value := fmt.Sprint(arg)
		if _, number := arg.(int64); !number {
			value = "'" + value + "'" // of letters, digits and hyphens
		}
		text = strings.Replace(text, "?", value, 1)
	}
	var plan []byte
	if err := db.QueryRowContext(t.Context(), "ANALYZE FORMAT=JSON "+text).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(plan, &tree); err != nil {
		t.Fatal(err)
	}
	var all []access
	findTables(t, tree, false, &all)
	if len(all) == 0 {
		t.Fatalf("no plan for %s: %s", s, plan)
	}
	return all
}

// findTables collects the tables of a plan.
func findTables(t *testing.T, v any, sorted bool, all *[]access) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, child := range v {
			findTables(t, child, sorted, all)
		}
	case map[string]any:
		if _, ok := v["table_name"]; ok {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			table := access{sorted: sorted}
			if err := json.Unmarshal(text, &table); err != nil {
				t.Fatal(err)
			}
			*all = append(*all, table)
		}
		for key, child := range v {
			// What is materialized for a derived table is a query of its own.
			findTables(t, child, (sorted || key == "filesort" || key == "read_sorted_file") && key != "materialized", all)
		}
	}
}
