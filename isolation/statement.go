package isolation

import "strings"

// statementKind is what the first words of a statement say about the connection it runs on. It
// never decides who sees which rows, only how a statement is framed and what is cleaned up.
type statementKind uint8

const (
	// kindData reads or writes rows and cannot end a transaction.
	kindData statementKind = iota
	// kindSession may leave something on the session: a setting, a temporary table, a lock.
	// Everything that is not known to be harmless is of this kind.
	kindSession
	// kindLocal changes the transaction it is in and nothing else.
	kindLocal
	// kindTransaction begins or ends a transaction.
	kindTransaction
	// kindEnds runs by itself and ends a transaction that is open. It may leave something on the
	// session.
	kindEnds
)

// kindOf looks at the first words of a statement as the engine reads them.
func kindOf(engine Engine, query string) statementKind {
	if engine == EngineMariaDB {
		return classifyMariaDB(query)
	}
	return classify(query)
}

// classify is kindOf for PostgreSQL and SQLite.
func classify(query string) statementKind {
	first, rest := word(query)
	switch first {
	case "select", "with", "table", "values", "insert", "update", "delete", "merge":
		if touchesSession(rest) {
			return kindSession
		}
		return kindData
	case "begin", "start", "commit", "end", "abort":
		return kindTransaction
	case "rollback":
		second, rest := word(rest)
		if second == "work" || second == "transaction" {
			second, _ = word(rest)
		}
		if second == "to" {
			return kindLocal
		}
		return kindTransaction
	case "prepare":
		if second, _ := word(rest); second == "transaction" {
			return kindTransaction
		}
	case "savepoint", "release", "lock", "explain", "show":
		return kindLocal
	case "set":
		if second, _ := word(rest); second == "local" || second == "transaction" || second == "constraints" {
			return kindLocal
		}
	}
	return kindSession
}

// touchesSession finds the ways in which a statement about rows can change its session. A false
// alarm costs a reset, nothing more.
func touchesSession(rest string) bool {
	for i := 0; i < len(rest); i++ {
		switch rest[i] | 0x20 {
		case 's':
			if hasFold(rest[i:], "set_config") {
				return true
			}
		case 'a':
			if hasFold(rest[i:], "advisory_lock") {
				return true
			}
		case 't':
			if isTemporary(rest[i:]) {
				return true
			}
		}
	}
	return false
}

// isTemporary reports whether s begins with the word temp or temporary, as pg_temp ends.
func isTemporary(s string) bool {
	n := len("temp")
	if hasFold(s, "temporary") {
		n = len("temporary")
	} else if !hasFold(s, "temp") {
		return false
	}
	return n == len(s) || !isLetter(s[n]) && s[n] != '_' && (s[n] < '0' || s[n] > '9')
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// word returns the first word of a statement in lower case, without comments, brackets and
// semicolons before it, and what follows it.
func word(s string) (first, rest string) {
	s = skip(s)
	n := 0
	for n < len(s) && isLetter(s[n]) {
		n++
	}
	return lower(s[:n]), s[n:]
}

func skip(s string) string {
	for s != "" {
		rest, comment := skipComment(s)
		switch {
		case comment:
			s = rest
		case strings.IndexByte(" \t\r\n\f\v(;", s[0]) >= 0:
			s = s[1:]
		default:
			return s
		}
	}
	return s
}

// skipComment returns what follows the comment that s begins with, if it does.
func skipComment(s string) (rest string, ok bool) {
	switch {
	case strings.HasPrefix(s, "--"):
		_, s, _ = strings.Cut(s, "\n")
		return s, true
	case strings.HasPrefix(s, "/*"):
		return skipBlockComment(s), true
	default:
		return s, false
	}
}

// skipBlockComment skips a comment that may contain others, as PostgreSQL's may.
func skipBlockComment(s string) string {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return s[i+1:]
			}
		}
	}
	return ""
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// lower avoids an allocation for the usual spellings.
func lower(s string) string {
	for i := range len(s) {
		if s[i] < 'a' {
			return strings.ToLower(s)
		}
	}
	return s
}

// several reports whether a text may hold more than one statement: whether anything but comments
// follows a semicolon that is in no quotes. Where it cannot tell, it says yes.
func several(query string) bool {
	for s := query; s != ""; {
		if rest, comment := skipComment(s); comment {
			s = rest
			continue
		}
		quote := s[:1]
		switch quote[0] {
		case ';':
			return skip(s) != ""
		case '\'', '"':
		case '$':
			quote = dollarTag(s)
		default:
			quote = ""
		}
		if quote == "" {
			s = s[1:]
			continue
		}
		quoted, rest, closed := strings.Cut(s[len(quote):], quote)
		if !closed || quote[0] != '$' && strings.Contains(quoted, `\`) { // which may escape the quote, or not
			return strings.Contains(s, ";")
		}
		s = rest // a doubled quote ends one text and begins another
	}
	return false
}

// dollarTag returns the $tag$ that s begins with, or "".
func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			return s[:i+1]
		case isLetter(c), c == '_', c >= 0x80, i > 1 && c >= '0' && c <= '9':
		default:
			return ""
		}
	}
	return ""
}

// versionQueries are what query layers ask when they open a database, letter by letter. They
// are answered without a tenant, by the server itself; no other statement is.
var versionQueries = map[Engine]map[string]bool{
	EnginePostgreSQL: {
		"SELECT VERSION()": true, "SELECT version()": true, "select version()": true,
		"SHOW server_version": true, "SHOW server_version_num": true, "SELECT CURRENT_DATABASE()": true,
	},
	EngineMariaDB: {
		"SELECT VERSION()": true, "SELECT version()": true, "select version()": true,
	},
	EngineSQLite: {
		"SELECT sqlite_version()": true, "select sqlite_version()": true,
	},
}
