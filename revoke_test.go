package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

type anyKey struct{}

// request begins a request that ends with the returned function.
func request(t testing.TB, tn *tenancy.Tenancy, a ask) (context.Context, context.CancelFunc) {
	t.Helper()
	parent, end := context.WithCancel(t.Context())
	ctx := tn.Bind(parent, a.request())
	if d, _ := tenancy.DecisionFrom(ctx); d.Err != nil {
		t.Fatalf("%+v is not bound: %v", a, d.Err)
	}
	return ctx, end
}

// withUsers opens a tenancy whose catalogue is d, inside a bubble of simulated time.
func withUsers(t *testing.T, test func(t *testing.T, tn *tenancy.Tenancy, d *directory)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		tn := newTenancy(t, d, func(c *tenancy.Config) { c.Membership = d })
		test(t, tn, d)
		if err := tn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}) // synctest fails when a goroutine is left behind
}

func (d *directory) suspend(id string) {
	d.set(func() {
		for i := range d.tenants {
			if d.tenants[i].ID == id {
				d.tenants[i].Status = tenancy.StatusSuspended
			}
		}
	})
}

// ended fails the test unless ctx, and what was made from it, have ended for that cause.
func ended(ctx context.Context, t testing.TB, what string, cause error) {
	t.Helper()
	synctest.Wait()
	select {
	case <-ctx.Done():
	default:
		t.Errorf("%s goes on", what)
		return
	}
	if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), cause) {
		t.Errorf("%s: %v because of %v; want %v", what, ctx.Err(), context.Cause(ctx), cause)
	}
	if _, err := tenancy.ScopeOf(context.WithoutCancel(ctx)); !errors.Is(err, cause) {
		t.Errorf("%s: work that outlives it gets %v", what, err)
	}
	if _, ok := tenancy.FromContext(ctx); ok {
		t.Errorf("%s is still bound", what)
	}
}

func goesOn(ctx context.Context, t testing.TB, what string) {
	t.Helper()
	synctest.Wait()
	if ctx.Err() != nil {
		t.Errorf("%s has ended: %v", what, context.Cause(ctx))
	}
	if _, err := tenancy.Require(ctx); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestSuspensionEndsWhatIsUnderWay(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		alice, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		trusted, end := request(t, tn, ask{user: "x", claim: "acme"})
		defer end()
		other, end := request(t, tn, ask{user: "bob", header: "globex"})
		defer end()
		child, cancel := context.WithTimeout(context.WithValue(alice, anyKey{}, 1), time.Hour)
		defer cancel()
		for what, ctx := range map[string]context.Context{"a member's request": alice, "a child": child, "a trusted one": trusted, "another tenant's": other} {
			goesOn(ctx, t, what)
		}
		tn.Validator().Invalidate("t1") // nothing has changed
		goesOn(alice, t, "a member's request after another change")
		d.suspend("t1")
		tn.Validator().Invalidate("t1")
		ended(alice, t, "a member's request", tenancy.ErrSuspended)
		ended(child, t, "a child", tenancy.ErrSuspended)
		ended(trusted, t, "a trusted one", tenancy.ErrSuspended)
		goesOn(other, t, "another tenant's")
	})
}

// So does every other state in which a tenant does not work.
func TestStateEndsWhatIsUnderWay(t *testing.T) {
	for status, cause := range map[tenancy.Status]error{
		tenancy.StatusInactive: tenancy.ErrInactive, tenancy.StatusArchived: tenancy.ErrInactive, tenancy.StatusPurged: tenancy.ErrInactive,
	} {
		t.Run(string(status), func(t *testing.T) {
			withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
				alice, end := request(t, tn, ask{user: "alice", header: "acme"})
				defer end()
				goesOn(alice, t, "a member's request")
				d.set(func() {
					for i := range d.tenants {
						if d.tenants[i].ID == "t1" {
							d.tenants[i].Status = status
						}
					}
				})
				tn.Validator().Invalidate("t1")
				ended(alice, t, "a member's request", cause)
			})
		})
	}
}

func TestEndOfAMembershipEndsWhatIsUnderWay(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		alice, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		carol, end := request(t, tn, ask{user: "carol", header: "acme"})
		defer end()
		elsewhere, end := request(t, tn, ask{user: "carol", header: "globex"})
		defer end()
		trusted, end := request(t, tn, ask{user: "carol", claim: "acme"}) // nobody asked for a membership
		defer end()
		for _, ctx := range []context.Context{alice, carol, elsewhere, trusted} {
			goesOn(ctx, t, "a request")
		}
		d.set(func() { delete(d.members, "carol/t1") })
		tn.Validator().InvalidateAll() // as after a lost connection to whoever tells of changes
		ended(carol, t, "the former member's request", tenancy.ErrNotMember)
		goesOn(alice, t, "another member's")
		goesOn(elsewhere, t, "the former member's in another tenant")
		goesOn(trusted, t, "one by a token")
	})
}

func TestMembershipThatExpiresEndsWhatIsUnderWay(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		d.set(func() { d.members["support/t1"] = tenancy.Member{Expires: time.Now().Add(time.Hour)} })
		support, end := request(t, tn, ask{user: "support", header: "acme"})
		defer end()
		time.Sleep(50 * time.Minute)
		goesOn(support, t, "a support session")
		d.set(func() { d.members["support/t1"] = tenancy.Member{Expires: time.Now().Add(time.Hour)} })
		tn.Validator().Invalidate("t1")
		time.Sleep(30 * time.Minute)
		goesOn(support, t, "a prolonged session")
		time.Sleep(31 * time.Minute)
		ended(support, t, "a support session", tenancy.ErrNotMember)
	})
}

// TestChangeBeforeTheFirstLook lets the tenant change after the request was bound and before
// anybody asks whether the request has ended.
func TestChangeBeforeTheFirstLook(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		ctx, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		d.suspend("t1")
		tn.Validator().Invalidate("t1")
		_ = ctx.Done()
		ended(ctx, t, "the request", tenancy.ErrSuspended)
	})
}

func TestKeepRunning(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		ctx, end := request(t, tn, ask{user: "alice", header: "acme"})
		goesOn(ctx, t, "the request")
		tenancy.KeepRunning(context.WithValue(ctx, anyKey{}, 1))
		tenancy.KeepRunning(t.Context())
		d.suspend("t1")
		tn.Validator().Invalidate("t1")
		goesOn(ctx, t, "a request that opted out")
		end()
		if ctx.Err() == nil || !errors.Is(context.Cause(ctx), context.Canceled) {
			t.Errorf("it ended because of %v", context.Cause(ctx))
		}
	})
}

func TestOutageEndsNothingAndIsNotForgotten(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		alice, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		carol, end := request(t, tn, ask{user: "carol", header: "globex"})
		goesOn(alice, t, "a request")
		goesOn(carol, t, "a request")
		d.suspend("t1")
		d.set(func() { d.err = errors.New("the catalogue is down") })
		tn.Validator().InvalidateAll()
		time.Sleep(time.Minute)
		goesOn(alice, t, "a request in an outage")
		end() // carol's; nobody asks for her tenant any more
		d.set(func() { d.err = nil })
		time.Sleep(1100 * time.Millisecond)
		ended(alice, t, "a request after the outage", tenancy.ErrSuspended)
	})
}

func TestStopEndsTheLookUpsAndNotTheRequests(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		ctx, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(ctx, t, "a request")
		d.suspend("t1")
		d.set(func() { d.err = errors.New("the catalogue is down") })
		tn.Validator().Invalidate("t1")
		synctest.Wait()
		if err := tn.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		goesOn(ctx, t, "a request")
		d.set(func() { d.err = nil })
		tn.Validator().Invalidate("t1") // by the application
		ended(ctx, t, "a request", tenancy.ErrSuspended)
	})
}

// TestRequestsComeAndGoWhileTenantsChange is for the race detector; at the end every request of a
// suspended tenant has ended.
func TestRequestsComeAndGoWhileTenantsChange(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		var work, churn sync.WaitGroup
		stop := make(chan struct{})
		churn.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					tn.Validator().Invalidate("t1")
					tn.Validator().Invalidate("t2")
				}
			}
		})
		for range 8 {
			work.Go(func() {
				for range 200 {
					ctx, end := request(t, tn, ask{user: "carol", header: "globex"})
					var look sync.WaitGroup
					for range 3 {
						look.Go(func() { _ = context.AfterFunc(ctx, func() {}) })
					}
					look.Wait()
					if ctx.Err() != nil {
						t.Errorf("ended: %v", context.Cause(ctx))
					}
					end()
				}
			})
		}
		work.Wait()
		last, end := request(t, tn, ask{user: "carol", header: "globex"})
		defer end()
		if last.Err() != nil {
			t.Errorf("ended: %v", context.Cause(last))
		}
		d.suspend("t2")
		close(stop)
		churn.Wait()
		tn.Validator().Invalidate("t2")
		ended(last, t, "the last request", tenancy.ErrSuspended)
	})
}

// TestSuspensionOnAnotherNodeEndsWhatIsUnderWay runs two nodes on one catalogue, without a bus.
func TestSuspensionOnAnotherNodeEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		node := func() *tenancy.Tenancy {
			tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{Store: store, Logger: slog.New(slog.DiscardHandler)}))
			if err := tn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return tn
		}
		a, b := node(), node()
		acme := must[tenancy.Tenant](t)(a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
		for _, user := range []string{"alice", "carol"} {
			if err := store.SetMember(t.Context(), user, acme.ID, tenancy.Member{}); err != nil {
				t.Fatal(err)
			}
		}
		alice, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		carol, end := request(t, b, ask{user: "carol", header: "acme"})
		defer end()
		time.Sleep(3 * time.Second)
		goesOn(alice, t, "a request")
		goesOn(carol, t, "a request")
		if err := store.RemoveMember(t.Context(), "alice", acme.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		ended(alice, t, "the former member's request", tenancy.ErrNotMember)
		goesOn(carol, t, "another member's")
		must[tenancy.Tenant](t)(a.Lifecycle().Suspend(t.Context(), acme.ID, "unpaid"))
		time.Sleep(1100 * time.Millisecond)
		ended(carol, t, "a request", tenancy.ErrSuspended)
		for _, tn := range []*tenancy.Tenancy{a, b} {
			if err := tn.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestMiddlewareTwice binds a request inside a bound one, of which both are watched.
func TestMiddlewareTwice(t *testing.T) {
	withUsers(t, func(t *testing.T, tn *tenancy.Tenancy, d *directory) {
		outer, end := request(t, tn, ask{user: "carol", header: "globex"})
		defer end()
		inner := tn.Bind(context.WithValue(outer, anyKey{}, 1), ask{user: "carol", header: "acme"}.request())
		goesOn(inner, t, "the inner request")
		goesOn(outer, t, "the outer request")
		d.suspend("t1")
		tn.Validator().Invalidate("t1")
		ended(inner, t, "the inner request", tenancy.ErrSuspended)
		goesOn(outer, t, "the outer request")
		inner = tn.Bind(outer, ask{user: "alice", claim: "globex"}.request())
		d.suspend("t2")
		tn.Validator().InvalidateAll()
		_ = inner.Done()
		ended(inner, t, "the inner request", tenancy.ErrSuspended)
	})
}

// TestLaxRequestEndsWhenItsUserIsNoMember binds a request while nobody can tell who belongs to the
// tenant, which lax membership allows; the answer comes later.
func TestLaxRequestEndsWhenItsUserIsNoMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory()
		tn := newTenancy(t, d, func(c *tenancy.Config) { c.Membership, c.Resolution.LaxMembership = d, true })
		if _, err := tn.Validator().Validate(t.Context(), tenancy.BySlug("acme")); err != nil {
			t.Fatal(err)
		}
		if _, err := tn.Validator().Validate(t.Context(), tenancy.ByIDOrSlug("acme")); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.err = errors.New("the catalogue is down") })
		mallory, end := request(t, tn, ask{user: "mallory", header: "acme"})
		defer end()
		alice, end := request(t, tn, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(mallory, t, "a request that nobody could verify")
		goesOn(alice, t, "a member's request")
		d.set(func() { d.err = nil })
		tn.Validator().Invalidate("t1")
		ended(mallory, t, "a stranger's request", tenancy.ErrNotMember)
		goesOn(alice, t, "a member's request")
		if err := tn.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
