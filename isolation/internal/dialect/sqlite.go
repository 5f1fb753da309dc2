package dialect

import (
	"fmt"
	"strings"
)

// SQLiteTable is a table with tenants' rows.
type SQLiteTable struct{ Name, Column string }

// SQLiteWriteWall returns the statements that keep a connection from writing rows of anybody but
// the tenant. A REPLACE meets the trigger for DELETE only with recursive triggers.
func SQLiteWriteWall(tables []SQLiteTable, tenant string) ([]string, error) {
	if strings.IndexByte(tenant, 0) >= 0 {
		return nil, fmt.Errorf("value %q contains a NUL byte", tenant)
	}
	id := `'` + strings.ReplaceAll(tenant, `'`, `''`) + `'`
	script := []string{"PRAGMA recursive_triggers = ON"}
	for i, t := range tables {
		foreign := func(row string) string { return fmt.Sprintf(`CAST(%s.%s AS TEXT) IS NOT %s`, row, Ident(t.Column), id) }
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
	return fmt.Sprintf(`SELECT count(*) FROM main.%s WHERE CAST(%s AS TEXT) = ?`, Ident(t.Name), Ident(t.Column))
}

// DeleteOwn deletes a tenant's rows of one table. The tenant is the only parameter.
func DeleteOwn(t SQLiteTable) string {
	return fmt.Sprintf(`DELETE FROM main.%s WHERE CAST(%s AS TEXT) = ?`, Ident(t.Name), Ident(t.Column))
}
