package tenantconfig_test

import (
	"fmt"
	"os"
	"path/filepath"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantconfig"
)

// Option 1: application.yaml.
func ExampleLoad_yaml() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	text := `
tenancy:
  resolution:
    resolvers: ["jwt_claim", "header"]
    header_name: "x-tenant-id"
    jwt_claim_key: "tenant_id"
  lifecycle:
    isolation_strategy: "row_level"
    auto_provision_isolation: true
`
	if err := os.WriteFile(filepath.Join(dir, "application.yaml"), []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	cfg, err := tenantconfig.Load(tenantconfig.Options{Dir: dir})
	fmt.Println(cfg.Resolution.Resolvers, cfg.Resolution.HeaderName, cfg.Lifecycle.IsolationStrategy, err)
	// Output: [jwt_claim header] x-tenant-id row_level <nil>
}

// Option 2: variables, here given by hand; by default those of the process.
func ExampleLoad_variables() {
	cfg, err := tenantconfig.Load(tenantconfig.Options{Environ: []string{
		`LEX_TENANCY__ENABLED=true`,
		`LEX_TENANCY__RESOLUTION__RESOLVERS=["jwt_claim", "header"]`,
	}})
	fmt.Println(!cfg.Disabled, cfg.Resolution.Resolvers, err)
	// Output: true [jwt_claim header] <nil>
}

// Option 3: a struct needs nothing of this package.
func ExampleLoad_struct() {
	cfg := tenancy.Config{
		Resolution: tenancy.ResolutionConfig{
			Resolvers:   []string{"jwt_claim", "header"},
			HeaderName:  "x-tenant-id",
			JWTClaimKey: "tenant_id",
		},
		Lifecycle: tenancy.LifecycleConfig{IsolationStrategy: "schema"},
	}
	fmt.Println(cfg.Resolution.Resolvers, cfg.Lifecycle.IsolationStrategy)
	// Output: [jwt_claim header] schema
}

// All problems come at once, each with the place to correct it.
func ExampleLoad_problems() {
	_, err := tenantconfig.Load(tenantconfig.Options{Environ: []string{
		`LEX_TENANCY__RESOLUTON__RESOLVERS=["header"]`,
		`LEX_TENANCY__LIFECYCLE__ISOLATION_STRATEGY=schemas`,
	}})
	fmt.Println(err)
	// Output:
	// LEX_TENANCY__LIFECYCLE__ISOLATION_STRATEGY: lifecycle.isolation_strategy: "schemas" is not known: did you mean schema?
	// LEX_TENANCY__RESOLUTON__RESOLVERS: *: is not a known variable: did you mean LEX_TENANCY__RESOLUTION__RESOLVERS?
}
