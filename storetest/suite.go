package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

// Feature is an optional interface of a store.
type Feature string

// The optional interfaces.
const (
	Overrides   Feature = "overrides"   // tenancy.ConfigStore
	Memberships Feature = "memberships" // tenancy.MemberStore
	Changes     Feature = "changes"     // tenancy.ChangeFeed
	Events      Feature = "events"      // tenancy.Outbox
	Work        Feature = "work"        // tenancy.DueStore
	Nodes       Feature = "nodes"       // tenancy.NodeStore, of a store with tenancy.ChangeFeed
)

// Config says what is tested.
type Config struct {
	// New returns an empty store for one test, and cleans up with t.Cleanup. It is called
	// from several goroutines. Required.
	New func(t *testing.T) tenancy.Store
	// Without lists the optional interfaces that the store does not have. A store that lacks
	// one which is not listed fails. Defaults to none: everything is tested.
	Without []Feature
}

// example is one promise, named as a sentence.
type example struct {
	name  string
	needs []Feature
	run   func(f *fixture)
}

// Run tests a store. The subtests run in parallel, each with a store of its own.
func Run(t *testing.T, cfg Config) {
	if cfg.New == nil {
		t.Fatal("storetest: Config.New is required: return an empty store")
	}
	for _, group := range []struct {
		name     string
		examples []example
	}{
		{"tenants", tenantExamples},
		{"names", nameExamples},
		{"lists", listExamples},
		{"memberships", memberExamples},
		{"overrides", overrideExamples},
		{"changes", changeExamples},
		{"events", eventExamples},
		{"work", workExamples},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, ex := range group.examples {
				if slices.ContainsFunc(ex.needs, func(n Feature) bool { return slices.Contains(cfg.Without, n) }) {
					continue
				}
				t.Run(ex.name, func(t *testing.T) {
					t.Parallel()
					store := cfg.New(t)
					for _, feature := range ex.needs {
						if !has(store, feature) {
							t.Fatalf("%T does not have the feature %q: implement it, or list it in Config.Without", store, feature)
						}
					}
					ex.run(&fixture{T: t, Store: store})
				})
			}
		})
	}
}

func has(store tenancy.Store, feature Feature) (ok bool) {
	switch feature {
	case Overrides:
		_, ok = store.(tenancy.ConfigStore)
	case Memberships:
		_, ok = store.(tenancy.MemberStore)
	case Changes:
		_, ok = store.(tenancy.ChangeFeed)
	case Events:
		_, ok = store.(tenancy.Outbox)
	case Work:
		_, ok = store.(tenancy.DueStore)
	case Nodes:
		_, ok = store.(tenancy.NodeStore)
	}
	return ok
}

// fixture is a test with its store. Its methods end the test when a promise is broken; those
// that goroutines may call say so.
type fixture struct {
	*testing.T
	tenancy.Store
}

func (f *fixture) ctx() context.Context { return f.Context() }

func (f *fixture) config() tenancy.ConfigStore  { return f.Store.(tenancy.ConfigStore) }
func (f *fixture) members() tenancy.MemberStore { return f.Store.(tenancy.MemberStore) }
func (f *fixture) feed() tenancy.ChangeFeed     { return f.Store.(tenancy.ChangeFeed) }
func (f *fixture) outbox() tenancy.Outbox       { return f.Store.(tenancy.Outbox) }

// acme returns a tenant that can be created: id "id-slug", active.
func acme(slug string) tenancy.Tenant {
	return tenancy.Tenant{ID: "id-" + slug, Slug: slug, Name: "The " + slug + " company", Status: tenancy.StatusActive}
}

func (f *fixture) create(t tenancy.Tenant, events ...tenancy.Event) tenancy.Tenant {
	f.Helper()
	stored, err := f.Create(f.ctx(), t, events...)
	if err != nil {
		f.Fatalf("Create(%q): %v", t.ID, err)
	}
	return stored
}

func (f *fixture) update(t tenancy.Tenant, events ...tenancy.Event) tenancy.Tenant {
	f.Helper()
	stored, err := f.Update(f.ctx(), t, events...)
	if err != nil {
		f.Fatalf("Update(%q): %v", t.ID, err)
	}
	return stored
}

func (f *fixture) lookup(ref tenancy.Ref) tenancy.Tenant {
	f.Helper()
	t, err := f.Lookup(f.ctx(), ref)
	if err != nil {
		f.Fatalf("Lookup(%s): %v", ref, err)
	}
	return t
}

func (f *fixture) finds(ref tenancy.Ref, id string) {
	f.Helper()
	if got := f.lookup(ref).ID; got != id {
		f.Fatalf("Lookup(%s) found tenant %q; want %q", ref, got, id)
	}
}

func (f *fixture) findsNobody(ref tenancy.Ref) {
	f.Helper()
	t, err := f.Lookup(f.ctx(), ref)
	if err == nil {
		f.Fatalf("Lookup(%s) found tenant %q with slug %q; want nobody", ref, t.ID, t.Slug)
	}
	f.wantError(err, tenancy.ErrNotFound)
}

func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("the error is %v; want %v", err, want)
	}
}

// isConflict reports whether err says that name is taken. Goroutines may call it.
func isConflict(err error, name string) bool {
	taken, ok := errors.AsType[*tenancy.SlugConflictError](err)
	return ok && !taken.Reserved && strings.EqualFold(taken.Name, name)
}

func (f *fixture) wantConflict(err error, name string) {
	f.Helper()
	if !isConflict(err, name) {
		f.Fatalf("the error is %v; want a SlugConflictError for %q", err, name)
	}
}

// equal compares values that JSON can print; times by the instant, to the microsecond.
func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if !reflect.DeepEqual(got, want) {
		f.Fatalf("%s differs:\n got %s\nwant %s", what, printed(got), printed(want))
	}
}

func printed(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%#v", v)
	}
	return string(text)
}

func (f *fixture) equalTenant(what string, got, want tenancy.Tenant) {
	f.Helper()
	f.equal(what, canonical(got), canonical(want))
}

// canonical levels what a store may choose: nil or empty, and how exact a time is beyond
// microseconds.
func canonical(t tenancy.Tenant) tenancy.Tenant {
	t = t.Clone()
	if len(t.Aliases) == 0 {
		t.Aliases = nil
	}
	if len(t.Metadata) == 0 {
		t.Metadata = nil
	}
	t.CreatedAt = t.CreatedAt.UTC().Truncate(time.Microsecond)
	t.UpdatedAt = t.UpdatedAt.UTC().Truncate(time.Microsecond)
	return t
}

// list returns all pages, and checks their sizes.
func (f *fixture) list(opts tenancy.ListOptions) []tenancy.Tenant {
	f.Helper()
	var all []tenancy.Tenant
	for range 10_000 {
		page, err := f.List(f.ctx(), opts)
		if err != nil {
			f.Fatalf("List(%+v): %v", opts, err)
		}
		if len(page.Tenants) > opts.PageLimit() {
			f.Fatalf("List(%+v) gave %d tenants; want %d at most", opts, len(page.Tenants), opts.PageLimit())
		}
		all = append(all, page.Tenants...)
		if page.Next == "" {
			return all
		}
		opts.After = page.Next
	}
	f.Fatalf("List(%+v) does not come to an end", opts)
	return nil
}

// theOnly returns what must be the only element.
func theOnly[T any](f *fixture, all []T) T {
	f.Helper()
	if len(all) != 1 {
		f.Fatalf("there are %d %T; want one", len(all), *new(T))
	}
	return all[0]
}

func ids(tenants []tenancy.Tenant) []string {
	list := []string{}
	for _, t := range tenants {
		list = append(list, t.ID)
	}
	return list
}

// together runs fn(0) … fn(n-1) at once and returns their errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = fn(i)
		})
	}
	start.Done()
	done.Wait()
	return errs
}

// hostile are texts that break careless storage.
var hostile = []string{
	`'`, `"`, "`", `\`, `''; DROP TABLE tenants; --`, `$1 ? :name @p %s %_%`, "a\nb\tc\r\n",
	"żółć", "日本語", "👩‍👩‍👧‍👦", "e\u0301", "\u202eright to left", "\ufeff", "NULL", "null", "\\u0000",
	"a\x00b", "\x00", "\xff\xfe", "a\xc3", strings.Repeat("x", 4096), " spaces ",
}
