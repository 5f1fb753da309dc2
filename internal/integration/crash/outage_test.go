package crash_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenanthttp"
)

const (
	cached = 500 * time.Millisecond // the age at which a tenant or a membership is read again
	grace  = 3 * time.Second        // and how much longer it may serve when it cannot be
)

// asker is a kind of request.
type asker struct{ kind, user, tenant string }

// tally counts answers by the time, the kind of request and the status.
type tally struct {
	mu     sync.Mutex
	phase  string
	counts map[string]int
	wrong  []string
}

func (c *tally) enter(phase string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = phase
}

// count counts an answer under the phase in which the request began; one during which the phase
// changed belongs to neither.
func (c *tally) count(phase string, a asker, status int, tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tenant != "" && (tenant != a.tenant || a.kind != "known") {
		c.wrong = append(c.wrong, fmt.Sprintf("%s asked for %s and got %s", a.user, a.tenant, tenant))
	}
	if phase == c.phase {
		c.counts[fmt.Sprintf("%s, %s: %d", phase, a.kind, status)]++
	}
}

func (c *tally) now() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

// TestOutage kills the catalogue's server under load and starts it again.
func TestOutage(t *testing.T) {
	pg := servers.NewPostgres(t, servers.PostgresConfig{})
	w := world{Engine: isolation.EnginePostgreSQL, Strategy: tenancy.StrategySchema, Log: t.TempDir() + "/log"}
	w.onPostgres(t, pg)
	begun, outage := make(chan struct{}), make(chan struct{})
	s, err := w.open(&points{}, "node", func(cfg *tenancy.Config) {
		cfg.Resolution = tenancy.ResolutionConfig{
			Resolvers: []string{tenancy.ResolverHeader}, PollInterval: 100 * time.Millisecond,
			ValidatorCacheTTL: cached, MembershipCacheTTL: cached, StaleIfError: grace,
		}
		cfg.Steps.Provision = append(cfg.Steps.Provision, tenancy.Step{Name: "meanwhile", Run: func(ctx context.Context, tn *tenancy.Tenant) error {
			if tn.Slug != "pending" {
				return nil
			}
			select {
			case begun <- struct{}{}: // the first time
				<-outage
			case <-outage:
			}
			return context.Cause(ctx)
		}})
	})
	must(t, err)
	defer func() { must(t, s.close()) }()
	must(t, s.store.Migrate(t.Context()))
	_, err = s.provisioner.Setup(t.Context())
	must(t, err)
	must(t, s.Start(t.Context()))
	askers := []asker{{"unknown", "alice", ""}, {"outsider", "mallory", "acme"}, {"outsider", "alice", "globex"}}
	for user, slug := range map[string]string{"alice": "acme", "bob": "globex"} {
		tn, err := s.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: slug})
		must(t, err)
		must(t, s.store.SetMember(t.Context(), user, tn.ID, tenancy.Member{}))
		askers = append(askers, asker{"known", user, slug})
	}

	counts := &tally{phase: "before", counts: map[string]int{}}
	stop := load(s, askers, counts)
	await := func(what string, ok func() bool) {
		t.Helper()
		eventually(t, func() error {
			if !ok() {
				return errors.New(what)
			}
			return nil
		})
	}
	had := func(text string) func() bool {
		return func() bool {
			counts.mu.Lock()
			defer counts.mu.Unlock()
			return counts.counts[text] > 20
		}
	}
	await("all are served before", had("before, known: 200"))
	pending := make(chan error, 1)
	go func() {
		_, err := s.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "pending"})
		pending <- err
	}()
	<-begun

	counts.enter("going down")
	must(t, pg.Kill())
	down := time.Now()
	counts.enter("down")
	time.Sleep(grace / 2) // well within the grace
	counts.enter("grace ends")
	if took := time.Since(down); took > grace-100*time.Millisecond {
		t.Fatalf("the test was asleep for %s", took)
	}
	close(outage) // the step ends, and nobody can record it
	await("the grace ends", had("grace ends, known: 503"))
	counts.enter("coming up")
	must(t, pg.Start())
	up := time.Now()
	await("known tenants are served again", had("coming up, known: 200"))
	await("unknown names are refused again", had("coming up, unknown: 403"))
	await("outsiders are refused again", had("coming up, outsider: 403"))
	recovered := time.Since(up)
	time.Sleep(cached) // what was remembered of the outage is gone
	counts.enter("after")
	await("all is as it was", func() bool {
		return had("after, known: 200")() && had("after, unknown: 403")() && had("after, outsider: 403")()
	})
	stop()
	t.Logf("Create, which was under way, returned: %v", <-pending)
	eventually(t, func() error {
		tn, err := s.Lifecycle().Find(t.Context(), tenancy.BySlug("pending"))
		if err == nil && (tn.Status != tenancy.StatusActive || tn.Journal != nil) {
			err = fmt.Errorf("it is %s: %+v", tn.Status, tn.Journal)
		}
		return err
	})
	ended := time.Since(up)
	tn, err := s.Lifecycle().Find(t.Context(), tenancy.BySlug("pending"))
	must(t, err)
	s.complete(t, tn)

	allowed := map[string][]int{
		"before, known": {200}, "before, unknown": {403}, "before, outsider": {403},
		"down, known": {200}, "down, unknown": {503}, "down, outsider": {403, 503},
		"after, known": {200}, "after, unknown": {403}, "after, outsider": {403},
	}
	for _, text := range slices.Sorted(maps.Keys(counts.counts)) {
		t.Logf("%-28s %6d", text, counts.counts[text])
		when, status, _ := strings.Cut(text, ": ")
		if fine, judged := allowed[when]; judged && !slices.ContainsFunc(fine, func(s int) bool { return fmt.Sprint(s) == status }) {
			t.Errorf("%s: %d times", text, counts.counts[text])
		}
	}
	for when := range allowed {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(counts.counts)), func(text string) bool { return strings.HasPrefix(text, when+": ") }) {
			t.Errorf("nobody asked: %s", when)
		}
	}
	for _, wrong := range counts.wrong {
		t.Errorf("the wrong tenant: %s", wrong)
	}
	t.Logf("requests were as before %s after the server was up, the creation was done after %s",
		recovered.Round(time.Millisecond), ended.Round(time.Millisecond))
}

// load asks until stop is called.
func load(s *site, askers []asker, counts *tally) (stop func()) {
	handler := tenanthttp.Middleware(s.Tenancy, tenanthttp.Config{Identity: func(r *http.Request) (tenancy.Identity, error) {
		return tenancy.Identity{UserID: r.Header.Get("User")}, nil
	}})(tenanthttp.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		binding, _ := tenancy.FromContext(r.Context())
		w.Header().Set("Tenant", binding.Tenant.Slug)
	})))
	var group sync.WaitGroup
	var stopped atomic.Bool
	for _, a := range askers {
		group.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				name := a.tenant
				if name == "" {
					name = fmt.Sprintf("nobody-%d", i) // no answer is remembered
				}
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("User", a.user)
				r.Header.Set("X-Tenant-Id", name)
				phase, answer := counts.now(), httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				counts.count(phase, a, answer.Code, answer.Header().Get("Tenant"))
				time.Sleep(time.Millisecond) // the machine has others
			}
		})
	}
	return func() {
		stopped.Store(true)
		group.Wait()
	}
}
