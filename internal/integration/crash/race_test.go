package crash_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// catalogues are the engines that keep one, with a strategy that they know.
var catalogues = []struct {
	engine   isolation.Engine
	strategy string
}{
	{isolation.EngineSQLite, tenancy.StrategyDatabase},
	{isolation.EnginePostgreSQL, tenancy.StrategySchema},
	{isolation.EngineMariaDB, tenancy.StrategySchema},
}

// plain leaves the databases of tenants alone.
func plain(cfg *tenancy.Config) {
	cfg.Provisioner, cfg.Steps, cfg.Subscribers = nil, tenancy.Steps{}, nil
}

// nodes makes this process several nodes of a world.
func (w world) nodes(t *testing.T, n int) []*site {
	t.Helper()
	all := make([]*site, n)
	for i := range all {
		s, err := w.open(&points{}, "node-"+strconv.Itoa(i), plain)
		must(t, err)
		t.Cleanup(func() { must(t, s.close()) })
		all[i] = s
	}
	return all
}

// TestNoUpdateIsLost counts a number of a tenant up from several nodes at once.
func TestNoUpdateIsLost(t *testing.T) {
	n := size(t, "TENANCY_CRASH_RACES", 300)
	for _, c := range catalogues {
		t.Run(string(c.engine), func(t *testing.T) {
			nodes := newWorld(t, c.engine, c.strategy).nodes(t, 2)
			tn, err := nodes[0].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
			must(t, err)
			var left, acknowledged, lost atomic.Int64
			left.Store(int64((n + len(catalogues) - 1) / len(catalogues)))
			var group sync.WaitGroup
			for i := range 8 {
				l := nodes[i%len(nodes)].Lifecycle()
				group.Go(func() {
					for left.Add(-1) >= 0 {
						switch err := countUp(t, l, tn.ID); {
						case err == nil:
							acknowledged.Add(1)
						case errors.Is(err, tenancy.ErrConflict):
							lost.Add(1)
						default:
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			now, err := nodes[0].Lifecycle().Get(t.Context(), tn.ID)
			must(t, err)
			if got := now.Metadata["count"]; got != strconv.FormatInt(acknowledged.Load(), 10) || now.Revision != tn.Revision+acknowledged.Load() {
				t.Errorf("the count is %s at revision %d after %d updates were acknowledged", got, now.Revision, acknowledged.Load())
			}
			t.Logf("%d updates were acknowledged, %d lost the race", acknowledged.Load(), lost.Load())
			if acknowledged.Load() == 0 || lost.Load() == 0 {
				t.Error("there was no race")
			}
		})
	}
}

// countUp reads a tenant and stores its count plus one, if nobody was faster.
func countUp(t *testing.T, l *tenancy.Lifecycle, id string) error {
	tn, err := l.Get(t.Context(), id)
	if err != nil {
		return err
	}
	count, _ := strconv.Atoi(tn.Metadata["count"]) // none is 0
	metadata := map[string]string{"count": strconv.Itoa(count + 1)}
	_, err = l.Update(t.Context(), tenancy.UpdateTenant{ID: id, Revision: tn.Revision, Metadata: &metadata})
	return err
}

// TestOneSlugOneTenant creates 100 tenants of one slug at once.
func TestOneSlugOneTenant(t *testing.T) {
	const racers = 100
	check := func(t *testing.T, w world, created, conflicts int) {
		t.Helper()
		if created != 1 || conflicts != racers-1 {
			t.Errorf("%d were created, %d were conflicts", created, conflicts)
		}
		page, err := w.nodes(t, 1)[0].Lifecycle().List(t.Context(), tenancy.ListOptions{Statuses: tenancy.Statuses()})
		if err != nil || len(page.Tenants) != 1 {
			t.Errorf("there are %d tenants, %v", len(page.Tenants), err)
		}
	}
	for _, c := range catalogues {
		t.Run(string(c.engine), func(t *testing.T) {
			w := newWorld(t, c.engine, c.strategy)
			nodes := w.nodes(t, 2)
			var created, conflicts atomic.Int64
			var group sync.WaitGroup
			for i := range racers {
				group.Go(func() {
					_, err := nodes[i%len(nodes)].Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
					conflict := (*tenancy.SlugConflictError)(nil)
					switch {
					case err == nil:
						created.Add(1)
					case errors.As(err, &conflict):
						conflicts.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			group.Wait()
			check(t, w, int(created.Load()), int(conflicts.Load()))
		})
	}
	t.Run("from several processes on postgresql", func(t *testing.T) {
		const processes = 4
		w := newWorld(t, isolation.EnginePostgreSQL, tenancy.StrategySchema)
		var children []*child
		for i := range processes {
			children = append(children, launch(t, orders{World: w, Node: strconv.Itoa(i), Slug: "acme", Racers: racers / processes}))
		}
		for _, c := range children { // all are ready
			must(t, c.stdin.Close())
		}
		var sum answer
		for _, c := range children {
			a := c.wait(t)
			sum.Created += a.Created
			sum.Conflicts += a.Conflicts
		}
		check(t, w, sum.Created, sum.Conflicts)
	})
}
