package tenantpgx

import (
	"errors"
	"strings"

	"lexigram.dev/tenancy/isolation"
)

// setLocal binds a transaction and takes no snapshot, so that SET TRANSACTION may follow.
func setLocal(s isolation.Setting) (string, error) {
	literal, err := quoteLiteral(s.Value)
	return "SET LOCAL " + settingName(s.Name) + " TO " + literal, err
}

// settingName quotes the dotted name of a setting.
func settingName(name string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(name, `"`, `""`), ".", `"."`) + `"`
}

// quoteLiteral quotes a value, whatever standard_conforming_strings says.
func quoteLiteral(value string) (string, error) {
	if strings.IndexByte(value, 0) >= 0 {
		return "", errors.New("the value contains a NUL byte")
	}
	quoted := "'" + strings.ReplaceAll(value, "'", "''") + "'"
	if strings.Contains(quoted, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`), nil
	}
	return quoted, nil
}
