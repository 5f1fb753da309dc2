// Package dialect holds the SQL text that isolation needs, engine by engine. It answers how a
// thing is said, not when; it knows no driver and runs nothing.
package dialect

import (
	"fmt"
	"strings"
)

// Ident quotes a name. The rule is the same for PostgreSQL and SQLite.
func Ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Literal quotes a value for PostgreSQL, whatever standard_conforming_strings says. A NUL byte
// is an error, because the server would refuse or cut it.
func Literal(value string) (string, error) {
	if strings.IndexByte(value, 0) >= 0 {
		return "", fmt.Errorf("value %q contains a NUL byte", value)
	}
	quoted := strings.ReplaceAll(value, `'`, `''`)
	if strings.Contains(quoted, `\`) {
		return ` E'` + strings.ReplaceAll(quoted, `\`, `\\`) + `'`, nil
	}
	return `'` + quoted + `'`, nil
}

// SettingName quotes the dotted name of a setting.
func SettingName(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = Ident(part)
	}
	return strings.Join(parts, ".")
}
