package isolation

import (
	"fmt"
	"strings"
)

// classifyMariaDB is classify for MariaDB. The server commits an open transaction before it runs a
// statement that is no part of one, even if it then refuses it; so everything that is not known to
// leave the transaction open counts as ending it.
func classifyMariaDB(query string) statementKind {
	first, rest := mariaDBWord(query)
	second, _ := mariaDBWord(rest)
	switch first {
	case "select", "with", "table", "values", "insert", "update", "delete", "replace":
		if touchesMariaDBSession(rest) {
			return kindSession
		}
		return kindData
	case "savepoint", "release", "explain", "desc", "describe", "show", "help":
		return kindLocal
	case "begin", "start", "commit", "end", "abort", "xa", "executable":
		return kindTransaction
	case "rollback":
		if second == "work" {
			_, rest = mariaDBWord(rest)
			second, _ = mariaDBWord(rest)
		}
		if second == "to" {
			return kindLocal
		}
		return kindTransaction
	case "set":
		if containsFold(rest, "autocommit") {
			return kindTransaction
		}
		// SET STATEMENT … FOR runs any statement.
		if second != "statement" && second != "password" && second != "default" {
			return kindSession
		}
	case "load":
		if second == "data" || second == "xml" {
			return kindSession
		}
	case "prepare":
		if second == "transaction" {
			return kindTransaction
		}
		return kindSession
	case "call", "do", "handler", "deallocate", "use", "kill":
		return kindSession
	case "create", "drop":
		if second == "temporary" {
			return kindSession
		}
	}
	return kindEnds
}

// endsTransaction is the error of a statement of kindEnds inside a transaction.
func endsTransaction(query string) error {
	first, _ := mariaDBWord(query)
	return fmt.Errorf("%w: MariaDB commits before it runs %q, or it is a word that is not known to leave the transaction open: "+
		"run it outside the transaction", ErrTransactionControl, strings.ToUpper(first))
}

// mariaDBWord is word for MariaDB. An executable comment, which other servers do not read, is the
// word "executable".
func mariaDBWord(s string) (first, rest string) {
	s = skipMariaDB(s)
	if isExecutableComment(s) {
		return "executable", s
	}
	n := 0
	for n < len(s) && (isLetter(s[n]) || s[n] == '_') {
		n++
	}
	return lower(s[:n]), s[n:]
}

// skipMariaDB is skip for MariaDB.
func skipMariaDB(s string) string {
	for s != "" {
		if after, ok := skipMariaDBComment(s); ok {
			s = after
			continue
		}
		if strings.IndexByte(" \t\r\n\f\v(;", s[0]) < 0 {
			break
		}
		s = s[1:]
	}
	return s
}

func isExecutableComment(s string) bool {
	return strings.HasPrefix(s, "/*!") || strings.HasPrefix(s, "/*M!")
}

// skipMariaDBComment returns what follows the comment that s begins with, if it does. Comments do
// not nest, and two hyphens begin one only with a blank behind them.
func skipMariaDBComment(s string) (rest string, ok bool) {
	switch {
	case s[0] == '#', strings.HasPrefix(s, "--") && (len(s) == 2 || s[2] <= ' '):
		_, s, _ = strings.Cut(s, "\n")
		return s, true
	case strings.HasPrefix(s, "/*") && !isExecutableComment(s):
		_, s, _ = strings.Cut(s[2:], "*/")
		return s, true
	default:
		return s, false
	}
}

// touchesMariaDBSession finds the ways in which a statement about rows can change its session: a
// user variable or a lock. A false alarm costs a connection, nothing more.
func touchesMariaDBSession(rest string) bool {
	if containsFold(rest, "get_lock") {
		return true
	}
	if strings.IndexByte(rest, '@') < 0 {
		return false
	}
	if strings.Contains(rest, `\`) { // which may escape a quote, or not
		return true
	}
	found := false
	scanMariaDB(rest, true, func(s string) bool {
		found = found || s[0] == '@' && !strings.HasPrefix(s, "@@")
		return !found
	})
	return found
}

// severalMariaDB is several for MariaDB. Whether a backslash escapes a quote depends on the
// session's sql_mode, so that a text must be one statement either way.
func severalMariaDB(query string) bool {
	if strings.IndexByte(query, ';') < 0 {
		return false
	}
	for _, escapes := range []bool{true, false} {
		found := false
		scanMariaDB(skipMariaDB(query), escapes, func(s string) bool {
			found = found || s[0] == ';' && skipMariaDB(s) != ""
			return !found
		})
		if found {
			return true
		}
	}
	return false
}

// scanMariaDB calls visit with the rest of the text at each place outside comments and quotes,
// until it returns false.
func scanMariaDB(s string, escapes bool, visit func(rest string) bool) {
	for s != "" {
		if rest, ok := skipMariaDBComment(s); ok {
			s = rest
			continue
		}
		if strings.IndexByte("'\"`", s[0]) >= 0 {
			s = skipMariaDBQuoted(s, escapes)
			continue
		}
		if !visit(s) {
			return
		}
		if strings.HasPrefix(s, "@@") {
			s = s[1:]
		}
		s = s[1:]
	}
}

// skipMariaDBQuoted returns what follows the quoted text that s begins with. A doubled quote ends
// one text and begins another.
func skipMariaDBQuoted(s string, escapes bool) string {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && escapes && quote != '`':
			i++
		case s[i] == quote:
			return s[i+1:]
		}
	}
	return ""
}

func containsFold(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if hasFold(s[i:], part) {
			return true
		}
	}
	return false
}
