package tenantgorm

import (
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// mine is the seal of the tenant that the tests are in.
var mine = sealSelect("acme")

// seals writes the seals of a text in a short form.
var seals = strings.NewReplacer(
	"<s>", mine, "<other>", sealSelect("globex"), "<k>", sealSource, "<q>", sealSubquery,
	"<o>", sealOpen, "<c>", sealClose, "<v>", sealValue, "<w>", sealValueEnd,
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text    string
		dialect string
		ok      bool
	}{
		{text: "<s>SELECT * <k>FROM (<s>SELECT * <k>FROM notes WHERE tenant_id = ?) AS notes", ok: true},
		{text: "<s>SELECT 1", ok: true},
		{text: "SELECT 1"},
		{text: "select 1"},
		{text: "<other>SELECT 1"},
		{text: "<s>SELECT (SELECT 1)"},
		{text: "<s>SELECT 'SELECT', \"from\", `join`", ok: true, dialect: dialectSQLite},
		{text: "<s>SELECT selected, fromage, joiner", ok: true},
		{text: "<s>SELECT 1FROM notes"},
		{text: "<s>SELECT a FROM notes"},
		{text: "<s>SELECT a <k>FROM n JOIN m ON 1=1"},
		{text: "<s>SELECT a <k>FROM n <k>JOIN m ON 1=1", ok: true},
		{text: "<s>SELECT a <k>FROM n STRAIGHT_JOIN m"},
		{text: "<s>SELECT a <k>FROM n UNION TABLE m"},
		{text: "<s>SELECT extract(year FROM a), trim(both 'x' from b), substring(a FROM 2 FOR 3)", ok: true},
		{text: "<s>SELECT a IS DISTINCT FROM b, a IS NOT DISTINCT FROM b", ok: true},
		{text: "<s>SELECT DISTINCT FROM b"},
		{text: "UPDATE n SET a=<v>b FROM m<w> WHERE (<o>1<c>)"},
		{text: "UPDATE n SET a=<v>f(1, 2)<w>, c = 2 WHERE t = ? AND (<o>1, 2<c>)", ok: true},
		{text: "UPDATE n SET a=<v>1, t = 2<w>"},
		{text: "DELETE <k>FROM n WHERE t = ? AND (<o>1=1 OR (2=2)<c>)", ok: true},
		{text: "DELETE <k>FROM n WHERE t = ? AND (<o>1=1) OR (2=2<c>)"},
		{text: "DELETE <k>FROM n WHERE t = ? AND (<o>1=1<c>"},
		{text: "DELETE <k>FROM n WHERE t = ? AND (<o>(1=1<c>))"},
		{text: "DELETE <k>FROM n WHERE t = ? AND (1=1))"},
		{text: "<s>SELECT 1 -- rest"},
		{text: "<s>SELECT 1 /* rest */"},
		{text: "<s>SELECT 1 # rest", dialect: dialectMySQL},
		{text: "<s>SELECT a #> b", dialect: dialectPostgres, ok: true},
		{text: "<s>SELECT 1; DROP TABLE n"},
		{text: "<s>SELECT 'a\\' OR 1=1'"},
		{text: "<s>SELECT 'a''b'", ok: true},
		{text: "<s>SELECT 'a"},
		{text: "<s>SELECT $$ x $$", dialect: dialectPostgres},
		{text: "<s>SELECT $1, $23", dialect: dialectPostgres, ok: true},
		{text: "<s>SELECT $tag$ x $tag$", dialect: dialectPostgres},
		{text: "<s>SELECT `a`", dialect: dialectPostgres},
		{text: "<s>SELECT [select] <k>FROM n", dialect: dialectSQLite, ok: true},
		{text: "<s>SELECT a[1] <k>FROM n", dialect: dialectPostgres, ok: true},
		{text: "<s>SELECT a[(SELECT 1)] <k>FROM n", dialect: dialectPostgres},
		{text: "<s>SELECT a IN notes", dialect: dialectSQLite},
		{text: "<s>SELECT a IN (1, 2)", dialect: dialectSQLite, ok: true},
		{text: "<s>SELECT position('a' IN b)", dialect: dialectPostgres, ok: true},
		{text: "<s>SELECT a <k>FROM <q>(<s>SELECT 1) AS u", ok: true},
		{text: "<s>SELECT a <k>FROM <q>(notes) AS u"},
		{text: "<s>SELECT \x00"},
		{text: "<c>"},
		{text: "<o>"},
		{text: "(<o><w>)"},
	} {
		err := check(seals.Replace(test.text), test.dialect, mine)
		if test.ok && err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		if !test.ok && !errors.Is(err, ErrUnfiltered) {
			t.Errorf("%s: got %v", test.text, err)
		}
	}
}

func TestUnseal(t *testing.T) {
	t.Parallel()
	clean, err := unseal(seals.Replace("<s>SELECT a <k>FROM (<o>b<c>) /* kept */"), mine)
	if err != nil || clean != "SELECT a FROM (b) /* kept */" {
		t.Errorf("got %q, %v", clean, err)
	}
	for _, own := range []string{mine, ""} {
		if _, err := unseal(seals.Replace("<other>SELECT 1"), own); err == nil {
			t.Errorf("the part of another tenant was taken by %q", own)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	table := func(name, written, alias string) (string, any, error) {
		switch name {
		case "notes", "app.notes":
			if alias == "" {
				alias = "itself"
			}
			return "[" + written + " ?]" + alias, "acme", nil
		case "plans":
			return written + " " + alias, nil, nil
		}
		return "", nil, unclassified(name)
	}
	for _, test := range []struct {
		text   string
		begins bool
		vars   []any
		want   string // "" when refused
		args   []any
	}{
		{text: "notes", begins: true, want: "[notes ?]itself", args: []any{"acme"}},
		{text: `"app"."notes" n`, begins: true, want: `["app"."notes" ?]n`, args: []any{"acme"}},
		{text: "notes AS n, plans p", begins: true, want: "[notes ?]n , plans p", args: []any{"acme"}},
		{text: "LEFT JOIN notes n ON n.a = ? AND n.b = ?", vars: []any{1, 2}, want: "LEFT JOIN [notes ?]n ON n.a = ? AND n.b = ?", args: []any{"acme", 1, 2}},
		{text: "JOIN plans ON x = ? JOIN notes USING (id)", vars: []any{1}, want: "JOIN plans  ON x = ? JOIN [notes ?]itself USING (id)", args: []any{1, "acme"}},
		{text: "JOIN (?) AS u ON 1=1", vars: []any{&gorm.DB{}}, want: "JOIN (?) AS u ON 1=1", args: []any{&gorm.DB{}}},
		{text: "LEFT JOIN (?) AS ? ON 1=1", vars: []any{&gorm.DB{}, clause.Table{Name: "a"}}, want: "LEFT JOIN (?) AS ? ON 1=1", args: []any{&gorm.DB{}, clause.Table{Name: "a"}}},
		{text: "JOIN (?) AS ?", vars: []any{&gorm.DB{}, clause.Table{Name: "a, secrets", Raw: true}}},
		{text: "JOIN (?) AS ?", vars: []any{&gorm.DB{}, clause.Expr{SQL: "a, secrets"}}},
		{text: "JOIN (?) AS ?", vars: []any{&gorm.DB{}}},
		{text: "JOIN notes AS ?", vars: []any{clause.Table{Name: "a"}}},
		{text: "CROSS JOIN notes", want: "CROSS JOIN [notes ?]itself", args: []any{"acme"}},
		{text: "JOIN secrets ON 1=1"},
		{text: "JOIN plans ON 1=1, secrets"},
		{text: "JOIN notes n ON 1=1 JOIN secrets"},
		{text: "plans, secrets", begins: true},
		{text: "secrets"},
		{text: ", notes"},
		{text: ""},
		{text: "", begins: true},
		{text: "JOIN"},
		{text: "JOIN 'notes'"},
		{text: "JOIN ?", vars: []any{clause.Table{Name: "notes"}}},
		{text: "JOIN (?) u", vars: []any{"notes"}},
		{text: "JOIN (?) u"},
		{text: "JOIN (notes) u"},
		{text: "JOIN (SELECT 1) u"},
		{text: "JOIN LATERAL notes"},
		{text: "JOIN plans ON a ? 'x' JOIN notes ON 1=1"}, // an operator, not a parameter
		{text: "JOIN plans AS ON 1=1"},
		{text: `JOIN plans "a""b" ON 1=1`},
		{text: "JOIN plans -- x"},
		{text: "JOIN plans ON 1=1; DROP"},
	} {
		got, args, err := newReferences(dialectPostgres, test.text, test.vars, table).rewrite(test.begins)
		if test.want == "" {
			if !errors.Is(err, ErrUnfiltered) && !errors.Is(err, ErrUnclassified) {
				t.Errorf("%q: got %q, %v", test.text, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		got, err = unseal(got, mine)
		if err != nil || strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(test.want), " ") {
			t.Errorf("%q: got %q, want %q (%v)", test.text, got, test.want, err)
		}
		if len(args) != len(test.args) {
			t.Errorf("%q: arguments %v, want %v", test.text, args, test.args)
			continue
		}
		for i := range args {
			if _, isDB := args[i].(*gorm.DB); !isDB && args[i] != test.args[i] {
				t.Errorf("%q: arguments %v, want %v", test.text, args, test.args)
			}
		}
	}
}

type uuidLike [2]byte

func (u uuidLike) Value() (driver.Value, error) { return string(u[:]), nil }

func TestOwn(t *testing.T) {
	t.Parallel()
	id, other := "42", "43"
	for _, test := range []struct {
		value any
		want  error // nil for the tenant's own
	}{
		{value: nil},
		{value: ""},
		{value: (*string)(nil)},
		{value: "42"},
		{value: &id},
		{value: 42},
		{value: int64(42)},
		{value: uint8(42)},
		{value: 0},
		{value: []byte("42")},
		{value: uuidLike{'4', '2'}},
		{value: uuidLike{}},
		{value: uuidLike{'4', '3'}, want: ErrForeignTenant},
		{value: "43", want: ErrForeignTenant},
		{value: " 42", want: ErrForeignTenant},
		{value: &other, want: ErrForeignTenant},
		{value: 43, want: ErrForeignTenant},
		{value: true, want: ErrUnfiltered},
		{value: clause.Expr{SQL: "42"}, want: ErrUnfiltered},
		{value: clause.Column{Name: "42"}, want: ErrUnfiltered},
		{value: struct{ ID string }{"42"}, want: ErrUnfiltered},
	} {
		kept, err := own(test.value, "42")
		if !errors.Is(err, test.want) {
			t.Errorf("%#v: got %v, want %v", test.value, err, test.want)
		}
		if err == nil {
			if got, empty, err := owner(kept); got != "42" || empty || err != nil {
				t.Errorf("%#v is written as %#v", test.value, kept)
			}
		}
	}
}

func TestSameColumn(t *testing.T) {
	t.Parallel()
	for _, same := range []string{"tenant_id", "TENANT_ID", "notes.tenant_id", "`notes`.`Tenant_ID`", `"tenant_id"`, "[tenant_id]", " tenant_id ", "a.b.tenant_id"} {
		if !sameColumn(same, "tenant_id") {
			t.Errorf("%q is taken for another column", same)
		}
	}
	for _, other := range []string{"tenant", "tenant_id2", "x_tenant_id", ""} {
		if sameColumn(other, "tenant_id") {
			t.Errorf("%q is taken for the tenant column", other)
		}
	}
}

func TestIsSavepoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"SAVEPOINT sp1": true, "ROLLBACK TO SAVEPOINT sp1": true, "rollback to sp1": true, "RELEASE SAVEPOINT sp1": true,
		"SAVEPOINT": false, "": false, "SAVEPOINT a; DELETE": false, "SAVEPOINT a b": false, "ROLLBACK": false,
		"DELETE notes": false, "SAVEPOINT a;DELETE": false, "SAVEPOINT a/**/": false, "release x": false, "ROLLBACK TO a.b": false,
	} {
		if isSavepoint(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

// What the scanner cannot read it refuses. In what it lets through every table is replaced.
func FuzzReferences(f *testing.F) {
	for _, text := range []string{
		"JOIN notes n ON n.id = ?", "notes, notes AS n", "LEFT JOIN (?) u ON 1=1", `JOIN "notes" ON (a, b) = (1, 2)`,
		"JOIN notes ON x JOIN secrets", "JOIN notes ON 'a' -- b", "/* x", "JOIN notes@x", "JOIN notes . x", "(((",
	} {
		f.Add(text, true, uint8(1))
		f.Add(text, false, uint8(0))
	}
	table := func(_, _, _ string) (string, any, error) {
		return "(" + mine + "SELECT * " + sealSource + "FROM x WHERE t = ?) AS n", "acme", nil
	}
	f.Fuzz(func(t *testing.T, text string, begins bool, vars uint8) {
		for _, dialect := range []string{dialectSQLite, dialectPostgres, dialectMySQL} {
			args := make([]any, vars%4)
			for i := range args {
				args[i] = clause.Expr{}
			}
			sql, got, err := newReferences(dialect, text, args, table).rewrite(begins)
			if err != nil || check(sql, dialect, mine) != nil {
				continue
			}
			if len(got) < len(args) {
				t.Errorf("%q: parameters are lost", text)
			}
			clean, err := unseal(sql, mine)
			if err != nil {
				t.Fatal(err)
			}
			s, depth, table := scanner{text: clean, dialect: dialect}, 0, begins
			for {
				next, err := s.next()
				if err != nil {
					t.Fatalf("%q became %q: %v", text, clean, err)
				}
				if table && !next.punct('(') {
					t.Fatalf("%q became %q: %q stands in the place of a table", text, clean, next.text)
				}
				table = depth == 0 && (next.punct(',') || next.is("join") || next.is("straight_join"))
				switch {
				case next.punct('('):
					depth++
				case next.punct(')'):
					depth--
				}
				if next.kind == tokenEnd {
					break
				}
			}
		}
	})
}
