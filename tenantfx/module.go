// Package tenantfx answers how an uber/fx container holds the tenancy: [Module] composes it,
// starts and stops it with the application, and provides its parts.
//
//	fx.New(
//		tenantfx.Module(cfg),
//		tenantfx.Use[tenancy.Store](sqlstore.Open), // func(*sql.DB) (*sqlstore.Store, error)
//		fx.Invoke(func(tenants *tenancy.Lifecycle) { … }),
//	)
//
// It provides *tenancy.Tenancy, *tenancy.Lifecycle, *tenancy.Overrides, *tenancy.Validator, the
// interfaces tenancy.Store, tenancy.Directory, tenancy.Membership and tenancy.ConfigStore, and
// *tenantcache.Cache. What the configuration has no implementation of is an error that says so
// where somebody asks for it. It does not provide HTTP middleware: that needs the application's
// own notion of an identity.
package tenantfx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"go.uber.org/fx"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantcache"
)

// inputName is the name, in the container, of what [Use] gives to the module. The module's
// own results have none, so the two never meet.
const inputName = `name:"tenancy.input"`

// Module composes a tenancy from cfg and from what [Use] gives, see [tenancy.New]. It starts
// with the application, before everything that asked for a part of it, and stops after that.
// Problems of the configuration fail [fx.New].
//
// The zero Config works: with neither a Store nor a Directory the tenants live in memory and
// end with the process, and a warning in the log says so.
func Module(cfg tenancy.Config) fx.Option { return module(cfg, false) }

// Stub is a Module for tests: the default configuration over an empty catalogue in memory.
// Each application made with it has a catalogue of its own.
func Stub() fx.Option { return module(tenancy.Config{}, true) }

// Use gives the module an implementation that the container makes. The constructor is as for
// [fx.Provide], its first result implements T, and T is one of tenancy.Store, Directory,
// Membership, ConfigStore and Provisioner. The same field in the Config as well is an error;
// so is a constructor that needs a part of the tenancy itself.
func Use[T any](constructor any) fx.Option {
	if t := reflect.TypeFor[T](); !usable(t) {
		return fx.Error(fmt.Errorf("tenantfx.Use: %s is no part of the configuration: use tenancy.Store, Directory, Membership, ConfigStore or Provisioner", t))
	}
	return fx.Provide(fx.Annotate(constructor, fx.As(new(T)), fx.ResultTags(inputName)))
}

func usable(t reflect.Type) bool {
	for _, part := range []reflect.Type{
		reflect.TypeFor[tenancy.Store](), reflect.TypeFor[tenancy.Directory](), reflect.TypeFor[tenancy.Membership](),
		reflect.TypeFor[tenancy.ConfigStore](), reflect.TypeFor[tenancy.Provisioner](),
	} {
		if t == part {
			return true
		}
	}
	return false
}

// inputs are what the container may give.
type inputs struct {
	fx.In

	Store       tenancy.Store       `name:"tenancy.input" optional:"true"`
	Directory   tenancy.Directory   `name:"tenancy.input" optional:"true"`
	Membership  tenancy.Membership  `name:"tenancy.input" optional:"true"`
	ConfigStore tenancy.ConfigStore `name:"tenancy.input" optional:"true"`
	Provisioner tenancy.Provisioner `name:"tenancy.input" optional:"true"`
	Logger      *slog.Logger        `optional:"true"`
}

// merge completes cfg.
func (in inputs) merge(cfg *tenancy.Config) error {
	if cfg.Logger == nil {
		cfg.Logger = in.Logger
	}
	return errors.Join(
		take(&cfg.Store, in.Store, "Store"),
		take(&cfg.Directory, in.Directory, "Directory"),
		take(&cfg.Membership, in.Membership, "Membership"),
		take(&cfg.ConfigStore, in.ConfigStore, "ConfigStore"),
		take(&cfg.Provisioner, in.Provisioner, "Provisioner"),
	)
}

// take moves what the container gave to its place in the configuration.
func take[T any](field *T, given T, key string) error {
	switch {
	case any(given) == nil:
		return nil
	case any(*field) != nil:
		return &tenancy.ConfigError{Key: key, Err: errors.New(
			"given twice, in the tenancy.Config and to tenantfx.Use: keep one")}
	}
	*field = given
	return nil
}

func module(cfg tenancy.Config, stub bool) fx.Option {
	compose := func(lc fx.Lifecycle, in inputs) (*tenancy.Tenancy, error) {
		cfg := cfg // each application completes its own
		if err := in.merge(&cfg); err != nil {
			return nil, err
		}
		if cfg.Store == nil && cfg.Directory == nil {
			cfg.Store = memstore.New()
			if !stub {
				warnOfMemory(cfg.Logger)
			}
		}
		tn, err := tenancy.New(cfg)
		if err != nil {
			return nil, err
		}
		lc.Append(fx.Hook{OnStart: tn.Start, OnStop: tn.Stop})
		return tn, nil
	}
	return fx.Module("tenancy",
		fx.Provide(
			compose,
			(*tenancy.Tenancy).Lifecycle,
			(*tenancy.Tenancy).Overrides,
			(*tenancy.Tenancy).Validator,
			func(tn *tenancy.Tenancy) (tenancy.Store, error) {
				return configured(tn.Config().Store, "Store")
			},
			func(tn *tenancy.Tenancy) (tenancy.Directory, error) {
				return configured(tn.Config().Directory, "Directory")
			},
			func(tn *tenancy.Tenancy) (tenancy.Membership, error) {
				return configured(tn.Config().Membership, "Membership")
			},
			func(tn *tenancy.Tenancy) (tenancy.ConfigStore, error) {
				return configured(tn.Config().ConfigStore, "ConfigStore")
			},
			newCache,
		),
		fx.Invoke(func(*tenancy.Tenancy) {}), // it starts although nobody may ask for it
	)
}

func warnOfMemory(log *slog.Logger) {
	if log == nil {
		log = slog.Default()
	}
	log.WarnContext(context.Background(),
		"tenancy: no Store and no Directory is configured: tenants are kept in memory and end with the process")
}

// configured returns a part of the configuration, or an error where there is none.
func configured[T any](part T, key string) (T, error) {
	if any(part) == nil {
		return part, fmt.Errorf("%w: there is no tenancy.%s: give one in tenancy.Config or with tenantfx.Use", errors.ErrUnsupported, key)
	}
	return part, nil
}

// cacheInputs are the cache that all tenants share, as the application provides it.
type cacheInputs struct {
	fx.In

	Tenancy *tenancy.Tenancy
	Backend tenantcache.Backend `optional:"true"`
}

// newCache divides the container's [tenantcache.Backend] among the tenants.
func newCache(in cacheInputs) (*tenantcache.Cache, error) {
	return tenantcache.New(in.Backend, tenantcache.Config{Integration: in.Tenancy.Config().Integration})
}
