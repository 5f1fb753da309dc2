package store_test

import (
	"bytes"
	"context"
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

// versionOne returns a catalogue of version 1.
func versionOne(t *testing.T, e engine) *sqlstore.Store {
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
	return newStore(t, db, e.config())
}

// On a catalogue of version 1 events are kept, and delivered in their order once it is migrated.
func TestEventsOfVersionOneAreKeptAndDeliveredAfterTheMigration(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store := versionOne(t, e)
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
