package demo

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
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
	// DatabaseURL keeps the data in PostgreSQL (postgres://…) or MariaDB (mysql://…) instead. It is
	// the URL of a superuser: the demo makes a login of its own for each kind of work and uses this
	// one only to set them up. On PostgreSQL an owner of the database who may create roles will do;
	// on MariaDB the database is made when it is missing, and is tenancy_demo when the URL names none.
	DatabaseURL string
	// PoolerURL is where the logins reach PostgreSQL's database at run time, for example through
	// PgBouncer in transaction mode. Its user and password are not used. Defaults to
	// DatabaseURL's address.
	PoolerURL string
	// Isolation is the strategy. Defaults to the configuration's, then to row_level on PostgreSQL and
	// to database on MariaDB and on SQLite, which has nothing else.
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
		problems = append(problems, errors.New("--data and --database-url exclude each other: the data is in SQLite files or on a server"))
	}
	engine, err := o.engine()
	if err != nil {
		problems = append(problems, err)
	}
	problems = append(problems, o.checkPooler(engine))
	if o.Isolation != "" {
		problems = append(problems, o.supported(engine, "--isolation", o.Isolation))
	}
	return errors.Join(problems...)
}

func (o Options) checkPooler(e *engine) error {
	switch {
	case o.PoolerURL == "" || e == nil:
		return nil
	case o.DatabaseURL == "":
		return errors.New("--pooler-url needs --database-url: the roles and tables are made past the pooler")
	case e != &postgreSQL:
		return fmt.Errorf("--pooler-url is for PostgreSQL only: leave it out for %s", e.name)
	case !postgreSQL.speaks(o.PoolerURL):
		return errors.New("--pooler-url is no URL of PostgreSQL: write " + postgreSQL.url)
	}
	return nil
}

// supported says whether the demo can keep tenants apart on e by that strategy, and what it can
// do instead. source is who asked for it.
func (o Options) supported(e *engine, source, strategy string) error {
	all := []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase}
	switch {
	case !slices.Contains(all, strategy):
		return fmt.Errorf("%s %q is no isolation strategy: there are %s", source, strategy, strings.Join(all, ", "))
	case e == nil:
		return nil // the URL is wrong, which is enough to say
	case !slices.Contains(e.strategies, strategy):
		return fmt.Errorf("%s %s is not available on %s: use %s, or %s",
			source, strategy, e.name, strings.Join(e.strategies, " or "), serversWith(strategy))
	case o.PoolerURL != "" && strategy == tenancy.StrategyDatabase:
		return fmt.Errorf("%s %s is not available with --pooler-url: a pooler would have to know the login of each tenant's database",
			source, strategy)
	}
	return nil
}

// config reads the configuration and settles the strategy.
func (o Options) config(e *engine) (tenancy.Config, error) {
	cfg, err := o.load()
	if err != nil {
		return cfg, fmt.Errorf("configuration:\n%w", err)
	}
	if o.Isolation == "" && cfg.Lifecycle.IsolationStrategy != "" {
		if err := o.supported(e, "the configuration's lifecycle.isolation_strategy", cfg.Lifecycle.IsolationStrategy); err != nil {
			return cfg, err
		}
	}
	cfg.Lifecycle.IsolationStrategy = cmp.Or(o.Isolation, cfg.Lifecycle.IsolationStrategy, e.strategies[0])
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
