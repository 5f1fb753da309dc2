package dialect

import "strings"

// Split cuts a script that this package generated into its statements: at each semicolon at the
// end of a line outside a $tenancy$ body. It is no parser of SQL.
func Split(script string) []string {
	var statements []string
	var b strings.Builder
	body := false
	for line := range strings.Lines(script) {
		b.WriteString(line)
		if strings.Count(line, "$tenancy$")%2 == 1 {
			body = !body
		}
		if !body && strings.HasSuffix(line, ";\n") {
			statements = append(statements, strings.TrimSuffix(strings.TrimSpace(b.String()), ";"))
			b.Reset()
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		statements = append(statements, rest)
	}
	return statements
}
