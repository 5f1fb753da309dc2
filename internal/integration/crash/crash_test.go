package crash_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// kills is how many processes each test kills at least, all worlds together.
func kills(t *testing.T) (n int, full bool) {
	t.Helper()
	return size(t, "TENANCY_CRASH", 42), os.Getenv("TENANCY_CRASH") != ""
}

// size returns the number in a variable, or that of an ordinary run.
func size(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: give a number", variable, text)
	}
	return n
}

var matrix = []struct {
	engine   isolation.Engine
	strategy string
}{
	{isolation.EngineSQLite, tenancy.StrategyDatabase},
	{isolation.EngineSQLite, tenancy.StrategyRowLevel},
	{isolation.EnginePostgreSQL, tenancy.StrategyRowLevel},
	{isolation.EnginePostgreSQL, tenancy.StrategySchema},
	{isolation.EnginePostgreSQL, tenancy.StrategyDatabase},
	{isolation.EngineMariaDB, tenancy.StrategyRowLevel},
	{isolation.EngineMariaDB, tenancy.StrategySchema},
	{isolation.EngineMariaDB, tenancy.StrategyDatabase},
}

// victims is a world and what was done to it.
type victims struct {
	world
	goals []goal
	kills int
}

// next returns a goal for one more tenant: of six, two stay active, and one is given up half-way.
func (v *victims) next() goal {
	switch len(v.goals) % 6 {
	case 2, 5:
		return v.add(kept, tenancy.StatusActive)
	case 3:
		return v.add(givenUp, tenancy.StatusPurged)
	default:
		return v.add(kept, tenancy.StatusPurged)
	}
}

func (v *victims) add(kind string, status tenancy.Status) goal {
	g := goal{fmt.Sprintf("%s%04d", kind, len(v.goals)), status}
	v.goals = append(v.goals, g)
	return g
}

// TestKill kills nodes that create, archive and purge tenants, at every boundary and at random moments,
// and lets another node go on.
func TestKill(t *testing.T) {
	n, full := kills(t)
	var all []*victims
	var worlds []world
	for _, m := range matrix {
		w := newWorld(t, m.engine, m.strategy)
		worlds = append(worlds, w)
		all = append(all, &victims{world: w})
	}
	before := inventory(t, worlds)
	for _, v := range all {
		t.Run("kill "+v.Name, func(t *testing.T) {
			want := (n + len(all) - 1) / len(all)
			v.atBoundaries(t, kept, want/2, full)
			v.atBoundaries(t, givenUp, max(1, want/6), full)
			if v.Engine != isolation.EngineSQLite {
				v.onTheWire(t, max(want/6, (want-v.kills)/2))
			}
			v.atRandom(t, max(want/6, want-v.kills, 1))
		})
	}
	if t.Failed() {
		return
	}
	alive := map[string][]tenancy.Tenant{}
	sum := 0
	for _, v := range all {
		sum += v.kills
		if !t.Run("recover "+v.Name, func(t *testing.T) { alive[v.Name] = v.recover(t) }) {
			return
		}
	}
	sameThings(t, before, inventory(t, worlds), worlds, alive)
	t.Logf("%d processes were killed", sum)
	if sum < n {
		t.Errorf("only %d processes were killed, not %d", sum, n)
	}
}

// atBoundaries kills a node, on a tenant's way to its end, before and after each step and each write of
// the catalogue; some of them unless full.
func (v *victims) atBoundaries(t *testing.T, kind string, some int, full bool) {
	t.Helper()
	dry := launch(t, orders{World: v.world, Node: "dry-" + kind, Goals: []goal{v.add(kind, tenancy.StatusPurged)}}).wait(t)
	boundaries := len(dry.Boundaries)
	if boundaries < 20 {
		t.Fatalf("only %d boundaries: %q", boundaries, dry.Boundaries)
	}
	for _, step := range []string{"place", "migrate", "seed", "manifest", "export", "remove"} {
		if name := "after the step " + step; !slices.Contains(dry.Boundaries, name) {
			t.Fatalf("no boundary is %q: %q", name, dry.Boundaries)
		}
	}
	if full {
		some = boundaries
	}
	killed, first := 0, rand.N(boundaries) // which ones differ from run to run
	for i := range some {
		at := (first+i*boundaries/some)%boundaries + 1
		g := v.add(kind, tenancy.StatusPurged)
		c := launch(t, orders{World: v.world, Node: fmt.Sprintf("boundary-%s-%d", kind, at), At: at, Goals: []goal{g}})
		if c.wait(t); c.killed {
			killed++
		} else {
			t.Logf("tenant %s was done before boundary %d (%s)", g.Tenant, at, dry.Boundaries[at-1])
		}
	}
	v.kills += killed
	t.Logf("%d boundaries of a tenant %q, killed at %d of them", boundaries, kind, killed)
}

// onTheWire kills a node before or after something that it sends to the server.
func (v *victims) onTheWire(t *testing.T, times int) {
	t.Helper()
	g := v.next()
	pieces := len(launch(t, orders{World: v.world, Node: "wire", Wire: true, Goals: []goal{g}}).wait(t).Boundaries)
	for range times {
		g := v.next()
		g.Status = tenancy.StatusPurged
		c := launch(t, orders{World: v.world, Node: "wire-" + g.Tenant, Wire: true, At: 1 + rand.N(pieces), Goals: []goal{g}})
		if c.wait(t); c.killed {
			v.kills++
		}
	}
	t.Logf("%d pieces sent for one tenant", pieces)
}

// atRandom kills nodes that work on several tenants, by calls and by what is due, at random moments.
func (v *victims) atRandom(t *testing.T, times int) {
	t.Helper()
	var goals []goal
	for killed := 0; killed < times; {
		for range callers {
			goals = append(goals, v.next())
		}
		c := launch(t, orders{World: v.world, Node: fmt.Sprintf("random-%d-%d", killed, len(goals)), Start: true, Goals: goals})
		time.Sleep(rand.N(400 * time.Millisecond))
		c.kill(t)
		if c.wait(t); c.killed {
			v.kills++
			killed++
		}
	}
}

// recover lets one more node do what is due, brings every tenant to its goal, and checks the ends. It
// returns the tenants that live.
func (v *victims) recover(t *testing.T) (alive []tenancy.Tenant) {
	s, err := v.open(&points{}, "recovery")
	must(t, err)
	defer func() { must(t, s.close()) }()
	began := time.Now()
	tenants := v.runOnce(t, s)
	took := time.Since(began)
	for _, tn := range tenants {
		switch tn.Status {
		case tenancy.StatusActive, tenancy.StatusInactive, tenancy.StatusArchived:
			s.complete(t, tn)
		case tenancy.StatusPurged:
			s.gone(t, tn.ID)
		default:
			if !refused(tn.ID) {
				t.Errorf("tenant %s is %s", tn.ID, tn.Status)
			}
		}
	}
	ended := map[string]tenancy.Status{}
	for _, g := range v.goals {
		tn, known := tenants[g.Tenant]
		if !known {
			continue // killed before it was stored
		}
		if tn.Status != tenancy.StatusActive {
			g.Status = tenancy.StatusPurged
		}
		must(t, s.bring(t.Context(), g))
		ended[g.Tenant] = g.Status
	}
	must(t, s.Start(t.Context())) // delivers what is left
	eventually(t, func() error { return checkEvents(v.heard(t), ended) })
	for id, status := range ended {
		tn, err := s.Lifecycle().Get(t.Context(), id)
		must(t, err)
		if tn.Status != status || tn.Journal != nil {
			t.Errorf("tenant %s is %s with journal %+v", id, tn.Status, tn.Journal)
		}
		if status == tenancy.StatusActive {
			s.complete(t, tn)
			alive = append(alive, tn)
		} else {
			s.gone(t, id)
		}
	}
	t.Logf("%d killed, %d of %d tenants were stored, %d live; what was left was done in %s",
		v.kills, len(tenants), len(v.goals), len(alive), took.Round(time.Millisecond))
	return alive
}

// runOnce does what is due until no tenant has work under way but what is refused, and returns the
// tenants.
func (v *victims) runOnce(t *testing.T, s *site) map[string]tenancy.Tenant {
	t.Helper()
	var tenants map[string]tenancy.Tenant
	eventually(t, func() error {
		_, err := s.RunOnce(t.Context())
		if errors.Is(err, errRefused) {
			err = nil
		}
		tenants = map[string]tenancy.Tenant{}
		for _, g := range v.goals {
			tn, getErr := s.Lifecycle().Get(t.Context(), g.Tenant)
			if errors.Is(getErr, tenancy.ErrNotFound) {
				continue
			}
			must(t, getErr)
			tenants[tn.ID] = tn
			if tn.Journal != nil && tn.Journal.LastError == "" {
				err = errors.Join(err, fmt.Errorf("tenant %s has work under way: %+v", tn.ID, *tn.Journal))
			}
		}
		return err
	})
	return tenants
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
