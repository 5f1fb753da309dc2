package storetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// fault is a store that breaks one promise, and the example that must notice.
type fault struct {
	name       string
	rejectedBy string // "" for a store without a fault
	store      func() tenancy.Store
}

var faults = []fault{
	{"no fault", "", func() tenancy.Store { return newWrong() }},
	{
		"updates do not compare the revision",
		"tenants/an update of any other revision is ErrConflict and changes nothing",
		func() tenancy.Store {
			return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				if old, err := w.Store.Lookup(ctx, tenancy.ByID(t.ID)); err == nil {
					t.Revision = old.Revision
				}
				return w.Store.Update(ctx, t, e...)
			})
		},
	},
	{
		"updates compare the revision, then write",
		"tenants/of many updates of one revision one wins",
		func() tenancy.Store {
			return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				old, err := w.Store.Lookup(ctx, tenancy.ByID(t.ID))
				if err != nil || old.Revision != t.Revision {
					return w.Store.Update(ctx, t, e...)
				}
				time.Sleep(time.Millisecond) // the window that every check before a write has
				for {
					stored, err := w.Store.Update(ctx, t, e...)
					if !errors.Is(err, tenancy.ErrConflict) {
						return stored, err
					}
					t.Revision++
				}
			})
		},
	},
	{
		"updates may change CreatedAt",
		"tenants/an update cannot change CreatedAt",
		func() tenancy.Store {
			created := map[string]time.Time{}
			w := newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				stored, err := w.Store.Update(ctx, t, e...)
				w.mu.Lock()
				defer w.mu.Unlock()
				created[t.ID] = t.CreatedAt
				return stored, err
			})
			return w.onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				t, err := w.Store.Lookup(ctx, ref)
				w.mu.Lock()
				defer w.mu.Unlock()
				if at, ok := created[t.ID]; ok {
					t.CreatedAt = at
				}
				return t, err
			})
		},
	},
	{
		"an unknown tenant is an error of the driver",
		"tenants/nobody is ErrNotFound",
		func() tenancy.Store {
			return newWrong().onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				t, err := w.Store.Lookup(ctx, ref)
				if errors.Is(err, tenancy.ErrNotFound) {
					err = errors.New("sql: no rows in result set")
				}
				return t, err
			})
		},
	},
	{
		"maps and slices are shared",
		"tenants/what goes in and comes out is a copy",
		func() tenancy.Store {
			kept := map[string]tenancy.Tenant{}
			return newWrong().onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				t, err := w.Store.Lookup(ctx, ref)
				w.mu.Lock()
				defer w.mu.Unlock()
				if known, ok := kept[t.ID]; ok && known.Revision == t.Revision {
					return known, err
				}
				kept[t.ID] = t
				return t, err
			})
		},
	},
	{
		"times come back in the server's zone",
		"tenants/a time of another zone comes back in UTC",
		func() tenancy.Store {
			return newWrong().onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				t, err := w.Store.Lookup(ctx, ref)
				t.CreatedAt = t.CreatedAt.In(time.FixedZone("CET", 3600))
				return t, err
			})
		},
	},
	{
		"text is cut silently",
		"tenants/text comes back exactly or is refused",
		func() tenancy.Store {
			return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				t.Name, _, _ = strings.Cut(t.Name, "\x00")
				return w.Store.Create(ctx, t, e...)
			})
		},
	},
	{
		"the context is not asked",
		"tenants/an ended context is an error and changes nothing",
		func() tenancy.Store {
			return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				return w.Store.Create(context.WithoutCancel(ctx), t, e...)
			})
		},
	},
	{
		"slugs are looked up as ids (B5)",
		"names/each kind of reference finds its own kind of name only",
		func() tenancy.Store {
			return newWrong().onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				if ref.Kind() == tenancy.RefSlug {
					ref = tenancy.ByID(ref.Value())
				}
				return w.Store.Lookup(ctx, ref)
			})
		},
	},
	{
		"a lookup by slug finds ids too (B14)",
		"names/each kind of reference finds its own kind of name only",
		func() tenancy.Store {
			return newWrong().onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
				if ref.Kind() == tenancy.RefSlug {
					ref = tenancy.ByIDOrSlug(ref.Value())
				}
				return w.Store.Lookup(ctx, ref)
			})
		},
	},
	{
		"an old alias still resolves (B14)",
		"names/an old alias finds nobody and is free for others",
		func() tenancy.Store { return rememberNames(tenancy.RefAlias) },
	},
	{
		"an old slug still resolves (B14)",
		"names/an old slug finds nobody after a rename and is free for others",
		func() tenancy.Store { return rememberNames(tenancy.RefSlug) },
	},
	{
		"a slug may equal another tenant's id (B14)",
		"names/a slug cannot be another tenant's id, nor an id another's slug",
		func() tenancy.Store {
			return acceptConflicts(func(w *wrong, t tenancy.Tenant, name string) bool {
				_, err := w.Store.Lookup(context.Background(), tenancy.ByID(name))
				return err == nil && t.Slug == name && t.ID != name
			})
		},
	},
	{
		"ids are compared with their letter case",
		"names/an id cannot be taken twice, whatever its letter case",
		func() tenancy.Store {
			return acceptConflicts(func(_ *wrong, t tenancy.Tenant, name string) bool {
				return t.ID != name && strings.EqualFold(t.ID, name)
			})
		},
	},
	{
		"a refused tenant keeps its slug taken",
		"names/a refused tenant leaves no name behind",
		func() tenancy.Store {
			return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				stored, err := w.Store.Create(ctx, t, e...)
				if _, taken := errors.AsType[*tenancy.SlugConflictError](err); taken {
					_, _ = w.Store.Create(ctx, tenancy.Tenant{ID: "left-" + t.Slug, Slug: t.Slug, Status: tenancy.StatusPurged})
				}
				return stored, err
			})
		},
	},
	{
		"a purged tenant's slug is free (L8)",
		"names/a purged tenant keeps its id and its slug",
		func() tenancy.Store {
			return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				if t.Status == tenancy.StatusPurged {
					gone := t
					gone.Status, gone.Slug = tenancy.StatusArchived, "gone-"+t.Slug
					if stored, err := w.Store.Update(ctx, gone); err == nil {
						t.Slug, t.Revision = gone.Slug, stored.Revision
					}
				}
				return w.Store.Update(ctx, t, e...)
			})
		},
	},
	{
		"losers of a race get an error of the driver",
		"names/of 100 concurrent creators of one slug one wins",
		func() tenancy.Store {
			return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				_, before := w.Store.Lookup(ctx, tenancy.BySlug(t.Slug))
				time.Sleep(time.Millisecond)
				stored, err := w.Store.Create(ctx, t, e...)
				if before != nil && err != nil {
					err = errors.New("duplicate key value violates unique constraint")
				}
				return stored, err
			})
		},
	},
	{
		"creators check, then write",
		"names/of 100 concurrent creators of one slug one wins",
		func() tenancy.Store {
			return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				_, before := w.Store.Lookup(ctx, tenancy.BySlug(t.Slug))
				time.Sleep(time.Millisecond)
				stored, err := w.Store.Create(ctx, t, e...)
				if before != nil && err != nil {
					return t, nil
				}
				return stored, err
			})
		},
	},
	{
		"purged tenants are listed",
		"lists/without statuses all but purged are listed",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				if len(o.Statuses) == 0 {
					o.Statuses = tenancy.Statuses()
				}
				return w.Store.List(ctx, o)
			})
		},
	},
	{
		"the last page has a next",
		"lists/a full last page has no next",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				page, err := w.Store.List(ctx, o)
				if n := len(page.Tenants); n == o.PageLimit() {
					page.Next = page.Tenants[n-1].ID
				}
				return page, err
			})
		},
	},
	{
		"pages skip a tenant",
		"lists/pages hold every tenant once, in order of the bytes of the id",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				page, err := w.Store.List(ctx, o)
				if n := len(page.Tenants); n > 1 && page.Next != "" {
					page.Tenants = page.Tenants[:n-1]
				}
				return page, err
			})
		},
	},
	{
		"tenants of a page are not in order",
		"lists/pages hold every tenant once, in order of the bytes of the id",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				page, err := w.Store.List(ctx, o)
				slices.Reverse(page.Tenants)
				return page, err
			})
		},
	},
	{
		"a prefix is a pattern",
		"lists/filters and all their combinations keep what matches",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				o.Prefix, _, _ = strings.Cut(o.Prefix, "%")
				return w.Store.List(ctx, o)
			})
		},
	},
	{
		"a parent is not asked for when there is a status",
		"lists/filters and all their combinations keep what matches",
		func() tenancy.Store {
			return newWrong().onList(func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
				if len(o.Statuses) > 0 {
					o.Parent = ""
				}
				return w.Store.List(ctx, o)
			})
		},
	},
	{
		"members of one tenant are members of all",
		"memberships/a stranger is ErrNotMember, also in a tenant that does not exist",
		func() tenancy.Store {
			var all []string
			w := newWrong()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				w.mu.Lock()
				all = append(all, t)
				w.mu.Unlock()
				return w.Store.SetMember(ctx, u, t, m)
			}
			w.member = func(ctx context.Context, u, t string) (tenancy.Member, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, id := range append([]string{t}, all...) {
					if m, err := w.Store.Member(ctx, u, id); err == nil {
						return m, nil
					}
				}
				return w.Store.Member(ctx, u, t)
			}
			return w
		},
	},
	{
		"an expired member is not shown",
		"memberships/an expiry comes back in UTC, to the microsecond, also when it is past",
		func() tenancy.Store {
			w := newWrong()
			w.member = func(ctx context.Context, u, t string) (tenancy.Member, error) {
				m, err := w.Store.Member(ctx, u, t)
				if err == nil && !m.Expires.IsZero() && m.Expires.Before(time.Now()) {
					return tenancy.Member{}, tenancy.ErrNotMember
				}
				return m, err
			}
			return w
		},
	},
	{
		"an expiry has whole seconds",
		"memberships/an expiry comes back in UTC, to the microsecond, also when it is past",
		func() tenancy.Store {
			w := newWrong()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				m.Expires = m.Expires.Truncate(time.Second)
				return w.Store.SetMember(ctx, u, t, m)
			}
			return w
		},
	},
	{
		"roles lose their order",
		"memberships/a membership comes back with its roles in their order",
		func() tenancy.Store {
			w := newWrong()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				m.Roles = slices.Sorted(slices.Values(m.Roles))
				return w.Store.SetMember(ctx, u, t, m)
			}
			return w
		},
	},
	{
		"users are compared without letter case",
		"memberships/users whose names only look alike are different",
		func() tenancy.Store {
			w := newWrong()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				return w.Store.SetMember(ctx, strings.ToLower(u), t, m)
			}
			w.member = func(ctx context.Context, u, t string) (tenancy.Member, error) {
				return w.Store.Member(ctx, strings.ToLower(u), t)
			}
			return w
		},
	},
	{
		"members of unknown tenants are accepted",
		"memberships/a member of an unknown tenant is refused with ErrNotFound",
		func() tenancy.Store {
			w := newWrong()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				if err := w.Store.SetMember(ctx, u, t, m); !errors.Is(err, tenancy.ErrNotFound) {
					return err
				}
				return nil
			}
			return w
		},
	},
	{
		"null removes an override",
		"overrides/a save returns the former value, and nil removes",
		func() tenancy.Store {
			return newWrong().onWrite(func(w tenancy.ConfigWrite) tenancy.ConfigWrite {
				for key, value := range w.Values {
					if string(value) == "null" {
						w.Values[key] = nil
					}
				}
				return w
			})
		},
	},
	{
		"a change is made from what was read before the write",
		"overrides/racing changes of many keys keep all that was acknowledged",
		func() tenancy.Store {
			return newWrong().onSave(func(w *wrong, ctx context.Context, id string, change changeFunc) error {
				own, err := w.LoadConfig(ctx, id)
				if err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
				write, err := change(own)
				if err != nil {
					return err
				}
				return w.Store.SaveConfig(ctx, id, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) { return write, nil })
			})
		},
	},
	{
		"several values are written one by one",
		"overrides/what changes together is all there or not at all",
		func() tenancy.Store {
			return newWrong().onSave(func(w *wrong, ctx context.Context, id string, change changeFunc) error {
				own, err := w.LoadConfig(ctx, id)
				if err != nil {
					return err
				}
				write, err := change(own)
				if err != nil {
					return err
				}
				for _, key := range slices.Sorted(maps.Keys(write.Values)) {
					single := tenancy.ConfigWrite{Values: map[string]json.RawMessage{key: write.Values[key]}}
					err := w.Store.SaveConfig(ctx, id, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) { return single, nil })
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	},
	{
		"an override's event is lost",
		"overrides/the event is made from the former value and kept with the change",
		func() tenancy.Store {
			return newWrong().onWrite(func(w tenancy.ConfigWrite) tenancy.ConfigWrite {
				w.Events = nil
				return w
			})
		},
	},
	{
		"a change that fails is written all the same",
		"overrides/a change that fails changes nothing, and its error comes back",
		func() tenancy.Store {
			return newWrong().onSave(func(w *wrong, ctx context.Context, id string, change changeFunc) error {
				var failed error
				err := w.Store.SaveConfig(ctx, id, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
					write, err := change(own)
					failed = err
					return write, nil
				})
				return errors.Join(err, failed)
			})
		},
	},
	{
		"the history is dated by the store",
		"overrides/the history comes newest first, page by page, of one tenant",
		func() tenancy.Store {
			return newWrong().onWrite(func(w tenancy.ConfigWrite) tenancy.ConfigWrite {
				for i := range w.History {
					w.History[i].Time = time.Now()
				}
				return w
			})
		},
	},
	{
		"a page of the history begins with the last of the page before",
		"overrides/the history comes newest first, page by page, of one tenant",
		func() tenancy.Store {
			w := newWrong()
			w.history = func(ctx context.Context, id string, o tenancy.HistoryOptions) (tenancy.HistoryPage, error) {
				if revision, position, found := strings.Cut(o.After, "."); found && position != "1" {
					o.After = revision + ".1" // the rest of a write is skipped
				}
				return w.Store.ConfigHistory(ctx, id, o)
			}
			return w
		},
	},
	{
		"one key of a write is recorded",
		"overrides/racing changes of many keys keep all that was acknowledged",
		func() tenancy.Store {
			return newWrong().onWrite(func(w tenancy.ConfigWrite) tenancy.ConfigWrite {
				w.History = w.History[:min(1, len(w.History))]
				return w
			})
		},
	},
	{
		"a grant replaces an ordinary member",
		"memberships/a grant replaces a grant and what has expired, but no ordinary membership",
		func() tenancy.Store {
			w := newWrong()
			w.grantMember = w.Store.SetMember
			return w
		},
	},
	{
		"a grant is checked, then written",
		"memberships/of racing grants and an ordinary membership the ordinary one stays",
		func() tenancy.Store {
			w := newWrong()
			w.grantMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				if old, err := w.Store.Member(ctx, u, t); err == nil && !old.IsGrant() {
					return tenancy.ErrConflict
				}
				time.Sleep(20 * time.Millisecond) // the window that every check before a write has
				return w.Store.SetMember(ctx, u, t, m)
			}
			return w
		},
	},
	{
		"who granted is lost",
		"memberships/a grant comes back with who gave it, when and why",
		func() tenancy.Store {
			w := newWrong()
			w.grantMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				m.GrantedBy = ""
				return w.Store.GrantMember(ctx, u, t, m)
			}
			return w
		},
	},
	{
		"expired members are not listed",
		"memberships/members are listed by tenant and by user, page by page, in the order of bytes",
		func() tenancy.Store {
			return newWrong().onListMembers(func(p tenancy.MemberPage) tenancy.MemberPage {
				p.Members = slices.DeleteFunc(p.Members, func(m tenancy.MemberRecord) bool { return m.Member.Expired(time.Now()) })
				return p
			})
		},
	},
	{
		"a full page of members is the last",
		"memberships/members are listed by tenant and by user, page by page, in the order of bytes",
		func() tenancy.Store {
			return newWrong().onListMembers(func(p tenancy.MemberPage) tenancy.MemberPage {
				p.Next = ""
				return p
			})
		},
	},
	{
		"what expires later is pruned too",
		"memberships/what has expired is pruned, of one tenant, and nothing else",
		func() tenancy.Store {
			w := newWrong()
			w.prune = func(ctx context.Context, id string, at time.Time) (int, error) {
				return w.Store.PruneMembers(ctx, id, at.Add(time.Hour))
			}
			return w
		},
	},
	{
		"changes become visible out of order",
		"changes/a reader beside concurrent writers sees every change exactly once",
		func() tenancy.Store {
			return newWrong().onChanges(func(w *wrong, ctx context.Context, since int64) (tenancy.Changes, error) {
				c, err := w.Store.Changes(ctx, since)
				if n := len(c.Tenants); n > 1 { // one transaction has not committed yet
					c.Tenants = c.Tenants[:n-1]
				}
				return c, err
			})
		},
	},
	{
		"a change is shown twice",
		"changes/a reader beside concurrent writers sees every change exactly once",
		func() tenancy.Store {
			return newWrong().onChanges(func(w *wrong, ctx context.Context, since int64) (tenancy.Changes, error) {
				if since > 0 {
					since--
				}
				return w.Store.Changes(ctx, since)
			})
		},
	},
	{
		"a restored catalogue is not noticed",
		"changes/a revision that never was is Lost",
		func() tenancy.Store {
			return newWrong().onChanges(func(w *wrong, ctx context.Context, since int64) (tenancy.Changes, error) {
				c, err := w.Store.Changes(ctx, since)
				if since > c.Revision {
					c.Lost = false
				}
				return c, err
			})
		},
	},
	{
		"memberships are no changes",
		"changes/memberships are changes of their tenant",
		func() tenancy.Store {
			w := newWrong()
			silent := memstore.New()
			w.setMember = func(ctx context.Context, u, t string, m tenancy.Member) error {
				if _, err := w.Store.Lookup(ctx, tenancy.ByID(t)); err != nil {
					return err
				}
				_, _ = silent.Create(ctx, tenancy.Tenant{ID: t, Slug: "s", Status: tenancy.StatusActive})
				return silent.SetMember(ctx, u, t, m)
			}
			return w
		},
	},
	{
		"a refused write is a change",
		"changes/a refused write is no change",
		func() tenancy.Store {
			return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				stored, err := w.Store.Update(ctx, t, e...)
				if err != nil {
					_ = w.Store.SetMember(ctx, "nobody", t.ID, tenancy.Member{})
				}
				return stored, err
			})
		},
	},
	{
		"a refused write keeps its events",
		"events/a refused write keeps no event",
		func() tenancy.Store {
			return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				stored, err := w.Store.Update(ctx, t, e...)
				if errors.Is(err, tenancy.ErrConflict) && len(e) > 0 {
					_ = w.Store.SaveConfig(ctx, t.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
						return tenancy.ConfigWrite{Events: e[:1]}, nil
					})
				}
				return stored, err
			})
		},
	},
	{
		"events come newest first",
		"events/events are read in the order of their writes, from any position, of all tenants or one",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.readEvents = func(ctx context.Context, after tenancy.Position, id string, limit int) ([]tenancy.StoredEvent, error) {
					all, err := w.Store.ReadEvents(ctx, after, id, 1<<20)
					slices.Reverse(all)
					return all[:min(limit, len(all))], err
				}
			})
		},
	},
	{
		"a tenant's events are those of all",
		"events/events are read in the order of their writes, from any position, of all tenants or one",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.readEvents = func(ctx context.Context, after tenancy.Position, _ string, limit int) ([]tenancy.StoredEvent, error) {
					return w.Store.ReadEvents(ctx, after, "", limit)
				}
			})
		},
	},
	{
		"a reader may pass an event that commits late (L4)",
		"events/a reader beside concurrent writers passes no event, and sees each tenant's in order",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.readEvents = func(ctx context.Context, after tenancy.Position, id string, limit int) ([]tenancy.StoredEvent, error) {
					all, err := w.Store.ReadEvents(ctx, after, id, limit)
					if n := len(all); n > 1 { // one transaction before the last has not committed yet
						all = append(all[:n-2], all[n-1])
					}
					return all, err
				}
			})
		},
	},
	{
		"two own a sink at once",
		"events/a sink belongs to who claims it first, until the claim ends",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.claimSink = func(ctx context.Context, sink, owner string, now, until time.Time) (tenancy.Sink, error) {
					k, err := w.Store.ClaimSink(ctx, sink, owner, now, until)
					k.Owner = owner
					return k, err
				}
			})
		},
	},
	{
		"a claim is read, then written",
		"events/of many who claim a sink at once one gets it",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.claimSink = func(ctx context.Context, sink, owner string, now, until time.Time) (tenancy.Sink, error) {
					sinks, err := w.Store.Sinks(ctx)
					if err != nil {
						return tenancy.Sink{}, err
					}
					for _, k := range sinks {
						if k.Name == sink && k.Owner != owner && k.Until.After(now) {
							return k, nil
						}
					}
					time.Sleep(time.Millisecond)
					k, err := w.Store.ClaimSink(ctx, sink, owner, until.Add(time.Hour), until)
					k.Owner, k.Until = owner, until
					return k, err
				}
			})
		},
	},
	{
		"a claim never ends",
		"events/a sink belongs to who claims it first, until the claim ends",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.claimSink = func(ctx context.Context, sink, owner string, now, until time.Time) (tenancy.Sink, error) {
					return w.Store.ClaimSink(ctx, sink, owner, now, until.Add(24*time.Hour))
				}
			})
		},
	},
	{
		"who lost a sink saves all the same",
		"events/who lost a sink saves nothing",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.saveSink = func(ctx context.Context, p tenancy.SinkProgress) error {
					if sinks, err := w.Store.Sinks(ctx); err == nil && len(sinks) == 1 {
						p.Owner = sinks[0].Owner
					}
					return w.Store.SaveSink(ctx, p)
				}
			})
		},
	},
	{
		"a cursor is not compared",
		"events/of savers at once from one cursor one wins",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.saveSink = func(ctx context.Context, p tenancy.SinkProgress) error {
					var err error
					for range 100 { // a conflict may be about the holds
						sinks, listErr := w.Sinks(ctx)
						if listErr == nil && len(sinks) == 1 {
							p.From = sinks[0].Cursor
						}
						if err = w.Store.SaveSink(ctx, p); !errors.Is(err, tenancy.ErrConflict) {
							break
						}
					}
					return err
				}
			})
		},
	},
	{
		"a save that is refused keeps its holds",
		"events/a save is based on the holds that are there, and keeps all or nothing",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.saveSink = func(ctx context.Context, p tenancy.SinkProgress) error {
					err := w.Store.SaveSink(ctx, p)
					if errors.Is(err, tenancy.ErrConflict) {
						for _, c := range p.Holds {
							_ = w.Store.SaveHold(ctx, p.Sink, c)
						}
					}
					return err
				}
			})
		},
	},
	{
		"holds are not compared",
		"events/an operator changes the hold that is there, whoever delivers",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.saveHold = func(ctx context.Context, sink string, c tenancy.HoldChange) error {
					if c.To != nil {
						holds, _ := w.Store.Holds(ctx, sink, tenancy.HoldQuery{Tenants: []string{c.To.TenantID}})
						if c.From = nil; len(holds) == 1 {
							c.From = &holds[0]
						}
					}
					return w.Store.SaveHold(ctx, sink, c)
				}
			})
		},
	},
	{
		"parked holds are due",
		"events/holds are found by tenant, when they are due, or parked",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.holds = func(ctx context.Context, sink string, q tenancy.HoldQuery) ([]tenancy.Hold, error) {
					holds, err := w.Store.Holds(ctx, sink, q)
					if !q.DueBy.IsZero() {
						parked, _ := w.Store.Holds(ctx, sink, tenancy.HoldQuery{Parked: true})
						holds = append(holds, parked...)
					}
					return holds, err
				}
			})
		},
	},
	{
		"what a sink holds is pruned (L4)",
		"events/only what every sink has taken is pruned, when it is old, a portion at a time",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.pruneEvents = func(ctx context.Context, before time.Time, limit int) (int, error) {
					sinks, _ := w.Store.Sinks(ctx)
					for _, k := range sinks {
						holds, _ := w.Store.Holds(ctx, k.Name, tenancy.HoldQuery{})
						for _, h := range holds {
							_ = w.Store.SaveHold(ctx, k.Name, tenancy.HoldChange{From: &h})
						}
					}
					return w.Store.PruneEvents(ctx, before, limit)
				}
			})
		},
	},
	{
		"what one sink has taken is pruned (L4)",
		"events/only what every sink has taken is pruned, when it is old, a portion at a time",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.pruneEvents = func(ctx context.Context, before time.Time, limit int) (int, error) {
					if sinks, _ := w.Store.Sinks(ctx); len(sinks) == 2 {
						_ = w.ForgetSink(ctx, sinks[1].Name, sinks[1].Until)
					}
					return w.Store.PruneEvents(ctx, before, limit)
				}
			})
		},
	},
	{
		"an event is pruned whatever its age",
		"events/without a sink every event is pruned when it is old",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.pruneEvents = func(ctx context.Context, _ time.Time, limit int) (int, error) {
					return w.Store.PruneEvents(ctx, time.Now().Add(24*time.Hour), limit)
				}
			})
		},
	},
	{
		"a backlog leaves out what is held",
		"events/the backlog of a sink is what comes after its cursor and what it holds",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.sinks = func(ctx context.Context) ([]tenancy.Sink, error) {
					sinks, err := w.Store.Sinks(ctx)
					for i, k := range sinks {
						events, _ := w.Store.ReadEvents(ctx, k.Cursor, "", 1000)
						sinks[i].Backlog = len(events)
					}
					return sinks, err
				}
			})
		},
	},
	{
		"a sink waits for new events only",
		"events/a sink waits for what a claim would find",
		func() tenancy.Store {
			return newWrong().onOutbox(func(w *wrong) {
				w.sinkWaits = func(ctx context.Context, sink string, _ time.Time) (bool, error) {
					return w.Store.SinkWaits(ctx, sink, noon)
				}
			})
		},
	},
}

// noon is earlier than every hold of the suite is due.
var noon = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// wrong is a memstore with some methods replaced.
type wrong struct {
	*memstore.Store
	mu          sync.Mutex
	lookup      func(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error)
	create      func(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error)
	update      func(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error)
	list        func(ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error)
	member      func(ctx context.Context, userID, tenantID string) (tenancy.Member, error)
	setMember   func(ctx context.Context, userID, tenantID string, m tenancy.Member) error
	saveConfig  func(ctx context.Context, tenantID string, change changeFunc) error
	history     func(ctx context.Context, tenantID string, o tenancy.HistoryOptions) (tenancy.HistoryPage, error)
	grantMember func(ctx context.Context, userID, tenantID string, m tenancy.Member) error
	listMembers func(ctx context.Context, o tenancy.MemberListOptions) (tenancy.MemberPage, error)
	prune       func(ctx context.Context, tenantID string, at time.Time) (int, error)
	changes     func(ctx context.Context, since int64) (tenancy.Changes, error)
	readEvents  func(ctx context.Context, after tenancy.Position, tenantID string, limit int) ([]tenancy.StoredEvent, error)
	sinkWaits   func(ctx context.Context, sink string, now time.Time) (bool, error)
	claimSink   func(ctx context.Context, sink, owner string, now, until time.Time) (tenancy.Sink, error)
	saveSink    func(ctx context.Context, p tenancy.SinkProgress) error
	sinks       func(ctx context.Context) ([]tenancy.Sink, error)
	holds       func(ctx context.Context, sink string, q tenancy.HoldQuery) ([]tenancy.Hold, error)
	saveHold    func(ctx context.Context, sink string, c tenancy.HoldChange) error
	pruneEvents func(ctx context.Context, before time.Time, limit int) (int, error)
}

func newWrong() *wrong {
	s := memstore.New()
	return &wrong{
		Store: s, lookup: s.Lookup, create: s.Create, update: s.Update, list: s.List,
		member: s.Member, setMember: s.SetMember, saveConfig: func(ctx context.Context, id string, change changeFunc) error { return s.SaveConfig(ctx, id, change) }, changes: s.Changes,
		history: s.ConfigHistory, grantMember: s.GrantMember, listMembers: s.ListMembers, prune: s.PruneMembers,
		readEvents: s.ReadEvents, sinkWaits: s.SinkWaits, claimSink: s.ClaimSink, saveSink: s.SaveSink, sinks: s.Sinks,
		holds: s.Holds, saveHold: s.SaveHold, pruneEvents: s.PruneEvents,
	}
}

func (w *wrong) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	return w.lookup(ctx, ref)
}

func (w *wrong) Create(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	return w.create(ctx, t, events...)
}

func (w *wrong) Update(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	return w.update(ctx, t, events...)
}

func (w *wrong) List(ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) {
	return w.list(ctx, o)
}

func (w *wrong) Member(ctx context.Context, userID, tenantID string) (tenancy.Member, error) {
	return w.member(ctx, userID, tenantID)
}

func (w *wrong) SetMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	return w.setMember(ctx, userID, tenantID, m)
}

func (w *wrong) SaveConfig(ctx context.Context, tenantID string, change func(map[string]json.RawMessage) (tenancy.ConfigWrite, error)) error {
	return w.saveConfig(ctx, tenantID, change)
}

func (w *wrong) ConfigHistory(ctx context.Context, tenantID string, o tenancy.HistoryOptions) (tenancy.HistoryPage, error) {
	return w.history(ctx, tenantID, o)
}

func (w *wrong) GrantMember(ctx context.Context, userID, tenantID string, m tenancy.Member) error {
	return w.grantMember(ctx, userID, tenantID, m)
}

func (w *wrong) ListMembers(ctx context.Context, o tenancy.MemberListOptions) (tenancy.MemberPage, error) {
	return w.listMembers(ctx, o)
}

func (w *wrong) PruneMembers(ctx context.Context, tenantID string, at time.Time) (int, error) {
	return w.prune(ctx, tenantID, at)
}

func (w *wrong) Changes(ctx context.Context, since int64) (tenancy.Changes, error) {
	return w.changes(ctx, since)
}

func (w *wrong) ReadEvents(ctx context.Context, after tenancy.Position, tenantID string, limit int) ([]tenancy.StoredEvent, error) {
	return w.readEvents(ctx, after, tenantID, limit)
}

func (w *wrong) SinkWaits(ctx context.Context, sink string, now time.Time) (bool, error) {
	return w.sinkWaits(ctx, sink, now)
}

func (w *wrong) ClaimSink(ctx context.Context, sink, owner string, now, until time.Time) (tenancy.Sink, error) {
	return w.claimSink(ctx, sink, owner, now, until)
}

func (w *wrong) SaveSink(ctx context.Context, p tenancy.SinkProgress) error {
	return w.saveSink(ctx, p)
}

func (w *wrong) Sinks(ctx context.Context) ([]tenancy.Sink, error) { return w.sinks(ctx) }

func (w *wrong) Holds(ctx context.Context, sink string, q tenancy.HoldQuery) ([]tenancy.Hold, error) {
	return w.holds(ctx, sink, q)
}

func (w *wrong) SaveHold(ctx context.Context, sink string, c tenancy.HoldChange) error {
	return w.saveHold(ctx, sink, c)
}

func (w *wrong) PruneEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	return w.pruneEvents(ctx, before, limit)
}

// onOutbox replaces methods of the outbox.
func (w *wrong) onOutbox(change func(w *wrong)) *wrong {
	change(w)
	return w
}

func (w *wrong) onLookup(fn func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error)) *wrong {
	w.lookup = func(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) { return fn(w, ctx, ref) }
	return w
}

type writeFunc func(w *wrong, ctx context.Context, t tenancy.Tenant, events []tenancy.Event) (tenancy.Tenant, error)

func (w *wrong) onCreate(fn writeFunc) *wrong {
	w.create = func(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
		return fn(w, ctx, t, events)
	}
	return w
}

func (w *wrong) onUpdate(fn writeFunc) *wrong {
	w.update = func(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
		return fn(w, ctx, t, events)
	}
	return w
}

func (w *wrong) onList(fn func(w *wrong, ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error)) *wrong {
	w.list = func(ctx context.Context, o tenancy.ListOptions) (tenancy.Page, error) { return fn(w, ctx, o) }
	return w
}

func (w *wrong) onChanges(fn func(w *wrong, ctx context.Context, since int64) (tenancy.Changes, error)) *wrong {
	w.changes = func(ctx context.Context, since int64) (tenancy.Changes, error) { return fn(w, ctx, since) }
	return w
}

type changeFunc = func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error)

func (w *wrong) onSave(fn func(w *wrong, ctx context.Context, tenantID string, change changeFunc) error) *wrong {
	w.saveConfig = func(ctx context.Context, id string, change changeFunc) error { return fn(w, ctx, id, change) }
	return w
}

// onWrite spoils what a change gives.
func (w *wrong) onWrite(spoil func(tenancy.ConfigWrite) tenancy.ConfigWrite) *wrong {
	return w.onSave(func(w *wrong, ctx context.Context, id string, change changeFunc) error {
		return w.Store.SaveConfig(ctx, id, func(own map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			write, err := change(own)
			return spoil(write), err
		})
	})
}

func (w *wrong) onListMembers(spoil func(tenancy.MemberPage) tenancy.MemberPage) *wrong {
	w.listMembers = func(ctx context.Context, o tenancy.MemberListOptions) (tenancy.MemberPage, error) {
		page, err := w.Store.ListMembers(ctx, o)
		return spoil(page), err
	}
	return w
}

// rememberNames finds tenants by names of this kind that they once had.
func rememberNames(kind tenancy.RefKind) tenancy.Store {
	once := map[tenancy.Ref]string{}
	w := newWrong()
	w.create = func(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
		stored, err := w.Store.Create(ctx, t, events...)
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, ref := range stored.Names() {
				once[ref] = t.ID
			}
		}
		return stored, err
	}
	return w.onLookup(func(w *wrong, ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if id, known := once[ref]; known && ref.Kind() == kind {
			ref = tenancy.ByID(id)
		}
		return w.Store.Lookup(ctx, ref)
	})
}

// acceptConflicts pretends to create tenants whose name is taken, when accept says so.
func acceptConflicts(accept func(w *wrong, t tenancy.Tenant, name string) bool) tenancy.Store {
	return newWrong().onCreate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
		stored, err := w.Store.Create(ctx, t, e...)
		if taken, ok := errors.AsType[*tenancy.SlugConflictError](err); ok && accept(w, t, taken.Name) {
			return t, nil
		}
		return stored, err
	})
}
