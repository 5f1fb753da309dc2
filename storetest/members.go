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
	{"an ended context is an error and changes nothing", needMembers, func(f *fixture) {
		t := f.create(acme("acme"))
		f.setMember("alice", t.ID, tenancy.Member{})
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.members().Member(ended, "alice", t.ID)
		f.wantError(err, context.Canceled)
		f.wantError(f.members().SetMember(ended, "bob", t.ID, tenancy.Member{}), context.Canceled)
		f.wantError(f.members().RemoveMember(ended, "alice", t.ID), context.Canceled)
		f.isMember("alice", t.ID, tenancy.Member{})
		f.isNoMember("bob", t.ID)
	}},
}
