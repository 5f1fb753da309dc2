package tenantgorm

import (
	"fmt"
	"strings"
)

// tokenKind is what a piece of SQL text is.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a keyword or a bare name
	tokenQuoted           // a quoted name or text, with its quotes
	tokenSeal             // a seal of this package
	tokenPunct            // any other byte
)

// token is a piece of SQL text. Blanks are between tokens.
type token struct {
	kind tokenKind
	text string
	at   int // offset in the text
}

func (t token) end() int { return t.at + len(t.text) }

// is reports whether t is this keyword, which is given in lower case.
func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

// punct reports whether t is this byte.
func (t token) punct(c byte) bool { return t.kind == tokenPunct && t.text[0] == c }

// The names of GORM's dialects whose spelling of quotes and comments differs.
const (
	dialectMySQL     = "mysql"
	dialectPostgres  = "postgres"
	dialectSQLite    = "sqlite"
	dialectSQLServer = "sqlserver"
)

// scanner cuts SQL text into tokens. It does not guess: what engines read differently is an
// error.
type scanner struct {
	text    string
	dialect string
	at      int
}

func (s *scanner) next() (token, error) {
	for s.at < len(s.text) && isBlank(s.text[s.at]) {
		s.at++
	}
	rest := s.text[s.at:]
	if rest == "" {
		return token{at: s.at}, nil
	}
	t := token{kind: tokenPunct, text: rest[:1], at: s.at}
	switch c := rest[0]; {
	case strings.HasPrefix(rest, sealPrefix):
		t.kind, t.text = tokenSeal, rest[:strings.Index(rest, sealSuffix)+len(sealSuffix)]
	case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "/*"), c == '#' && s.dialect == dialectMySQL:
		return t, fmt.Errorf("%w: its text holds a comment, which could hide the filter: remove it", ErrUnfiltered)
	case c == ';':
		return t, fmt.Errorf("%w: its text holds a semicolon: send one statement per call", ErrUnfiltered)
	case c == '\\', c == 0:
		return t, fmt.Errorf("%w: its text holds a backslash or a zero byte, which engines read differently: pass values as parameters", ErrUnfiltered)
	case c == '\'', c == '"', c == '`' && s.dialect != dialectPostgres:
		return s.quoted(c)
	case c == '`':
		return t, fmt.Errorf("%w: its text holds a backtick: quote names as the engine does", ErrUnfiltered)
	case c == '[' && (s.dialect == dialectSQLite || s.dialect == dialectSQLServer):
		return s.quoted(']')
	case c == '$' && (len(rest) == 1 || !isDigit(rest[1])):
		return t, fmt.Errorf("%w: its text holds a dollar-quoted text: pass values as parameters", ErrUnfiltered)
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n]) || rest[n] == '$') {
			n++
		}
		t.kind, t.text = tokenWord, rest[:n]
	}
	s.at = t.end()
	return t, nil
}

// quoted reads a quoted name or text. A doubled quote ends one and begins another, which is the
// same here.
func (s *scanner) quoted(end byte) (token, error) {
	t := token{kind: tokenQuoted, at: s.at}
	n := strings.IndexByte(s.text[s.at+1:], end)
	if n < 0 {
		return t, fmt.Errorf("%w: its text holds a quote that is not closed: pass values as parameters", ErrUnfiltered)
	}
	t.text = s.text[s.at : s.at+n+2]
	if strings.ContainsAny(t.text, "\\\x00") {
		return t, fmt.Errorf("%w: its text holds a backslash in quotes, which engines read differently: pass values as parameters", ErrUnfiltered)
	}
	s.at = t.end()
	return t, nil
}

func isBlank(c byte) bool  { return strings.IndexByte(" \t\r\n\f\v", c) >= 0 }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
