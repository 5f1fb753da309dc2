package dialect

// Login asks what the current role may do beyond its tables. It answers one row: the role's name,
// whether it passes row security by itself, and the names of roles that it could become which do.
const Login = `SELECT current_user::text,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user),
       coalesce((SELECT string_agg(r.rolname, ', ') FROM pg_catalog.pg_roles r
                 WHERE (r.rolsuper OR r.rolbypassrls OR r.rolname = $1) AND r.rolname <> current_user
                   AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')), ''),
       coalesce(pg_catalog.current_setting($2, true), '')`

// WalledTable asks about one table, by schema, name and column. It answers no row when there is
// no such table.
const WalledTable = `SELECT c.relrowsecurity, c.relforcerowsecurity,
       pg_catalog.pg_has_role(current_user, c.relowner, 'MEMBER'),
       pg_catalog.has_table_privilege(current_user, c.oid, 'TRUNCATE'),
       pg_catalog.has_table_privilege(current_user, c.oid, 'REFERENCES')
         OR pg_catalog.has_any_column_privilege(current_user, c.oid, 'REFERENCES'),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $3 AND NOT a.attisdropped),
       EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = '` + PolicyTenant + `'
               AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}'::oid[]
               AND pg_catalog.pg_get_expr(p.polqual, c.oid) LIKE '%` + TenantFunction + `()%'
               AND pg_catalog.pg_get_expr(p.polwithcheck, c.oid) LIKE '%` + TenantFunction + `()%'),
       coalesce((SELECT string_agg(p.polname, ', ') FROM pg_catalog.pg_policy p
                 WHERE p.polrelid = c.oid AND p.polpermissive AND p.polname <> '` + PolicyTenant + `'
                   AND ('0'::oid = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) o
                        WHERE o <> 0 AND pg_catalog.pg_has_role(current_user, o, 'MEMBER')))), '')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`
