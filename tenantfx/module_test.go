package tenantfx_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantcache"
	"lexigram.dev/tenancy/tenantfx"
)

// quiet keeps the container's own log and the module's warning out of the tests'.
func quiet() fx.Option {
	return fx.Options(fx.NopLogger, fx.Supply(slog.New(slog.DiscardHandler)))
}

// build makes an application and returns what is wrong with it.
func build(opts ...fx.Option) error { return fx.New(quiet(), fx.Options(opts...)).Err() }

func TestModuleProvidesItsParts(t *testing.T) {
	t.Parallel()
	var (
		tn         *tenancy.Tenancy
		lifecycle  *tenancy.Lifecycle
		overrides  *tenancy.Overrides
		validator  *tenancy.Validator
		store      tenancy.Store
		directory  tenancy.Directory
		membership tenancy.Membership
		config     tenancy.ConfigStore
	)
	for name, module := range map[string]fx.Option{
		"zero configuration": tenantfx.Module(tenancy.Config{}),
		"stub":               tenantfx.Stub(),
		"a store in code":    tenantfx.Module(tenancy.Config{Store: memstore.New()}),
		"a store of the container": fx.Options(
			tenantfx.Module(tenancy.Config{}), tenantfx.Use[tenancy.Store](memstore.New)),
	} {
		t.Run(name, func(t *testing.T) {
			app := fxtest.New(t, quiet(), module, fx.Populate(
				&tn, &lifecycle, &overrides, &validator, &store, &directory, &membership, &config))
			app.RequireStart()
			defer app.RequireStop()
			created, err := lifecycle.Create(t.Context(), tenancy.CreateTenant{Slug: "acme", Name: "ACME Corp"})
			if err != nil || created.Slug != "acme" {
				t.Fatalf("Create = %+v, %v", created, err)
			}
			for part, dir := range map[string]tenancy.Directory{"Store": store, "Directory": directory, "Validator": validator} {
				if found, err := dir.Lookup(t.Context(), tenancy.BySlug("acme")); err != nil || found.ID != created.ID {
					t.Errorf("%s.Lookup = %+v, %v", part, found, err)
				}
			}
			if _, err := membership.Member(t.Context(), "mallory", created.ID); !errors.Is(err, tenancy.ErrNotMember) {
				t.Errorf("Member: %v", err)
			}
			if err := overrides.Set(t.Context(), created.ID, "max_users", 7); err != nil {
				t.Error(err)
			}
			if values, err := config.LoadConfig(t.Context(), created.ID); err != nil || string(values["max_users"]) != "7" {
				t.Errorf("LoadConfig = %v, %v", values, err)
			}
		})
	}
}

func TestModuleTakesEveryPartFromTheContainer(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	var tn *tenancy.Tenancy
	app := fxtest.New(t, quiet(), tenantfx.Module(tenancy.Config{}),
		tenantfx.Use[tenancy.Store](func() (tenancy.Store, error) { return store, nil }),
		tenantfx.Use[tenancy.Directory](func() tenancy.DirectoryFunc { return store.Lookup }),
		tenantfx.Use[tenancy.Membership](func() tenancy.MembershipFunc { return store.Member }),
		tenantfx.Use[tenancy.ConfigStore](func() *memstore.Store { return store }),
		tenantfx.Use[tenancy.Provisioner](func() provisioner { return provisioner{} }),
		fx.Populate(&tn))
	app.RequireStart()
	defer app.RequireStop()
	cfg := tn.Config()
	if _, ok := cfg.Directory.(tenancy.DirectoryFunc); !ok {
		t.Errorf("Directory = %T", cfg.Directory)
	}
	if _, ok := cfg.Membership.(tenancy.MembershipFunc); !ok {
		t.Errorf("Membership = %T", cfg.Membership)
	}
	created, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
	if err != nil || created.Placement.Schema != "made-by-the-container" {
		t.Errorf("Create = %+v, %v", created, err)
	}
	if cfg.Store != tenancy.Store(store) || cfg.ConfigStore != tenancy.ConfigStore(store) {
		t.Errorf("Store = %T, ConfigStore = %T", cfg.Store, cfg.ConfigStore)
	}
}

type provisioner struct{}

func (provisioner) Place(context.Context, tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{Strategy: tenancy.StrategySchema, Schema: "made-by-the-container"}, nil
}

func (provisioner) Provision(_ context.Context, t tenancy.Tenant) (tenancy.Placement, error) {
	return t.Placement, nil
}

func (provisioner) Deprovision(context.Context, tenancy.Tenant) error { return nil }

func TestModuleStartsFirstAndStopsLast(t *testing.T) {
	t.Parallel()
	var tn *tenancy.Tenancy
	startsTwice := func(when string) error {
		if err := tn.Start(context.Background()); err == nil {
			t.Errorf("the tenancy did not run %s", when)
		}
		return nil
	}
	app := fxtest.New(t, quiet(),
		// A user of a part, named before the module.
		fx.Invoke(func(lc fx.Lifecycle, _ *tenancy.Lifecycle) {
			lc.Append(fx.Hook{
				OnStart: func(context.Context) error { return startsTwice("when its user started") },
				OnStop:  func(context.Context) error { return startsTwice("when its user stopped") },
			})
		}),
		fx.Populate(&tn),
		tenantfx.Module(tenancy.Config{}),
	)
	app.RequireStart()
	app.RequireStop()
	if err := tn.Start(t.Context()); err != nil {
		t.Errorf("Start after the stop: %v: the module did not stop it", err)
	}
	for range 2 {
		if err := tn.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
}

// polled counts how often it is asked for changes.
type polled struct {
	*memstore.Store
	asked chan struct{}
}

func (p polled) Changes(ctx context.Context, since int64) (tenancy.Changes, error) {
	select {
	case p.asked <- struct{}{}:
	default:
	}
	return p.Store.Changes(ctx, since)
}

func TestModuleStartsAlthoughNobodyAsksForIt(t *testing.T) {
	t.Parallel()
	store := polled{memstore.New(), make(chan struct{}, 100)}
	cfg := tenancy.Config{Store: store}
	cfg.Resolution.PollInterval = time.Millisecond
	app := fxtest.New(t, quiet(), tenantfx.Module(cfg))
	if len(store.asked) > 0 {
		t.Error("it ran before the start")
	}
	app.RequireStart()
	for range 3 {
		<-store.asked
	}
	app.RequireStop()
}

// unreachable is a catalogue that cannot be asked.
type unreachable struct{ *memstore.Store }

var errDown = errors.New("the catalogue is down")

func (unreachable) Changes(context.Context, int64) (tenancy.Changes, error) {
	return tenancy.Changes{}, errDown
}

func TestModuleFailsTheStartWithTheTenancy(t *testing.T) {
	t.Parallel()
	app := fx.New(quiet(), tenantfx.Module(tenancy.Config{Store: unreachable{memstore.New()}}))
	if err := app.Err(); err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); !errors.Is(err, errDown) || !errors.Is(err, tenancy.ErrUnavailable) {
		t.Errorf("Start: %v", err)
	}
}

func TestMistakesFailTheApplication(t *testing.T) {
	t.Parallel()
	lookupOnly := tenancy.DirectoryFunc(func(context.Context, tenancy.Ref) (tenancy.Tenant, error) {
		return tenancy.Tenant{}, tenancy.ErrNotFound
	})
	wrong := tenancy.Config{Store: memstore.New()}
	wrong.Resolution.Resolvers = []string{"telepathy"}
	off := tenancy.Config{Store: memstore.New()}
	off.Integration.NoCacheKeyPrefix = true
	for name, tt := range map[string]struct {
		app  []fx.Option
		want []string
	}{
		"a store given twice": {
			[]fx.Option{tenantfx.Module(tenancy.Config{Store: memstore.New()}), tenantfx.Use[tenancy.Store](memstore.New)},
			[]string{"Store: given twice", "keep one"},
		},
		"a store beside the module's own": {
			[]fx.Option{tenantfx.Module(tenancy.Config{}), fx.Provide(func() tenancy.Store { return memstore.New() })},
			[]string{"tenancy.Store", "already provided"},
		},
		"a wrong configuration": {
			[]fx.Option{tenantfx.Module(wrong)},
			[]string{"resolution.resolvers", "telepathy"},
		},
		"a store that cannot be made": {
			[]fx.Option{
				tenantfx.Module(tenancy.Config{}),
				tenantfx.Use[tenancy.Store](func() (*memstore.Store, error) { return nil, errDown }),
			},
			[]string{errDown.Error()},
		},
		"no store behind a directory": {
			[]fx.Option{tenantfx.Module(tenancy.Config{Directory: lookupOnly}), fx.Invoke(func(tenancy.Store) {})},
			[]string{"there is no tenancy.Store", "tenantfx.Use"},
		},
		"no membership behind a directory": {
			[]fx.Option{tenantfx.Module(tenancy.Config{Directory: lookupOnly}), fx.Invoke(func(tenancy.Membership) {})},
			[]string{"there is no tenancy.Membership"},
		},
		"no config store behind a directory": {
			[]fx.Option{tenantfx.Module(tenancy.Config{Directory: lookupOnly}), fx.Invoke(func(tenancy.ConfigStore) {})},
			[]string{"there is no tenancy.ConfigStore"},
		},
		"something that is no part": {
			[]fx.Option{tenantfx.Module(tenancy.Config{}), tenantfx.Use[context.Context](context.Background)},
			[]string{"context.Context is no part of the configuration"},
		},
		"a constructor of something else": {
			[]fx.Option{tenantfx.Module(tenancy.Config{}), tenantfx.Use[tenancy.Store](func() lookup { return lookup{} })},
			[]string{"does not implement tenancy.Store"},
		},
		"a cache without a backend": {
			[]fx.Option{tenantfx.Module(tenancy.Config{}), fx.Invoke(func(*tenantcache.Cache) {})},
			[]string{"tenantcache.Backend", "required"},
		},
		"a cache with the prefix switched off": {
			[]fx.Option{
				tenantfx.Module(off), fx.Provide(func() tenantcache.Backend { return cache{} }),
				fx.Invoke(func(*tenantcache.Cache) {}),
			},
			[]string{"integration.cache_key_prefix"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := build(tt.app...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

type lookup struct{}

func (lookup) Lookup(context.Context, tenancy.Ref) (tenancy.Tenant, error) {
	return tenancy.Tenant{}, tenancy.ErrNotFound
}

func TestADirectoryAloneIsEnough(t *testing.T) {
	t.Parallel()
	if err := build(tenantfx.Module(tenancy.Config{}), tenantfx.Use[tenancy.Directory](func() lookup { return lookup{} }),
		fx.Invoke(func(tn *tenancy.Tenancy, _ tenancy.Directory) {
			if tn.Config().Store != nil {
				t.Errorf("Store = %T: a catalogue in memory stands beside the application's directory", tn.Config().Store)
			}
		})); err != nil {
		t.Error(err)
	}
}

func TestOneOptionServesSeveralApplications(t *testing.T) {
	t.Parallel()
	for name, module := range map[string]fx.Option{"stub": tenantfx.Stub(), "zero": tenantfx.Module(tenancy.Config{})} {
		for range 2 {
			err := build(module, fx.Invoke(func(tenants *tenancy.Lifecycle) error {
				_, err := tenants.Create(context.Background(), tenancy.CreateTenant{Slug: "acme"})
				return err
			}))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestTheStoreInMemoryIsLogged(t *testing.T) {
	t.Parallel()
	logged := func(module fx.Option) string {
		t.Helper()
		var out bytes.Buffer
		app := fx.New(fx.NopLogger, fx.Provide(func() *slog.Logger { return slog.New(slog.NewTextHandler(&out, nil)) }), module)
		if err := app.Err(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if text := logged(tenantfx.Module(tenancy.Config{})); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "in memory") {
		t.Errorf("log = %q", text)
	}
	for name, module := range map[string]fx.Option{
		"stub":    tenantfx.Stub(),
		"a store": tenantfx.Module(tenancy.Config{Store: memstore.New()}),
	} {
		if text := logged(module); text != "" {
			t.Errorf("%s: log = %q", name, text)
		}
	}
}

// cache is a backend that remembers nothing but its keys.
type cache struct{ keys *[]string }

func (c cache) Get(_ context.Context, key string) ([]byte, bool, error) {
	*c.keys = append(*c.keys, key)
	return nil, false, nil
}
func (cache) Set(context.Context, string, []byte, time.Duration) error { return nil }
func (cache) Delete(context.Context, string) error                     { return nil }

func TestModuleDividesTheCacheAmongTheTenants(t *testing.T) {
	t.Parallel()
	var keys []string
	err := build(tenantfx.Stub(), fx.Provide(func() tenantcache.Backend { return cache{&keys} }),
		fx.Invoke(func(tn *tenancy.Tenancy, c *tenantcache.Cache) error {
			if _, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{ID: "acme-id", Slug: "acme"}); err != nil {
				return err
			}
			return tn.Within(t.Context(), tenancy.BySlug("acme"), "test", func(ctx context.Context) error {
				_, _, err := c.Get(ctx, "k")
				return err
			})
		}))
	if err != nil || !slices.Equal(keys, []string{"t:acme-id:k"}) {
		t.Errorf("keys = %q, %v", keys, err)
	}
}
