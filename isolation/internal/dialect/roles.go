package dialect

import (
	"fmt"
	"strings"
)

// CreateRole makes a login without any of the rights that would pass row security.
func CreateRole(name, password string) (string, error) {
	role := Ident(name)
	create, err := Literal("CREATE ROLE " + role + " LOGIN")
	if err != nil {
		return "", err
	}
	sql := fmt.Sprintf(`DO $tenancy$
BEGIN
    EXECUTE %s;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END
$tenancy$;
`, create)
	if strings.Contains(password, "\n") {
		return "", fmt.Errorf("the password of role %q contains a line break: choose another", name)
	}
	if password != "" {
		literal, err := Literal(password)
		if err != nil {
			return "", err
		}
		sql += fmt.Sprintf("ALTER ROLE %s PASSWORD %s;\n", role, literal)
	}
	return sql, nil
}

// GrantCreation lets the migrator make tenants' schemas, databases and roles. The application's
// role then is a member of many roles, and must act as one at a time.
func GrantCreation(migrator, app string) string {
	return fmt.Sprintf(`ALTER ROLE %[1]s CREATEROLE CREATEDB;
ALTER ROLE %[2]s NOINHERIT;
DO $tenancy$
BEGIN
    EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %%I TO %%I', pg_catalog.current_database(), %[3]s);
END
$tenancy$;
`, Ident(migrator), Ident(app), "'"+strings.ReplaceAll(migrator, "'", "''")+"'")
}

// GrantMigrator lets a role make the application's tables.
func GrantMigrator(name string) string {
	return fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA public TO %s;\n", Ident(name))
}
