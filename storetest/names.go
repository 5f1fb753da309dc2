package storetest

import (
	"errors"
	"fmt"
	"strings"

	"lexigram.dev/tenancy"
)

var nameExamples = []example{
	{"each kind of reference finds its own kind of name only", nil, func(f *fixture) {
		t := acme("acme")
		t.ID, t.Aliases = "t-1", []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}
		f.create(t)
		f.finds(tenancy.ByID("t-1"), "t-1")
		f.finds(tenancy.BySlug("acme"), "t-1")
		f.finds(tenancy.ByIDOrSlug("t-1"), "t-1")
		f.finds(tenancy.ByIDOrSlug("acme"), "t-1")
		f.finds(tenancy.Alias("stripe", "cus_1"), "t-1")
		f.findsNobody(tenancy.BySlug("t-1"))
		f.findsNobody(tenancy.ByID("acme"))
		f.findsNobody(tenancy.ByIDOrSlug("cus_1"))
		f.findsNobody(tenancy.Alias("stripe", "cus_2"))
		f.findsNobody(tenancy.Alias("auth0", "cus_1"))
		f.findsNobody(tenancy.Alias("stripe", "CUS_1"))
	}},
	{"letter case finds what Ref.Matches accepts", nil, func(f *fixture) {
		t := acme("acme")
		t.ID = "Org_A"
		stored := f.create(t)
		for _, ref := range []tenancy.Ref{
			tenancy.ByID("Org_A"), tenancy.ByID("org_a"), tenancy.ByID("ORG_A"), tenancy.ByIDOrSlug("oRG_a"),
			tenancy.BySlug("ACME"), tenancy.ByIDOrSlug("Acme"), tenancy.BySlug("Org-A"),
		} {
			if ref.Matches(stored) {
				f.finds(ref, "Org_A")
			} else {
				f.findsNobody(ref)
			}
		}
	}},
	{"a slug cannot be taken twice", nil, func(f *fixture) {
		f.create(acme("acme"))
		t := acme("acme")
		t.ID = "other"
		_, err := f.Create(f.ctx(), t)
		f.wantConflict(err, "acme")
		f.findsNobody(tenancy.ByID("other"))
	}},
	{"an id cannot be taken twice, whatever its letter case", nil, func(f *fixture) {
		t := acme("first")
		t.ID = "org_a"
		f.create(t)
		for _, id := range []string{"org_a", "ORG_A", "Org_a"} {
			t := acme("second")
			t.ID = id
			_, err := f.Create(f.ctx(), t)
			f.wantConflict(err, "org_a")
		}
		f.findsNobody(tenancy.BySlug("second"))
	}},
	{"a slug cannot be another tenant's id, nor an id another's slug", nil, func(f *fixture) {
		t := acme("first")
		t.ID = "Victim"
		f.create(t)
		t = acme("victim")
		t.ID = "attacker"
		_, err := f.Create(f.ctx(), t)
		f.wantConflict(err, "victim")
		for _, id := range []string{"first", "First", "FIRST"} {
			t := acme("second")
			t.ID = id
			_, err := f.Create(f.ctx(), t)
			f.wantConflict(err, "first")
		}
		f.finds(tenancy.ByIDOrSlug("victim"), "Victim")
		f.finds(tenancy.ByIDOrSlug("first"), "Victim")
	}},
	{"a rename cannot take another tenant's id, slug or alias", nil, func(f *fixture) {
		victim := acme("victim")
		victim.ID, victim.Aliases = "V-1", []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}
		victim = f.create(victim)
		stored := f.create(acme("acme"))
		for name, change := range map[string]func(t *tenancy.Tenant){
			"victim":       func(t *tenancy.Tenant) { t.Slug = "victim" },
			"v-1":          func(t *tenancy.Tenant) { t.Slug = "v-1" },
			"stripe:cus_1": func(t *tenancy.Tenant) { t.Aliases = victim.Aliases },
		} {
			t := stored.Clone()
			t.Name = "changed"
			change(&t)
			_, err := f.Update(f.ctx(), t)
			f.wantConflict(err, name)
		}
		f.equalTenant("the tenant", f.lookup(tenancy.BySlug("acme")), stored)
		f.finds(tenancy.BySlug("victim"), "V-1")
		f.finds(tenancy.Alias("stripe", "cus_1"), "V-1")
	}},
	{"an alias belongs to one tenant, within its kind", nil, func(f *fixture) {
		t := acme("acme")
		t.Aliases = []tenancy.Ref{tenancy.Alias("stripe", "same"), tenancy.Alias("auth0", "same")}
		f.create(t)
		other := acme("other")
		other.Aliases = []tenancy.Ref{tenancy.Alias("paddle", "same"), tenancy.Alias("auth0", "same")}
		_, err := f.Create(f.ctx(), other)
		f.wantConflict(err, "auth0:same")
		other.Aliases = other.Aliases[:1]
		f.create(other)
		f.create(acme("same"))
		f.finds(tenancy.Alias("stripe", "same"), t.ID)
		f.finds(tenancy.Alias("paddle", "same"), other.ID)
		f.finds(tenancy.BySlug("same"), "id-same")
	}},
	{"a tenant may have its own id as slug", nil, func(f *fixture) {
		t := acme("acme")
		t.ID = "Acme"
		stored := f.create(t)
		f.finds(tenancy.BySlug("acme"), "Acme")
		stored.Slug = "renamed"
		stored = f.update(stored)
		f.finds(tenancy.ByID("Acme"), "Acme")
		f.findsNobody(tenancy.BySlug("acme"))
		t = acme("acme")
		_, err := f.Create(f.ctx(), t) // still the other's id
		f.wantConflict(err, "acme")
		stored.Slug = "acme"
		f.update(stored)
		f.finds(tenancy.BySlug("acme"), "Acme")
	}},
	{"a refused tenant leaves no name behind", nil, func(f *fixture) {
		taken := acme("taken")
		taken.Aliases = []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}
		f.create(taken)
		t := acme("acme")
		t.Aliases = []tenancy.Ref{tenancy.Alias("auth0", "org_1"), tenancy.Alias("stripe", "cus_1")}
		_, err := f.Create(f.ctx(), t)
		f.wantConflict(err, "stripe:cus_1")
		f.findsNobody(tenancy.BySlug("acme"))
		t.Aliases = t.Aliases[:1]
		f.create(t)
		f.finds(tenancy.Alias("auth0", "org_1"), t.ID)
	}},
	{"an old slug finds nobody after a rename and is free for others", nil, func(f *fixture) {
		t := f.create(acme("old"))
		t.Slug = "new"
		f.update(t)
		f.finds(tenancy.BySlug("new"), t.ID)
		f.findsNobody(tenancy.BySlug("old"))
		f.findsNobody(tenancy.ByIDOrSlug("old"))
		other := acme("old")
		other.ID = "other"
		f.create(other)
		f.finds(tenancy.BySlug("old"), "other")
	}},
	{"an old alias finds nobody and is free for others", nil, func(f *fixture) {
		t := acme("acme")
		kept, gone, added := tenancy.Alias("stripe", "kept"), tenancy.Alias("stripe", "gone"), tenancy.Alias("stripe", "added")
		t.Aliases = []tenancy.Ref{kept, gone}
		t = f.create(t)
		t.Aliases = []tenancy.Ref{added, kept}
		f.update(t)
		f.finds(kept, t.ID)
		f.finds(added, t.ID)
		f.findsNobody(gone)
		other := acme("other")
		other.Aliases = []tenancy.Ref{gone}
		f.create(other)
		f.finds(gone, other.ID)
	}},
	{"a purged tenant keeps its id and its slug", nil, func(f *fixture) {
		t := f.create(acme("acme"))
		t.Status = tenancy.StatusPurged
		f.update(t)
		f.finds(tenancy.BySlug("acme"), t.ID)
		newcomer := acme("acme")
		newcomer.ID = "newcomer"
		_, err := f.Create(f.ctx(), newcomer)
		f.wantConflict(err, "acme")
		newcomer = acme("newcomer")
		newcomer.ID = strings.ToUpper(t.ID)
		_, err = f.Create(f.ctx(), newcomer)
		f.wantConflict(err, t.ID)
		other := f.create(acme("other"))
		other.Slug = "acme"
		_, err = f.Update(f.ctx(), other)
		f.wantConflict(err, "acme")
	}},
	{"of 100 concurrent creators of one slug one wins", nil, func(f *fixture) {
		errs := together(100, func(i int) error {
			t := acme("acme")
			t.ID = fmt.Sprintf("t-%d", i)
			_, err := f.Create(f.ctx(), t)
			return err
		})
		f.oneWins(errs, "acme")
		f.equal("the number of tenants", len(f.list(tenancy.ListOptions{})), 1)
	}},
	{"of concurrent creators whose id is the other's slug one wins", nil, func(f *fixture) {
		for round := range 8 {
			name := fmt.Sprintf("name-%d", round)
			errs := together(8, func(i int) error {
				t := acme(name)
				t.ID = fmt.Sprintf("%s-%d", name, i)
				if i%2 == 0 {
					t.ID, t.Slug = strings.ToUpper(name), t.ID
				}
				_, err := f.Create(f.ctx(), t)
				return err
			})
			f.oneWins(errs, name)
		}
	}},
	{"of concurrent renames to one slug one wins", nil, func(f *fixture) {
		tenants := make([]tenancy.Tenant, 16)
		for i := range tenants {
			tenants[i] = f.create(acme(fmt.Sprintf("t-%d", i)))
		}
		errs := together(len(tenants), func(i int) error {
			t := tenants[i]
			t.Slug = "acme"
			_, err := f.Update(f.ctx(), t)
			return err
		})
		f.oneWins(errs, "acme")
		for i, t := range tenants {
			if errs[i] == nil {
				f.finds(tenancy.BySlug("acme"), t.ID)
				f.findsNobody(tenancy.BySlug(t.Slug))
			} else {
				f.finds(tenancy.BySlug(t.Slug), t.ID)
			}
		}
	}},
}

// oneWins checks that one attempt was accepted and all others lost because of the name.
func (f *fixture) oneWins(errs []error, name string) {
	f.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !isConflict(err, name) {
			f.Fatalf("a loser gets %v; want a SlugConflictError for %q", err, name)
		}
	}
	if won != 1 {
		f.Fatalf("%d of %d won; want one. Errors: %v", won, len(errs), errors.Join(errs...))
	}
}
