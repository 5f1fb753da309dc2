package tenantconfig

import (
	"errors"
	"fmt"
	"strings"
)

const maxExpanded = 64 << 10

// expand replaces ${VAR} and ${VAR:default} in s. A default may contain further ${…} and
// balanced braces; the value of a variable is taken as it is. $${ stands for a literal ${.
func expand(s string, variables map[string]string, depth int) (string, error) {
	if depth > maxDepth {
		return "", errors.New("${…} is nested too deeply")
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		if escaped, ok := strings.CutSuffix(before, "$"); found && ok {
			b.WriteString(escaped + "${")
			s = rest
			continue
		}
		b.WriteString(before)
		if b.Len() > maxExpanded {
			return "", fmt.Errorf("with its variables it is longer than %d bytes", maxExpanded)
		}
		if !found {
			return b.String(), nil
		}
		inner, after, ok := cutBrace(rest)
		if !ok {
			return "", errors.New("${ has no closing }: close it, or write $${ for the characters themselves")
		}
		name, fallback, hasDefault := strings.Cut(inner, ":")
		if !isVariableName(name) {
			return "", fmt.Errorf("${%s} names no variable: use letters, digits and _", printable(name))
		}
		switch text, set := variables[name]; {
		case set:
			b.WriteString(text)
		case hasDefault:
			text, err := expand(fallback, variables, depth+1)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		default:
			return "", fmt.Errorf("the variable %s is not set: set it, or write ${%s:default}", name, name)
		}
		s = after
	}
}

// cutBrace cuts s around the brace that closes the one before s.
func cutBrace(s string) (inner, after string, ok bool) {
	open := 1
	for i := range len(s) {
		switch s[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

func isVariableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
