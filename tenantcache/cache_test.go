package tenantcache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenancytest"
	"lexigram.dev/tenancy/tenantcache"
)

func newCache(t testing.TB, inner tenantcache.Backend) *tenantcache.Cache {
	t.Helper()
	c, err := tenantcache.New(inner, tenantcache.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inTenant returns a context inside the tenant with this id.
func inTenant(t testing.TB, id string) context.Context {
	t.Helper()
	return tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: id, Slug: "slug", Status: tenancy.StatusActive}, "test")
}

// onPublicRoute returns the context of a stranger's request to a public route of acme.
func onPublicRoute(t testing.TB) context.Context {
	t.Helper()
	tn := tenancytest.New(t, func(cfg *tenancy.Config) { cfg.Resolution.Resolvers = []string{tenancy.ResolverPath} })
	tenancytest.Tenant(t, tn, "acme")
	ctx := tenancy.Promote(tn.Bind(t.Context(), &tenancy.Request{Path: "/tenants/acme/login"}))
	if b, ok := tenancy.FromContext(ctx); !ok || b.Verified {
		t.Fatalf("the public route is bound to %+v, %v", b, ok)
	}
	return ctx
}

// calls runs every method of the cache with ctx.
func calls(ctx context.Context, c *tenantcache.Cache) map[string]func() error {
	return map[string]func() error{
		"Get":          func() error { _, _, err := c.Get(ctx, "k"); return err },
		"Set":          func() error { return c.Set(ctx, "k", []byte("v"), 0) },
		"Delete":       func() error { return c.Delete(ctx, "k") },
		"GetMulti":     func() error { _, err := c.GetMulti(ctx, []string{"k"}); return err },
		"Increment":    func() error { _, err := c.Increment(ctx, "k", 1, 0); return err },
		"DeletePrefix": func() error { return c.DeletePrefix(ctx, "") },
		"DeleteTenant": func() error { return c.DeleteTenant(ctx, "acme") },
		"Key":          func() error { _, err := tenantcache.Key(ctx, "k"); return err },
	}
}

func TestL01NoTenantIsAnErrorAndNeverTheBareKey(t *testing.T) {
	t.Parallel()
	ended := context.Background()
	if err := tenancytest.New(t, withAcme).Within(t.Context(), tenancy.BySlug("acme"), "test", func(ctx context.Context) error {
		ended = ctx //nolint:fatcontext // it is to outlive its scope
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"nothing bound":               {t.Context(), tenancy.ErrNoTenant},
		"a client's word only":        {onPublicRoute(t), tenancy.ErrUnverified},
		"a scope that has ended":      {ended, tenancy.ErrScopeEnded},
		"the system without a reason": {tenancy.AsSystem(t.Context(), " "), tenancy.ErrReasonRequired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := newFull()
			backend.values["k"] = []byte("of nobody")
			backend.values["s:k"] = []byte("the system's")
			for method, call := range calls(tt.ctx, newCache(t, backend)) {
				if err := call(); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", method, err, tt.want)
				}
			}
			if len(backend.keys) > 0 {
				t.Errorf("the backend was asked for %q", backend.keys)
			}
		})
	}
}

// withAcme gives a tenancy the tenant acme.
func withAcme(cfg *tenancy.Config) {
	store := memstore.New()
	if _, err := store.Create(context.Background(), tenancy.Tenant{ID: "1", Slug: "acme", Status: tenancy.StatusActive}); err != nil {
		panic(err)
	}
	cfg.Store = store
}

func TestL01EveryKeyCarriesTheTenant(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		prefix string
	}{
		"a tenant":   {inTenant(t, "acme"), "t:acme:"},
		"the system": {tenancy.AsSystem(t.Context(), "test"), "s:"},
		"a client's word, allowed with a reason": {
			tenancy.AllowUnverified(onPublicRoute(t), "login page"), "t:" + tenancytest.ID("acme") + ":",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := newFull()
			for method, call := range calls(tt.ctx, newCache(t, backend)) {
				if method == "DeleteTenant" {
					continue
				}
				if err := call(); err != nil {
					t.Errorf("%s: %v", method, err)
				}
			}
			if len(backend.keys) != 6 {
				t.Errorf("the backend was called with %q", backend.keys)
			}
			for _, key := range backend.keys {
				if key != tt.prefix+"k" && key != tt.prefix {
					t.Errorf("the backend was called with %q", key)
				}
			}
		})
	}
}

func TestL02AKeyThatLooksLikeAnotherTenantsStaysInside(t *testing.T) {
	t.Parallel()
	backend := newFull()
	c := newCache(t, backend)
	acme, system := inTenant(t, "acme"), tenancy.AsSystem(t.Context(), "test")
	if err := c.Set(acme, "x", []byte("of acme"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(system, "x", []byte("of the system"), 0); err != nil {
		t.Fatal(err)
	}
	strangers := map[string]context.Context{
		"globex":                   inTenant(t, "globex"),
		"a tenant whose id is a t": inTenant(t, "t"),
		"a tenant whose id is a s": inTenant(t, "s"),
		"a tenant named acm":       inTenant(t, "acm"),
		"a tenant named acme2":     inTenant(t, "acme2"),
		"the system":               system,
	}
	keys := []string{"t:acme:x", ":acme:x", "acme:x", "e:x", ":x", "../t:acme:x", "t:acme:", "s:x", "\nt:acme:x", "*"}
	for name, ctx := range strangers {
		for _, key := range keys {
			if value, found, err := c.Get(ctx, key); found || err != nil {
				t.Errorf("%s reads %q at %q, %v", name, value, key, err)
			}
			if values, err := c.GetMulti(ctx, []string{key}); len(values) > 0 || err != nil {
				t.Errorf("%s reads %q at %q, %v", name, values, key, err)
			}
			if err := errors.Join(
				c.Set(ctx, key, []byte("of "+name), 0),
				c.Delete(ctx, key),
				c.DeletePrefix(ctx, key),
			); err != nil {
				t.Errorf("%s at %q: %v", name, key, err)
			}
		}
		if name != "the system" {
			if err := c.DeletePrefix(ctx, ""); err != nil {
				t.Error(err)
			}
		}
	}
	for _, own := range []context.Context{acme, system} {
		if _, found, err := c.Get(own, "x"); !found || err != nil {
			t.Errorf("the value of %v is gone, %v", own, err)
		}
	}
}

func TestL02AnIDWithAColonIsRefused(t *testing.T) {
	t.Parallel()
	backend := newFull()
	c := newCache(t, backend)
	for _, id := range []string{"acme:x", ":", "acme:", ":acme"} {
		for method, call := range calls(inTenant(t, id), c) {
			if method == "DeleteTenant" {
				continue
			}
			if _, invalid := errors.AsType[*tenancy.InvalidError](call()); !invalid {
				t.Errorf("%s with id %q: want an InvalidError", method, id)
			}
		}
		err := c.DeleteTenant(tenancy.AsSystem(t.Context(), "test"), id)
		if _, invalid := errors.AsType[*tenancy.InvalidError](err); !invalid {
			t.Errorf("DeleteTenant(%q): %v, want an InvalidError", id, err)
		}
	}
	if len(backend.keys) > 0 {
		t.Errorf("the backend was asked for %q", backend.keys)
	}
}

func TestL02TwoPairsNeverShareAKey(t *testing.T) {
	t.Parallel()
	property := func(id1, key1, id2, key2 string) bool { return distinct(t, id1, key1, id2, key2) }
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
	// The pieces that an attacker would combine, in every combination.
	pieces := []string{"", "a", "b", "ab", "t", "s", ":", "t:", "s:", "a:", "b:", "t:a:", "a:b", "t:a:b", "t:s:", "s:t:", "::"}
	type pair struct{ id, key string }
	owners := map[string]pair{}
	for _, id := range pieces {
		for _, key := range pieces {
			k, ok := backendKey(t, id, key)
			if owner, taken := owners[k]; ok && taken {
				t.Errorf("%q and %q share the key %q", owner, pair{id, key}, k)
			}
			if ok {
				owners[k] = pair{id, key}
			}
		}
	}
}

// distinct reports whether two pairs have two keys, or are one pair, or have none.
func distinct(t testing.TB, id1, key1, id2, key2 string) bool {
	t.Helper()
	k1, ok1 := backendKey(t, id1, key1)
	k2, ok2 := backendKey(t, id2, key2)
	return !ok1 || !ok2 || (k1 == k2) == (id1 == id2 && key1 == key2)
}

// backendKey returns the key of a tenant's key, and false when the id is refused. An empty id
// stands for system scope.
func backendKey(t testing.TB, id, key string) (string, bool) {
	t.Helper()
	ctx := tenancy.AsSystem(t.Context(), "test")
	if id != "" {
		ctx = inTenant(t, id)
	}
	k, err := tenantcache.Key(ctx, key)
	if (err == nil) == strings.Contains(id, ":") {
		t.Errorf("id %q: %v", id, err)
	}
	if err == nil && !strings.HasSuffix(k, key) {
		t.Errorf("the key %q became %q", key, k)
	}
	return k, err == nil
}

func FuzzKey(f *testing.F) {
	f.Add("acme", "x", "globex", "t:acme:x")
	f.Add("acme", "x", "", "t:acme:x")
	f.Add("acme", "b:c", "acme:b", "c")
	f.Add("", "t:acme:x", "", "s:t:acme:x")
	f.Add("acme", "", "acm", "e:")
	f.Fuzz(func(t *testing.T, id1, key1, id2, key2 string) {
		if !distinct(t, id1, key1, id2, key2) {
			t.Errorf("(%q, %q) and (%q, %q) share a key", id1, key1, id2, key2)
		}
	})
}

func TestTwoLevelsAreBothDivided(t *testing.T) {
	t.Parallel()
	shared := newPlain() // what two processes share
	for name, build := range map[string]func() tenantcache.Backend{
		"wrapped outside": func() tenantcache.Backend { return newCache(t, levels{newLocal(), shared}) },
		"wrapped inside":  func() tenantcache.Backend { return levels{newCache(t, newLocal()), newCache(t, shared)} },
	} {
		t.Run(name, func(t *testing.T) {
			processes := []tenantcache.Backend{build(), build()}
			ids := []string{"acme", "globex", "initech"}
			key := "greeting of " + name
			for _, id := range ids {
				if err := processes[0].Set(inTenant(t, id), key, []byte("hello "+id), 0); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 2 { // the second one is answered by the first level
				for i, process := range processes {
					for _, id := range ids {
						value, found, err := process.Get(inTenant(t, id), key)
						if string(value) != "hello "+id || !found || err != nil {
							t.Errorf("round %d, process %d: %s reads %q, %v, %v", round, i, id, value, found, err)
						}
					}
					if _, found, _ := process.Get(inTenant(t, "stranger"), key); found {
						t.Error("a stranger reads a value")
					}
					if _, _, err := process.Get(t.Context(), key); !errors.Is(err, tenancy.ErrNoTenant) {
						t.Errorf("no tenant: %v", err)
					}
				}
			}
			if err := processes[0].Delete(inTenant(t, "acme"), key); err != nil {
				t.Fatal(err)
			}
			if _, found, _ := processes[0].Get(inTenant(t, "globex"), key); !found {
				t.Error("acme deleted a value of globex")
			}
		})
	}
}

func TestGetMultiAnswersByTheCallersKeys(t *testing.T) {
	t.Parallel()
	c := newCache(t, newFull())
	ctx := inTenant(t, "acme")
	for _, key := range []string{"a", "t:acme:a", ""} {
		if err := c.Set(ctx, key, []byte("value of "+key), 0); err != nil {
			t.Fatal(err)
		}
	}
	asked := []string{"a", "b", "t:acme:a", ""}
	values, err := c.GetMulti(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "t:acme:a", ""} {
		if string(values[key]) != "value of "+key {
			t.Errorf("values[%q] = %q", key, values[key])
		}
	}
	if len(values) != 3 || !slices.Equal(asked, []string{"a", "b", "t:acme:a", ""}) {
		t.Errorf("values = %q, asked = %q", values, asked)
	}
}

// talkative answers with more than it was asked for.
type talkative struct{ *full }

func (b talkative) GetMulti(context.Context, []string) (map[string][]byte, error) {
	return b.values, nil
}

func TestGetMultiDropsWhatIsNotTheTenants(t *testing.T) {
	t.Parallel()
	backend := talkative{newFull()}
	c := newCache(t, backend)
	for _, id := range []string{"acme", "globex"} {
		if err := c.Set(inTenant(t, id), "k", []byte(id), 0); err != nil {
			t.Fatal(err)
		}
	}
	values, err := c.GetMulti(inTenant(t, "acme"), []string{"k"})
	if err != nil || len(values) != 1 || string(values["k"]) != "acme" {
		t.Errorf("values = %q, %v", values, err)
	}
}

func TestIncrementCountsPerTenant(t *testing.T) {
	t.Parallel()
	c := newCache(t, newFull())
	for i := range int64(3) {
		for _, id := range []string{"acme", "globex"} {
			if n, err := c.Increment(inTenant(t, id), "hits", 1, 0); n != i+1 || err != nil {
				t.Errorf("Increment = %d, %v", n, err)
			}
		}
	}
}

func TestDeleteTenantRemovesThatTenantOnly(t *testing.T) {
	t.Parallel()
	backend := newFull()
	c := newCache(t, backend)
	for _, id := range []string{"acme", "acme2", "globex"} {
		for i := range 3 {
			if err := c.Set(inTenant(t, id), fmt.Sprint(i), []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.DeleteTenant(inTenant(t, "globex"), "acme"); !errors.Is(err, tenancy.ErrTenantMismatch) {
		t.Errorf("in another tenant's scope: %v", err)
	}
	if err := c.DeleteTenant(tenancy.AsSystem(t.Context(), "purged"), "acme"); err != nil {
		t.Fatal(err)
	}
	if len(backend.values) != 6 {
		t.Errorf("%d values are left, want the 6 of the others", len(backend.values))
	}
	for key := range backend.values {
		if strings.HasPrefix(key, "t:acme:") {
			t.Errorf("%q is left", key)
		}
	}
}

func TestMissingMethodsAreUnsupported(t *testing.T) {
	t.Parallel()
	c := newCache(t, newPlain())
	for method, call := range calls(inTenant(t, "acme"), c) {
		switch err := call(); method {
		case "GetMulti", "Increment", "DeletePrefix":
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v", method, err)
			}
		}
	}
	if err := c.DeleteTenant(tenancy.AsSystem(t.Context(), "test"), "acme"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("DeleteTenant: %v", err)
	}
}

// broken fails.
type broken struct{ *full }

var errBroken = errors.New("broken")

func (broken) Get(context.Context, string) ([]byte, bool, error) { return nil, false, errBroken }
func (broken) GetMulti(context.Context, []string) (map[string][]byte, error) {
	return nil, errBroken
}

func TestTheBackendsErrorsComeThrough(t *testing.T) {
	t.Parallel()
	c := newCache(t, broken{newFull()})
	ctx := inTenant(t, "acme")
	if _, _, err := c.Get(ctx, "k"); !errors.Is(err, errBroken) {
		t.Errorf("Get: %v", err)
	}
	if _, err := c.GetMulti(ctx, []string{"k"}); !errors.Is(err, errBroken) {
		t.Errorf("GetMulti: %v", err)
	}
}

func TestNewRefusesACacheWithoutThePrefix(t *testing.T) {
	t.Parallel()
	_, err := tenantcache.New(nil, tenantcache.Config{Integration: tenancy.IntegrationConfig{NoCacheKeyPrefix: true}})
	if err == nil || tenancy.CodeOf(err) != tenancy.CodeConfig {
		t.Fatalf("New: %v", err)
	}
	for _, want := range []string{"tenantcache.Backend", "integration.cache_key_prefix"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

func TestKeyAllocatesTheKeyOnly(t *testing.T) {
	ctx := inTenant(t, "0197f3c0-0000-7000-8000-000000000001")
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := tenantcache.Key(ctx, "user:7:profile"); err != nil {
			t.Error(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func ExampleKey() {
	tenant := tenancy.Tenant{ID: "acme-id", Slug: "acme", Status: tenancy.StatusActive}
	key, _ := tenantcache.Key(tenancy.UnsafeBind(context.Background(), tenant, "example"), "user:7")
	fmt.Println(key)

	key, _ = tenantcache.Key(tenancy.AsSystem(context.Background(), "nightly report"), "user:7")
	fmt.Println(key)

	_, err := tenantcache.Key(context.Background(), "user:7")
	fmt.Println(errors.Is(err, tenancy.ErrNoTenant))
	// Output:
	// t:acme-id:user:7
	// s:user:7
	// true
}
