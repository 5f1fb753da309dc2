package store_test

import (
	"errors"
	"fmt"
	"testing"

	"lexigram.dev/tenancy"
)

func TestTheChangeFeedRemembersItsHistoryAndNoMore(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		_, db := migrated(t, e)
		cfg := e.config()
		cfg.History = 5
		store := newStore(t, db, cfg)
		ctx := t.Context()
		for i := range 12 {
			if _, err := store.Create(ctx, tenancy.Tenant{ID: fmt.Sprintf("t-%d", i), Slug: fmt.Sprintf("s-%d", i), Status: tenancy.StatusActive}); err != nil {
				t.Fatal(err)
			}
		}
		for since := range int64(14) {
			c, err := store.Changes(ctx, since)
			if err != nil {
				t.Fatal(err)
			}
			lost := since < 12-5 || since > 12
			if c.Revision != 12 || c.Lost != lost || !lost && len(c.Tenants) != int(12-since) {
				t.Errorf("Changes(%d) is %+v; want Lost %t at 12", since, c, lost)
			}
		}
	})
}

// A purged tenant keeps even the names that the purge itself takes away (L8).
func TestAPurgeFreesNoName(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		store, _ := migrated(t, e)
		ctx := t.Context()
		alias := tenancy.Alias("domain", "shop.example")
		stored, err := store.Create(ctx, tenancy.Tenant{ID: "t-1", Slug: "acme", Status: tenancy.StatusArchived, Aliases: []tenancy.Ref{alias}})
		if err != nil {
			t.Fatal(err)
		}
		stored.Status, stored.Slug, stored.Aliases = tenancy.StatusPurged, "purged-1", nil
		if _, err := store.Update(ctx, stored); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []tenancy.Ref{alias, tenancy.BySlug("acme")} {
			if _, err := store.Lookup(ctx, ref); !errors.Is(err, tenancy.ErrNotFound) {
				t.Errorf("Lookup(%s): %v; want ErrNotFound", ref, err)
			}
		}
		for _, newcomer := range []tenancy.Tenant{
			{ID: "t-2", Slug: "acme", Status: tenancy.StatusActive},
			{ID: "t-2", Slug: "new", Status: tenancy.StatusActive, Aliases: []tenancy.Ref{alias}},
		} {
			if _, err := store.Create(ctx, newcomer); tenancy.CodeOf(err) != tenancy.CodeSlugConflict {
				t.Errorf("Create(%q): %v; want a SlugConflictError", newcomer.Slug, err)
			}
		}
	})
}
