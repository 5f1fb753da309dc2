package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
)

var anyTenant = tenancy.Tenant{ID: "id-acme", Slug: "acme", Status: tenancy.StatusActive}

// calls are all methods that need the schema. With an empty catalogue, Lookup, Member and
// Update fail for a reason of their own.
func calls(ctx context.Context, s *sqlstore.Store) map[string]error {
	errs := map[string]error{"Check": s.Check(ctx)}
	_, errs["Lookup"] = s.Lookup(ctx, tenancy.BySlug("acme"))
	_, errs["Create"] = s.Create(ctx, anyTenant)
	_, errs["Update"] = s.Update(ctx, anyTenant)
	_, errs["List"] = s.List(ctx, tenancy.ListOptions{})
	_, errs["LoadConfig"] = s.LoadConfig(ctx, "id-acme")
	errs["SaveConfig"] = s.SaveConfig(ctx, "id-acme", func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
		return tenancy.ConfigWrite{}, nil
	})
	_, errs["ConfigHistory"] = s.ConfigHistory(ctx, "id-acme", tenancy.HistoryOptions{})
	_, errs["Member"] = s.Member(ctx, "alice", "id-acme")
	errs["SetMember"] = s.SetMember(ctx, "alice", "id-acme", tenancy.Member{})
	errs["GrantMember"] = s.GrantMember(ctx, "bob", "id-acme", tenancy.Member{Reason: "r", GrantedAt: time.Now()})
	_, errs["ListMembers"] = s.ListMembers(ctx, tenancy.MemberListOptions{UserID: "alice"})
	_, errs["PruneMembers"] = s.PruneMembers(ctx, "id-acme", time.Now())
	errs["RemoveMember"] = s.RemoveMember(ctx, "alice", "id-acme")
	_, errs["Changes"] = s.Changes(ctx, 0)
	_, errs["ReadEvents"] = s.ReadEvents(ctx, tenancy.Position{}, "", 1)
	for name, err := range durableCalls(ctx, s) {
		errs[name] = err
	}
	return errs
}

// durableCalls are the methods that need version 2 of the schema.
func durableCalls(ctx context.Context, s *sqlstore.Store) map[string]error {
	errs := map[string]error{}
	_, errs["ReadEvents of a tenant"] = s.ReadEvents(ctx, tenancy.Position{}, "id-acme", 1)
	_, errs["SinkWaits"] = s.SinkWaits(ctx, "s", time.Now())
	k, err := s.ClaimSink(ctx, "s", "node", time.Now(), time.Now())
	errs["ClaimSink"] = err
	hold := tenancy.Hold{TenantID: "id-acme"}
	errs["SaveSink"] = s.SaveSink(ctx, tenancy.SinkProgress{
		Sink: "s", Owner: k.Owner, Until: time.Now(), Holds: []tenancy.HoldChange{{To: &hold}},
	})
	_, errs["Sinks"] = s.Sinks(ctx)
	_, errs["Holds"] = s.Holds(ctx, "s", tenancy.HoldQuery{})
	errs["SaveHold"] = s.SaveHold(ctx, "s", tenancy.HoldChange{From: &hold})
	errs["ForgetSink"] = s.ForgetSink(ctx, "s", time.Now().Add(time.Hour))
	_, errs["PruneEvents"] = s.PruneEvents(ctx, time.Now(), 1)
	return errs
}

func wantSchemaError(t *testing.T, s *sqlstore.Store, have int, remedy string) {
	t.Helper()
	for name, err := range calls(t.Context(), s) {
		wrong, ok := errors.AsType[*sqlstore.SchemaError](err)
		if !ok || wrong.Have != have || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v; want a SchemaError that finds version %d and says %q", name, err, have, remedy)
		}
	}
}

func TestEveryCallOnAMissingSchemaNamesTheRemedy(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		wantSchemaError(t, newStore(t, e.open(t), e.config()), 0, "Store.Migrate")
	})
}

func TestEveryCallOnANewerSchemaNamesTheRemedy(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, db := migrated(t, e)
		if _, err := db.ExecContext(t.Context(), "INSERT INTO "+e.table("schema_versions")+" (version) VALUES (99)"); err != nil {
			t.Fatal(err)
		}
		store := newStore(t, db, e.config())
		wantSchemaError(t, store, 99, "deploy a newer version")
		if _, ok := errors.AsType[*sqlstore.SchemaError](store.Migrate(t.Context())); !ok {
			t.Error("Migrate touches a newer catalogue")
		}
	})
}

func TestMigrateIsIdempotentAndSafeAtOnce(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		db := e.open(t)
		var processes sync.WaitGroup
		for range 8 {
			store := newStore(t, db, e.config()) // each as another process would have it
			processes.Go(func() {
				for range 3 {
					if err := store.Migrate(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if err := store.Check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		processes.Wait()
		store := newStore(t, db, e.config())
		if _, err := store.Create(t.Context(), anyTenant); err != nil {
			t.Fatal(err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Fatal(err)
		}
	})
}

// TestMigrateWaitsForOthersWhoMakeTheFile: a connection that is to turn the file's journal to WAL,
// and meets one that writes, is shut out at once, whatever its busy timeout is.
func TestMigrateWaitsForOthersWhoMakeTheFile(t *testing.T) {
	url := sqliteURL(t)
	file, _, _ := strings.Cut(url, "?")
	other, err := open(t, "sqlite", file).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, statement := range []string{"BEGIN IMMEDIATE", "CREATE TABLE another (x int)"} {
		if _, err := other.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	store := newStore(t, open(t, "sqlite", url), sqlstore.Config{Dialect: sqlstore.SQLite})
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := store.Migrate(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate with a deadline, while another one writes: %v; want it to wait until then", err)
	}
	migrated := make(chan error, 1)
	go func() { migrated <- store.Migrate(t.Context()) }()
	time.Sleep(50 * time.Millisecond)
	if _, err := other.ExecContext(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Error(err)
	}
}

func TestAFailedMigrationLeavesNoCatalogueAndTheConnectionUsable(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		db := e.open(t)
		db.SetMaxOpenConns(1)
		if e.dialect == sqlstore.PostgreSQL {
			if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA tenancy"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+e.table("outbox")+" (x int)"); err != nil {
			t.Fatal(err)
		}
		store := newStore(t, db, e.config())
		if err := store.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "0001_catalogue.sql") {
			t.Fatalf("Migrate: %v; want an error that names the file", err)
		}
		wantSchemaError(t, store, 0, "Store.Migrate")
		if _, err := db.ExecContext(t.Context(), "DROP TABLE "+e.table("outbox")); err != nil {
			t.Fatal(err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnEndedContextEndsAMigration(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store := newStore(t, e.open(t), e.config())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := store.Migrate(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Migrate: %v; want context.Canceled", err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheExportedSchemaAppliedByHandIsTheSame(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		db := e.open(t)
		files := sqlstore.Schema(e.dialect)
		names, err := fs.Glob(files, "*.sql")
		if err != nil || len(names) == 0 {
			t.Fatalf("the schema has files %q, error %v", names, err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			scripts := []string{string(text)}
			if e.dialect == sqlstore.MariaDB { // whose client sends statement by statement
				scripts = strings.SplitAfter(string(text), ";\n")
			}
			for _, script := range scripts {
				if strings.TrimSpace(script) == "" {
					continue
				}
				if _, err := db.ExecContext(t.Context(), script); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		store := newStore(t, db, e.config())
		if err := errors.Join(store.Check(t.Context()), store.Migrate(t.Context())); err != nil {
			t.Fatal(err)
		}
		for name, err := range calls(t.Context(), store) {
			if err != nil && name != "Lookup" && name != "Member" && name != "Update" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestSQLiteWithoutABusyTimeoutIsRefused(t *testing.T) {
	t.Parallel()
	db := open(t, "sqlite", "file:"+t.TempDir()+"/catalogue.db")
	store := newStore(t, db, sqlstore.Config{Dialect: sqlstore.SQLite})
	for name, err := range map[string]error{"Migrate": store.Migrate(t.Context()), "Check": store.Check(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "_pragma=busy_timeout(10000)") {
			t.Errorf("%s: %v; want an error that names the remedy", name, err)
		}
	}
}

// The application's role writes the catalogue without owning it.
func TestPostgreSQLNeedsNoMoreThanTheDocumentedGrants(t *testing.T) {
	t.Parallel()
	server := servers.Postgres(t)
	database := server.CreateDatabase(t)
	ctx, cfg := t.Context(), sqlstore.Config{Dialect: sqlstore.PostgreSQL}
	owner := open(t, "pgx", server.URL(database))
	if err := newStore(t, owner, cfg).Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`CREATE ROLE catalogue_app LOGIN PASSWORD 'app'`,
		`GRANT USAGE ON SCHEMA tenancy TO catalogue_app`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tenancy TO catalogue_app`,
	} {
		if _, err := owner.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	store := newStore(t, open(t, "pgx", server.URLFor("catalogue_app", "app", database)), cfg)
	if err := store.Migrate(ctx); err != nil { // nothing to do, so nothing more is needed
		t.Fatal(err)
	}
	for name, err := range calls(ctx, store) {
		if err != nil && name != "Lookup" && name != "Member" && name != "Update" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
