package tenancy_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

var maxUsers = tenancy.NewKey("max_users", 50)

func TestOverridesLieOverDefaults(t *testing.T) {
	t.Parallel()
	var changes []tenancy.ConfigChange
	tn, _ := newLifecycle(t, nil, func(c *tenancy.Config) {
		c.Overrides.Defaults = map[string]any{"theme": "light", "limits": map[string]int{"rps": 10}}
		c.Subscribers = []tenancy.Subscriber{func(_ context.Context, e tenancy.Event) error {
			if e.Type == tenancy.TenantConfigChanged {
				changes = append(changes, *e.Config)
			}
			return nil
		}}
	})
	o, ctx := tn.Overrides(), t.Context()
	one := must[tenancy.Tenant](t)(tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "one"}))
	two := must[tenancy.Tenant](t)(tn.Lifecycle().Create(ctx, tenancy.CreateTenant{Slug: "two"}))
	get := func(id, key string) string {
		raw, ok, err := o.Get(ctx, id, key)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return "-"
		}
		return string(raw)
	}
	if got := get(one.ID, "theme"); got != `"light"` {
		t.Errorf("the default is %s", got)
	}
	for _, theme := range []string{"dark", "dark", "blue"} {
		if err := o.Set(ctx, one.ID, "theme", theme); err != nil {
			t.Fatal(err)
		}
	}
	if get(one.ID, "theme") != `"blue"` || get(two.ID, "theme") != `"light"` || get(one.ID, "none") != "-" {
		t.Errorf("one has %s, two has %s", get(one.ID, "theme"), get(two.ID, "theme"))
	}
	all, err := o.All(ctx, one.ID)
	if err != nil || len(all) != 2 || string(all["limits"]) != `{"rps":10}` {
		t.Errorf("all: %s, %v", all, err)
	}
	all["theme"][1] = 'X' // the caller's own copy
	if get(one.ID, "theme") != `"blue"` {
		t.Error("a caller's change reached the cache")
	}
	if err := o.Unset(ctx, one.ID, "theme"); err != nil || get(one.ID, "theme") != `"light"` {
		t.Errorf("after Unset: %s, %v", get(one.ID, "theme"), err)
	}
	text, err := json.Marshal(changes)
	want := `[{"key":"theme","new":"dark"},{"key":"theme","old":"dark","new":"blue"},{"key":"theme","old":"blue"}]`
	if err != nil || string(text) != want {
		t.Errorf("the changes are %s, %v", text, err)
	}
}

func TestKeysHaveATypeAndADefault(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	o := tn.Overrides()
	acme := must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
	ctx := tenancy.UnsafeBind(t.Context(), acme, "test")
	if n, err := maxUsers.Get(ctx, o); n != 50 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := maxUsers.Set(ctx, o, acme.ID, 80); err != nil {
		t.Fatal(err)
	}
	if n, err := maxUsers.Get(ctx, o); n != 80 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := o.Set(ctx, acme.ID, "max_users", "many"); err != nil {
		t.Fatal(err)
	}
	if n, err := maxUsers.Get(ctx, o); n != 50 || tenancy.CodeOf(err) != tenancy.CodeConfig {
		t.Errorf("a value of another type: %d, %v", n, err)
	}
	if err := maxUsers.Unset(ctx, o, acme.ID); err != nil {
		t.Fatal(err)
	}
	for ctx, want := range map[context.Context]error{
		t.Context():                           tenancy.ErrNoTenant,
		tenancy.AsSystem(t.Context(), "test"): tenancy.ErrSystemScope,
	} {
		if _, err := maxUsers.Get(ctx, o); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func TestBadOverridesAreRefused(t *testing.T) {
	t.Parallel()
	tn, _ := newLifecycle(t, nil, nil)
	acme := must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"}))
	for _, tc := range []struct {
		key   string
		value any
	}{
		{"", 1}, {"a b", 1}, {strings.Repeat("k", 129), 1}, {"k", nil}, {"k", make(chan int)}, {"k", strings.Repeat("x", 65<<10)},
	} {
		if err := tn.Overrides().Set(t.Context(), acme.ID, tc.key, tc.value); tenancy.CodeOf(err) != tenancy.CodeConfig {
			t.Errorf("%.20q: %v", tc.key, err)
		}
	}
	if err := tn.Overrides().Set(t.Context(), "nobody", "k", 1); !errors.Is(err, tenancy.ErrNotFound) {
		t.Errorf("an unknown tenant: %v", err)
	}
}
