package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// cutStore is a node's way to a catalogue that ends after its start.
type cutStore struct {
	*memstore.Store
	cut bool
}

var errCutOff = errors.New("cut off")

func (s *cutStore) Changes(ctx context.Context, since int64) (tenancy.Changes, error) {
	if s.cut {
		return tenancy.Changes{}, errCutOff
	}
	return s.Store.Changes(ctx, since)
}

func (s *cutStore) SaveNode(ctx context.Context, n tenancy.Node, before time.Time) error {
	if s.cut {
		return errCutOff
	}
	err := s.Store.SaveNode(ctx, n, before)
	s.cut = true
	return err
}

func TestNodesAcknowledgeWhatTheyFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		node := func(id string, s tenancy.Store) *tenancy.Tenancy {
			return startNode(t, tenancy.Config{Store: s, NodeID: id})
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
		deaf := node("deaf", &cutStore{Store: store})
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
	})
}

// startNode starts a node that the end of the test stops.
func startNode(t *testing.T, cfg tenancy.Config) *tenancy.Tenancy {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	tn, err := tenancy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := tn.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tn
}

// A node that does not poll cannot know what it missed, and one that polls rarely is not dead: nobody
// takes their silence for a yes.
func TestSilenceOfANodeIsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, bus := memstore.New(), &memstore.Bus{}
		node := func(id string, poll time.Duration) *tenancy.Tenancy {
			return startNode(t, tenancy.Config{Store: store, NodeID: id, Bus: bus, Resolution: tenancy.ResolutionConfig{PollInterval: poll}})
		}
		node("by bus only", -1)
		node("slow", time.Minute)
		a := node("a", time.Second)
		must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		for _, want := range [][]string{{"by bus only", "slow"}, {"by bus only"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			behind, ok := errors.AsType[*tenancy.NodesBehindError](a.AwaitNodes(ctx))
			cancel()
			if !ok {
				t.Fatal("nobody is behind")
			}
			var ids []string
			for _, n := range behind.Nodes {
				ids = append(ids, n.ID)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("behind are %q, want %q", ids, want)
			}
		}
	})
}

// slowStore takes its time to look a tenant up.
type slowStore struct {
	*memstore.Store
	slow atomic.Bool
}

func (s *slowStore) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	if s.slow.Load() {
		time.Sleep(3 * time.Second)
	}
	return s.Store.Lookup(ctx, ref)
}

// A node acknowledges a suspension when what was under way has ended, not before.
func TestAcknowledgementMeansThatNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: memstore.New()}
		a := startNode(t, tenancy.Config{Store: store.Store, NodeID: "a"})
		b := startNode(t, tenancy.Config{Store: store, NodeID: "b", Membership: store})
		acme := must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		if err := a.Members().Add(t.Context(), "alice", acme.ID, tenancy.Member{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // b follows
		ctx, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(ctx, t, "the request")
		store.slow.Store(true)
		must[tenancy.Tenant](t)(a.Lifecycle().Suspend(t.Context(), acme.ID, "unpaid"))
		if err := a.AwaitNodes(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() == nil {
			t.Error("the node has acknowledged, and a request is under way")
		}
		ended(ctx, t, "the request", tenancy.ErrSuspended)
		if d, _ := tenancy.DecisionFrom(b.Bind(t.Context(), ask{user: "alice", header: "acme"}.request())); !errors.Is(d.Err, tenancy.ErrSuspended) {
			t.Errorf("a new request gets %v", d.Err)
		}
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
