package dialect

import (
	"fmt"
	"strings"
)

// Schema is one tenant's schema. The role that may use it has the same name.
type Schema struct {
	Name string
	Mark string // the comment that says whose it is
	// Group is the role that may read what tenants share; App takes the tenant's role; System,
	// unless empty, works in all schemas.
	Group, App, System string
}

// SchemaMark asks for a schema's mark, by name. It answers no row when there is no such schema.
const SchemaMark = `SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace WHERE nspname = $1`

// SchemaLogin asks what the current role may do before it takes a tenant's role. Its parameters are
// the roles system and migrator and the beginning of marks.
const SchemaLogin = `SELECT current_user::text, r.rolsuper, r.rolbypassrls, r.rolinherit,
       coalesce((SELECT string_agg(o.rolname, ', ') FROM pg_catalog.pg_roles o
                 WHERE (o.rolsuper OR o.rolbypassrls OR o.rolcreaterole OR o.rolname IN ($1, $2)) AND o.rolname <> current_user
                   AND pg_catalog.pg_has_role(current_user, o.oid, 'MEMBER')), ''),
       coalesce((SELECT string_agg(n.nspname, ', ') FROM pg_catalog.pg_namespace n
                 WHERE pg_catalog.starts_with(pg_catalog.obj_description(n.oid, 'pg_namespace'), $3)
                   AND pg_catalog.has_schema_privilege(current_user, n.oid, 'USAGE, CREATE')), '')
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

// SetupSchemas makes the role that may read the shared schemas.
func SetupSchemas(group string, shared []string) (string, error) {
	b, err := createGroup(group)
	if err != nil {
		return "", err
	}
	for _, schema := range shared {
		s, g := Ident(schema), Ident(group)
		b += fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\n", s, g) +
			fmt.Sprintf("GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %s;\n", s, g) +
			fmt.Sprintf("ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT SELECT ON TABLES TO %s;\n", s, g)
	}
	return b, nil
}

// CreateSchema makes a tenant's schema, and the role that may use it. It may be repeated, and
// belongs into one transaction.
func CreateSchema(s Schema) (string, error) {
	role, err := createGroup(s.Name)
	if err != nil {
		return "", err
	}
	mark, err := Literal(s.Mark)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(role)
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	name := Ident(s.Name)
	line("GRANT %s TO %s", Ident(s.Group), name)
	line("GRANT %s TO %s", name, Ident(s.App))
	line("CREATE SCHEMA IF NOT EXISTS %s", name)
	line("COMMENT ON SCHEMA %s IS %s", name, mark)
	b.WriteString(GrantSchema(s.Name, s.Name))
	if s.System != "" {
		b.WriteString(GrantSchema(s.Name, s.System))
	}
	return b.String(), nil
}

// GrantSchema lets a role work with the rows of a schema's tables, those to come included.
func GrantSchema(schema, role string) string {
	s, r := Ident(schema), Ident(role)
	return fmt.Sprintf(`GRANT USAGE ON SCHEMA %[1]s TO %[2]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[1]s TO %[2]s;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s;
ALTER DEFAULT PRIVILEGES IN SCHEMA %[1]s GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %[2]s;
ALTER DEFAULT PRIVILEGES IN SCHEMA %[1]s GRANT USAGE, SELECT ON SEQUENCES TO %[2]s;
`, s, r)
}

// DropSchema drops a tenant's schema and role, if they exist.
func DropSchema(name string) string {
	literal, _ := Literal(name) // the name is a plain one
	return fmt.Sprintf(`DROP SCHEMA IF EXISTS %[1]s CASCADE;
DO $tenancy$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %[2]s) THEN
        EXECUTE 'DROP ROLE %[1]s';
    END IF;
END
$tenancy$;
`, Ident(name), literal)
}

// createGroup makes a role that cannot log in, unless there is one.
func createGroup(name string) (string, error) {
	create, err := Literal("CREATE ROLE " + Ident(name) + " NOLOGIN")
	return fmt.Sprintf(`DO $tenancy$
BEGIN
    EXECUTE %s;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$tenancy$;
`, create), err
}

// ForSession makes of a SET LOCAL one that holds for the session.
func ForSession(setLocal string) string {
	return strings.Replace(setLocal, "SET LOCAL ", "SET SESSION ", 1)
}
