package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenancytest"
)

// versionOne returns a catalogue of version 1, and its database.
func versionOne(t *testing.T, e engine) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := e.open(t)
	text, err := fs.ReadFile(sqlstore.Schema(e.dialect), "0001_catalogue.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range strings.SplitAfter(string(text), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return newStore(t, db, e.config()), db
}

// On a catalogue of version 1 events are kept, and delivered in their order once it is migrated.
func TestEventsOfVersionOneAreKeptAndDeliveredAfterTheMigration(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, _ := versionOne(t, e)
		ctx := t.Context()
		for name, err := range durableCalls(ctx, store) {
			missing, ok := errors.AsType[*sqlstore.SchemaError](err)
			if !ok || missing.Have != 1 || missing.Want != 2 || !strings.Contains(err.Error(), "Store.Migrate") {
				t.Errorf("%s: %v; want a SchemaError that names the remedy", name, err)
			}
		}
		var log bytes.Buffer
		var got []string
		refuse := true
		clock := tenancytest.NewClock(time.Time{})
		tn, err := tenancy.New(tenancy.Config{
			Store: store, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Subscribers: []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
				if refuse {
					return errors.New("busy")
				}
				got = append(got, string(e.Type))
				return nil
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		acme, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tn.Lifecycle().Suspend(ctx, acme.ID, "unpaid"); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "cannot deliver events; they are kept"); n != 1 || !strings.Contains(log.String(), "Store.Migrate") {
			t.Errorf("the log names the remedy %d times; want once:\n%s", n, log.String())
		}
		if events, err := store.ReadEvents(ctx, tenancy.Position{}, "", 10); err != nil || len(events) != 2 {
			t.Fatalf("%d events are kept, %v; want 2", len(events), err)
		}
		if err := store.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tn.Events().Deliver(ctx); err != nil { // refused, so that they are read by tenant next
			t.Fatal(err)
		}
		refuse = false
		clock.Advance(time.Minute)
		if err := tn.Events().Deliver(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"TenantProvisioned", "TenantSuspended"}; !slices.Equal(got, want) {
			t.Errorf("delivered %q; want %q", got, want)
		}
		if n, err := store.PruneEvents(ctx, time.Now().Add(time.Hour), 10); err != nil || n != 2 {
			t.Errorf("%d were pruned, %v; want 2", n, err)
		}
	})
}

// On a catalogue of version 1 a tenant's work and its grace are refused before anything happened, and
// names are free at once, as they were for the programs of then; all else goes on.
func TestTenantsOfVersionOneGoOn(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, _ := versionOne(t, e)
		ctx := t.Context()
		ran := 0
		plain, err := tenancy.New(tenancy.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		step := []tenancy.Step{{Name: "place", Run: func(context.Context, *tenancy.Tenant) error { ran++; return nil }}}
		working, err := tenancy.New(tenancy.Config{Store: store, Steps: tenancy.Steps{Provision: step, Purge: step}})
		if err != nil {
			t.Fatal(err)
		}
		acme, err := plain.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Lifecycle().Deactivate(ctx, acme.ID); err != nil {
			t.Fatal(err)
		}
		refused := func(what string, err error) {
			t.Helper()
			if missing, ok := errors.AsType[*sqlstore.SchemaError](err); !ok || missing.Have != 1 || missing.Want != 2 {
				t.Errorf("%s: %v; want a SchemaError", what, err)
			}
		}
		_, err = working.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "globex"})
		refused("create a tenant by steps", err)
		_, err = working.Lifecycle().Archive(ctx, acme.ID)
		refused("archive for a grace", err)
		if ran != 0 {
			t.Errorf("%d steps ran", ran)
		}
		renamed := "acme-2"
		if _, err := plain.Lifecycle().Update(ctx, tenancy.UpdateTenant{ID: acme.ID, Slug: &renamed}); err != nil {
			t.Error(err)
		}
		for _, slug := range []string{"acme", "globex"} {
			if _, err := plain.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: slug}); err != nil {
				t.Errorf("create %s: %v", slug, err)
			}
		}
		if err := store.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := working.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "initech"}); err != nil || ran != 1 {
			t.Errorf("after the migration: %v, %d steps", err, ran)
		}
		if archived, err := working.Lifecycle().Archive(ctx, acme.ID); err != nil || archived.PurgeAfter.IsZero() {
			t.Errorf("after the migration: %+v, %v", archived, err)
		}
	})
}
