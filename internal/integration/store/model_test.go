package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/sqlstore"
)

// catalogue is everything that a store can do.
type catalogue interface {
	tenancy.Store
	tenancy.ConfigStore
	tenancy.MemberStore
	tenancy.ChangeFeed
	tenancy.Outbox
}

// A database and memory give the same answers to any sequence of calls. Names are few, so
// that ids, slugs and aliases collide often.
func TestADatabaseAnswersAsMemoryDoes(t *testing.T) {
	each(t, func(t *testing.T, e engine) {
		db := e.open(t)
		ctx := t.Context()
		rapid.Check(t, func(r *rapid.T) {
			now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
			clock := func() time.Time { return now }
			cfg := e.config()
			cfg.Now = clock
			database := newStore(t, db, cfg)
			empty(t, e, database, db)
			model := memstore.New()
			model.Now = clock
			both := pair{r, ctx, model, database}
			known := map[string]tenancy.Tenant{} // as last read, possibly stale
			for step := range rapid.SampledFrom([]int{5, 20, 60}).Draw(r, "steps") {
				now = now.Add(time.Second)
				both.step(step, known)
			}
			both.compareAll()
		})
	})
}

// empty makes a new catalogue in the place of the old one.
func empty(t *testing.T, e engine, store *sqlstore.Store, db *sql.DB) {
	t.Helper()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	statements := []string{"UPDATE " + e.table("meta") + " SET revision = 0"}
	for _, table := range []string{"names", "memberships", "config", "config_history", "changes", "outbox", "holds", "sinks", "tenants"} {
		statements = append(statements, "DELETE FROM "+e.table(table))
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is a store and its model.
type pair struct {
	r               *rapid.T
	ctx             context.Context
	model, database catalogue
}

func (p pair) step(step int, known map[string]tenancy.Tenant) {
	r := p.r
	name := rapid.SampledFrom([]string{"a", "b", "c", "B"})
	id := name.Draw(r, "id")
	event := tenancy.Event{ID: fmt.Sprintf("e-%d", step), Type: tenancy.TenantUpdated, TenantID: id}
	switch rapid.IntRange(0, 9).Draw(r, "what") {
	case 0, 1, 2:
		t := p.drawTenant(id)
		p.same("Create", func(c catalogue) any { return result(c.Create(p.ctx, t, event)) })
	case 3, 4, 5:
		t := p.drawTenant(id)
		t.Revision = known[id].Revision
		p.same("Update", func(c catalogue) any { return result(c.Update(p.ctx, t, event)) })
	case 6:
		user, m := name.Draw(r, "user"), tenancy.Member{Roles: rapid.SliceOfN(name, 0, 3).Draw(r, "roles")}
		grant := tenancy.Member{Roles: m.Roles, Expires: now(step + 9), Reason: "r", GrantedBy: user, GrantedAt: now(step)}
		m.Expires = rapid.SampledFrom([]time.Time{{}, now(step - 1), now(step + 5)}).Draw(r, "expiry")
		if rapid.Bool().Draw(r, "grants") {
			p.same("GrantMember", func(c catalogue) any { return kind(c.GrantMember(p.ctx, user, id, grant)) })
		} else {
			p.same("SetMember", func(c catalogue) any { return kind(c.SetMember(p.ctx, user, id, m)) })
		}
	case 7:
		if rapid.Bool().Draw(r, "prunes") {
			p.same("PruneMembers", func(c catalogue) any { return result(c.PruneMembers(p.ctx, id, now(step))) })
		}
		user := name.Draw(r, "user")
		p.same("RemoveMember", func(c catalogue) any { return kind(c.RemoveMember(p.ctx, user, id)) })
	case 8:
		key := name.Draw(r, "key")
		value := rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`1`), json.RawMessage(`{"a":[null]}`)}).Draw(r, "value")
		p.same("SaveConfig", func(c catalogue) any {
			return kind(c.SaveConfig(p.ctx, id, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
				e := event
				e.Config = &tenancy.ConfigChange{Key: key, Old: own[key], New: value}
				return tenancy.ConfigWrite{
					Values: map[string]json.RawMessage{key: value, "other": value}, Events: []tenancy.Event{e},
					History: []tenancy.ConfigRecord{
						{ConfigChange: *e.Config, By: key, Time: now(step)}, {ConfigChange: tenancy.ConfigChange{Key: "other", New: value}, Time: now(step)},
					},
				}, nil
			}))
		})
	case 9:
		p.deliver(step)
	}
	if t, err := p.model.Lookup(p.ctx, tenancy.ByID(id)); err == nil && rapid.Bool().Draw(r, "reads again") {
		known[t.ID] = t
	}
}

func now(step int) time.Time { return time.Date(2024, 1, 1, 0, 0, step, 0, time.UTC) }

func (p pair) drawTenant(id string) tenancy.Tenant {
	slug := rapid.SampledFrom([]string{"a", "b", "c", "d", "A"}).Draw(p.r, "slug")
	alias := rapid.SampledFrom([]tenancy.Ref{
		tenancy.Alias("x", "a"), tenancy.Alias("x", "b"), tenancy.Alias("y", "a"), tenancy.Alias("domain", "Shop.Example"),
	})
	return tenancy.Tenant{
		ID: id, Slug: slug, Name: id, Parent: rapid.SampledFrom([]string{"", "a", "b"}).Draw(p.r, "parent"),
		Status:   rapid.SampledFrom([]tenancy.Status{tenancy.StatusActive, tenancy.StatusArchived, tenancy.StatusPurged}).Draw(p.r, "status"),
		Aliases:  rapid.SliceOfN(alias, 0, 3).Draw(p.r, "aliases"),
		Metadata: rapid.SampledFrom([]map[string]string{nil, {}, {"k": "v"}}).Draw(p.r, "metadata"),
	}
}

// deliver does what a relay, an operator or a clean-up does, often with what is out of date.
func (p pair) deliver(step int) {
	r, outbox := p.r, func(c catalogue) tenancy.Outbox { return c }
	minute := func(what string) time.Time {
		return time.Date(2024, 1, 1, 0, rapid.IntRange(0, 3).Draw(r, what), 0, 0, time.UTC)
	}
	position := func(what string) tenancy.Position {
		return tenancy.Position{Revision: int64(rapid.IntRange(0, step).Draw(r, what)), Index: rapid.IntRange(0, 2).Draw(r, what+"'s index")}
	}
	hold := func(tenant, what string) *tenancy.Hold {
		if rapid.Bool().Draw(r, "no "+what) {
			return nil
		}
		h := &tenancy.Hold{TenantID: tenant, Position: position(what), Error: "busy"}
		if rapid.Bool().Draw(r, what+" is due") {
			h.Due = minute(what + "'s due")
		}
		return h
	}
	sink := rapid.SampledFrom([]string{"s", "t"}).Draw(r, "sink")
	owner := rapid.SampledFrom([]string{"one", "two"}).Draw(r, "owner")
	tenant := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "tenant")
	change := tenancy.HoldChange{From: hold(tenant, "from"), To: hold(tenant, "to")}
	if known, err := p.model.Holds(p.ctx, sink, tenancy.HoldQuery{Tenants: []string{tenant}}); err == nil && rapid.Bool().Draw(r, "as it is") {
		if change.From = nil; len(known) == 1 {
			change.From = &known[0]
		}
	}
	now, until, at := minute("now"), minute("until"), position("at")
	switch rapid.IntRange(0, 4).Draw(r, "delivery") {
	case 0:
		p.same("ClaimSink", func(c catalogue) any { return result(outbox(c).ClaimSink(p.ctx, sink, owner, now, until)) })
	case 1:
		progress := tenancy.SinkProgress{Sink: sink, Owner: owner, From: position("cursor"), To: at, Until: until, Holds: []tenancy.HoldChange{change}}
		if sinks, err := p.model.Sinks(p.ctx); err == nil && len(sinks) > 0 && rapid.IntRange(0, 3).Draw(r, "stale") > 0 {
			progress.Sink, progress.Owner, progress.From = sinks[0].Name, sinks[0].Owner, sinks[0].Cursor
		}
		p.same("SaveSink", func(c catalogue) any { return kind(c.SaveSink(p.ctx, progress)) })
	case 2:
		p.same("SaveHold", func(c catalogue) any { return kind(c.SaveHold(p.ctx, sink, change)) })
	case 3:
		p.same("ForgetSink", func(c catalogue) any { return kind(c.ForgetSink(p.ctx, sink, now)) })
	case 4:
		before := time.Date(2024, 1, 1, 0, 0, rapid.IntRange(0, step+1).Draw(r, "before"), 0, time.UTC)
		p.same("PruneEvents", func(c catalogue) any { return result(c.PruneEvents(p.ctx, before, step/2)) })
	}
}

// compareAll compares all that can be read.
func (p pair) compareAll() {
	for _, name := range []string{"a", "A", "b", "c", "d", "nobody"} {
		for _, ref := range []tenancy.Ref{
			tenancy.ByID(name), tenancy.BySlug(name), tenancy.ByIDOrSlug(name), tenancy.Alias("x", name), tenancy.Alias("y", name),
		} {
			p.same("Lookup("+ref.String()+")", func(c catalogue) any { return result(c.Lookup(p.ctx, ref)) })
		}
		p.same("LoadConfig("+name+")", func(c catalogue) any { return result(c.LoadConfig(p.ctx, name)) })
		p.same("ConfigHistory("+name+")", func(c catalogue) any {
			first, err := c.ConfigHistory(p.ctx, name, tenancy.HistoryOptions{Limit: 3})
			rest, restErr := c.ConfigHistory(p.ctx, name, tenancy.HistoryOptions{After: first.Next})
			return []any{result(first, err), result(rest, restErr)}
		})
		p.same("ListMembers of tenant "+name, func(c catalogue) any {
			return result(c.ListMembers(p.ctx, tenancy.MemberListOptions{TenantID: name, Limit: 2}))
		})
		p.same("ListMembers of user "+name, func(c catalogue) any {
			return result(c.ListMembers(p.ctx, tenancy.MemberListOptions{UserID: name, After: "a"}))
		})
		for _, user := range []string{"a", "b", "B"} {
			p.same("Member("+user+", "+name+")", func(c catalogue) any { return result(c.Member(p.ctx, user, name)) })
		}
	}
	for _, status := range []tenancy.Status{"", tenancy.StatusPurged, tenancy.StatusArchived} {
		for _, parent := range []string{"", "a"} {
			for _, prefix := range []string{"", "a"} {
				opts := tenancy.ListOptions{Parent: parent, Prefix: prefix, Limit: 2}
				if status != "" {
					opts.Statuses = []tenancy.Status{status, tenancy.StatusActive}
				}
				for {
					var next string
					p.same(fmt.Sprintf("List(%+v)", opts), func(c catalogue) any {
						page, err := c.List(p.ctx, opts)
						next = page.Next
						page.Tenants = slices.Clip(page.Tenants)
						return result(page, err)
					})
					if opts.After = next; next == "" {
						break
					}
				}
			}
		}
	}
	for since := range int64(12) {
		p.same(fmt.Sprintf("Changes(%d)", since-1), func(c catalogue) any { return result(c.Changes(p.ctx, since-1)) })
	}
	for _, tenant := range []string{"", "a", "b"} {
		p.same("ReadEvents", func(c catalogue) any { return result(c.ReadEvents(p.ctx, tenancy.Position{Revision: 2}, tenant, 100)) })
	}
	p.same("Sinks", func(c catalogue) any { return result(c.Sinks(p.ctx)) })
	for _, sink := range []string{"s", "t"} {
		for minute := range 4 {
			now := time.Date(2024, 1, 1, 0, minute, 0, 0, time.UTC)
			p.same("SinkWaits", func(c catalogue) any { return result(c.SinkWaits(p.ctx, sink, now)) })
			p.same("Holds", func(c catalogue) any { return result(c.Holds(p.ctx, sink, tenancy.HoldQuery{DueBy: now})) })
		}
		for _, q := range []tenancy.HoldQuery{{}, {Parked: true}, {Tenants: []string{"a"}}, {After: "a", Limit: 1}} {
			p.same("Holds", func(c catalogue) any { return result(c.Holds(p.ctx, sink, q)) })
		}
	}
}

func (p pair) same(what string, call func(c catalogue) any) {
	p.r.Helper()
	want, got := call(p.model), call(p.database)
	if !reflect.DeepEqual(got, want) {
		p.r.Fatalf("%s differs:\ndatabase %+v\n  memory %+v", what, got, want)
	}
}

type answer struct {
	Value any
	Error string
}

func result[T any](value T, err error) answer { return answer{value, kind(err)} }

// kind returns the part of an error that callers may rely on.
func kind(err error) string {
	if err == nil {
		return ""
	}
	if taken, ok := errors.AsType[*tenancy.SlugConflictError](err); ok {
		return taken.Error()
	}
	if invalid, ok := errors.AsType[*tenancy.InvalidError](err); ok {
		return invalid.Error()
	}
	for _, known := range []error{tenancy.ErrNotFound, tenancy.ErrConflict, tenancy.ErrNotMember, tenancy.ErrNoSink} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "unexpected: " + err.Error()
}
