package tenantgorm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"lexigram.dev/tenancy"
)

// While a statement is built, every piece of SQL that decides which rows it reaches is marked by
// a seal: a comment that no application can write, because it holds a secret of this process.
// When the text is complete it is checked and the seals are taken out. What reaches a table
// and bears no seal was written by somebody else.
var (
	secret     = rand.Text()
	sealPrefix = "/*" + secret
	sealSuffix = "*/"
)

// The kinds of seals.
var (
	sealSource   = seal("k") // before FROM and JOIN: the tables that follow are filtered
	sealSubquery = seal("q") // before a bracket in the place of a table: a sealed SELECT must follow
	sealOpen     = seal("o") // before conditions of others: what they open they close
	sealClose    = seal("c")
	sealValue    = seal("v") // before a value of others: the same, and it is one value
	sealValueEnd = seal("w")
)

func seal(kind string) string { return sealPrefix + kind + sealSuffix }

// sealSelect is the seal before a SELECT that is filtered for a tenant.
func sealSelect(tenantID string) string {
	sum := sha256.Sum256([]byte(tenantID))
	return seal("s" + hex.EncodeToString(sum[:12]))
}

// unseal returns a text without seals. It fails when a part of it was filtered for another
// tenant than own, which is the seal of a SELECT; without own, when any part was filtered.
func unseal(text, own string) (string, error) {
	if !strings.Contains(text, sealPrefix) {
		return text, nil
	}
	selects := sealPrefix + "s"
	var clean strings.Builder
	for {
		before, rest, found := strings.Cut(text, sealPrefix)
		clean.WriteString(before)
		if !found {
			return clean.String(), nil
		}
		kind, after, _ := strings.Cut(rest, sealSuffix)
		if mark := sealPrefix + kind + sealSuffix; strings.HasPrefix(mark, selects) && mark != own {
			return "", fmt.Errorf("%w: a sub-query was made with another tenant's context: make it with the context of the statement", tenancy.ErrTenantMismatch)
		}
		text = after
	}
}

// group is what an opening seal began.
type group struct {
	closing string
	depth   int
}

// checker reads the sealed text of a statement.
type checker struct {
	scanner
	brackets []token // per open bracket the token before it
	groups   []group
	seal     string // the seal before the next token
	last     token
	beforeIt token // the token before last
}

// check fails unless every table in the sealed text of a statement was put there by this package
// and no text of others ends what encloses it.
func check(text, dialect, own string) error {
	c := checker{scanner: scanner{text: text, dialect: dialect}}
	for {
		t, err := c.next()
		if err != nil {
			return err
		}
		if t.kind == tokenEnd {
			break
		}
		if t.kind == tokenSeal {
			err = c.sealed(t.text)
		} else if err = c.token(t, own); err == nil {
			c.beforeIt, c.last, c.seal = c.last, t, ""
		}
		if err != nil {
			return err
		}
	}
	if len(c.brackets) > 0 || len(c.groups) > 0 {
		return errBrackets
	}
	return nil
}

var errBrackets = fmt.Errorf("%w: a text in it closes brackets that it has not opened, or opens some that it does not close", ErrUnfiltered)

func (c *checker) sealed(mark string) error {
	switch mark {
	case sealOpen:
		c.groups = append(c.groups, group{sealClose, len(c.brackets)})
	case sealValue:
		c.groups = append(c.groups, group{sealValueEnd, len(c.brackets)})
	case sealClose, sealValueEnd:
		n := len(c.groups)
		if n == 0 || c.groups[n-1] != (group{mark, len(c.brackets)}) {
			return errBrackets
		}
		c.groups = c.groups[:n-1]
	default:
		c.seal = mark
	}
	return nil
}

func (c *checker) token(t token, own string) error {
	switch {
	case t.is("select"):
		if c.seal != own {
			return fmt.Errorf("%w: it holds a sub-query as text: write it with GORM and pass the *gorm.DB as a parameter", ErrUnfiltered)
		}
	case c.last.punct('(') && c.subquery():
		return fmt.Errorf("%w: a bracket in the place of a table holds no sub-query made with GORM", ErrUnfiltered)
	case t.is("table"):
		return fmt.Errorf("%w: it holds a TABLE command", ErrUnfiltered)
	case t.is("from"):
		if c.seal != sealSource && !c.fromOfFunction() {
			return fmt.Errorf("%w: it names a table in a text: use Model, Table or Joins", ErrUnfiltered)
		}
	case t.is("join"), t.is("straight_join"):
		if c.seal != sealSource {
			return fmt.Errorf("%w: it joins a table in a text: use Joins", ErrUnfiltered)
		}
	case c.last.is("in") && c.dialect == dialectSQLite && !t.punct('('):
		return fmt.Errorf("%w: IN without a bracket may name a table", ErrUnfiltered)
	case t.punct('('):
		before := c.last
		if c.seal == sealSubquery {
			before = token{kind: tokenSeal, text: sealSubquery}
		}
		c.brackets = append(c.brackets, before)
	case t.punct(')'):
		n := len(c.brackets)
		if n == 0 || len(c.groups) > 0 && c.groups[len(c.groups)-1].depth == n {
			return errBrackets
		}
		c.brackets = c.brackets[:n-1]
	case t.punct(','):
		if n := len(c.groups); n > 0 && c.groups[n-1] == (group{sealValueEnd, len(c.brackets)}) {
			return fmt.Errorf("%w: a value in it is a list, which could set another column", ErrUnfiltered)
		}
	}
	return nil
}

// subquery reports whether the innermost bracket must hold a SELECT.
func (c *checker) subquery() bool {
	n := len(c.brackets)
	return n > 0 && c.brackets[n-1].text == sealSubquery
}

// fromOfFunction reports whether a FROM at this place cannot name a table: as in EXTRACT(year
// FROM t), TRIM(x FROM y) and IS DISTINCT FROM.
func (c *checker) fromOfFunction() bool {
	if c.last.is("distinct") {
		return c.beforeIt.is("is") || c.beforeIt.is("not")
	}
	n := len(c.brackets)
	if n == 0 {
		return false
	}
	for _, name := range []string{"extract", "substring", "trim", "overlay"} {
		if c.brackets[n-1].is(name) {
			return true
		}
	}
	return false
}
