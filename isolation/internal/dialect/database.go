package dialect

import "fmt"

// DatabaseMark asks for the mark of a database, by name; the one that has none yet is its maker's.
// It answers no row when there is no such database.
const DatabaseMark = `SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database
WHERE datname = $1 AND (pg_catalog.shobj_description(oid, 'pg_database') IS NOT NULL OR NOT pg_catalog.pg_has_role(current_user, datdba, 'USAGE'))`

// OpenDatabase makes the login of a tenant's database and keeps everybody else out.
func OpenDatabase(name, mark, verifier string) (string, error) {
	role, err := CreateRole(name, verifier)
	if err != nil {
		return "", err
	}
	comment, err := Literal(mark)
	if err != nil {
		return "", err
	}
	return role + fmt.Sprintf(`GRANT %[1]s TO CURRENT_USER;
REVOKE ALL ON DATABASE %[1]s FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE %[1]s TO %[1]s;
COMMENT ON DATABASE %[1]s IS %[2]s;
`, Ident(name), comment), nil
}

// FillDatabase lets the login work with the tables to come.
func FillDatabase(role string) string {
	return "REVOKE ALL ON SCHEMA public FROM PUBLIC;\n" + GrantSchema("public", role)
}
