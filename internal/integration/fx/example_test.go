// Package fx_test runs the container with a configuration from a file and from variables, and
// with a catalogue in SQLite.
package fx_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	uberfx "go.uber.org/fx"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantconfig"
	"lexigram.dev/tenancy/tenantfx"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// application prints what the container knows once it has started.
func application(cfg tenancy.Config, more ...uberfx.Option) {
	ctx := context.Background()
	app := uberfx.New(
		uberfx.NopLogger,
		tenantfx.Module(cfg),
		uberfx.Options(more...),
		uberfx.Invoke(func(lc uberfx.Lifecycle, tn *tenancy.Tenancy, provider tenancy.Store) {
			lc.Append(uberfx.StartHook(func(ctx context.Context) error {
				page, err := provider.List(ctx, tenancy.ListOptions{Statuses: []tenancy.Status{tenancy.StatusActive}})
				fmt.Println("Resolvers:", tn.Config().Resolution.Resolvers)
				fmt.Println("Active tenants:", len(page.Tenants))
				return err
			}))
		}),
	)
	must(app.Start(ctx))
	must(app.Stop(ctx))
}

// The configuration as a file.
func Example_yaml() {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	must(os.WriteFile(filepath.Join(dir, "application.yaml"), []byte(`
tenancy:
  resolution:
    resolvers: ["jwt_claim", "header"]
    header_name: "x-tenant-id"
    jwt_claim_key: "tenant_id"
  lifecycle:
    isolation_strategy: "row_level"
    auto_provision_isolation: true
`), 0o600))
	cfg, err := tenantconfig.Load(tenantconfig.Options{Dir: dir})
	must(err)
	application(cfg)
	// Output:
	// Resolvers: [jwt_claim header]
	// Active tenants: 0
}

// The configuration as variables.
func Example_environment() {
	cfg, err := tenantconfig.Load(tenantconfig.Options{Environ: []string{ // or the process's own
		`LEX_TENANCY__ENABLED=true`,
		`LEX_TENANCY__RESOLUTION__RESOLVERS=["jwt_claim", "header"]`,
	}})
	must(err)
	application(cfg)
	// Output:
	// Resolvers: [jwt_claim header]
	// Active tenants: 0
}

// A catalogue in SQLite: the container opens it before the tenancy starts and closes it after
// the tenancy has stopped.
func Example_sqlite() {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	application(tenancy.Config{},
		uberfx.Provide(func(lc uberfx.Lifecycle) (*sql.DB, error) {
			db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "catalogue.db")+"?_pragma=busy_timeout(10000)")
			if err == nil {
				lc.Append(uberfx.StopHook(db.Close))
			}
			return db, err
		}),
		tenantfx.Use[tenancy.Store](func(lc uberfx.Lifecycle, db *sql.DB) (*sqlstore.Store, error) {
			store, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
			if err == nil {
				lc.Append(uberfx.StartHook(store.Migrate))
			}
			return store, err
		}),
	)
	// Output:
	// Resolvers: [jwt_claim header subdomain path]
	// Active tenants: 0
}
