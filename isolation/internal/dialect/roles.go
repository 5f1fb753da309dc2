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

// GrantMigrator lets a role make the application's tables.
func GrantMigrator(name string) string {
	return fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA public TO %s;\n", Ident(name))
}
