package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lexigram.dev/tenancy"
)

func (f *fixture) setMember(userID, tenantID string, m tenancy.Member) {
	f.Helper()
	if err := f.members().SetMember(f.ctx(), userID, tenantID, m); err != nil {
		f.Fatalf("SetMember(%q, %q): %v", userID, tenantID, err)
	}
}

func (f *fixture) isMember(userID, tenantID string, want tenancy.Member) {
	f.Helper()
	got, err := f.members().Member(f.ctx(), userID, tenantID)
	if err != nil {
		f.Fatalf("Member(%q, %q): %v", userID, tenantID, err)
	}
	if len(got.Roles) == 0 {
		got.Roles = nil
	}
	f.equal("the member", got, want)
}

func (f *fixture) isNoMember(userID, tenantID string) {
	f.Helper()
	m, err := f.members().Member(f.ctx(), userID, tenantID)
	if err == nil {
		f.Fatalf("Member(%q, %q) is %+v; want ErrNotMember", userID, tenantID, m)
	}
	f.wantError(err, tenancy.ErrNotMember)
}

// listed returns all pages of a listing as "tenant/user", and checks their sizes.
func (f *fixture) listed(opts tenancy.MemberListOptions) []string {
	f.Helper()
	all := []string{}
	for range 10_000 {
		page, err := f.members().ListMembers(f.ctx(), opts)
		if err != nil {
			f.Fatalf("ListMembers(%+v): %v", opts, err)
		}
		if len(page.Members) > opts.PageLimit() {
			f.Fatalf("ListMembers(%+v) gave %d members; want %d at most", opts, len(page.Members), opts.PageLimit())
		}
		for _, m := range page.Members {
			all = append(all, m.TenantID+"/"+m.UserID)
		}
		if page.Next == "" {
			return all
		}
		opts.After = page.Next
	}
	f.Fatalf("ListMembers(%+v) does not come to an end", opts)
	return nil
}

var needMembers = []Feature{Memberships}

var memberExamples = []example{
	{"a membership comes back with its roles in their order", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		for _, want := range []tenancy.Member{
			{Roles: []string{"owner", "billing", "Admin", "admin"}}, {Roles: []string{""}}, {},
		} {
			f.setMember("alice", t.ID, want)
			f.isMember("alice", t.ID, want)
		}
	}},
	{"an expiry comes back in UTC, to the microsecond, also when it is past", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		for _, at := range []time.Time{
			time.Date(2001, 2, 3, 4, 5, 6, 789012345, time.UTC),
			time.Date(2199, 12, 31, 23, 59, 59, 999999999, time.FixedZone("UTC-9", -9*3600)),
			time.Date(1969, 12, 31, 23, 59, 59, 1999, time.UTC),
		} {
			f.setMember("alice", t.ID, tenancy.Member{Expires: at})
			got, err := f.members().Member(f.ctx(), "alice", t.ID)
			if err != nil {
				f.Fatal(err)
			}
			if !got.Expires.Truncate(time.Microsecond).Equal(at.Truncate(time.Microsecond)) || got.Expires.Location() != time.UTC {
				f.Fatalf("the expiry is %v; want %v in UTC", got.Expires, at)
			}
			if got.Expires.After(at) {
				f.Fatalf("the expiry %v is later than %v", got.Expires, at)
			}
		}
		f.setMember("alice", t.ID, tenancy.Member{})
		f.isMember("alice", t.ID, tenancy.Member{})
	}},
	{"a stranger is ErrNotMember, also in a tenant that does not exist", needMembers, func(f *fixture) {
		a, b := f.create(acme("a")), f.create(acme("b"))
		f.setMember("alice", a.ID, tenancy.Member{Roles: []string{"owner"}})
		f.isNoMember("bob", a.ID)
		f.isNoMember("alice", b.ID)
		f.isNoMember("alice", "nobody")
		f.isNoMember(a.ID, "alice")
		f.isNoMember("", a.ID)
		f.isNoMember("alice", "")
	}},
	{"setting a member again replaces what it was", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		f.setMember("alice", t.ID, tenancy.Member{Roles: []string{"owner"}, Expires: time.Now()})
		f.setMember("alice", t.ID, tenancy.Member{Roles: []string{"guest"}})
		f.isMember("alice", t.ID, tenancy.Member{Roles: []string{"guest"}})
	}},
	{"a member of an unknown tenant is refused with ErrNotFound", needMembers, func(f *fixture) {
		for _, id := range append([]string{"nobody", ""}, hostile...) {
			f.wantError(f.members().SetMember(f.ctx(), "alice", id, tenancy.Member{}), tenancy.ErrNotFound)
			f.isNoMember("alice", id)
		}
	}},
	{"a removed member is none, and removing nobody is no error", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		f.setMember("alice", t.ID, tenancy.Member{})
		f.setMember("bob", t.ID, tenancy.Member{})
		for range 2 {
			if err := f.members().RemoveMember(f.ctx(), "alice", t.ID); err != nil {
				f.Fatal(err)
			}
			f.isNoMember("alice", t.ID)
		}
		for _, nobody := range append([]string{"", "nobody"}, hostile...) {
			if err := f.members().RemoveMember(f.ctx(), nobody, t.ID); err != nil {
				f.Fatal(err)
			}
			if err := f.members().RemoveMember(f.ctx(), "bob", nobody); err != nil {
				f.Fatal(err)
			}
		}
		f.isMember("bob", t.ID, tenancy.Member{})
	}},
	{"users whose names only look alike are different", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		alike := []string{"alice", "Alice", "alice ", " alice", "ali\u0441e", "al\u00ed", "ali\u0301", "al%", "al_ce"}
		for i, user := range alike {
			for _, later := range alike[i:] {
				f.isNoMember(later, t.ID)
			}
			f.setMember(user, t.ID, tenancy.Member{Roles: []string{user}})
		}
		for _, user := range alike {
			f.isMember(user, t.ID, tenancy.Member{Roles: []string{user}})
		}
	}},
	{"a user and a role come back exactly or are refused", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		for _, text := range hostile {
			for user, m := range map[string]tenancy.Member{text: {}, "alice": {Roles: []string{text}}} {
				err := f.members().SetMember(f.ctx(), user, t.ID, m)
				if err == nil {
					f.isMember(user, t.ID, m)
					if err := f.members().RemoveMember(f.ctx(), user, t.ID); err != nil {
						f.Fatal(err)
					}
				} else if _, refused := errors.AsType[*tenancy.InvalidError](err); !refused {
					f.Fatalf("user %q with roles %q: %v; want it kept or an InvalidError", user, m.Roles, err)
				}
				f.isNoMember(user, t.ID)
			}
		}
	}},
	{"what goes in and comes out is a copy of the roles", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		roles := []string{"guest"}
		f.setMember("alice", t.ID, tenancy.Member{Roles: roles})
		roles[0] = "owner"
		m, err := f.members().Member(f.ctx(), "alice", t.ID)
		if err != nil {
			f.Fatal(err)
		}
		theOnly(f, m.Roles)
		m.Roles[0] = "owner"
		f.isMember("alice", t.ID, tenancy.Member{Roles: []string{"guest"}})
	}},
	{"many members set at once are all there", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		errs := together(24, func(i int) error {
			return f.members().SetMember(f.ctx(), fmt.Sprintf("user-%d", i%12), t.ID, tenancy.Member{Roles: []string{"r"}})
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		for i := range 12 {
			f.isMember(fmt.Sprintf("user-%d", i), t.ID, tenancy.Member{Roles: []string{"r"}})
		}
	}},
	{"a grant comes back with who gave it, when and why", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		at := time.Date(2026, 2, 3, 4, 5, 6, 789012000, time.UTC)
		want := tenancy.Member{
			Roles: []string{"support"}, Expires: at.Add(time.Hour), Reason: "ticket 17: żółć 👍", GrantedBy: "user:o'brien", GrantedAt: at,
		}
		if err := f.members().GrantMember(f.ctx(), "alice", t.ID, want); err != nil {
			f.Fatal(err)
		}
		f.isMember("alice", t.ID, want)
		page, err := f.members().ListMembers(f.ctx(), tenancy.MemberListOptions{TenantID: t.ID})
		if err != nil {
			f.Fatal(err)
		}
		f.equal("the listing", theOnly(f, page.Members), tenancy.MemberRecord{TenantID: t.ID, UserID: "alice", Member: want})
		f.setMember("alice", t.ID, tenancy.Member{}) // and nothing of it stays
		f.isMember("alice", t.ID, tenancy.Member{})
	}},
	{"a grant replaces a grant and what has expired, but no ordinary membership", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
		grant := tenancy.Member{Roles: []string{"support"}, Expires: at.Add(time.Hour), Reason: "ticket", GrantedBy: "bob", GrantedAt: at}
		for user, ordinary := range map[string]tenancy.Member{
			"owner": {Roles: []string{"owner"}}, "guest": {Roles: []string{"guest"}, Expires: at.Add(time.Microsecond)},
		} {
			f.setMember(user, t.ID, ordinary)
			f.wantError(f.members().GrantMember(f.ctx(), user, t.ID, grant), tenancy.ErrConflict)
			f.isMember(user, t.ID, ordinary)
		}
		f.setMember("former", t.ID, tenancy.Member{Expires: at})
		later := grant
		later.Reason = "another ticket"
		for user, m := range map[string]tenancy.Member{"former": grant, "stranger": grant} {
			for _, m := range []tenancy.Member{m, later} {
				if err := f.members().GrantMember(f.ctx(), user, t.ID, m); err != nil {
					f.Fatal(err)
				}
				f.isMember(user, t.ID, m)
			}
		}
		f.wantError(f.members().GrantMember(f.ctx(), "alice", "nobody", grant), tenancy.ErrNotFound)
	}},
	{"members are listed by tenant and by user, page by page, in the order of bytes", needMembers, func(f *fixture) {
		a, b, c := f.create(acme("a")), f.create(acme("b")), f.create(acme("c"))
		users := []string{"Alice", "Zoe", "al%", "al_ce", "alice", "alice ", "bob", "zażółć", "日本"} // in that order
		for i := range users {
			f.setMember(users[(i*4)%len(users)], b.ID, tenancy.Member{Expires: time.Unix(int64(i), 0)}) // long expired
		}
		f.setMember("alice", a.ID, tenancy.Member{})
		f.setMember("alice", c.ID, tenancy.Member{})
		f.setMember("bob", c.ID, tenancy.Member{})
		ofB := []string{}
		for _, user := range users {
			ofB = append(ofB, b.ID+"/"+user)
		}
		for _, limit := range []int{1, 2, 8, 9, 10, 0} {
			f.equal("the members of b", f.listed(tenancy.MemberListOptions{TenantID: b.ID, Limit: limit}), ofB)
			f.equal("alice's", f.listed(tenancy.MemberListOptions{UserID: "alice", Limit: limit}),
				[]string{a.ID + "/alice", b.ID + "/alice", c.ID + "/alice"})
		}
		for _, nobody := range append([]string{"nobody", "ali"}, hostile...) {
			f.equal("nobody's", f.listed(tenancy.MemberListOptions{UserID: nobody}), []string{})
			f.equal("a stranger's", f.listed(tenancy.MemberListOptions{TenantID: nobody}), []string{})
		}
	}},
	{"a listing of nothing, of both, or after what is no id is refused", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		for _, opts := range []tenancy.MemberListOptions{
			{}, {TenantID: t.ID, UserID: "alice"}, {TenantID: t.ID, After: "\xff"}, {UserID: "alice", After: "a b"},
		} {
			_, err := f.members().ListMembers(f.ctx(), opts)
			if _, refused := errors.AsType[*tenancy.InvalidError](err); !refused {
				f.Fatalf("ListMembers(%+v): %v; want an InvalidError", opts, err)
			}
		}
	}},
	{"what has expired is pruned, of one tenant, and nothing else", []Feature{Memberships, Changes}, func(f *fixture) {
		a, b := f.create(acme("a")), f.create(acme("b"))
		at := time.Date(2026, 2, 3, 4, 5, 6, 789012000, time.UTC)
		f.setMember("for ever", a.ID, tenancy.Member{})
		f.setMember("still", a.ID, tenancy.Member{Expires: at.Add(time.Microsecond)})
		f.setMember("just", a.ID, tenancy.Member{Expires: at})
		f.setMember("long", a.ID, tenancy.Member{Expires: at.Add(-time.Hour)})
		f.setMember("long", b.ID, tenancy.Member{Expires: at.Add(-time.Hour)})
		start := f.revision()
		for _, want := range []int{2, 0} {
			n, err := f.members().PruneMembers(f.ctx(), a.ID, at)
			if err != nil || n != want {
				f.Fatalf("PruneMembers is %d, %v; want %d", n, err, want)
			}
		}
		f.changed(start, a.ID) // once
		f.equal("who is left", f.listed(tenancy.MemberListOptions{TenantID: a.ID}), []string{a.ID + "/for ever", a.ID + "/still"})
		f.equal("the other tenant", f.listed(tenancy.MemberListOptions{TenantID: b.ID}), []string{b.ID + "/long"})
		for _, nobody := range append([]string{"nobody", ""}, hostile...) {
			if n, err := f.members().PruneMembers(f.ctx(), nobody, at); err != nil || n != 0 {
				f.Fatalf("PruneMembers(%q) is %d, %v", nobody, n, err)
			}
		}
	}},
	{"of racing grants and an ordinary membership the ordinary one stays", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
		ordinary := tenancy.Member{Roles: []string{"owner"}}
		errs := together(12, func(i int) error {
			if i == 5 {
				return f.members().SetMember(f.ctx(), "alice", t.ID, ordinary)
			}
			err := f.members().GrantMember(f.ctx(), "alice", t.ID, tenancy.Member{Expires: at.Add(time.Hour), Reason: "ticket", GrantedBy: "bob", GrantedAt: at})
			if errors.Is(err, tenancy.ErrConflict) {
				return nil
			}
			return err
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		f.isMember("alice", t.ID, ordinary)
	}},
	{"an ended context is an error and changes nothing", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		f.setMember("alice", t.ID, tenancy.Member{})
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.members().Member(ended, "alice", t.ID)
		f.wantError(err, context.Canceled)
		f.wantError(f.members().SetMember(ended, "bob", t.ID, tenancy.Member{}), context.Canceled)
		f.wantError(f.members().RemoveMember(ended, "alice", t.ID), context.Canceled)
		f.wantError(f.members().GrantMember(ended, "bob", t.ID, tenancy.Member{Reason: "r", GrantedAt: time.Now()}), context.Canceled)
		_, err = f.members().PruneMembers(ended, t.ID, time.Now())
		f.wantError(err, context.Canceled)
		_, err = f.members().ListMembers(ended, tenancy.MemberListOptions{UserID: "alice"})
		f.wantError(err, context.Canceled)
		f.isMember("alice", t.ID, tenancy.Member{})
		f.isNoMember("bob", t.ID)
	}},
}
