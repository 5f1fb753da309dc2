package storetest

import (
	"fmt"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
)

var listExamples = []example{
	{"an empty catalogue is an empty page", nil, func(f *fixture) {
		f.equal("the list", ids(f.list(tenancy.ListOptions{})), []string{})
	}},
	{"pages hold every tenant once, in order of the bytes of the id", nil, func(f *fixture) {
		var want []string
		for i := range 23 {
			t := acme(fmt.Sprintf("s%d", 100-i))
			t.ID = fmt.Sprintf("%c_%d", "aBcD"[i%4], i)
			f.create(t)
			want = append(want, t.ID)
		}
		slices.Sort(want)
		for _, limit := range []int{1, 7, 22, 23, 24, 1000, 5000} {
			f.equal(fmt.Sprintf("the list by pages of %d", limit), ids(f.list(tenancy.ListOptions{Limit: limit})), want)
		}
	}},
	{"a full last page has no next", nil, func(f *fixture) {
		for i := range 6 {
			f.create(acme(fmt.Sprintf("t%d", i)))
		}
		first, err := f.List(f.ctx(), tenancy.ListOptions{Limit: 3})
		if err != nil || len(first.Tenants) != 3 || first.Next == "" {
			f.Fatalf("the first page has %d tenants, next %q, error %v; want 3 and a next", len(first.Tenants), first.Next, err)
		}
		last, err := f.List(f.ctx(), tenancy.ListOptions{Limit: 3, After: first.Next})
		if err != nil || len(last.Tenants) != 3 || last.Next != "" {
			f.Fatalf("the last page has %d tenants, next %q, error %v; want 3 and no next", len(last.Tenants), last.Next, err)
		}
	}},
	{"a page has 100 tenants by default", nil, func(f *fixture) {
		for i := range 101 {
			f.create(acme(fmt.Sprintf("t%d", i)))
		}
		for _, limit := range []int{0, -1} {
			page, err := f.List(f.ctx(), tenancy.ListOptions{Limit: limit})
			if err != nil || len(page.Tenants) != 100 || page.Next == "" {
				f.Fatalf("a page has %d tenants, next %q, error %v; want 100 and a next", len(page.Tenants), page.Next, err)
			}
		}
	}},
	{"filters and all their combinations keep what matches", nil, func(f *fixture) {
		var all []tenancy.Tenant
		for i, slug := range []string{"a", "ab", "a-b", "abc", "abd", "ac", "b", "a0", "az", "azz", "b-a", "ba"} {
			for j, status := range tenancy.Statuses() {
				t := acme(fmt.Sprintf("%s%d", slug, j))
				t.ID = fmt.Sprintf("t-%02d", (i*6+j)*29%97) // neither in order of slug nor of status
				t.Status = status
				t.Parent = []string{"", "holding", "id-other"}[(i+j)%3]
				all = append(all, f.create(t))
			}
		}
		for _, statuses := range [][]tenancy.Status{
			nil,
			{tenancy.StatusActive},
			{tenancy.StatusPurged},
			{tenancy.StatusArchived, tenancy.StatusActive},
			{tenancy.StatusActive, tenancy.StatusActive},
			{"unknown"},
			tenancy.Statuses(),
		} {
			for _, parent := range []string{"", "holding", "Holding", "nobody", `x' OR '1'='1`, "a\x00"} {
				for _, prefix := range []string{"", "a", "ab", "a-", "abc3", "z", "%", "a%", "_", "A", "-", `a' OR '1'='1`, "a\x00"} {
					opts := tenancy.ListOptions{Statuses: statuses, Parent: parent, Prefix: prefix, Limit: 5}
					want := []string{}
					for _, t := range all {
						if opts.Includes(t.Status) && (parent == "" || t.Parent == parent) && strings.HasPrefix(t.Slug, prefix) {
							want = append(want, t.ID)
						}
					}
					got := ids(f.list(opts))
					if prefix == "" && !slices.IsSorted(got) {
						f.Fatalf("List(%+v) is not in order of id: %v", opts, got)
					}
					slices.Sort(got)
					slices.Sort(want)
					f.equal(fmt.Sprintf("List(%+v)", opts), got, want)
				}
			}
		}
	}},
	{"without statuses all but purged are listed", nil, func(f *fixture) {
		for _, status := range tenancy.Statuses() {
			t := acme(string(status))
			t.Status = status
			f.create(t)
		}
		f.equal("the list", ids(f.list(tenancy.ListOptions{})),
			[]string{"id-active", "id-archived", "id-inactive", "id-provisioning", "id-suspended"})
	}},
	{"a cursor that no page gave does no harm", nil, func(f *fixture) {
		f.create(acme("acme"))
		for _, after := range hostile {
			page, err := f.List(f.ctx(), tenancy.ListOptions{After: after})
			if err == nil && len(page.Tenants) > 1 {
				f.Fatalf("after %q come %d tenants; want one at most", after, len(page.Tenants))
			}
		}
		f.finds(tenancy.BySlug("acme"), "id-acme")
	}},
	{"pages stay complete while tenants are added and changed", nil, func(f *fixture) {
		const old = 60
		for i := range old {
			t := acme(fmt.Sprintf("old-%d", i))
			t.ID = fmt.Sprintf("t-%03d", i*10)
			f.create(t)
		}
		seen := map[string]int{}
		errs := together(2, func(who int) error {
			if who == 0 {
				for i := range old {
					t := acme(fmt.Sprintf("new-%d", i))
					t.ID = fmt.Sprintf("t-%03d", i*10+5)
					if _, err := f.Create(f.ctx(), t); err != nil {
						return err
					}
				}
				return nil
			}
			for _, prefix := range []string{"", "", "old-"} {
				opts := tenancy.ListOptions{Limit: 3, Prefix: prefix}
				for {
					page, err := f.List(f.ctx(), opts)
					if err != nil {
						return err
					}
					for _, t := range page.Tenants {
						seen[fmt.Sprintf("%s %s", prefix, t.ID)]++
					}
					if opts.After = page.Next; page.Next == "" {
						break
					}
				}
			}
			return nil
		})
		for _, err := range errs {
			if err != nil {
				f.Fatal(err)
			}
		}
		for i := range old {
			id := fmt.Sprintf("t-%03d", i*10)
			if seen[" "+id] != 2 || seen["old- "+id] != 1 {
				f.Fatalf("tenant %s was listed %d times in two listings, and %d times in one by prefix", id, seen[" "+id], seen["old- "+id])
			}
		}
	}},
}
