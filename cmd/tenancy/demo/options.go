package demo

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantconfig"
)

// Options choose how the demo runs. The zero value keeps each tenant in a SQLite file of its
// own, in a temporary folder.
type Options struct {
	// DataDir keeps the SQLite files. Defaults to a temporary folder that [App.Close] removes.
	DataDir string
	// DatabaseURL keeps the data in PostgreSQL instead. It is the URL of a superuser, or of an
	// owner of the database who may create roles: the demo makes a login of its own for each
	// kind of work and uses this one only to set them up.
	DatabaseURL string
	// PoolerURL is where the logins reach that database at run time, for example through
	// PgBouncer in transaction mode. Its user and password are not used. Defaults to
	// DatabaseURL's address.
	PoolerURL string
	// Isolation is the strategy. Defaults to the configuration's, then to database on SQLite, which
	// has nothing else, and row_level on PostgreSQL.
	Isolation string
	// ConfigFile is an application.yaml. Defaults to none; the variables LEX_TENANCY__… count
	// all the same.
	ConfigFile string
	// Environ holds the variables as "name=value". Defaults to os.Environ().
	Environ []string
	// JWTSecret signs the tokens. Defaults to a random one.
	JWTSecret string
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports what contradicts itself or is not built, all of it. It does no I/O.
func (o Options) Validate() error {
	var problems []error
	if o.DatabaseURL != "" && o.DataDir != "" {
		problems = append(problems, errors.New("--data and --database-url exclude each other: the data is in SQLite files or in PostgreSQL"))
	}
	if o.PoolerURL != "" && o.DatabaseURL == "" {
		problems = append(problems, errors.New("--pooler-url needs --database-url: the roles and tables are made past the pooler"))
	}
	for _, f := range []struct{ flag, url string }{{"database-url", o.DatabaseURL}, {"pooler-url", o.PoolerURL}} {
		if f.url != "" {
			problems = append(problems, checkURL(f.flag, f.url))
		}
	}
	if o.Isolation != "" {
		problems = append(problems, o.supported("--isolation", o.Isolation))
	}
	return errors.Join(problems...)
}

// checkURL does not repeat the URL: it may hold a password.
func checkURL(flag, s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return fmt.Errorf("--%s is no URL of PostgreSQL: write postgres://user:password@host:port/database", flag)
	}
	return nil
}

// supported says whether the demo can keep tenants apart by that strategy, and what it can
// do instead. source is who asked for it.
func (o Options) supported(source, strategy string) error {
	all := []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase}
	switch {
	case !slices.Contains(all, strategy):
		return fmt.Errorf("%s %q is no isolation strategy: there are %s", source, strategy, strings.Join(all, ", "))
	case o.DatabaseURL == "" && strategy != tenancy.StrategyDatabase:
		return fmt.Errorf("%s %s is not available on SQLite: use %s, or PostgreSQL (--database-url postgres://…)",
			source, strategy, tenancy.StrategyDatabase)
	case o.PoolerURL != "" && strategy == tenancy.StrategyDatabase:
		return fmt.Errorf("%s %s is not available with --pooler-url: a pooler would have to know the login of each tenant's database",
			source, strategy)
	}
	return nil
}

// config reads the configuration and settles the strategy.
func (o Options) config() (tenancy.Config, error) {
	cfg, err := o.load()
	if err != nil {
		return cfg, fmt.Errorf("configuration:\n%w", err)
	}
	if o.Isolation == "" && cfg.Lifecycle.IsolationStrategy != "" {
		if err := o.supported("the configuration's lifecycle.isolation_strategy", cfg.Lifecycle.IsolationStrategy); err != nil {
			return cfg, err
		}
	}
	fallback := tenancy.StrategyDatabase
	if o.DatabaseURL != "" {
		fallback = tenancy.StrategyRowLevel
	}
	cfg.Lifecycle.IsolationStrategy = cmp.Or(o.Isolation, cfg.Lifecycle.IsolationStrategy, fallback)
	cfg.Resolution.SubdomainPattern = cmp.Or(cfg.Resolution.SubdomainPattern, "localhost")
	if cfg.Overrides.Defaults == nil {
		cfg.Overrides.Defaults = map[string]any{"max_users": 50}
	}
	cfg.Logger = o.Logger
	return cfg, nil
}

// load reads the file, if one was named, and the variables. An application.yaml that happens
// to lie in the working directory belongs to another application.
func (o Options) load() (tenancy.Config, error) {
	environ := o.Environ
	if environ == nil {
		environ = os.Environ()
	}
	if o.ConfigFile != "" {
		return tenantconfig.Load(tenantconfig.Options{Environ: environ, Files: []string{o.ConfigFile}})
	}
	empty, err := os.MkdirTemp("", "tenancy-demo-")
	if err != nil {
		return tenancy.Config{}, err
	}
	defer func() { _ = os.Remove(empty) }() // an empty folder that stays does no harm
	environ = slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return strings.HasPrefix(variable, "LEX_PROFILE=") // chooses between files
	})
	return tenantconfig.Load(tenantconfig.Options{Environ: environ, Dir: empty})
}
