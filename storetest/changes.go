package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"lexigram.dev/tenancy"
)

func (f *fixture) revision() int64 {
	f.Helper()
	c, err := f.feed().Changes(f.ctx(), -1)
	if err != nil {
		f.Fatalf("Changes(-1): %v", err)
	}
	if c.Lost || len(c.Tenants) > 0 {
		f.Fatalf("Changes(-1) is %+v; want a revision only", c)
	}
	return c.Revision
}

// changed checks what changed since a revision and returns the new one.
func (f *fixture) changed(since int64, want ...string) int64 {
	f.Helper()
	c, err := f.feed().Changes(f.ctx(), since)
	if err != nil {
		f.Fatalf("Changes(%d): %v", since, err)
	}
	slices.Sort(c.Tenants)
	slices.Sort(want)
	if c.Lost || !slices.Equal(c.Tenants, want) || c.Revision < since {
		f.Fatalf("Changes(%d) is %+v; want %v", since, c, want)
	}
	return c.Revision
}

var needChanges = []Feature{Changes}

var changeExamples = []example{
	{"an unchanged catalogue reports nothing", needChanges, func(f *fixture) {
		f.equal("the revision", f.changed(f.revision()), f.revision())
		f.create(acme("acme"))
		f.equal("the revision", f.changed(f.revision()), f.revision())
	}},
	{"a new and a changed tenant are reported once", needChanges, func(f *fixture) {
		start := f.revision()
		a := f.create(acme("a"))
		b := f.create(acme("b"))
		middle := f.changed(start, a.ID, b.ID)
		b = f.update(b)
		b = f.update(b)
		end := f.changed(middle, b.ID)
		f.changed(end)
		f.changed(start, a.ID, b.ID)
		if start >= middle || middle >= end {
			f.Fatalf("the revisions are %d, %d, %d; want them to grow", start, middle, end)
		}
	}},
	{"memberships are changes of their tenant", []Feature{Changes, Memberships}, func(f *fixture) {
		t := f.create(acme("acme"))
		f.create(acme("other"))
		start := f.revision()
		f.setMember("alice", t.ID, tenancy.Member{})
		middle := f.changed(start, t.ID)
		if err := f.members().RemoveMember(f.ctx(), "alice", t.ID); err != nil {
			f.Fatal(err)
		}
		f.changed(middle, t.ID)
	}},
	{"overrides are changes of their tenant", []Feature{Changes, Overrides}, func(f *fixture) {
		t := f.create(acme("acme"))
		f.create(acme("other"))
		start := f.revision()
		f.save(t.ID, "key", `1`)
		middle := f.changed(start, t.ID)
		f.save(t.ID, "key", "")
		f.changed(middle, t.ID)
	}},
	{"a refused write is no change", needChanges, func(f *fixture) {
		t := f.create(acme("acme"))
		start := f.revision()
		taken := acme("acme")
		taken.ID = "other"
		_, err := f.Create(f.ctx(), taken)
		f.wantConflict(err, "acme")
		t.Revision = 7
		_, err = f.Update(f.ctx(), t)
		f.wantError(err, tenancy.ErrConflict)
		t.ID = "nobody"
		_, err = f.Update(f.ctx(), t)
		f.wantError(err, tenancy.ErrNotFound)
		if config, ok := f.Store.(tenancy.ConfigStore); ok {
			f.wantError(config.SaveConfig(f.ctx(), "nobody", one("key", `1`)), tenancy.ErrNotFound)
		}
		if members, ok := f.Store.(tenancy.MemberStore); ok {
			f.wantError(members.SetMember(f.ctx(), "alice", "nobody", tenancy.Member{}), tenancy.ErrNotFound)
		}
		f.changed(start)
	}},
	{"a revision that never was is Lost", needChanges, func(f *fixture) {
		f.create(acme("acme"))
		now := f.revision()
		c, err := f.feed().Changes(f.ctx(), now+1000)
		if err != nil || !c.Lost || c.Revision != now {
			f.Fatalf("Changes is %+v, %v; want Lost at %d: the catalogue was restored from a backup", c, err, now)
		}
	}},
	{"a reader beside concurrent writers sees every change exactly once", needChanges, func(f *fixture) {
		const writers, rounds = 8, 15
		last := f.revision()
		var writing atomic.Int64
		writing.Store(writers)
		seen := map[string]int{}
		errs := together(writers+1, func(w int) error {
			if w < writers {
				defer writing.Add(-1)
				for i := range rounds {
					if _, err := f.Create(f.ctx(), acme(fmt.Sprintf("t-%d-%d", w, i))); err != nil {
						return err
					}
				}
				return nil
			}
			for {
				time.Sleep(time.Millisecond) // several writers commit meanwhile
				done := writing.Load() == 0  // before the last read
				c, err := f.feed().Changes(f.ctx(), last)
				if err != nil {
					return err
				}
				if c.Lost || c.Revision < last {
					return fmt.Errorf("after revision %d comes %+v", last, c)
				}
				last = c.Revision
				for _, id := range c.Tenants {
					seen[id]++
				}
				if done {
					return nil
				}
			}
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		f.changed(last)
		for w := range writers {
			for i := range rounds {
				if id := acme(fmt.Sprintf("t-%d-%d", w, i)).ID; seen[id] != 1 {
					f.Fatalf("the change of %q was seen %d times; want once", id, seen[id])
				}
			}
		}
	}},
	{"an ended context is an error", needChanges, func(f *fixture) {
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.feed().Changes(ended, -1)
		f.wantError(err, context.Canceled)
		_, err = f.feed().Changes(ended, 0)
		f.wantError(err, context.Canceled)
	}},
}
