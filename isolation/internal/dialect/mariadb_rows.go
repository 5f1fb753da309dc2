package dialect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// What the wall of row_level on MariaDB consists of, beside a view per table.
const (
	MariaDBLogins = "tenancy_login" // table: whose a login is
	MariaDBSeals  = "tenancy_seal"  // table: what the wall was made from, and what the server made of it
	MariaDBSelf   = "tenancy_self"  // view: whose this login is
)

// MariaDBOwnTables are the tables of the wall itself.
var MariaDBOwnTables = []string{MariaDBLogins, MariaDBSeals}

// MariaDBWall is the wall of row_level on MariaDB: a database with the tables, which no tenant's
// login reaches, and one with views of them.
type MariaDBWall struct{ Base, Views string }

// MariaDBTable is a table of the base.
type MariaDBTable struct {
	Name    string
	Column  string   // the tenant's id; "" for a shared table
	Type    string   // of the column, as the server names it
	Collate string   // of the column, "" when it is no text
	Natural bool     // the column is a number that cannot be negative
	Columns []string // that the view shows
	Indexes []string // that begin with Column; never empty for a table with one
}

// MariaDBObject is a part of the wall: a function, a trigger or a view.
type MariaDBObject struct{ Kind, Name, SQL string }

// mariaDBCasts are the types that a tenant's column may have, with what an id is cast to for each. In
// other types two ids can be equal.
var mariaDBCasts = map[string]string{
	"varchar": "", "char": "", "uuid": "uuid",
	"smallint": "bigint", "mediumint": "bigint", "int": "bigint", "bigint": "bigint",
}

// mariaDBCollation is the one of ids.
const mariaDBCollation = "utf8mb4_bin"

// suffix tells the functions apart: one for each type and collation, so that the server compares
// without converting the column.
func (t MariaDBTable) suffix() string {
	if cast := mariaDBCasts[t.Type]; cast != "" {
		return "_" + cast
	}
	if t.Collate == "" || t.Collate == mariaDBCollation {
		return ""
	}
	return "_" + t.Collate
}

// IsMariaDBTenantType reports whether a tenant's column may have the type.
func IsMariaDBTenantType(name string) bool {
	_, ok := mariaDBCasts[name]
	return ok
}

func (w MariaDBWall) base(name string) string {
	return MariaDBIdent(w.Base) + "." + MariaDBIdent(name)
}

func (w MariaDBWall) view(name string) string {
	return MariaDBIdent(w.Views) + "." + MariaDBIdent(name)
}

// Tables makes the wall's own tables. A login is closed before its rows are deleted.
func (w MariaDBWall) Tables() []string {
	const name = "varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
	const text = "mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
	return []string{
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (login %s PRIMARY KEY, tenant %s, closed boolean NOT NULL DEFAULT false) ENGINE = InnoDB",
			w.base(MariaDBLogins), name, name),
		fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (kind %s, name %s, wanted %s, stands %s, PRIMARY KEY (kind, name)) ENGINE = InnoDB",
			w.base(MariaDBSeals), name, name, text, text),
	}
}

// owner is the tenant of the login that is connected, NULL when it has none. USER() is the client's
// login also where the rights are the definer's; its last @ stands before the host.
func (w MariaDBWall) owner(condition string) string {
	return "(SELECT tenant FROM " + w.base(MariaDBLogins) +
		" WHERE login = left(user(), char_length(user()) - char_length(substring_index(user(), '@', -1)) - 1)" + condition + ")"
}

const mariaDBOwn = "DECLARE own varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT "

func mariaDBRaise(message string) string {
	return "SIGNAL SQLSTATE '42501' SET MESSAGE_TEXT = '" + message + "'"
}

// Objects returns all of the wall but its tables, in the order in which it is to be made.
func (w MariaDBWall) Objects(tables []MariaDBTable) []MariaDBObject {
	objects := []MariaDBObject{w.function(MariaDBTable{})}
	for _, t := range tables {
		if f := w.function(t); t.Column != "" && !slices.Contains(objects, f) {
			objects = append(objects, f)
		}
	}
	for _, t := range tables {
		for _, event := range []string{"INSERT", "UPDATE", "DELETE"} {
			objects = append(objects, w.trigger(t, event))
		}
	}
	for _, t := range tables {
		objects = append(objects, w.viewOf(t))
	}
	return append(objects, MariaDBObject{"view", MariaDBSelf, "CREATE OR REPLACE ALGORITHM = MERGE DEFINER = CURRENT_USER SQL SECURITY DEFINER VIEW " +
		w.view(MariaDBSelf) + " AS SELECT " + w.tenant(MariaDBTable{}) + " AS tenant"})
}

// tenant calls the function for a column.
func (w MariaDBWall) tenant(t MariaDBTable) string {
	return w.view(TenantFunction+t.suffix()) + "()"
}

// function returns the login's tenant or raises. It is deterministic within a connection, so that
// the server looks its answer up in an index.
func (w MariaDBWall) function(t MariaDBTable) MariaDBObject {
	collation := cmp.Or(t.Collate, mariaDBCollation)
	charset, _, _ := strings.Cut(collation, "_")
	returns, result, check := "varchar(128) CHARACTER SET "+charset+" COLLATE "+collation, "own", ""
	if cast := mariaDBCasts[t.Type]; cast != "" {
		returns, result = cast, map[string]string{"bigint": "CAST(own AS SIGNED)", "uuid": "CAST(own AS uuid)"}[cast]
		check = fmt.Sprintf("IF coalesce(%[1]s, '') <> own OR own IN ('0', '%[2]s') THEN %[3]s; END IF;\n", mariaDBText(result), mariaDBNobody,
			mariaDBRaise("the id of this login''s tenant is no "+cast+" as the server writes it, or the one of nobody"))
	}
	name := TenantFunction + t.suffix()
	return MariaDBObject{"function", name, "CREATE OR REPLACE DEFINER = CURRENT_USER FUNCTION " + w.view(name) + "() RETURNS " + returns +
		" DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER\nBEGIN\n" + mariaDBOwn + w.owner(" AND NOT closed") + ";\n" +
		"IF own IS NULL THEN " + mariaDBRaise("no tenant is bound to this login: provision the tenant") + "; END IF;\n" +
		check + "RETURN " + result + ";\nEND"}
}

// mariaDBText is a value as an id.
func mariaDBText(value string) string {
	return "CONVERT(" + value + " USING utf8mb4) COLLATE " + mariaDBCollation
}

// trigger keeps tenants' logins off others' rows where a view's condition is not asked: a row that
// REPLACE or ON DUPLICATE KEY UPDATE meets by a key. It fills the column in. Other logins, such as
// the system's, name the tenant.
func (w MariaDBWall) trigger(t MariaDBTable, event string) MariaDBObject {
	name := MariaDBTrigger(t.Name, event)
	var body string
	switch {
	case t.Column == "":
		body = "IF own IS NOT NULL THEN " + mariaDBRaise("the table is shared: tenants only read it") + "; END IF;\n"
	case event == "INSERT":
		column := "NEW." + MariaDBIdent(t.Column)
		body = fmt.Sprintf("IF own IS NULL THEN\n IF %[1]s = %[2]s THEN %[3]s; END IF;\nELSEIF %[1]s = %[2]s THEN SET %[1]s = own;\nELSEIF coalesce(%[4]s, '') <> own THEN %[5]s;\nEND IF;\n",
			column, t.Nobody(), mariaDBRaise("the row is nobody''s: name its tenant"), mariaDBText(column), mariaDBForeign)
	default:
		condition := mariaDBText("OLD."+MariaDBIdent(t.Column)) + " <> own"
		if event == "UPDATE" {
			condition += " OR " + mariaDBText("NEW."+MariaDBIdent(t.Column)) + " <> own"
		}
		body = "IF " + condition + " THEN " + mariaDBForeign + "; END IF;\n"
	}
	return MariaDBObject{"trigger", name, "CREATE OR REPLACE DEFINER = CURRENT_USER TRIGGER " + w.base(name) + " BEFORE " + event + " ON " + w.base(t.Name) +
		" FOR EACH ROW\nBEGIN\n" + mariaDBOwn + w.owner("") + ";\n" + body + "END"}
}

var mariaDBForeign = mariaDBRaise("the row is another tenant''s")

// MariaDBTrigger returns the name of a table's trigger.
func MariaDBTrigger(table, event string) string {
	return ShortName("tenancy_" + strings.ToLower(event) + "_" + table)
}

// mariaDBNobody is the UUID of nobody.
const mariaDBNobody = "00000000-0000-0000-0000-000000000000"

// Nobody is the default of the tenant's column: no tenant's id, and no row keeps it.
func (t MariaDBTable) Nobody() string {
	switch {
	case mariaDBCasts[t.Type] == "":
		return "'?'"
	case t.Type == "uuid":
		return "'" + mariaDBNobody + "'"
	case t.Natural:
		return "0"
	default:
		return "-1"
	}
}

// viewOf shows a tenant its rows. FORCE INDEX is part of the wall: rows that only the view's
// condition keeps out would meet the conditions of the statement first, which can print them.
//
// The sub-query is asked once for each statement; the function by itself is asked again for each row
// of a sorted result and for each row that an UPDATE checks. It has no table, or UPDATE and DELETE
// would ask it after they chose an index, and so choose none; and it has a HAVING, or the server puts
// the function in its place.
func (w MariaDBWall) viewOf(t MariaDBTable) MariaDBObject {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = MariaDBIdent(c)
	}
	from, condition := "", w.tenant(MariaDBTable{})+" IS NOT NULL"
	if t.Column != "" {
		indexes := make([]string, len(t.Indexes))
		for i, index := range t.Indexes {
			indexes[i] = MariaDBIdent(index)
		}
		from = " FORCE INDEX (" + strings.Join(indexes, ", ") + ")"
		condition = MariaDBIdent(t.Column) + " = (SELECT " + w.tenant(t) + " HAVING 1)"
	}
	return MariaDBObject{"view", t.Name, "CREATE OR REPLACE ALGORITHM = MERGE DEFINER = CURRENT_USER SQL SECURITY DEFINER VIEW " + w.view(t.Name) +
		" AS SELECT " + strings.Join(columns, ", ") + " FROM " + w.base(t.Name) + from + " WHERE " + condition + " WITH CASCADED CHECK OPTION"}
}

// Drop takes an object away.
func (w MariaDBWall) Drop(kind, name string) string {
	of := w.base(name)
	if kind == "view" || kind == "function" {
		of = w.view(name)
	}
	return "DROP " + strings.ToUpper(kind) + " IF EXISTS " + of
}

// SetDefault lets statements leave the tenant's column out.
func (w MariaDBWall) SetDefault(t MariaDBTable) string {
	return "ALTER TABLE " + w.base(t.Name) + " ALTER COLUMN " + MariaDBIdent(t.Column) + " SET DEFAULT " + t.Nobody()
}

// AddIndex adds an index that begins with the tenant's column.
func (w MariaDBWall) AddIndex(t MariaDBTable) string {
	return "ALTER TABLE " + w.base(t.Name) + " ADD INDEX tenancy_tenant (" + MariaDBIdent(t.Column) + ")"
}

// DeleteTenant deletes a tenant's rows; its two arguments are the id.
func (w MariaDBWall) DeleteTenant(t MariaDBTable) string { return "DELETE FROM " + w.ofTenant(t) }

// CountTenant counts the rows that DeleteTenant would delete, with the same arguments.
func (w MariaDBWall) CountTenant(t MariaDBTable) string {
	return "SELECT count(*) FROM " + w.ofTenant(t)
}

func (w MariaDBWall) ofTenant(t MariaDBTable) string {
	column, cast := MariaDBIdent(t.Column), "?"
	if mariaDBCasts[t.Type] == "bigint" { // a text would be compared as a float
		cast = "CAST(? AS SIGNED)"
	}
	return w.base(t.Name) + " WHERE " + column + " = " + cast + " AND " + mariaDBText(column) + " = ?"
}

// The following statements are about the logins. Their arguments are login and tenant, or the login.

// BindLogin writes down whose a login will be, unless that is written already.
func (w MariaDBWall) BindLogin() string {
	return "INSERT IGNORE INTO " + w.base(MariaDBLogins) + " (login, tenant) VALUES (?, ?)"
}

// LoginMark asks whose a login is, as a mark.
func (w MariaDBWall) LoginMark(prefix string) string {
	return "SELECT concat('" + prefix + "', tenant) FROM " + w.base(MariaDBLogins) + " WHERE login = ?"
}

// CloseLogin ends what the sessions of a login can do.
func (w MariaDBWall) CloseLogin() string {
	return "UPDATE " + w.base(MariaDBLogins) + " SET closed = true WHERE login = ?"
}

// ForgetLogin is the last step of a tenant's deletion.
func (w MariaDBWall) ForgetLogin() string {
	return "DELETE FROM " + w.base(MariaDBLogins) + " WHERE login = ?"
}

// CreateLogin makes a tenant's login, which may use the views and nothing else. It cannot run
// procedures: one of the migrator's would act with the migrator's rights.
func (w MariaDBWall) CreateLogin(login, password string) []string {
	return append(createMariaDBLogin(login, password),
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON "+mariaDBGrantee(w.Views)+".* TO "+mariaDBAccount(login))
}

// DropLogin drops a tenant's login, if it exists.
func (w MariaDBWall) DropLogin(login string) string {
	return "DROP USER IF EXISTS " + mariaDBAccount(login)
}

// Session asks a tenant's login whose it is, and what it has beside the views: the base, or a role that
// it could take.
func (w MariaDBWall) Session() string {
	return "SELECT (SELECT tenant FROM " + w.view(MariaDBSelf) + "), concat_ws(', ', " +
		"(SELECT concat('database ', schema_name) FROM information_schema.schemata WHERE schema_name = '" + w.Base + "'), " +
		"(SELECT group_concat(concat('role ', role_name) SEPARATOR ', ') FROM information_schema.applicable_roles))"
}

// MariaDBBeside asks for the databases that the login can see beside the one of views.
const MariaDBBeside = "SELECT coalesce(group_concat(schema_name SEPARATOR ', '), '') FROM information_schema.schemata " +
	"WHERE schema_name NOT IN ('information_schema', ?)"

// MariaDBVisible asks which of two databases the login can see.
const MariaDBVisible = "SELECT coalesce(group_concat(schema_name SEPARATOR ', '), '') FROM information_schema.schemata WHERE schema_name IN (?, ?)"

// The following questions are about the wall that stands. Their argument is the base, unless they
// say otherwise.
const (
	// MariaDBColumns asks for the columns of all tables, in order.
	MariaDBColumns = `SELECT t.table_name, coalesce(t.engine, ''), c.column_name, c.data_type, coalesce(c.collation_name, ''), c.is_nullable = 'YES',
 c.extra LIKE '%INVISIBLE%', c.column_type LIKE '%unsigned%', coalesce(c.column_default, 'none'),
 c.is_nullable = 'NO' AND c.column_default IS NULL AND c.extra NOT LIKE '%auto_increment%' AND c.is_generated = 'NEVER'
FROM information_schema.tables t JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
WHERE t.table_schema = ? AND t.table_type = 'BASE TABLE' ORDER BY t.table_name, c.ordinal_position`
	// MariaDBIndexes asks for the columns of all indexes that the optimizer may use, in order, and
	// whether the whole value counts.
	MariaDBIndexes = `SELECT table_name, index_name, non_unique = 0, index_type = 'BTREE' AND ignored = 'NO', column_name, sub_part IS NULL
FROM information_schema.statistics WHERE table_schema = ? ORDER BY table_name, index_name, seq_in_index`
	// MariaDBForeignKeys asks for the columns of keys to tables of the base.
	MariaDBForeignKeys = `SELECT table_schema, table_name, constraint_name, column_name, referenced_table_name, referenced_column_name
FROM information_schema.key_column_usage WHERE referenced_table_schema = ? ORDER BY 1, 2, 3, ordinal_position`
	// MariaDBInViews asks for everything in the database of views, which is both arguments.
	MariaDBInViews = `SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = ?
UNION ALL SELECT routine_name, routine_type FROM information_schema.routines WHERE routine_schema = ? ORDER BY 1`
	// MariaDBStands asks what the server made of the wall. The arguments are the views
	// twice, the base.
	MariaDBStands = `SELECT 'view', table_name, concat_ws('\n', view_definition, check_option, is_updatable, definer, security_type, algorithm)
FROM information_schema.views WHERE table_schema = ?
UNION ALL SELECT 'function', routine_name, concat_ws('\n', routine_definition, dtd_identifier, definer, security_type, is_deterministic, sql_data_access)
FROM information_schema.routines WHERE routine_schema = ?
UNION ALL SELECT 'trigger', trigger_name, concat_ws('\n', action_timing, event_manipulation, event_object_table, action_statement, definer, sql_mode)
FROM information_schema.triggers WHERE trigger_schema = ?`
)

// Seals asks what the wall was made from, and what the server made of it.
func (w MariaDBWall) Seals() string {
	return "SELECT kind, name, wanted, stands FROM " + w.base(MariaDBSeals)
}

// Seal remembers both; the arguments are kind, name, wanted and stands.
func (w MariaDBWall) Seal() string {
	return "REPLACE INTO " + w.base(MariaDBSeals) + " (kind, name, wanted, stands) VALUES (?, ?, ?, ?)"
}

// Unseal forgets an object; the arguments are kind and name.
func (w MariaDBWall) Unseal() string {
	return "DELETE FROM " + w.base(MariaDBSeals) + " WHERE kind = ? AND name = ?"
}
