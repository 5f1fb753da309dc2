package tenancy_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
)

// withMembers runs a test on two nodes over one store and a bus, with acme, in simulated time.
func withMembers(t *testing.T, test func(t *testing.T, a, b *tenancy.Tenancy)) {
	onNodes(t, true, func(t *testing.T, a, b *tenancy.Tenancy, _ *failing) { test(t, a, b) })
}

func TestMembersAddAndRemoveReachesOpenRequestsOnOtherNodes(t *testing.T) {
	withMembers(t, func(t *testing.T, a, b *tenancy.Tenancy) {
		ctx, m := t.Context(), a.Members()
		if err := m.Add(ctx, "alice", "t1", tenancy.Member{Roles: []string{"owner"}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		alice, end := request(t, b, ask{user: "alice", header: "acme"})
		defer end()
		goesOn(alice, t, "a member's request")
		binding := must[tenancy.Binding](t)(tenancy.Require(alice))
		if len(binding.Roles) != 1 || binding.Roles[0] != "owner" {
			t.Errorf("the roles are %q", binding.Roles)
		}
		if err := m.Remove(ctx, "alice", "t1"); err != nil {
			t.Fatal(err)
		}
		ended(alice, t, "the former member's request", tenancy.ErrNotMember)
		if _, err := b.Validator().Authorize(ctx, "alice", "t1"); !errors.Is(err, tenancy.ErrNotMember) {
			t.Errorf("on the other node: %v", err)
		}
		if err := m.Remove(ctx, "alice", "t1"); err != nil {
			t.Errorf("removing nobody: %v", err)
		}
		for what, err := range map[string]error{
			"an unknown tenant": m.Add(ctx, "alice", "nobody", tenancy.Member{}),
			"the past":          m.Add(ctx, "alice", "t1", tenancy.Member{Expires: time.Now()}),
			"a reason":          m.Add(ctx, "alice", "t1", tenancy.Member{Reason: "r"}),
			"a grantor":         m.Add(ctx, "alice", "t1", tenancy.Member{GrantedBy: "ann"}),
		} {
			if err == nil {
				t.Errorf("%s is accepted", what)
			}
		}
	})
}

func TestGrantIsAccessForATime(t *testing.T) {
	withMembers(t, func(t *testing.T, a, b *tenancy.Tenancy) {
		ctx := tenancy.WithActor(t.Context(), "ann")
		now := time.Now()
		err := a.Members().Grant(ctx, tenancy.Grant{
			UserID: "sam", TenantID: "t1", Roles: []string{"support"}, Reason: " ticket 17 ", Expires: now.Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sam, end := request(t, b, ask{user: "sam", header: "acme"})
		defer end()
		goesOn(sam, t, "the request under a grant")
		record := must[tenancy.MemberRecord](t)(b.Members().Get(ctx, "sam", "t1"))
		if record.GrantedBy != "ann" || record.Reason != "ticket 17" || !record.GrantedAt.Equal(now.UTC().Truncate(time.Microsecond)) || record.Expired {
			t.Errorf("the grant is %+v", record)
		}
		time.Sleep(time.Hour + 10*time.Millisecond)
		ended(sam, t, "the request after the grant", tenancy.ErrNotMember)
		if _, err := b.Validator().Authorize(ctx, "sam", "t1"); !errors.Is(err, tenancy.ErrNotMember) {
			t.Errorf("after the grant: %v", err)
		}
		for _, opts := range []tenancy.MemberListOptions{{TenantID: "t1"}, {UserID: "sam"}} {
			page := must[tenancy.MemberPage](t)(b.Members().List(ctx, opts))
			if len(page.Members) != 1 || !page.Members[0].Expired || page.Members[0].Reason != "ticket 17" {
				t.Errorf("listed: %+v", page)
			}
		}
		for _, want := range []int{1, 0} {
			if n, err := a.Members().Prune(ctx, "t1"); n != want || err != nil {
				t.Errorf("%d pruned, %v; want %d", n, err, want)
			}
		}
	})
}

func TestGrantIsRefusedWithoutReasonActorAndBoundedExpiry(t *testing.T) {
	withMembers(t, func(t *testing.T, a, _ *tenancy.Tenancy) {
		now := time.Now()
		good := tenancy.Grant{UserID: "sam", TenantID: "t1", Reason: "ticket", Expires: now.Add(24 * time.Hour)}
		with := func(change func(*tenancy.Grant)) tenancy.Grant {
			g := good
			change(&g)
			return g
		}
		ann := tenancy.WithActor(t.Context(), "ann")
		for what, c := range map[string]struct {
			ctx    context.Context
			grant  tenancy.Grant
			remedy string
		}{
			"no actor":     {t.Context(), good, "tenancy.WithActor"},
			"no reason":    {ann, with(func(g *tenancy.Grant) { g.Reason = " \t" }), "say why"},
			"a long one":   {ann, with(func(g *tenancy.Grant) { g.Reason = strings.Repeat("x", 1001) }), "1000"},
			"no expiry":    {ann, with(func(g *tenancy.Grant) { g.Expires = time.Time{} }), "lifecycle.max_grant"},
			"the past":     {ann, with(func(g *tenancy.Grant) { g.Expires = now.Add(-1) }), "future"},
			"now":          {ann, with(func(g *tenancy.Grant) { g.Expires = now }), "future"},
			"too long":     {ann, with(func(g *tenancy.Grant) { g.Expires = now.Add(24*time.Hour + time.Millisecond) }), "lifecycle.max_grant"},
			"no such user": {ann, with(func(g *tenancy.Grant) { g.UserID = "" }), "user id"},
		} {
			if err := a.Members().Grant(c.ctx, c.grant); err == nil || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("%s: %v; want an error that says %q", what, err, c.remedy)
			}
		}
		if page := must[tenancy.MemberPage](t)(a.Members().List(t.Context(), tenancy.MemberListOptions{TenantID: "t1"})); len(page.Members) > 0 {
			t.Errorf("%+v is granted", page.Members)
		}
		if err := a.Members().Add(ann, "sam", "t1", tenancy.Member{Roles: []string{"owner"}}); err != nil {
			t.Fatal(err)
		}
		if err := a.Members().Grant(ann, good); !errors.Is(err, tenancy.ErrConflict) || !strings.Contains(err.Error(), "remove") {
			t.Errorf("to a member: %v", err)
		}
		if err := a.Members().Grant(ann, with(func(g *tenancy.Grant) { g.UserID = "kim" })); err != nil {
			t.Errorf("a good grant: %v", err)
		}
	})
}

func TestGrantsCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{Store: memstore.New(), Lifecycle: tenancy.LifecycleConfig{MaxGrant: -1}}))
	err := tn.Members().Grant(tenancy.WithActor(t.Context(), "ann"), tenancy.Grant{
		UserID: "sam", TenantID: "t1", Reason: "ticket", Expires: time.Now().Add(time.Second),
	})
	if !isConfigError(err, "lifecycle.max_grant", "nothing may be granted") {
		t.Errorf("%v", err)
	}
}

func TestMembersOfAnotherMembershipNameTheRemedy(t *testing.T) {
	t.Parallel()
	tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{
		Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
		Membership: tenancy.MembershipFunc(func(context.Context, string, string) (tenancy.Member, error) { return tenancy.Member{}, nil }),
	}))
	m, ctx := tn.Members(), tenancy.WithActor(t.Context(), "ann")
	_, getErr := m.Get(ctx, "u", "t")
	_, listErr := m.List(ctx, tenancy.MemberListOptions{UserID: "u"})
	_, pruneErr := m.Prune(ctx, "t")
	grant := tenancy.Grant{UserID: "u", TenantID: "t", Reason: "r", Expires: time.Now().Add(time.Hour)}
	for _, err := range []error{m.Add(ctx, "u", "t", tenancy.Member{}), m.Remove(ctx, "u", "t"), m.Grant(ctx, grant), getErr, listErr, pruneErr} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "MemberStore") {
			t.Errorf("%v", err)
		}
	}
}
