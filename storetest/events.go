package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"lexigram.dev/tenancy"
)

func (f *fixture) pending() []tenancy.Event {
	f.Helper()
	events, err := f.outbox().PendingEvents(f.ctx(), 1000)
	if err != nil {
		f.Fatalf("PendingEvents: %v", err)
	}
	return events
}

func (f *fixture) waiting(want ...string) {
	f.Helper()
	got := []string{}
	for _, e := range f.pending() {
		got = append(got, e.ID)
	}
	f.equal("the events that wait", got, append([]string{}, want...))
}

func (f *fixture) delivered(ids ...string) {
	f.Helper()
	if err := f.outbox().EventsDelivered(f.ctx(), ids...); err != nil {
		f.Fatalf("EventsDelivered(%q): %v", ids, err)
	}
}

func event(id string) tenancy.Event {
	return tenancy.Event{ID: id, Type: tenancy.TenantUpdated, TenantID: "id-acme", Slug: "acme"}
}

var needEvents = []Feature{Events}

var eventExamples = []example{
	{"an event comes back with every field", needEvents, func(f *fixture) {
		want := tenancy.Event{
			ID: "e-1", Type: tenancy.TenantConfigChanged, TenantID: "id-acme", Slug: "acme", Revision: 7,
			Time: time.Date(2024, 2, 29, 1, 2, 3, 123456000, time.UTC), Reason: `has "not" paid <é> 👍`,
			Config: &tenancy.ConfigChange{Key: "plan", Old: json.RawMessage(`null`), New: json.RawMessage(`{"a":"<b>"}`)},
		}
		f.create(acme("acme"), want)
		got := theOnly(f, f.pending())
		f.equal("the time", got.Time.UTC(), want.Time)
		f.equal("the configuration's change", printed(got.Config), printed(want.Config))
		got.Config, want.Config, got.Time, want.Time = nil, nil, time.Time{}, time.Time{}
		f.equal("the event", got, want)
	}},
	{"events wait in the order of their writes until they are delivered", needEvents, func(f *fixture) {
		f.waiting()
		t := f.create(acme("acme"), event("z"), event("b"))
		f.create(acme("other"), event("y"))
		f.update(t, event("a"), event("c"))
		f.waiting("z", "b", "y", "a", "c")
		f.delivered("b", "unknown", "")
		f.delivered("b")
		f.delivered()
		f.waiting("z", "y", "a", "c")
		events, err := f.outbox().PendingEvents(f.ctx(), 2)
		if err != nil || len(events) != 2 || events[0].ID != "z" || events[1].ID != "y" {
			f.Fatalf("the first two are %+v, %v; want z and y", events, err)
		}
		f.delivered("z", "y", "a", "c")
		f.waiting()
	}},
	{"many events can be delivered at once", needEvents, func(f *fixture) {
		var events []tenancy.Event
		var ids []string
		for i := range 1200 {
			ids = append(ids, fmt.Sprintf("e-%d", i))
			events = append(events, event(ids[i]))
		}
		f.create(acme("acme"), events...)
		f.delivered(ids[:1199]...)
		f.waiting("e-1199")
	}},
	{"a refused write keeps no event", needEvents, func(f *fixture) {
		t := f.create(acme("acme"))
		taken := acme("acme")
		taken.ID = "taken"
		_, err := f.Create(f.ctx(), taken, event("e-1"))
		f.wantConflict(err, "acme")
		stale := t
		stale.Revision = 9
		_, err = f.Update(f.ctx(), stale, event("e-2"))
		f.wantError(err, tenancy.ErrConflict)
		stale.ID = "nobody"
		_, err = f.Update(f.ctx(), stale, event("e-3"))
		f.wantError(err, tenancy.ErrNotFound)
		other := f.create(acme("other"))
		other.Slug = "acme"
		_, err = f.Update(f.ctx(), other, event("e-4"))
		f.wantConflict(err, "acme")
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err = f.Update(ended, t, event("e-5"))
		f.wantError(err, context.Canceled)
		if config, ok := f.Store.(tenancy.ConfigStore); ok {
			write := change(map[string]string{"key": `1`}, event("e-6"))
			f.wantError(config.SaveConfig(f.ctx(), "nobody", write), tenancy.ErrNotFound)
		}
		f.waiting()
	}},
	{"what comes out is a copy of the event", []Feature{Events, Overrides}, func(f *fixture) {
		t := f.create(acme("acme"))
		e, change := event("e-1"), &tenancy.ConfigChange{Key: "key", New: json.RawMessage(`111`)}
		e.Config = change
		err := f.config().SaveConfig(f.ctx(), t.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"key": change.New}, Events: []tenancy.Event{e}}, nil
		})
		if err != nil {
			f.Fatal(err)
		}
		change.Key, change.New[0] = "spoilt", '9'
		for range 2 {
			got := theOnly(f, f.pending())
			f.equal("the change", printed(got.Config), `{"key":"key","new":111}`)
			got.Config.Key, got.Config.New[0] = "spoilt", '9'
		}
	}},
	{"a reader beside concurrent writers gets every event, in order for each tenant", needEvents, func(f *fixture) {
		const writers, rounds, tenants = 6, 8, 2
		for i := range tenants {
			f.create(acme(fmt.Sprintf("t%d", i)))
		}
		var writing atomic.Int64
		writing.Store(writers)
		last := map[string]int64{"id-t0": 1, "id-t1": 1}
		errs := together(writers+1, func(w int) error {
			if w < writers {
				defer writing.Add(-1)
				return f.updateOften(fmt.Sprintf("t%d", w%tenants), fmt.Sprintf("w%d", w), rounds)
			}
			for {
				done := writing.Load() == 0 // before the last read
				events, err := f.outbox().PendingEvents(f.ctx(), 5)
				if err != nil {
					return err
				}
				for _, e := range events {
					if e.Revision != last[e.TenantID]+1 {
						return fmt.Errorf("after revision %d of %q comes an event of %d", last[e.TenantID], e.TenantID, e.Revision)
					}
					last[e.TenantID] = e.Revision
					if err := f.outbox().EventsDelivered(f.ctx(), e.ID); err != nil {
						return err
					}
				}
				if done && len(events) == 0 {
					return nil
				}
			}
		})
		if err := errors.Join(errs...); err != nil {
			f.Fatal(err)
		}
		const each = 1 + writers*rounds/tenants
		f.equal("the revisions of the last events", last, map[string]int64{"id-t0": each, "id-t1": each})
	}},
	{"an ended context is an error and delivers nothing", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.outbox().PendingEvents(ended, 10)
		f.wantError(err, context.Canceled)
		f.wantError(f.outbox().EventsDelivered(ended, "e-1"), context.Canceled)
		f.waiting("e-1")
	}},
}

// updateOften updates a tenant n times, each with an event of the new revision, beside other
// writers. Goroutines may call it.
func (f *fixture) updateOften(slug, writer string, n int) error {
	for done := 0; done < n; {
		t, err := f.Lookup(f.ctx(), tenancy.BySlug(slug))
		if err != nil {
			return err
		}
		e := tenancy.Event{
			ID: fmt.Sprintf("%s-%d", writer, done), Type: tenancy.TenantUpdated,
			TenantID: t.ID, Slug: slug, Revision: t.Revision + 1,
		}
		if _, err = f.Update(f.ctx(), t, e); err == nil {
			done++
		} else if !errors.Is(err, tenancy.ErrConflict) {
			return err
		}
	}
	return nil
}
