package tenantconfig

import (
	"fmt"
	"strings"
)

// lookup returns the entry of a key, or whether the key is a section of the table.
func lookup(key string) (e *entry, section bool) {
	for i := range table {
		if table[i].Name == key {
			return &table[i], false
		}
		section = section || strings.HasPrefix(table[i].Name, key+".")
	}
	return nil, section
}

func lookupVariable(name string) *entry {
	for i := range table {
		if table[i].Variable() == name {
			return &table[i]
		}
	}
	return nil
}

// unknown says that a name is not known and what was probably meant.
func unknown(what, guess string) error {
	if guess == "" {
		return fmt.Errorf("is not a known %s: see docs/CONFIGURATION.md", what)
	}
	return fmt.Errorf("is not a known %s: did you mean %s?", what, guess)
}

// suggestKey returns the key that was probably meant: the same name elsewhere, or the
// closest.
func suggestKey(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	var names, sections []string
	for _, e := range table {
		names = append(names, e.Name)
		if section, _, ok := strings.Cut(e.Name, "."); ok {
			sections = append(sections, section)
		}
	}
	for _, name := range names {
		if squash(name[strings.LastIndexByte(name, '.')+1:]) == squash(last) {
			return name
		}
	}
	return closest(key, append(sections, names...))
}

// misnamed explains a variable that has our prefix and is not in the table.
func misnamed(name string) (key string, err error) {
	upper := strings.ToUpper(name)
	var variables []string
	for _, e := range table {
		variable := e.Variable()
		variables = append(variables, variable)
		section := variable[:strings.LastIndex(variable, "__")]
		switch {
		case squash(variable) == squash(name):
			return e.Name, unknown("variable", variable)
		case squash(section) == squash(name):
			return e.Name[:strings.LastIndexByte(e.Name, '.')+1] + "*",
				fmt.Errorf("is a section: set its keys one by one, such as %s", variable)
		case strings.HasPrefix(upper, variable+"__"):
			return e.Name, fmt.Errorf("is a part of %s, which is set as a whole, in JSON", variable)
		}
	}
	return "*", unknown("variable", closest(upper, variables))
}

// looksLikeTop reports whether a top-level key was probably meant to be tenancy.
func looksLikeTop(name string) bool {
	return len(name) <= len(topKey)+1 && distance(strings.ToLower(name), topKey) <= 1
}

// squash removes what is easily mistaken: case and separators.
func squash(s string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(s))
}

// closest returns the one of names that s was probably meant to be, or "".
func closest(s string, names []string) string {
	best, bestDistance := "", len(s)/4+1
	if len(s) > 100 {
		return ""
	}
	for _, name := range names {
		if squash(s) == squash(name) {
			return name
		}
		if d := distance(strings.ToLower(s), strings.ToLower(name)); d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance returns how many bytes must be inserted, removed, replaced or swapped with their
// neighbour to get from a to b.
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row = prev, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
