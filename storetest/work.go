package storetest

import (
	"strconv"
	"time"

	"lexigram.dev/tenancy"
)

// noon is a time at which something is due.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// working returns a tenant whose work is due then.
func working(slug string, due time.Time) tenancy.Tenant {
	t := acme(slug)
	t.Status, t.Journal = tenancy.StatusProvisioning, &tenancy.Journal{Work: tenancy.WorkProvision, Due: due}
	return t
}

// due returns the slugs of the tenants that have something to do.
func (f *fixture) due(now time.Time, limit int) (slugs []string) {
	f.Helper()
	tenants, err := f.Store.(tenancy.DueStore).DueTenants(f.ctx(), now, limit)
	if err != nil {
		f.Fatal(err)
	}
	for _, t := range tenants {
		slugs = append(slugs, t.Slug)
	}
	return slugs
}

func (f *fixture) wantDue(now time.Time, want ...string) {
	f.Helper()
	f.equal("what is due at "+now.Format(time.RFC3339Nano), f.due(now, 100), want)
}

var workExamples = []example{
	{"a journal that ends is gone", nil, func(f *fixture) {
		t := f.create(working("acme", noon))
		t.Status, t.Journal = tenancy.StatusActive, nil
		f.update(t)
		if got := f.lookup(tenancy.BySlug("acme")); got.Journal != nil {
			f.Fatalf("the journal is %+v", got.Journal)
		}
	}},
	{"a journal is the store's own copy", nil, func(f *fixture) {
		t := working("acme", noon)
		t.Journal.Done = []string{"place"}
		if stored := f.create(t); stored.Journal != nil {
			stored.Journal.Done[0] = "changed"
		}
		t.Journal.Done[0] = "changed"
		if got := f.lookup(tenancy.BySlug("acme")); got.Journal == nil || got.Journal.Done[0] != "place" {
			f.Fatalf("the journal is %+v", got.Journal)
		}
	}},
	{"a former name finds nobody and is nobody else's", nil, func(f *fixture) {
		t := acme("acme")
		t.Former = []tenancy.FormerName{{Key: "apex", Until: noon}, {Key: tenancy.Alias("domain", "apex.com").Key(), Until: noon}}
		t = f.create(t)
		f.findsNobody(tenancy.BySlug("apex"))
		f.findsNobody(tenancy.Alias("domain", "apex.com"))
		_, err := f.Create(f.ctx(), acme("apex"))
		f.wantConflict(err, "apex")
		other := acme("other")
		other.Aliases = []tenancy.Ref{tenancy.Alias("domain", "apex.com")}
		_, err = f.Create(f.ctx(), other)
		f.wantConflict(err, tenancy.Alias("domain", "apex.com").Key())
		t.Former = nil
		f.update(t)
		f.create(acme("apex"))
	}},
	{"a name that a tenant gives up can be kept from others in the same update", nil, func(f *fixture) {
		t := f.create(acme("acme"))
		t.Former, t.Slug = []tenancy.FormerName{{Key: "acme", Until: noon}}, "apex"
		t = f.update(t)
		newcomer := acme("x")
		newcomer.Slug = "acme"
		_, err := f.Create(f.ctx(), newcomer)
		f.wantConflict(err, "acme")
		t.Former, t.Slug = nil, "acme" // and taken back
		f.update(t)
		f.finds(tenancy.BySlug("acme"), t.ID)
	}},
	{"tenants with something to do are found from its time on, the oldest first", []Feature{Work}, func(f *fixture) {
		f.create(working("second", noon.Add(time.Microsecond)))
		f.create(working("first", noon))
		f.create(working("later", noon.Add(time.Hour)))
		f.create(acme("nothing"))
		f.wantDue(noon.Add(-time.Microsecond))
		f.wantDue(noon, "first")
		f.wantDue(noon.Add(time.Minute), "first", "second")
		f.equal("the one that is asked for", f.due(noon.Add(time.Hour), 1), []string{"first"})
	}},
	{"work that a node has the lease of is due when that ends", []Feature{Work}, func(f *fixture) {
		t := working("acme", noon)
		t.Journal.Owner, t.Journal.Until = "node-1", noon.Add(30*time.Second)
		f.create(t)
		f.wantDue(noon.Add(29 * time.Second))
		f.wantDue(noon.Add(30*time.Second), "acme")
	}},
	{"tenants of every status have something to do", []Feature{Work}, func(f *fixture) {
		for _, status := range tenancy.Statuses() {
			t := working(string(status), noon)
			t.Status = status
			f.create(t)
		}
		f.equal("how many are due", strconv.Itoa(len(f.due(noon, 100))), strconv.Itoa(len(tenancy.Statuses())))
	}},
	{"a former name is due when its quarantine ends, but not a purged tenant's", []Feature{Work}, func(f *fixture) {
		t := acme("acme")
		t.Former = []tenancy.FormerName{{Key: "late", Until: noon.Add(time.Hour)}, {Key: "soon", Until: noon}}
		t = f.create(t)
		f.wantDue(noon, "acme")
		t.Status = tenancy.StatusPurged
		f.update(t)
		f.wantDue(noon)
	}},
	{"what is done is not due any more", []Feature{Work}, func(f *fixture) {
		t := f.create(working("acme", noon))
		t.Journal = nil
		f.update(t)
		f.wantDue(noon)
	}},
	{"nodes are kept, replaced, removed and forgotten", []Feature{Nodes}, func(f *fixture) {
		store := f.Store.(tenancy.NodeStore)
		save := func(id string, revision int64, seen, before time.Time) {
			f.Helper()
			if err := store.SaveNode(f.ctx(), tenancy.Node{ID: id, Revision: revision, Started: noon, Seen: seen}, before); err != nil {
				f.Fatal(err)
			}
		}
		want := func(want ...tenancy.Node) {
			f.Helper()
			got, err := store.Nodes(f.ctx())
			if err != nil {
				f.Fatal(err)
			}
			f.equal("the nodes", got, want)
		}
		before := f.Store.(tenancy.ChangeFeed)
		since, err := before.Changes(f.ctx(), -1)
		if err != nil {
			f.Fatal(err)
		}
		save("b", 1, noon, noon.Add(-time.Hour))
		save("a", 2, noon.Add(time.Second), noon.Add(-time.Hour))
		save("b", 3, noon.Add(time.Minute), noon.Add(-time.Hour))
		a := tenancy.Node{ID: "a", Revision: 2, Started: noon, Seen: noon.Add(time.Second)}
		b := tenancy.Node{ID: "b", Revision: 3, Started: noon, Seen: noon.Add(time.Minute)}
		want(a, b)
		if err := store.RemoveNode(f.ctx(), "nobody"); err != nil {
			f.Fatal(err)
		}
		if err := store.RemoveNode(f.ctx(), "b"); err != nil {
			f.Fatal(err)
		}
		want(a)
		save("c", 4, noon.Add(time.Hour), noon.Add(time.Minute))
		want(tenancy.Node{ID: "c", Revision: 4, Started: noon, Seen: noon.Add(time.Hour)})
		if now, err := before.Changes(f.ctx(), -1); err != nil || now.Revision != since.Revision {
			f.Fatalf("the catalogue's revision went from %d to %d, %v; nodes are no change of it", since.Revision, now.Revision, err)
		}
	}},
	{"a purged tenant loses its members and overrides, and nobody else does", []Feature{Overrides, Memberships}, func(f *fixture) {
		gone, other := f.create(acme("acme")), f.create(acme("globex"))
		for _, t := range []tenancy.Tenant{gone, other} {
			f.setMember("alice", t.ID, tenancy.Member{Roles: []string{"admin"}})
			f.save(t.ID, "theme", `"dark"`)
		}
		gone.Status = tenancy.StatusPurged
		f.update(gone)
		f.isNoMember("alice", gone.ID)
		f.loaded(gone.ID, map[string]string{})
		f.isMember("alice", other.ID, tenancy.Member{Roles: []string{"admin"}})
		f.loaded(other.ID, map[string]string{"theme": `"dark"`})
	}},
}
