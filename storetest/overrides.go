package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

// value returns a JSON text as a store takes it; "" is nil, which removes.
func value(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// change writes values, by key, and events.
func change(values map[string]string, events ...tenancy.Event) func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
	return func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
		w := tenancy.ConfigWrite{Values: map[string]json.RawMessage{}, Events: events}
		for key, text := range values {
			w.Values[key] = value(text)
		}
		return w, nil
	}
}

// one writes one value.
func one(key, text string) func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
	return change(map[string]string{key: text})
}

// save returns the former value.
func (f *fixture) save(tenantID, key, text string) (old string) {
	f.Helper()
	err := f.config().SaveConfig(f.ctx(), tenantID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
		old = compact(own[key])
		return one(key, text)(own)
	})
	if err != nil {
		f.Fatalf("SaveConfig(%q) of %s = %s: %v", tenantID, key, text, err)
	}
	return old
}

// history returns all pages of a tenant's history, and checks their sizes.
func (f *fixture) history(tenantID string, limit int) []tenancy.ConfigRecord {
	f.Helper()
	var all []tenancy.ConfigRecord
	opts := tenancy.HistoryOptions{Limit: limit}
	for range 10_000 {
		page, err := f.config().ConfigHistory(f.ctx(), tenantID, opts)
		if err != nil {
			f.Fatalf("ConfigHistory(%q, %+v): %v", tenantID, opts, err)
		}
		if len(page.Records) > opts.PageLimit() {
			f.Fatalf("ConfigHistory(%q, %+v) gave %d records; want %d at most", tenantID, opts, len(page.Records), opts.PageLimit())
		}
		all = append(all, page.Records...)
		if page.Next == "" {
			return all
		}
		opts.After = page.Next
	}
	f.Fatalf("ConfigHistory(%q) does not come to an end", tenantID)
	return nil
}

// loaded checks all overrides of a tenant.
func (f *fixture) loaded(tenantID string, want map[string]string) {
	f.Helper()
	values, err := f.config().LoadConfig(f.ctx(), tenantID)
	if err != nil {
		f.Fatalf("LoadConfig(%q): %v", tenantID, err)
	}
	if values == nil {
		f.Fatalf("LoadConfig(%q) is nil; want a map", tenantID)
	}
	got := map[string]string{}
	for key, value := range values {
		got[key] = compact(value)
	}
	f.equal("the overrides", got, want)
}

// compact levels white space, which a store may change.
func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}

var needOverrides = []Feature{Overrides}

var overrideExamples = []example{
	{"a tenant without overrides, or none at all, has an empty map", needOverrides, func(f *fixture) {
		f.loaded(f.create(acme("acme")).ID, map[string]string{})
		for _, id := range append([]string{"nobody", ""}, hostile...) {
			f.loaded(id, map[string]string{})
		}
	}},
	{"values of every kind of JSON come back, each for its own tenant and key", needOverrides, func(f *fixture) {
		a, b := f.create(acme("a")), f.create(acme("b"))
		want := map[string]string{
			"n": `50`, "big": `12345678901234567890.123456789`, "s": `"x <&> é 👍 \u0000 \"quoted\""`, "t": `true`,
			"null": `null`, "list": `[1,[],{}]`, "map": `{"b":1,"a":{"c":null}}`,
			"long": `"` + strings.Repeat("x", 64<<10) + `"`, "limits.max_users": `1`, "N": `51`,
		}
		for key, value := range want {
			if old := f.save(a.ID, key, value); old != "" {
				f.Fatalf("the former value of %q is %s; want none", key, old)
			}
		}
		f.save(b.ID, "n", `7`)
		f.loaded(a.ID, want)
		f.loaded(b.ID, map[string]string{"n": `7`})
	}},
	{"a save returns the former value, and nil removes", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		for i, step := range []struct{ text, old string }{
			{`1`, ``}, {`null`, `1`}, {`2`, `null`}, {`2`, `2`}, {``, `2`}, {``, ``}, {`3`, ``},
		} {
			if old := f.save(t.ID, "key", step.text); old != step.old {
				f.Fatalf("step %d returns %q; want %q", i, old, step.old)
			}
		}
		f.save(t.ID, "key", "")
		f.loaded(t.ID, map[string]string{})
	}},
	{"an override of an unknown tenant is ErrNotFound", needOverrides, func(f *fixture) {
		for _, id := range append([]string{"nobody", ""}, hostile...) {
			f.wantError(f.config().SaveConfig(f.ctx(), id, one("key", `1`)), tenancy.ErrNotFound)
		}
		f.loaded("nobody", map[string]string{})
	}},
	{"what is not JSON is refused", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		f.save(t.ID, "key", `1`)
		for _, bad := range []string{"{", "x", `"open`, `1 2`, "", "'a'"} {
			raw := json.RawMessage(bad)
			if bad == "" {
				raw = json.RawMessage{} // empty is not nil
			}
			err := f.config().SaveConfig(f.ctx(), t.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"key": raw, "other": value(`2`)}}, nil
			})
			if err == nil {
				f.Fatalf("SaveConfig accepts %q", bad)
			}
		}
		f.loaded(t.ID, map[string]string{"key": `1`})
	}},
	{"a key comes back exactly or is refused", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		want := map[string]string{}
		for _, key := range hostile {
			err := f.config().SaveConfig(f.ctx(), t.ID, one(key, `1`))
			if err == nil {
				want[key] = `1`
			} else if _, refused := errors.AsType[*tenancy.InvalidError](err); !refused {
				f.Fatalf("key %q: %v; want it kept or an InvalidError", key, err)
			}
		}
		f.loaded(t.ID, want)
	}},
	{"what goes in and comes out is a copy of the value", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		given := json.RawMessage(`111`)
		for range 2 {
			err := f.config().SaveConfig(f.ctx(), t.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				for _, old := range own {
					old[0] = '9'
				}
				own["more"] = given
				return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"key": given}}, nil
			})
			if err != nil {
				f.Fatal(err)
			}
			f.loaded(t.ID, map[string]string{"key": `111`})
		}
		given[0] = '9'
		values, err := f.config().LoadConfig(f.ctx(), t.ID)
		if err != nil {
			f.Fatal(err)
		}
		if string(values["key"]) != `111` {
			f.Fatalf("the value is %s; want 111", values["key"])
		}
		values["key"][0], values["more"] = '9', given
		f.loaded(t.ID, map[string]string{"key": `111`})
	}},
	{"what changes together is all there or not at all", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		err := f.config().SaveConfig(f.ctx(), t.ID, change(map[string]string{"a": `1`, "b": `2`, "c": `3`}))
		if err != nil {
			f.Fatal(err)
		}
		if err := f.config().SaveConfig(f.ctx(), t.ID, change(map[string]string{"a": `4`, "b": ``, "d": `5`})); err != nil {
			f.Fatal(err)
		}
		want := map[string]string{"a": `4`, "c": `3`, "d": `5`}
		f.loaded(t.ID, want)
		if err := f.config().SaveConfig(f.ctx(), t.ID, change(map[string]string{"a": `6`, "b": `7`, "z": `{`})); err == nil {
			f.Fatal("SaveConfig accepts what is not JSON")
		}
		f.loaded(t.ID, want)
	}},
	{"a change that fails changes nothing, and its error comes back", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		f.save(t.ID, "key", `1`)
		err := f.config().SaveConfig(f.ctx(), t.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			w, _ := one("key", `2`)(own)
			return w, tenancy.ErrConflict
		})
		f.wantError(err, tenancy.ErrConflict)
		f.loaded(t.ID, map[string]string{"key": `1`})
	}},
	{"a change sees all that the tenant has", needOverrides, func(f *fixture) {
		a, b := f.create(acme("a")), f.create(acme("b"))
		f.save(a.ID, "x", `1`)
		f.save(a.ID, "y", `2`)
		f.save(b.ID, "z", `3`)
		var saw map[string]string
		err := f.config().SaveConfig(f.ctx(), a.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			saw = map[string]string{}
			for key, value := range own {
				saw[key] = compact(value)
			}
			return tenancy.ConfigWrite{}, nil
		})
		if err != nil {
			f.Fatal(err)
		}
		f.equal("what the change sees", saw, map[string]string{"x": `1`, "y": `2`})
	}},
	{"an empty write is no change", []Feature{Overrides, Changes}, func(f *fixture) {
		t := f.create(acme("acme"))
		f.save(t.ID, "key", `1`)
		before, err := f.feed().Changes(f.ctx(), -1)
		if err != nil {
			f.Fatal(err)
		}
		if err := f.config().SaveConfig(f.ctx(), t.ID, change(nil)); err != nil {
			f.Fatal(err)
		}
		after, err := f.feed().Changes(f.ctx(), -1)
		if err != nil {
			f.Fatal(err)
		}
		if after.Revision != before.Revision {
			f.Fatalf("the revision is %d; want %d as before", after.Revision, before.Revision)
		}
		f.loaded(t.ID, map[string]string{"key": `1`})
	}},
	{"the history comes newest first, page by page, of one tenant", needOverrides, func(f *fixture) {
		a, b := f.create(acme("a")), f.create(acme("b"))
		at := time.Date(2026, 2, 3, 4, 5, 6, 789012000, time.UTC)
		write := func(id, by string, keys ...string) {
			err := f.config().SaveConfig(f.ctx(), id, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				w := tenancy.ConfigWrite{Values: map[string]json.RawMessage{}}
				for _, key := range keys {
					w.Values[key] = value(`"` + by + `"`)
					w.History = append(w.History, tenancy.ConfigRecord{
						ConfigChange: tenancy.ConfigChange{Key: key, Old: own[key], New: w.Values[key]}, By: by, Time: at, Revision: 12345,
					})
				}
				return w, nil
			})
			if err != nil {
				f.Fatal(err)
			}
		}
		write(a.ID, "1", "x", "y", "z")
		write(b.ID, "2", "x")
		write(a.ID, "3", "x")
		write(a.ID, "żółć 👍", "y", "x")
		for limit := 1; limit <= 7; limit++ {
			got := []string{}
			var revisions []int64
			for _, r := range f.history(a.ID, limit) {
				got = append(got, r.By+": "+r.Key+" "+compact(r.Old)+"-"+compact(r.New))
				revisions = append(revisions, r.Revision)
				if !r.Time.Equal(at) || r.Time.Location() != time.UTC {
					f.Fatalf("the time is %v; want %v", r.Time, at)
				}
			}
			f.equal("the history", got, []string{
				`żółć 👍: x "3"-"żółć 👍"`, `żółć 👍: y "1"-"żółć 👍"`, `3: x "1"-"3"`, `1: z -"1"`, `1: y -"1"`, `1: x -"1"`,
			})
			for i, r := range revisions {
				if r <= 0 || r == 12345 || i > 0 && r > revisions[i-1] {
					f.Fatalf("the revisions are %v; want the catalogue's", revisions)
				}
			}
			if revisions[0] != revisions[1] || revisions[1] == revisions[2] {
				f.Fatalf("the revisions are %v; want one for what changed together", revisions)
			}
		}
		if all := f.history(b.ID, 10); len(all) != 1 {
			f.Fatalf("the other tenant has %d records; want one", len(all))
		}
		for _, nobody := range append([]string{"nobody", ""}, hostile...) {
			if all := f.history(nobody, 10); len(all) > 0 {
				f.Fatalf("nobody has %d records", len(all))
			}
		}
	}},
	{"a removed value has no new one in the history, and a failed write no record", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		record := func(old, text string) error {
			return f.config().SaveConfig(f.ctx(), t.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				w, _ := one("key", text)(nil)
				w.History = []tenancy.ConfigRecord{{ConfigChange: tenancy.ConfigChange{Key: "key", Old: value(old), New: value(text)}, Time: time.Now()}}
				return w, nil
			})
		}
		if err := errors.Join(record(``, `1`), record(`1`, ``)); err != nil {
			f.Fatal(err)
		}
		if record(``, `{`) == nil {
			f.Fatal("SaveConfig accepts what is not JSON")
		}
		all := f.history(t.ID, 10)
		if len(all) != 2 || all[0].New != nil || string(all[0].Old) != `1` || all[1].Old != nil || string(all[1].New) != `1` {
			f.Fatalf("the history is %s", printed(all))
		}
	}},
	{"a cursor that no page of a history gave is refused", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		for _, bad := range append([]string{"1", "x.y", "1.2.3", "01.1"}, hostile...) {
			_, err := f.config().ConfigHistory(f.ctx(), t.ID, tenancy.HistoryOptions{After: bad})
			if _, refused := errors.AsType[*tenancy.InvalidError](err); !refused {
				f.Fatalf("cursor %q: %v; want an InvalidError", bad, err)
			}
		}
	}},
	{"racing changes of many keys keep all that was acknowledged", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		const writers, rounds = 8, 6
		// Each writer counts its own key and two that all share, in one write.
		errs := together(writers, func(w int) error {
			for range rounds {
				err := f.config().SaveConfig(f.ctx(), t.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
					write := tenancy.ConfigWrite{Values: map[string]json.RawMessage{}}
					for _, key := range []string{"all", "both", fmt.Sprintf("own-%d", w)} {
						n := 0
						if old := own[key]; old != nil {
							if err := json.Unmarshal(old, &n); err != nil {
								return write, err
							}
						}
						text := json.RawMessage(strconv.Itoa(n + 1))
						write.Values[key] = text
						write.History = append(write.History, tenancy.ConfigRecord{
							ConfigChange: tenancy.ConfigChange{Key: key, Old: own[key], New: text}, Time: time.Now(),
						})
					}
					return write, nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		want := map[string]string{"all": strconv.Itoa(writers * rounds), "both": strconv.Itoa(writers * rounds)}
		for w := range writers {
			want[fmt.Sprintf("own-%d", w)] = strconv.Itoa(rounds)
		}
		f.loaded(t.ID, want)
		next := map[string]int{"all": writers * rounds, "both": writers * rounds}
		for _, r := range f.history(t.ID, 7) {
			if n, shared := next[r.Key]; shared {
				if compact(r.New) != strconv.Itoa(n) {
					f.Fatalf("the history of %q has %s where %d is due", r.Key, r.New, n)
				}
				next[r.Key]--
			}
		}
		f.equal("what is left of the history", next, map[string]int{"all": 0, "both": 0})
	}},
	{"the event is made from the former value and kept with the change", []Feature{Overrides, Events}, func(f *fixture) {
		t := f.create(acme("acme"))
		save := func(text, id string) {
			err := f.config().SaveConfig(f.ctx(), t.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				w, _ := one("key", text)(own)
				if id != "" {
					w.Events = []tenancy.Event{{
						ID: id, Type: tenancy.TenantConfigChanged, TenantID: t.ID,
						Config: &tenancy.ConfigChange{Key: "key", Old: own["key"], New: w.Values["key"]},
					}}
				}
				return w, nil
			})
			if err != nil {
				f.Fatal(err)
			}
		}
		save(`1`, "first")
		save(`2`, "")
		save(`null`, "second")
		save(``, "third")
		want := []string{"first: -1", "second: 2-null", "third: null-"}
		got := []string{}
		for _, e := range f.events() {
			if e.Config == nil {
				f.Fatalf("event %q has lost what changed", e.ID)
			}
			got = append(got, fmt.Sprintf("%s: %s-%s", e.ID, e.Config.Old, e.Config.New))
		}
		f.equal("the events", got, want)
	}},
	{"a panic while a change is made leaves nothing", []Feature{Overrides, Events}, func(f *fixture) {
		t := f.create(acme("acme"))
		func() {
			defer func() { _ = recover() }()
			_ = f.config().SaveConfig(f.ctx(), t.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) { panic("no write") })
			f.Error("the panic was swallowed")
		}()
		f.loaded(t.ID, map[string]string{})
		f.save(t.ID, "key", `2`) // the store still works
		f.loaded(t.ID, map[string]string{"key": `2`})
	}},
	{"a write with an event without an id is refused whole", []Feature{Overrides, Events}, func(f *fixture) {
		t := f.create(acme("acme"))
		err := f.config().SaveConfig(f.ctx(), t.ID, change(map[string]string{"key": `1`}, tenancy.Event{Type: tenancy.TenantConfigChanged, TenantID: t.ID}))
		if err == nil {
			f.Fatal("SaveConfig accepts an event without an id")
		}
		f.loaded(t.ID, map[string]string{})
	}},
	{"concurrent saves form one chain of former values", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		const writers, rounds = 8, 5
		olds := make([]string, writers*rounds)
		errs := together(writers, func(w int) error {
			for i := range rounds {
				n := w*rounds + i
				err := f.config().SaveConfig(f.ctx(), t.ID, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
					olds[n] = string(own["key"])
					return one("key", strconv.Itoa(n))(own)
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		seen := map[string]bool{}
		for n, old := range olds {
			if seen[old] {
				f.Fatalf("two saves replaced the same value %q, %d was one of them", old, n)
			}
			seen[old] = true
		}
	}},
	{"an ended context is an error and changes nothing", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.config().LoadConfig(ended, t.ID)
		f.wantError(err, context.Canceled)
		f.wantError(f.config().SaveConfig(ended, t.ID, one("key", `1`)), context.Canceled)
		_, err = f.config().ConfigHistory(ended, t.ID, tenancy.HistoryOptions{})
		f.wantError(err, context.Canceled)
		f.loaded(t.ID, map[string]string{})
	}},
}
