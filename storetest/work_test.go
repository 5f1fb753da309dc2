package storetest_test

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"lexigram.dev/tenancy"
)

// wrongWork is a store with a fault in how it finds work.
type wrongWork struct {
	*wrong
	due func(w *wrong, ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error)
}

func (w wrongWork) DueTenants(ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error) {
	return w.due(w.wrong, ctx, now, limit)
}

// changedTenants changes what is written.
func changedTenants(change func(t *tenancy.Tenant)) func() tenancy.Store {
	return func() tenancy.Store {
		write := func(next writeFunc) writeFunc {
			return func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				t = t.Clone()
				change(&t)
				return next(w, ctx, t, e)
			}
		}
		return newWrong().
			onCreate(write(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				return w.Store.Create(ctx, t, e...)
			})).
			onUpdate(write(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
				return w.Store.Update(ctx, t, e...)
			}))
	}
}

const firstDue = "work/tenants with something to do are found from its time on, the oldest first"

var workFaults = []fault{
	{"the journal is forgotten", "tenants/a new tenant comes back at revision 1 with every field", changedTenants(func(t *tenancy.Tenant) { t.Journal = nil })},
	{"the manifest is forgotten", "tenants/a new tenant comes back at revision 1 with every field", changedTenants(func(t *tenancy.Tenant) {
		if t.Journal != nil {
			t.Journal.Manifest = nil
		}
	})},
	{"the grace is forgotten", "tenants/a new tenant comes back at revision 1 with every field", changedTenants(func(t *tenancy.Tenant) { t.PurgeAfter = time.Time{} })},
	{"former names are free", "work/a former name finds nobody and is nobody else's", changedTenants(func(t *tenancy.Tenant) { t.Former = nil })},
	{"a journal stays for ever", "work/a journal that ends is gone", func() tenancy.Store {
		return newWrong().onUpdate(func(w *wrong, ctx context.Context, t tenancy.Tenant, e []tenancy.Event) (tenancy.Tenant, error) {
			if old, err := w.Store.Lookup(ctx, tenancy.ByID(t.ID)); err == nil && t.Journal == nil {
				t.Journal = old.Journal
			}
			return w.Store.Update(ctx, t, e...)
		})
	}},
	{"nothing is ever due", firstDue, func() tenancy.Store {
		return wrongWork{newWrong(), func(*wrong, context.Context, time.Time, int) ([]tenancy.Tenant, error) { return nil, nil }}
	}},
	{"what is due a second later is due", firstDue, func() tenancy.Store {
		return wrongWork{newWrong(), func(w *wrong, ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error) {
			return w.DueTenants(ctx, now.Add(time.Second), limit)
		}}
	}},
	{"the newest is first", firstDue, func() tenancy.Store {
		return wrongWork{newWrong(), func(w *wrong, ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error) {
			all, err := w.DueTenants(ctx, now, limit)
			slices.Reverse(all)
			return all, err
		}}
	}},
	{"the limit is forgotten", firstDue, func() tenancy.Store {
		return wrongWork{newWrong(), func(w *wrong, ctx context.Context, now time.Time, _ int) ([]tenancy.Tenant, error) {
			return w.DueTenants(ctx, now, 1000)
		}}
	}},
	{"only provisioning is due", "work/tenants of every status have something to do", func() tenancy.Store {
		return wrongWork{newWrong(), func(w *wrong, ctx context.Context, now time.Time, limit int) ([]tenancy.Tenant, error) {
			all, err := w.DueTenants(ctx, now, limit)
			return slices.DeleteFunc(all, func(t tenancy.Tenant) bool { return t.Status != tenancy.StatusProvisioning }), err
		}}
	}},
	{"a purged tenant keeps its overrides", "work/a purged tenant loses its members and overrides, and nobody else does", func() tenancy.Store {
		return keepsOverrides{newWrong()}
	}},
	{"a node is forgotten when it says something again", "work/nodes are kept, replaced, removed and forgotten", func() tenancy.Store {
		return wrongNodes{newWrong()}
	}},
}

// wrongNodes keeps one node only.
type wrongNodes struct{ *wrong }

func (w wrongNodes) SaveNode(ctx context.Context, n tenancy.Node, _ time.Time) error {
	return w.Store.SaveNode(ctx, n, n.Seen)
}

// keepsOverrides still knows what a purged tenant had.
type keepsOverrides struct{ *wrong }

func (w keepsOverrides) LoadConfig(ctx context.Context, tenantID string) (map[string]json.RawMessage, error) {
	values, err := w.Store.LoadConfig(ctx, tenantID)
	t, lookupErr := w.Lookup(ctx, tenancy.ByID(tenantID))
	if lookupErr == nil && t.Status == tenancy.StatusPurged {
		return map[string]json.RawMessage{"theme": json.RawMessage(`"dark"`)}, err
	}
	return values, err
}
