package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// fleet is several nodes on one catalogue, whose steps note where they ran.
type fleet struct {
	store *memstore.Store
	nodes []*tenancy.Tenancy

	mu     sync.Mutex
	ran    []string
	events []tenancy.Event
	fail   func(ctx context.Context, node, step string) error
}

func newFleet(t testing.TB, nodes int, change func(*tenancy.Config)) *fleet {
	t.Helper()
	f := &fleet{store: memstore.New(), fail: func(context.Context, string, string) error { return nil }}
	for i := range nodes {
		node := fmt.Sprint("node-", i)
		step := func(name string) tenancy.Step {
			return tenancy.Step{Name: name, Run: func(ctx context.Context, tn *tenancy.Tenant) error {
				f.mu.Lock()
				f.ran = append(f.ran, node+" "+name)
				fail := f.fail
				f.mu.Unlock()
				if name == "place" {
					tn.Placement.Schema = "s_" + tn.Slug
				}
				return fail(ctx, node, name)
			}}
		}
		cfg := tenancy.Config{
			Store: f.store, NodeID: node, Logger: slog.New(slog.DiscardHandler),
			Steps: tenancy.Steps{
				Provision: []tenancy.Step{step("place"), step("tables"), step("greet")},
				Archive:   []tenancy.Step{step("export")},
				Purge:     []tenancy.Step{step("remove")},
			},
			Subscribers: []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.events = append(f.events, e)
				return nil
			}},
		}
		if change != nil {
			change(&cfg)
		}
		tn, err := tenancy.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f.nodes = append(f.nodes, tn)
	}
	return f
}

// failing makes steps fail; nil ends that.
func (f *fleet) failing(fail func(ctx context.Context, node, step string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail = fail; fail == nil {
		f.fail = func(context.Context, string, string) error { return nil }
	}
}

// took returns the steps that ran since it was asked last.
func (f *fleet) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ran := f.ran
	f.ran = nil
	return ran
}

func (f *fleet) told() (types []tenancy.EventType) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		types = append(types, e.Type)
	}
	return types
}

func (f *fleet) get(t testing.TB, id string) tenancy.Tenant {
	t.Helper()
	return must[tenancy.Tenant](t)(f.nodes[0].Lifecycle().Get(t.Context(), id))
}

var errFull = errors.New("disk full")

func failAt(step string) func(context.Context, string, string) error {
	return func(_ context.Context, _, s string) error {
		if s == step {
			return errFull
		}
		return nil
	}
}

func wantSteps(t testing.TB, f *fleet, want ...string) {
	t.Helper()
	if got := f.took(); !slices.Equal(got, want) {
		t.Errorf("the steps are %q, want %q", got, want)
	}
}

// A step that failed is tried again by itself, later and later, from where the work stopped.
func TestWorkGoesOnAtTheStepThatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		tn, ctx := f.nodes[0], t.Context()
		f.failing(failAt("tables"))
		acme, err := tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "acme"})
		if step := (*tenancy.ProvisionError)(nil); !errors.As(err, &step) || step.Step != "tables" || !errors.Is(err, errFull) {
			t.Fatal(err)
		}
		wantSteps(t, f, "node-0 place", "node-0 tables")
		j := f.get(t, acme.ID).Journal
		if j == nil || !slices.Equal(j.Done, []string{"place"}) || j.Attempts != 1 || j.LastError != "disk full" || j.Owner != "" {
			t.Fatalf("the journal is %+v", j)
		}
		if wait := time.Until(j.Due); wait < 800*time.Millisecond || wait > 1200*time.Millisecond {
			t.Errorf("the first wait is %s", wait)
		}
		if n, err := tn.RunOnce(ctx); n != 0 || err != nil {
			t.Errorf("before it is due, RunOnce did %d, %v", n, err)
		}
		var before time.Duration
		for attempt := 2; attempt <= 12; attempt++ {
			time.Sleep(time.Until(f.get(t, acme.ID).Journal.Due))
			if n, err := tn.RunOnce(ctx); n != 1 || !errors.Is(err, errFull) {
				t.Fatalf("attempt %d: did %d, %v", attempt, n, err)
			}
			wantSteps(t, f, "node-0 tables")
			j := f.get(t, acme.ID).Journal
			wait := time.Until(j.Due)
			if j.Attempts != attempt || wait > 6*time.Minute || wait < min(before, 4*time.Minute) {
				t.Errorf("attempt %d: journal %+v, wait %s after %s", attempt, j, wait, before)
			}
			before = wait
		}
		f.failing(nil)
		time.Sleep(before)
		if n, err := tn.RunOnce(ctx); n != 1 || err != nil {
			t.Fatalf("did %d, %v", n, err)
		}
		wantSteps(t, f, "node-0 tables", "node-0 greet")
		got := f.get(t, acme.ID)
		if got.Status != tenancy.StatusActive || got.Journal != nil || got.Placement.Schema != "s_acme" {
			t.Errorf("%+v", got)
		}
		if !slices.Equal(f.told(), []tenancy.EventType{tenancy.TenantProvisioned}) {
			t.Errorf("events %v", f.told())
		}
	})
}

// A started tenancy does by itself what RunOnce does.
// Works that fail together do not come back together.
func TestBackOffHasJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		f.failing(failAt("tables"))
		dues := map[time.Duration]bool{}
		for i := range 20 {
			tenant, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: fmt.Sprint("acme-", i)})
			if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			wait := time.Until(tenant.Journal.Due)
			if wait < 800*time.Millisecond || wait > 1200*time.Millisecond {
				t.Errorf("the first wait is %s", wait)
			}
			dues[wait] = true
		}
		if len(dues) < 10 {
			t.Errorf("of 20 works, waits are %v", dues)
		}
	})
}

func TestStartedTenancyGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		f.failing(failAt("greet"))
		acme, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
		if !errors.Is(err, errFull) {
			t.Fatal(err)
		}
		f.failing(nil)
		f.took()
		if err := f.nodes[1].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		wantSteps(t, f, "node-1 greet")
		if got := f.get(t, acme.ID); got.Status != tenancy.StatusActive {
			t.Errorf("%+v", got)
		}
		if err := f.nodes[1].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// While one node works on a tenant no other does, however long a step takes. When the node dies, its
// lease ends and another one goes on; what the dead one records afterwards is refused.
func TestOnlyTheLeaseHolderWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		ctx := t.Context()
		f.failing(func(ctx context.Context, node, step string) error {
			if step == "tables" && node == "node-0" {
				time.Sleep(10 * time.Minute) // twenty leases
			}
			return nil
		})
		done := make(chan error, 1)
		go func() {
			_, err := f.nodes[0].Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"})
			done <- err
		}()
		for range 10 {
			time.Sleep(50 * time.Second)
			if n, err := f.nodes[1].RunOnce(ctx); n != 0 || err != nil {
				t.Fatalf("another node worked on it: %d, %v", n, err)
			}
		}
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := f.nodes[1].Lifecycle().Provision(waiting, "acme"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "node-0") {
			t.Errorf("Provision by another node: %v", err)
		}
		if got, err := f.nodes[1].Lifecycle().Provision(ctx, "acme"); err != nil || got.Status != tenancy.StatusActive {
			t.Errorf("after it waited: %v, %v", got.Status, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantSteps(t, f, "node-0 place", "node-0 tables", "node-0 greet")
	})
}

// frozenStore stops answering one node, as a network that is cut does.
type frozenStore struct {
	*memstore.Store
	frozen atomic.Bool
	after  func() // each update
}

func (s *frozenStore) Update(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	if s.frozen.Load() {
		<-ctx.Done()
		return tenancy.Tenant{}, ctx.Err()
	}
	stored, err := s.Store.Update(ctx, t, events...)
	if s.after != nil {
		s.after()
	}
	return stored, err
}

func TestNodeThatIsCutOffIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		cut := &frozenStore{Store: f.store}
		var ended error
		cutNode, err := tenancy.New(tenancy.Config{
			Store: cut, NodeID: "cut", Logger: slog.New(slog.DiscardHandler),
			Steps: tenancy.Steps{Provision: []tenancy.Step{
				{Name: "place", Run: func(context.Context, *tenancy.Tenant) error { return nil }},
				{Name: "tables", Run: func(ctx context.Context, _ *tenancy.Tenant) error {
					cut.frozen.Store(true)
					select {
					case <-ctx.Done():
					case <-time.After(5 * time.Minute):
						t.Error("the step goes on without a lease")
						cut.frozen.Store(false)
					}
					ended = context.Cause(ctx)
					return nil // as if it had been done all the same
				}},
				{Name: "greet", Run: func(context.Context, *tenancy.Tenant) error {
					t.Error("a node without a lease goes on")
					return nil
				}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := cutNode.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
			done <- err
		}()
		if err := <-done; !errors.Is(err, tenancy.ErrLeaseLost) || !errors.Is(ended, tenancy.ErrLeaseLost) {
			t.Errorf("the cut node ends with %v, its step with %v", err, ended)
		}
		if took := time.Since(began); took >= 30*time.Second {
			t.Errorf("its step was ended after %s, when others may have begun", took)
		}
		if n, err := f.nodes[0].RunOnce(t.Context()); n != 0 || err != nil {
			t.Errorf("before the lease ends: %d, %v", n, err)
		}
		time.Sleep(30*time.Second - time.Since(began))
		if n, err := f.nodes[0].RunOnce(t.Context()); n != 1 || err != nil {
			t.Errorf("after the lease: %d, %v", n, err)
		}
		wantSteps(t, f, "node-0 tables", "node-0 greet")
		cut.frozen.Store(false)
		if got := f.get(t, "acme"); got.Status != tenancy.StatusActive {
			t.Errorf("%+v", got)
		}
	})
}

// A node that slept longer than its lease, clock and all, cannot record anything.
func TestLostLeaseRecordsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	ctx := t.Context()
	f.failing(func(ctx context.Context, node, step string) error {
		if node != "node-0" || step != "tables" {
			return nil
		}
		// Meanwhile another node takes over, brings it to the end and suspends it.
		stolen := f.get(t, "acme")
		stolen.Journal.Until = time.Now().Add(-time.Second)
		if _, err := f.store.Update(ctx, stolen); err != nil {
			t.Error(err)
		}
		if n, err := f.nodes[1].RunOnce(context.Background()); n != 1 || err != nil {
			t.Errorf("took over: %d, %v", n, err)
		}
		_, err := f.nodes[1].Lifecycle().Suspend(context.Background(), "acme", "unpaid")
		return err
	})
	got, err := f.nodes[0].Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if !errors.Is(err, tenancy.ErrLeaseLost) {
		t.Errorf("%+v, %v", got, err)
	}
	if now := f.get(t, "acme"); now.Status != tenancy.StatusSuspended {
		t.Errorf("%+v", now)
	}
	wantSteps(t, f, "node-0 place", "node-0 tables", "node-1 tables", "node-1 greet")
}

// What somebody changes of the tenant while it is worked on stays.
func TestChangeDuringTheWorkStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	name := "ACME"
	f.failing(func(ctx context.Context, _, step string) error {
		_, err := f.nodes[0].Lifecycle().Update(ctx, tenancy.UpdateTenant{ID: "acme", Name: &name})
		name += "!"
		return err
	})
	got, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if err != nil || got.Name != "ACME!!" || got.Status != tenancy.StatusActive || got.Placement.Schema != "s_acme" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCancelledWorkIsLeftToOthersAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f.failing(func(ctx context.Context, node, step string) error {
		if step == "tables" && node == "node-0" {
			cancel()
			return ctx.Err()
		}
		return nil
	})
	if _, err := f.nodes[0].Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if j := f.get(t, "acme").Journal; j == nil || j.Owner != "" || j.Attempts != 0 {
		t.Errorf("the journal is %+v", j)
	}
	if n, err := f.nodes[1].RunOnce(t.Context()); n != 1 || err != nil {
		t.Errorf("did %d, %v", n, err)
	}
}

func TestStepThatPanicsHasFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	f.failing(func(context.Context, string, string) error { panic("nil map") })
	_, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if step := (*tenancy.ProvisionError)(nil); !errors.As(err, &step) || !strings.Contains(err.Error(), "panic: nil map") {
		t.Errorf("%v", err)
	}
	if j := f.get(t, "acme").Journal; j == nil || j.Attempts != 1 || j.Owner != "" {
		t.Errorf("the journal is %+v", j)
	}
}

// Whoever calls for the work from inside it would wait for itself.
// A lease counts from when it was written down: a write that is slow to come back makes it no longer.
func TestSlowRenewalMakesNoLongerLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease, slow = 30 * time.Second, 15 * time.Second
		store := &frozenStore{Store: memstore.New()}
		store.after = func() {
			time.Sleep(slow)
			store.frozen.Store(true)
		}
		var worked time.Duration
		tn, err := tenancy.New(tenancy.Config{
			Store: store, Logger: slog.New(slog.DiscardHandler),
			Steps: tenancy.Steps{Provision: []tenancy.Step{{Name: "place", Run: func(ctx context.Context, _ *tenancy.Tenant) error {
				began := time.Now()
				<-ctx.Done()
				worked = time.Since(began)
				return context.Cause(ctx)
			}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"}); !errors.Is(err, tenancy.ErrLeaseLost) {
			t.Errorf("%v", err)
		}
		if end := lease/3 + lease; worked < lease || worked >= end {
			t.Errorf("the step was ended after %s; its lease was renewed once and ended after %s", worked, end)
		}
	})
}

// A step that ends its goroutine gives up the work: nobody keeps its lease.
func TestLeaseEndsWithItsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // fails when a goroutine is left behind
		f := newFleet(t, 2, nil)
		f.failing(func(_ context.Context, node, step string) error {
			if node == "node-0" && step == "tables" {
				runtime.Goexit()
			}
			return nil
		})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
			t.Errorf("the goroutine goes on: %v", err)
		}()
		<-ended
		time.Sleep(31 * time.Second) // the lease is 30 s
		if n, err := f.nodes[1].RunOnce(t.Context()); n != 1 || err != nil {
			t.Errorf("another node does %d works, %v", n, err)
		}
		if got := f.get(t, "acme"); got.Status != tenancy.StatusActive {
			t.Errorf("it is %s: %+v", got.Status, got.Journal)
		}
	})
}

// Subscribers hear of a work when it is over, so that they may begin the next one.
func TestSubscriberMayBeginTheNextWork(t *testing.T) {
	t.Parallel()
	var tn *tenancy.Tenancy
	var refused []error
	f := newFleet(t, 1, func(c *tenancy.Config) {
		c.Lifecycle.ArchiveGrace = -1
		c.Subscribers = append(c.Subscribers, func(ctx context.Context, e tenancy.Event) (err error) {
			switch e.Type {
			case tenancy.TenantProvisioned:
				_, err = tn.Lifecycle().Deactivate(ctx, e.TenantID)
			case tenancy.TenantDeactivated:
				_, err = tn.Lifecycle().Archive(ctx, e.TenantID)
			case tenancy.TenantArchived:
				_, err = tn.Lifecycle().Purge(ctx, e.TenantID)
			}
			refused = append(refused, err)
			return err
		})
	})
	tn = f.nodes[0]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must[tenancy.Tenant](t)(tn.Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"}))
	if err := errors.Join(refused...); err != nil {
		t.Error(err)
	}
	want := []tenancy.EventType{tenancy.TenantProvisioned, tenancy.TenantDeactivated, tenancy.TenantArchived, tenancy.TenantPurged}
	if got := f.told(); !slices.Equal(got, want) {
		t.Errorf("told was %v, want %v", got, want)
	}
}

// An event that waits when a work begins is handed over after it, not by its steps.
func TestWorkDeliversNothingBeforeItsEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c *tenancy.Config) { c.Lifecycle.ArchiveGrace = -1 })
	l, ctx := f.nodes[0].Lifecycle(), t.Context()
	must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{ID: "globex", Slug: "globex"}))
	f.failing(func(ctx context.Context, _, step string) error {
		if step != "tables" {
			return nil
		}
		before := len(f.told())
		if _, err := l.Suspend(ctx, "globex", "unpaid"); err != nil {
			return err
		}
		if told := f.told(); len(told) != before {
			t.Errorf("inside the work was told %v", told)
		}
		return nil
	})
	must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"}))
	want := []tenancy.EventType{tenancy.TenantProvisioned, tenancy.TenantSuspended, tenancy.TenantProvisioned}
	if got := f.told(); !slices.Equal(got, want) {
		t.Errorf("told was %v, want %v", got, want)
	}
}

func TestNestedWorkIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	f.failing(func(ctx context.Context, _, _ string) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := f.nodes[0].Lifecycle().Provision(ctx, "acme")
		return err
	})
	_, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if err == nil || !strings.Contains(err.Error(), "from inside it") {
		t.Errorf("%v", err)
	}
}

func TestFailedProvisioningIsGivenUpByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, func(c *tenancy.Config) { c.Lifecycle.GiveUpAfter = time.Hour })
		f.failing(failAt("tables"))
		if _, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"}); err == nil {
			t.Fatal("no error")
		}
		if err := f.nodes[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		if got := f.get(t, "acme"); got.Status != tenancy.StatusProvisioning || got.Journal.Work != tenancy.WorkProvision {
			t.Errorf("after 50 minutes: %+v", got)
		}
		time.Sleep(20 * time.Minute)
		got := f.get(t, "acme")
		if got.Status != tenancy.StatusPurged || got.Journal != nil {
			t.Errorf("after 70 minutes: %+v, %+v", got, got.Journal)
		}
		if steps := f.took(); steps[len(steps)-1] != "node-0 remove" {
			t.Errorf("the steps end with %q", steps[len(steps)-1])
		}
		if err := f.nodes[0].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.events) != 1 || f.events[0].Type != tenancy.TenantPurged || !strings.Contains(f.events[0].Reason, "disk full") || f.events[0].Manifest == nil {
			t.Errorf("events %+v", f.events)
		}
	})
}

func TestArchivedTenantHasAGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		l, ctx, check := f.nodes[0].Lifecycle(), t.Context(), must[tenancy.Tenant](t)
		acme := check(l.Create(ctx, tenancy.CreateTenant{Slug: "acme"}))
		check(l.Deactivate(ctx, acme.ID))
		f.took()
		archived := check(l.Archive(ctx, acme.ID))
		wantSteps(t, f, "node-0 export")
		if archived.Status != tenancy.StatusArchived || !archived.PurgeAfter.Equal(time.Now().Add(720*time.Hour)) || archived.Journal != nil {
			t.Fatalf("%+v", archived)
		}
		var grace *tenancy.GraceError
		for name, try := range map[string]func(context.Context, string) (tenancy.Tenant, error){"Purge": l.Purge, "Delete": l.Delete} {
			if _, err := try(ctx, acme.ID); !errors.As(err, &grace) || !grace.Until.Equal(archived.PurgeAfter) {
				t.Errorf("%s in the grace: %v", name, err)
			}
		}
		if _, err := l.PurgeNow(ctx, acme.ID, " "); !errors.Is(err, tenancy.ErrReasonRequired) {
			t.Errorf("PurgeNow without a reason: %v", err)
		}
		if back := check(l.Unarchive(ctx, acme.ID)); back.Status != tenancy.StatusInactive || !back.PurgeAfter.IsZero() {
			t.Errorf("%+v", back)
		}
		check(l.Activate(ctx, acme.ID))
		check(l.Deactivate(ctx, acme.ID))
		if again := check(l.Delete(ctx, acme.ID)); again.Status != tenancy.StatusArchived {
			t.Errorf("Delete of an inactive tenant: %+v", again)
		}
		time.Sleep(720 * time.Hour)
		f.took()
		if gone := check(l.Purge(ctx, acme.ID)); gone.Status != tenancy.StatusPurged {
			t.Errorf("%+v", gone)
		}
		wantSteps(t, f, "node-0 remove")
		if gone := check(l.Purge(ctx, acme.ID)); gone.Status != tenancy.StatusPurged {
			t.Errorf("repeated: %+v", gone)
		}
	})
}

func TestArchivedTenantIsPurgedByItselfIfAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, func(c *tenancy.Config) { c.Lifecycle.AutoPurge = true })
		l, ctx, check := f.nodes[0].Lifecycle(), t.Context(), must[tenancy.Tenant](t)
		for _, slug := range []string{"acme", "globex"} {
			check(l.Create(ctx, tenancy.CreateTenant{ID: slug, Slug: slug}))
			check(l.Deactivate(ctx, slug))
			check(l.Archive(ctx, slug))
		}
		check(l.Unarchive(ctx, "globex")) // the plan goes with it
		time.Sleep(719 * time.Hour)
		if n, err := f.nodes[0].RunOnce(ctx); n != 0 || err != nil {
			t.Errorf("in the grace: %d, %v", n, err)
		}
		time.Sleep(time.Hour)
		if n, err := f.nodes[0].RunOnce(ctx); n != 1 || err != nil {
			t.Errorf("after it: %d, %v", n, err)
		}
		if got := f.get(t, "acme"); got.Status != tenancy.StatusPurged {
			t.Errorf("%+v", got)
		}
		if got := f.get(t, "globex"); got.Status != tenancy.StatusInactive || got.Journal != nil {
			t.Errorf("%+v", got)
		}
	})
}

// Once data has begun to go, nothing brings the tenant back.
func TestBegunPurgeCannotBeUndone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	l, ctx, check := f.nodes[0].Lifecycle(), t.Context(), must[tenancy.Tenant](t)
	check(l.Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"}))
	check(l.Deactivate(ctx, "acme"))
	check(l.Archive(ctx, "acme"))
	f.failing(failAt("remove"))
	if _, err := l.PurgeNow(ctx, "acme", "asked by the customer"); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	var transition *tenancy.TransitionError
	if _, err := l.Unarchive(ctx, "acme"); !errors.As(err, &transition) || transition.Work != tenancy.WorkPurge {
		t.Errorf("%v", err)
	}
	f.failing(nil)
	check(l.Purge(ctx, "acme")) // it goes on, whatever the grace
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.events[len(f.events)-1]; e.Type != tenancy.TenantPurged || e.Reason != "asked by the customer" {
		t.Errorf("%+v", e)
	}
}

func TestL08GivenUpNamesAreInQuarantine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		l, ctx, check := f.nodes[0].Lifecycle(), t.Context(), must[tenancy.Tenant](t)
		rename := func(slug string) {
			check(l.Update(ctx, tenancy.UpdateTenant{ID: "acme", Slug: &slug, Aliases: &[]tenancy.Ref{}}))
		}
		check(l.Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "apex", Aliases: []tenancy.Ref{tenancy.Alias("domain", "apex.com")}}))
		rename("summit")
		var taken *tenancy.SlugConflictError
		for _, cmd := range []tenancy.CreateTenant{
			{Slug: "apex"}, {ID: "apex", Slug: "x"}, {Slug: "y", Aliases: []tenancy.Ref{tenancy.Alias("domain", "apex.com")}},
		} {
			if _, err := l.Create(ctx, cmd); !errors.As(err, &taken) {
				t.Errorf("%+v: %v", cmd, err)
			}
		}
		if _, err := l.Find(ctx, tenancy.BySlug("apex")); !errors.Is(err, tenancy.ErrNotFound) {
			t.Errorf("the former name finds somebody: %v", err)
		}
		rename("apex") // its own again
		rename("summit")
		time.Sleep(719 * time.Hour)
		if n, err := f.nodes[0].RunOnce(ctx); n != 0 || err != nil {
			t.Errorf("RunOnce: %d, %v", n, err)
		}
		if _, err := l.Create(ctx, tenancy.CreateTenant{Slug: "apex"}); !errors.As(err, &taken) {
			t.Errorf("in the quarantine: %v", err)
		}
		time.Sleep(time.Hour)
		if n, err := f.nodes[0].RunOnce(ctx); n != 1 || err != nil {
			t.Errorf("RunOnce: %d, %v", n, err)
		}
		check(l.Create(ctx, tenancy.CreateTenant{Slug: "apex"}))
	})
}

// The names of lexigram-tenancy are kept, for configurations and logs that know them.
func TestHooksHaveTheirNames(t *testing.T) {
	t.Parallel()
	for hook, want := range map[tenancy.HookName]string{
		tenancy.HookResolved: "tenant.resolved", tenancy.HookProvisioned: "tenant.provisioned", tenancy.HookUpdated: "tenant.updated",
		tenancy.HookActivated: "tenant.activated", tenancy.HookDeactivated: "tenant.deactivated", tenancy.HookSuspended: "tenant.suspended",
		tenancy.HookArchived: "tenant.archived", tenancy.HookPurged: "tenant.purged", tenancy.HookConfigChanged: "tenant.config_changed",
	} {
		if string(hook) != want {
			t.Errorf("%q, want %q", hook, want)
		}
	}
}

func TestHooksVeto(t *testing.T) {
	t.Parallel()
	veto := errors.New("not on a Friday")
	var names []tenancy.HookName
	vetoed := tenancy.HookName("")
	hooks := map[tenancy.HookName][]tenancy.Hook{}
	for _, name := range []tenancy.HookName{
		tenancy.HookProvisioned, tenancy.HookUpdated, tenancy.HookActivated, tenancy.HookDeactivated,
		tenancy.HookSuspended, tenancy.HookArchived, tenancy.HookPurged,
	} {
		hooks[name] = []tenancy.Hook{func(_ context.Context, tn tenancy.Tenant) error {
			if names = append(names, name); name == vetoed {
				return veto
			}
			return nil
		}}
	}
	f := newFleet(t, 1, func(c *tenancy.Config) { c.Hooks, c.Lifecycle.ArchiveGrace = hooks, -1 })
	l, ctx := f.nodes[0].Lifecycle(), t.Context()
	name := "ACME"
	for _, step := range []struct {
		hook tenancy.HookName
		do   func() (tenancy.Tenant, error)
		then tenancy.Status
	}{
		{tenancy.HookProvisioned, func() (tenancy.Tenant, error) {
			if _, err := l.Get(ctx, "acme"); err == nil {
				return l.Provision(ctx, "acme")
			}
			return l.Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"})
		}, tenancy.StatusActive},
		{tenancy.HookUpdated, func() (tenancy.Tenant, error) {
			return l.Update(ctx, tenancy.UpdateTenant{ID: "acme", Name: &name})
		}, tenancy.StatusActive},
		{tenancy.HookSuspended, func() (tenancy.Tenant, error) { return l.Suspend(ctx, "acme", "unpaid") }, tenancy.StatusSuspended},
		{tenancy.HookActivated, func() (tenancy.Tenant, error) { return l.Activate(ctx, "acme") }, tenancy.StatusActive},
		{tenancy.HookDeactivated, func() (tenancy.Tenant, error) { return l.Deactivate(ctx, "acme") }, tenancy.StatusInactive},
		{tenancy.HookArchived, func() (tenancy.Tenant, error) { return l.Archive(ctx, "acme") }, tenancy.StatusArchived},
		{tenancy.HookPurged, func() (tenancy.Tenant, error) { return l.Purge(ctx, "acme") }, tenancy.StatusPurged},
	} {
		vetoed = step.hook
		before, told := tenancy.StatusProvisioning, len(f.told())
		if t, err := l.Get(ctx, "acme"); err == nil {
			before = t.Status
		}
		_, err := step.do()
		var hook *tenancy.HookError
		if !errors.Is(err, veto) || !errors.As(err, &hook) || hook.Hook != step.hook || hook.TenantID != "acme" {
			t.Errorf("%s: %v", step.hook, err)
		}
		if got := f.get(t, "acme"); got.Status != before || len(f.told()) != told {
			t.Errorf("%s: although it was vetoed it is %s, events %v", step.hook, got.Status, f.told())
		}
		vetoed = ""
		if got, err := step.do(); err != nil || got.Status != step.then {
			t.Errorf("%s: %+v, %v", step.hook, got, err)
		}
	}
	if len(names) != 14 {
		t.Errorf("the hooks were called %v", names)
	}
}

// A hook that panics vetoes, and ends no process that carries out the tenant's work.
func TestHookThatPanicsVetoes(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	panics := true
	f := newFleet(t, 1, func(c *tenancy.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Hooks = map[tenancy.HookName][]tenancy.Hook{tenancy.HookProvisioned: {func(context.Context, tenancy.Tenant) error {
			if panics {
				panic("no such plan")
			}
			return nil
		}}}
	})
	l := f.nodes[0].Lifecycle()
	_, err := l.Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	var hook *tenancy.HookError
	if !errors.As(err, &hook) || hook.Hook != tenancy.HookProvisioned || !strings.Contains(err.Error(), "no such plan") {
		t.Errorf("%v", err)
	}
	if log.count("a hook panicked") != 1 || log.count("TestHookThatPanicsVetoes") == 0 {
		t.Error("the log does not say where")
	}
	panics = false
	if got, err := l.Provision(t.Context(), "acme"); err != nil || got.Status != tenancy.StatusActive {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whoever may rename a tenant cannot keep every name from the others.
func TestNamesInQuarantineAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testNamesInQuarantineAreBounded)
}

func testNamesInQuarantineAreBounded(t *testing.T) {
	f := newFleet(t, 1, nil)
	l, ctx := f.nodes[0].Lifecycle(), t.Context()
	must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{ID: "t-1", Slug: "acme"}))
	rename := func(slug string) error {
		_, err := l.Update(ctx, tenancy.UpdateTenant{ID: "t-1", Slug: &slug})
		return err
	}
	for i := range 200 {
		if err := rename(fmt.Sprint("acme-", i)); err != nil {
			t.Fatal(err)
		}
	}
	err := rename("acme-200")
	if invalid, ok := errors.AsType[*tenancy.InvalidError](err); !ok || !strings.Contains(invalid.Remedy, "slug_quarantine") {
		t.Errorf("one more: %v", err)
	}
	if err := rename("acme-7"); err != nil {
		t.Errorf("back to one of its own: %v", err)
	}
	if got := f.get(t, "t-1"); got.Slug != "acme-7" || len(got.Former) != 200 {
		t.Errorf("it is %s and has %d former names", got.Slug, len(got.Former))
	}
	time.Sleep(31 * 24 * time.Hour) // the quarantine is over for all
	if err := rename("acme-200"); err != nil {
		t.Errorf("after the quarantine: %v", err)
	}
}

func TestWrongStepsAndHooksAreRefused(t *testing.T) {
	t.Parallel()
	run := func(context.Context, *tenancy.Tenant) error { return nil }
	for want, change := range map[string]func(*tenancy.Config){
		"no name":        func(c *tenancy.Config) { c.Steps.Provision = []tenancy.Step{{Run: run}} },
		"no function":    func(c *tenancy.Config) { c.Steps.Archive = []tenancy.Step{{Name: "a"}} },
		`are named "a"`:  func(c *tenancy.Config) { c.Steps.Purge = []tenancy.Step{{Name: "a", Run: run}, {Name: "a", Run: run}} },
		"nothing calls":  func(c *tenancy.Config) { c.Hooks = map[tenancy.HookName][]tenancy.Hook{"tenant.gone": nil} },
		"too short":      func(c *tenancy.Config) { c.Lifecycle.Lease = time.Millisecond },
		"workers":        func(c *tenancy.Config) { c.Lifecycle.Workers = -1 },
		"use at most 10": func(c *tenancy.Config) { c.NodeID = strings.Repeat("x", 101) },
	} {
		cfg := tenancy.Config{Store: memstore.New()}
		change(&cfg)
		if _, err := tenancy.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A node that lost one work of a tenant cannot record anything in the next one either.
func TestFenceHoldsAcrossWorks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	steal := func() {
		stolen := f.get(t, "acme")
		stolen.Journal.Until = time.Now().Add(-time.Second)
		if _, err := f.store.Update(context.Background(), stolen); err != nil {
			t.Error(err)
		}
	}
	l := f.nodes[1].Lifecycle()
	f.failing(func(ctx context.Context, node, step string) error {
		if node == "node-1" && step == "export" {
			return errFull // its journal stays
		}
		if node != "node-0" || step != "place" {
			return nil
		}
		steal()
		for _, do := range []func(context.Context, string) (tenancy.Tenant, error){l.Provision, l.Deactivate} {
			if _, err := do(context.Background(), "acme"); err != nil {
				t.Error(err)
			}
		}
		if _, err := l.Archive(context.Background(), "acme"); !errors.Is(err, errFull) {
			t.Error(err)
		}
		return nil
	})
	if _, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"}); !errors.Is(err, tenancy.ErrLeaseLost) {
		t.Errorf("%v", err)
	}
	if j := f.get(t, "acme").Journal; j == nil || j.Work != tenancy.WorkArchive || len(j.Done) > 0 || j.Attempts != 1 {
		t.Errorf("the journal is %+v", j)
	}
}

func TestAsyncCreationIsBroughtToItsEndByOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, func(c *tenancy.Config) { c.Lifecycle.Async, c.Lifecycle.NoRunner = true, true })
		acme := must[tenancy.Tenant](t)(f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		wantSteps(t, f)
		if acme.Status != tenancy.StatusProvisioning || acme.Journal == nil || acme.Journal.Owner != "" {
			t.Errorf("%+v", acme)
		}
		if err := f.nodes[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantSteps(t, f) // without a runner
		if err := f.nodes[0].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		due := must[[]tenancy.Tenant](t)(f.nodes[1].Due(t.Context(), 10))
		if len(due) != 1 || due[0].ID != acme.ID {
			t.Fatalf("due: %v", due)
		}
		if err := f.nodes[1].RunTenant(t.Context(), acme.ID); err != nil {
			t.Fatal(err)
		}
		wantSteps(t, f, "node-1 place", "node-1 tables", "node-1 greet")
		if err := f.nodes[0].RunTenant(t.Context(), acme.ID); err != nil {
			t.Fatal(err)
		}
		wantSteps(t, f)
		if err := f.nodes[0].RunTenant(t.Context(), "nobody"); !errors.Is(err, tenancy.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestWhatIsDueNeedsAStore(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	if n, err := tn.RunOnce(t.Context()); n != 0 || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%d, %v", n, err)
	}
}

// A veto of tenant.resolved leaves a request unbound, whoever asks.
func TestHookResolvedVetoes(t *testing.T) {
	t.Parallel()
	var asked []string
	tn := newTenancy(t, newDirectory(), func(c *tenancy.Config) {
		c.Hooks = map[tenancy.HookName][]tenancy.Hook{tenancy.HookResolved: {func(_ context.Context, t tenancy.Tenant) error {
			if asked = append(asked, t.Slug); t.Slug == "globex" {
				return errors.New("in another region")
			}
			return nil
		}}}
	})
	for slug, bound := range map[string]bool{"acme": true, "globex": false} {
		ctx := tn.Bind(t.Context(), ask{user: "carol", claim: slug}.request())
		d, _ := tenancy.DecisionFrom(ctx)
		if _, err := tenancy.Require(ctx); (err == nil) != bound {
			t.Errorf("%s: %v", slug, err)
		}
		if !bound && (d.Outcome != tenancy.OutcomeVetoed || tenancy.CodeOf(d.Err) != tenancy.CodeTenant) {
			t.Errorf("%s: %s, %v", slug, d.Outcome, d.Err)
		}
	}
	tn.Bind(t.Context(), ask{user: "mallory", header: "acme"}.request()) // who may not have it is not asked about
	if len(asked) != 2 {
		t.Errorf("the hook was asked about %v", asked)
	}
}

// brokenStore answers updates with an error, before or after it does them.
type brokenStore struct {
	*memstore.Store
	broken func(t tenancy.Tenant) (doIt bool, err error)
}

func (s *brokenStore) Update(ctx context.Context, t tenancy.Tenant, events ...tenancy.Event) (tenancy.Tenant, error) {
	doIt, err := s.broken(t)
	if err == nil {
		return s.Store.Update(ctx, t, events...)
	}
	if doIt {
		if _, err := s.Store.Update(ctx, t, events...); err != nil {
			return tenancy.Tenant{}, err
		}
	}
	return tenancy.Tenant{}, err
}

var errLost = errors.New("connection lost")

// The answer to the last write is lost on its way: the tenant is active, and nobody is told otherwise.
func TestLastWriteWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c *tenancy.Config) {
		c.Store = &brokenStore{c.Store.(*memstore.Store), func(t tenancy.Tenant) (bool, error) {
			if t.Status == tenancy.StatusActive {
				return true, errLost
			}
			return false, nil
		}}
	})
	got, err := f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if err != nil || got.Status != tenancy.StatusActive {
		t.Errorf("%+v, %v", got, err)
	}
}

// A catalogue that can be read and not written is no reason to turn for ever.
func TestRunOnceEndsWhenNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c *tenancy.Config) {
		c.Lifecycle.Async = true
		c.Store = &brokenStore{c.Store.(*memstore.Store), func(tenancy.Tenant) (bool, error) { return false, errLost }}
	})
	for _, slug := range []string{"acme", "globex"} {
		must[tenancy.Tenant](t)(f.nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: slug}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if n, err := f.nodes[0].RunOnce(ctx); n != 2 || !errors.Is(err, errLost) || ctx.Err() != nil {
		t.Errorf("%d, %v", n, err)
	}
	wantSteps(t, f)
}

// A node that slept in a step wakes when the tenant is purged: what it made late it removes again.
func TestWhatIsMadeTooLateIsRemoved(t *testing.T) {
	t.Parallel()
	p := &provisioner{}
	store := memstore.New()
	node := func(id string, p tenancy.Provisioner) *tenancy.Tenancy {
		tn, err := tenancy.New(tenancy.Config{Store: store, NodeID: id, Provisioner: p, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return tn
	}
	other := node("other", &provisioner{})
	p.hold = func() {
		stolen := must[tenancy.Tenant](t)(other.Lifecycle().Get(context.Background(), "acme"))
		stolen.Journal.Until = time.Now().Add(-time.Second)
		must[tenancy.Tenant](t)(store.Update(context.Background(), stolen))
		must[tenancy.Tenant](t)(other.Lifecycle().Delete(context.Background(), "acme"))
	}
	_, err := node("late", p).Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme", Slug: "acme"})
	if !errors.Is(err, tenancy.ErrLeaseLost) {
		t.Errorf("%v", err)
	}
	if want := []string{"place", "provision", "deprovision"}; !slices.Equal(p.calls, want) {
		t.Errorf("the late node's provisioner was called %v, want %v", p.calls, want)
	}
}

// A veto of tenant.config_changed keeps the value as it was.
func TestHookConfigChangedVetoes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c *tenancy.Config) {
		c.Hooks = map[tenancy.HookName][]tenancy.Hook{tenancy.HookConfigChanged: {func(_ context.Context, t tenancy.Tenant) error {
			if t.Slug == "acme" {
				return errFull
			}
			return nil
		}}}
	})
	o, ctx := f.nodes[0].Overrides(), t.Context()
	for _, slug := range []string{"acme", "globex"} {
		must[tenancy.Tenant](t)(f.nodes[0].Lifecycle().Create(ctx, tenancy.CreateTenant{ID: slug, Slug: slug}))
		if err := o.Set(ctx, slug, "theme", "dark"); errors.Is(err, errFull) != (slug == "acme") {
			t.Errorf("%s: %v", slug, err)
		}
		if _, set, err := o.Get(ctx, slug, "theme"); err != nil || set != (slug == "globex") {
			t.Errorf("%s: set %v, %v", slug, set, err)
		}
	}
}

// A step that always needs more time than its caller gives is tried later and later, and says so.
func TestStepWithoutEnoughTimeHasFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		f.failing(func(ctx context.Context, _, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.nodes[0].Lifecycle().Create(ctx, tenancy.CreateTenant{ID: "acme", Slug: "acme"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if j := f.get(t, "acme").Journal; j.Attempts != 1 || j.LastError == "" || !j.Due.After(time.Now()) || j.Owner != "" {
			t.Errorf("the journal is %+v", j)
		}
	})
}
