package crash_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// inventory returns everything that the servers of these worlds hold: databases, schemas, roles,
// logins and files, whoever made them.
func inventory(t *testing.T, worlds []world) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, w := range worlds {
		switch w.Engine {
		case isolation.EnginePostgreSQL:
			query(t, w, found, "SELECT 'database ' || datname FROM pg_database")
			query(t, w, found, "SELECT 'role ' || rolname FROM pg_roles")
			query(t, w, found, "SELECT 'schema ' || current_database() || '.' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'")
		case isolation.EngineMariaDB:
			query(t, w, found, "SELECT CONCAT('database ', schema_name) FROM information_schema.schemata")
			query(t, w, found, "SELECT CONCAT('login ', User) FROM mysql.global_priv")
		default:
			files, err := os.ReadDir(w.Dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			for _, f := range files {
				found["file "+f.Name()] = true
			}
		}
	}
	return found
}

// sharedFile is where SQLite keeps the rows of all tenants.
const sharedFile = "shared.sqlite"

// root opens the server of a world past all walls.
func root(t *testing.T, w world) *sql.DB {
	t.Helper()
	db, _, err := w.catalogue(&points{})
	must(t, err)
	return db
}

func query(t *testing.T, w world, found map[string]bool, text string) {
	t.Helper()
	db := root(t, w)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), text)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		found[name] = true
	}
	must(t, rows.Err())
}

// places is what an active tenant has on the server.
func (w world) places(p tenancy.Placement) []string {
	switch {
	case w.Engine == isolation.EngineSQLite && !w.rows():
		return []string{"file " + p.Database}
	case w.Engine == isolation.EngineMariaDB && w.rows():
		return []string{"login " + p.Schema}
	case w.Engine == isolation.EngineMariaDB:
		return []string{"database " + p.Schema + p.Database, "login " + p.Schema + p.Database}
	case w.Strategy == tenancy.StrategySchema:
		return []string{"schema " + w.Database + "." + p.Schema, "role " + p.Schema}
	case w.Strategy == tenancy.StrategyDatabase:
		return []string{"database " + p.Database, "role " + p.Database}
	default:
		return nil
	}
}

// sameThings fails the test unless the servers hold what they held before, and what living tenants
// need, and nothing else.
func sameThings(t *testing.T, before, after map[string]bool, worlds []world, alive map[string][]tenancy.Tenant) {
	t.Helper()
	want := maps.Clone(before)
	for _, w := range worlds {
		for _, tn := range alive[w.Name] {
			for _, place := range w.places(tn.Placement) {
				want[place] = true
			}
		}
	}
	for _, thing := range slices.Sorted(maps.Keys(after)) {
		base := strings.TrimSuffix(strings.TrimSuffix(thing, "-wal"), "-shm")
		if !want[thing] && !want[base] {
			t.Errorf("an orphan: %s", thing)
		}
	}
	for _, thing := range slices.Sorted(maps.Keys(want)) {
		if !after[thing] {
			t.Errorf("it is missing: %s", thing)
		}
	}
}

// complete fails the test unless the tenant has its tables with what its provisioning wrote, once, and
// can use them.
func (s *site) complete(t *testing.T, tn tenancy.Tenant) {
	t.Helper()
	if err := s.exec(t.Context(), tn, "INSERT INTO notes (id, body) VALUES ('probe', 'of "+tn.ID+"')"); err != nil {
		t.Errorf("tenant %s is %s and cannot write: %v", tn.ID, tn.Status, err)
		return
	}
	want := map[string]int{seeds: 1, "SELECT count(*) FROM notes": 2, "SELECT count(*) FROM notes WHERE body = 'of " + tn.ID + "'": 2}
	if !s.rows() {
		want["SELECT count(*) FROM ledger"] = 1
	}
	for text, n := range want {
		if got, err := s.count(t.Context(), tn, text); err != nil || got != n {
			t.Errorf("tenant %s is %s: %s: %d, %v, want %d", tn.ID, tn.Status, text, got, err, n)
		}
	}
	must(t, s.exec(t.Context(), tn, "DELETE FROM notes WHERE id = 'probe'"))
}

// gone fails the test if tables that tenants share have a row of the tenant.
func (s *site) gone(t *testing.T, id string) {
	t.Helper()
	if !s.rows() {
		return // the inventory tells
	}
	db := root(t, s.world)
	if s.Engine == isolation.EngineSQLite { // the catalogue is another file
		must(t, db.Close())
		var err error
		db, err = sql.Open("sqlite", "file:"+filepath.Join(s.Dir, sharedFile)+"?mode=rw")
		must(t, err)
	}
	defer db.Close()
	tables := map[string]string{"notes": "tenant_id"}
	if s.Engine == isolation.EngineMariaDB {
		tables = map[string]string{s.Database + ".notes": "tenant_id", s.Database + ".tenancy_login": "tenant"}
	}
	for table, column := range tables {
		var n int
		must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table+" WHERE "+column+" = '"+id+"'").Scan(&n))
		if n != 0 {
			t.Errorf("%d rows of the purged tenant %s stayed in %s", n, id, table)
		}
	}
}

// told are the events of a tenant that ended so, in order.
func told(id string, status tenancy.Status) []tenancy.EventType {
	if refused(id) {
		return []tenancy.EventType{tenancy.TenantPurged}
	}
	switch status {
	case tenancy.StatusActive:
		return []tenancy.EventType{tenancy.TenantProvisioned}
	case tenancy.StatusPurged:
		return []tenancy.EventType{tenancy.TenantProvisioned, tenancy.TenantDeactivated, tenancy.TenantArchived, tenancy.TenantPurged}
	default:
		return nil
	}
}

// checkEvents fails the test unless each event that the tenants' ends imply was told, at least once and
// in order, and no other, and none before it had happened.
func checkEvents(lines []line, ended map[string]tenancy.Status) error {
	type tale struct {
		ids   map[string]bool
		types []tenancy.EventType
		last  int64
	}
	tales := map[string]*tale{}
	var errs []error
	for _, l := range lines {
		if l.Accepted != "" {
			if ended[l.Tenant] == "" {
				errs = append(errs, fmt.Errorf("the %s of tenant %s was accepted, and there is no such tenant", l.Accepted, l.Tenant))
			}
			continue
		}
		this := tales[l.Tenant]
		if this == nil {
			this = &tale{ids: map[string]bool{}}
			tales[l.Tenant] = this
		}
		if l.Stored < l.Revision {
			errs = append(errs, fmt.Errorf("%s of tenant %s was told at revision %d, before its own, %d", l.Told, l.Tenant, l.Stored, l.Revision))
		}
		if this.ids[l.ID] {
			continue // again
		}
		if l.Revision <= this.last {
			errs = append(errs, fmt.Errorf("%s of tenant %s with revision %d came after revision %d", l.Told, l.Tenant, l.Revision, this.last))
		}
		if l.Told == tenancy.TenantPurged {
			errs = append(errs, checkReceipt(l))
		}
		this.ids[l.ID], this.last = true, l.Revision
		this.types = append(this.types, l.Told)
	}
	for id, status := range ended {
		var got []tenancy.EventType
		if tales[id] != nil {
			got = tales[id].types
		}
		if !slices.Equal(got, told(id, status)) {
			errs = append(errs, fmt.Errorf("tenant %s is %s and was told as %v", id, status, got))
		}
		delete(tales, id)
	}
	for id, this := range tales {
		errs = append(errs, fmt.Errorf("tenant %s does not exist and was told as %v", id, this.types))
	}
	return errors.Join(errs...)
}

// checkReceipt fails the test unless the event of a purge lists what the tenant had, and the seed of one
// that was active.
func checkReceipt(l line) error {
	kinds := map[string]bool{}
	for _, item := range l.Manifest {
		kinds[item.Kind] = true
		if name := item.Name[strings.LastIndexAny(item.Name, ".")+1:]; strings.Trim(name, "`\"") == "notes" && item.Rows == 1 {
			kinds["seed"] = true
		}
	}
	place := kinds["rows"] || kinds["schema"] || kinds["database"] || kinds["file"]
	if l.Placed && !place || !kinds["seed"] && !refused(l.Tenant) {
		return fmt.Errorf("the purge of tenant %s told as what went: %+v", l.Tenant, l.Manifest)
	}
	return nil
}
