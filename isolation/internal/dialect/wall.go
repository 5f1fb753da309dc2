package dialect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Generator is the version of the generated wall. Each policy carries it in its comment.
const Generator = 2

// Policies of a walled table.
const (
	PolicyTenant = "tenancy_tenant"
	PolicySystem = "tenancy_system"
	PolicyLegacy = "tenancy_legacy"
)

// TenantFunction is the function that the policies call; for a column that is no text, its name
// has the type behind it.
const TenantFunction = "tenancy_tenant"

// columnTypes are the types that a tenant's column may have, by the names that SQL knows them
// under. One tenant's id has one text in each of them: a type in which 1 and 1.0, or a and A,
// are equal would make one tenant of two.
var columnTypes = map[string]string{
	"text": "", "varchar": "", "character varying": "",
	"uuid":     "uuid",
	"smallint": "smallint", "int2": "smallint",
	"integer": "integer", "int": "integer", "int4": "integer",
	"bigint": "bigint", "int8": "bigint",
}

// ColumnType returns the type that tenants' ids are cast to for a column, "" when they are
// compared as text, and false when a column cannot have the type.
func ColumnType(declared string) (string, bool) {
	name, length, found := strings.Cut(declared, "(")
	cast, ok := columnTypes[strings.TrimSpace(name)]
	if found && (cast != "" || name == "text" || strings.Trim(length, "0123456789)") != "") {
		return "", false
	}
	return cast, ok
}

// Name is a table's name with its schema.
type Name struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

func (n Name) String() string { return Ident(n.Schema) + "." + Ident(n.Name) }

// Table is a table of PostgreSQL with the column that says whose its rows are: by the tenant's
// id, or with Via by a reference to a row of another table.
type Table struct {
	Name
	Column, Type string
	Functions    string // the schema of the wall's functions
	Via          *Via
}

// Via is the table that a row refers to, and the column with its key.
type Via struct {
	Parent Table
	Key    string
}

// tenant is the expression of the tenant that is bound.
func (t Table) tenant() string { return Ident(t.Functions) + "." + t.function() + "()" }

func (t Table) function() string {
	if cast, _ := ColumnType(t.Type); cast != "" {
		return TenantFunction + "_" + cast
	}
	return TenantFunction
}

// owned is the condition that the row named alias belongs to a tenant. It never relies on the
// wall of a parent.
func (t Table) owned(alias, tenant string, depth int) string {
	column := Ident(t.Column)
	if alias != "" {
		column = alias + "." + column
	}
	if t.Via == nil {
		if tenant == "" {
			tenant = "(SELECT " + t.tenant() + ")"
		} else if cast, _ := ColumnType(t.Type); cast != "" {
			tenant = "(" + tenant + ")::" + cast
		}
		return column + " = " + tenant
	}
	parent := fmt.Sprintf("tenancy_p%d", depth)
	return fmt.Sprintf("EXISTS (SELECT FROM %s AS %s WHERE %s.%s = %s AND %s)",
		t.Via.Parent, parent, parent, Ident(t.Via.Key), column, t.Via.Parent.owned(parent, tenant, depth+1))
}

// own is the condition of the table's policy. Three names deep, a column is nobody's alias.
func (t Table) own() string {
	if t.Via == nil {
		return t.owned("", "", 1)
	}
	return t.owned(t.String(), "", 1)
}

// indexName stays within 63 bytes; a hash keeps cut names apart.
func (t Table) indexName() string { return ShortName("tenancy_" + t.Name.Name + "_" + t.Column) }

// Wall is all that row security needs in one database.
type Wall struct {
	Schema              string // of the functions
	Setting             string
	App, System, Legacy string
	Tables              []Table
	Shared, Private     []Name
}

// users returns the roles that use the tables, with the rights that they have.
func (w Wall) users() []string {
	users := []string{w.App}
	for _, role := range []string{w.System, w.Legacy} {
		if role != "" {
			users = append(users, role)
		}
	}
	return users
}

// Schemas returns the schemas of the wall and its tables, the wall's first.
func (w Wall) Schemas() []string {
	schemas := []string{w.Schema}
	add := func(name string) {
		if !slices.Contains(schemas, name) {
			schemas = append(schemas, name)
		}
	}
	for _, t := range w.Tables {
		add(t.Schema)
	}
	for _, n := range slices.Concat(w.Shared, w.Private) {
		add(n.Schema)
	}
	return schemas
}

// Function is a function of the wall.
type Function struct {
	Name       string `json:"name"`
	Body       string `json:"body"`
	Volatility string `json:"volatility"` // as in pg_proc
	signature  string
	language   string
}

// Functions returns the functions of the wall in the order of their definition. Those that the
// policies call are SQL, so that they are inlined into the plan; those in PL/pgSQL are only ever
// called to fail.
func (w Wall) Functions() ([]Function, error) {
	setting, err := Literal(w.Setting)
	if err != nil {
		return nil, err
	}
	s := Ident(w.Schema)
	functions := []Function{{
		Name: sealFunction, signature: "(policy_table regclass, policy_name text, stamp text) RETURNS void", language: "plpgsql",
		Volatility: "v", Body: `
BEGIN
    EXECUTE (SELECT format('COMMENT ON POLICY %I ON %s IS %L', policy_name, policy_table, stamp || ` + policySeal + `)
             FROM pg_policy pl WHERE pl.polname = policy_name AND pl.polrelid = policy_table);
END
`,
	}, {
		Name: "tenancy_unbound", Volatility: "s", signature: "() RETURNS text", language: "plpgsql",
		Body: `
BEGIN
    RAISE EXCEPTION 'no tenant is bound to this transaction'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Run the statement through isolation.DB with a tenant in its context; work for the whole system uses the system login.';
END
`,
	}, {
		Name: TenantFunction, Volatility: "s", signature: "() RETURNS text", language: "sql",
		Body: fmt.Sprintf(`
    SELECT CASE WHEN pg_catalog.current_setting(%[2]s, true) <> ''
                THEN pg_catalog.current_setting(%[2]s, true)
                ELSE %[1]s.tenancy_unbound() END
`, s, setting),
	}}
	casts := map[string]bool{}
	for _, t := range w.Tables {
		if cast, _ := ColumnType(t.Type); t.Via == nil && cast != "" {
			casts[cast] = true
		}
	}
	if len(casts) == 0 {
		return functions, nil
	}
	functions = append(functions, Function{
		Name: "tenancy_mismatch", Volatility: "s", signature: "(kind text) RETURNS text", language: "plpgsql",
		Body: fmt.Sprintf(`
BEGIN
    RAISE EXCEPTION 'tenant id %% is no %%', pg_catalog.quote_literal(%s.tenancy_tenant()), kind
        USING ERRCODE = 'invalid_text_representation',
              HINT = 'The column that names a row''s tenant is of that type: give tenants such ids, in the form in which PostgreSQL writes them.';
END
`, s),
	})
	for _, cast := range []string{"uuid", "smallint", "integer", "bigint"} {
		if !casts[cast] {
			continue
		}
		// A cast alone would take 007 for 7, and upper case for lower.
		pattern := `'^(0|[1-9][0-9]*)$'`
		if cast == "uuid" {
			pattern = `'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'`
		}
		functions = append(functions, Function{
			Name: TenantFunction + "_" + cast, Volatility: "s", signature: "() RETURNS " + cast, language: "sql",
			Body: fmt.Sprintf(`
    SELECT CASE WHEN %[1]s.tenancy_tenant() OPERATOR(pg_catalog.~) %[3]s
                THEN %[1]s.tenancy_tenant()::pg_catalog.%[4]s
                ELSE %[1]s.tenancy_mismatch('%[2]s')::pg_catalog.%[4]s END
`, s, cast, pattern, catalogName[cast]),
		})
	}
	return functions, nil
}

// catalogName is what pg_catalog calls a type.
var catalogName = map[string]string{"uuid": "uuid", "smallint": "int2", "integer": "int4", "bigint": "int8"}

func (f Function) create(schema string) string {
	options := "STABLE PARALLEL SAFE"
	if f.Volatility == "v" {
		options = "SET search_path TO pg_catalog, pg_temp"
	}
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.%s%s\n    LANGUAGE %s %s AS $tenancy$%s$tenancy$;\n",
		Ident(schema), f.Name, f.signature, f.language, options, f.Body)
}

// policy is a policy of a walled table.
type policy struct{ name, to, condition string }

// policies returns what a table gets; the condition is empty for a policy that must be absent.
func (w Wall) policies(t Table) []policy {
	all := []policy{{PolicyTenant, "PUBLIC", t.own()}, {name: PolicySystem}, {name: PolicyLegacy}}
	if w.System != "" {
		all[1].to, all[1].condition = Ident(w.System), "true"
	}
	if w.Legacy != "" {
		all[2].to, all[2].condition = Ident(w.Legacy), "true"
	}
	return all
}

func (p policy) create(t Table) string {
	return fmt.Sprintf("CREATE POLICY %s ON %s FOR ALL TO %s\n    USING (%s)\n    WITH CHECK (%[4]s)", p.name, t, p.to, p.condition)
}

// stamp is the beginning of a policy's comment: the generator, its version, and what was wanted.
// Behind it comes what the server made of it, so that a later change is noticed.
func (p policy) stamp(t Table) string {
	if p.condition == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(p.create(t)))
	return fmt.Sprintf("lexigram.dev/tenancy %d %s ", Generator, hex.EncodeToString(sum[:8]))
}

// policySeal is what the server made of the policy pl, as one value.
const policySeal = `md5(concat_ws('|', pl.polcmd::text, pl.polpermissive::text,
           (SELECT string_agg(coalesce(r.rolname, ''), ',' ORDER BY r.rolname)
            FROM unnest(pl.polroles) o(oid) LEFT JOIN pg_roles r ON r.oid = o.oid),
           coalesce(pg_get_expr(pl.polqual, pl.polrelid), 'none'), coalesce(pg_get_expr(pl.polwithcheck, pl.polrelid), 'none')))`

// sealFunction writes the comment of a policy.
const sealFunction = "tenancy_seal"

func (p policy) seal(t Table) string {
	return fmt.Sprintf("SELECT %s.%s(%s, '%s', '%s')", Ident(t.Functions), sealFunction, literal(t.String()), p.name, p.stamp(t))
}

// State is what stands already of the wall of a table.
type State struct {
	Default, NotNull, Index, Enabled, Forced bool
	Policies                                 [3]bool // tenant, system, legacy
	Granted, Parts                           bool
}

// Stands reports whether nothing is missing.
func (s State) Stands() bool {
	return s == State{true, true, true, true, true, [3]bool{true, true, true}, true, true}
}

// script collects statements.
type script struct{ strings.Builder }

func (s *script) line(format string, args ...any) { fmt.Fprintf(s, format+";\n", args...) }

// UpFunctions defines the functions and lets the roles at them and the tables.
func (w Wall) UpFunctions() (string, error) {
	functions, err := w.Functions()
	if err != nil {
		return "", err
	}
	var b script
	for _, f := range functions {
		b.WriteString(f.create(w.Schema))
	}
	for _, schema := range w.Schemas() {
		for _, role := range w.users() {
			b.line("GRANT USAGE ON SCHEMA %s TO %s", Ident(schema), Ident(role))
		}
	}
	return b.String(), nil
}

// UpTable puts a table behind row security, as far as it is not.
func (w Wall) UpTable(t Table, have State) string {
	var b script
	column := Ident(t.Column)
	if !have.Default && t.Via == nil {
		b.line("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", t, column, t.tenant())
	}
	if !have.NotNull {
		b.line("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", t, column)
	}
	if !have.Index {
		b.line("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", Ident(t.indexName()), t, column)
	}
	b.WriteString(w.upSecurity(t, have))
	if !have.Granted {
		b.line("REVOKE ALL ON TABLE %s FROM %s", t, Ident(w.App))
		for _, role := range w.users() {
			b.line("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", t, Ident(role))
		}
	}
	if !have.Parts {
		b.WriteString(w.grantSequences(t.Name, w.users()))
		b.WriteString(w.grantPartitions(t.Name))
	}
	return b.String()
}

// upSecurity switches row security on, with the policies in place first.
func (w Wall) upSecurity(t Table, have State) string {
	var b script
	for i, p := range w.policies(t) {
		if have.Policies[i] {
			continue
		}
		b.line("DROP POLICY IF EXISTS %s ON %s", p.name, t)
		if p.condition != "" {
			b.line("%s", p.create(t))
			b.line("%s", p.seal(t))
		}
	}
	if !have.Enabled {
		b.line("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", t)
	}
	if !have.Forced {
		b.line("ALTER TABLE %s FORCE ROW LEVEL SECURITY", t)
	}
	return b.String()
}

// UpShared lets tenants read a table that belongs to none of them.
func (w Wall) UpShared(n Name) string {
	var b script
	b.line("REVOKE ALL ON TABLE %s FROM %s", n, Ident(w.App))
	b.line("GRANT SELECT ON TABLE %s TO %s", n, Ident(w.App))
	for _, role := range w.users()[1:] {
		b.line("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %s", n, Ident(role))
	}
	b.WriteString(w.grantSequences(n, w.users()[1:]))
	return b.String()
}

// UpPrivate keeps tenants from a table; the system may read it, for backups.
func (w Wall) UpPrivate(n Name) string {
	var b script
	b.line("REVOKE ALL ON TABLE %s FROM %s", n, Ident(w.App))
	if w.System != "" {
		b.line("GRANT SELECT ON TABLE %s TO %s", n, Ident(w.System))
		b.WriteString(w.grantSequences(n, []string{w.System}))
	}
	return b.String()
}

// grantSequences lets roles use the sequences that feed a table's columns; the system may read
// them as well, for backups.
func (w Wall) grantSequences(n Name, roles []string) string {
	if len(roles) == 0 {
		return ""
	}
	quoted := make([]string, len(roles))
	for i, role := range roles {
		quoted[i] = Ident(role)
	}
	relation, _ := Literal(n.String()) // names were checked
	grants := fmt.Sprintf("        EXECUTE 'GRANT USAGE ON SEQUENCE ' || s::text || ' TO ' || %s;\n", literal(strings.Join(quoted, ", ")))
	if w.System != "" {
		grants += fmt.Sprintf("        EXECUTE 'GRANT SELECT ON SEQUENCE ' || s::text || ' TO ' || %s;\n", literal(Ident(w.System)))
	}
	return fmt.Sprintf(`DO $tenancy$
DECLARE s regclass;
BEGIN
    FOR s IN SELECT d.objid::regclass FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
             WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = %s::regclass AND d.deptype IN ('a', 'i')
    LOOP
%s    END LOOP;
END
$tenancy$;
`, relation, grants)
}

// grantPartitions lets the system read a table's partitions by their own names, as pg_dump does.
func (w Wall) grantPartitions(n Name) string {
	if w.System == "" {
		return ""
	}
	return fmt.Sprintf(`DO $tenancy$
DECLARE t regclass;
BEGIN
    FOR t IN SELECT relid FROM pg_catalog.pg_partition_tree(%s::regclass) WHERE level > 0 LOOP
        EXECUTE 'GRANT SELECT ON TABLE ' || t::text || ' TO ' || %s;
    END LOOP;
END
$tenancy$;
`, literal(n.String()), literal(Ident(w.System)))
}

// literal quotes what was checked to contain no NUL byte.
func literal(value string) string {
	quoted, _ := Literal(value)
	return quoted
}

// Down takes the wall away. Indexes that serve the application, columns and grants stay: they are
// its data.
func (w Wall) Down() string {
	var b script
	for _, t := range w.Tables {
		for _, p := range w.policies(t) {
			b.line("DROP POLICY IF EXISTS %s ON %s", p.name, t)
		}
		b.line("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", t)
		b.line("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", t)
		if t.Via == nil {
			b.line("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT", t, Ident(t.Column))
		}
		b.line("DROP INDEX IF EXISTS %s.%s", Ident(t.Schema), Ident(t.indexName()))
	}
	for _, cast := range []string{"uuid", "smallint", "integer", "bigint"} {
		b.line("DROP FUNCTION IF EXISTS %s.%s_%s()", Ident(w.Schema), TenantFunction, cast)
	}
	b.line("DROP FUNCTION IF EXISTS %s.tenancy_mismatch(text)", Ident(w.Schema))
	b.line("DROP FUNCTION IF EXISTS %s.tenancy_tenant()", Ident(w.Schema))
	b.line("DROP FUNCTION IF EXISTS %s.tenancy_unbound()", Ident(w.Schema))
	b.line("DROP FUNCTION IF EXISTS %s.%s(regclass, text, text)", Ident(w.Schema), sealFunction)
	return b.String()
}

// CountTenant counts a tenant's rows in a table. The tenant is the only parameter.
func CountTenant(t Table) string {
	return fmt.Sprintf("SELECT count(*) FROM %s AS d WHERE %s", t, t.owned("d", "$1::text", 1))
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
		fmt.Fprintf(&b, "d%d AS (DELETE FROM %s AS d WHERE %s)", i, t, t.owned("d", "$1::text", 1))
	}
	b.WriteString("\nSELECT 1")
	return b.String()
}
