package isolation_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/memstore"
)

// placed returns the tenant of a context.
func placed(t testing.TB, ctx context.Context) tenancy.Tenant {
	t.Helper()
	scope, err := tenancy.ScopeOf(ctx)
	must(t, err)
	return *scope.Tenant
}

// openSQLiteRows opens a cell whose statements only byHand filters.
func openSQLiteRows(t testing.TB, options ...func(*isolation.Config)) *cell {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tenants")
	c := &cell{
		migration: migration(`CREATE TABLE IF NOT EXISTS notes (id integer PRIMARY KEY AUTOINCREMENT, tenant_id text NOT NULL, body text NOT NULL)`),
		config: isolation.Config{
			Servers: map[string]isolation.Server{"files": isolation.SQLite{
				Dir: dir, Driver: "sqlite", Rows: &isolation.SQLiteRows{Tables: map[string]string{"notes": ""}},
			}},
			Strategy: tenancy.StrategyRowLevel,
		},
	}
	for _, option := range append([]func(*isolation.Config){quiet}, options...) {
		option(&c.config)
	}
	p := provisionerOf(t, c)
	_, err := p.Setup(t.Context())
	must(t, err)
	c.db, err = isolation.Open(c.config)
	must(t, err)
	c.admin, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "shared.sqlite")+"?mode=rw&_pragma=busy_timeout(5000)")
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(c.db.Close(), c.admin.Close())) })
	c.acme, c.globex = provision(t, p, tenant("acme")), provision(t, p, tenant("globex"))
	byHand{c.db}.add(t, c.acme, "of acme")
	byHand{c.db}.add(t, c.globex, "of globex")
	return c
}

// eachPlace runs a test for every access, and for row_level on SQLite, which needs byHand.
func eachPlace(t *testing.T, test func(t *testing.T, a access)) {
	each(t, nil, test)
	onSQLiteRows(t, test)
}

// eachOwnPlace is eachPlace without those where a tenant has nothing but a record in the catalogue.
func eachOwnPlace(t *testing.T, test func(t *testing.T, a access)) {
	each(t, func(a access) bool { return !a.rows }, test)
	onSQLiteRows(t, test)
}

func onSQLiteRows(t *testing.T, test func(t *testing.T, a access)) {
	t.Run("row_level on SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, access{engine: isolation.EngineSQLite, views: true, open: openSQLiteRows})
	})
}

// byHand filters statements on notes by hand where the database does not.
type byHand struct{ *isolation.DB }

func (db byHand) own(ctx context.Context, query string) (context.Context, string, error) {
	walled, err := db.Walled(ctx)
	if err != nil || walled {
		return ctx, query, err
	}
	scope, err := tenancy.ScopeOf(ctx)
	if err != nil {
		return ctx, query, err
	}
	query = strings.NewReplacer(
		"FROM notes", "FROM notes WHERE tenant_id = '"+scope.Tenant.ID+"'",
		"(body) VALUES (", "(tenant_id, body) VALUES ('"+scope.Tenant.ID+"', ",
	).Replace(query)
	return isolation.UnsafeFiltered(ctx, query), query, nil
}

// QueryContext is that of DB.
func (db byHand) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, query, err := db.own(ctx, query)
	if err != nil {
		return nil, err
	}
	return db.DB.QueryContext(ctx, query, args...)
}

func (db byHand) add(t testing.TB, ctx context.Context, body string) {
	t.Helper()
	ctx, query, err := db.own(ctx, "INSERT INTO notes (body) VALUES ($1)")
	must(t, err)
	_, err = db.ExecContext(ctx, query, body)
	must(t, err)
}

// kinds returns the items of a tenant's manifest as kindsOf does.
func kinds(t testing.TB, p *isolation.Provisioner, tn tenancy.Tenant) []string {
	t.Helper()
	m, err := p.Manifest(t.Context(), tn)
	must(t, err)
	return kindsOf(m)
}

// kindsOf returns a manifest's items as text, sorted, with rows only where there are any.
func kindsOf(m tenancy.Manifest) []string {
	var all []string
	for _, item := range m.Items {
		switch {
		case item.Kind == "rows" && item.Rows == 0: // nothing goes
		case item.Kind == "file" && strings.Contains(item.Name, ".db-"): // while somebody has it open
		case item.Rows == 1:
			all = append(all, item.Kind+"=1")
		default:
			all = append(all, item.Kind)
		}
	}
	slices.Sort(all)
	return all
}

// wanted is the manifest of a tenant with one note.
func wanted(c *cell) []string {
	s := c.config.Servers["main"]
	switch s.(type) {
	case nil:
		if c.config.Strategy == tenancy.StrategyRowLevel {
			return []string{"rows=1"}
		}
		return []string{"file", "table=1"}
	case isolation.MariaDB:
		if c.config.Strategy == tenancy.StrategyRowLevel {
			return []string{"role", "rows=1"}
		}
		return []string{"database", "role", "table=1"}
	}
	switch c.config.Strategy {
	case tenancy.StrategyRowLevel:
		return []string{"rows=1"}
	case tenancy.StrategySchema:
		return []string{"role", "schema", "table=1"}
	default:
		return []string{"database", "role", "table=1"}
	}
}

// left asks the servers, past the library, for what bears the name of the tenant's place.
func left(t testing.TB, c *cell, tn tenancy.Tenant) []string {
	t.Helper()
	name := tn.Placement.Schema + tn.Placement.Database
	ask := func(query string, args ...any) []string {
		rows, err := c.admin.Query(query, args...)
		must(t, err)
		defer rows.Close()
		var all []string
		for rows.Next() {
			var one string
			must(t, rows.Scan(&one))
			all = append(all, one)
		}
		must(t, rows.Err())
		return all
	}
	switch s := c.config.Servers[onlyServer(c)].(type) {
	case isolation.SQLite:
		if s.Rows != nil {
			return ask("SELECT body FROM notes WHERE tenant_id = ?", tn.ID)
		}
		files, err := filepath.Glob(filepath.Join(s.Dir, name+"*"))
		must(t, err)
		return files
	case isolation.MariaDB:
		all := ask("SELECT schema_name FROM information_schema.schemata WHERE schema_name = ? UNION ALL "+
			"SELECT User FROM mysql.global_priv WHERE User LIKE concat(left(?, 15), '%')", name, strings.ReplaceAll(name, "_", `\_`))
		if s.Rows != nil {
			all = append(all, ask("SELECT body FROM "+s.Rows.Base+".notes WHERE tenant_id = ?", tn.ID)...)
		}
		return all
	default:
		if c.config.Strategy == tenancy.StrategyRowLevel {
			return ask("SELECT body FROM notes WHERE tenant_id = $1", tn.ID)
		}
		return ask("SELECT nspname::text FROM pg_namespace WHERE nspname = $1 UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname = $1 "+
			"UNION ALL SELECT datname::text FROM pg_database WHERE datname = $1", name)
	}
}

func onlyServer(c *cell) string {
	for name := range c.config.Servers {
		return name
	}
	return ""
}

func TestManifestIsWhatAPurgeRemoves(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		p, acme := provisionerOf(t, c), placed(t, c.acme)
		for range 2 { // to ask changes nothing
			if got := kinds(t, p, acme); !slices.Equal(got, wanted(c)) {
				t.Errorf("the manifest is %q, want %q", got, wanted(c))
			}
		}
		sees(t, c.acme, byHand{c.db}, "of acme")
		if len(left(t, c, acme)) == 0 {
			t.Fatal("the server has nothing of it")
		}
		must(t, c.db.Close()) // SQLite's files are held open otherwise
		for range 2 {
			must(t, p.Deprovision(t.Context(), acme))
			if got := kinds(t, p, acme); len(got) != 0 {
				t.Errorf("after the purge the manifest is %q", got)
			}
			if got := left(t, c, acme); len(got) != 0 {
				t.Errorf("the purge left %q", got)
			}
		}
		if got := kinds(t, p, placed(t, c.globex)); !slices.Equal(got, wanted(c)) {
			t.Errorf("of the other tenant stays %q", got)
		}
		db, err := isolation.Open(c.config)
		must(t, err)
		defer db.Close()
		sees(t, c.globex, byHand{db}, "of globex")
	})
}

// TestL07EveryStepRefusesAForeignPlace gives each step names that were not chosen for the tenant.
func TestL07EveryStepRefusesAForeignPlace(t *testing.T) {
	t.Parallel()
	each(t, func(a access) bool { return !a.rows }, func(t *testing.T, a access) {
		c := a.open(t)
		p := provisionerOf(t, c)
		theirs := placementOf(t, c.globex)
		for _, name := range []string{
			theirs.Schema + theirs.Database, `x"; DROP SCHEMA public CASCADE; --`, "x`; DROP DATABASE mysql; --", "public", "mysql",
			"../other.db", "", "T_acme_000000000000", strings.Repeat("a", 64),
		} {
			acme := placed(t, c.acme)
			if acme.Placement.Schema != "" {
				acme.Placement.Schema = name
			} else {
				acme.Placement.Database = name
			}
			for _, step := range append(p.ProvisionSteps(), p.DeprovisionSteps()...) {
				if step.Name == "migrate" && a.views {
					continue // which asks for the version of what all share
				}
				if err := step.Run(t.Context(), &acme); !errors.As(err, new(*tenancy.InvalidError)) {
					t.Errorf("%s with %q: %v", step.Name, name, err)
				}
			}
			if _, err := p.Manifest(t.Context(), acme); !errors.As(err, new(*tenancy.InvalidError)) {
				t.Errorf("manifest with %q: %v", name, err)
			}
		}
		sees(t, c.globex, c.db, "of globex")
	})
}

// crashing is the real provisioner, whose steps can be stopped.
type crashing struct {
	*isolation.Provisioner
	after func(step string) error // when it has run
}

func (p crashing) wrap(steps []tenancy.Step) []tenancy.Step {
	for i, step := range steps {
		steps[i].Run = func(ctx context.Context, t *tenancy.Tenant) error {
			if err := step.Run(ctx, t); err != nil {
				return err
			}
			return p.after(step.Name)
		}
	}
	return steps
}

func (p crashing) ProvisionSteps() []tenancy.Step { return p.wrap(p.Provisioner.ProvisionSteps()) }

func (p crashing) DeprovisionSteps() []tenancy.Step { return p.wrap(p.Provisioner.DeprovisionSteps()) }

func openTenancy(t testing.TB, c *cell, store tenancy.Store, p tenancy.Provisioner, options ...func(*tenancy.Config)) *tenancy.Tenancy {
	t.Helper()
	cfg := tenancy.Config{
		Store: store, Provisioner: p, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Lifecycle: tenancy.LifecycleConfig{ArchiveGrace: -1, IsolationStrategy: c.config.Strategy},
	}
	for _, option := range options {
		option(&cfg)
	}
	tn, err := tenancy.New(cfg)
	must(t, err)
	return tn
}

// due lets what failed be tried again now.
func due(t testing.TB, store tenancy.Store, id string) {
	t.Helper()
	tn, err := store.Lookup(t.Context(), tenancy.ByID(id))
	must(t, err)
	tn.Journal.Due = time.Now().Add(-time.Second)
	_, err = store.Update(t.Context(), tn)
	must(t, err)
}

// TestL03StepsGoOnAfterAStop stops the work after each step, before it is recorded.
func TestL03StepsGoOnAfterAStop(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		stop := errors.New("stopped")
		for _, at := range []string{"place", "migrate", "remove"} {
			store := memstore.New()
			stopped := false
			p := crashing{provisionerOf(t, c), func(step string) error {
				if step == at && !stopped {
					stopped = true
					return stop
				}
				return nil
			}}
			tn := openTenancy(t, c, store, p)
			l, id := tn.Lifecycle(), "new-"+at
			again := func(err error) {
				t.Helper()
				if err == nil {
					return
				}
				mustBe(t, err, stop)
				due(t, store, id)
				n, err := tn.RunOnce(t.Context())
				if n != 1 || err != nil {
					t.Fatalf("went on with %d: %v", n, err)
				}
			}
			_, err := l.Create(t.Context(), tenancy.CreateTenant{ID: id, Slug: id})
			again(err)
			got, err := l.Get(t.Context(), id)
			must(t, err)
			if got.Status != tenancy.StatusActive || got.Placement.SchemaVersion != 1 {
				t.Fatalf("%+v", got)
			}
			db, err := isolation.Open(c.config)
			must(t, err)
			ctx := tenancy.UnsafeBind(t.Context(), got, "test")
			byHand{db}.add(t, ctx, "new")
			sees(t, ctx, byHand{db}, "new")
			must(t, db.Close())
			_, err = l.Deactivate(t.Context(), id)
			must(t, err)
			_, err = l.Delete(t.Context(), id)
			again(err)
			gone, err := l.Get(t.Context(), id)
			must(t, err)
			if gone.Status != tenancy.StatusPurged || !stopped {
				t.Fatalf("%+v, stopped %v", gone, stopped)
			}
			if got := left(t, c, got); len(got) != 0 {
				t.Errorf("left %q", got)
			}
		}
		sees(t, c.acme, byHand{c.db}, "of acme")
	})
}

// TestLateStepLeavesNothing has a node sleep in a step while another purges the tenant.
func TestLateStepLeavesNothing(t *testing.T) {
	t.Parallel()
	eachOwnPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		store := memstore.New()
		other := openTenancy(t, c, store, provisionerOf(t, c))
		made := false
		late := crashing{provisionerOf(t, c), nil}
		late.after = func(step string) error {
			// It has run; the other node purges, and then it runs once more, late.
			stolen, err := store.Lookup(t.Context(), tenancy.ByID("late"))
			must(t, err)
			stolen.Journal.Until = time.Now().Add(-time.Second)
			_, err = store.Update(t.Context(), stolen)
			must(t, err)
			_, err = other.Lifecycle().Delete(context.WithoutCancel(t.Context()), "late")
			must(t, err)
			if got := left(t, c, stolen); len(got) != 0 {
				t.Errorf("the purge left %q", got)
			}
			must(t, provisionerOf(t, c).ProvisionSteps()[0].Run(t.Context(), &stolen))
			if isRowsOnSQLite(a) { // whose rows are all that a step can make
				seeding := stolen
				seeding.Status = tenancy.StatusActive
				byHand{c.db}.add(t, tenancy.UnsafeBind(t.Context(), seeding, "a late seed"), "seed")
			}
			made = len(left(t, c, stolen)) > 0
			return nil
		}
		_, err := openTenancy(t, c, store, late).Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "late", Slug: "late"})
		mustBe(t, err, tenancy.ErrLeaseLost)
		gone, err := store.Lookup(t.Context(), tenancy.ByID("late"))
		must(t, err)
		if got := left(t, c, gone); len(got) != 0 || !made {
			t.Errorf("the late step made something: %v; left %q", made, got)
		}
	})
}

func isRowsOnSQLite(a access) bool { return a.engine == isolation.EngineSQLite && a.views }

// TestCancelledStepsCanBeRepeated cancels the context at different moments.
func TestCancelledStepsCanBeRepeated(t *testing.T) {
	t.Parallel()
	eachOwnPlace(t, func(t *testing.T, a access) {
		c := a.open(t)
		p := provisionerOf(t, c)
		tn := tenant("cut")
		var err error
		tn.Placement, err = p.Place(t.Context(), tn)
		must(t, err)
		for _, after := range []time.Duration{0, time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			_, err := p.Provision(ctx, tn)
			cancel()
			if after == 0 && err == nil {
				t.Error("a cancelled context did not stop it")
			}
		}
		if after, err := p.Provision(t.Context(), tn); err != nil || after.SchemaVersion != 1 {
			t.Fatalf("%+v, %v", after, err)
		}
		if isRowsOnSQLite(a) {
			byHand{c.db}.add(t, tenancy.UnsafeBind(t.Context(), tn, "test"), "to go")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Deprovision(ctx, tn); err == nil && (a.engine != isolation.EngineSQLite || a.views) {
			t.Error("a cancelled context did not stop the removal")
		}
		if isRowsOnSQLite(a) && len(left(t, c, tn)) != 1 {
			t.Error("a cancelled removal has removed")
		}
		must(t, p.Deprovision(t.Context(), tn))
		if got := left(t, c, tn); len(got) != 0 {
			t.Errorf("left %q", got)
		}
	})
}
