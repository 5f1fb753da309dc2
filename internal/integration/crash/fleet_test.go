package crash_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// outside is how long a new tenant waits for what is not the database's, such as a payment provider.
// Without it one node keeps the database server busy and there is nothing to see of a fleet.
const outside = time.Second

// TestFleet hands creations out to several nodes, kills nodes and starts them again, and counts in the
// database what was done.
func TestFleet(t *testing.T) {
	const few = 30 // in each fleet
	n := size(t, "TENANCY_CRASH_TENANTS", few)
	for _, nodes := range []int{1, 2, 5} {
		if nodes == 1 && n <= few {
			continue // it is there for the comparison
		}
		t.Run(strconv.Itoa(nodes)+" nodes", func(t *testing.T) {
			w := newWorld(t, isolation.EnginePostgreSQL, tenancy.StrategySchema)
			w.Work = outside
			countStored(t, w)
			before := inventory(t, []world{w})
			goals := make([]goal, n)
			if nodes == 1 {
				goals = goals[:n/3]
			}
			for i := range goals {
				goals[i] = goal{fmt.Sprintf("f%04d", i), tenancy.StatusActive}
			}
			quiet := w.createAll(t, goals[:n/3], nodes, 0)
			t.Logf("%d nodes: %.1f tenants/s", nodes, float64(n/3)/quiet.took.Seconds())
			if nodes > 1 {
				killed := w.createAll(t, goals[n/3:], nodes, max(2, n/20))
				t.Logf("%d nodes: %.1f tenants/s while %d nodes were killed", nodes, float64(n-n/3)/killed.took.Seconds(), killed.kills)
				if killed.kills == 0 {
					t.Error("no node was killed")
				}
			}
			w.checkFleet(t, before, goals)
		})
	}
}

// countStored keeps a row of every event that is ever stored, whatever becomes of it.
func countStored(t *testing.T, w world) {
	t.Helper()
	db := root(t, w)
	defer db.Close()
	_, err := db.ExecContext(t.Context(), `
		CREATE TABLE public.stored (event text NOT NULL);
		CREATE FUNCTION public.stored() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN INSERT INTO public.stored VALUES (NEW.event); RETURN NEW; END';
		CREATE TRIGGER stored AFTER INSERT ON tenancy.outbox FOR EACH ROW EXECUTE FUNCTION public.stored()`)
	must(t, err)
}

type creation struct {
	took  time.Duration
	kills int
}

// createAll returns when the nodes have created all tenants. So many times a node is killed and started
// again, if there is time for it.
func (w world) createAll(t *testing.T, goals []goal, nodes, kills int) (c creation) {
	t.Helper()
	children := make([]*child, nodes)
	ends := make(chan end)
	start := func(i int) {
		o := orders{World: w, Node: fmt.Sprintf("node-%d-%d-%d", i, c.kills, len(goals)), Start: true}
		for j := i; j < len(goals); j += nodes {
			o.Goals = append(o.Goals, goals[j])
		}
		started := launch(t, o)
		children[i] = started
		go func() {
			_, err := started.lines.Peek(1) // it says something at its end, or dies
			ends <- end{i, err == nil}
		}()
	}
	for i := range children {
		start(i)
	}
	began := time.Now()
	moment := time.NewTimer(time.Hour)
	if kills > 0 {
		moment.Reset(rand.N(500 * time.Millisecond))
	}
	finished, target := map[int]bool{}, -1
	for len(finished) < nodes {
		select {
		case e := <-ends:
			switch {
			case e.finished:
				finished[e.node] = true
			case e.node != target:
				t.Fatalf("node %d died by itself: %s", e.node, &children[e.node].errs)
			default:
				children[e.node].wait(t)
				c.kills++
				start(e.node)
			}
			if e.node == target {
				if target = -1; c.kills < kills {
					moment.Reset(300*time.Millisecond + rand.N(time.Second))
				}
			}
		case <-moment.C:
			if i := rand.N(nodes); finished[i] {
				moment.Reset(10 * time.Millisecond)
			} else {
				target = i
				children[i].kill(t)
			}
		}
	}
	c.took = time.Since(began)
	for _, child := range children {
		child.wait(t)
	}
	return c
}

// end says that a node has done everything, or died.
type end struct {
	node     int
	finished bool
}

// checkFleet fails the test unless each tenant is provisioned exactly once and no lease is held.
func (w world) checkFleet(t *testing.T, before map[string]bool, goals []goal) {
	t.Helper()
	s, err := w.open(&points{}, "check")
	must(t, err)
	defer func() { must(t, s.close()) }()
	must(t, s.Start(t.Context()))
	began := time.Now()
	eventually(t, func() error {
		page, err := s.Lifecycle().List(t.Context(), tenancy.ListOptions{Limit: 1000, Statuses: tenancy.Statuses()})
		for _, tn := range page.Tenants {
			if tn.Journal != nil || tn.Status != tenancy.StatusActive {
				err = errors.Join(err, fmt.Errorf("tenant %s is %s: %+v", tn.ID, tn.Status, tn.Journal))
			}
		}
		if err == nil && len(page.Tenants) != len(goals) {
			err = fmt.Errorf("there are %d tenants, not %d", len(page.Tenants), len(goals))
		}
		return err
	})
	if took := time.Since(began); took > lease+5*time.Second {
		t.Errorf("a lease was held for %s", took)
	}
	ended := map[string]tenancy.Status{}
	var tenants []tenancy.Tenant
	for _, g := range goals {
		tn, err := s.Lifecycle().Get(t.Context(), g.Tenant)
		must(t, err)
		if tn.Journal != nil {
			t.Errorf("tenant %s has work under way: %+v", tn.ID, *tn.Journal)
		}
		s.complete(t, tn)
		tenants = append(tenants, tn)
		ended[tn.ID] = tn.Status
	}
	eventually(t, func() error { return checkEvents(w.heard(t), ended) })
	sameThings(t, before, inventory(t, []world{w}), []world{w}, map[string][]tenancy.Tenant{w.Name: tenants})
	w.checkStored(t, goals)
}

// checkStored fails the test unless TenantProvisioned was stored once for each tenant, and nothing else.
func (w world) checkStored(t *testing.T, goals []goal) {
	t.Helper()
	db := root(t, w)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT event FROM public.stored")
	must(t, err)
	defer rows.Close()
	stored := map[string]int{}
	for rows.Next() {
		var text []byte
		var e tenancy.Event
		must(t, rows.Scan(&text))
		must(t, json.Unmarshal(text, &e))
		stored[e.TenantID]++
		if e.Type != tenancy.TenantProvisioned {
			t.Errorf("tenant %s has the event %s", e.TenantID, e.Type)
		}
	}
	must(t, rows.Err())
	for _, g := range goals {
		if stored[g.Tenant] != 1 {
			t.Errorf("%d events of tenant %s were stored", stored[g.Tenant], g.Tenant)
		}
	}
	if len(stored) != len(goals) {
		t.Errorf("events of %d tenants were stored, there are %d", len(stored), len(goals))
	}
}
