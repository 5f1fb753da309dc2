package dialect

import "encoding/json"

// Input is the parameter of the questions about a wall: what it consists of, as JSON.
func (w Wall) Input() string {
	type table struct {
		Name
		Column   string    `json:"col"`
		Type     string    `json:"typ"`
		Function string    `json:"function"`
		Parent   *Name     `json:"parent"`
		Key      string    `json:"key"`
		Stamps   [3]string `json:"stamps"`
	}
	input := struct {
		App       string     `json:"app"`
		System    string     `json:"system"`
		Legacy    string     `json:"legacy"`
		Users     []string   `json:"users"`
		Schema    string     `json:"schema"`
		Setting   string     `json:"setting"`
		Schemas   []string   `json:"schemas"`
		Functions []Function `json:"functions"`
		Tables    []table    `json:"tables"`
		Shared    []Name     `json:"shared"`
		Private   []Name     `json:"private"`
	}{
		App: w.App, System: w.System, Legacy: w.Legacy, Users: w.users(), Schema: w.Schema, Setting: w.Setting,
		Schemas: w.Schemas(), Tables: []table{}, Shared: append([]Name{}, w.Shared...), Private: append([]Name{}, w.Private...),
	}
	input.Functions, _ = w.Functions() // the setting was checked
	for _, t := range w.Tables {
		in := table{Name: t.Name, Column: t.Column, Type: t.Type, Function: t.function()}
		if t.Via != nil {
			in.Parent, in.Key = &t.Via.Parent.Name, t.Via.Key
		}
		for i, p := range w.policies(t) {
			in.Stamps[i] = p.stamp(t)
		}
		input.Tables = append(input.Tables, in)
	}
	text, _ := json.Marshal(input) // strings only
	return string(text)
}

// SafePath lets a transaction see the catalogue, and nothing that stands in for it.
const SafePath = "SET LOCAL search_path TO pg_catalog, pg_temp"

// with names the parts of the input: the roles, and the tables as they are.
const with = `WITH RECURSIVE input AS MATERIALIZED (SELECT $1::json AS j),
listed AS MATERIALIZED (
    SELECT t.i, c.oid, n.nspname AS schema, c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object,
           c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relacl,
           t.col, t.typ, t.function, t.stamps, t.key, a.attnum, a.attnotnull, a.atttypid, a.atttypmod, a.attcollation,
           p.oid AS parent, pa.attnum AS keynum
    FROM input
    CROSS JOIN LATERAL ROWS FROM (json_to_recordset(j -> 'tables')
        AS (schema text, name text, col text, typ text, function text, parent json, key text, stamps json)) WITH ORDINALITY
        AS t(schema, name, col, typ, function, parent, key, stamps, i)
    JOIN pg_namespace n ON n.nspname = t.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name AND c.relkind IN ('r', 'p')
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.col AND NOT a.attisdropped AND a.attnum > 0
    LEFT JOIN pg_namespace pn ON pn.nspname = t.parent ->> 'schema'
    LEFT JOIN pg_class p ON p.relnamespace = pn.oid AND p.relname = t.parent ->> 'name'
    LEFT JOIN pg_attribute pa ON pa.attrelid = p.oid AND pa.attname = t.key AND NOT pa.attisdropped AND pa.attnum > 0),
others AS MATERIALIZED (
    SELECT o.kind, o.i, c.oid, n.nspname AS schema, c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object, c.relacl, c.relowner
    FROM input
    CROSS JOIN LATERAL (
        SELECT 'shared' AS kind, s.* FROM ROWS FROM (json_to_recordset(j -> 'shared') AS (schema text, name text)) WITH ORDINALITY AS s(schema, name, i)
        UNION ALL
        SELECT 'private', s.* FROM ROWS FROM (json_to_recordset(j -> 'private') AS (schema text, name text)) WITH ORDINALITY AS s(schema, name, i)) o
    JOIN pg_namespace n ON n.nspname = o.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = o.name AND c.relkind IN ('r', 'p')),
policies AS MATERIALIZED (
    SELECT l.oid, pl.oid AS policy, pl.polname AS name, pl.polrelid, pl.polcmd, pl.polpermissive, pl.polroles, pl.polqual, pl.polwithcheck,
           coalesce(obj_description(pl.oid, 'pg_policy') = l.stamps ->> (CASE pl.polname WHEN '` + PolicyTenant + `' THEN 0
               WHEN '` + PolicySystem + `' THEN 1 WHEN '` + PolicyLegacy + `' THEN 2 END) || ` + policySeal + `, false) AS ours
    FROM listed l JOIN pg_policy pl ON pl.polrelid = l.oid)`

// defaults is the expression of the default of the tenant's column of the table l.
const defaults = `(SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = l.oid AND d.adnum = l.attnum)`

// defaultStands tells whether a row of the table l gets the bound tenant. While an application
// adopts, the default may give the legacy role's rows a tenant of theirs.
const defaultStands = `(l.parent IS NOT NULL OR coalesce(` + defaults + ` LIKE '%' || l.function || '()%', false)
    AND (j ->> 'legacy' <> '' OR ` + defaults + ` NOT ILIKE '%current_user%'))`

// indexStands tells whether the table l has an index that begins with the tenant's column.
const indexStands = `EXISTS (SELECT FROM pg_index x WHERE x.indrelid = l.oid AND x.indisvalid AND x.indisready
    AND x.indpred IS NULL AND x.indkey[0] = l.attnum)`

// sequencesStand tells whether the roles may use the sequences of the table l.
const sequencesStand = `NOT EXISTS (
    SELECT FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    CROSS JOIN json_array_elements_text(j -> 'users') u(role) LEFT JOIN pg_roles r ON r.rolname = u.role
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.deptype IN ('a', 'i')
      AND NOT coalesce(has_sequence_privilege(r.oid, s.oid, 'USAGE')
          AND (u.role <> j ->> 'system' OR has_sequence_privilege(r.oid, s.oid, 'SELECT')), false))`

// partitionsStand tells whether the system may read the partitions of the table l.
const partitionsStand = `(l.relkind <> 'p' OR j ->> 'system' = '' OR NOT EXISTS (
    SELECT FROM pg_partition_tree(l.oid) p LEFT JOIN pg_roles r ON r.rolname = j ->> 'system'
    WHERE p.level > 0 AND NOT coalesce(has_table_privilege(r.oid, p.relid, 'SELECT'), false)))`

// granted tells whether the role app has just these rights on the table l, from grants to itself,
// and the other roles at least those that follow.
func granted(app, others string) string {
	return `coalesce((SELECT array_agg(x.privilege_type ORDER BY x.privilege_type) FROM aclexplode(l.relacl) x
            JOIN pg_roles r ON r.oid = x.grantee AND r.rolname = j ->> 'app'), '{}') = '` + app + `'
    AND NOT EXISTS (SELECT FROM json_array_elements_text(j -> 'users') u(role) LEFT JOIN pg_roles r ON r.rolname = u.role
        CROSS JOIN unnest('` + others + `'::text[]) p(privilege)
        WHERE u.role <> j ->> 'app' AND NOT coalesce(has_table_privilege(r.oid, l.oid, p.privilege), false))`
}

// TableStates answers what stands of each table's wall, one row per table that exists: its number
// from 1, and the fields of State.
var TableStates = with + `
SELECT l.i, ` + defaultStands + `, coalesce(l.attnotnull, false), ` + indexStands + `, l.relrowsecurity, l.relforcerowsecurity,
       ` + policyStands(0, PolicyTenant) + `, ` + policyStands(1, PolicySystem) + `, ` + policyStands(2, PolicyLegacy) + `,
       ` + granted("{DELETE,INSERT,SELECT,UPDATE}", "{DELETE,INSERT,SELECT,UPDATE}") + `, ` + sequencesStand + ` AND ` + partitionsStand + `
FROM input, listed l ORDER BY l.i`

func policyStands(i int, name string) string {
	n := string(rune('0' + i))
	return `CASE WHEN l.stamps ->> ` + n + ` = '' THEN NOT EXISTS (SELECT FROM policies p WHERE p.oid = l.oid AND p.name = '` + name + `')
            ELSE EXISTS (SELECT FROM policies p WHERE p.oid = l.oid AND p.name = '` + name + `' AND p.ours) END`
}

// OtherStates answers which of the shared and private tables have the wall's grants: the kind,
// the number from 1, and whether they have.
var OtherStates = with + `
SELECT l.kind, l.i, CASE l.kind WHEN 'shared' THEN ` + granted("{SELECT}", "{DELETE,INSERT,SELECT,UPDATE}") + `
       ELSE coalesce((SELECT count(*) = 0 FROM aclexplode(l.relacl) x JOIN pg_roles r ON r.oid = x.grantee AND r.rolname = j ->> 'app'), true)
            AND (j ->> 'system' = '' OR coalesce((SELECT has_table_privilege(r.oid, l.oid, 'SELECT') FROM pg_roles r WHERE r.rolname = j ->> 'system'), false)) END
FROM input, others l ORDER BY l.kind, l.i`

// functionStands tells whether the function f is as generated.
const functionStands = `EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = j ->> 'schema' AND p.proname = f.name AND p.prosrc = f.body AND NOT p.prosecdef
      AND p.provolatile = f.volatility::"char" AND (p.proconfig IS NULL) = (f.volatility = 's'))`

// FunctionsStand answers whether the wall's functions are as generated and the roles may use the
// schemas.
const FunctionsStand = with + `
SELECT NOT EXISTS (SELECT FROM json_to_recordset(j -> 'functions') AS f(name text, body text, volatility text)
           WHERE NOT ` + functionStands + `)
   AND NOT EXISTS (SELECT FROM json_array_elements_text(j -> 'schemas') s(name) CROSS JOIN json_array_elements_text(j -> 'users') u(role)
           LEFT JOIN pg_roles r ON r.rolname = u.role LEFT JOIN pg_namespace n ON n.nspname = s.name
           WHERE NOT coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false))
FROM input`
