package dialect

import (
	"fmt"
	"strings"
)

// SQLiteTable is a table with tenants' rows.
type SQLiteTable struct{ Name, Column string }

// SQLiteWriteWall returns the statements that keep a connection from writing rows of anybody but
// the tenant. A REPLACE meets the trigger for DELETE only with recursive triggers. Ids are compared
// byte by byte, whatever the column's collation: a cast keeps it.
func SQLiteWriteWall(tables []SQLiteTable, tenant string) ([]string, error) {
	if strings.IndexByte(tenant, 0) >= 0 {
		return nil, fmt.Errorf("value %q contains a NUL byte", tenant)
	}
	id := `'` + strings.ReplaceAll(tenant, `'`, `''`) + `'`
	script := []string{"PRAGMA recursive_triggers = ON"}
	for i, t := range tables {
		foreign := func(row string) string {
			return fmt.Sprintf(`CAST(%s.%s AS TEXT) COLLATE BINARY IS NOT %s`, row, Ident(t.Column), id)
		}
		for _, on := range []struct{ event, when string }{
			{"INSERT", foreign("NEW")},
			{"UPDATE", foreign("OLD") + " OR " + foreign("NEW")},
			{"DELETE", foreign("OLD")},
		} {
			script = append(script, fmt.Sprintf(
				`CREATE TEMP TRIGGER tenancy_%s_%d BEFORE %s ON main.%s WHEN %s BEGIN SELECT RAISE(ABORT, 'the row is not the tenant''s that the connection is bound to'); END`,
				strings.ToLower(on.event), i, on.event, Ident(t.Name), on.when))
		}
	}
	return script, nil
}

// CountOwn counts a tenant's rows of one table. The tenant is the only parameter.
func CountOwn(t SQLiteTable) string {
	return fmt.Sprintf(`SELECT count(*) FROM main.%s WHERE CAST(%s AS TEXT) COLLATE BINARY = ?`, Ident(t.Name), Ident(t.Column))
}

// DeleteOwn deletes a tenant's rows of one table. The tenant is the only parameter.
func DeleteOwn(t SQLiteTable) string {
	return fmt.Sprintf(`DELETE FROM main.%s WHERE CAST(%s AS TEXT) COLLATE BINARY = ?`, Ident(t.Name), Ident(t.Column))
}

// The questions that the verifier asks a file. Each has the text of its columns in order.
const (
	// SQLiteObjects: type, name, table, page of the root; "" and 0 for what has none.
	SQLiteObjects = `SELECT type, name, tbl_name, coalesce(rootpage, 0) FROM main.sqlite_schema ORDER BY name`
	// SQLiteTableKinds: name, kind, whether it has no rowid.
	SQLiteTableKinds = `SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`
	// SQLiteColumns: table, name, type, whether it is NOT NULL, place in the primary key.
	SQLiteColumns = `SELECT t.name, c.name, c.type, c."notnull", c.pk FROM pragma_table_list t JOIN pragma_table_xinfo(t.name, 'main') c
		WHERE t.schema = 'main' ORDER BY t.name, c.cid`
	// SQLiteUniques: table, index, column; "" for an expression.
	SQLiteUniques = `SELECT t.name, i.name, coalesce(c.name, '') FROM pragma_table_list t JOIN pragma_index_list(t.name, 'main') i
		JOIN pragma_index_info(i.name, 'main') c WHERE t.schema = 'main' AND i."unique" ORDER BY t.name, i.name, c.seqno`
	// SQLiteForeignKeys: table, number, parent, column, column of the parent ("" for its primary key), place, what an
	// update and a delete do.
	SQLiteForeignKeys = `SELECT t.name, k.id, k."table", k."from", coalesce(k."to", ''), k.seq, k.on_update, k.on_delete
		FROM pragma_table_list t JOIN pragma_foreign_key_list(t.name, 'main') k WHERE t.schema = 'main' ORDER BY t.name, k.id, k.seq`
	// SQLiteTriggers: name and text of the triggers of the connection.
	SQLiteTriggers = `SELECT name, sql FROM sqlite_temp_schema WHERE type = 'trigger'`
)

// SQLiteCollation explains how a table's tenant is compared.
func SQLiteCollation(t SQLiteTable) string {
	return fmt.Sprintf(`EXPLAIN SELECT 1 FROM main.%s WHERE +%s = 'x'`, Ident(t.Name), Ident(t.Column))
}

// SQLiteReads explains what a view reads.
func SQLiteReads(view string) string { return `EXPLAIN SELECT * FROM main.` + Ident(view) }

// SQLiteStands returns the text that SQLite keeps of a trigger of [SQLiteWriteWall], and its name; "" for
// another statement.
func SQLiteStands(statement string) (name, text string) {
	rest, is := strings.CutPrefix(statement, "CREATE TEMP TRIGGER ")
	if !is {
		return "", ""
	}
	name, _, _ = strings.Cut(rest, " ")
	return name, "CREATE TRIGGER " + rest
}
