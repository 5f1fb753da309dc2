package dialect

import (
	"fmt"
	"strings"
)

// SetLocal binds a transaction and takes no snapshot, so that SET TRANSACTION may follow.
func SetLocal(name, value string) (string, error) {
	text, err := settingValue(name, value)
	return "SET LOCAL " + SettingName(name) + " TO " + text, err
}

// SetOff replaces what application code may have set for the session under the name of a setting.
// The search_path goes back to the login's own.
func SetOff(name, off string) (string, error) {
	text, err := settingValue(name, off)
	if name == SearchPath && off == "" {
		text = "DEFAULT"
	}
	return "SET SESSION " + SettingName(name) + " TO " + text, err
}

// Bind binds a transaction in one statement, and replaces what somebody may have set under the
// same name for the session.
func Bind(name, value, off string) (string, error) {
	var literals [3]string
	for i, v := range []string{name, value, off} {
		var err error
		if literals[i], err = Literal(v); err != nil {
			return "", err
		}
	}
	if name == SearchPath && off == "" {
		literals[2] = "NULL" // for set_config what DEFAULT is for SET
	}
	return fmt.Sprintf("SELECT pg_catalog.set_config(%[1]s, %[3]s, false), pg_catalog.set_config(%[1]s, %[2]s, true)",
		literals[0], literals[1], literals[2]), nil
}

// settingValue writes a value for SET, which, other than set_config, takes the names of a list one
// by one.
func settingValue(name, value string) (string, error) {
	if name != SearchPath || value == "" {
		return Literal(value)
	}
	names := strings.Split(value, ", ")
	for i, n := range names {
		if !IsPlainName(n) {
			return "", fmt.Errorf("the name %q cannot be in a search_path: use a-z, 0-9 and _", n)
		}
		names[i] = "'" + n + "'"
	}
	return strings.Join(names, ", "), nil
}

// SearchPath is the setting that says in which schemas names are looked up.
const SearchPath = "search_path"

// ResetSession makes a PostgreSQL session as good as new.
const ResetSession = "DISCARD ALL"

// DiscardTemp drops the session's temporary tables; a transaction may do it.
const DiscardTemp = "DISCARD TEMP"
