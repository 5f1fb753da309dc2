package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lexigram.dev/tenancy/isolation"
)

// rowLeaks are the leaks of row filters.
var rowLeaks = []leak{
	{"R01 a condition with OR", 1, nil, conditionWithOr},
	{"R02 an upsert of another tenant's row", 1, nil, upsert},
	{"R03 an UPDATE of the tenant's column", 1, needsColumn, updateOfColumn},
	{"R04 every form of a query", 1, nil, forms},
	{"R05 joins and sub-queries", 1, nil, joins},
	{"R06 no tenant, in every form", 1, nil, formsUnbound},
	{"R07 an INSERT with another tenant's id", 1, needsColumn, foreignInsert},
	{"R08 bulk writes", 1, nil, bulkWrites},
	{"R09 a prepared write", 1, nil, preparedWrites},
	{"R10 equal keys of two tenants", 1, nil, equalKeys},
	{"R13 TRUNCATE", 1, nil, truncate},
	{"R14 bulk copies", 1, needsCopies, bulkCopies},
	{"R17 REPLACE", 1, needsReplace, replace},
	{"R18 an empty answer without a tenant", 1, nil, silentEmptiness},
}

func needsColumn(h Handle) string {
	return needs(h.TenantColumn == "", "Handle.TenantColumn is empty: each tenant has a table of its own")
}

func needsReplace(h Handle) string {
	return needs(h.Engine == isolation.EnginePostgreSQL, "PostgreSQL has no REPLACE")
}

func needsCopies(h Handle) string {
	return needs(len(h.Copies) == 0, "Handle.Copies is empty")
}

func conditionWithOr(f *fixture) {
	mine, foreign := f.any(f.a), f.any(f.b)
	for _, condition := range []string{"id = ? OR id = ?", "id = ? OR 1 = 1 OR id = ?", "NOT (id = ? AND id <> ?)", "id = ? OR owner <> ?"} {
		for _, args := range [][]any{{mine.id, foreign.id}, {foreign.id, mine.id}} {
			query := f.say(f.all + " WHERE " + condition)
			got, err := readRows(f.ctx(f.a), f.db, query, args...)
			f.must(err, "%s", query)
			f.must(own(f.a, got), "%s", query)
		}
	}
	for _, first := range []bool{true, false} {
		sacrifice := f.add(f.a)
		args := []any{sacrifice.id, foreign.id}
		if first {
			args = []any{foreign.id, sacrifice.id}
		}
		query := f.say("UPDATE " + f.table + " SET n = n + 1 WHERE id = ? OR id = ?")
		f.changes(f.db, f.a, 1, query, args...)
		sacrifice.n++
		f.expect(f.a, sacrifice)
		f.sees(f.db, f.b)
		f.changes(f.db, f.a, 1, f.say("DELETE FROM "+f.table+" WHERE id = ? OR id = ?"), args...)
		f.forget(f.a, sacrifice)
		f.sees(f.db, f.b)
	}
}

// upsert writes rows whose ids are another tenant's.
func upsert(f *fixture) {
	foreign := f.any(f.b)
	clause := " ON DUPLICATE KEY UPDATE n = n + 1"
	if standard(f.engine) {
		key := "id"
		if f.h.TenantColumn != "" {
			key = f.h.TenantColumn + ", id"
		}
		clause = " ON CONFLICT (" + key + ") DO UPDATE SET n = " + f.table + ".n + 1"
	}
	r := newRow(f.a)
	r.id = foreign.id
	for range 2 { // an INSERT, then an UPDATE of the own row
		_, err := f.db.ExecContext(f.ctx(f.a), f.insert+clause, r.values()...)
		f.must(err, "upsert")
		f.sees(f.db, f.b)
	}
	stored := r
	stored.n++
	f.expect(f.a, stored)
}

func updateOfColumn(f *fixture) {
	for _, query := range []string{
		"UPDATE " + f.table + " SET " + f.h.TenantColumn + " = ?",
		"UPDATE " + f.table + " SET n = n, " + f.h.TenantColumn + " = ?",
	} {
		_, err := f.db.ExecContext(f.ctx(f.a), f.say(query), f.b)
		f.refused(err, nil, "%s", query)
	}
}

// counts are forms of "how many rows are there?".
func (f *fixture) counts() []string {
	t := f.table
	return []string{
		"SELECT count(*) FROM " + t,
		"select COUNT(1) from " + t + " AS x",
		"SELECT count(*) FROM (SELECT * FROM " + t + ") AS x",
		"WITH x AS (SELECT id FROM " + t + ") SELECT count(*) FROM x",
		"SELECT sum(c) FROM (SELECT 1 AS c FROM " + t + " UNION ALL SELECT 0) AS x",
		"SELECT count(DISTINCT id) FROM " + t + " WHERE id IN (SELECT id FROM " + t + ")",
		"/* a comment */ SELECT count(*) -- and another\nFROM " + t,
		"SELECT (SELECT count(*) FROM " + t + ")",
	}
}

// number reads one number.
func number(rows *sql.Rows, err error) (n int64, _ error) {
	if err != nil {
		return 0, err
	}
	if rows.Next() {
		err = rows.Scan(&n)
	}
	return n, errors.Join(err, rows.Err(), rows.Close())
}

// answers fails the test unless a query answers with a number, or is refused for it cannot be kept
// in its tenant. It reports whether there was an answer.
func (f *fixture) answers(q querier, tenant, query string, want int64) bool {
	f.Helper()
	n, err := number(q.QueryContext(f.ctx(tenant), query))
	if f.kept(err) {
		return false
	}
	f.must(err, "%s", query)
	if n != want {
		f.Errorf("%s as tenant %q answers %d; want %d", query, tenant, n, want)
	}
	return true
}

func forms(f *fixture) {
	f.add(f.b)
	for _, tenant := range f.h.Tenants {
		answered, want := 0, f.count(tenant)
		for _, query := range f.counts() {
			if f.answers(f.db, tenant, query, want) {
				answered++
			}
		}
		tx := f.begin(f.ctx(tenant))
		for _, query := range f.counts() {
			f.answers(tx, tenant, query, want)
		}
		f.must(tx.Commit(), "commit")
		if answered == 0 {
			f.Error("every form is refused: nothing was shown")
		}
	}
}

func formsUnbound(f *fixture) {
	f.sees(f.db, f.a)
	for _, query := range f.counts() {
		n, err := number(f.db.QueryContext(f.base, query))
		f.refused(err, f.h.ErrNoTenant, "%s without a tenant, which answered %d", query, n)
	}
	f.sees(f.db, f.b)
}

func joins(f *fixture) {
	t, c, answered := f.table, f.count(f.a), 0
	for query, want := range map[string]int64{
		"SELECT count(*) FROM " + t + " AS l CROSS JOIN " + t + " AS r":                                                    c * c,
		"SELECT count(*) FROM " + t + " AS l, " + t + " AS r WHERE l.n = r.n OR l.id <> r.id":                              c * c,
		"SELECT count(*) FROM " + t + " AS l LEFT JOIN " + t + " AS r ON r.id <> l.id":                                     c * (c - 1),
		"SELECT count(*) FROM " + t + " AS l WHERE EXISTS (SELECT 1 FROM " + t + " AS r WHERE r.owner <> l.owner)":         0,
		"SELECT count(*) FROM (SELECT 1 AS one) AS x LEFT JOIN " + t + " AS r ON 1 = 1":                                    c,
		"SELECT count(*) FROM (SELECT id FROM " + t + " UNION SELECT id FROM " + t + ") AS x":                              c,
		"SELECT max((SELECT count(*) FROM " + t + " AS r WHERE r.owner <> l.owner)) FROM " + t + " AS l":                   0,
		"SELECT count(*) FROM " + t + " AS l JOIN (SELECT owner FROM " + t + " GROUP BY owner) AS r ON l.owner <> r.owner": 0,
	} {
		if f.answers(f.db, f.a, query, want) {
			answered++
		}
	}
	if answered == 0 {
		f.Error("every form is refused: nothing was shown")
	}
}

func foreignInsert(f *fixture) {
	query := f.say("INSERT INTO " + f.table + " (" + columns + ", " + f.h.TenantColumn + ") VALUES (?, ?, ?, ?, ?)")
	for _, tenant := range []string{"", "nobody", f.b} {
		r := newRow(f.a)
		_, err := f.db.ExecContext(f.ctx(f.a), query, append(r.values(), tenant)...)
		if err == nil && tenant == "" {
			f.expect(f.a, r) // no id given may be the tenant's own
			continue
		}
		f.refused(err, nil, "an INSERT of tenant %q with the id of tenant %q", f.a, tenant)
	}
}

func bulkWrites(f *fixture) {
	t := f.table
	// Nothing of the other tenant is found, so nothing changes.
	for _, query := range []string{
		"UPDATE " + t + " SET n = n + 1 WHERE owner = ?",
		"DELETE FROM " + t + " WHERE owner = ?",
		"DELETE FROM " + t + " WHERE id IN (SELECT id FROM (SELECT id, owner FROM " + t + ") AS x WHERE owner = ?)",
		"INSERT INTO " + t + " (" + columns + ") SELECT id, owner, n + 100, body FROM " + t + " WHERE owner = ?",
	} {
		n, err := f.execChanged(f.ctx(f.a), f.db, f.say(query), f.b)
		if !f.kept(err) {
			f.must(err, "%s", query)
			if n > 0 {
				f.Errorf("%s: changed %d rows of tenant %q", query, n, f.b)
			}
		}
		f.sees(f.db, f.b)
	}
	batch := []row{newRow(f.a), newRow(f.a), newRow(f.a), newRow(f.a)}
	var args []any
	for _, r := range batch {
		args = append(args, r.values()...)
		f.expect(f.a, r)
	}
	f.changes(f.db, f.a, int64(len(batch)), f.insertRows(len(batch)), args...)
	f.sees(f.db, f.a)
	if standard(f.engine) {
		got, err := readRows(f.ctx(f.a), f.db, "UPDATE "+t+" SET n = n + 1 RETURNING "+columns)
		f.must(err, "UPDATE … RETURNING")
		for _, r := range got {
			f.expect(f.a, r)
		}
		f.must(f.compare(f.a, got), "UPDATE … RETURNING")
		f.sees(f.db, f.b)
	}
	f.changes(f.db, f.a, f.count(f.a), "DELETE FROM "+t)
	f.rows[f.a] = map[string]row{}
	f.sees(f.db, f.b)
}

func preparedWrites(f *fixture) {
	insert, err := f.db.PrepareContext(f.ctx(f.a), f.insert)
	f.must(err, "prepare")
	defer insert.Close()
	remove, err := f.db.PrepareContext(f.ctx(f.b), f.remove)
	f.must(err, "prepare")
	defer remove.Close()
	for range 3 {
		for _, tenant := range f.h.Tenants {
			r := newRow(tenant)
			_, err := insert.ExecContext(f.ctx(tenant), r.values()...)
			f.must(err, "a prepared INSERT as tenant %q", tenant)
			f.expect(tenant, r)
			f.sees(f.db, tenant)
			gone := f.any(tenant)
			_, err = remove.ExecContext(f.ctx(tenant), gone.id)
			f.must(err, "a prepared DELETE as tenant %q", tenant)
			f.forget(tenant, gone)
			f.sees(f.db, tenant)
		}
	}
	_, err = insert.ExecContext(f.base, newRow(f.a).values()...)
	f.refused(err, f.h.ErrNoTenant, "a prepared INSERT without a tenant")
}

// equalKeys writes a key that another tenant has: a refusal would tell that it is there.
func equalKeys(f *fixture) {
	r := newRow(f.a)
	r.id = f.any(f.b).id
	_, err := f.db.ExecContext(f.ctx(f.a), f.insert, r.values()...)
	f.must(err, "an INSERT with a key that tenant %q has as well", f.b)
	f.expect(f.a, r)
	f.sees(f.db, f.b)
	_, err = f.db.ExecContext(f.ctx(f.a), f.insert, r.values()...)
	f.refused(err, nil, "an INSERT with a key that the tenant has itself")
}

// bulkCopies writes past INSERT, where COPY is refused or has to go round the wall.
func bulkCopies(f *fixture) {
	names := strings.Split(columns, ", ")
	for _, how := range slices.Sorted(maps.Keys(f.h.Copies)) {
		run := func(ctx context.Context, columns []string, values ...any) error {
			return f.h.Copies[how](ctx, f.db, columns, [][]any{values})
		}
		own, equal := newRow(f.a), newRow(f.a)
		equal.id = f.any(f.b).id
		for _, r := range []row{own, equal} {
			if err := run(f.ctx(f.a), names, r.values()...); err != nil {
				f.Logf("%s: refused: %v", how, err)
			} else {
				f.expect(f.a, r)
			}
			f.sees(f.db, f.a)
			f.sees(f.db, f.b)
		}
		if f.h.TenantColumn != "" {
			for _, tenant := range append([]string{"", "nobody"}, f.b) {
				err := run(f.ctx(f.a), append(slices.Clone(names), f.h.TenantColumn), append(newRow(f.a).values(), tenant)...)
				f.refused(err, nil, "%s as tenant %q of a row with the id of tenant %q", how, f.a, tenant)
				f.sees(f.db, f.b)
			}
		}
		f.refused(run(f.base, names, newRow(f.a).values()...), f.h.ErrNoTenant, "%s without a tenant", how)
		f.intact()
	}
}

func truncate(f *fixture) {
	text := "TRUNCATE TABLE " + f.table
	if f.engine == isolation.EngineSQLite {
		text = "DELETE FROM " + f.table // what SQLite optimizes to a TRUNCATE
	}
	if _, err := f.db.ExecContext(f.ctx(f.a), text); err == nil {
		f.rows[f.a] = map[string]row{}
	} else {
		f.Logf("refused: %v", err)
	}
	f.sees(f.db, f.b)
}

func replace(f *fixture) {
	r := newRow(f.a)
	r.id = f.any(f.b).id
	for range 2 {
		r.n++
		_, err := f.db.ExecContext(f.ctx(f.a), f.say("REPLACE INTO "+f.table+" ("+columns+") VALUES (?, ?, ?, ?)"), r.values()...)
		if f.kept(err) {
			r.n--
		} else {
			f.must(err, "REPLACE")
			f.expect(f.a, r)
		}
		f.sees(f.db, f.b)
		f.sees(f.db, f.a)
	}
}

// silentEmptiness asks for answers that a backfill or a worker would believe.
func silentEmptiness(f *fixture) {
	for _, query := range []string{
		"UPDATE " + f.table + " SET n = n + 1", "DELETE FROM " + f.table,
		fmt.Sprintf("DELETE FROM %s WHERE owner = '%s'", f.table, f.a),
		"INSERT INTO " + f.table + " (" + columns + ") SELECT " + columns + " FROM " + f.table,
	} {
		n, err := f.execChanged(f.base, f.db, query)
		f.refused(err, f.h.ErrNoTenant, "%s without a tenant, which changed %d rows", query, n)
		if f.h.Plain != nil {
			n, err = f.execChanged(f.base, f.h.Plain, query)
			f.refused(err, nil, "%s past the handle, which changed %d rows", query, n)
		}
	}
}
