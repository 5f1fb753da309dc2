package tenantgorm

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// clauseEnd is a clause without text that is built last.
const clauseEnd = "TENANTGORM"

// hookClauses lets the plugin write the clauses that decide which rows a statement reaches. They
// are hooked where GORM writes their text, because every way of making a statement ends there.
func (p *Plugin) hookClauses(db *gorm.DB) {
	for name, write := range map[string]func(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error{
		"SELECT":      writeSelect,
		"FROM":        writeFrom,
		"INSERT":      writeInsert,
		"VALUES":      writeValues,
		"ON CONFLICT": writeOnConflict,
		"UPDATE":      writeUpdate,
		"SET":         writeSet,
		"DELETE":      writeDelete,
		"WHERE":       writeWhere,
		"FOR":         writeLock,
	} {
		before := db.ClauseBuilders[name]
		db.ClauseBuilders[name] = func(c clause.Clause, builder clause.Builder) {
			build := func(c clause.Clause) {
				if before != nil {
					before(c, builder)
				} else {
					c.Build(builder)
				}
			}
			stmt, ok := builder.(*gorm.Statement)
			if !ok {
				build(c)
				return
			}
			w := workOf(stmt)
			switch {
			case w == nil || w.mode == modeAside:
				build(c)
			case w.mode == modeSystem:
				w.writeForSystem(name, stmt, c, build)
			case w.failed:
			case name != "SELECT" && (c.BeforeExpression != nil || c.AfterNameExpression != nil || c.AfterExpression != nil || c.Builder != nil):
				w.refuse(stmt, fmt.Errorf("%w: its %s has hints or text beside GORM's", ErrUnfiltered, name))
			default:
				if err := write(w, stmt, c, build); err != nil {
					w.refuse(stmt, err)
				}
			}
		}
	}
	db.ClauseBuilders[clauseEnd] = func(_ clause.Clause, builder clause.Builder) {
		if stmt, ok := builder.(*gorm.Statement); ok {
			if w := workOf(stmt); w != nil {
				w.finish(stmt)
			}
		}
	}
}

// writeForSystem adds nothing, but keeps a new row from belonging to nobody.
func (w *work) writeForSystem(name string, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) {
	if values, ok := c.Expression.(clause.Values); ok && name == "VALUES" {
		w.verb = "INSERT"
		if err := w.written(stmt); err == nil && w.column != "" { // unknown tables are the system's too
			if err := namesTenants(values, w.column); err != nil {
				w.refuse(stmt, err)
				return
			}
		}
	}
	build(c)
}

func namesTenants(values clause.Values, column string) error {
	at := indexOf(values.Columns, column)
	for _, row := range values.Values {
		if at < 0 {
			break
		}
		if _, empty, err := owner(row[at]); err != nil || !empty {
			if err != nil {
				return err
			}
			continue
		}
		at = -1
	}
	if at < 0 {
		return fmt.Errorf("a new row names no tenant in %q, and the context is the system's: set it, or use Tenancy.Within", column)
	}
	return nil
}

func indexOf(columns []clause.Column, column string) int {
	for i, c := range columns {
		if sameColumn(c.Name, column) {
			return i
		}
	}
	return -1
}

// writeSelect seals the SELECT. What it selects from is writeFrom's.
func writeSelect(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	w.verb = "SELECT"
	write(stmt, w.seal)
	build(c)
	return nil
}

// writeFrom writes a filtered sub-query in the place of every table. What may be said around it,
// in conditions, joins and orders, cannot reach past it.
func writeFrom(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	from, ok := c.Expression.(clause.From)
	if !ok {
		return fmt.Errorf("%w: its FROM is of type %T", ErrUnfiltered, c.Expression)
	}
	switch {
	case w.verb == "DELETE" && len(from.Tables)+len(from.Joins) > 0:
		return fmt.Errorf("%w: a DELETE names a second table: use a sub-query", ErrUnfiltered)
	case w.verb == "DELETE":
		if err := w.written(stmt); err != nil {
			return err
		}
		w.addWhere(stmt)
		write(stmt, sealSource)
		build(c)
		return nil
	case w.verb == "UPDATE" && len(from.Tables) == 0:
		return fmt.Errorf("%w: the FROM of an UPDATE names no table", ErrUnfiltered)
	case w.verb != "SELECT" && w.verb != "UPDATE":
		return fmt.Errorf("%w: a FROM without SELECT, UPDATE or DELETE", ErrUnfiltered)
	}
	write(stmt, sealSource+"FROM ")
	if len(from.Tables) == 0 {
		if err := w.writeCurrent(stmt); err != nil {
			return err
		}
	}
	for i, table := range from.Tables {
		if i > 0 {
			write(stmt, ",")
		}
		if err := w.writeTable(stmt, table); err != nil {
			return err
		}
	}
	for _, join := range from.Joins {
		write(stmt, " ")
		if err := w.writeJoin(stmt, join); err != nil {
			return err
		}
	}
	return nil
}

// writeCurrent writes the table of the statement.
func (w *work) writeCurrent(stmt *gorm.Statement) error {
	if stmt.TableExpr == nil {
		return w.writeTable(stmt, clause.Table{Name: stmt.Table})
	}
	text, vars, err := newReferences(w.plugin.dialect, stmt.TableExpr.SQL, stmt.TableExpr.Vars, w.source(stmt)).rewrite(true)
	if err != nil {
		return err
	}
	clause.Expr{SQL: text, Vars: vars}.Build(stmt)
	return nil
}

func (w *work) writeTable(stmt *gorm.Statement, table clause.Table) error {
	switch {
	case table.Name == clause.CurrentTable && table.Alias == "":
		return w.writeCurrent(stmt)
	case table.Name == clause.CurrentTable:
		table.Name = stmt.Table
	case table.Raw:
		return fmt.Errorf("%w: the table %q is raw text", ErrUnfiltered, table.Name)
	}
	alias := table.Alias
	if alias != "" {
		alias = stmt.Quote(clause.Table{Name: alias})
	}
	text, own, err := w.source(stmt)(table.Name, stmt.Quote(clause.Table{Name: table.Name}), alias)
	if err != nil {
		return err
	}
	source := clause.Expr{SQL: text}
	if own != nil {
		source.Vars = []any{own}
	}
	source.Build(stmt)
	return nil
}

// source returns what to write in the place of a table, see references.table.
func (w *work) source(stmt *gorm.Statement) func(name, written, alias string) (string, any, error) {
	return func(name, written, alias string) (string, any, error) {
		column, err := w.plugin.tables.columnOf(stmt, name)
		if err != nil {
			return "", nil, err
		}
		if column == "" {
			if alias != "" {
				written += " AS " + alias
			}
			return written, nil, nil
		}
		if alias == "" {
			alias = written[strings.LastIndexByte(written, '.')+1:]
		}
		return "(" + w.seal + "SELECT * " + sealSource + "FROM " + written +
			" WHERE " + stmt.Quote(clause.Column{Name: column}) + " = ?) AS " + alias, w.equals(clause.Column{Name: column}), nil
	}
}

// equals returns what stands behind the = of a tenant column. Ids are compared byte by byte, whatever the
// column's collation is; on MySQL and MariaDB the collation's own comparison stays, for the index.
func (w *work) equals(column clause.Column) any {
	switch w.plugin.dialect {
	case dialectMySQL:
		return clause.Expr{SQL: "? AND CONVERT(? USING utf8mb4) COLLATE utf8mb4_bin = ?", Vars: []any{w.tenantID, column, w.tenantID}}
	case dialectSQLite:
		return clause.Expr{SQL: "? COLLATE BINARY", Vars: []any{w.tenantID}}
	default:
		return w.tenantID
	}
}

func (w *work) writeJoin(stmt *gorm.Statement, join clause.Join) error {
	switch e := join.Expression.(type) {
	case nil:
	case clause.Expr:
		text, vars, err := newReferences(w.plugin.dialect, e.SQL, e.Vars, w.source(stmt)).rewrite(false)
		if err != nil {
			return err
		}
		clause.Expr{SQL: text, Vars: vars, WithoutParentheses: e.WithoutParentheses}.Build(stmt)
		return nil
	case clause.NamedExpr:
		text, vars, err := newReferences(w.plugin.dialect, e.SQL, e.Vars, w.source(stmt)).rewrite(false)
		if err != nil {
			return err
		}
		clause.NamedExpr{SQL: text, Vars: vars}.Build(stmt)
		return nil
	default:
		return fmt.Errorf("%w: a join is of type %T", ErrUnfiltered, e)
	}
	if join.Type != "" {
		for _, word := range strings.Fields(string(join.Type)) {
			if !isPlainName(word) {
				return fmt.Errorf("%w: a join of type %q", ErrUnfiltered, join.Type)
			}
		}
		write(stmt, string(join.Type)+" ")
	}
	write(stmt, sealSource+"JOIN ")
	if err := w.writeTable(stmt, join.Table); err != nil {
		return err
	}
	switch {
	case len(join.ON.Exprs) > 0:
		write(stmt, " ON "+sealValue)
		join.ON.Build(stmt)
		write(stmt, sealValueEnd)
	case len(join.Using) > 0:
		write(stmt, " USING (")
		for i, column := range join.Using {
			if i > 0 {
				write(stmt, ",")
			}
			stmt.WriteQuoted(clause.Column{Name: column})
		}
		write(stmt, ")")
	}
	return nil
}

// written finds out whether the table that is written belongs to tenants.
func (w *work) written(stmt *gorm.Statement) (err error) {
	name := stmt.Table
	if stmt.TableExpr != nil {
		var alias string
		if len(stmt.TableExpr.Vars) > 0 {
			return fmt.Errorf("%w: the table to write is an expression", ErrUnfiltered)
		}
		if name, alias, err = newReferences(w.plugin.dialect, stmt.TableExpr.SQL, nil, nil).plain(); err != nil {
			return err
		}
		if w.verb == "INSERT" && (alias != "" || w.plugin.dialect == dialectSQLite) {
			name = stmt.Table // so GORM writes it
		}
	}
	w.column, err = w.plugin.tables.columnOf(stmt, name)
	return err
}

func writeInsert(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	w.verb = "INSERT"
	insert, ok := c.Expression.(clause.Insert)
	if !ok || insert.Table.Name != "" && insert.Table.Name != stmt.Table {
		return fmt.Errorf("%w: its INSERT names a table of its own: use Model or Table", ErrUnfiltered)
	}
	switch strings.ToUpper(strings.TrimSpace(insert.Modifier)) {
	case "", "IGNORE", "OR IGNORE":
	default: // REPLACE removes whoever holds the key
		return fmt.Errorf("%w: INSERT %s could replace another tenant's row: use clause.OnConflict", ErrUnfiltered, insert.Modifier)
	}
	if err := w.written(stmt); err != nil {
		return err
	}
	build(c)
	return nil
}

// writeValues makes every new row the tenant's.
func writeValues(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	values, ok := c.Expression.(clause.Values)
	if !ok {
		return fmt.Errorf("%w: its values are of type %T", ErrUnfiltered, c.Expression)
	}
	columns := append([]clause.Column(nil), values.Columns...)
	at := -1
	for i, column := range columns {
		switch {
		case column.Raw:
			return fmt.Errorf("%w: the column %q is raw text", ErrUnfiltered, column.Name)
		case w.column == "" || !sameColumn(column.Name, w.column):
		case at >= 0:
			return fmt.Errorf("%w: the tenant column is set twice", ErrUnfiltered)
		default:
			at = i
		}
	}
	if w.column != "" && at < 0 {
		columns = append(columns, clause.Column{Name: w.column})
	}
	given := values.Values
	if len(given) == 0 {
		given = [][]any{nil}
	}
	rows := make([][]any, len(given))
	for i, row := range given {
		rows[i] = make([]any, len(row), len(columns))
		for j, value := range row {
			if j == at {
				kept, err := own(value, w.tenantID)
				if err != nil {
					return err
				}
				rows[i][j] = kept
				continue
			}
			rows[i][j] = sealed(value)
		}
		if w.column != "" && at < 0 {
			rows[i] = append(rows[i], w.tenantID)
		}
	}
	w.rows = len(rows)
	if len(columns) > 0 {
		c.Expression = clause.Values{Columns: columns, Values: rows}
	}
	build(c)
	return nil
}

// writeOnConflict lets an upsert change the tenant's own rows only.
func writeOnConflict(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	conflict, ok := c.Expression.(clause.OnConflict)
	if !ok {
		return fmt.Errorf("%w: its ON CONFLICT is of type %T", ErrUnfiltered, c.Expression)
	}
	if name := strings.Trim(conflict.OnConstraint, `"`+"`"); name != "" && !isPlainName(name) {
		return fmt.Errorf("%w: the constraint %q is no plain name", ErrUnfiltered, name)
	}
	for _, column := range conflict.Columns {
		if column.Raw {
			return fmt.Errorf("%w: the column %q is raw text", ErrUnfiltered, column.Name)
		}
	}
	if len(conflict.TargetWhere.Exprs) > 0 {
		conflict.TargetWhere = clause.Where{Exprs: []clause.Expression{conditions{conflict.TargetWhere}}}
	}
	if w.column != "" && !conflict.DoNothing {
		if w.plugin.dialect == dialectMySQL {
			return fmt.Errorf("%w: ON DUPLICATE KEY UPDATE changes whoever holds the key: read and update in a transaction", ErrUnfiltered)
		}
		set, err := w.assignments(conflict.DoUpdates)
		if err != nil {
			return err
		}
		conflict.DoUpdates = set
		w.upsert = len(conflict.Where.Exprs) == 0
		column := clause.Column{Table: stmt.Table, Name: w.column}
		mine := []clause.Expression{clause.Eq{Column: column, Value: w.equals(column)}}
		if !w.upsert {
			mine = append(mine, conditions{conflict.Where})
		}
		conflict.Where = clause.Where{Exprs: mine}
	}
	c.Expression = conflict
	build(c)
	return nil
}

func writeUpdate(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	w.verb = "UPDATE"
	if update, ok := c.Expression.(clause.Update); !ok || update.Modifier != "" || update.Table.Name != "" {
		return fmt.Errorf("%w: its UPDATE has a modifier or a table of its own: use Model or Table", ErrUnfiltered)
	}
	if err := w.written(stmt); err != nil {
		return err
	}
	w.addWhere(stmt)
	build(c)
	return nil
}

// writeSet keeps a row from changing its owner.
func writeSet(w *work, _ *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	set, ok := c.Expression.(clause.Set)
	if !ok {
		return fmt.Errorf("%w: its SET is of type %T", ErrUnfiltered, c.Expression)
	}
	set, err := w.assignments(set)
	if err != nil {
		return err
	}
	c.Expression = set
	build(c)
	return nil
}

// assignments returns a set that leaves the tenant column as it is.
func (w *work) assignments(set clause.Set) (clause.Set, error) {
	kept := make(clause.Set, len(set))
	for i, a := range set {
		if a.Column.Raw {
			return nil, fmt.Errorf("%w: the column %q is raw text", ErrUnfiltered, a.Column.Name)
		}
		if w.column == "" || !sameColumn(a.Column.Name, w.column) {
			kept[i] = clause.Assignment{Column: a.Column, Value: sealed(a.Value)}
			continue
		}
		excluded, ok := a.Value.(clause.Column)
		if ok && strings.EqualFold(excluded.Table, "excluded") && sameColumn(excluded.Name, w.column) && !excluded.Raw {
			kept[i] = a // the new row's, which is the tenant's
			continue
		}
		value, err := own(a.Value, w.tenantID)
		if err != nil {
			return nil, err
		}
		kept[i] = clause.Assignment{Column: a.Column, Value: value}
	}
	return kept, nil
}

func writeDelete(w *work, _ *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	w.verb = "DELETE"
	if d, ok := c.Expression.(clause.Delete); !ok || d.Modifier != "" {
		return fmt.Errorf("%w: its DELETE has a modifier", ErrUnfiltered)
	}
	build(c)
	return nil
}

// addWhere makes sure that a statement for all rows has a WHERE to filter it, if GORM allows it.
func (w *work) addWhere(stmt *gorm.Statement) {
	if _, has := stmt.Clauses["WHERE"]; !has && stmt.AllowGlobalUpdate {
		w.where = true
		stmt.Clauses["WHERE"] = clause.Clause{Name: "WHERE", Expression: clause.Where{}}
	}
}

// writeWhere filters an UPDATE or DELETE. The conditions of others stand in brackets behind the
// tenant's.
func writeWhere(w *work, stmt *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	if w.verb == "SELECT" || w.column == "" {
		build(c)
		return nil
	}
	if w.verb != "UPDATE" && w.verb != "DELETE" {
		return fmt.Errorf("%w: its WHERE is not where it belongs", ErrUnfiltered)
	}
	write(stmt, "WHERE ")
	column := clause.Column{Table: stmt.Table, Name: w.column}
	clause.Eq{Column: column, Value: w.equals(column)}.Build(stmt)
	if where, ok := c.Expression.(clause.Where); !ok || len(where.Exprs) > 0 {
		if c.Expression == nil {
			return fmt.Errorf("%w: its WHERE is empty", ErrUnfiltered)
		}
		write(stmt, " AND ")
		conditions{c.Expression}.Build(stmt)
	}
	w.filtered = true
	return nil
}

// writeLock refuses locks that would hold nothing: MySQL and MariaDB do not lock the rows of a source in
// FROM.
func writeLock(w *work, _ *gorm.Statement, c clause.Clause, build func(clause.Clause)) error {
	if w.plugin.dialect == dialectMySQL {
		return fmt.Errorf("%w: a locking read would lock nothing: update a row first, in the same transaction", ErrUnfiltered)
	}
	build(c)
	return nil
}

// conditions are others' conditions in brackets.
type conditions struct{ clause.Expression }

func (c conditions) Build(builder clause.Builder) {
	writeTo(builder, "("+sealOpen)
	c.Expression.Build(builder)
	writeTo(builder, sealClose+")")
}

// sealed returns a value to write. One that becomes text is sealed.
func sealed(value any) any {
	switch v := value.(type) {
	case clause.Column:
		if !v.Raw {
			return value
		}
		return sealedValue{v}
	case gorm.Valuer, clause.Expression, clause.Table, *gorm.DB, []any:
		return sealedValue{v}
	}
	return value
}

// sealedValue is a value that others turn into text.
type sealedValue struct{ value any }

func (v sealedValue) Build(builder clause.Builder) {
	writeTo(builder, sealValue)
	builder.AddVar(builder, v.value)
	writeTo(builder, sealValueEnd)
}

func write(stmt *gorm.Statement, text string) { _, _ = stmt.WriteString(text) }

func writeTo(builder clause.Builder, text string) { _, _ = builder.WriteString(text) }
