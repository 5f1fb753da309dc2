package demo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

// soakTime is how long the soak test runs on each backend.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("TENANCY_SOAK")
	if text == "" {
		return 5 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("TENANCY_SOAK: %v", err)
	}
	return d
}

const (
	soakWorkers = 64 // for each tenant
	soakPage    = 20
)

// TestSoak lets many clients of three tenants read and write at once, over connections that
// they share. Whatever anybody reads must be the tenant's own, and in the end there must be
// exactly the notes whose writing was acknowledged.
//
// The test is not parallel to others, and nor are its parts: it is also a measurement.
func TestSoak(t *testing.T) {
	tenants := []string{"acme", "globex", "initech"}
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			s := start(t, b.open(t))
			initech, err := s.Tenancy().Lifecycle().Find(t.Context(), tenancy.BySlug("initech"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Tenancy().Lifecycle().Activate(t.Context(), initech.ID); err != nil {
				t.Fatal(err)
			}
			duration := soakTime(t)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), duration)
			defer cancel()

			var counts counters
			workers := map[string][]*worker{}
			var group sync.WaitGroup
			for _, tenant := range tenants {
				group.Go(func() { s.eavesdrop(ctx, t, tenant, &counts) })
				for i := range soakWorkers {
					w := &worker{s: s, t: t, tenant: tenant, number: i, counts: &counts, notes: map[string]string{}}
					workers[tenant] = append(workers[tenant], w)
				}
			}
			for _, tenant := range tenants {
				for _, w := range workers[tenant] {
					w.others = slices.Concat(workers["acme"][:4], workers["globex"][:4], workers["initech"][:4])
					group.Go(func() { w.run(ctx) })
				}
			}
			group.Wait()
			elapsed := time.Since(began)

			for _, tenant := range tenants {
				want := map[string]string{}
				for _, w := range workers[tenant] {
					maps.Copy(want, w.notes)
				}
				got := map[string]string{}
				for _, n := range s.allNotes(t, tenant) {
					got[n.ID] = n.Text
				}
				lost, extra := 0, 0
				for id, text := range want {
					if got[id] != text {
						lost++
						t.Logf("%s: note %s is %q, want %q", tenant, id, got[id], text)
					}
				}
				for id, text := range got {
					if _, ok := want[id]; !ok {
						extra++
						t.Logf("%s: note %s %q was not written by anybody", tenant, id, text)
					}
				}
				if lost > 0 || extra > 0 {
					t.Errorf("%s: %d notes lost or changed, %d that nobody wrote, of %d", tenant, lost, extra, len(want))
				}
				counts.kept.Add(int64(len(want)))
			}
			counts.report(t, elapsed)
		})
	}
}

type counters struct {
	created, read, listed, changed, deleted, refused, heard, kept, slowest atomic.Int64
}

func (c *counters) report(t *testing.T, elapsed time.Duration) {
	operations := c.created.Load() + c.read.Load() + c.listed.Load() + c.changed.Load() + c.deleted.Load() + c.refused.Load()
	t.Logf("%d operations in %s, %.0f/s: %d created, %d read, %d pages listed, %d changed, %d deleted, "+
		"%d refused as foreign; %d heard live; %d notes kept; slowest answer %s",
		operations, elapsed.Round(time.Millisecond), float64(operations)/elapsed.Seconds(), c.created.Load(), c.read.Load(), c.listed.Load(),
		c.changed.Load(), c.deleted.Load(), c.refused.Load(), c.heard.Load(), c.kept.Load(), time.Duration(c.slowest.Load()).Round(time.Millisecond))
	if operations == 0 || c.created.Load() == 0 || c.refused.Load() == 0 || c.heard.Load() == 0 {
		t.Error("the test did not do its work")
	}
}

// worker is one client of one tenant. Its notes are its own, so that it knows what is in them.
type worker struct {
	s      *site
	t      *testing.T
	tenant string
	number int
	counts *counters
	others []*worker

	notes  map[string]string // by id; what was acknowledged
	recent atomic.Value      // string; an id for others to try
	serial int
}

func (w *worker) run(ctx context.Context) {
	random := rand.New(rand.NewPCG(uint64(w.number), uint64(len(w.tenant))))
	ids := []string{}
	for ctx.Err() == nil {
		pick := ""
		if len(ids) > 0 {
			pick = ids[random.IntN(len(ids))]
		}
		var err error
		switch n := random.IntN(100); {
		case n < 35 || pick == "":
			var id string
			if id, err = w.create(random); id != "" {
				ids = append(ids, id)
			}
		case n < 60:
			err = w.read(random, pick)
		case n < 75:
			err = w.list(random, pick)
		case n < 87:
			err = w.change(random, pick)
		case n < 92:
			if err = w.delete(random, pick); err == nil {
				ids = slices.DeleteFunc(ids, func(id string) bool { return id == pick })
			}
		default:
			err = w.trespass(random)
		}
		if err != nil {
			w.t.Errorf("%s, worker %d: %v", w.tenant, w.number, err)
			return
		}
	}
}

// send sends one request, naming the tenant in one way or another. It is not bound to the end
// of the test: an answer that nobody waits for says nothing about what was done.
func (w *worker) send(random *rand.Rand, c call, status int) (answer, error) {
	resolver := resolvers[random.IntN(len(resolvers))]
	user := map[string]string{"acme": "carol", "globex": "carol", "initech": "dave"}[w.tenant]
	began := time.Now()
	a, err := w.s.send(context.WithoutCancel(w.t.Context()), w.s.naming(w.t, resolver, user, w.tenant, c))
	took := int64(time.Since(began))
	for old := w.counts.slowest.Load(); took > old && !w.counts.slowest.CompareAndSwap(old, took); {
		old = w.counts.slowest.Load()
	}
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s by %s: status %d, want %d: %s", c.method, c.path, resolver, a.status, status, a.body)
	}
	return a, err
}

func (w *worker) text() (text, body string) {
	w.serial++
	text = fmt.Sprintf("%s/%d/%d", w.tenant, w.number, w.serial)
	return text, `{"text":"` + text + `"}`
}

func (w *worker) create(random *rand.Rand) (string, error) {
	text, body := w.text()
	a, err := w.send(random, call{method: "POST", path: "/notes", body: body}, http.StatusCreated)
	if err != nil {
		return "", err
	}
	var n note
	if err := json.Unmarshal([]byte(a.body), &n); err != nil || n.Text != text {
		return "", fmt.Errorf("created %s: %w", a.body, err)
	}
	w.notes[n.ID] = text
	w.recent.Store(n.ID)
	w.counts.created.Add(1)
	return n.ID, nil
}

func (w *worker) read(random *rand.Rand, id string) error {
	a, err := w.send(random, call{method: "GET", path: "/notes/" + id}, http.StatusOK)
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal([]byte(a.body), &n); err != nil || n != (note{id, w.notes[id]}) {
		return fmt.Errorf("read %s, want %q: %w", a.body, w.notes[id], err)
	}
	w.counts.read.Add(1)
	return nil
}

// list reads a page from somewhere in the middle: all of it must be the tenant's.
func (w *worker) list(random *rand.Rand, after string) error {
	a, err := w.send(random, call{method: "GET", path: fmt.Sprintf("/notes?limit=%d&after=%s", soakPage, after)}, http.StatusOK)
	if err != nil {
		return err
	}
	var page []note
	if err := json.Unmarshal([]byte(a.body), &page); err != nil {
		return err
	}
	for _, n := range page {
		if !strings.HasPrefix(n.Text, w.tenant+"/") {
			return fmt.Errorf("FOREIGN ROW: listed %+v", n)
		}
	}
	w.counts.listed.Add(1)
	return nil
}

func (w *worker) change(random *rand.Rand, id string) error {
	text, body := w.text()
	if _, err := w.send(random, call{method: "PUT", path: "/notes/" + id, body: body}, http.StatusOK); err != nil {
		return err
	}
	w.notes[id] = text
	w.counts.changed.Add(1)
	return nil
}

func (w *worker) delete(random *rand.Rand, id string) error {
	if _, err := w.send(random, call{method: "DELETE", path: "/notes/" + id}, http.StatusNoContent); err != nil {
		return err
	}
	delete(w.notes, id)
	w.counts.deleted.Add(1)
	return nil
}

// trespass tries another tenant's note.
func (w *worker) trespass(random *rand.Rand) error {
	other := w.others[random.IntN(len(w.others))]
	id, _ := other.recent.Load().(string)
	if other.tenant == w.tenant || id == "" {
		return nil
	}
	c := call{method: []string{"GET", "PUT", "DELETE"}[random.IntN(3)], path: "/notes/" + id}
	if c.method == "PUT" {
		c.body = `{"text":"` + w.tenant + ` was here"}`
	}
	if _, err := w.send(random, c, http.StatusNotFound); err != nil {
		return fmt.Errorf("FOREIGN ROW: %w", err)
	}
	w.counts.refused.Add(1)
	return nil
}

// eavesdrop listens until ctx ends, and comes back when it was too slow.
func (s *site) eavesdrop(ctx context.Context, t *testing.T, tenant string, counts *counters) {
	user := map[string]string{"acme": "alice", "globex": "bob", "initech": "dave"}[tenant]
	for ctx.Err() == nil {
		conn, _, err := s.listen(ctx, s.as(t, user, tenant, call{path: "/live"}))
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("listen as %s: %v", tenant, err)
			}
			return
		}
		for {
			_, message, err := conn.Read(ctx)
			if err != nil {
				break
			}
			var n note
			if err := json.Unmarshal(message, &n); err != nil || !strings.HasPrefix(n.Text, tenant+"/") {
				t.Errorf("FOREIGN NOTE: %s hears %s: %v", tenant, message, err)
			}
			counts.heard.Add(1)
		}
		_ = conn.CloseNow()
	}
}

func (s *site) allNotes(t *testing.T, tenant string) []note {
	t.Helper()
	user := map[string]string{"acme": "alice", "globex": "bob", "initech": "dave"}[tenant]
	var all []note
	for path := "/notes?limit=1000"; path != ""; {
		page := s.do(t, s.as(t, user, tenant, call{path: path})).want(t, http.StatusOK)
		all = append(all, decode[[]note](t, page)...)
		path, _, _ = strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), ">")
	}
	return all
}
