package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lexigram.dev/tenancy"
)

// noEvent is the event of a write that wants none.
func noEvent(json.RawMessage) tenancy.Event { return tenancy.Event{} }

func (f *fixture) save(tenantID, key, value string) (old string) {
	f.Helper()
	raw := json.RawMessage(value)
	if value == "" {
		raw = nil
	}
	was, err := f.config().SaveConfig(f.ctx(), tenantID, key, raw, noEvent)
	if err != nil {
		f.Fatalf("SaveConfig(%q, %q, %s): %v", tenantID, key, value, err)
	}
	return compact(was)
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
		for i, step := range []struct{ value, old string }{
			{`1`, ``}, {`null`, `1`}, {`2`, `null`}, {`2`, `2`}, {``, `2`}, {``, ``}, {`3`, ``},
		} {
			if old := f.save(t.ID, "key", step.value); old != step.old {
				f.Fatalf("step %d returns %q; want %q", i, old, step.old)
			}
		}
		f.save(t.ID, "key", "")
		f.loaded(t.ID, map[string]string{})
	}},
	{"an override of an unknown tenant is ErrNotFound", needOverrides, func(f *fixture) {
		for _, id := range append([]string{"nobody", ""}, hostile...) {
			_, err := f.config().SaveConfig(f.ctx(), id, "key", json.RawMessage(`1`), noEvent)
			f.wantError(err, tenancy.ErrNotFound)
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
			if _, err := f.config().SaveConfig(f.ctx(), t.ID, "key", raw, noEvent); err == nil {
				f.Fatalf("SaveConfig accepts %q", bad)
			}
		}
		f.loaded(t.ID, map[string]string{"key": `1`})
	}},
	{"a key comes back exactly or is refused", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		want := map[string]string{}
		for _, key := range hostile {
			_, err := f.config().SaveConfig(f.ctx(), t.ID, key, json.RawMessage(`1`), noEvent)
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
		value := json.RawMessage(`111`)
		event := func(old json.RawMessage) tenancy.Event {
			for i := range old {
				old[i] = '9'
			}
			return tenancy.Event{}
		}
		for range 2 {
			old, err := f.config().SaveConfig(f.ctx(), t.ID, "key", value, event)
			if err != nil {
				f.Fatal(err)
			}
			for i := range old {
				old[i] = '9'
			}
		}
		value[0] = '9'
		values, err := f.config().LoadConfig(f.ctx(), t.ID)
		if err != nil {
			f.Fatal(err)
		}
		if string(values["key"]) != `111` {
			f.Fatalf("the value is %s; want 111", values["key"])
		}
		values["key"][0], values["more"] = '9', value
		f.loaded(t.ID, map[string]string{"key": `111`})
	}},
	{"the event is made from the former value and kept with the change", []Feature{Overrides, Events}, func(f *fixture) {
		t := f.create(acme("acme"))
		save := func(value, id string) {
			var raw json.RawMessage
			if value != "" {
				raw = json.RawMessage(value)
			}
			_, err := f.config().SaveConfig(f.ctx(), t.ID, "key", raw, func(old json.RawMessage) tenancy.Event {
				return tenancy.Event{
					ID: id, Type: tenancy.TenantConfigChanged, TenantID: t.ID,
					Config: &tenancy.ConfigChange{Key: "key", Old: old, New: raw},
				}
			})
			if err != nil {
				f.Fatal(err)
			}
		}
		save(`1`, "first")
		save(`2`, "") // without an id it is not kept
		save(`null`, "second")
		save(``, "third")
		want := []string{"first: -1", "second: 2-null", "third: null-"}
		got := []string{}
		for _, e := range f.pending() {
			if e.Config == nil {
				f.Fatalf("event %q has lost what changed", e.ID)
			}
			got = append(got, fmt.Sprintf("%s: %s-%s", e.ID, e.Config.Old, e.Config.New))
		}
		f.equal("the events", got, want)
	}},
	{"a panic while the event is made leaves nothing", []Feature{Overrides, Events}, func(f *fixture) {
		t := f.create(acme("acme"))
		func() {
			defer func() { _ = recover() }()
			_, _ = f.config().SaveConfig(f.ctx(), t.ID, "key", json.RawMessage(`1`), func(json.RawMessage) tenancy.Event { panic("no event") })
			f.Error("the panic was swallowed")
		}()
		f.loaded(t.ID, map[string]string{})
		f.save(t.ID, "key", `2`) // the store still works
		f.loaded(t.ID, map[string]string{"key": `2`})
	}},
	{"concurrent saves form one chain of former values", needOverrides, func(f *fixture) {
		t := f.create(acme("acme"))
		const writers, rounds = 8, 5
		olds := make([]string, writers*rounds)
		errs := together(writers, func(w int) error {
			for i := range rounds {
				n := w*rounds + i
				old, err := f.config().SaveConfig(f.ctx(), t.ID, "key", json.RawMessage(strconv.Itoa(n)), noEvent)
				if err != nil {
					return err
				}
				olds[n] = string(old)
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
		_, err = f.config().SaveConfig(ended, t.ID, "key", json.RawMessage(`1`), noEvent)
		f.wantError(err, context.Canceled)
		f.loaded(t.ID, map[string]string{})
	}},
}
