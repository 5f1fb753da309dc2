package isolation

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// sqliteSchema is what a file has.
type sqliteSchema struct {
	tables   map[string]*sqliteTable // and views
	foreign  []sqliteForeignKey
	triggers [][2]string // name, table
	views    map[string][]string
}

// sqliteTable is a table or a view.
type sqliteTable struct {
	kind    string // table, view, virtual, shadow
	columns []sqliteColumn
	uniques map[string][]string // columns by index
	rowid   bool

	collation string // of the tenant's column
}

type sqliteColumn struct {
	name, kind string
	notNull    bool
	key        int // place in the primary key, from 1
}

type sqliteForeignKey struct {
	table, parent      string
	columns            [][2]string // of the table, of the parent
	onUpdate, onDelete string
}

// readSQLite reads the schema of a file, and of the walled tables how their ids are compared.
func readSQLite(ctx context.Context, db *sql.DB, walled []dialect.SQLiteTable) (*sqliteSchema, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	f := &sqliteSchema{tables: map[string]*sqliteTable{}, views: map[string][]string{}}
	roots := map[int64]string{}
	for _, read := range []struct {
		query string
		row   func(rows *sql.Rows) error
	}{
		{dialect.SQLiteTableKinds, f.readTable},
		{dialect.SQLiteColumns, f.readColumn},
		{dialect.SQLiteUniques, f.readUnique},
		{dialect.SQLiteForeignKeys, f.readForeignKey},
		{dialect.SQLiteObjects, func(rows *sql.Rows) error { return f.readObject(rows, roots) }},
	} {
		if err := eachRow(ctx, conn, read.query, read.row); err != nil {
			return nil, fmt.Errorf("look at the schema of %s: %w", sharedFile, err)
		}
	}
	for _, t := range walled {
		if table := f.tables[t.Name]; table != nil && table.column(t.Column) != nil {
			if err := explainSQLite(ctx, conn, dialect.SQLiteCollation(t), table.readCollation); err != nil {
				return nil, fmt.Errorf("look at table %q of %s: %w", t.Name, sharedFile, err)
			}
		}
	}
	for name, table := range f.tables {
		if table.kind == "view" {
			// A view that cannot be read shows nothing.
			_ = explainSQLite(ctx, conn, dialect.SQLiteReads(name), func(op sqliteOperation) {
				if op.code == "OpenRead" && op.p3 == 0 && !slices.Contains(f.views[name], roots[op.p2]) {
					f.views[name] = append(f.views[name], roots[op.p2])
				}
			})
		}
	}
	return f, nil
}

func (f *sqliteSchema) readTable(rows *sql.Rows) error {
	var name string
	t := &sqliteTable{uniques: map[string][]string{}}
	var without bool
	err := rows.Scan(&name, &t.kind, &without)
	t.rowid = !without
	f.tables[name] = t
	return err
}

func (f *sqliteSchema) readColumn(rows *sql.Rows) error {
	var table string
	var c sqliteColumn
	err := rows.Scan(&table, &c.name, &c.kind, &c.notNull, &c.key)
	if t := f.tables[table]; t != nil {
		t.columns = append(t.columns, c)
	}
	return err
}

func (f *sqliteSchema) readUnique(rows *sql.Rows) error {
	var table, index, column string
	err := rows.Scan(&table, &index, &column)
	if t := f.tables[table]; t != nil {
		t.uniques[index] = append(t.uniques[index], column)
	}
	return err
}

func (f *sqliteSchema) readForeignKey(rows *sql.Rows) error {
	var k sqliteForeignKey
	var number, place int
	var from, to string
	if err := rows.Scan(&k.table, &number, &k.parent, &from, &to, &place, &k.onUpdate, &k.onDelete); err != nil {
		return err
	}
	if place == 0 {
		f.foreign = append(f.foreign, k)
	}
	if parent := f.lookUp(k.parent); to == "" && parent != nil {
		to = parent.key(place + 1)
	}
	last := &f.foreign[len(f.foreign)-1]
	last.columns = append(last.columns, [2]string{from, to})
	return nil
}

func (f *sqliteSchema) readObject(rows *sql.Rows, roots map[int64]string) error {
	var kind, name, table string
	var root int64
	err := rows.Scan(&kind, &name, &table, &root)
	if kind == "trigger" {
		f.triggers = append(f.triggers, [2]string{name, table})
	}
	roots[root] = table
	return err
}

// lookUp returns a table as SQLite finds it, whatever the case; nil without one.
func (f *sqliteSchema) lookUp(name string) *sqliteTable {
	for _, known := range sortedKeys(f.tables) {
		if strings.EqualFold(known, name) {
			return f.tables[known]
		}
	}
	return nil
}

// column returns a column; nil without one.
func (t *sqliteTable) column(name string) *sqliteColumn {
	for i := range t.columns {
		if strings.EqualFold(t.columns[i].name, name) {
			return &t.columns[i]
		}
	}
	return nil
}

// key returns the column at a place of the primary key.
func (t *sqliteTable) key(place int) string {
	for _, c := range t.columns {
		if c.key == place {
			return c.name
		}
	}
	return ""
}

// equal returns why two tenants' ids can be equal in a column; "" when they cannot.
func (t *sqliteTable) equal(column string) string {
	c := t.column(column)
	kind := strings.ToUpper(c.kind)
	text := kind == "" || strings.Contains(kind, "BLOB") ||
		!strings.Contains(kind, "INT") && (strings.Contains(kind, "CHAR") || strings.Contains(kind, "CLOB") || strings.Contains(kind, "TEXT"))
	switch {
	case !text:
		return fmt.Sprintf("in the type %s of the column %s two ids can be equal, such as 7 and 007", c.kind, c.name)
	case t.collation != "BINARY":
		return fmt.Sprintf("in the collation %s of the column %s two ids can be equal", cmp.Or(t.collation, "(unknown)"), c.name)
	}
	return ""
}

// sqliteOperation is a line of what EXPLAIN answers.
type sqliteOperation struct {
	code   string
	p2, p3 int64
	p4     string
}

func (t *sqliteTable) readCollation(op sqliteOperation) {
	if op.code == "Ne" || op.code == "Eq" {
		t.collation, _, _ = strings.Cut(op.p4, "-")
	}
}

func explainSQLite(ctx context.Context, conn *sql.Conn, query string, each func(op sqliteOperation)) error {
	return eachRow(ctx, conn, query, func(rows *sql.Rows) error {
		var op sqliteOperation
		var p4, comment sql.NullString
		var skip any
		err := rows.Scan(&skip, &op.code, &skip, &op.p2, &op.p3, &p4, &skip, &comment)
		op.p4 = p4.String
		each(op)
		return err
	})
}

// Verify looks in the shared file for what gets past the filter of reads or the triggers for writes:
// tables that nobody has classified, columns and keys in which tenants meet, foreign keys and cascades
// without the tenant, views of tenants' rows, triggers of the file's own. The db is one on the file
// itself; [DB.Verify] looks at the triggers of a tenant's connection as well. It changes nothing.
func (r *SQLiteRows) Verify(ctx context.Context, db *sql.DB) (Report, error) {
	var report Report
	if err := r.validate(); err != nil {
		return report, err
	}
	f, err := readSQLite(ctx, db, r.walled())
	if err != nil {
		return report, err
	}
	report.Findings = slices.Concat(r.findTables(f), r.findKeys(f), r.findForeignKeys(f), r.findViews(f), r.findTriggers(f))
	report.sort()
	for _, name := range sortedKeys(f.tables) {
		if f.tables[name].kind == "virtual" && slices.Contains(r.Shared, name) {
			report.Unseen = append(report.Unseen, fmt.Sprintf("the virtual table %s: what it reads is its module's", name))
		}
	}
	return report, nil
}

func (p *Report) sort() {
	slices.SortFunc(p.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Detail, b.Detail))
	})
}

// findTables finds tables that nobody has classified, and tenant columns that do not tell tenants apart.
func (r *SQLiteRows) findTables(f *sqliteSchema) []Finding {
	var all []Finding
	find := func(kind, name, remedy, format string, args ...any) {
		all = append(all, Finding{kind, "table " + name, fmt.Sprintf(format, args...), remedy})
	}
	for _, name := range sortedKeys(f.tables) {
		_, owned := r.Tables[name]
		if t := f.tables[name]; !owned && !slices.Contains(r.Shared, name) && t.kind != "view" {
			find("table-unlisted", name, "name it in SQLite.Rows.Tables or Shared", "nobody has said whether tenants' rows are in it")
		}
	}
	for _, name := range sortedKeys(r.Tables) {
		t := f.tables[name]
		if t == nil {
			find("table-missing", name, "run the migrations, or take it out of SQLite.Rows.Tables", "it does not exist")
			continue
		}
		if t.kind != "table" {
			find("table-kind", name, "make it a table", "it is a %s, which cannot have the triggers", t.kind)
			continue
		}
		column := r.column(name)
		switch c := t.column(column); {
		case c == nil:
			find("tenant-column", name, "add it, or give its name in SQLite.Rows.Tables", "it has no column %q", column)
		case t.equal(column) != "":
			find("tenant-column", name, "declare it as text", "%s", t.equal(column))
		case !c.notNull && (t.rowid || c.key == 0):
			find("tenant-column", name, "make it NOT NULL", "the column %s may be NULL, and such rows are nobody's", c.name)
		}
	}
	return all
}

// findKeys finds keys that tell a tenant what others have.
func (r *SQLiteRows) findKeys(f *sqliteSchema) []Finding {
	var all []Finding
	for _, name := range sortedKeys(r.Tables) {
		t, column := f.tables[name], r.column(name)
		if t == nil || t.kind != "table" {
			continue
		}
		find := func(key string) {
			all = append(all, Finding{
				"unique-key", key + " on " + name,
				fmt.Sprintf("it lacks the column %s: it tells a tenant what others have", column), "put the tenant's column into it",
			})
		}
		if first := t.column(t.key(1)); t.rowid && first != nil && t.key(2) == "" && strings.EqualFold(first.kind, "INTEGER") {
			find("primary key") // which is the rowid, and no index
		}
		for _, index := range sortedKeys(t.uniques) {
			if !slices.ContainsFunc(t.uniques[index], func(of string) bool { return strings.EqualFold(of, column) }) {
				find("index " + index)
			}
		}
	}
	return all
}

// findForeignKeys finds keys by which a row can refer to another tenant's, or change with it.
func (r *SQLiteRows) findForeignKeys(f *sqliteSchema) []Finding {
	var all []Finding
	for _, k := range f.foreign {
		parent := r.walledName(k.parent)
		if parent == "" {
			continue
		}
		child := r.walledName(k.table)
		if child != "" && slices.ContainsFunc(k.columns, func(pair [2]string) bool {
			return strings.EqualFold(pair[0], r.column(child)) && strings.EqualFold(pair[1], r.column(parent))
		}) {
			continue
		}
		var names []string
		for _, pair := range k.columns {
			names = append(names, pair[0])
		}
		find := Finding{
			Kind: "foreign-key", Object: fmt.Sprintf("foreign key (%s) on %s", strings.Join(names, ", "), k.table),
			Detail: fmt.Sprintf("it leads to %s without the tenant", k.parent), Remedy: "put both tables' tenant columns into it",
		}
		if child == "" {
			find.Detail = fmt.Sprintf("it leads to %s from a table that is not a tenant's", k.parent)
			find.Remedy = "name the table in SQLite.Rows.Tables, or drop the key"
		}
		if changes(k.onUpdate) || changes(k.onDelete) {
			find.Kind = "cascade"
			find.Detail += ", and changes rows with it"
		}
		all = append(all, find)
	}
	return all
}

func changes(action string) bool { return action != "NO ACTION" && action != "RESTRICT" }

// walledName returns the name of a tenants' table as Tables has it; "" for another.
func (r *SQLiteRows) walledName(name string) string {
	for known := range r.Tables {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return ""
}

// findViews finds views that show tenants' rows.
func (r *SQLiteRows) findViews(f *sqliteSchema) []Finding {
	var all []Finding
	for _, name := range sortedKeys(f.views) {
		for _, table := range f.views[name] {
			if r.walledName(table) != "" {
				all = append(all, Finding{
					"view", "view " + name, fmt.Sprintf("it reads %s of all tenants, and no filter reaches into it", table),
					"drop it, and filter in the query layer",
				})
			}
		}
	}
	for _, name := range sortedKeys(f.tables) {
		if f.tables[name].kind == "view" && f.views[name] == nil && !slices.Contains(r.Shared, name) {
			all = append(all, Finding{"table-unlisted", "view " + name, "nobody has said whether it shows tenants' rows", "name it in SQLite.Rows.Shared, or drop it"})
		}
	}
	return all
}

// findTriggers finds the triggers of the file itself.
func (r *SQLiteRows) findTriggers(f *sqliteSchema) []Finding {
	var all []Finding
	for _, t := range f.triggers {
		all = append(all, Finding{
			"trigger", fmt.Sprintf("trigger %s on %s", t[0], t[1]),
			"it runs inside every tenant's statements, and what it reads is not filtered", "drop it, or accept it when it reads no table",
		})
	}
	return all
}

// verify looks at the file, and at the connection of a tenant.
func (s SQLite) verify(ctx context.Context) (Report, error) {
	db := s.open(sharedFile)
	defer db.Close()
	report, err := s.Rows.Verify(ctx, db)
	if err != nil {
		return report, err
	}
	const tenant = "verify" // the triggers differ in no other way
	connection := sql.OpenDB(fencedFile{file{s, sharedFile}, tenant})
	defer connection.Close()
	found, err := s.Rows.verifyConnection(ctx, connection, tenant)
	report.Findings = append(report.Findings, found...)
	report.sort()
	return report, err
}

// verifyConnection finds what a tenant's connection lacks.
func (r *SQLiteRows) verifyConnection(ctx context.Context, db *sql.DB, tenant string) ([]Finding, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		const remedy = "mend the tables of SQLite.Rows.Tables"
		return []Finding{{"not-walled", "every connection", err.Error(), remedy}}, ctx.Err()
	}
	defer conn.Close()
	stands := map[string]string{}
	err = eachRow(ctx, conn, dialect.SQLiteTriggers, func(rows *sql.Rows) error {
		var name, text string
		err := rows.Scan(&name, &text)
		stands[name] = text
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at a connection to %s: %w", sharedFile, err)
	}
	script, err := dialect.SQLiteWriteWall(r.walled(), tenant)
	if err != nil {
		return nil, err
	}
	var all []Finding
	const remedy = "use a driver that runs the statements of its connections as they are"
	for _, statement := range script {
		name, want := dialect.SQLiteStands(statement)
		switch got, found := stands[name]; {
		case name == "":
		case !found:
			all = append(all, Finding{"trigger-missing", "trigger " + name, "a tenant's connection lacks it", remedy})
		case got != want:
			all = append(all, Finding{"trigger-changed", "trigger " + name, "on a tenant's connection it is not what this version makes", remedy})
		}
	}
	for pragma, why := range map[string]string{
		"recursive_triggers": "a REPLACE meets no trigger",
		"foreign_keys":       "foreign keys are not looked at: set SQLite.Options so that the driver turns them on",
	} {
		var on bool
		if err := conn.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&on); err != nil {
			return nil, errors.Join(fmt.Errorf("look at a connection to %s", sharedFile), err)
		}
		if !on {
			all = append(all, Finding{"setting", "pragma " + pragma, "it is off on a tenant's connection, so that " + why, "turn it on in SQLite.Options"})
		}
	}
	return all, nil
}
