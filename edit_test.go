package tenancy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

func records(t testing.TB, o *tenancy.Overrides, tenantID string) []string {
	t.Helper()
	page := must[tenancy.HistoryPage](t)(o.History(t.Context(), tenantID, tenancy.HistoryOptions{}))
	texts := []string{}
	for _, r := range page.Records {
		texts = append(texts, fmt.Sprintf("%s: %s %s-%s", r.By, r.Key, r.Old, r.New))
	}
	return texts
}

func TestAnEditIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	var changes []string
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Subscribers = []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
			if e.Config != nil {
				changes = append(changes, fmt.Sprintf("%s %s-%s", e.Config.Key, e.Config.Old, e.Config.New))
			}
			return nil
		}}
	})
	o, ctx := tn.Overrides(), tenancy.WithActor(t.Context(), "ann")
	must[string](t)(o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"seats": 6, "theme": "dark"}}))
	must[string](t)(o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"seats": 7}, Unset: []string{"theme"}}))
	for _, refused := range []tenancy.Edit{
		{Set: map[string]any{"seats": 8, "theme": 1}},
		{Set: map[string]any{"seats": 8}, Unset: []string{"a b"}},
		{Set: map[string]any{"seats": 8}, Unset: []string{"seats"}},
		{Set: map[string]any{"seats": 8}, Base: "another"},
	} {
		if _, err := o.Edit(ctx, acme.ID, refused); err == nil {
			t.Errorf("%+v is accepted", refused)
		}
	}
	if _, err := o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"seats": 0, "theme": 1}}); err == nil ||
		!strings.Contains(err.Error(), "seats") || !strings.Contains(err.Error(), "theme") {
		t.Errorf("%v; want both keys named", err)
	}
	own := must[tenancy.OwnValues](t)(o.Own(ctx, acme.ID))
	if len(own.Values) != 1 || string(own.Values["seats"]) != "7" {
		t.Errorf("the tenant has %s", own.Values)
	}
	want := []string{"seats -6", `theme -"dark"`, "seats 6-7", `theme "dark"-`}
	if fmt.Sprint(changes) != fmt.Sprint(want) {
		t.Errorf("the events are %q; want %q", changes, want)
	}
	wantHistory := []string{`ann: theme "dark"-`, "ann: seats 6-7", `ann: theme -"dark"`, "ann: seats -6"}
	if got := records(t, o, acme.ID); fmt.Sprint(got) != fmt.Sprint(wantHistory) {
		t.Errorf("the history is %q; want %q", got, wantHistory)
	}
}

func TestAnEditOfAnOldRevisionIsAConflict(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	o, ctx := tn.Overrides(), t.Context()
	empty := must[tenancy.OwnValues](t)(o.Own(ctx, acme.ID))
	first := must[string](t)(o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"seats": 6}, Base: empty.Revision}))
	if now := must[tenancy.OwnValues](t)(o.Own(ctx, acme.ID)); now.Revision != first || first == empty.Revision {
		t.Errorf("the revisions are %q, %q, %q", empty.Revision, first, now.Revision)
	}
	for _, base := range []string{empty.Revision, "x"} {
		_, err := o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"theme": "dark"}, Base: base})
		if !errors.Is(err, tenancy.ErrConflict) {
			t.Errorf("base %q: %v; want ErrConflict", base, err)
		}
	}
	second := must[string](t)(o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"theme": "dark"}, Base: first}))
	if same := must[string](t)(o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"theme": "dark"}, Base: second})); same != second {
		t.Errorf("setting what is set made revision %q of %q", same, second)
	}
}

// Writers race over one revision. Whoever is told of success is found in the values and the history.
func TestRacingEditsLoseNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	a := tenancy.NewKey("a", 0)
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Keys = []tenancy.AnyKey{a, tenancy.NewKey("b", 0)}
	})
	o, ctx := tn.Overrides(), t.Context()
	const writers, each = 16, 25
	var mu sync.Mutex
	won, lost := 0, 0
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for done := 0; done < each; {
				own, err := o.Own(ctx, acme.ID)
				if err != nil {
					t.Error(err)
					return
				}
				n := 0
				if raw := own.Values["a"]; raw != nil {
					if err := json.Unmarshal(raw, &n); err != nil {
						t.Error(err)
						return
					}
				}
				_, err = o.Edit(ctx, acme.ID, tenancy.Edit{Set: map[string]any{"a": n + 1, "b": -n - 1}, Base: own.Revision})
				mu.Lock()
				switch {
				case err == nil:
					won++
					done++
				case errors.Is(err, tenancy.ErrConflict):
					lost++
				default:
					t.Error(err)
					done = each
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if n, err := a.Of(ctx, o, acme.ID); n != writers*each || won != n || err != nil {
		t.Errorf("a is %d after %d acknowledged edits and %d conflicts, %v", n, won, lost, err)
	}
	if lost == 0 {
		t.Log("there was no conflict, so this run shows little")
	}
	page := must[tenancy.HistoryPage](t)(o.History(ctx, acme.ID, tenancy.HistoryOptions{Limit: 1000}))
	if len(page.Records) != 2*won {
		t.Errorf("%d records; want %d", len(page.Records), 2*won)
	}
}

func TestTheHistorySaysWho(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC) }
	})
	o := tn.Overrides()
	if err := tn.Config().Membership.(tenancy.MemberStore).SetMember(t.Context(), "alice", acme.ID, tenancy.Member{}); err != nil {
		t.Fatal(err)
	}
	n := 10
	set := func(ctx context.Context) error {
		n++
		return seats.Set(ctx, o, acme.ID, n)
	}
	alice, end := request(t, tn, ask{user: "alice", header: "acme"})
	defer end()
	err := errors.Join(
		set(t.Context()),
		set(tenancy.AsSystem(t.Context(), "invoices")),
		tn.Within(t.Context(), tenancy.ByID(acme.ID), "import", set),
		set(alice),
		set(tenancy.WithActor(alice, "ann of support")),
		set(tenancy.WithActor(t.Context(), strings.Repeat("ż", 200))),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{strings.Repeat("ż", 127), "ann of support", "user:alice", "within:import", "system:invoices", ""}
	page := must[tenancy.HistoryPage](t)(o.History(t.Context(), acme.ID, tenancy.HistoryOptions{Limit: 6}))
	for i, r := range page.Records {
		if r.By != want[i] || !r.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)) {
			t.Errorf("record %d is by %q at %v; want %q", i, r.By, r.Time, want[i])
		}
	}
	if len(page.Records) != len(want) {
		t.Errorf("%d records", len(page.Records))
	}
}

func TestOverridesWithoutAStoreNameTheRemedy(t *testing.T) {
	t.Parallel()
	tn := must[*tenancy.Tenancy](t)(tenancy.New(tenancy.Config{Directory: tenancy.DirectoryFunc(
		func(context.Context, tenancy.Ref) (tenancy.Tenant, error) {
			return tenancy.Tenant{}, tenancy.ErrNotFound
		},
	)}))
	o, ctx := tn.Overrides(), t.Context()
	_, ownErr := o.Own(ctx, "t")
	_, historyErr := o.History(ctx, "t", tenancy.HistoryOptions{})
	_, resealErr := o.Reseal(ctx, "t")
	for _, err := range []error{o.Set(ctx, "t", "k", 1), ownErr, historyErr, resealErr} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "ConfigStore") {
			t.Errorf("%v", err)
		}
	}
}
