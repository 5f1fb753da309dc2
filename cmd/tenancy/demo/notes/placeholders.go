package notes

import (
	"strconv"
	"strings"
)

// Placeholders writes the ? of a statement as the database wants them. The statements of this
// package have no other ?.
type Placeholders func(statement string) string

// QuestionMarks leaves the statement as it is, for SQLite and MariaDB.
func QuestionMarks(statement string) string { return statement }

// Dollars writes $1, $2, …, for PostgreSQL.
func Dollars(statement string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(statement, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}
