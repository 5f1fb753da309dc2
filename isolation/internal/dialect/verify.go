package dialect

// Probe is a question for one kind of hole. It takes [Wall.Input] and answers one row per
// finding: kind, object, detail, remedy.
type Probe struct {
	Query string
	// Opens tells that the role app, as it is, could pass the wall.
	Opens bool
}

// seen adds to the input what the probes have in common: the role app, unless it passes every
// wall anyhow, the roles that see all rows (passes), those that app must not be a member of (masters),
// what app was granted by its own name, by PUBLIC and by other roles (grants, reached), and what is
// made of the tables: partitions, views.
const seen = with + `,
app AS MATERIALIZED (SELECT r.* FROM pg_roles r, input WHERE r.rolname = j ->> 'app' AND NOT r.rolsuper),
schemas AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n, input
    WHERE n.nspname IN (SELECT json_array_elements_text(j -> 'schemas'))),
passes AS MATERIALIZED (
    SELECT r.oid, r.rolname, CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'
           WHEN EXISTS (SELECT FROM listed l WHERE l.relowner = r.oid AND NOT l.relforcerowsecurity) THEN 'owns a table without FORCE'
           ELSE 'sees all rows' END AS why
    FROM pg_roles r, input
    WHERE r.rolsuper OR r.rolbypassrls OR r.rolname IN (j ->> 'system', j ->> 'legacy')
       OR EXISTS (SELECT FROM listed l WHERE l.relowner = r.oid AND NOT l.relforcerowsecurity)),
masters AS MATERIALIZED (
    SELECT r.oid, r.rolname, coalesce((SELECT p.why FROM passes p WHERE p.oid = r.oid),
           CASE WHEN r.rolcreaterole THEN 'has CREATEROLE' WHEN r.rolreplication THEN 'has REPLICATION'
                WHEN r.rolname LIKE 'pg\_%\_data' THEN 'needs no grant for any table'
                WHEN r.rolname LIKE 'pg\_%' THEN 'reaches the server''s files' ELSE 'owns walled tables' END) AS why
    FROM app, pg_roles r
    WHERE r.oid <> app.oid AND pg_has_role(app.oid, r.oid, 'MEMBER')
      AND (r.rolcreaterole OR r.rolreplication OR r.oid IN (SELECT oid FROM passes) OR r.oid IN (SELECT relowner FROM listed)
           OR r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program',
                         'pg_read_all_data', 'pg_write_all_data'))),
takes AS MATERIALIZED (
    SELECT 0::oid AS oid FROM app UNION ALL
    SELECT r.oid FROM pg_roles r, app WHERE pg_has_role(app.oid, r.oid, 'MEMBER') AND r.oid NOT IN (SELECT oid FROM masters)),
grants AS MATERIALIZED (
    SELECT c.oid, x.privilege_type AS privilege, '' AS col
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x
    WHERE x.grantee <> c.relowner AND x.grantee IN (SELECT oid FROM takes) AND c.relowner NOT IN (SELECT oid FROM takes)
    UNION
    SELECT c.oid, x.privilege_type, a.attname::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid CROSS JOIN LATERAL aclexplode(a.attacl) x
    WHERE a.attacl IS NOT NULL AND x.grantee <> c.relowner AND x.grantee IN (SELECT oid FROM takes) AND c.relowner NOT IN (SELECT oid FROM takes)),
reached AS MATERIALIZED (
    SELECT oid, string_agg(DISTINCT privilege, ', ') AS privileges FROM grants
    WHERE privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') GROUP BY oid
    UNION ALL
    SELECT c.oid, 'all, as its owner' FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relowner IN (SELECT oid FROM takes)),
descendants AS MATERIALIZED (
    SELECT l.oid AS root, l.object AS root_object, h.inhrelid AS oid FROM listed l JOIN pg_inherits h ON h.inhparent = l.oid
    UNION
    SELECT d.root, d.root_object, h.inhrelid FROM descendants d JOIN pg_inherits h ON h.inhparent = d.oid),
dependents AS MATERIALIZED (
    SELECT r.ev_class AS oid, l.object FROM (SELECT oid, object FROM listed UNION SELECT oid, root_object FROM descendants) l
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> l.oid
    UNION
    SELECT r.ev_class, s.object FROM dependents s
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> s.oid)
`

// columns writes the names of a table's columns; the second argument is an array of numbers.
func columns(table, numbers string) string {
	return `(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY o.n) FROM unnest(` + numbers + `) WITH ORDINALITY o(num, n)
        JOIN pg_attribute a ON a.attrelid = ` + table + ` AND a.attnum = o.num)`
}

// crossing lists the foreign keys that lead to a tenant's row and do not compare the tenants: con,
// the table it is of, the one it leads to, and whether an action of it changes rows.
var crossing = `crossing AS (
    SELECT k.conname, k.conrelid, format('%I.%I', cn.nspname, c.relname) AS child, l.object AS parent,
           k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r') AS acts,
           ` + columns("k.conrelid", "k.conkey") + ` AS cols, ` + columns("k.confrelid", "k.confkey") + ` AS refs
    FROM pg_constraint k JOIN listed l ON l.oid = k.confrelid
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
    LEFT JOIN listed m ON m.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND NOT coalesce(m.parent = l.oid AND k.conkey = ARRAY[m.attnum] AND k.confkey = ARRAY[m.keynum], false)
      AND NOT (m.parent IS NULL AND l.parent IS NULL AND EXISTS (
          SELECT FROM unnest(k.conkey, k.confkey) u(a, b) WHERE u.a = m.attnum AND u.b = l.attnum)))
`

// Probes are the questions of the verifier, in the order of its report.
var Probes = []Probe{
	// The role app.
	{Opens: true, Query: seen + `
SELECT 'role-missing', format('role %I', j ->> 'app'), 'does not exist', 'make it: RLS.Roles.Create'
FROM input WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = j ->> 'app')
UNION ALL
SELECT 'role-superuser', format('role %I', rolname), 'is a superuser and passes row security',
       'log in as a plain role; RLS.Roles.Create makes one'
FROM pg_roles, input WHERE rolname = j ->> 'app' AND rolsuper
UNION ALL
SELECT 'role-bypass', format('role %I', rolname), 'has BYPASSRLS', format('ALTER ROLE %I NOBYPASSRLS', rolname) FROM app WHERE rolbypassrls
UNION ALL
SELECT 'role-createrole', format('role %I', rolname), 'has CREATEROLE and can make itself a member of other roles',
       format('ALTER ROLE %I NOCREATEROLE', rolname) FROM app WHERE rolcreaterole
UNION ALL
SELECT 'role-replication', format('role %I', rolname), 'has REPLICATION and can copy all tenants'' rows',
       format('ALTER ROLE %I NOREPLICATION', rolname) FROM app WHERE rolreplication
UNION ALL
SELECT 'role-member', format('role %I, member of %I', app.rolname, m.rolname), format('is a member of %I, which %s', m.rolname, m.why),
       format('REVOKE %I FROM %I', m.rolname, app.rolname)
FROM app, masters m
UNION ALL
SELECT 'owner', 'table ' || l.object, format('is owned by the application''s role %I, which could take the wall away', app.rolname),
       format('ALTER TABLE %s OWNER TO the migrator', l.object)
FROM app JOIN listed l ON l.relowner = app.oid
UNION ALL
SELECT 'owner', format('schema %I', n.nspname), format('is owned by the application''s role %I, which could drop its tables', app.rolname),
       format('ALTER SCHEMA %I OWNER TO the migrator', n.nspname)
FROM app JOIN schemas n ON n.nspowner = app.oid
UNION ALL
SELECT 'owner', format('database %I', d.datname), format('is owned by the application''s role %I', app.rolname),
       format('ALTER DATABASE %I OWNER TO the migrator', d.datname)
FROM app JOIN pg_database d ON d.datdba = app.oid WHERE d.datname = current_database()
UNION ALL
SELECT 'owner', format('function %I.%I', n.nspname, p.proname), format('is owned by the application''s role %I, which could replace it', app.rolname),
       format('ALTER FUNCTION %I.%I OWNER TO the migrator', n.nspname, p.proname)
FROM input CROSS JOIN app JOIN pg_proc p ON p.proowner = app.oid JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = j ->> 'schema'
WHERE p.proname LIKE 'tenancy\_%'
UNION ALL
SELECT 'setting', format('setting %s of %s', j ->> 'setting', concat_ws(' in ', CASE WHEN s.setrole <> 0 THEN format('role %I', r.rolname) END,
           CASE WHEN s.setdatabase <> 0 THEN 'this database' END)),
       'binds sessions that nobody bound: each new one already has ' || c,
       format('RESET %s for it, with ALTER ROLE or ALTER DATABASE', j ->> 'setting')
FROM input CROSS JOIN pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.rolname = j ->> 'app') AND starts_with(c, (j ->> 'setting') || '=')
`},
	// The tables and their policies.
	{Opens: true, Query: seen + `
SELECT 'table-missing', format('table %I.%I', t.schema, t.name), 'does not exist', 'migrate the database, then apply RLS.Up'
FROM input CROSS JOIN LATERAL (
    SELECT * FROM json_to_recordset(j -> 'tables') AS a(schema text, name text) UNION ALL
    SELECT * FROM json_to_recordset(j -> 'shared') AS b(schema text, name text) UNION ALL
    SELECT * FROM json_to_recordset(j -> 'private') AS c(schema text, name text)) t
WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = t.schema AND c.relname = t.name AND c.relkind IN ('r', 'p'))
UNION ALL
SELECT 'column-missing', 'table ' || object, format('has no column %I', col), 'add it and fill it in, as RLS.Plan does'
FROM listed WHERE attnum IS NULL
UNION ALL
SELECT 'no-enable', 'table ' || object, 'has no row security', format('apply RLS.Up, or ALTER TABLE %s ENABLE ROW LEVEL SECURITY', object)
FROM listed WHERE NOT relrowsecurity
UNION ALL
SELECT 'no-force', 'table ' || object, 'does not force row security on its owner',
       format('apply RLS.Up, or ALTER TABLE %s FORCE ROW LEVEL SECURITY', object)
FROM listed WHERE NOT relforcerowsecurity
UNION ALL
SELECT 'no-policy', 'table ' || l.object, 'lacks the policy ` + PolicyTenant + `', 'apply RLS.Up'
FROM listed l WHERE NOT EXISTS (SELECT FROM policies p WHERE p.oid = l.oid AND p.name = '` + PolicyTenant + `')
UNION ALL
SELECT CASE WHEN p.polwithcheck IS NULL THEN 'no-check' ELSE 'policy-changed' END, format('policy %I on %s', p.name, l.object),
       format('lacks the policy %I as it is generated: it is %s WITH CHECK %s', p.name,
              coalesce('USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'without USING'),
              coalesce('(' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', 'missing')), 'apply RLS.Up'
FROM listed l JOIN policies p ON p.oid = l.oid AND p.name = '` + PolicyTenant + `' AND NOT p.ours AND l.attnum IS NOT NULL
UNION ALL
SELECT CASE WHEN opens.app THEN 'policy-opens' ELSE 'policy-other' END, format('policy %I on %s', p.name, l.object),
       format('opens the table to %s%s', coalesce((SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ', ')
                  FROM unnest(p.polroles) o(oid) LEFT JOIN pg_roles r ON r.oid = o.oid), 'nobody'),
              CASE WHEN pg_get_expr(p.polqual, p.polrelid) = 'true' OR pg_get_expr(p.polwithcheck, p.polrelid) = 'true' THEN ', for every tenant''s rows'
                   ELSE ': permissive policies are joined by OR' END),
       format('DROP POLICY %I ON %s, or make it RESTRICTIVE', p.name, l.object)
FROM listed l JOIN policies p ON p.oid = l.oid AND p.polpermissive AND p.name <> '` + PolicyTenant + `' AND NOT p.ours
CROSS JOIN LATERAL (SELECT '0'::oid = ANY (p.polroles) OR EXISTS (
    SELECT FROM app, unnest(p.polroles) o(oid) WHERE o.oid <> 0 AND pg_has_role(app.oid, o.oid, 'MEMBER')) AS app) opens
UNION ALL
SELECT 'function-changed', format('function %I.%I', j ->> 'schema', f.name), 'is missing or not as it is generated', 'apply RLS.Up'
FROM input CROSS JOIN json_to_recordset(j -> 'functions') AS f(name text, body text, volatility text)
WHERE NOT ` + functionStands + `
UNION ALL
SELECT 'grant-' || lower(g.privilege), 'table ' || l.object || coalesce(' (' || quote_ident(nullif(g.col, '')) || ')', ''),
       format('the application''s role has %s, %s', g.privilege, CASE g.privilege WHEN 'TRUNCATE' THEN 'which empties it for every tenant'
              WHEN 'REFERENCES' THEN 'and a foreign key shows which keys exist' ELSE 'and a trigger runs with other tenants'' statements' END),
       format('REVOKE %s ON %s from it and from PUBLIC', g.privilege, l.object)
FROM listed l JOIN grants g ON g.oid = l.oid AND g.privilege IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')
`},
	// What should hold for a walled table, beside the policy.
	{Query: seen + `
SELECT 'nullable', 'table ' || object, format('the column %I may be NULL: such rows are nobody''s, and nobody notices', col),
       format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', object, col)
FROM listed WHERE NOT attnotnull
UNION ALL
SELECT 'column-type', 'table ' || l.object, format('the column %I is of type %s, not %s as RLS.Tables says', l.col, format_type(l.atttypid, l.atttypmod), l.typ),
       'say in RLS.Tables what it is'
FROM listed l WHERE l.parent IS NULL AND l.attnum IS NOT NULL
  AND CASE WHEN l.function = '` + TenantFunction + `' THEN l.atttypid NOT IN ('text'::regtype, 'varchar'::regtype)
           ELSE l.atttypid <> to_regtype(substr(l.function, length('` + TenantFunction + `') + 2)) END
UNION ALL
SELECT 'column-type', 'table ' || l.object, format('the column %I has the collation %s, in which different ids can be equal', l.col, c.collname),
       'give it a deterministic collation'
FROM listed l JOIN pg_collation c ON c.oid = l.attcollation AND NOT c.collisdeterministic
UNION ALL
SELECT 'default', 'table ' || l.object, format('the column %I defaults to %s, not to the bound tenant', l.col, coalesce(` + defaults + `, 'nothing')), 'apply RLS.Up'
FROM input, listed l WHERE l.attnum IS NOT NULL AND NOT ` + defaultStands + `
UNION ALL
SELECT 'no-index', 'table ' || l.object, format('no index begins with %I: each statement reads every tenant''s rows', l.col), 'apply RLS.Up'
FROM listed l WHERE l.attnum IS NOT NULL AND NOT ` + indexStands + `
UNION ALL
SELECT 'via', 'table ' || l.object, format('no foreign key leads from %I to the parent in Via: rows without a parent are nobody''s', l.col),
       'add the foreign key'
FROM listed l WHERE l.parent IS NOT NULL AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = l.oid
    AND k.confrelid = l.parent AND k.conkey = ARRAY[l.attnum] AND k.confkey = ARRAY[l.keynum] AND k.convalidated)
UNION ALL
SELECT 'unique-key', format('index %I on %s', c.relname, l.object),
       format('is unique without %I: it tells whether another tenant has the same value', l.col),
       format('make it unique over (%I, ...), as RLS.Plan does', l.col)
FROM listed l JOIN pg_index x ON x.indrelid = l.oid AND (x.indisunique OR x.indisexclusion) JOIN pg_class c ON c.oid = x.indexrelid
WHERE l.attnum IS NOT NULL
  AND NOT l.attnum = ANY ((string_to_array(x.indkey::text, ' ')::int2[])[1:x.indnkeyatts])
  AND NOT EXISTS (SELECT FROM listed k WHERE k.parent = l.oid AND x.indnkeyatts = 1 AND x.indkey[0] = k.keynum)
`},
	{Query: seen + `, ` + crossing + `
SELECT CASE WHEN acts THEN 'cascade' ELSE 'foreign-key' END, format('constraint %I on %s', conname, child),
       format('leads from (%s) to %s (%s) without the tenant: it %s', cols, parent, refs,
              CASE WHEN acts THEN 'changes other tenants'' rows' ELSE 'accepts, and so shows, other tenants'' rows' END),
       'let both sides include the tenant''s column, as RLS.Plan does'
FROM crossing
`},
	// Ways around the policies.
	{Query: seen + `
SELECT 'table-unlisted', format('table %I.%I', n.nspname, c.relname),
       'is in none of RLS.Tables, Shared, Private; the application''s role ' || coalesce('has ' || r.privileges, 'has no grant yet'),
       'list it'
FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace LEFT JOIN reached r ON r.oid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.oid NOT IN (SELECT oid FROM listed) AND c.oid NOT IN (SELECT oid FROM others)
  AND c.oid NOT IN (SELECT oid FROM descendants)
UNION ALL
SELECT 'partition', format('table %I.%I', n.nspname, c.relname),
       format('is a part of %s and has no policy of its own; the application''s role has %s on it', d.root_object, r.privileges),
       format('REVOKE ALL ON %I.%I from it: the parent is enough', n.nspname, c.relname)
FROM descendants d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN reached r ON r.oid = c.oid
WHERE d.oid NOT IN (SELECT oid FROM listed)
UNION ALL
SELECT 'partition', format('table %I.%I', n.nspname, c.relname),
       format('shows the rows of %s, which inherits from it, without its policy', l.object), 'take the inheritance away, or list the parent'
FROM listed l JOIN pg_inherits h ON h.inhrelid = l.oid JOIN pg_class c ON c.oid = h.inhparent JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN reached r ON r.oid = c.oid WHERE c.oid NOT IN (SELECT oid FROM listed)
UNION ALL
SELECT 'foreign-table', format('table %I.%I', n.nspname, c.relname), 'is a foreign table: this server''s row security does not hold there',
       'REVOKE ALL on it from the application''s role'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN reached r ON r.oid = c.oid WHERE c.relkind = 'f'
UNION ALL
SELECT DISTINCT 'materialized-view', format('view %I.%I', n.nspname, c.relname),
       'holds rows of all tenants, and no policy can be put on it', 'REVOKE ALL on it from the application''s role'
FROM dependents d JOIN pg_class c ON c.oid = d.oid AND c.relkind = 'm' JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN reached r ON r.oid = c.oid
UNION ALL
SELECT DISTINCT 'definer-view', format('view %I.%I', n.nspname, c.relname),
       format('reads with the rights of its owner %I%s', o.rolname, coalesce(', who ' || (SELECT p.why FROM passes p WHERE p.oid = o.oid), '')),
       format('ALTER VIEW %I.%I SET (security_invoker = on)', n.nspname, c.relname)
FROM dependents d JOIN pg_class c ON c.oid = d.oid AND c.relkind = 'v' JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles o ON o.oid = c.relowner JOIN reached r ON r.oid = c.oid
WHERE NOT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) q WHERE q.option_name = 'security_invoker' AND q.option_value::bool)
UNION ALL
SELECT 'rule', format('rule %I on %I.%I', w.rulename, n.nspname, c.relname), 'runs with the rights of the table''s owner',
       'write a trigger, or let the application do it'
FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN schemas n ON n.oid = c.relnamespace WHERE w.ev_type <> '1'
UNION ALL
SELECT 'definer-function', format('function %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       format('is SECURITY DEFINER and its owner %I %s', o.rolname, s.why), 'make it SECURITY INVOKER, or REVOKE EXECUTE on it'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles o ON o.oid = p.proowner JOIN passes s ON s.oid = o.oid CROSS JOIN app
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (has_function_privilege(app.oid, p.oid, 'EXECUTE') OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = p.oid))
UNION ALL
SELECT 'function-path', format('function %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       'is SECURITY DEFINER without a search_path of its own: its caller decides which tables its names mean',
       'ALTER FUNCTION ... SET search_path = pg_catalog, pg_temp, and qualify its names'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace CROSS JOIN app
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE starts_with(c, 'search_path='))
  AND (has_function_privilege(app.oid, p.oid, 'EXECUTE') OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = p.oid))
UNION ALL
SELECT 'function-leakproof', format('function %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       'is LEAKPROOF and may see rows before the policy has judged them', 'ALTER FUNCTION ... NOT LEAKPROOF'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proleakproof AND n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'publication', format('publication %I, table %s', p.pubname, l.object), 'sends all tenants'' rows to its subscribers, past the policies',
       'give it a publication of its own that says so, or accept it'
FROM pg_publication_tables p JOIN (
    SELECT schema, name, object FROM listed UNION
    SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) FROM descendants d
    JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace) l
  ON l.schema = p.schemaname AND l.name = p.tablename
`},
	// What the role app may do beside reading and writing its rows.
	{Query: seen + `
SELECT 'shared-write', 'table ' || o.object, 'is shared, and the application''s role has ' || string_agg(DISTINCT g.privilege, ', ') || ': a tenant writes what all read',
       format('REVOKE ALL ON %s from it and from PUBLIC, then apply RLS.Up', o.object)
FROM others o JOIN grants g ON g.oid = o.oid WHERE o.kind = 'shared' AND g.privilege <> 'SELECT' GROUP BY o.object
UNION ALL
SELECT 'private-grant', 'table ' || o.object, 'is private, and the application''s role has ' || string_agg(DISTINCT g.privilege, ', '),
       format('REVOKE ALL ON %s from it and from PUBLIC', o.object)
FROM others o JOIN grants g ON g.oid = o.oid WHERE o.kind = 'private' GROUP BY o.object
UNION ALL
SELECT 'sequence-grant', format('sequence %I.%I', n.nspname, c.relname),
       'the application''s role has ' || string_agg(DISTINCT g.privilege, ', ') || ': it sees or sets how many rows all tenants have made',
       format('REVOKE ALL ON SEQUENCE %I.%I from it and grant it USAGE', n.nspname, c.relname)
FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace JOIN grants g ON g.oid = c.oid
WHERE c.relkind = 'S' AND g.privilege <> 'USAGE' GROUP BY n.nspname, c.relname
UNION ALL
SELECT 'schema-create', format('schema %I', n.nspname), 'the application''s role may create in it, and so put objects in the way of others',
       format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %I', n.nspname, app.rolname)
FROM app CROSS JOIN schemas n CROSS JOIN LATERAL aclexplode(n.nspacl) x
WHERE x.privilege_type = 'CREATE' AND x.grantee <> n.nspowner AND x.grantee IN (SELECT oid FROM takes)
GROUP BY n.nspname, app.rolname
UNION ALL
SELECT 'shadow', format('table %I.%I', n.nspname, c.relname),
       format('comes before %s in the search_path "$user", public, and has none of its policies', l.object), 'drop or rename it'
FROM app JOIN pg_namespace n ON n.nspname = app.rolname AND has_schema_privilege(app.oid, n.oid, 'USAGE')
JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN listed l ON l.name = c.relname AND l.schema = 'public'
UNION ALL
SELECT 'default-grant', format('tables that %I creates%s', o.rolname, coalesce(format(' in %I', n.nspname), '')),
       'the application''s role gets ' || string_agg(DISTINCT x.privilege_type, ', ') || ' on each new one, before it has a policy',
       'ALTER DEFAULT PRIVILEGES ... REVOKE it, and let RLS.Apply grant'
FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) x
WHERE d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole AND x.grantee IN (SELECT oid FROM takes)
  AND (d.defaclnamespace = 0 OR d.defaclnamespace IN (SELECT oid FROM schemas))
GROUP BY o.rolname, n.nspname
UNION ALL
SELECT 'large-object', format('large objects of role %I', o.rolname),
       format('the application''s role reaches %s: no row security holds them, and each tenant reads all by their numbers', count(*)),
       'keep such data in a bytea column of a walled table, and lo_unlink or REVOKE them'
FROM pg_largeobject_metadata m JOIN pg_roles o ON o.oid = m.lomowner
WHERE m.lomowner IN (SELECT oid FROM takes) OR EXISTS (SELECT FROM aclexplode(m.lomacl) x WHERE x.grantee IN (SELECT oid FROM takes) AND x.grantee <> m.lomowner)
GROUP BY o.rolname
UNION ALL
SELECT 'large-object', 'setting lo_compat_privileges of ' || s.whose, 'is on: each role reads and writes each large object of this database',
       'RESET lo_compat_privileges for it'
FROM (SELECT 'the server' AS whose FROM app WHERE EXISTS (SELECT FROM pg_settings
          WHERE name = 'lo_compat_privileges' AND setting = 'on' AND source IN ('configuration file', 'command line', 'environment variable', 'global'))
      UNION ALL
      SELECT concat_ws(' in ', CASE WHEN d.setrole <> 0 THEN format('role %I', app.rolname) END, CASE WHEN d.setdatabase <> 0 THEN 'this database' END)
      FROM app JOIN pg_db_role_setting d ON d.setrole IN (0, app.oid) CROSS JOIN unnest(d.setconfig) c
      WHERE (d.setdatabase = 0 OR d.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND CASE WHEN starts_with(c, 'lo_compat_privileges=') THEN split_part(c, '=', 2)::bool ELSE false END) s
UNION ALL
SELECT 'large-object', format('function %s', p.oid::regprocedure), 'lets the application''s role read or write the server''s files',
       format('REVOKE EXECUTE ON FUNCTION %s FROM %I, PUBLIC', p.oid::regprocedure, app.rolname)
FROM app CROSS JOIN pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('lo_import', 'lo_export')
  AND has_function_privilege(app.oid, p.oid, 'EXECUTE')
UNION ALL
SELECT 'legacy', format('role %I', j ->> 'legacy'), 'sees all tenants'' rows, for as long as RLS.Roles.Legacy names it',
       'when the application uses isolation.DB, leave Legacy empty and apply RLS.Up'
FROM input WHERE j ->> 'legacy' <> ''
`},
	// Indexes that serve no condition under row security.
	{Query: seen + `,
keys AS (
    SELECT l.object, l.attnum, c.relname, x.indexrelid, x.indexprs, am.amname, k.n, x.indkey[k.n - 1] AS key, oc.opcfamily, oc.opcintype
    FROM listed l JOIN pg_index x ON x.indrelid = l.oid JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am am ON am.oid = c.relam
    CROSS JOIN LATERAL generate_series(1, x.indnkeyatts) k(n)
    JOIN pg_opclass oc ON oc.oid = x.indclass[k.n - 1]),
operators AS (
    SELECT k.indexrelid, k.n, string_agg(DISTINCT format('operator %s (%s)', a.amopopr::regoperator, o.oprcode), ', ')
               FILTER (WHERE NOT p.proleakproof) AS bad,
           bool_or(p.proleakproof AND (k.amname <> 'btree' OR a.amopstrategy = 3)) AS good
    FROM keys k JOIN pg_amop a ON a.amopfamily = k.opcfamily AND a.amoplefttype = k.opcintype AND a.amoppurpose = 's'
      AND (a.amoprighttype = k.opcintype OR k.amname NOT IN ('btree', 'hash'))
    JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_proc p ON p.oid = o.oprcode
    GROUP BY k.indexrelid, k.n),
functions AS (
    SELECT k.indexrelid, string_agg(DISTINCT format('function %s', p.oid::regprocedure), ', ') AS bad
    FROM keys k CROSS JOIN LATERAL regexp_matches(k.indexprs::text, ':(?:funcid|opfuncid) (\d+)', 'g') m
    JOIN pg_proc p ON p.oid = m[1]::oid AND NOT p.proleakproof
    WHERE k.key = 0 GROUP BY k.indexrelid)
SELECT 'index-unused', format('index %I on %s', k.relname, k.object),
       'serves no condition under row security, which uses only leakproof ones: '
           || string_agg(DISTINCT concat_ws(', ', CASE WHEN NOT o.good THEN o.bad END, CASE WHEN k.key = 0 THEN f.bad END), ', '),
       'begin it with the tenant''s column, and expect each of its rows to be tested; or drop it'
FROM keys k LEFT JOIN operators o USING (indexrelid, n) LEFT JOIN functions f USING (indexrelid)
WHERE k.key IS DISTINCT FROM k.attnum AND (NOT o.good OR k.key = 0 AND f.bad IS NOT NULL)
GROUP BY k.relname, k.object
`},
}

// LoginRole answers as whom one is logged in, and what a setting is bound to already.
const LoginRole = `SELECT current_user::text, coalesce(pg_catalog.current_setting($1, true), '')`

// Unseen answers what the probes do not look into, one sentence per row.
const Unseen = seen + `
SELECT format('schema %I: the application''s role may use it, and RLS names none of its tables', n.nspname)
FROM pg_namespace n CROSS JOIN app
WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND n.oid NOT IN (SELECT oid FROM schemas)
  AND has_schema_privilege(app.oid, n.oid, 'USAGE')
UNION ALL
SELECT format('foreign server %I: what the application''s role reaches through it', s.srvname)
FROM pg_foreign_server s CROSS JOIN app WHERE has_server_privilege(app.oid, s.oid, 'USAGE')
UNION ALL
SELECT format('role %I: its rights are not looked into, because it is a superuser', j ->> 'app')
FROM input WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = j ->> 'app' AND r.rolsuper)
ORDER BY 1`
