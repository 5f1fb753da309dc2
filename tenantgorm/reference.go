package tenantgorm

import (
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// references rewrites text that names tables: what Table and Joins are given.
type references struct {
	scanner
	vars []any
	// table returns the SQL to put in the place of a table, with one ? for own if that is not nil.
	table func(name, written, alias string) (sql string, own any, err error)

	out    strings.Builder
	copied int // up to here the text is in out
	ahead  *token
}

func newReferences(dialect, text string, vars []any, table func(name, written, alias string) (string, any, error)) *references {
	return &references{scanner: scanner{text: text, dialect: dialect}, vars: vars, table: table}
}

// plain reads a text that is one table, perhaps with an alias.
func (r *references) plain() (name, alias string, err error) {
	name, _, err = r.name()
	if err != nil {
		return "", "", err
	}
	alias, err = r.alias()
	if err != nil {
		return "", "", err
	}
	t, err := r.peek()
	if err != nil {
		return "", "", err
	}
	if t.kind != tokenEnd {
		return "", "", fmt.Errorf("%w: %q is not one table", ErrUnfiltered, r.text)
	}
	return name, alias, nil
}

// rewrite puts a filtered source in the place of every table. A text for Table begins with a
// table, one for Joins with JOIN.
func (r *references) rewrite(begins bool) (string, []any, error) {
	if begins {
		if err := r.reference(); err != nil {
			return "", nil, err
		}
	}
	depth, found := 0, begins
	for {
		t, err := r.peek()
		if err != nil {
			return "", nil, err
		}
		r.ahead = nil
		switch {
		case t.kind == tokenEnd:
			if !found {
				return "", nil, fmt.Errorf("%w: %q is neither a relation of the model nor a JOIN", ErrUnfiltered, r.text)
			}
			r.copy(len(r.text))
			r.out.WriteString(" " + sealValueEnd)
			return r.out.String(), r.vars, nil
		case t.punct('('):
			depth++
		case t.punct(')'):
			depth--
		case depth == 0 && (t.is("join") || t.is("straight_join")):
			r.copy(t.at)
			if found {
				r.out.WriteString(" " + sealValueEnd)
			}
			found = true
			r.out.WriteString(sealSource)
			if err := r.reference(); err != nil {
				return "", nil, err
			}
		case depth == 0 && t.punct(','):
			if !found {
				return "", nil, fmt.Errorf("%w: %q is no JOIN", ErrUnfiltered, r.text)
			}
			r.copy(t.at)
			r.out.WriteString(" " + sealValueEnd)
			if err := r.reference(); err != nil {
				return "", nil, err
			}
		}
	}
}

// reference reads one table or sub-query, with its alias, and writes what takes its place. The
// seal that follows begins what may be said about it: a condition, but no further table.
func (r *references) reference() error {
	t, err := r.peek()
	if err != nil {
		return err
	}
	if t.punct('(') {
		return r.subquery()
	}
	name, written, err := r.name()
	if err != nil {
		return err
	}
	alias, err := r.alias()
	if err != nil {
		return err
	}
	if alias == "?" {
		return fmt.Errorf("%w: the alias in %q is not understood", ErrUnfiltered, r.text)
	}
	sql, own, err := r.table(name, written.text, alias)
	if err != nil {
		return err
	}
	r.copy(written.at)
	if own != nil {
		if err := r.insert(own); err != nil {
			return err
		}
	}
	r.out.WriteString(sql)
	r.skip()
	r.out.WriteString(" " + sealValue)
	return nil
}

// insert makes room for a parameter at the place that is reached.
func (r *references) insert(value any) error {
	n := strings.Count(r.out.String(), "?")
	if n > len(r.vars) {
		return fmt.Errorf("%w: %q has more question marks than parameters", ErrUnfiltered, r.text)
	}
	r.vars = slices.Insert(slices.Clone(r.vars), n, value)
	return nil
}

// subquery reads (?), whose parameter must be a query made with GORM.
func (r *references) subquery() error {
	open, _ := r.peek()
	r.ahead = nil
	r.copy(open.at)
	n := strings.Count(r.out.String(), "?")
	for _, want := range []byte{'?', ')'} {
		t, err := r.peek()
		if err != nil {
			return err
		}
		r.ahead = nil
		if !t.punct(want) {
			return fmt.Errorf("%w: in %q only (?) with a *gorm.DB can take the place of a table", ErrUnfiltered, r.text)
		}
	}
	if n >= len(r.vars) {
		return fmt.Errorf("%w: %q has no parameter for its sub-query", ErrUnfiltered, r.text)
	}
	switch r.vars[n].(type) {
	case *gorm.DB, clause.Expression: // the text that it becomes is checked for its seal
	default:
		return fmt.Errorf("%w: in %q only a *gorm.DB can take the place of a table", ErrUnfiltered, r.text)
	}
	alias, err := r.alias()
	if err != nil {
		return err
	}
	if alias == "?" { // GORM's generic API writes it so
		if n+1 >= len(r.vars) {
			return fmt.Errorf("%w: %q has no parameter for its alias", ErrUnfiltered, r.text)
		}
		if table, ok := r.vars[n+1].(clause.Table); !ok || table.Raw || table.Alias != "" {
			return fmt.Errorf("%w: the alias in %q is not understood", ErrUnfiltered, r.text)
		}
	}
	r.out.WriteString(sealSubquery + "(?)")
	if alias != "" {
		r.out.WriteString(" AS " + alias)
	}
	r.skip()
	r.out.WriteString(" " + sealValue)
	return nil
}

// name reads a name with its qualifiers and returns it without quotes, in lower case. written is
// as in the text.
func (r *references) name() (name string, written token, err error) {
	for {
		t, err := r.peek()
		if err != nil {
			return "", token{}, err
		}
		part := t.text
		switch {
		case t.kind == tokenQuoted && t.text[0] != '\'':
			part = t.text[1 : len(t.text)-1]
		case t.kind == tokenWord && !notAName[strings.ToLower(t.text)]:
		default:
			return "", token{}, fmt.Errorf("%w: %q names its tables in a way that is not understood: use Model or Joins with a relation", ErrUnfiltered, r.text)
		}
		r.ahead = nil
		if name == "" {
			written = t
		}
		name += strings.ToLower(part)
		written.text = r.text[written.at:t.end()]
		if r.at < len(r.text) && r.text[r.at] == '.' {
			r.at++
			name += "."
			continue
		}
		return name, written, nil
	}
}

// alias reads [AS] alias if that follows, and returns it as it is written, or "". It is ? for a
// parameter after AS.
func (r *references) alias() (string, error) {
	t, err := r.peek()
	if err != nil {
		return "", err
	}
	as := t.is("as")
	if as {
		r.ahead = nil
		if t, err = r.peek(); err != nil {
			return "", err
		}
	}
	switch {
	case t.kind == tokenQuoted && t.text[0] != '\'', t.kind == tokenWord && !notAName[strings.ToLower(t.text)]:
		r.ahead = nil
		if r.at < len(r.text) && strings.IndexByte(`."'[`+"`", r.text[r.at]) >= 0 {
			return "", fmt.Errorf("%w: the alias in %q is not understood", ErrUnfiltered, r.text)
		}
		return t.text, nil
	case as && t.punct('?'):
		r.ahead = nil
		return t.text, nil
	case as:
		return "", fmt.Errorf("%w: the alias in %q is not understood", ErrUnfiltered, r.text)
	}
	return "", nil
}

func (r *references) peek() (token, error) {
	if r.ahead == nil {
		t, err := r.next()
		if err != nil {
			return t, err
		}
		r.ahead = &t
	}
	return *r.ahead, nil
}

// skip leaves out the text that was read since the last copy.
func (r *references) skip() {
	r.copied = r.at
	if r.ahead != nil {
		r.copied = r.ahead.at
	}
}

// copy writes the text up to an offset.
func (r *references) copy(to int) {
	r.out.WriteString(r.text[r.copied:to])
	r.copied = to
}

// notAName holds the words that can follow a table where an alias could stand.
var notAName = map[string]bool{
	"on": true, "using": true, "join": true, "left": true, "right": true, "inner": true, "outer": true, "full": true,
	"cross": true, "natural": true, "straight_join": true, "where": true, "group": true, "order": true, "having": true,
	"limit": true, "union": true, "intersect": true, "except": true, "for": true, "as": true, "select": true, "from": true,
	"lateral": true, "only": true, "table": true, "values": true, "set": true, "use": true, "force": true, "ignore": true,
	"indexed": true, "not": true, "tablesample": true, "window": true, "fetch": true, "offset": true, "returning": true,
	"partition": true,
}
