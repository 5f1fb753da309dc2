package storetest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"lexigram.dev/tenancy"
)

// complete returns a tenant with every field set.
func complete() tenancy.Tenant {
	return tenancy.Tenant{
		ID: "Org_01.A~b", Slug: "acme", Name: "ACME Corp", Status: tenancy.StatusSuspended, StatusReason: "has not paid",
		Parent: "holding", Region: "eu-central",
		Placement: tenancy.Placement{
			Strategy: "schema", Server: "pg-7", Database: "customers", Schema: "t_acme", Generation: 3, SchemaVersion: 20240131,
		},
		Aliases:  []tenancy.Ref{tenancy.Alias("stripe", "cus_B"), tenancy.Alias("domain", "shop.example"), tenancy.Alias("auth0", "org_a")},
		Metadata: map[string]string{"plan": "gold", "": "empty key", "empty": ""},
		Journal: &tenancy.Journal{
			Work: tenancy.WorkPurge, Reason: "asked by the customer", Done: []string{"manifest", "export"},
			Attempts: 2, LastError: "disk full", Owner: "node-1", Fence: 7,
			Started: time.Date(2021, 2, 28, 1, 2, 3, 1000, time.UTC), Due: time.Date(2021, 3, 1, 0, 0, 0, 0, time.UTC),
			Until: time.Date(2021, 3, 1, 0, 0, 30, 0, time.UTC),
			Manifest: &tenancy.Manifest{
				Time:  time.Date(2021, 2, 28, 1, 2, 4, 0, time.UTC),
				Items: []tenancy.ManifestItem{{Kind: "table", Name: "t_acme.notes", Rows: 12}, {Kind: "schema", Name: "t_acme"}},
			},
		},
		Former:     []tenancy.FormerName{{Key: "apex", Until: time.Date(2021, 4, 1, 0, 0, 0, 5000, time.UTC)}},
		PurgeAfter: time.Date(2021, 3, 1, 0, 0, 0, 0, time.UTC),
		CreatedAt:  time.Date(2020, 2, 29, 23, 59, 59, 123456000, time.UTC),
		UpdatedAt:  time.Date(2021, 2, 28, 1, 2, 3, 654321000, time.UTC),
	}
}

var tenantExamples = []example{
	{"a new tenant comes back at revision 1 with every field", nil, func(f *fixture) {
		want := complete()
		got := f.create(want)
		want.Revision = 1
		f.equalTenant("what Create returns", got, want)
		f.equalTenant("what Lookup finds", f.lookup(tenancy.BySlug("acme")), want)
		f.equalTenant("what List lists", theOnly(f, f.list(tenancy.ListOptions{})), want)
	}},
	{"a new tenant without times gets them in UTC", nil, func(f *fixture) {
		before := time.Now().Add(-time.Minute)
		f.create(acme("acme"))
		t := f.lookup(tenancy.BySlug("acme"))
		for name, at := range map[string]time.Time{"CreatedAt": t.CreatedAt, "UpdatedAt": t.UpdatedAt} {
			if at.Before(before) || at.After(time.Now().Add(time.Minute)) || at.Location() != time.UTC {
				f.Fatalf("%s is %v; want the present in UTC", name, at)
			}
		}
	}},
	{"a time of another zone comes back in UTC", nil, func(f *fixture) {
		t := acme("acme")
		t.CreatedAt = time.Date(2020, 1, 1, 1, 0, 0, 0, time.FixedZone("UTC+2", 7200))
		f.create(t)
		if got := f.lookup(tenancy.BySlug("acme")).CreatedAt; got != time.Date(2019, 12, 31, 23, 0, 0, 0, time.UTC) {
			f.Fatalf("CreatedAt is %v; want 2019-12-31 23:00 UTC", got)
		}
	}},
	{"a tenant is found in every status", nil, func(f *fixture) {
		for _, status := range tenancy.Statuses() {
			t := acme(string(status))
			t.Status = status
			f.create(t)
			if got := f.lookup(tenancy.BySlug(t.Slug)).Status; got != status {
				f.Fatalf("the status is %q; want %q", got, status)
			}
		}
	}},
	{"nobody is ErrNotFound", nil, func(f *fixture) {
		f.create(complete())
		for _, ref := range []tenancy.Ref{
			{},
			tenancy.ByID("nobody"), tenancy.BySlug("nobody"), tenancy.ByIDOrSlug("nobody"),
			tenancy.Alias("stripe", "nobody"), tenancy.ByID("not an id"), tenancy.BySlug("-"),
		} {
			f.findsNobody(ref)
		}
	}},
	{"an update replaces every field and counts the revision up", nil, func(f *fixture) {
		first := f.create(acme("first"))
		want := complete()
		want.ID, want.Revision = first.ID, first.Revision
		want.UpdatedAt = first.UpdatedAt.Add(time.Hour)
		got := f.update(want)
		want.Revision, want.CreatedAt = 2, first.CreatedAt
		f.equalTenant("what Update returns", got, want)
		f.equalTenant("what Lookup finds", f.lookup(tenancy.ByID(first.ID)), want)
	}},
	{"an update can empty every optional field", nil, func(f *fixture) {
		t := f.create(complete())
		want := tenancy.Tenant{ID: t.ID, Slug: t.Slug, Status: tenancy.StatusActive, Revision: t.Revision}
		f.update(want)
		got := f.lookup(tenancy.ByID(t.ID))
		want.Revision, want.CreatedAt, want.UpdatedAt = 2, got.CreatedAt, got.UpdatedAt
		f.equalTenant("what Lookup finds", got, want)
	}},
	{"an update cannot change CreatedAt", nil, func(f *fixture) {
		t := f.create(complete())
		created := t.CreatedAt
		for _, wrong := range []time.Time{{}, created.Add(time.Hour)} {
			t.CreatedAt = wrong
			t = f.update(t)
			if got := f.lookup(tenancy.ByID(t.ID)).CreatedAt; !got.Equal(created) || !t.CreatedAt.Equal(created) {
				f.Fatalf("CreatedAt became %v; want %v", got, created)
			}
		}
	}},
	{"an update moves UpdatedAt on", nil, func(f *fixture) {
		t := f.create(complete())
		if got := f.update(t).UpdatedAt; !got.After(t.UpdatedAt) {
			f.Fatalf("UpdatedAt is %v; want later than %v", got, t.UpdatedAt)
		}
	}},
	{"an update of any other revision is ErrConflict and changes nothing", nil, func(f *fixture) {
		t := f.create(acme("acme"))
		t = f.update(t)
		for _, wrong := range []int64{t.Revision - 1, t.Revision + 1, 0, -1} {
			stale := t
			stale.Revision, stale.Name, stale.Slug = wrong, "stale", "stale"
			_, err := f.Update(f.ctx(), stale)
			f.wantError(err, tenancy.ErrConflict)
		}
		f.equalTenant("what Lookup finds", f.lookup(tenancy.ByID(t.ID)), t)
		f.findsNobody(tenancy.BySlug("stale"))
	}},
	{"an update of an unknown tenant is ErrNotFound", nil, func(f *fixture) {
		f.create(acme("other"))
		t := acme("acme")
		t.Revision = 1
		_, err := f.Update(f.ctx(), t)
		f.wantError(err, tenancy.ErrNotFound)
		f.findsNobody(tenancy.BySlug("acme"))
	}},
	{"of many updates of one revision one wins", nil, func(f *fixture) {
		t := f.create(acme("acme"))
		errs := together(32, func(i int) error {
			mine := t.Clone()
			mine.Name = strconv.Itoa(i)
			_, err := f.Update(f.ctx(), mine)
			return err
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err != nil:
				f.wantError(err, tenancy.ErrConflict)
			case winner >= 0:
				f.Fatal("two updates of one revision were accepted")
			default:
				winner = i
			}
		}
		got := f.lookup(tenancy.ByID(t.ID))
		if got.Revision != 2 || got.Name != strconv.Itoa(winner) {
			f.Fatalf("the tenant is %q at revision %d; want %d at 2", got.Name, got.Revision, winner)
		}
	}},
	{"counters that are read, changed and written again lose nothing", nil, func(f *fixture) {
		f.create(acme("acme"))
		const writers, rounds = 6, 6
		errs := together(writers, func(int) error {
			for done := 0; done < rounds; {
				t, err := f.Lookup(f.ctx(), tenancy.BySlug("acme"))
				if err != nil {
					return err
				}
				count, _ := strconv.Atoi(t.Metadata["count"]) // "" is 0
				t = t.Clone()
				t.Metadata = map[string]string{"count": strconv.Itoa(count + 1)}
				if _, err = f.Update(f.ctx(), t); err == nil {
					done++
				} else if !errors.Is(err, tenancy.ErrConflict) {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		t := f.lookup(tenancy.BySlug("acme"))
		if t.Metadata["count"] != strconv.Itoa(writers*rounds) || t.Revision != 1+writers*rounds {
			f.Fatalf("the count is %s at revision %d; want %d", t.Metadata["count"], t.Revision, writers*rounds)
		}
	}},
	{"what goes in and comes out is a copy", nil, func(f *fixture) {
		want := complete()
		spoil := func(t tenancy.Tenant) {
			t.Metadata["plan"] = "spoilt"
			t.Aliases[0] = tenancy.Alias("spoilt", "spoilt")
		}
		in := want.Clone()
		out := f.create(in)
		spoil(in)
		spoil(out)
		spoil(f.lookup(tenancy.BySlug("acme")))
		spoil(theOnly(f, f.list(tenancy.ListOptions{})))
		want.Revision = 1
		f.equalTenant("what Lookup finds", f.lookup(tenancy.BySlug("acme")), want)

		in = want.Clone()
		out = f.update(in)
		spoil(in)
		spoil(out)
		want.Revision, want.UpdatedAt = 2, out.UpdatedAt
		f.equalTenant("what Lookup finds after an update", f.lookup(tenancy.BySlug("acme")), want)
	}},
	{"text comes back exactly or is refused", nil, func(f *fixture) {
		for i, text := range hostile {
			for field, set := range map[string]func(t *tenancy.Tenant){
				"name":           func(t *tenancy.Tenant) { t.Name = text },
				"reason":         func(t *tenancy.Tenant) { t.StatusReason = text },
				"region":         func(t *tenancy.Tenant) { t.Region = text },
				"metadata-key":   func(t *tenancy.Tenant) { t.Metadata = map[string]string{text: "x"} },
				"metadata-value": func(t *tenancy.Tenant) { t.Metadata = map[string]string{"x": text} },
				"database":       func(t *tenancy.Tenant) { t.Placement.Database = text },
			} {
				want := acme(field + "-" + strconv.Itoa(i))
				set(&want)
				if _, err := f.Create(f.ctx(), want); err != nil {
					if _, refused := errors.AsType[*tenancy.InvalidError](err); !refused {
						f.Fatalf("%s %q: %v; want it kept or an InvalidError", field, text, err)
					}
					f.findsNobody(tenancy.BySlug(want.Slug))
					continue
				}
				got := f.lookup(tenancy.BySlug(want.Slug))
				want.Revision, want.CreatedAt, want.UpdatedAt = 1, got.CreatedAt, got.UpdatedAt
				f.equalTenant(field, got, want)
			}
		}
	}},
	{"64 KiB of metadata come back", nil, func(f *fixture) {
		want := acme("acme")
		want.Metadata = map[string]string{"big": strings.Repeat("é\"", 64<<10/3-1)}
		f.create(want)
		f.equal("metadata", f.lookup(tenancy.BySlug("acme")).Metadata, want.Metadata)
	}},
	{"what cannot be a tenant is refused and leaves nothing", nil, func(f *fixture) {
		stored := f.create(acme("stored"))
		for name, spoil := range map[string]func(t *tenancy.Tenant){
			"no id":            func(t *tenancy.Tenant) { t.ID = "" },
			"no slug":          func(t *tenancy.Tenant) { t.Slug = "" },
			"a space in an id": func(t *tenancy.Tenant) { t.ID = "a b" },
			"upper-case slug":  func(t *tenancy.Tenant) { t.Slug = "Acme" },
			"two labels":       func(t *tenancy.Tenant) { t.Slug = "a.b" },
			"a long slug":      func(t *tenancy.Tenant) { t.Slug = strings.Repeat("a", 64) },
			"no status":        func(t *tenancy.Tenant) { t.Status = "" },
			"unknown status":   func(t *tenancy.Tenant) { t.Status = "asleep" },
			"no alias":         func(t *tenancy.Tenant) { t.Aliases = []tenancy.Ref{{}} },
			"slug as an alias": func(t *tenancy.Tenant) { t.Aliases = []tenancy.Ref{tenancy.BySlug("b")} },
		} {
			bad := acme("bad")
			spoil(&bad)
			if _, err := f.Create(f.ctx(), bad); err == nil {
				f.Fatalf("Create accepts %s", name)
			}
			bad = stored.Clone()
			spoil(&bad)
			if _, err := f.Update(f.ctx(), bad); err == nil {
				f.Fatalf("Update accepts %s", name)
			}
		}
		f.equal("the list", ids(f.list(tenancy.ListOptions{})), []string{stored.ID})
		f.equalTenant("the tenant", f.lookup(tenancy.BySlug("stored")), stored)
	}},
	{"an ended context is an error and changes nothing", nil, func(f *fixture) {
		t := f.create(acme("acme"))
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.Lookup(ended, tenancy.BySlug("acme"))
		f.wantError(err, context.Canceled)
		_, err = f.List(ended, tenancy.ListOptions{})
		f.wantError(err, context.Canceled)
		_, err = f.Create(ended, acme("other"))
		f.wantError(err, context.Canceled)
		t.Name = "changed"
		_, err = f.Update(ended, t)
		f.wantError(err, context.Canceled)
		if got := f.lookup(tenancy.BySlug("acme")); got.Name == "changed" || got.Revision != 1 {
			f.Fatalf("the tenant is %q at revision %d; want it unchanged", got.Name, got.Revision)
		}
		f.findsNobody(tenancy.BySlug("other"))
	}},
	{"contexts that end in the middle of writes leave all or nothing", nil, func(f *fixture) {
		var mu sync.Mutex
		created := map[string]bool{}
		together(24, func(i int) error {
			ctx, cancel := context.WithTimeout(f.ctx(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			t := acme("t" + strconv.Itoa(i))
			if _, err := f.Create(ctx, t); err == nil {
				mu.Lock()
				defer mu.Unlock()
				created[t.ID] = true
			}
			return nil
		})
		listed := map[string]bool{}
		for _, t := range f.list(tenancy.ListOptions{}) {
			listed[t.ID] = true
			f.finds(tenancy.BySlug(t.Slug), t.ID)
		}
		for i := range 24 {
			t := acme("t" + strconv.Itoa(i))
			if created[t.ID] && !listed[t.ID] {
				f.Fatalf("tenant %q was created and is not listed", t.ID)
			}
			if !listed[t.ID] {
				f.create(t) // no name is left behind
			}
		}
	}},
}
