package isolation

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Apply makes what is missing of the wall, alone among the processes that do. When the wall stands
// already, it changes nothing. Triggers come before views, so that no view stands unguarded. What
// only the application can mend, such as a unique key without the tenant, it leaves to
// [MariaDBRows.Verify]. The db is the migrator's, in any database.
func (r *MariaDBRows) Apply(ctx context.Context, db *sql.DB) error {
	if err := r.validate(); err != nil {
		return err
	}
	return r.alone(ctx, db, func(conn *sql.Conn) error {
		wall := r.wall()
		for _, statement := range wall.Tables() {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		b, err := r.read(ctx, conn)
		if err != nil {
			return err
		}
		if err := r.prepare(ctx, conn, b); err != nil {
			return fmt.Errorf("wall the tables of %q: %w", r.Base, err)
		}
		if b, err = r.read(ctx, conn); err != nil {
			return err
		}
		tables, err := r.tables(b)
		if err != nil {
			return fmt.Errorf("wall the tables of %q: %w", r.Base, err)
		}
		return r.make(ctx, conn, b, wall.Objects(tables))
	})
}

// Down returns the SQL that takes the wall away again: the way out. Tables, rows and the tenants'
// logins stay; the logins then reach nothing.
func (r *MariaDBRows) Down() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	wall := r.wall()
	lines := []string{"DROP DATABASE IF EXISTS " + dialect.MariaDBIdent(r.Views)}
	for _, table := range append(slices.Clone(r.Shared), sortedKeys(r.Tables)...) {
		for _, event := range []string{"INSERT", "UPDATE", "DELETE"} {
			lines = append(lines, wall.Drop("trigger", dialect.MariaDBTrigger(table, event)))
		}
	}
	lines = append(lines, wall.Drop("table", dialect.MariaDBSeals), wall.Drop("table", dialect.MariaDBLogins))
	return strings.Join(lines, ";\n") + ";\n", nil
}

// mariaDBSettings keep what is made independent of the session that makes it.
const mariaDBSettings = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', character_set_client = utf8mb4, " +
	"character_set_results = utf8mb4, collation_connection = utf8mb4_general_ci"

// alone runs fn on a connection of its own that has a lock, and ends the connection.
func (r *MariaDBRows) alone(ctx context.Context, db *sql.DB, fn func(conn *sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }() // the settings and the lock go with it
	if _, err := conn.ExecContext(ctx, mariaDBSettings); err != nil {
		return err
	}
	var locked sql.NullBool
	if err := conn.QueryRowContext(ctx, "SELECT get_lock(concat('tenancy ', sha1(?)), 60)", r.Base).Scan(&locked); err != nil {
		return err
	}
	if !locked.Bool {
		return fmt.Errorf("another process walls the tables of %q for a minute already: try again when it is done", r.Base)
	}
	return fn(conn)
}

// mariaDBBase is what the server's catalogue says about the tables and their wall.
type mariaDBBase struct {
	tables         map[string]*mariaDBBaseTable
	foreign        []mariaDBForeignKey
	inViews        map[[2]string]bool   // kind and name
	stands         map[[2]string]string // kind and name to what the server made of it
	wanted, sealed map[[2]string]string // the same to what it was made from, and what it was then
}

type mariaDBBaseTable struct {
	engine  string
	columns []mariaDBColumn
	indexes []mariaDBIndex
}

type mariaDBColumn struct {
	name, kind, collation string
	nullable, invisible   bool
	natural               bool // a number that cannot be negative
	byDefault             string
	mute                  bool // NOT NULL, and nobody says what it is by default
}

type mariaDBIndex struct {
	name           string
	unique, usable bool
	columns        []string // whole ones; "" for a part of one
}

type mariaDBForeignKey struct {
	schema, table, name, parent string
	columns                     map[string]string // of the child to the parent's
}

func (t *mariaDBBaseTable) column(name string) (mariaDBColumn, bool) {
	i := slices.IndexFunc(t.columns, func(c mariaDBColumn) bool { return strings.EqualFold(c.name, name) })
	if i < 0 {
		return mariaDBColumn{}, false
	}
	return t.columns[i], true
}

// leading returns the indexes that find a tenant's rows.
func (t *mariaDBBaseTable) leading(column string) []string {
	var names []string
	for _, i := range t.indexes {
		if i.usable && strings.EqualFold(i.columns[0], column) {
			names = append(names, i.name)
		}
	}
	return names
}

func (r *MariaDBRows) column(table string) string { return cmpOr(r.Tables[table], defaultTenantColumn) }

// read reads the catalogue.
func (r *MariaDBRows) read(ctx context.Context, conn *sql.Conn) (*mariaDBBase, error) {
	b := &mariaDBBase{
		tables: map[string]*mariaDBBaseTable{}, inViews: map[[2]string]bool{},
		stands: map[[2]string]string{}, wanted: map[[2]string]string{}, sealed: map[[2]string]string{},
	}
	err := errors.Join(
		eachMariaDBRow(ctx, conn, b.scanColumn, dialect.MariaDBColumns, r.Base),
		eachMariaDBRow(ctx, conn, b.scanIndex, dialect.MariaDBIndexes, r.Base),
		eachMariaDBRow(ctx, conn, b.scanForeignKey, dialect.MariaDBForeignKeys, r.Base),
		eachMariaDBRow(ctx, conn, b.scanInViews, dialect.MariaDBInViews, r.Views, r.Views),
		eachMariaDBRow(ctx, conn, b.scanStands, dialect.MariaDBStands, r.Views, r.Views, r.Base),
	)
	if _, found := b.tables[dialect.MariaDBSeals]; err == nil && found {
		err = eachMariaDBRow(ctx, conn, b.scanSeal, r.wall().Seals())
	}
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of %q: %w", r.Base, err)
	}
	return b, nil
}

func eachMariaDBRow(ctx context.Context, conn *sql.Conn, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (b *mariaDBBase) scanColumn(rows *sql.Rows) error {
	var table, engine string
	var c mariaDBColumn
	if err := rows.Scan(&table, &engine, &c.name, &c.kind, &c.collation, &c.nullable, &c.invisible, &c.natural, &c.byDefault, &c.mute); err != nil {
		return err
	}
	if b.tables[table] == nil {
		b.tables[table] = &mariaDBBaseTable{engine: engine}
	}
	b.tables[table].columns = append(b.tables[table].columns, c)
	return nil
}

func (b *mariaDBBase) scanIndex(rows *sql.Rows) error {
	var table string
	var i mariaDBIndex
	var column sql.NullString
	var whole bool
	if err := rows.Scan(&table, &i.name, &i.unique, &i.usable, &column, &whole); err != nil {
		return err
	}
	t := b.tables[table]
	if t == nil { // a sequence or the like
		return nil
	}
	if n := len(t.indexes); n == 0 || t.indexes[n-1].name != i.name {
		t.indexes = append(t.indexes, i)
	}
	if !whole {
		column.String = ""
	}
	last := &t.indexes[len(t.indexes)-1]
	last.columns = append(last.columns, column.String)
	return nil
}

func (b *mariaDBBase) scanForeignKey(rows *sql.Rows) error {
	var k mariaDBForeignKey
	var column, parents string
	if err := rows.Scan(&k.schema, &k.table, &k.name, &column, &k.parent, &parents); err != nil {
		return err
	}
	n := len(b.foreign)
	if n == 0 || b.foreign[n-1].schema != k.schema || b.foreign[n-1].table != k.table || b.foreign[n-1].name != k.name {
		k.columns = map[string]string{}
		b.foreign = append(b.foreign, k)
		n++
	}
	b.foreign[n-1].columns[strings.ToLower(column)] = strings.ToLower(parents)
	return nil
}

func (b *mariaDBBase) scanInViews(rows *sql.Rows) error {
	var name, kind string
	err := rows.Scan(&name, &kind)
	b.inViews[[2]string{strings.ToLower(kind), name}] = true
	return err
}

func (b *mariaDBBase) scanStands(rows *sql.Rows) error {
	var kind, name, text string
	err := rows.Scan(&kind, &name, &text)
	b.stands[[2]string{kind, name}] = text
	return err
}

func (b *mariaDBBase) scanSeal(rows *sql.Rows) error {
	var kind, name, wanted, stands string
	err := rows.Scan(&kind, &name, &wanted, &stands)
	b.wanted[[2]string{kind, name}], b.sealed[[2]string{kind, name}] = wanted, stands
	return err
}

// prepare gives the tables what statements without the tenant's column, and the views, need.
func (r *MariaDBRows) prepare(ctx context.Context, conn *sql.Conn, b *mariaDBBase) error {
	var errs []error
	for _, name := range sortedKeys(r.Tables) {
		t := dialect.MariaDBTable{Name: name, Column: r.column(name)}
		table, found := b.tables[name]
		if !found {
			errs = append(errs, fmt.Errorf("table %q of MariaDB.Rows.Tables does not exist: run the migrations", name))
			continue
		}
		column, found := table.column(t.Column)
		if !found || !dialect.IsMariaDBTenantType(column.kind) {
			errs = append(errs, fmt.Errorf("table %q has no column %q that can hold a tenant's id: %s", name, t.Column, r.addColumn(b, name)))
			continue
		}
		t.Type, t.Natural = column.kind, column.natural
		if column.byDefault != t.Nobody() {
			if _, err := conn.ExecContext(ctx, r.wall().SetDefault(t)); err != nil {
				return err
			}
		}
		if len(table.leading(t.Column)) == 0 {
			if _, err := conn.ExecContext(ctx, r.wall().AddIndex(t)); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

// addColumn says how a table gets its tenant column. Rows cannot be a tenant's by way of their parent, as
// with [Via]: the server would ask a statement's conditions about others' rows first.
func (r *MariaDBRows) addColumn(b *mariaDBBase, table string) string {
	for _, k := range b.foreign {
		if _, walled := r.Tables[k.parent]; walled && k.schema == r.Base && k.table == table {
			return fmt.Sprintf("its rows belong to those of %s by the key %s, which no view on MariaDB can go by: "+
				"add the column, fill it in from %s, and put it into that key", k.parent, k.name, k.parent)
		}
	}
	return "add it, or give its name in MariaDB.Rows.Tables"
}

// tables returns the tables as the wall's text needs them, or why there is none for one.
func (r *MariaDBRows) tables(b *mariaDBBase) ([]dialect.MariaDBTable, error) {
	var tables []dialect.MariaDBTable
	var errs []error
	for _, name := range append(sortedKeys(r.Tables), slices.Sorted(slices.Values(r.Shared))...) {
		found, ok := b.tables[name]
		if !ok {
			errs = append(errs, fmt.Errorf("table %q does not exist: run the migrations", name))
			continue
		}
		t := dialect.MariaDBTable{Name: name}
		for _, c := range found.columns {
			if !c.invisible {
				t.Columns = append(t.Columns, c.name)
			}
		}
		if _, owned := r.Tables[name]; owned {
			column, ok := found.column(r.column(name))
			t.Column, t.Type, t.Collate, t.Natural = column.name, column.kind, column.collation, column.natural
			t.Indexes = found.leading(column.name)
			if !ok || len(t.Indexes) == 0 {
				errs = append(errs, fmt.Errorf("table %q has no index that begins with the column %q: run Provisioner.Setup", name, r.column(name)))
				continue
			}
		}
		tables = append(tables, t)
	}
	return tables, errors.Join(errs...)
}

// make makes the objects that are missing or not as they should be, and drops those of former times.
func (r *MariaDBRows) make(ctx context.Context, conn *sql.Conn, b *mariaDBBase, objects []dialect.MariaDBObject) error {
	wall := r.wall()
	var made []dialect.MariaDBObject
	keep := map[[2]string]bool{}
	for _, o := range objects {
		key := [2]string{o.Kind, o.Name}
		keep[key] = true
		if b.intact(o) {
			continue
		}
		if _, err := conn.ExecContext(ctx, o.SQL); err != nil {
			return fmt.Errorf("%w\nin: %s", err, o.SQL)
		}
		made = append(made, o)
	}
	for key := range b.wanted {
		if keep[key] {
			continue
		}
		if _, err := conn.ExecContext(ctx, wall.Drop(key[0], key[1])); err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, wall.Unseal(), key[0], key[1]); err != nil {
			return err
		}
	}
	if len(made) == 0 {
		return nil
	}
	now, err := r.read(ctx, conn)
	if err != nil {
		return err
	}
	for _, o := range made {
		if _, err := conn.ExecContext(ctx, wall.Seal(), o.Kind, o.Name, o.SQL, now.stands[[2]string{o.Kind, o.Name}]); err != nil {
			return err
		}
	}
	return nil
}

// intact reports whether an object is what would be made now, and is what the server made of it then.
func (b *mariaDBBase) intact(o dialect.MariaDBObject) bool {
	key := [2]string{o.Kind, o.Name}
	stands, found := b.stands[key]
	return found && b.wanted[key] == o.SQL && b.sealed[key] == stands
}

// Verify looks in the server's catalogue for every way past the wall that it knows: views, triggers
// and functions that are missing or were changed, tables and keys that cannot be walled, and what
// else is within the logins' reach. The db is the migrator's, in any database. It changes nothing.
func (r *MariaDBRows) Verify(ctx context.Context, db *sql.DB) (Report, error) {
	var report Report
	if err := r.validate(); err != nil {
		return report, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return report, err
	}
	defer conn.Close()
	b, err := r.read(ctx, conn)
	if err != nil {
		return report, err
	}
	report.Findings = slices.Concat(r.findTables(b), r.findForeignKeys(b), r.findObjects(b))
	slices.SortFunc(report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Detail, b.Detail))
	})
	return report, nil
}

// findUnlisted finds tables that are in no list.
func (r *MariaDBRows) findUnlisted(b *mariaDBBase) []Finding {
	var all []Finding
	for _, name := range sortedKeys(b.tables) {
		_, walled := r.Tables[name]
		if !walled && !slices.Contains(r.Shared, name) && !slices.Contains(r.Private, name) && !slices.Contains(dialect.MariaDBOwnTables, name) {
			all = append(all, Finding{unlisted, "table " + r.Base + "." + name, "nobody has said whether tenants' rows are in it", "name it in MariaDB.Rows.Tables, Shared or Private"})
		}
	}
	return all
}

// findTables finds tables that the wall cannot hold.
func (r *MariaDBRows) findTables(b *mariaDBBase) []Finding {
	var all []Finding
	for _, name := range sortedKeys(r.Tables) {
		find := func(kind, remedy, format string, args ...any) {
			all = append(all, Finding{kind, "table " + r.Base + "." + name, fmt.Sprintf(format, args...), remedy})
		}
		t, found := b.tables[name]
		if !found {
			find("table-missing", "run the migrations, or take it out of MariaDB.Rows.Tables", "it does not exist")
			continue
		}
		if t.engine != "InnoDB" {
			find("engine", "ALTER TABLE … ENGINE = InnoDB", "its engine is %s, which cannot roll back", t.engine)
		}
		c, found := t.column(r.column(name))
		switch {
		case !found:
			find("tenant-column", r.addColumn(b, name), "it has no column %q", r.column(name))
			continue
		case c.nullable:
			find("tenant-column", "make it NOT NULL", "the column %s may be NULL, and such rows are nobody's", c.name)
		case !dialect.IsMariaDBTenantType(c.kind):
			find("tenant-column", "make it varchar, char, uuid or a whole number", "in the type %s of the column %s two ids can be equal", c.kind, c.name)
		case c.collation != "" && !strings.HasSuffix(c.collation, "_bin"):
			find("tenant-column", "give it a binary collation, such as utf8mb4_bin", "in the collation %s of the column %s two ids can be equal", c.collation, c.name)
		}
		if len(t.leading(c.name)) == 0 {
			find("tenant-index", "run Provisioner.Setup", "no index begins with the column %s, so that conditions of a statement meet others' rows", c.name)
		}
		for _, other := range t.columns {
			if other.mute && other.name != c.name {
				find("column-default", "give it a DEFAULT: see row_level on MariaDB in docs/STRATEGIES.md",
					"the server can take the column %s for NULL in an UPDATE, which then does not find its row", other.name)
			}
		}
		for _, i := range t.indexes {
			if i.unique && !slices.ContainsFunc(i.columns, func(of string) bool { return strings.EqualFold(of, c.name) }) {
				find("unique-key", "put the tenant's column into it", "the unique key %s lacks the column %s: it tells a tenant what others have", i.name, c.name)
			}
		}
	}
	return all
}

// findForeignKeys finds keys by which a row can refer to another tenant's, or be deleted with it.
func (r *MariaDBRows) findForeignKeys(b *mariaDBBase) []Finding {
	var all []Finding
	for _, k := range b.foreign {
		if _, walled := r.Tables[k.parent]; !walled {
			continue
		}
		_, walled := r.Tables[k.table]
		if walled = walled && k.schema == r.Base; walled && k.columns[strings.ToLower(r.column(k.table))] == strings.ToLower(r.column(k.parent)) {
			continue
		}
		f := Finding{
			Kind: "foreign-key", Object: "table " + k.schema + "." + k.table,
			Detail: fmt.Sprintf("the foreign key %s to %s lacks the tenant", k.name, k.parent),
			Remedy: "put both tables' tenant columns into it",
		}
		if !walled {
			f.Detail = fmt.Sprintf("the foreign key %s leads to %s from a table that is not walled", k.name, k.parent)
			f.Remedy = "name the table in MariaDB.Rows.Tables, or drop the key"
		}
		all = append(all, f)
	}
	return all
}

// findObjects finds parts of the wall that are not as Apply makes them, and strangers among the views.
func (r *MariaDBRows) findObjects(b *mariaDBBase) []Finding {
	var all []Finding
	tables, err := r.tables(b)
	if err != nil {
		return append(all, Finding{"not-walled", "database " + r.Base, err.Error(), "run Provisioner.Setup"})
	}
	strangers := maps.Clone(b.inViews)
	for _, o := range r.wall().Objects(tables) {
		of := r.Views
		if o.Kind == "trigger" {
			of = r.Base
		} else {
			delete(strangers, [2]string{o.Kind, o.Name})
		}
		object := o.Kind + " " + of + "." + o.Name
		if _, found := b.stands[[2]string{o.Kind, o.Name}]; !found {
			all = append(all, Finding{o.Kind + "-missing", object, "it does not exist", "run Provisioner.Setup"})
		} else if !b.intact(o) {
			all = append(all, Finding{o.Kind + "-changed", object, "it is not what the wall needs now: it, or its table, was changed", "run Provisioner.Setup"})
		}
	}
	for key := range strangers {
		all = append(all, Finding{
			"views-stranger", key[0] + " " + r.Views + "." + key[1],
			"every tenant's login has rights on it", "drop it, or move it to another database",
		})
	}
	return all
}

// deleteTenant deletes a tenant's rows from all tables in one transaction. Their order does not
// matter: keys between them carry the tenant, so that what refers to a row goes with it.
func (r *MariaDBRows) deleteTenant(ctx context.Context, db *sql.DB, id string) error {
	return r.alone(ctx, db, func(conn *sql.Conn) error {
		b, err := r.read(ctx, conn)
		if err != nil {
			return err
		}
		tables, err := r.tables(b)
		if err != nil {
			return err
		}
		for _, f := range r.findForeignKeys(b) {
			return fmt.Errorf("the rows cannot be deleted safely: %s", f)
		}
		if _, err := conn.ExecContext(ctx, "SET SESSION foreign_key_checks = 0"); err != nil {
			return err
		}
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		for _, t := range tables {
			if t.Column == "" {
				continue
			}
			if _, err := tx.ExecContext(ctx, r.wall().DeleteTenant(t), id, id); err != nil {
				return fmt.Errorf("delete the rows of %q: %w", t.Name, err)
			}
		}
		return tx.Commit()
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
