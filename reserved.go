package tenancy

import (
	"slices"
	"strings"
)

// reserved are names that an application, a host or a database gives a meaning of its own.
var reserved = []string{
	"admin", "administrator", "api", "app", "assets", "auth", "blog", "cdn", "dashboard", "dev",
	"docs", "example", "ftp", "help", "imap", "information-schema", "information_schema", "internal",
	"localhost", "login", "mail", "master", "mysql", "none", "ns1", "ns2", "null", "performance_schema",
	"pop", "postgres", "postgresql", "public", "root", "smtp", "sso", "staging", "static", "status",
	"support", "sys", "system", "template0", "template1", "tenancy", "test", "tenant", "tenants",
	"undefined", "webmail", "www",
}

// ReservedSlugs returns the names that no tenant may have as id or slug. Besides, every name
// that begins with pg_ or pg- is reserved.
func ReservedSlugs() []string { return slices.Clone(reserved) }

// isReserved expects a canonical name in lower case.
func isReserved(name string) bool {
	return strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "pg-") || slices.Contains(reserved, name)
}
