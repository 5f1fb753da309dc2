package hunt_test

import (
	"context"
	"database/sql"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolationtest"
)

// shortKey lets the related tables' keys leave the tenant out.
var shortKey = []string{
	"DELETE FROM leak_hunt_parent",
	"ALTER TABLE leak_hunt_parent ADD UNIQUE (id)",
	"ALTER TABLE leak_hunt_child DROP CONSTRAINT leak_hunt_child_tenant_id_body_fkey",
	"ALTER TABLE leak_hunt_child ADD FOREIGN KEY (body) REFERENCES leak_hunt_parent (id) ON DELETE CASCADE",
}

// TestPlantedHolesAreFound takes the wall of row_level down at one place at a time, and wants the test
// of that row to notice.
func TestPlantedHolesAreFound(t *testing.T) {
	grants := []string{"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app"}
	for name, test := range map[string]struct {
		plant []string
		copy  bool // by a login past the wall
		row   string
	}{
		"keys without the tenant":              {plant: shortKey, row: "R10 foreign keys"},
		"a cascade without the tenant":         {plant: shortKey, row: "R16 cascades"},
		"BYPASSRLS":                            {plant: []string{"ALTER ROLE app BYPASSRLS"}, row: "R11 the login's rights"},
		"CREATEROLE":                           {plant: []string{"ALTER ROLE app CREATEROLE"}, row: "R11 the login's rights"},
		"the application owns the table":       {plant: []string{"ALTER TABLE leak_hunt OWNER TO app"}, row: "R11 statements that take the wall down"},
		"grants on each new table":             {plant: grants, row: "R12 a table that nobody walled"},
		"grants on each new view or partition": {plant: grants, row: "R15 partitions and views"},
		"a copy past the wall":                 {copy: true, row: "R14 bulk copies"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := onPostgreSQL(tenancy.StrategyRowLevel, direct, pipelined)(t)
			run := func() *recorder {
				r := newRecorder(t)
				r.only = test.row
				r.run(func(tb testing.TB) { isolationtest.Run(tb, h) })
				return r
			}
			if r := run(); r.Failed() {
				t.Fatalf("rejected before: %q", r.texts)
			}
			for _, statement := range test.plant {
				must(t, h.Migrate(t.Context(), "", statement))
			}
			if test.copy {
				h.Copies = map[string]copying{"past the wall": copyPast(h)}
			}
			r := run()
			if !r.failedIn(test.row) {
				t.Errorf("not found: %q", r.texts)
			}
			t.Logf("%q", r.texts)
		})
	}
}

// copyPast writes as whoever owns the tables.
func copyPast(h isolationtest.Handle) copying {
	return func(ctx context.Context, _ isolationtest.DB, columns []string, rows [][]any) error {
		scope, err := tenancy.ScopeOf(ctx)
		if err != nil {
			return err
		}
		if scope.Tenant == nil {
			return tenancy.ErrNoTenant
		}
		text, tenant := "", scope.Tenant.ID
		for i, v := range rows[0] {
			if columns[i] == "tenant_id" {
				tenant = v.(string)
				continue
			}
			text += ", '" + toText(v) + "'"
		}
		return h.Migrate(ctx, "", "INSERT INTO leak_hunt (tenant_id, id, owner, n, body) VALUES ('"+tenant+"'"+text+")")
	}
}

func toText(v any) string {
	var s sql.NullString
	if err := s.Scan(v); err != nil {
		return err.Error()
	}
	return s.String
}
