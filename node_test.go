package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// deafStore is a node's way to a catalogue whose changes do not reach it.
type deafStore struct{ *memstore.Store }

func (s deafStore) Changes(ctx context.Context, since int64) (tenancy.Changes, error) {
	if since < 0 {
		return s.Store.Changes(ctx, since)
	}
	return tenancy.Changes{}, errors.New("cut off")
}

func TestNodesAcknowledgeWhatTheyFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		node := func(id string, s tenancy.Store) *tenancy.Tenancy {
			tn, err := tenancy.New(tenancy.Config{Store: s, NodeID: id, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return tn
		}
		stop := func(tn *tenancy.Tenancy) {
			if err := tn.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
		nodes := func(tn *tenancy.Tenancy) (ids []string) {
			for _, n := range must[[]tenancy.Node](t)(tn.Nodes(t.Context())) {
				ids = append(ids, n.ID)
			}
			return ids
		}
		a, b := node("a", store), node("b", store)
		l := a.Lifecycle()
		acme := must[tenancy.Tenant](t)(l.Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		must[tenancy.Tenant](t)(l.Suspend(t.Context(), acme.ID, "unpaid"))
		began := time.Now()
		if err := a.AwaitNodes(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took == 0 || took > 1100*time.Millisecond {
			t.Errorf("all nodes followed after %s; want the next poll", took)
		}
		deaf := node("deaf", deafStore{store})
		time.Sleep(time.Second)
		must[tenancy.Tenant](t)(l.Activate(t.Context(), acme.ID))
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := a.AwaitNodes(short)
		if behind := (*tenancy.NodesBehindError)(nil); !errors.As(err, &behind) || len(behind.Nodes) != 1 || behind.Nodes[0].ID != "deaf" ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a node that is cut off: %v", err)
		}
		stop(b)
		if got := nodes(a); len(got) != 2 {
			t.Errorf("after one was stopped the nodes are %v", got)
		}
		if err := a.AwaitNodes(t.Context()); err != nil { // the one that is cut off counts as dead in the end
			t.Error(err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("a dead node was waited for until %s", took)
		}
		stop(deaf)
		stop(a)
	})
}

func TestNodesNeedAFeed(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	if err := tn.AwaitNodes(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := tn.Nodes(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// A request that was routed before its tenant's data moved ends, even one that outlives a suspension.
func TestMoveEndsWhatIsUnderWay(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		ctx, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		other, endOther := request(t, tn, ask{user: "bob", header: "globex"})
		defer endOther()
		goesOn(ctx, t, "the request")
		goesOn(other, t, "the other tenant's request")
		tenancy.KeepRunning(ctx)
		place := func(change func(*tenancy.Placement)) {
			d.set(func() {
				for i := range d.tenants {
					if d.tenants[i].Slug == "acme" {
						change(&d.tenants[i].Placement)
					}
				}
			})
			if err := tn.Changed(t.Context(), "t1"); err != nil {
				t.Error(err)
			}
		}
		place(func(p *tenancy.Placement) { p.SchemaVersion++ })
		goesOn(ctx, t, "the request after a migration")
		place(func(p *tenancy.Placement) { p.Generation++ })
		ended(ctx, t, "the request after a move", tenancy.ErrMoved)
		goesOn(other, t, "the other tenant's request after the move")
	})
}
