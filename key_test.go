package tenancy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

var (
	seats = tenancy.NewKey("seats", 5).Describe("How many users may sign in").Check(func(n int) error {
		if n < 1 {
			return fmt.Errorf("%d is less than one", n)
		}
		return nil
	})
	theme    = tenancy.NewKey("theme", "light")
	apiToken = tenancy.NewSecretKey[string]("api_token").Describe("Of the customer's shop").Check(func(s string) error {
		if len(s) < 8 {
			return fmt.Errorf("%q is too short", s)
		}
		return nil
	})
)

func sealingKey(t testing.TB, id string, b byte) tenancy.SealingKey {
	t.Helper()
	return must[tenancy.SealingKey](t)(tenancy.NewSealingKey(id, []byte(strings.Repeat(string(rune(b)), 32))))
}

// newDeclared returns a tenancy that declares the keys above, and a tenant.
func newDeclared(t testing.TB, change func(*tenancy.Config)) (*tenancy.Tenancy, tenancy.Tenant) {
	t.Helper()
	tn, _ := newLifecycle(t, nil, func(c *tenancy.Config) {
		c.Keys = []tenancy.AnyKey{seats, theme, apiToken}
		c.SealingKeys = []tenancy.SealingKey{sealingKey(t, "k1", 'a')}
		if change != nil {
			change(c)
		}
	})
	return tn, must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "t-acme", Slug: "acme"}))
}

// isConfigError reports whether err is a ConfigError for key that says text.
func isConfigError(err error, key, text string) bool {
	wrong, ok := errors.AsType[*tenancy.ConfigError](err)
	return ok && wrong.Key == key && strings.Contains(err.Error(), text)
}

func TestDeclaredKeysAreListed(t *testing.T) {
	t.Parallel()
	tn, _ := newDeclared(t, nil)
	text, err := json.Marshal(tn.Overrides().Keys())
	want := `[{"name":"api_token","type":"string","description":"Of the customer's shop","secret":true},` +
		`{"name":"seats","type":"int","default":5,"description":"How many users may sign in"},` +
		`{"name":"theme","type":"string","default":"light"}]`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAValueThatDoesNotPassIsRefusedWhoeverWritesIt(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, nil)
	o, ctx := tn.Overrides(), t.Context()
	for _, value := range []any{0, -1, "many", 1.5, []int{1}} {
		if err := o.Set(ctx, acme.ID, "seats", value); !isConfigError(err, "seats", "") {
			t.Errorf("%v: %v", value, err)
		}
	}
	if err := seats.Set(ctx, o, acme.ID, 0); !isConfigError(err, "seats", "less than one") {
		t.Errorf("the typed key: %v", err)
	}
	if err := o.Set(ctx, acme.ID, "seat", 3); !isConfigError(err, "seat", "Config.Keys") {
		t.Errorf("a key that is not declared: %v", err)
	}
	if own, err := o.Own(ctx, acme.ID); err != nil || len(own.Values) > 0 {
		t.Errorf("%v, %v is stored", own, err)
	}
	if err := o.Set(ctx, acme.ID, "seats", 3); err != nil {
		t.Fatal(err)
	}
	if n, err := seats.Of(ctx, o, acme.ID); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A value may have been stored by a program whose key had another check.
func TestAStoredValueThatDoesNotPassIsAnErrorWhereItIsRead(t *testing.T) {
	t.Parallel()
	for _, stored := range []string{`0`, `"x"`, `null`, `"tenancy-sealed:1:k1:AAAA"`} {
		tn, acme := newDeclared(t, nil)
		o, ctx := tn.Overrides(), t.Context()
		store := tn.Config().ConfigStore
		err := store.SaveConfig(ctx, acme.ID, func(map[string]json.RawMessage) (tenancy.ConfigWrite, error) {
			return tenancy.ConfigWrite{Values: map[string]json.RawMessage{"seats": json.RawMessage(stored)}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := seats.Of(ctx, o, acme.ID); n != 5 || !isConfigError(err, "seats", `tenant "t-acme"`) {
			t.Errorf("%s: the typed key: %d, %v", stored, n, err)
		}
		if raw, _, err := o.Get(ctx, acme.ID, "seats"); raw != nil || !isConfigError(err, "seats", `tenant "t-acme"`) {
			t.Errorf("%s: Get: %s, %v", stored, raw, err)
		}
	}
}

func TestMistakesInKeysAndPlansAreFoundAtTheStart(t *testing.T) {
	t.Parallel()
	cfg := tenancy.Config{
		Directory: tenancy.DirectoryFunc(nil),
		Keys:      []tenancy.AnyKey{seats, seats, nil, tenancy.Key[int]{}, apiToken},
		Overrides: tenancy.OverridesConfig{
			Defaults: map[string]any{"seats": 0, "seat": 1, "api_token": "12345678"},
			Plans:    map[string]map[string]any{"gold": {"seats": "many", "thema": 1}, "": {}},
		},
		SealingKeys: []tenancy.SealingKey{sealingKey(t, "k1", 'a'), sealingKey(t, "k1", 'b'), {}},
	}
	err := cfg.Validate()
	for _, want := range []string{
		"Keys: seats: is declared twice", "Keys: one is nil", `Keys: : key "" is not valid`,
		"overrides.defaults.seats: 0 is less than one", "overrides.defaults.seat: is not a declared key",
		"overrides.defaults.api_token: is secret", "overrides.plans.gold.seats: json", "overrides.plans.gold.thema: is not a declared key",
		"overrides.plans: a plan has no name", `two keys have the id "k1"`, "SealingKeys: one is empty",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if strings.Contains(fmt.Sprint(err), "12345678") {
		t.Error("the error quotes a secret")
	}
	if _, err := tenancy.New(cfg); err == nil {
		t.Error("New accepts it")
	}
}

func TestAKeyWhoseDefaultDoesNotPassPanics(t *testing.T) {
	t.Parallel()
	for name, declare := range map[string]func(){
		"a check":          func() { tenancy.NewKey("n", 0).Check(func(int) error { return errors.New("no") }) },
		"a name":           func() { tenancy.NewKey("a b", 0) },
		"a secret's name":  func() { tenancy.NewSecretKey[int]("") },
		"what is not JSON": func() { tenancy.NewKey("n", make(chan int)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			declare()
		}()
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Keys = append(c.Keys, maxUsers)
		c.Overrides.Defaults = map[string]any{"seats": 10}
		c.Overrides.Plans = map[string]map[string]any{"gold": {"seats": 100, "theme": "gold"}, "free": {}}
	})
	o, ctx := tn.Overrides(), t.Context()
	explain := func(key string) string {
		t.Helper()
		all := must[[]tenancy.LayerValue](t)(o.Explain(ctx, acme.ID, key))
		var texts []string
		for _, l := range all {
			texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %s", l.Layer, l.Plan))+"="+string(l.Value))
		}
		if len(all) > 0 { // what counts everywhere is the first
			if raw, ok, err := o.Get(ctx, acme.ID, key); err != nil || !ok || string(raw) != string(all[0].Value) {
				t.Errorf("Get(%s) is %s, %t, %v", key, raw, ok, err)
			}
			if all2 := must[map[string]json.RawMessage](t)(o.All(ctx, acme.ID)); string(all2[key]) != string(all[0].Value) {
				t.Errorf("All has %s = %s", key, all2[key])
			}
		}
		return strings.Join(texts, ", ")
	}
	plan := func(name string) {
		t.Helper()
		now := must[tenancy.Tenant](t)(tn.Lifecycle().Get(ctx, acme.ID))
		now.Metadata = map[string]string{"plan": name}
		must[tenancy.Tenant](t)(tn.Config().Store.Update(ctx, now))
		if err := tn.Changed(ctx, acme.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := explain("seats"); got != "defaults=10, code=5" {
		t.Error(got)
	}
	plan("gold")
	if err := seats.Set(ctx, o, acme.ID, 7); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"seats": "tenant=7, plan gold=100, defaults=10, code=5", "theme": `plan gold="gold", code="light"`, "max_users": "code=50", "none": "",
	} {
		if got := explain(key); got != want {
			t.Errorf("%s: %s; want %s", key, got, want)
		}
	}
	if err := seats.Unset(ctx, o, acme.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := seats.Of(ctx, o, acme.ID); n != 100 || err != nil {
		t.Errorf("the plan: %d, %v", n, err)
	}
	plan("free")
	if n, err := seats.Of(ctx, o, acme.ID); n != 10 || err != nil {
		t.Errorf("a plan without the key: %d, %v", n, err)
	}
	plan("platinum")
	if n, err := seats.Of(ctx, o, acme.ID); n != 5 || !isConfigError(err, "overrides.plans", `no plan "platinum"`) {
		t.Errorf("a plan that is not configured: %d, %v", n, err)
	}
	plan("")
	if n, err := seats.Of(ctx, o, acme.ID); n != 10 || err != nil {
		t.Errorf("no plan: %d, %v", n, err)
	}
}

func TestTheApplicationNamesThePlan(t *testing.T) {
	t.Parallel()
	tn, acme := newDeclared(t, func(c *tenancy.Config) {
		c.Overrides.Plans = map[string]map[string]any{"gold": {"seats": 100}}
		c.PlanOf = func(t tenancy.Tenant) string {
			if t.Slug == "acme" {
				return "gold"
			}
			return ""
		}
	})
	other := must[tenancy.Tenant](t)(tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "other"}))
	for id, want := range map[string]int{acme.ID: 100, other.ID: 5} {
		if n, err := seats.Of(t.Context(), tn.Overrides(), id); n != want || err != nil {
			t.Errorf("%s: %d, %v", id, n, err)
		}
	}
	if _, err := seats.Of(t.Context(), tn.Overrides(), "nobody"); !errors.Is(err, tenancy.ErrNotFound) {
		t.Errorf("the plan of nobody: %v", err)
	}
}
