package dialect

import (
	"fmt"
	"strings"
)

// SetLocal binds a transaction and takes no snapshot, so that SET TRANSACTION may follow.
func SetLocal(name, value string) (string, error) {
	text, err := settingValue(name, value)
	return "SET LOCAL " + SettingName(name) + " TO " + text, err
}

// SetOff replaces what application code may have set for the session under the name of a setting.
func SetOff(name, off string) (string, error) {
	text, err := settingValue(name, off)
	return "SET SESSION " + SettingName(name) + " TO " + text, err
}

// Bind binds a transaction in one statement, and replaces what somebody may have set under the
// same name for the session.
func Bind(name, value, off string) (string, error) {
	var literals [3]string
	for i, v := range []string{name, value, off} {
		var err error
		if literals[i], err = Literal(v); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("SELECT pg_catalog.set_config(%[1]s, %[3]s, false), pg_catalog.set_config(%[1]s, %[2]s, true)",
		literals[0], literals[1], literals[2]), nil
}

// settingValue writes a value for SET, which, other than set_config, takes the names of a list one
// by one.
func settingValue(name, value string) (string, error) {
	if name != SearchPath || value == "" {
		return Literal(value)
	}
	names := strings.Split(value, ", ")
	for i, n := range names {
		if !IsPlainName(n) {
			return "", fmt.Errorf("the name %q cannot be in a search_path: use a-z, 0-9 and _", n)
		}
		names[i] = "'" + n + "'"
	}
	return strings.Join(names, ", "), nil
}

// SearchPath is the setting that says in which schemas names are looked up.
const SearchPath = "search_path"

// ResetSession makes a PostgreSQL session as good as new.
const ResetSession = "DISCARD ALL"

// DiscardTemp drops the session's temporary tables; a transaction may do it.
const DiscardTemp = "DISCARD TEMP"

// Policies of a walled table.
const (
	PolicyTenant = "tenancy_tenant"
	PolicySystem = "tenancy_system"
)

// TenantFunction and UnboundFunction are the functions that the policies call.
const (
	TenantFunction  = "tenancy_tenant"
	UnboundFunction = "tenancy_unbound"
)

// Functions defines the functions of the wall. The first is SQL so that it is inlined into the
// plan; the second is only ever called to fail.
func Functions(schema, setting string) (string, error) {
	name, err := Literal(setting)
	if err != nil {
		return "", err
	}
	s := Ident(schema)
	return fmt.Sprintf(`CREATE OR REPLACE FUNCTION %[1]s.%[3]s() RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $tenancy$
BEGIN
    RAISE EXCEPTION 'no tenant is bound to this transaction'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Run the statement through isolation.DB with a tenant in its context; work for the whole system uses the system login.';
END
$tenancy$;
CREATE OR REPLACE FUNCTION %[1]s.%[2]s() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $tenancy$
    SELECT CASE WHEN pg_catalog.current_setting(%[4]s, true) <> ''
                THEN pg_catalog.current_setting(%[4]s, true)
                ELSE %[1]s.%[3]s() END
$tenancy$;
`, s, Ident(TenantFunction), Ident(UnboundFunction), name), nil
}

// Table is a table of PostgreSQL with the column that names its tenant.
type Table struct {
	Schema, Name, Column, Type string
	FunctionSchema             string
}

func (t Table) qualified() string { return Ident(t.Schema) + "." + Ident(t.Name) }

func (t Table) function() string {
	return Ident(t.FunctionSchema) + "." + Ident(TenantFunction) + "()::" + t.Type
}

// indexName stays within 63 bytes; a hash keeps cut names apart.
func (t Table) indexName() string { return ShortName("tenancy_" + t.Name + "_" + t.Column) }

// Wall puts the table behind row security.
func (t Table) Wall(app, system string) string {
	column := Ident(t.Column)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	line("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", t.qualified(), column, t.function())
	line("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", t.qualified(), column)
	line("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", Ident(t.indexName()), t.qualified(), column)
	line("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", t.qualified())
	line("ALTER TABLE %s FORCE ROW LEVEL SECURITY", t.qualified())
	line("DROP POLICY IF EXISTS %s ON %s", PolicyTenant, t.qualified())
	line("CREATE POLICY %s ON %s FOR ALL TO PUBLIC\n    USING (%s = (SELECT %s))\n    WITH CHECK (%[3]s = (SELECT %[4]s))",
		PolicyTenant, t.qualified(), column, t.function())
	line("DROP POLICY IF EXISTS %s ON %s", PolicySystem, t.qualified())
	line("REVOKE ALL ON TABLE %s FROM %s", t.qualified(), Ident(app))
	line("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", t.qualified(), Ident(app))
	if system != "" {
		line("CREATE POLICY %s ON %s FOR ALL TO %s USING (true) WITH CHECK (true)", PolicySystem, t.qualified(), Ident(system))
		line("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", t.qualified(), Ident(system))
	}
	b.WriteString(grantSequences(t.Schema, t.Name, app, system))
	return b.String()
}

// Unwall undoes Wall. The index and the column stay: they are the application's data.
func (t Table) Unwall() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	line("DROP POLICY IF EXISTS %s ON %s", PolicyTenant, t.qualified())
	line("DROP POLICY IF EXISTS %s ON %s", PolicySystem, t.qualified())
	line("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", t.qualified())
	line("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", t.qualified())
	line("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT", t.qualified(), Ident(t.Column))
	line("DROP INDEX IF EXISTS %s.%s", Ident(t.Schema), Ident(t.indexName()))
	return b.String()
}

// DeleteTenant deletes a tenant's rows in all tables with one statement, so that foreign keys
// between them are checked when all rows are gone. The tenant is the only parameter.
func DeleteTenant(tables []Table) string {
	var b strings.Builder
	for i, t := range tables {
		if i == 0 {
			b.WriteString("WITH ")
		} else {
			b.WriteString(",\n     ")
		}
		fmt.Fprintf(&b, "d%d AS (DELETE FROM %s WHERE %s = ($1::text)::%s)", i, t.qualified(), Ident(t.Column), t.Type)
	}
	b.WriteString("\nSELECT 1")
	return b.String()
}

// ShareTable lets tenants read a table that belongs to none of them.
func ShareTable(schema, name, app, system string) string {
	t := Ident(schema) + "." + Ident(name)
	sql := fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s;\nGRANT SELECT ON TABLE %s TO %[2]s;\n", t, Ident(app), t)
	if system != "" {
		sql += fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s;\n", t, Ident(system)) +
			grantSequences(schema, name, system, "")
	}
	return sql
}

// grantSequences lets roles use the sequences that feed a table's columns.
func grantSequences(schema, name, first, second string) string {
	roles := Ident(first)
	if second != "" {
		roles += ", " + Ident(second)
	}
	relation, _ := Literal(Ident(schema) + "." + Ident(name)) // names were checked
	granted, _ := Literal(roles)
	return fmt.Sprintf(`DO $tenancy$
DECLARE s regclass;
BEGIN
    FOR s IN SELECT d.objid::regclass FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
             WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = %s::regclass AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE 'GRANT USAGE ON SEQUENCE ' || s::text || ' TO ' || %s;
    END LOOP;
END
$tenancy$;
`, relation, granted)
}
