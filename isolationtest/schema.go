package isolationtest

import (
	"fmt"
	"strings"

	"lexigram.dev/tenancy/isolation"
)

// schemaLeaks are the leaks of what stands around a table: keys, rights, views, new tables.
var schemaLeaks = []leak{
	{"R10 foreign keys", 1, needsRelated, foreignKeys},
	{"R11 the login's rights", 1, needsLogins, rights},
	{"R11 statements that take the wall down", 1, needsWall, takingDown},
	{"R12 a table that nobody walled", 1, needsMigrate, newTable},
	{"R15 partitions and views", 1, needsMigrate, viewsAndPartitions},
	{"R16 cascades", 1, needsRelated, cascades},
}

func needsRelated(h Handle) string {
	return needs(!h.Related, "Handle.Related is false: there are no tables of CreateRelated")
}

func needsLogins(h Handle) string {
	return needs(h.Engine == isolation.EngineSQLite, "SQLite has no logins")
}

func needsWall(h Handle) string {
	if h.TenantColumn == "" {
		return needsColumn(h)
	}
	return needsLogins(h)
}

// of returns the texts for a related table.
func (f *fixture) of(suffix string) texts {
	h := f.h
	h.Table += suffix
	return newTexts(h)
}

// has fails the test unless a tenant has exactly these rows in a related table.
func (f *fixture) has(tenant string, s texts, want ...row) {
	f.Helper()
	got, err := readRows(f.ctx(tenant), f.db, s.all)
	f.must(err, "%s as tenant %q", s.all, tenant)
	left := map[string]row{}
	for _, r := range want {
		left[r.id] = r
	}
	for _, r := range got {
		if left[r.id] != r {
			f.Errorf("tenant %q read %v in %s, which must not be there", tenant, r, s.table)
		}
		delete(left, r.id)
	}
	for _, r := range left {
		f.Errorf("tenant %q does not see its %v in %s", tenant, r, s.table)
	}
}

// put writes a row of a tenant into a related table.
func (f *fixture) put(tenant string, s texts, r row) error {
	_, err := f.db.ExecContext(f.ctx(tenant), s.insert, r.values()...)
	return err
}

// childOf returns a row of a tenant that belongs to a row in the parents' table.
func childOf(tenant string, p row) row {
	r := newRow(tenant)
	r.body = p.id
	return r
}

// family empties the related tables and gives tenant b a row in each.
func (f *fixture) family() (parents, children texts, p, c row) {
	f.Helper()
	parents, children = f.of(parent), f.of(child)
	for _, tenant := range f.h.Tenants {
		for _, s := range []texts{children, parents} {
			_, err := f.db.ExecContext(f.ctx(tenant), "DELETE FROM "+s.table)
			f.must(err, "empty %s of tenant %q", s.table, tenant)
		}
	}
	p = newRow(f.b)
	c = childOf(f.b, p)
	f.must(f.put(f.b, parents, p), "insert a row of tenant %q into %s", f.b, parents.table)
	f.must(f.put(f.b, children, c), "insert a row of tenant %q into %s", f.b, children.table)
	return parents, children, p, c
}

// foreignKeys refers to another tenant's row, which must not be accepted: it would tell that the row
// is there, and hold it.
func foreignKeys(f *fixture) {
	parents, children, p, c := f.family()
	f.refused(f.put(f.a, children, childOf(f.a, p)), nil, "a row of tenant %q that refers to a row of tenant %q", f.a, f.b)
	own := newRow(f.a)
	mine := childOf(f.a, own)
	f.must(f.put(f.a, parents, own), "insert")
	f.must(f.put(f.a, children, mine), "insert")
	query := f.say("UPDATE " + children.table + " SET body = ? WHERE id = ?")
	_, err := f.db.ExecContext(f.ctx(f.a), query, p.id, mine.id)
	f.refused(err, nil, "an UPDATE of tenant %q that refers to a row of tenant %q", f.a, f.b)
	equal := newRow(f.a)
	equal.id = p.id
	f.must(f.put(f.a, parents, equal), "an INSERT with a key that tenant %q has as well", f.b)
	also := childOf(f.a, equal)
	f.must(f.put(f.a, children, also), "an INSERT that refers to the own row of that key")
	f.has(f.a, parents, own, equal)
	f.has(f.a, children, mine, also)
	f.has(f.b, parents, p)
	f.has(f.b, children, c)
}

// cascades deletes a row whose key another tenant's rows name as well.
func cascades(f *fixture) {
	parents, children, p, _ := f.family()
	var want []row
	stray := childOf(f.a, p) // refused where keys hold the tenant
	if err := f.put(f.a, children, stray); err == nil {
		want = append(want, stray)
	}
	equal := newRow(f.a)
	equal.id = p.id
	if err := f.put(f.a, parents, equal); err == nil {
		mine := childOf(f.a, equal)
		f.must(f.put(f.a, children, mine), "insert")
		want = append(want, mine)
	}
	_, err := f.db.ExecContext(f.ctx(f.b), parents.remove, p.id)
	f.must(err, "delete the row of tenant %q", f.b)
	f.has(f.a, children, want...)
	f.has(f.b, parents)
	f.has(f.b, children)
}

// rights asks the server whether the login passes every wall.
func rights(f *fixture) {
	query := "SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'"
	if f.engine == isolation.EnginePostgreSQL {
		query = "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname IN (current_user, session_user) " +
			"AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication)"
	}
	for _, tenant := range f.h.Tenants {
		n, err := number(f.db.QueryContext(f.ctx(tenant), query))
		f.must(err, "%s", query)
		if n != 0 {
			f.Errorf("the login of tenant %q has rights on the whole server: %s answers %d", tenant, query, n)
		}
	}
}

// takingDown runs what only the owner of the wall may.
func takingDown(f *fixture) {
	statements := []string{
		"CREATE OR REPLACE VIEW " + f.table + " AS SELECT 1 AS id",
		"ALTER TABLE " + f.table + " ADD COLUMN leak int",
		"CREATE TRIGGER leak BEFORE DELETE ON " + f.table + " FOR EACH ROW SET @leak = 1",
		"DROP VIEW " + f.table,
	}
	if f.engine == isolation.EnginePostgreSQL {
		statements = []string{
			"CREATE POLICY leak ON " + f.table + " USING (true)",
			"ALTER TABLE " + f.table + " NO FORCE ROW LEVEL SECURITY",
			"ALTER TABLE " + f.table + " DISABLE ROW LEVEL SECURITY",
			"ALTER TABLE " + f.table + " OWNER TO current_user",
		}
		tx := f.begin(f.ctx(f.a))
		_, err := tx.ExecContext(f.ctx(f.a), "SET LOCAL row_security = off")
		if err == nil {
			var got []row
			if got, err = readRows(f.ctx(f.a), tx, f.all); err == nil {
				f.must(own(f.a, got), "with row_security off")
			}
		}
		f.Logf("with row_security off: %v", err)
		f.must(tx.Rollback(), "roll back")
	}
	for _, statement := range statements {
		_, err := f.db.ExecContext(f.ctx(f.a), statement)
		f.refused(err, nil, "%s", statement)
		f.sees(f.db, f.a)
		f.sees(f.db, f.b)
	}
}

// newTable makes a table with a row of tenant b that nobody has walled.
func newTable(f *fixture) {
	name := f.table + "_new"
	defer f.dropped("TABLE", name)
	f.migrate(CreateTable(f.engine, name, f.h.TenantColumn))
	f.migrate(f.insertInto(name))
	f.hidden(name)
}

// insertInto is the insert of a row of tenant b without parameters, for Handle.Migrate.
func (f *fixture) insertInto(table string) string {
	r, column, value := newRow(f.b), "", ""
	if f.h.TenantColumn != "" {
		column, value = f.h.TenantColumn+", ", "'"+f.b+"', "
	}
	return fmt.Sprintf("INSERT INTO %s (%s%s) VALUES (%s'%s', '%s', 0, '%s')", table, column, columns, value, r.id, r.owner, r.body)
}

// migrate runs a statement where the table of tenant b is.
func (f *fixture) migrate(statement string) {
	f.Helper()
	f.must(f.h.Migrate(f.base, f.b, statement), "migrate: %s", statement)
}

func (f *fixture) dropped(kind, name string) {
	f.Helper()
	if err := f.h.Migrate(f.base, f.b, "DROP "+kind+" IF EXISTS "+name); err != nil {
		f.Errorf("drop %s: %v", name, err)
	}
}

// viewsAndPartitions makes what shows the rows of a table under another name.
func viewsAndPartitions(f *fixture) {
	one, part := f.table+"_view", f.table+"_part"
	for _, o := range []struct {
		kind, name string
		postgres   bool
		shared     bool
		make       []string
		read       string
	}{
		{kind: "VIEW", name: one, make: []string{"CREATE VIEW " + one + " AS SELECT " + columns + " FROM " + f.table}, read: one},
		{
			kind: "MATERIALIZED VIEW", name: one, postgres: true,
			make: []string{"CREATE MATERIALIZED VIEW " + one + " AS SELECT " + columns + " FROM " + f.table}, read: one,
		},
		{
			kind: "TABLE", name: part, postgres: true, shared: true,
			make: []string{
				strings.TrimSuffix(CreateTable(f.engine, part, f.h.TenantColumn), ")") + ") PARTITION BY LIST (" + f.h.TenantColumn + ")",
				"CREATE TABLE " + part + "_b PARTITION OF " + part + " FOR VALUES IN ('" + f.b + "')",
				f.insertInto(part),
			},
			read: part + "_b",
		},
		{
			kind: "TABLE", name: part, postgres: true, shared: true,
			make: []string{"CREATE TABLE " + part + " () INHERITS (" + f.table + ")", f.insertInto(part)}, read: part,
		},
	} {
		if o.postgres && f.engine != isolation.EnginePostgreSQL || o.shared && f.h.TenantColumn == "" {
			continue
		}
		func() {
			defer f.dropped(o.kind, o.name)
			for _, statement := range o.make {
				if err := f.h.Migrate(f.base, f.b, statement); err != nil && o.kind == "MATERIALIZED VIEW" {
					f.Logf("%s: %v", statement, err) // the owner sees no row to put into it
				} else {
					f.must(err, "migrate: %s", statement)
				}
			}
			f.hidden(o.read)
		}()
	}
}

// hidden checks that what is there of tenant b under a name cannot be read or deleted as tenant a, or
// as nobody.
func (f *fixture) hidden(name string) {
	f.Helper()
	names := []string{name}
	if f.h.Qualified != nil {
		names = append(names, strings.Replace(f.h.Qualified(f.b), f.table, name, 1))
	}
	for _, name := range names {
		query := "SELECT " + columns + " FROM " + name
		if got, err := readRows(f.ctx(f.a), f.db, query); err != nil {
			f.Logf("%s as tenant %q: refused: %v", query, f.a, err)
		} else if err := own(f.a, got); err != nil {
			f.Errorf("%s: %v", query, err)
		}
		if n, err := f.execChanged(f.ctx(f.a), f.db, f.say("DELETE FROM "+name+" WHERE owner = ?"), f.b); err == nil && n > 0 {
			f.Errorf("tenant %q deleted %d rows of tenant %q from %s", f.a, n, f.b, name)
		}
		_, err := readRows(f.base, f.db, query)
		f.refused(err, f.h.ErrNoTenant, "%s without a tenant", query)
		if f.h.Plain != nil {
			_, err := readRows(f.base, f.h.Plain, query)
			f.refused(err, nil, "%s past the handle", query)
		}
	}
}
