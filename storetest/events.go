package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lexigram.dev/tenancy"
)

func (f *fixture) read(after tenancy.Position, tenantID string, limit int) []tenancy.StoredEvent {
	f.Helper()
	events, err := f.outbox().ReadEvents(f.ctx(), after, tenantID, limit)
	if err != nil {
		f.Fatalf("ReadEvents(%v, %q, %d): %v", after, tenantID, limit, err)
	}
	return events
}

func (f *fixture) events() []tenancy.StoredEvent {
	f.Helper()
	return f.read(tenancy.Position{}, "", 10_000)
}

func eventIDs(events []tenancy.StoredEvent) []string {
	list := []string{}
	for _, e := range events {
		list = append(list, e.ID)
	}
	return list
}

// kept checks which events are in the outbox, and returns them.
func (f *fixture) kept(want ...string) []tenancy.StoredEvent {
	f.Helper()
	events := f.events()
	f.equal("the events that are kept", eventIDs(events), append([]string{}, want...))
	return events
}

func event(id string) tenancy.Event {
	return tenancy.Event{ID: id, Type: tenancy.TenantUpdated, TenantID: "id-acme", Slug: "acme"}
}

var needEvents = []Feature{Events}

// claim claims a sink at noon plus some minutes, for a minute, and returns what the store says.
func (f *fixture) claim(sink, owner string, minutes int) tenancy.Sink {
	f.Helper()
	now := noon.Add(time.Duration(minutes) * time.Minute)
	k, err := f.outbox().ClaimSink(f.ctx(), sink, owner, now, now.Add(time.Minute))
	if err != nil {
		f.Fatalf("ClaimSink(%q, %q): %v", sink, owner, err)
	}
	if k.Name != sink {
		f.Fatalf("ClaimSink(%q) is the sink %q", sink, k.Name)
	}
	return k
}

// claimed claims a sink that must be free.
func (f *fixture) claimed(sink, owner string, minutes int) tenancy.Sink {
	f.Helper()
	k := f.claim(sink, owner, minutes)
	if k.Owner != owner {
		f.Fatalf("the sink %q belongs to %q; want %q", sink, k.Owner, owner)
	}
	return k
}

// moved is a progress of a sink's owner: cursor and holds. The claim lasts until noon plus 1 minute.
func moved(k tenancy.Sink, to tenancy.Position, holds ...tenancy.HoldChange) tenancy.SinkProgress {
	return tenancy.SinkProgress{Sink: k.Name, Owner: k.Owner, From: k.Cursor, To: to, Until: noon.Add(time.Minute), Holds: holds}
}

func (f *fixture) saveSink(p tenancy.SinkProgress) {
	f.Helper()
	if err := f.outbox().SaveSink(f.ctx(), p); err != nil {
		f.Fatalf("SaveSink(%+v): %v", p, err)
	}
}

func (f *fixture) holds(sink string, q tenancy.HoldQuery) []tenancy.Hold {
	f.Helper()
	holds, err := f.outbox().Holds(f.ctx(), sink, q)
	if err != nil {
		f.Fatalf("Holds(%q, %+v): %v", sink, q, err)
	}
	return holds
}

func heldTenants(holds []tenancy.Hold) []string {
	list := []string{}
	for _, h := range holds {
		list = append(list, h.TenantID)
	}
	return list
}

func (f *fixture) waits(sink string, now time.Time, want bool) {
	f.Helper()
	waits, err := f.outbox().SinkWaits(f.ctx(), sink, now)
	if err != nil || waits != want {
		f.Fatalf("SinkWaits(%q, %s) is %t, %v; want %t", sink, now, waits, err, want)
	}
}

func (f *fixture) sink(name string) tenancy.Sink {
	f.Helper()
	sinks, err := f.outbox().Sinks(f.ctx())
	if err != nil {
		f.Fatalf("Sinks: %v", err)
	}
	for _, k := range sinks {
		if k.Name == name {
			return k
		}
	}
	f.Fatalf("the sinks are %+v; want %q among them", sinks, name)
	return tenancy.Sink{}
}

// pruned removes old events as of a time relative to now.
func (f *fixture) pruned(before time.Duration, limit, want int) {
	f.Helper()
	n, err := f.outbox().PruneEvents(f.ctx(), time.Now().Add(before), limit)
	if err != nil || n != want {
		f.Fatalf("PruneEvents removed %d, %v; want %d", n, err, want)
	}
}

// of returns an event of a tenant whose slug is given.
func of(id, slug string) tenancy.Event {
	e := event(id)
	e.TenantID, e.Slug = "id-"+slug, slug
	return e
}

func aHold(tenant string, p tenancy.Position, due time.Duration) *tenancy.Hold {
	h := &tenancy.Hold{TenantID: "id-" + tenant, Position: p, Attempts: 1, Error: "busy"}
	if due >= 0 {
		h.Due = noon.Add(due)
	}
	return h
}

const parked = time.Duration(-1)

var eventExamples = []example{
	{"an event comes back with every field", needEvents, func(f *fixture) {
		want := tenancy.Event{
			ID: "e-1", Type: tenancy.TenantConfigChanged, TenantID: "id-acme", Slug: "acme", Revision: 7,
			Time: time.Date(2024, 2, 29, 1, 2, 3, 123456000, time.UTC), Reason: `has "not" paid <é> 👍`,
			Config: &tenancy.ConfigChange{Key: "plan", Old: json.RawMessage(`null`), New: json.RawMessage(`{"a":"<b>"}`)},
		}
		f.create(acme("acme"), want)
		got := theOnly(f, f.events()).Event
		f.equal("the time", got.Time.UTC(), want.Time)
		f.equal("the configuration's change", printed(got.Config), printed(want.Config))
		got.Config, want.Config, got.Time, want.Time = nil, nil, time.Time{}, time.Time{}
		f.equal("the event", got, want)
	}},
	{"events are read in the order of their writes, from any position, of all tenants or one", needEvents, func(f *fixture) {
		f.kept()
		t := f.create(acme("acme"), event("z"), event("b"))
		f.create(acme("other"), of("y", "other"))
		f.update(t, event("a"), event("c"))
		all := f.kept("z", "b", "y", "a", "c")
		for i, e := range all {
			if i > 0 && e.Position.Compare(all[i-1].Position) <= 0 {
				f.Fatalf("the positions are %v and then %v", all[i-1].Position, e.Position)
			}
			f.equal("the rest", eventIDs(f.read(e.Position, "", 10)), eventIDs(all[i+1:]))
		}
		f.equal("two", eventIDs(f.read(all[0].Position, "", 2)), []string{"b", "y"})
		f.equal("none", eventIDs(f.read(tenancy.Position{}, "", 0)), []string{})
		f.equal("those of one tenant", eventIDs(f.read(tenancy.Position{}, "id-acme", 10)), []string{"z", "b", "a", "c"})
		f.equal("its next two", eventIDs(f.read(all[0].Position, "id-acme", 2)), []string{"b", "a"})
		f.equal("those of nobody", eventIDs(f.read(tenancy.Position{}, "nobody", 10)), []string{})
		f.equal("those after the last", eventIDs(f.read(all[4].Position, "", 10)), []string{})
		f.equal("the event after a position", eventIDs(f.read(tenancy.Position{Revision: all[1].Position.Revision, Index: all[1].Position.Index - 1}, "", 1)), []string{"b"})
	}},
	{"an event without an id or a tenant is refused", needEvents, func(f *fixture) {
		for _, e := range []tenancy.Event{{Type: tenancy.TenantUpdated, TenantID: "id-acme"}, {Type: tenancy.TenantUpdated, ID: "e-1"}} {
			if _, err := f.Create(f.ctx(), acme("acme"), e); err == nil {
				f.Fatalf("%+v was accepted", e)
			}
		}
		f.findsNobody(tenancy.BySlug("acme"))
		f.kept()
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
		f.kept()
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
			got := theOnly(f, f.events())
			f.equal("the change", printed(got.Config), `{"key":"key","new":111}`)
			got.Config.Key, got.Config.New[0] = "spoilt", '9'
		}
	}},
	{"a reader beside concurrent writers passes no event, and sees each tenant's in order", needEvents, func(f *fixture) {
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
			var cursor tenancy.Position
			for {
				time.Sleep(time.Millisecond) // several writers commit meanwhile
				done := writing.Load() == 0  // before the last read
				events, err := f.outbox().ReadEvents(f.ctx(), cursor, "", 5)
				if err != nil {
					return err
				}
				for _, e := range events {
					if e.Revision != last[e.TenantID]+1 {
						return fmt.Errorf("after revision %d of %q comes an event of %d", last[e.TenantID], e.TenantID, e.Revision)
					}
					last[e.TenantID], cursor = e.Revision, e.Position
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
	{"a sink belongs to who claims it first, until the claim ends", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		k := f.claimed("s", "one", 0)
		f.equal("the cursor of a new sink", k.Cursor, tenancy.Position{})
		f.equal("the end of the claim", k.Until, noon.Add(time.Minute))
		for _, minutes := range []int{0, -5} { // an owner's clock may be behind
			if k := f.claim("s", "two", minutes); k.Owner != "one" || !k.Until.Equal(noon.Add(time.Minute)) {
				f.Fatalf("a second claim gives %+v; want that it is the first one's", k)
			}
		}
		f.claimed("other", "two", 0)
		f.claimed("s", "two", 1)
		if k := f.claim("s", "one", 0); k.Owner != "two" {
			f.Fatalf("%+v after it was taken over", k)
		}
		f.equal("a renewed claim's end", f.claimed("s", "two", 3).Until, noon.Add(4*time.Minute))
	}},
	{"of many who claim a sink at once one gets it", needEvents, func(f *fixture) {
		for round := range 3 {
			var won atomic.Int64
			errs := together(20, func(i int) error {
				owner := fmt.Sprintf("node-%d-%d", round, i)
				now := noon.Add(time.Duration(round) * time.Hour)
				k, err := f.outbox().ClaimSink(f.ctx(), "s", owner, now, now.Add(time.Minute))
				if k.Owner == owner {
					won.Add(1)
				}
				return err
			})
			if err := errors.Join(errs...); err != nil {
				f.Fatal(err)
			}
			if won.Load() != 1 {
				f.Fatalf("%d got the sink in round %d; want one", won.Load(), round)
			}
		}
	}},
	{"a sink or an owner without a name is refused", needEvents, func(f *fixture) {
		for _, name := range []string{"", "a\x00b", "\xff", strings.Repeat("x", 129)} {
			if _, err := f.outbox().ClaimSink(f.ctx(), name, "one", noon, noon); err == nil {
				f.Fatalf("the sink %q was accepted", name)
			}
			if _, err := f.outbox().ClaimSink(f.ctx(), "s", name, noon, noon); err == nil {
				f.Fatalf("the owner %q was accepted", name)
			}
		}
	}},
	{"what an owner saves is the next one's beginning", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"), event("e-2"))
		all := f.events()
		k := f.claimed("s", "one", 0)
		p := moved(k, all[0].Position, tenancy.HoldChange{To: aHold("acme", all[0].Position, time.Minute)})
		p.Until = noon // it lets go
		f.saveSink(p)
		k = f.claimed("s", "two", 0)
		f.equal("the cursor", k.Cursor, all[0].Position)
		f.equal("the number of held and parked", []int{k.Held, k.Parked}, []int{1, 0})
		f.equal("the hold", theOnly(f, f.holds("s", tenancy.HoldQuery{})), *aHold("acme", all[0].Position, time.Minute))
		f.equal("the holds of another sink", len(f.holds("other", tenancy.HoldQuery{})), 0)
	}},
	{"who lost a sink saves nothing", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		k := f.claimed("s", "one", 0)
		f.claimed("s", "two", 2)
		err := f.outbox().SaveSink(f.ctx(), moved(k, at, tenancy.HoldChange{To: aHold("acme", at, 0)}))
		f.wantError(err, tenancy.ErrConflict)
		k = f.claimed("s", "two", 2)
		f.equal("the cursor", k.Cursor, tenancy.Position{})
		f.equal("the holds", len(f.holds("s", tenancy.HoldQuery{})), 0)
		f.saveSink(moved(k, at))
		f.wantError(f.outbox().SaveSink(f.ctx(), moved(k, at)), tenancy.ErrConflict) // from a cursor that was
		k.Name, k.Owner = "unknown", "one"
		f.wantError(f.outbox().SaveSink(f.ctx(), moved(k, at)), tenancy.ErrConflict)
	}},
	{"a claim that ran out and that nobody else took still saves", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		p := moved(f.claimed("s", "one", -60), at)
		f.saveSink(p)
		f.equal("the cursor", f.claim("s", "one", 0).Cursor, at)
	}},
	{"a save is based on the holds that are there, and keeps all or nothing", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		k := f.claimed("s", "one", 0)
		first, second := aHold("acme", at, time.Minute), aHold("acme", at, time.Hour)
		second.Attempts = 2
		f.saveSink(moved(k, at, tenancy.HoldChange{To: first}, tenancy.HoldChange{To: aHold("b", at, parked)}))
		k.Cursor = at
		later := *first
		later.Due = later.Due.Add(time.Microsecond)
		moves := *first
		moves.Position = at.Next()
		for name, stale := range map[string]tenancy.HoldChange{
			"none where one is":   {To: second},
			"one where none is":   {From: aHold("c", at, 0), To: aHold("c", at, time.Hour)},
			"other attempts":      {From: second, To: first},
			"another due":         {From: &later, To: second},
			"another position":    {From: &moves, To: second},
			"parked where is due": {From: aHold("acme", at, parked), To: second},
			"due where is parked": {From: aHold("b", at, 0)},
		} {
			err := f.outbox().SaveSink(f.ctx(), moved(k, at.Next(), tenancy.HoldChange{To: aHold("a", at, 0)}, stale))
			if !errors.Is(err, tenancy.ErrConflict) {
				f.Fatalf("a change from %s: %v; want ErrConflict", name, err)
			}
		}
		f.equal("the held", heldTenants(f.holds("s", tenancy.HoldQuery{})), []string{"id-acme", "id-b"})
		f.equal("the cursor", f.claim("s", "one", 0).Cursor, at)
		f.saveSink(moved(k, at, tenancy.HoldChange{From: first, To: second}, tenancy.HoldChange{From: aHold("b", at, parked)}))
		f.equal("the hold", theOnly(f, f.holds("s", tenancy.HoldQuery{})), *second)
	}},
	{"of savers at once from one cursor one wins", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		k := f.claimed("s", "one", 0)
		var won atomic.Int64
		for i, err := range together(10, func(i int) error {
			to := at
			to.Index += i
			return f.outbox().SaveSink(f.ctx(), moved(k, to, tenancy.HoldChange{To: aHold(fmt.Sprint(i), at, 0)}))
		}) {
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, tenancy.ErrConflict) {
				f.Fatalf("saver %d: %v", i, err)
			}
		}
		f.equal("how many won", won.Load(), int64(1))
		f.equal("how many holds are kept", len(f.holds("s", tenancy.HoldQuery{})), 1)
	}},
	{"holds are found by tenant, when they are due, or parked", needEvents, func(f *fixture) {
		at := tenancy.Position{Revision: 1, Index: 1}
		var changes []tenancy.HoldChange
		for tenant, due := range map[string]time.Duration{
			"a": 3 * time.Minute, "b": parked, "c": time.Minute, "d": 2 * time.Minute, "e": parked, "B": time.Minute,
		} {
			changes = append(changes, tenancy.HoldChange{To: aHold(tenant, at, due)})
		}
		f.saveSink(moved(f.claimed("s", "one", 0), at, changes...))
		f.saveSink(moved(f.claimed("other", "one", 0), at, tenancy.HoldChange{To: aHold("x", at, 0)}))
		for _, c := range []struct {
			query tenancy.HoldQuery
			want  []string
		}{
			{tenancy.HoldQuery{}, []string{"id-B", "id-a", "id-b", "id-c", "id-d", "id-e"}},
			{tenancy.HoldQuery{Limit: 2}, []string{"id-B", "id-a"}},
			{tenancy.HoldQuery{Limit: 2, After: "id-a"}, []string{"id-b", "id-c"}},
			{tenancy.HoldQuery{After: "id-e"}, []string{}},
			{tenancy.HoldQuery{Parked: true}, []string{"id-b", "id-e"}},
			{tenancy.HoldQuery{Parked: true, After: "id-b"}, []string{"id-e"}},
			{tenancy.HoldQuery{Tenants: []string{"id-b", "id-a", "nobody", "id-x"}}, []string{"id-a", "id-b"}},
			{tenancy.HoldQuery{Tenants: []string{}}, []string{}},
			{tenancy.HoldQuery{DueBy: noon.Add(time.Minute - time.Microsecond)}, []string{}},
			{tenancy.HoldQuery{DueBy: noon.Add(time.Minute)}, []string{"id-B", "id-c"}},
			{tenancy.HoldQuery{DueBy: noon.Add(time.Hour)}, []string{"id-B", "id-c", "id-d", "id-a"}},
			{tenancy.HoldQuery{DueBy: noon.Add(time.Hour), Limit: 3}, []string{"id-B", "id-c", "id-d"}},
		} {
			f.equal(fmt.Sprintf("the holds for %+v", c.query), heldTenants(f.holds("s", c.query)), c.want)
		}
		k := f.sink("s")
		f.equal("the number of held and parked", []int{k.Held, k.Parked}, []int{4, 2})
	}},
	{"a hold's text comes back exactly or is refused", needEvents, func(f *fixture) {
		at := tenancy.Position{Revision: 1, Index: 1}
		k := f.claimed("s", "one", 0)
		for i, text := range hostile {
			h := aHold(fmt.Sprint(i), at, 0)
			h.Error = text
			if err := f.outbox().SaveSink(f.ctx(), moved(k, at, tenancy.HoldChange{To: h})); err != nil {
				continue
			}
			k.Cursor = at
			f.equal("the hold", theOnly(f, f.holds("s", tenancy.HoldQuery{Tenants: []string{h.TenantID}})), *h)
		}
		if len(f.holds("s", tenancy.HoldQuery{})) < len(hostile)/2 {
			f.Fatal("most are refused")
		}
	}},
	{"a sink waits for what a claim would find", needEvents, func(f *fixture) {
		f.waits("s", noon, true) // it is not registered
		k := f.claimed("s", "one", 0)
		f.waits("s", noon, false)
		f.create(acme("acme"), event("e-1"), event("e-2"))
		f.waits("s", noon, true)
		all := f.events()
		f.saveSink(moved(k, all[0].Position))
		f.waits("s", noon, true)
		k.Cursor = all[0].Position
		f.saveSink(moved(k, all[1].Position, tenancy.HoldChange{To: aHold("acme", all[0].Position, time.Minute)},
			tenancy.HoldChange{To: aHold("parked", all[0].Position, parked)}))
		f.waits("s", noon, false)
		f.waits("s", noon.Add(time.Minute-time.Microsecond), false)
		f.waits("s", noon.Add(time.Minute), true)
		f.waits("other", noon, true)
	}},
	{"the backlog of a sink is what comes after its cursor and what it holds", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"), event("e-2"), of("e-3", "other"), event("e-4"))
		f.create(acme("other"), of("e-5", "other"))
		all := f.events()
		k := f.claimed("s", "one", 0)
		f.claimed("a", "one", 0)
		f.equal("the backlog", f.sink("s").Backlog, 5)
		f.saveSink(moved(k, all[3].Position, tenancy.HoldChange{To: aHold("acme", all[1].Position, 0)}))
		f.equal("the backlog", f.sink("s").Backlog, 3) // e-2, e-4, e-5
		f.equal("the other's", f.sink("a").Backlog, 5)
		sinks, err := f.outbox().Sinks(f.ctx())
		if err != nil || len(sinks) != 2 || sinks[0].Name != "a" || sinks[1].Name != "s" {
			f.Fatalf("the sinks are %+v, %v; want a and s", sinks, err)
		}
	}},
	{"an operator changes the hold that is there, whoever delivers", needEvents, func(f *fixture) {
		at := tenancy.Position{Revision: 1, Index: 1}
		k := f.claimed("s", "one", 0)
		was := aHold("acme", at, parked)
		f.saveSink(moved(k, at, tenancy.HoldChange{To: was}))
		now := aHold("acme", at.Next(), time.Minute)
		f.wantError(f.outbox().SaveHold(f.ctx(), "s", tenancy.HoldChange{From: now, To: was}), tenancy.ErrConflict)
		f.wantError(f.outbox().SaveHold(f.ctx(), "unknown", tenancy.HoldChange{From: was, To: now}), tenancy.ErrNoSink)
		if err := f.outbox().SaveHold(f.ctx(), "s", tenancy.HoldChange{From: was, To: now}); err != nil {
			f.Fatal(err)
		}
		f.equal("the hold", theOnly(f, f.holds("s", tenancy.HoldQuery{})), *now)
		k.Cursor = at // the delivery that knows nothing of it
		f.wantError(f.outbox().SaveSink(f.ctx(), moved(k, at, tenancy.HoldChange{From: was})), tenancy.ErrConflict)
		for _, c := range []tenancy.HoldChange{{}, {From: now, To: aHold("other", at, 0)}} {
			if err := f.outbox().SaveHold(f.ctx(), "s", c); err == nil || errors.Is(err, tenancy.ErrConflict) {
				f.Fatalf("%+v: %v; want it refused", c, err)
			}
		}
	}},
	{"a forgotten sink is gone with its holds, and begins anew", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		f.wantError(f.outbox().ForgetSink(f.ctx(), "s", noon), tenancy.ErrNoSink)
		k := f.claimed("s", "one", 0)
		f.saveSink(moved(k, at, tenancy.HoldChange{To: aHold("acme", at, parked)}))
		f.wantError(f.outbox().ForgetSink(f.ctx(), "s", noon), tenancy.ErrConflict)
		if err := f.outbox().ForgetSink(f.ctx(), "s", noon.Add(time.Minute)); err != nil {
			f.Fatal(err)
		}
		k = f.claimed("s", "two", 0)
		f.equal("the sink", []any{k.Cursor, k.Held, k.Parked}, []any{tenancy.Position{}, 0, 0})
	}},
	{"only what every sink has taken is pruned, when it is old, a portion at a time", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"), of("e-2", "other"), event("e-3"), event("e-4"))
		f.create(acme("other"), of("e-5", "other"), of("e-6", "other"))
		all := f.events()
		one, two := f.claimed("one", "node", 0), f.claimed("two", "node", 0)
		f.pruned(time.Hour, 100, 0)
		f.saveSink(moved(one, all[4].Position))
		f.pruned(time.Hour, 100, 0)
		f.saveSink(moved(two, all[3].Position, tenancy.HoldChange{To: aHold("acme", all[2].Position, parked)}))
		f.pruned(-time.Hour, 100, 0)
		f.pruned(time.Hour, 0, 0)
		f.kept("e-1", "e-2", "e-3", "e-4", "e-5", "e-6")
		f.pruned(time.Hour, 1, 1)
		f.kept("e-2", "e-3", "e-4", "e-5", "e-6")
		f.pruned(time.Hour, 100, 1)
		f.kept("e-3", "e-4", "e-5", "e-6")
		two.Cursor = all[3].Position
		f.saveSink(moved(two, all[5].Position)) // the hold still stands
		f.pruned(time.Hour, 100, 1)
		f.kept("e-3", "e-4", "e-6")
		two.Cursor = all[5].Position
		f.saveSink(moved(two, two.Cursor, tenancy.HoldChange{From: aHold("acme", all[2].Position, parked)}))
		f.pruned(time.Hour, 100, 2)
		f.kept("e-6")
	}},
	{"without a sink every event is pruned when it is old", needEvents, func(f *fixture) {
		var events []tenancy.Event
		for i := range 350 {
			events = append(events, event(fmt.Sprintf("e-%d", i)))
		}
		f.create(acme("acme"), events...)
		f.pruned(-time.Hour, 1000, 0)
		f.pruned(time.Hour, 349, 349)
		f.kept("e-349")
		f.pruned(time.Hour, 1000, 1)
		f.kept()
	}},
	{"an ended context is an error and changes nothing", needEvents, func(f *fixture) {
		f.create(acme("acme"), event("e-1"))
		at := theOnly(f, f.events()).Position
		k := f.claimed("s", "one", 0)
		h := aHold("acme", at, 0)
		f.saveSink(moved(k, tenancy.Position{}, tenancy.HoldChange{To: h}))
		ended, cancel := context.WithCancel(f.ctx())
		cancel()
		_, err := f.outbox().ReadEvents(ended, tenancy.Position{}, "", 10)
		f.wantError(err, context.Canceled)
		_, err = f.outbox().SinkWaits(ended, "s", noon)
		f.wantError(err, context.Canceled)
		_, err = f.outbox().ClaimSink(ended, "s", "two", noon.Add(time.Hour), noon.Add(2*time.Hour))
		f.wantError(err, context.Canceled)
		f.wantError(f.outbox().SaveSink(ended, moved(k, at)), context.Canceled)
		_, err = f.outbox().Sinks(ended)
		f.wantError(err, context.Canceled)
		_, err = f.outbox().Holds(ended, "s", tenancy.HoldQuery{})
		f.wantError(err, context.Canceled)
		f.wantError(f.outbox().SaveHold(ended, "s", tenancy.HoldChange{From: h}), context.Canceled)
		f.wantError(f.outbox().ForgetSink(ended, "s", noon.Add(time.Hour)), context.Canceled)
		_, err = f.outbox().PruneEvents(ended, time.Now().Add(time.Hour), 10)
		f.wantError(err, context.Canceled)
		f.kept("e-1")
		k = f.sink("s")
		f.equal("the sink", []any{k.Owner, k.Cursor, k.Held}, []any{"one", tenancy.Position{}, 1})
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
