package isolation_test

import (
	"strings"
	"testing"

	"lexigram.dev/tenancy/isolation"
)

func TestRLSReportsEachMistake(t *testing.T) {
	t.Parallel()
	table := func(change func(t *isolation.Table)) []isolation.Table {
		child := isolation.Table{Name: "lines", Via: &isolation.Via{Column: "order_id", Parent: "orders"}}
		change(&child)
		return []isolation.Table{{Name: "orders"}, child}
	}
	for want, rls := range map[string]isolation.RLS{
		"Setting":                           {Setting: "tenant"},
		"Tables is empty":                   {},
		"Roles.App":                         {Roles: isolation.Roles{System: "s"}},
		"named twice":                       {Roles: isolation.Roles{App: "a", Legacy: "a"}},
		"name is empty":                     {Tables: []isolation.Table{{}}},
		"longer than 63 bytes":              {Tables: []isolation.Table{{Name: strings.Repeat("x", 64)}}},
		"in other types":                    {Tables: []isolation.Table{{Name: "t", Type: "citext"}}},
		`type "numeric"`:                    {Tables: []isolation.Table{{Name: "t", Type: "numeric"}}},
		`type "text; DROP TABLE t"`:         {Tables: []isolation.Table{{Name: "t", Type: "text; DROP TABLE t"}}},
		`type "varchar(3); DROP"`:           {Tables: []isolation.Table{{Name: "t", Type: "varchar(3); DROP"}}},
		`type "uuid(1)"`:                    {Tables: []isolation.Table{{Name: "t", Type: "uuid(1)"}}},
		`"public"."orders" is listed twice`: {Tables: []isolation.Table{{Name: "orders"}, {Schema: "public", Name: "orders"}}},
		`"sales"."t" is in Shared`:          {Tables: []isolation.Table{{Name: "orders"}}, Shared: []string{"sales.t"}, Private: []string{"sales.t"}},
		"says in one way":                   {Tables: table(func(t *isolation.Table) { t.Column = "tenant_id" })},
		"not in Tables":                     {Tables: table(func(t *isolation.Table) { t.Via.Parent = "elsewhere" })},
		"leads back to itself":              {Tables: table(func(t *isolation.Table) { t.Via.Parent = "lines" })},
		"Via.Column":                        {Tables: table(func(t *isolation.Table) { t.Via.Column = "" })},
		"control character":                 {Tables: table(func(t *isolation.Table) { t.Via.Key = "a\n" })},
	} {
		if rls.Roles == (isolation.Roles{}) {
			rls.Roles.App = "app"
		}
		for what, run := range map[string]func() (string, error){"Up": rls.Up, "Down": rls.Down} {
			if text, err := run(); err == nil || text != "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s of %+v: want an error with %q, got %q, %v", what, rls, want, text, err)
			}
		}
	}
}

func TestRLSAcceptsTablesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "text", "varchar", "varchar(36)", "character varying(36)", "uuid", "smallint", "integer", "int", "bigint", "int8"} {
		_, err := isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{{Name: `we"ird`, Type: kind}}}.Up()
		if err != nil {
			t.Errorf("type %q: %v", kind, err)
		}
	}
}

func TestRLSWallsParentsOnlyOnce(t *testing.T) {
	t.Parallel()
	up, err := isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{
		{Name: "notes", Via: &isolation.Via{Column: "line_id", Parent: "lines"}},
		{Name: "lines", Via: &isolation.Via{Column: "order_id", Parent: "orders"}},
		{Name: "orders", Type: "bigint"},
	}}.Up()
	if err != nil {
		t.Fatal(err)
	}
	const policy = `EXISTS (SELECT FROM "public"."lines" AS tenancy_p1 WHERE tenancy_p1."id" = "public"."notes"."line_id" ` +
		`AND EXISTS (SELECT FROM "public"."orders" AS tenancy_p2 WHERE tenancy_p2."id" = tenancy_p1."order_id" ` +
		`AND tenancy_p2."tenant_id" = (SELECT "public".tenancy_tenant_bigint())))`
	for text, want := range map[string]int{policy: 2, "CREATE POLICY tenancy_tenant": 3, "ENABLE ROW LEVEL": 3} {
		if n := strings.Count(up, text); n != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, n, want, up)
		}
	}
}
