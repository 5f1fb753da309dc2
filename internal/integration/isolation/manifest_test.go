package isolation_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// TestManifestIsWhatGoes: a manifest lists what is there, changes nothing, and is empty afterwards;
// nobody else's things go.
func TestManifestIsWhatGoes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		open func(t testing.TB, options ...func(*isolation.Config)) *cell
		want func(p tenancy.Placement) []string
	}{
		"row_level on PostgreSQL": {openDirect, func(tenancy.Placement) []string { return []string{`rows "public"."notes" 2`} }},
		"schema on PostgreSQL": {openSchemas, func(p tenancy.Placement) []string {
			return []string{"table " + p.Schema + ".notes 2", "schema " + p.Schema, "role " + p.Schema}
		}},
		"database on PostgreSQL": {openDatabases, func(p tenancy.Placement) []string {
			return []string{"table public.notes 2", "database " + p.Database, "role " + p.Database}
		}},
		"schema on MariaDB": {openMariaDBSchemas, func(p tenancy.Placement) []string {
			return []string{"table " + p.Schema + ".notes 2", "database " + p.Schema, "role "}
		}},
		"database on MariaDB": {openMariaDBDatabases, func(p tenancy.Placement) []string {
			return []string{"table " + p.Database + ".notes 2", "database " + p.Database, "role "}
		}},
		"row_level on MariaDB": {openMariaDBRows, func(tenancy.Placement) []string { return []string{".notes 2", "role "} }},
		"database on SQLite": {openSQLite, func(p tenancy.Placement) []string {
			return []string{"table notes 2", "file " + p.Database}
		}},
		"row_level on SQLite": {openSQLiteRows, func(tenancy.Placement) []string { return []string{"rows notes 2"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := test.open(t)
			byHand{c.db}.add(t, c.acme, "another")
			p := provisionerOf(t, c)
			acme, globex := tenantOf(t, c.acme), tenantOf(t, c.globex)
			others := manifest(t, p, globex)
			for range 2 { // a dry run may be repeated
				got := manifest(t, p, acme)
				want := test.want(acme.Placement)
				ok := len(got) >= len(want)
				for _, w := range want {
					ok = ok && slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) })
				}
				if !ok {
					t.Fatalf("the manifest is %q; want %q in it", got, want)
				}
			}
			must(t, p.Deprovision(t.Context(), acme))
			for _, left := range manifest(t, p, acme) {
				if !strings.HasPrefix(left, "rows ") || !strings.HasSuffix(left, " 0") {
					t.Errorf("after the removal there is %q", left)
				}
			}
			must(t, p.Deprovision(t.Context(), acme)) // repeated
			if after := manifest(t, p, globex); !slices.Equal(after, others) {
				t.Errorf("of the other tenant there was %q, and is %q", others, after)
			}
		})
	}
}

// TestManifestRefusesWhatNobodyClassified: a purge of rows must not pass over a table that may hold
// some.
func TestManifestRefusesWhatNobodyClassified(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	p := provisionerOf(t, c)
	if _, err := c.admin.ExecContext(t.Context(), "CREATE TABLE leftovers (tenant_id text, body text)"); err != nil {
		t.Fatal(err)
	}
	_, err := p.Manifest(t.Context(), tenantOf(t, c.acme))
	if err == nil || !strings.Contains(err.Error(), "leftovers") {
		t.Errorf("with an unclassified table: %v", err)
	}
}

// TestStepsMayStopAnywhere: whoever goes on after a crash begins with any step again.
func TestStepsMayStopAnywhere(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		p := provisionerOf(t, c)
		tn := tenant("late-comer")
		var err error
		tn.Placement, err = p.Place(t.Context(), tn)
		must(t, err)
		steps := p.ProvisionSteps()
		for i := range steps {
			for _, step := range steps[:i+1] {
				must(t, step.Run(t.Context(), &tn))
			}
		}
		ctx := tenancy.UnsafeBind(t.Context(), tn, "test")
		byHand{c.db}.add(t, ctx, "of the late-comer")
		sees(t, ctx, byHand{c.db}, "of the late-comer")
		for _, step := range append(p.DeprovisionSteps(), p.DeprovisionSteps()...) {
			must(t, step.Run(t.Context(), &tn))
		}
		for _, left := range manifest(t, p, tn) {
			if !strings.HasPrefix(left, "rows ") || !strings.HasSuffix(left, " 0") {
				t.Errorf("after the removal there is %q", left)
			}
		}
		sees(t, c.acme, byHand{c.db}, "of acme")
	})
}

func provisionerOf(t testing.TB, c *cell) *isolation.Provisioner {
	t.Helper()
	p, err := isolation.NewProvisioner(c.config, c.migration)
	must(t, err)
	return p
}

func tenantOf(t testing.TB, ctx context.Context) tenancy.Tenant {
	t.Helper()
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	return *scope.Tenant
}

// manifest returns what a removal would remove, as "kind name rows".
func manifest(t testing.TB, p *isolation.Provisioner, tn tenancy.Tenant) (items []string) {
	t.Helper()
	m, err := p.Manifest(t.Context(), tn)
	must(t, err)
	for _, i := range m.Items {
		text := i.Kind + " " + i.Name
		if i.Kind == "rows" || i.Kind == "table" {
			text += " " + strconv.FormatInt(i.Rows, 10)
		}
		items = append(items, text)
	}
	return items
}
