package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// provisioner records its calls and fails when told to.
type provisioner struct {
	mu    sync.Mutex
	calls []string
	err   error
	hold  func()
}

func (p *provisioner) Place(_ context.Context, t tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{Strategy: t.Placement.Strategy, Database: "db-" + t.ID}, p.note("place")
}

func (p *provisioner) Provision(_ context.Context, t tenancy.Tenant) (tenancy.Placement, error) {
	if p.hold != nil {
		p.hold()
	}
	t.Placement.SchemaVersion = 7
	return t.Placement, p.note("provision")
}

func (p *provisioner) Deprovision(context.Context, tenancy.Tenant) error {
	return p.note("deprovision")
}

func (p *provisioner) note(call string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
	if call == "place" {
		return nil
	}
	return p.err
}

// newLifecycle returns a tenancy over memory and the types of the events it told.
func newLifecycle(t testing.TB, p tenancy.Provisioner, change func(*tenancy.Config)) (*tenancy.Tenancy, func() []tenancy.EventType) {
	t.Helper()
	var mu sync.Mutex
	var types []tenancy.EventType
	cfg := tenancy.Config{
		Store: memstore.New(), Provisioner: p, Logger: slog.New(slog.DiscardHandler),
		Subscribers: []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
			mu.Lock()
			defer mu.Unlock()
			types = append(types, e.Type)
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
	return tn, func() []tenancy.EventType {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(types)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestTransitionTable(t *testing.T) {
	t.Parallel()
	allowed := map[tenancy.Status][]tenancy.Status{
		tenancy.StatusProvisioning: {tenancy.StatusActive, tenancy.StatusPurged},
		tenancy.StatusActive:       {tenancy.StatusSuspended, tenancy.StatusInactive},
		tenancy.StatusSuspended:    {tenancy.StatusActive, tenancy.StatusInactive},
		tenancy.StatusInactive:     {tenancy.StatusActive, tenancy.StatusArchived},
		tenancy.StatusArchived:     {tenancy.StatusInactive, tenancy.StatusPurged},
	}
	for _, from := range append(tenancy.Statuses(), "") {
		for _, to := range append(tenancy.Statuses(), "") {
			if got := from.CanBecome(to); got != slices.Contains(allowed[from], to) {
				t.Errorf("%q to %q: %v", from, to, got)
			}
		}
	}
}

func TestTenantLivesThroughItsStates(t *testing.T) {
	t.Parallel()
	p := &provisioner{}
	tn, events := newLifecycle(t, p, func(c *tenancy.Config) { c.Lifecycle.ArchiveGrace = -1 })
	l, ctx, check := tn.Lifecycle(), t.Context(), must[tenancy.Tenant](t)
	acme := check(l.Create(ctx, tenancy.CreateTenant{Slug: "acme", Name: " ACME Corp ", Aliases: []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}}))
	if acme.Slug != "acme" || acme.Name != "ACME Corp" || acme.Status != tenancy.StatusActive || len(acme.ID) != 36 ||
		acme.Placement.Database != "db-"+acme.ID || acme.Placement.SchemaVersion != 7 || acme.Placement.Strategy != "row_level" {
		t.Fatalf("%+v", acme)
	}
	for _, ref := range acme.Names() {
		if got := check(l.Find(ctx, ref)); got.ID != acme.ID {
			t.Errorf("%s finds %s", ref, got.ID)
		}
	}
	if got := check(l.Suspend(ctx, acme.ID, "unpaid")); got.StatusReason != "unpaid" {
		t.Errorf("%+v", got)
	}
	check(l.Activate(ctx, acme.ID))
	slug := "Apex"
	check(l.Update(ctx, tenancy.UpdateTenant{ID: acme.ID, Slug: &slug}))
	check(l.Deactivate(ctx, acme.ID))
	gone := check(l.Delete(ctx, acme.ID))
	if gone.Status != tenancy.StatusPurged || gone.Slug != "apex" {
		t.Errorf("%+v", gone)
	}
	if want := []string{"place", "provision", "deprovision"}; !slices.Equal(p.calls, want) {
		t.Errorf("the provisioner was called %v", p.calls)
	}
	want := []tenancy.EventType{
		tenancy.TenantProvisioned, tenancy.TenantSuspended, tenancy.TenantActivated, tenancy.TenantUpdated,
		tenancy.TenantDeactivated, tenancy.TenantArchived, tenancy.TenantPurged,
	}
	if got := events(); !slices.Equal(got, want) {
		t.Errorf("the events are %v", got)
	}
	// Nobody gets the deleted tenant's name, and with it what was meant for it.
	var taken *tenancy.SlugConflictError
	if _, err := l.Create(ctx, tenancy.CreateTenant{Slug: "apex"}); !errors.As(err, &taken) {
		t.Errorf("the name of a deleted tenant: %v", err)
	}
}

func TestForbiddenTransitionsChangeNothing(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, &provisioner{}, nil)
	l, ctx := tn.Lifecycle(), t.Context()
	acme := must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{Slug: "acme"}))
	for name, try := range map[string]func() (tenancy.Tenant, error){
		"activate": func() (tenancy.Tenant, error) { return l.Activate(ctx, acme.ID) },
		"delete":   func() (tenancy.Tenant, error) { return l.Delete(ctx, acme.ID) },
	} {
		var transition *tenancy.TransitionError
		if _, err := try(); !errors.As(err, &transition) || transition.From != tenancy.StatusActive {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Suspend(ctx, acme.ID, " "); !errors.Is(err, tenancy.ErrReasonRequired) {
		t.Errorf("suspend without a reason: %v", err)
	}
	if _, err := l.Suspend(ctx, "nobody", "x"); !errors.Is(err, tenancy.ErrNotFound) {
		t.Errorf("an unknown tenant: %v", err)
	}
	if got := must[tenancy.Tenant](t)(l.Get(ctx, acme.ID)); got.Revision != acme.Revision {
		t.Errorf("revision %d became %d", acme.Revision, got.Revision)
	}
}

// TestEveryCallFromEveryState: what the table of transitions does not allow is a TransitionError and
// changes nothing.
func TestEveryCallFromEveryState(t *testing.T) {
	t.Parallel()
	const (
		active, suspended, inactive = tenancy.StatusActive, tenancy.StatusSuspended, tenancy.StatusInactive
		archived, purged            = tenancy.StatusArchived, tenancy.StatusPurged
		provisioning                = tenancy.StatusProvisioning
	)
	for name, call := range map[string]struct {
		do   func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error)
		from map[tenancy.Status]tenancy.Status // where it is allowed, and what comes of it
	}{
		"Activate": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Activate(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{suspended: active, inactive: active},
		},
		"Suspend": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) {
				return l.Suspend(ctx, "t1", "unpaid")
			},
			map[tenancy.Status]tenancy.Status{active: suspended},
		},
		"Deactivate": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) {
				return l.Deactivate(ctx, "t1")
			},
			map[tenancy.Status]tenancy.Status{active: inactive, suspended: inactive, archived: inactive},
		},
		"Archive": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Archive(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{inactive: archived, archived: archived},
		},
		"Unarchive": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Unarchive(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{archived: inactive},
		},
		"Purge": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Purge(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{provisioning: purged, archived: purged, purged: purged},
		},
		"PurgeNow": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) {
				return l.PurgeNow(ctx, "t1", "asked for")
			},
			map[tenancy.Status]tenancy.Status{provisioning: purged, archived: purged, purged: purged},
		},
		"Delete": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Delete(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{provisioning: purged, inactive: purged, archived: purged, purged: purged},
		},
		"Provision": {
			func(l *tenancy.Lifecycle, ctx context.Context) (tenancy.Tenant, error) { return l.Provision(ctx, "t1") },
			map[tenancy.Status]tenancy.Status{
				provisioning: active, active: active, suspended: suspended, inactive: inactive, archived: archived,
			},
		},
	} {
		for _, from := range tenancy.Statuses() {
			store := memstore.New()
			tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{Store: store, Lifecycle: tenancy.LifecycleConfig{ArchiveGrace: -1}}))
			before := must[tenancy.Tenant](t)(store.Create(t.Context(), tenancy.Tenant{ID: "t1", Slug: "acme", Status: from}))
			got, err := call.do(tn.Lifecycle(), t.Context())
			after := must[tenancy.Tenant](t)(store.Lookup(t.Context(), tenancy.ByID("t1")))
			want, allowed := call.from[from]
			if allowed && (err != nil || got.Status != want || after.Status != want) {
				t.Errorf("%s from %s: %s, %v; want %s", name, from, got.Status, err, want)
			}
			transition, ok := errors.AsType[*tenancy.TransitionError](err)
			named := ok && transition.From == from || from == provisioning && errors.Is(err, tenancy.ErrProvisioning)
			if !allowed && (!named || after.Revision != before.Revision) {
				t.Errorf("%s from %s: it is %s, %v; want a TransitionError and no change", name, from, after.Status, err)
			}
		}
	}
}

func TestB03ReservedAndMalformedNamesAreRefused(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, &provisioner{}, func(c *tenancy.Config) { c.Lifecycle.ReservedSlugs = []string{"jobs"} })
	for _, cmd := range []tenancy.CreateTenant{
		{Slug: "www"},
		{Slug: "API"},
		{Slug: "admin"},
		{Slug: "public"},
		{Slug: "pg-catalog"},
		{Slug: "information-schema"},
		{Slug: "jobs"},
		{ID: "pg_catalog", Slug: "a"},
		{ID: "information_schema", Slug: "a"},
		{ID: "WWW", Slug: "a"},
	} {
		var taken *tenancy.SlugConflictError
		_, err := tn.Lifecycle().Create(t.Context(), cmd)
		if !errors.As(err, &taken) || !taken.Reserved || tenancy.CodeOf(err) != tenancy.CodeSlugConflict {
			t.Errorf("%+v: %v", cmd, err)
		}
	}
	for _, cmd := range []tenancy.CreateTenant{
		{},
		{Slug: "a b"},
		{Slug: "pg_catalog"},
		{Slug: strings.Repeat("a", 64)},
		{Slug: "a", ID: "../x"},
		{Slug: "a", Name: "x\ny"},
		{Slug: "a", Name: strings.Repeat("x", 201)},
		{Slug: "a", Aliases: []tenancy.Ref{tenancy.BySlug("b")}},
		{Slug: "a", Aliases: []tenancy.Ref{tenancy.Alias("x", "1"), tenancy.Alias("x", "1")}},
		{Slug: "a", Metadata: map[string]string{"k": strings.Repeat("x", 65<<10)}},
	} {
		var invalid *tenancy.InvalidError
		if _, err := tn.Lifecycle().Create(t.Context(), cmd); !errors.As(err, &invalid) {
			t.Errorf("%.60v: %v", cmd, err)
		}
	}
	if page := must[tenancy.Page](t)(tn.Lifecycle().List(t.Context(), tenancy.ListOptions{})); len(page.Tenants) > 0 {
		t.Errorf("%d tenants were created", len(page.Tenants))
	}
}

func TestL03TenantIsNotActiveBeforeItsPlaceExists(t *testing.T) {
	t.Parallel()
	p := &provisioner{err: errors.New("disk full")}
	tn, events := newLifecycle(t, p, nil)
	l, ctx := tn.Lifecycle(), t.Context()
	p.hold = func() {
		got, err := l.Find(ctx, tenancy.BySlug("acme"))
		if err != nil || got.Status != tenancy.StatusProvisioning {
			t.Errorf("while it is provisioned it is %s, %v", got.Status, err)
		}
	}
	failed, err := l.Create(ctx, tenancy.CreateTenant{Slug: "acme"})
	var step *tenancy.ProvisionError
	if !errors.As(err, &step) || step.TenantID != failed.ID || tenancy.CodeOf(err) != tenancy.CodeProvisioning {
		t.Fatalf("%v", err)
	}
	got := must[tenancy.Tenant](t)(l.Get(ctx, failed.ID))
	if got.Status != tenancy.StatusProvisioning || got.Journal.LastError != "disk full" || got.Journal.Attempts != 1 || got.StatusReason != "" || len(events()) != 0 {
		t.Errorf("after the failure: %+v, events %v", got, events())
	}
	if err := tn.Within(ctx, tenancy.ByID(got.ID), "test", func(context.Context) error { return nil }); !errors.Is(err, tenancy.ErrProvisioning) {
		t.Errorf("it may work already: %v", err)
	}
	if _, err := l.Activate(ctx, got.ID); !errors.Is(err, tenancy.ErrProvisioning) {
		t.Errorf("Activate goes around the provisioning: %v", err)
	}
	p.err = nil
	p.hold = nil
	if got = must[tenancy.Tenant](t)(l.Provision(ctx, got.ID)); got.Status != tenancy.StatusActive || got.Journal != nil {
		t.Errorf("after the repetition: %+v", got)
	}
	if got := must[tenancy.Tenant](t)(l.Provision(ctx, got.ID)); got.Status != tenancy.StatusActive {
		t.Errorf("repeated once more: %+v", got)
	}
	if !slices.Equal(events(), []tenancy.EventType{tenancy.TenantProvisioned}) {
		t.Errorf("the events are %v", events())
	}
}

func TestFailedProvisioningCanBeGivenUp(t *testing.T) {
	t.Parallel()
	p := &provisioner{err: errors.New("disk full")}
	tn, _ := newLifecycle(t, p, nil)
	failed, _ := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
	if _, err := tn.Lifecycle().Delete(t.Context(), failed.ID); err == nil {
		t.Error("deleted although its data could not be removed")
	}
	p.err = nil
	if got := must[tenancy.Tenant](t)(tn.Lifecycle().Delete(t.Context(), failed.ID)); got.Status != tenancy.StatusPurged {
		t.Errorf("%+v", got)
	}
}

func TestProvisioningMayBeLeftToLater(t *testing.T) {
	t.Parallel()
	p := &provisioner{}
	tn, _ := newLifecycle(t, p, func(c *tenancy.Config) { c.Lifecycle.NoAutoProvision = true })
	acme := must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme", IsolationStrategy: "database"}))
	if acme.Status != tenancy.StatusProvisioning || acme.Placement.Strategy != "database" || slices.Contains(p.calls, "provision") {
		t.Fatalf("%+v, %v", acme, p.calls)
	}
	if got := must[tenancy.Tenant](t)(tn.Lifecycle().Provision(t.Context(), acme.ID)); got.Status != tenancy.StatusActive {
		t.Errorf("%+v", got)
	}
}

func TestOfRacingChangesOneWins(t *testing.T) {
	t.Parallel()
	tn, events := newLifecycle(t, &provisioner{}, nil)
	l, ctx := tn.Lifecycle(), t.Context()
	acme := must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{Slug: "acme"}))
	var group sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 50 {
		group.Go(func() {
			name := fmt.Sprint("name ", i)
			_, err := l.Update(ctx, tenancy.UpdateTenant{ID: acme.ID, Revision: acme.Revision, Name: &name})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case !errors.Is(err, tenancy.ErrConflict):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := must[tenancy.Tenant](t)(l.Get(ctx, acme.ID)); won != 1 || got.Revision != acme.Revision+1 {
		t.Errorf("%d won, revision %d", won, got.Revision)
	}
	if len(events()) != 2 {
		t.Errorf("the events are %v", events())
	}
}

func TestB09ChangeIsSeenAtOnceHere(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	l, ctx := tn.Lifecycle(), t.Context()
	acme := must[tenancy.Tenant](t)(l.Create(ctx, tenancy.CreateTenant{Slug: "acme"}))
	enter := func() error {
		return tn.Within(ctx, tenancy.BySlug("acme"), "test", func(context.Context) error { return nil })
	}
	if err := enter(); err != nil {
		t.Fatal(err)
	}
	must[tenancy.Tenant](t)(l.Suspend(ctx, acme.ID, "unpaid"))
	if err := enter(); !errors.Is(err, tenancy.ErrSuspended) {
		t.Errorf("after the suspension: %v", err)
	}
}

func TestLifecycleWithoutAStoreSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	_, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Config.Store") {
		t.Error(err)
	}
}
