package river_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

// blocking is a step that says when it runs and does not end before its context or release does. It
// counts how often it ran.
type blocking struct {
	running chan struct{}
	release chan struct{}
	runs    atomic.Int32
}

func newBlocking() *blocking {
	return &blocking{running: make(chan struct{}, 100), release: make(chan struct{})}
}

func (b *blocking) steps(*node) []tenancy.Step {
	return []tenancy.Step{{Name: "block", Run: func(ctx context.Context, _ *tenancy.Tenant) error {
		b.runs.Add(1)
		b.running <- struct{}{}
		select {
		case <-b.release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}}
}

func TestNodesProvisionEachTenantOnce(t *testing.T) {
	const tenants = 200
	for _, nodes := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			w := newWorld(t)
			// Half are enqueued at once, half are found.
			creator := w.open(t, nodeConfig{name: "creator", steps: effect("creator")})
			creator.enqueue(t, creator.create(t, tenants)[:tenants/2]...)
			begun := time.Now()
			for i := range nodes {
				name := fmt.Sprintf("node-%d", i)
				w.start(t, nodeConfig{name: name, steps: effect(name)})
			}
			w.await(t, 90*time.Second, tenants, active)
			took := time.Since(begun)
			t.Logf("%d nodes: %d tenants in %s, %.0f a second", nodes, tenants, took.Round(time.Millisecond), tenants/took.Seconds())
			if rows, each := w.count(t, "SELECT count(*) FROM effects"), w.count(t, "SELECT count(DISTINCT tenant) FROM effects"); rows != tenants || each != tenants {
				t.Errorf("the step left %d effects on %d tenants, want one on each of %d", rows, each, tenants)
			}
			if n := w.count(t, "SELECT count(*) FROM tenancy.outbox WHERE event LIKE '%TenantProvisioned%'"); n != tenants {
				t.Errorf("%d tenants were told to be provisioned, want %d", n, tenants)
			}
			if n := w.count(t, "SELECT count(DISTINCT node) FROM effects"); n != nodes {
				t.Errorf("%d nodes did the work, want %d", n, nodes)
			}
			w.await(t, 10*time.Second, 0, "SELECT count(*) FROM river_job WHERE kind = 'tenancy_tenant' AND state <> 'completed'")
		})
	}
}

func TestEnqueuedTenantsDoNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start(t, nodeConfig{name: "node", interval: time.Hour, steps: effect("node")})
	// The periodic job runs at the start, and then not for an hour.
	w.await(t, 20*time.Second, 1, "SELECT count(*) FROM river_job WHERE kind = 'tenancy_due' AND state = 'completed'")
	n.enqueue(t, n.create(t, 3)...)
	w.await(t, 20*time.Second, 3, active)
}

func TestJobsOfATenantDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(t, nodeConfig{name: "idle", lease: time.Hour, steps: effect("idle")})
	ids := n.create(t, 2)
	for range 5 {
		n.enqueue(t, ids...)
	}
	// An hour may have ended in between.
	if jobs := w.count(t, "SELECT count(*) FROM river_job"); jobs < 2 || jobs > 4 {
		t.Errorf("%d jobs wait for two tenants", jobs)
	}
}

func TestAFailedStepIsRepeatedWhenTheJournalSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ran []time.Time
	n := w.start(t, nodeConfig{name: "node", lease: time.Hour, steps: func(*node) []tenancy.Step {
		return []tenancy.Step{{Name: "flaky", Run: func(context.Context, *tenancy.Tenant) error {
			if ran = append(ran, time.Now()); len(ran) <= 2 {
				return fmt.Errorf("failure %d", len(ran))
			}
			return nil
		}}}
	}})
	n.enqueue(t, n.create(t, 1)...)
	w.await(t, 25*time.Second, 1, active)
	if len(ran) != 3 {
		t.Fatalf("the step ran %d times, want 3", len(ran))
	}
	// The journal waits for 1 s and 2 s, a fifth more or less.
	for i, least := range []time.Duration{800 * time.Millisecond, 1600 * time.Millisecond} {
		if waited := ran[i+1].Sub(ran[i]); waited < least {
			t.Errorf("after failure %d the step was repeated after %s, want %s or more", i+1, waited, least)
		}
	}
	if failed := w.count(t, "SELECT count(*) FROM river_job WHERE kind = 'tenancy_tenant' AND state = 'discarded' AND errors[1]->>'error' LIKE '%failure%'"); failed != 2 {
		t.Errorf("River shows %d failures, want 2: a job must not be repeated by River\n%s", failed, w.state(t))
	}
}

func TestRiversTimeoutDoesNotEndAStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBlocking()
	n := w.start(t, nodeConfig{name: "node", timeout: 300 * time.Millisecond, steps: b.steps})
	n.enqueue(t, n.create(t, 1)...)
	<-b.running
	select {
	case <-b.running:
	case <-time.After(1500 * time.Millisecond):
	}
	close(b.release)
	w.await(t, 20*time.Second, 1, active)
	if runs := b.runs.Load(); runs != 1 {
		t.Errorf("the step ran %d times, want once: River ended it", runs)
	}
}

// TestEveryWorkIsAJob: tenants are archived, purged when their grace is over, and given up by jobs, too.
func TestEveryWorkIsAJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	done := map[string][]string{} // by tenant
	step := func(name string, fails bool) []tenancy.Step {
		return []tenancy.Step{{Name: name, Run: func(_ context.Context, tenant *tenancy.Tenant) error {
			if fails && tenant.Slug == "tenant-1" {
				return errors.New("the payment provider refuses")
			}
			mu.Lock()
			defer mu.Unlock()
			done[tenant.Slug] = append(done[tenant.Slug], name)
			return nil
		}}}
	}
	n := w.start(t, nodeConfig{name: "node", interval: time.Second, change: func(c *tenancy.Config) {
		c.Steps = tenancy.Steps{Provision: step("provision", true), Archive: step("archive", false), Purge: step("purge", false)}
		c.Lifecycle.ArchiveGrace, c.Lifecycle.AutoPurge = time.Second, true
		c.Lifecycle.GiveUpAfter = time.Nanosecond
	}})
	ids := n.create(t, 2)
	w.await(t, 25*time.Second, 1, active)
	l := n.tn.Lifecycle()
	if _, err := l.Deactivate(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Archive(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	w.await(t, 25*time.Second, 2, "SELECT count(*) FROM tenancy.tenants WHERE status = 'purged' AND due IS NULL")
	mu.Lock()
	defer mu.Unlock()
	if want := map[string][]string{"tenant-0": {"provision", "archive", "purge"}, "tenant-1": {"purge"}}; !maps.EqualFunc(done, want, slices.Equal) {
		t.Errorf("the steps are %v, want %v", done, want)
	}
}

func TestAStopGivesTheLeaseBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBlocking()
	first := w.start(t, nodeConfig{name: "first", steps: b.steps})
	id := first.create(t, 1)[0]
	first.enqueue(t, id)
	<-b.running
	if err := first.client.StopAndCancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant, err := first.tn.Lifecycle().Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if j := tenant.Journal; j == nil || j.Owner != "" || j.Attempts != 0 || j.LastError != "" || j.Due.After(time.Now()) {
		t.Fatalf("after the stop the journal is %+v, want a work that is free, due, and has not failed", j)
	}
	close(b.release)
	w.start(t, nodeConfig{name: "second", steps: b.steps})
	w.await(t, 20*time.Second, 1, active) // the lease is 30 s
}

func TestASoftStopWaitsForTheStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := newBlocking()
	n := w.start(t, nodeConfig{name: "node", steps: b.steps})
	n.enqueue(t, n.create(t, 1)...)
	<-b.running
	stopped := make(chan error, 1)
	go func() { stopped <- n.client.Stop(context.Background()) }()
	select {
	case err := <-stopped:
		t.Fatalf("the client stopped in a step: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(b.release)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, active); n != 1 || b.runs.Load() != 1 {
		t.Errorf("after the stop %d tenants are active, the step ran %d times; want 1 and 1", n, b.runs.Load())
	}
}

// A node that dies after River gave it a job and before it has the tenant's lease leaves jobs that run
// for River's eyes; River gives them up after an hour, or later.
func TestJobsOfADeadNodeAreInNobodysWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dead := w.open(t, nodeConfig{name: "dead", lease: 3 * time.Second, steps: effect("dead")})
	ids := dead.create(t, 2)
	dead.enqueue(t, ids...)
	w.exec(t, "UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{dead}'")
	// So does the job that asks what is due: the key is the same as for the next one's.
	first := w.open(t, nodeConfig{name: "first", lease: 3 * time.Second, steps: effect("first")})
	if err := first.client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await(t, 20*time.Second, 2, active)
	if err := first.client.StopAndCancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(t, "UPDATE river_job SET state = 'running', finalized_at = NULL WHERE id = (SELECT max(id) FROM river_job WHERE kind = 'tenancy_due')")
	if _, err := first.tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "third", Name: "Third"}); err != nil {
		t.Fatal(err)
	}
	w.start(t, nodeConfig{name: "second", lease: 3 * time.Second, steps: effect("second")})
	w.await(t, 20*time.Second, 3, active)
	if n := w.count(t, "SELECT count(*) FROM effects"); n != 3 {
		t.Errorf("the step ran %d times, want 3", n)
	}
}

func TestAnUnknownTenantIsAFailedJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start(t, nodeConfig{name: "node"})
	n.enqueue(t, "nobody")
	w.await(t, 20*time.Second, 1, "SELECT count(*) FROM river_job WHERE kind = 'tenancy_tenant' AND state = 'discarded'")
	if err := n.tn.RunTenant(t.Context(), "nobody"); !errors.Is(err, tenancy.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
