package tenantconfig_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantconfig"
)

// folder writes files, given as name and text in turn, and returns their folder.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, opts tenantconfig.Options) tenancy.Config {
	t.Helper()
	cfg, err := tenantconfig.Load(hermetic(opts))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// hermetic keeps the environment of the test run out.
func hermetic(opts tenantconfig.Options) tenantconfig.Options {
	if opts.Environ == nil {
		opts.Environ = []string{}
	}
	return opts
}

// problems loads and returns the problems, the folder's name removed.
func problems(t testing.TB, opts tenantconfig.Options) []string {
	t.Helper()
	cfg, err := tenantconfig.Load(hermetic(opts))
	if err == nil {
		return nil
	}
	if !reflect.DeepEqual(cfg, tenancy.Config{}) {
		t.Errorf("Load returns %+v beside an error", cfg)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T does not join the problems", err)
	}
	var lines []string
	for _, err := range joined.Unwrap() {
		var problem *tenancy.ConfigError
		if !errors.As(err, &problem) {
			t.Errorf("%v is a %T", err, err)
		} else if problem.Source == "" || problem.Key == "" {
			t.Errorf("%v has no source or no key", err)
		}
		lines = append(lines, relative(err.Error(), opts.Dir))
	}
	return lines
}

// relative removes the folder from a message.
func relative(message, dir string) string {
	if dir == "" {
		return message
	}
	return strings.ReplaceAll(message, dir+string(filepath.Separator), "")
}

const everything = `
app: {name: notes, anything: [goes, here]}
tenancy:
  enabled: false
  resolution:
    resolvers: [header, "path", corp]
    header_name: X-Org
    subdomain_pattern: app.com
    path_pattern: /t/{tenant_id}/
    jwt_claim_key: org
    validator_cache_ttl: 10
    negative_cache_ttl: 0
    membership_cache_ttl: 1.5
    stale_if_error: 2m30s
    cache_size: 42
    poll_interval: 1e2
    trusted_resolvers: [corp]
    unsafe_trust_client: true
    strict_membership: false
    on_conflict: reject
    issuer_tenants: {"https://id.globex.com/": globex}
    trusted_proxies: [10.0.0.0/8, "::1"]
  lifecycle:
    isolation_strategy: sharded
    auto_provision_isolation: false
    reserved_slugs: [status-page]
    async: true
    runner: false
    workers: 9
    lease: 20
    give_up_after: 1h
    archive_grace: 0
    auto_purge: true
    slug_quarantine: 24h
    max_grant: 8h
  overrides:
    cache_ttl: 0
    defaults:
      max_users: 50
      ratio: 0.5
      theme: dark
      beta: true
      limits: {daily: [1, two, null]}
      since: 2020-01-01
    plans:
      gold: {max_users: 500, theme: gold}
      free: {}
  events:
    retention: 1h
    max_attempts: 0
    lease: 5
  integration:
    cache_key_prefix: false
    sql_context_bridge: false
`

func everyField() tenancy.Config {
	return tenancy.Config{
		Disabled: true,
		Resolution: tenancy.ResolutionConfig{
			Resolvers: []string{"header", "path", "corp"}, HeaderName: "X-Org", SubdomainPattern: "app.com",
			PathPattern: "/t/{tenant_id}/", JWTClaimKey: "org", ValidatorCacheTTL: 10 * time.Second, NegativeCacheTTL: -1,
			MembershipCacheTTL: 1500 * time.Millisecond, StaleIfError: 150 * time.Second, CacheSize: 42,
			PollInterval: 100 * time.Second, TrustedResolvers: []string{"corp"}, UnsafeTrustClient: true,
			LaxMembership: true, OnConflict: tenancy.Reject,
			IssuerTenants:  map[string]string{"https://id.globex.com/": "globex"},
			TrustedProxies: []string{"10.0.0.0/8", "::1"},
		},
		Lifecycle: tenancy.LifecycleConfig{
			IsolationStrategy: "sharded", NoAutoProvision: true, ReservedSlugs: []string{"status-page"},
			Async: true, NoRunner: true, Workers: 9, Lease: 20 * time.Second, GiveUpAfter: time.Hour, ArchiveGrace: -1, AutoPurge: true, SlugQuarantine: 24 * time.Hour, MaxGrant: 8 * time.Hour,
		},
		Overrides: tenancy.OverridesConfig{CacheTTL: -1, Defaults: map[string]any{
			"max_users": int64(50), "ratio": 0.5, "theme": "dark", "beta": true,
			"limits": map[string]any{"daily": []any{int64(1), "two", nil}}, "since": "2020-01-01",
		}, Plans: map[string]map[string]any{"gold": {"max_users": int64(500), "theme": "gold"}, "free": {}}},
		Events:      tenancy.EventsConfig{Retention: time.Hour, MaxAttempts: -1, Lease: 5 * time.Second},
		Integration: tenancy.IntegrationConfig{NoCacheKeyPrefix: true, NoSQLContextBridge: true},
	}
}

func same(t testing.TB, got, want tenancy.Config) {
	t.Helper()
	type plain struct {
		Disabled    bool
		Resolution  tenancy.ResolutionConfig
		Lifecycle   tenancy.LifecycleConfig
		Overrides   tenancy.OverridesConfig
		Integration tenancy.IntegrationConfig
	}
	of := func(c tenancy.Config) plain {
		return plain{c.Disabled, c.Resolution, c.Lifecycle, c.Overrides, c.Integration}
	}
	if diff := cmp.Diff(of(want), of(got)); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestZeroConfiguration(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"an empty file": "", "a comment": "# nothing\n", "null": "null\n", "another's keys": "server: {port: 80}\ntenants: 3\n",
		"an empty section": "tenancy:\n", "empty sections": "tenancy:\n  resolution:\n  lifecycle: {}\n", "a BOM": "\ufefftenancy:\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, load(t, tenantconfig.Options{Dir: folder(t, "application.yaml", text)}), tenancy.Config{})
		})
	}
	same(t, load(t, tenantconfig.Options{Dir: t.TempDir()}), tenancy.Config{})
}

func TestEveryKeyFromAFile(t *testing.T) {
	t.Parallel()
	opts := tenantconfig.Options{
		Dir: folder(t, "application.yaml", everything), Resolvers: []string{"corp"}, Strategies: []string{"sharded"},
	}
	same(t, load(t, opts), everyField())
}

func TestEveryKeyFromVariables(t *testing.T) {
	t.Parallel()
	opts := tenantconfig.Options{Dir: t.TempDir(), Resolvers: []string{"corp"}, Strategies: []string{"sharded"}, Environ: []string{
		"PATH=/bin", "LEX_OTHER__THING=1", "LEX_TENANCYX=1",
		"LEX_TENANCY__ENABLED=false",
		`LEX_TENANCY__RESOLUTION__RESOLVERS=["header", "path", "corp"]`,
		"LEX_TENANCY__RESOLUTION__HEADER_NAME=X-Org",
		"LEX_TENANCY__RESOLUTION__SUBDOMAIN_PATTERN=app.com",
		"LEX_TENANCY__RESOLUTION__PATH_PATTERN=/t/{tenant_id}/",
		"LEX_TENANCY__RESOLUTION__JWT_CLAIM_KEY=org",
		"LEX_TENANCY__RESOLUTION__VALIDATOR_CACHE_TTL=10",
		"LEX_TENANCY__RESOLUTION__NEGATIVE_CACHE_TTL=0",
		"LEX_TENANCY__RESOLUTION__MEMBERSHIP_CACHE_TTL=1.5",
		"LEX_TENANCY__RESOLUTION__STALE_IF_ERROR=2m30s",
		"LEX_TENANCY__RESOLUTION__CACHE_SIZE=42",
		"LEX_TENANCY__RESOLUTION__POLL_INTERVAL=100",
		`LEX_TENANCY__RESOLUTION__TRUSTED_RESOLVERS=["corp"]`,
		"LEX_TENANCY__RESOLUTION__UNSAFE_TRUST_CLIENT=TRUE",
		"LEX_TENANCY__RESOLUTION__STRICT_MEMBERSHIP=False",
		"LEX_TENANCY__RESOLUTION__ON_CONFLICT=reject",
		`LEX_TENANCY__RESOLUTION__ISSUER_TENANTS={"https://id.globex.com/": "globex"}`,
		`LEX_TENANCY__RESOLUTION__TRUSTED_PROXIES=["10.0.0.0/8","::1"]`,
		"LEX_TENANCY__LIFECYCLE__ISOLATION_STRATEGY=sharded",
		"LEX_TENANCY__LIFECYCLE__AUTO_PROVISION_ISOLATION=false",
		`LEX_TENANCY__LIFECYCLE__RESERVED_SLUGS=["status-page"]`,
		"LEX_TENANCY__LIFECYCLE__ASYNC=true",
		"LEX_TENANCY__LIFECYCLE__RUNNER=false",
		"LEX_TENANCY__LIFECYCLE__WORKERS=9",
		"LEX_TENANCY__LIFECYCLE__LEASE=20",
		"LEX_TENANCY__LIFECYCLE__GIVE_UP_AFTER=1h",
		"LEX_TENANCY__LIFECYCLE__ARCHIVE_GRACE=0",
		"LEX_TENANCY__LIFECYCLE__AUTO_PURGE=true",
		"LEX_TENANCY__LIFECYCLE__SLUG_QUARANTINE=24h",
		"LEX_TENANCY__OVERRIDES__CACHE_TTL=0",
		`LEX_TENANCY__OVERRIDES__DEFAULTS={"max_users":50,"ratio":0.5,"theme":"dark","beta":true,"limits":{"daily":[1,"two",null]},"since":"2020-01-01"}`,
		`LEX_TENANCY__OVERRIDES__PLANS={"gold":{"max_users":500,"theme":"gold"},"free":{}}`,
		"LEX_TENANCY__LIFECYCLE__MAX_GRANT=8h",
		"LEX_TENANCY__EVENTS__RETENTION=1h",
		"LEX_TENANCY__EVENTS__MAX_ATTEMPTS=0",
		"LEX_TENANCY__EVENTS__LEASE=5",
		"LEX_TENANCY__INTEGRATION__CACHE_KEY_PREFIX=false",
		"LEX_TENANCY__INTEGRATION__SQL_CONTEXT_BRIDGE=false",
	}}
	same(t, load(t, opts), everyField())
	if want := len(tenantconfig.Keys()); len(opts.Environ)-3 != want {
		t.Errorf("the test sets %d keys of %d", len(opts.Environ)-3, want)
	}
}

// Every key set to its documented default means the same as no key at all: the table cannot
// disagree with the core about what is safe.
func TestB18DocumentedDefaultsAreTheZeroConfiguration(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	section := ""
	text.WriteString("tenancy:\n")
	for _, key := range tenantconfig.Keys() {
		before, name, nested := strings.Cut(key.Name, ".")
		switch {
		case !nested:
			fmt.Fprintf(&text, "  %s: %s\n", key.Name, key.Default)
			continue
		case before != section:
			section = before
			fmt.Fprintf(&text, "  %s:\n", section)
		}
		fmt.Fprintf(&text, "    %s: %s\n", name, key.Default)
	}
	got := load(t, tenantconfig.Options{Dir: folder(t, "application.yaml", text.String())})
	want := tenancy.Config{
		Resolution: tenancy.ResolutionConfig{
			Resolvers: []string{"jwt_claim", "header", "subdomain", "path"}, HeaderName: "x-tenant-id",
			PathPattern: "/tenants/{tenant_id}/", JWTClaimKey: "tenant_id", ValidatorCacheTTL: 300 * time.Second,
			NegativeCacheTTL: 5 * time.Second, MembershipCacheTTL: 30 * time.Second, StaleIfError: 60 * time.Second,
			CacheSize: 100_000, PollInterval: time.Second, TrustedResolvers: []string{"jwt_claim"},
			OnConflict: tenancy.FirstWins, IssuerTenants: map[string]string{}, TrustedProxies: []string{},
		},
		Lifecycle: tenancy.LifecycleConfig{
			IsolationStrategy: "row_level", ReservedSlugs: []string{}, Workers: 4, Lease: 30 * time.Second, GiveUpAfter: -1,
			ArchiveGrace: 720 * time.Hour, SlugQuarantine: 720 * time.Hour, MaxGrant: 24 * time.Hour,
		},
		Overrides: tenancy.OverridesConfig{CacheTTL: 60 * time.Second, Defaults: map[string]any{}, Plans: map[string]map[string]any{}},
		Events:    tenancy.EventsConfig{Retention: 24 * time.Hour, MaxAttempts: 300, Lease: 15 * time.Second},
	}
	same(t, got, want)
}

// A switch that is true unless set must come out true when it is not set, and when it is
// set to true; false must come out false.
func TestB18SwitchesAreSafeUnlessSwitchedOff(t *testing.T) {
	t.Parallel()
	for key, field := range map[string]func(tenancy.Config) (on bool){
		"ENABLED":                              func(c tenancy.Config) bool { return !c.Disabled },
		"RESOLUTION__STRICT_MEMBERSHIP":        func(c tenancy.Config) bool { return !c.Resolution.LaxMembership },
		"LIFECYCLE__AUTO_PROVISION_ISOLATION":  func(c tenancy.Config) bool { return !c.Lifecycle.NoAutoProvision },
		"INTEGRATION__CACHE_KEY_PREFIX":        func(c tenancy.Config) bool { return !c.Integration.NoCacheKeyPrefix },
		"INTEGRATION__SQL_CONTEXT_BRIDGE":      func(c tenancy.Config) bool { return !c.Integration.NoSQLContextBridge },
		"RESOLUTION__UNSAFE_TRUST_CLIENT=safe": func(c tenancy.Config) bool { return !c.Resolution.UnsafeTrustClient },
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if !field(load(t, tenantconfig.Options{Dir: dir})) {
				t.Error("unset is not the safe value")
			}
			name, inverse := strings.CutSuffix(key, "=safe")
			for text, want := range map[string]bool{"true": !inverse, "false": inverse} {
				cfg := load(t, tenantconfig.Options{Dir: dir, Environ: []string{"LEX_TENANCY__" + name + "=" + text}})
				if field(cfg) != want {
					t.Errorf("%s=%s: safe = %v", name, text, !want)
				}
			}
		})
	}
}

// The token comes first, and only it binds by itself, unless the operator says otherwise.
func TestB2NothingOverridesTheTokenByDefault(t *testing.T) {
	t.Parallel()
	for _, key := range tenantconfig.Keys() {
		switch key.Name {
		case "resolution.resolvers":
			if !strings.HasPrefix(key.Default, `["jwt_claim"`) {
				t.Errorf("%s defaults to %s", key.Name, key.Default)
			}
		case "resolution.trusted_resolvers":
			if key.Default != `["jwt_claim"]` {
				t.Errorf("%s defaults to %s", key.Name, key.Default)
			}
		}
	}
	for _, name := range []string{"query", "query_param", "cookie"} {
		got := problems(t, tenantconfig.Options{Dir: t.TempDir(), Environ: []string{`LEX_TENANCY__RESOLUTION__RESOLVERS=["` + name + `"]`}})
		if len(got) != 1 || !strings.Contains(got[0], "is not known") {
			t.Errorf("a resolver %q: %v", name, got)
		}
	}
	// An empty list would fall back to the default, which is not what it says.
	got := problems(t, tenantconfig.Options{Dir: t.TempDir(), Environ: []string{`LEX_TENANCY__RESOLUTION__TRUSTED_RESOLVERS=[]`}})
	if len(got) != 1 {
		t.Errorf("no trusted resolvers: %v", got)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	dir := folder(t,
		"application.yaml", "tenancy: {resolution: {header_name: base, jwt_claim_key: base, path_pattern: '/base/{t}', resolvers: [header, path], subdomain_pattern: base.com}, overrides: {defaults: {a: 1, b: 1}}}",
		"application.prod.yaml", "tenancy: {resolution: {header_name: prod, jwt_claim_key: prod, resolvers: [jwt_claim], subdomain_pattern: null}, overrides: {defaults: {b: 2}}}",
	)
	environ := []string{"LEX_PROFILE=prod", "LEX_TENANCY__RESOLUTION__HEADER_NAME=variable", "LEX_TENANCY__RESOLUTION__HEADER_NAME=second"}
	cfg := load(t, tenantconfig.Options{Dir: dir, Environ: environ})
	want := tenancy.ResolutionConfig{HeaderName: "variable", JWTClaimKey: "prod", PathPattern: "/base/{t}", Resolvers: []string{"jwt_claim"}}
	if diff := cmp.Diff(want, cfg.Resolution); diff != "" {
		t.Errorf("with profile (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"b": int64(2)}, cfg.Overrides.Defaults); diff != "" {
		t.Errorf("a map is taken whole (-want +got):\n%s", diff)
	}
	if cfg := load(t, tenantconfig.Options{Dir: dir}); cfg.Resolution.HeaderName != "base" || cfg.Resolution.SubdomainPattern != "base.com" {
		t.Errorf("without profile = %+v", cfg.Resolution)
	}
	if cfg := load(t, tenantconfig.Options{Dir: dir, Profile: "prod"}); cfg.Resolution.HeaderName != "prod" {
		t.Errorf("Options.Profile = %+v", cfg.Resolution)
	}
	files := []string{filepath.Join(dir, "application.yaml")}
	if cfg := load(t, tenantconfig.Options{Files: files, Environ: []string{"LEX_PROFILE=prod"}}); cfg.Resolution.HeaderName != "prod" {
		t.Errorf("a profile beside a named file = %+v", cfg.Resolution)
	}
	files = append(files, filepath.Join(dir, "application.prod.yaml"))
	if cfg := load(t, tenantconfig.Options{Files: files}); cfg.Resolution.HeaderName != "prod" || cfg.Resolution.PathPattern != "/base/{t}" {
		t.Errorf("two files = %+v", cfg.Resolution)
	}
	null := []string{"LEX_TENANCY__RESOLUTION__SUBDOMAIN_PATTERN=null"}
	if cfg := load(t, tenantconfig.Options{Dir: dir, Environ: null}); cfg.Resolution.SubdomainPattern != "" {
		t.Errorf("null in a variable = %q", cfg.Resolution.SubdomainPattern)
	}
	null[0] = "LEX_TENANCY__RESOLUTION__SUBDOMAIN_PATTERN="
	if cfg := load(t, tenantconfig.Options{Dir: dir, Environ: null}); cfg.Resolution.SubdomainPattern != "" {
		t.Errorf("an empty variable = %q", cfg.Resolution.SubdomainPattern)
	}
}

func TestVariablesInsideValues(t *testing.T) {
	t.Parallel()
	dir := folder(t, "application.yaml", `
other: ${NOT_OURS}
tenancy:
  enabled: ${ON:true}
  resolution:
    resolvers: ${RESOLVERS:["header", "path"]}
    header_name: x-${NAME}-${SUFFIX:id}
    jwt_claim_key: "${CLAIM:${NAME}_claim}"
    path_pattern: ${PATTERN:/t/{tenant_id}/}
    subdomain_pattern: ${DOMAIN:}
    validator_cache_ttl: ${TTL:300}
    strict_membership: "${STRICT:false}"
    trusted_proxies: ["${PROXY:10.0.0.1}", "${PROXY:10.0.0.2}"]
    issuer_tenants: {"https://id/": "${NAME}"}
  overrides:
    defaults: {users: "a", plain: "$${HOME} $5"}
`)
	cfg := load(t, tenantconfig.Options{Dir: dir, Environ: []string{"NAME=org", "TTL=7", "PROXY=::1"}})
	same(t, cfg, tenancy.Config{
		Resolution: tenancy.ResolutionConfig{
			Resolvers: []string{"header", "path"}, HeaderName: "x-org-id", JWTClaimKey: "org_claim", PathPattern: "/t/{tenant_id}/",
			ValidatorCacheTTL: 7 * time.Second, LaxMembership: true, IssuerTenants: map[string]string{"https://id/": "org"},
			TrustedProxies: []string{"::1", "::1"},
		},
		Overrides: tenancy.OverridesConfig{Defaults: map[string]any{"users": "a", "plain": "${HOME} $5"}},
	})

	dir = folder(t, "application.yaml", "tenancy:\n  overrides:\n    defaults:\n      n: ${N:50}\n      f: ${F:0.5}\n      b: ${B:true}\n      s: ${S:05}\n      q: \"${N:50}\"\n      z: ${Z:x}\n")
	cfg = load(t, tenantconfig.Options{Dir: dir, Environ: []string{"Z=${N} {}"}})
	want := map[string]any{"n": int64(50), "f": 0.5, "b": true, "s": "05", "q": "50", "z": "${N} {}"}
	if diff := cmp.Diff(want, cfg.Overrides.Defaults); diff != "" {
		t.Errorf("types after expansion (-want +got):\n%s", diff)
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	dir := folder(t, "application.yaml", "x-ttl: &ttl 77\nx-names: &names [header, path]\ntenancy: {resolution: {validator_cache_ttl: *ttl, resolvers: *names}}\n")
	cfg := load(t, tenantconfig.Options{Dir: dir})
	if cfg.Resolution.ValidatorCacheTTL != 77*time.Second || !slices.Equal(cfg.Resolution.Resolvers, []string{"header", "path"}) {
		t.Errorf("aliases = %+v", cfg.Resolution)
	}
}

func TestProblemsInFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"all at once, in order": {`tenancy:
  enabled: 1
  resolution:
    resolvers: [jwt_claim, heder, jwt_claim]
    header_name: 12
    validator_cache_ttl: -1
    cache_size: -5
    trusted_proxies:
      - 10.0.0.0/8
      - 10.0.0.0/99
    path_pattern: tenants/{tenant_id}
  lifecycel: {}
  lifecycle:
    isolation_strategy: schemas
`, []string{
			`application.yaml:2: enabled: "1" is not a boolean: write true or false`,
			`application.yaml:4: resolution.resolvers: "heder" is not known: did you mean header?`,
			`application.yaml:4: resolution.resolvers: "jwt_claim" is listed twice`,
			`application.yaml:5: resolution.header_name: "12" is not text: write it in quotes`,
			`application.yaml:6: resolution.validator_cache_ttl: "-1" is negative: write 0 to switch it off`,
			`application.yaml:7: resolution.cache_size: -5 is too small: write at least 1`,
			`application.yaml:10: resolution.trusted_proxies: "10.0.0.0/99" is neither an address nor a prefix such as 10.0.0.0/8`,
			`application.yaml:11: resolution.path_pattern: "tenants/{tenant_id}" is not valid: write plain segments and one in braces, such as /tenants/{tenant_id}/`,
			`application.yaml:12: lifecycel: is not a known key: did you mean lifecycle?`,
			`application.yaml:14: lifecycle.isolation_strategy: "schemas" is not known: did you mean schema?`,
		}},
		"a key in the wrong section": {"tenancy:\n  resolvers: [header]\n", []string{
			"application.yaml:2: resolvers: is not a known key: did you mean resolution.resolvers?",
		}},
		"other spellings": {"tenancy:\n  resolution: {headerName: a, jwt-claim-key: b, validator_cach_ttl: 1, zzzzzzzz: 1}\n", []string{
			"application.yaml:2: resolution.headerName: is not a known key: did you mean resolution.header_name?",
			"application.yaml:2: resolution.jwt-claim-key: is not a known key: did you mean resolution.jwt_claim_key?",
			"application.yaml:2: resolution.validator_cach_ttl: is not a known key: did you mean resolution.validator_cache_ttl?",
			"application.yaml:2: resolution.zzzzzzzz: is not a known key: see docs/CONFIGURATION.md",
		}},
		"nearly tenancy": {"tenency:\n  enabled: false\nTenancy: {}\ntenancy.enabled: true\n", []string{
			"application.yaml:1: tenency: is not a key: did you mean tenancy: and its keys below?",
			"application.yaml:3: Tenancy: is not a key: did you mean tenancy: and its keys below?",
			"application.yaml:4: tenancy.enabled: is not a key: did you mean tenancy: and its keys below?",
		}},
		"keys twice": {"tenancy:\n  enabled: true\n  enabled: false\n  overrides: {defaults: {a: 1, a: 2}}\ntenancy:\n  enabled: true\n", []string{
			"application.yaml:3: enabled: is set twice, first in line 2",
			`application.yaml:4: overrides.defaults: sets "a" twice`,
			"application.yaml:5: tenancy: is set twice in this file",
		}},
		"two documents": {"tenancy: {enabled: true}\n---\ntenancy: {enabled: false}\n", []string{
			"application.yaml:2: tenancy: a second YAML document begins here: a file must have one",
		}},
		"not YAML":  {"tenancy:\n  enabled: [true\n", []string{"application.yaml:3: tenancy: not valid YAML: did not find expected ',' or ']', for what begins in line 2"}},
		"not UTF-8": {"a: b\ntenancy: \xff\n", []string{"application.yaml:2: tenancy: the line is not UTF-8: save the file as UTF-8"}},
		"not a map": {"- tenancy\n", []string{"application.yaml:1: tenancy: the file is not a map: write tenancy: and the keys below it"}},
		"a section that is text": {"tenancy:\n  resolution: jwt_claim\n", []string{
			"application.yaml:2: tenancy.resolution: is a section: write its keys below it, indented",
		}},
		"tenancy is a list": {"tenancy: [enabled]\n", []string{"application.yaml:1: tenancy: is a section: write its keys below it, indented"}},
		"a merge key": {"base: &b {enabled: false}\ntenancy:\n  <<: *b\n  overrides: {defaults: {<<: *b}}\n", []string{
			"application.yaml:3: tenancy: has a key that is not a name",
			"application.yaml:4: overrides.defaults: merge keys (<<) are not supported here: write the values out",
		}},
		"wrong types": {`tenancy:
  enabled: "true"
  resolution:
    resolvers: header
    header_name: [a]
    jwt_claim_key:
    validator_cache_ttl: soon
    negative_cache_ttl: [1]
    stale_if_error: .inf
    poll_interval: 0x10
    membership_cache_ttl: 0.0001
    cache_size: 1_000
    trusted_resolvers: []
    issuer_tenants: [a]
    unsafe_trust_client: yes
    on_conflict: Reject
    subdomain_pattern: "*.app.com"
    trusted_proxies: [1, null, [a], ""]
  lifecycle:
    reserved_slugs: [No_Slug]
  overrides:
    cache_ttl: 999999999999
    defaults: {x: 0x1F, y: .nan, z: !!binary aGk=, "": 1, w: null, v: !thing t}
    plans: {gold: [1], free: {x: 0x1F, "": 1}, "": {a: 1}, none: null}
`, []string{
			`application.yaml:2: enabled: "true" is not a boolean: write true or false`,
			`application.yaml:4: resolution.resolvers: "header" does not fit: write a list such as ["header"]`,
			`application.yaml:5: resolution.header_name: a list is not text: write it in quotes`,
			`application.yaml:6: resolution.jwt_claim_key: is null: write a text, or leave the key out`,
			`application.yaml:7: resolution.validator_cache_ttl: "soon" is not a duration: write seconds, such as 300, or a duration, such as 5m`,
			`application.yaml:8: resolution.negative_cache_ttl: a list is not a duration: write seconds, such as 300, or a duration, such as 5m`,
			`application.yaml:9: resolution.stale_if_error: ".inf" is not a duration: write seconds, such as 300, or a duration, such as 5m`,
			`application.yaml:10: resolution.poll_interval: "0x10" is not a duration: write seconds, such as 300, or a duration, such as 5m`,
			`application.yaml:11: resolution.membership_cache_ttl: "0.0001" is not a duration: write seconds, such as 300, or a duration, such as 5m`,
			`application.yaml:12: resolution.cache_size: "1_000" is not a whole number: write digits only, without quotes`,
			`application.yaml:13: resolution.trusted_resolvers: is an empty list: leave the key out to get the default`,
			`application.yaml:14: resolution.issuer_tenants: a list does not fit: write a map from issuer to tenant`,
			`application.yaml:15: resolution.unsafe_trust_client: "yes" is not a boolean: write true or false`,
			`application.yaml:16: resolution.on_conflict: "Reject" is not known: did you mean reject?`,
			`application.yaml:17: resolution.subdomain_pattern: "*.app.com" is not valid: name the domain above the tenants, such as app.com, without * or a port`,
			`application.yaml:18: resolution.trusted_proxies: "1" is not text: write it in quotes`,
			`application.yaml:18: resolution.trusted_proxies: is null: write a text, or leave the key out`,
			`application.yaml:18: resolution.trusted_proxies: a list is not text: write it in quotes`,
			`application.yaml:18: resolution.trusted_proxies: is empty: write a text, or leave the key out`,
			`application.yaml:20: lifecycle.reserved_slugs: slug "no_slug" is not valid`,
			`application.yaml:22: overrides.cache_ttl: "999999999999" is more than ten years`,
			`application.yaml:23: overrides.defaults: has an empty key`,
			`application.yaml:23: overrides.defaults.v: has the YAML tag !thing: write a plain value`,
			`application.yaml:23: overrides.defaults.w: is null, which is no value: leave it out`,
			`application.yaml:23: overrides.defaults.x: "0x1F" is not a number that JSON can carry: write it in decimal digits`,
			`application.yaml:23: overrides.defaults.y: ".nan" is not a number that JSON can carry`,
			`application.yaml:23: overrides.defaults.z: has the YAML tag !!binary: write a plain value`,
			`application.yaml:24: overrides.plans: has an empty key`,
			`application.yaml:24: overrides.plans.free: has an empty key`,
			`application.yaml:24: overrides.plans.free.x: "0x1F" is not a number that JSON can carry: write it in decimal digits`,
			`application.yaml:24: overrides.plans.gold: a list does not fit: write a map such as {"max_users": 50}`,
			`application.yaml:24: overrides.plans.none: null does not fit: write a map such as {"max_users": 50}`,
		}},
		"variables that are not set": {"tenancy:\n  resolution:\n    header_name: ${NOPE}\n    jwt_claim_key: a${}\n    path_pattern: /${A\n    resolvers:\n      - header\n      - ${NOPE}\n", []string{
			"application.yaml:3: resolution.header_name: the variable NOPE is not set: set it, or write ${NOPE:default}",
			"application.yaml:4: resolution.jwt_claim_key: ${} names no variable: use letters, digits and _",
			"application.yaml:5: resolution.path_pattern: ${ has no closing }: close it, or write $${ for the characters themselves",
			"application.yaml:8: resolution.resolvers: the variable NOPE is not set: set it, or write ${NOPE:default}",
		}},
		"a circle": {"tenancy:\n  overrides:\n    defaults: &a\n      x: *a\n", []string{"application.yaml:4: overrides.defaults"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := problems(t, tenantconfig.Options{Dir: folder(t, "application.yaml", test.text)})
			ok := len(got) == len(test.want)
			for i := range min(len(got), len(test.want)) {
				ok = ok && strings.HasPrefix(got[i], test.want[i])
			}
			if !ok {
				t.Errorf("problems (-want +got):\n%s", cmp.Diff(test.want, got))
			}
		})
	}
}

func TestProblemsInVariables(t *testing.T) {
	t.Parallel()
	got := problems(t, tenantconfig.Options{Dir: t.TempDir(), Environ: []string{
		"LEX_TENANCY__RESOLUTON__RESOLVERS=[]",
		"LEX_TENANCY_RESOLUTION=1",
		"LEX_TENANCY_RESOLUTION_HEADER_NAME=a",
		"LEX_TENANCY__RESOLUTION__HEADERNAME=a",
		"lex_tenancy__enabled=true",
		"LEX_TENANCY=1",
		"LEX_TENANCY__RESOLUTION={}",
		"LEX_TENANCY__OVERRIDES__DEFAULTS__MAX_USERS=5",
		"LEX_TENANCY__QWERTZUIOP=5",
		"LEX_TENANCY__ENABLED=",
		"LEX_TENANCY__RESOLUTION__CACHE_SIZE=many",
		"LEX_TENANCY__RESOLUTION__RESOLVERS=[jwt_claim, header]",
		"LEX_TENANCY__RESOLUTION__TRUSTED_RESOLVERS=jwt_claim",
		`LEX_TENANCY__OVERRIDES__DEFAULTS={"a":1,"a":2}`,
		"LEX_TENANCY__RESOLUTION__JWT_CLAIM_KEY=\xff",
		`LEX_TENANCY__RESOLUTION__ISSUER_TENANTS={"a":"globex"} x`,
		`LEX_TENANCY__RESOLUTION__TRUSTED_PROXIES=[1]`,
	}})
	want := []string{
		"LEX_TENANCY: *: is a section: set its keys one by one, such as LEX_TENANCY__ENABLED",
		"LEX_TENANCY_RESOLUTION: resolution.*: is a section: set its keys one by one, such as LEX_TENANCY__RESOLUTION__RESOLVERS",
		"LEX_TENANCY_RESOLUTION_HEADER_NAME: resolution.header_name: is not a known variable: did you mean LEX_TENANCY__RESOLUTION__HEADER_NAME?",
		"LEX_TENANCY__ENABLED: enabled: is empty: unset the variable to get the default",
		`LEX_TENANCY__OVERRIDES__DEFAULTS: overrides.defaults: sets "a" twice`,
		"LEX_TENANCY__OVERRIDES__DEFAULTS__MAX_USERS: overrides.defaults: is a part of LEX_TENANCY__OVERRIDES__DEFAULTS, which is set as a whole, in JSON",
		"LEX_TENANCY__QWERTZUIOP: *: is not a known variable: see docs/CONFIGURATION.md",
		"LEX_TENANCY__RESOLUTION: resolution.*: is a section: set its keys one by one, such as LEX_TENANCY__RESOLUTION__RESOLVERS",
		"LEX_TENANCY__RESOLUTION__CACHE_SIZE: resolution.cache_size: \"many\" is not a whole number: write digits only, without quotes",
		"LEX_TENANCY__RESOLUTION__HEADERNAME: resolution.header_name: is not a known variable: did you mean LEX_TENANCY__RESOLUTION__HEADER_NAME?",
		`LEX_TENANCY__RESOLUTION__ISSUER_TENANTS: resolution.issuer_tenants: "{\"a\":\"globex\"} x" is not JSON: write a map from issuer to tenant, and put it in single quotes for the shell`,
		"LEX_TENANCY__RESOLUTION__JWT_CLAIM_KEY: resolution.jwt_claim_key: is not UTF-8",
		`LEX_TENANCY__RESOLUTION__RESOLVERS: resolution.resolvers: "[jwt_claim, header]" is not JSON: write a list such as ["header"], and put it in single quotes for the shell`,
		`LEX_TENANCY__RESOLUTION__TRUSTED_PROXIES: resolution.trusted_proxies: "1" is not text: write it in quotes`,
		`LEX_TENANCY__RESOLUTION__TRUSTED_RESOLVERS: resolution.trusted_resolvers: "jwt_claim" is not JSON: write a list such as ["header"]`,
		"LEX_TENANCY__RESOLUTON__RESOLVERS: *: is not a known variable: did you mean LEX_TENANCY__RESOLUTION__RESOLVERS?",
		"lex_tenancy__enabled: enabled: is not a known variable: did you mean LEX_TENANCY__ENABLED?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestProblemsWithFiles(t *testing.T) {
	t.Parallel()
	sep := string(filepath.Separator)
	for name, test := range map[string]struct {
		files   []string
		opts    tenantconfig.Options
		environ []string
		want    string
	}{
		"a named file is missing":   {opts: tenantconfig.Options{Files: []string{"nowhere/app.yaml"}}, want: "nowhere/app.yaml: tenancy: the file does not exist"},
		"the profile is missing":    {files: []string{"application.yaml", ""}, environ: []string{"LEX_PROFILE=prdo"}, want: `LEX_PROFILE: profile: "prdo" has no file: create application.prdo.yaml, which may be empty, or change the profile`},
		"a profile climbs":          {environ: []string{"LEX_PROFILE=../../etc/x"}, want: `LEX_PROFILE: profile: "../../etc/x" is not one name: use letters, digits, - and _`},
		"two profiles":              {opts: tenantconfig.Options{Profile: "a,b"}, want: `Options.Profile: profile: "a,b" is not one name: use letters, digits, - and _`},
		"the other extension":       {files: []string{"application.yml", "tenancy: {enabled: false}"}, want: "application.yml: tenancy: is not read: rename it to application.yaml"},
		"too large":                 {files: []string{"application.yaml", strings.Repeat("#\n", 1<<20)}, want: "application.yaml: tenancy: the file is larger than 1048576 bytes"},
		"in the profile's own line": {files: []string{"application.yaml", "tenancy: {enabled: true}", "application.dev.yaml", "\n\ntenancy:\n  enabled: maybe\n"}, environ: []string{"LEX_PROFILE=dev"}, want: `application.dev.yaml:4: enabled: "maybe" is not a boolean: write true or false`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := test.opts
			opts.Environ = test.environ
			if opts.Files == nil {
				opts.Dir = folder(t, test.files...)
			}
			got := problems(t, opts)
			if len(got) != 1 || strings.ReplaceAll(got[0], sep, "/") != test.want {
				t.Errorf("problems = %q\nwant %q", got, test.want)
			}
		})
	}
	got := problems(t, tenantconfig.Options{Files: []string{t.TempDir()}})
	if len(got) != 1 || !strings.Contains(got[0], "is a folder") {
		t.Errorf("a folder as file: %q", got)
	}
}

// Ten aliases of ten aliases … must be an error soon, not a billion values.
func TestAliasBomb(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("a0: &a0 [x]\n")
	for i := range 12 {
		fmt.Fprintf(&text, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	text.WriteString("tenancy: {overrides: {defaults: {bomb: *a12}}}\n")
	got := problems(t, tenantconfig.Options{Dir: folder(t, "application.yaml", text.String())})
	if len(got) != 1 || !strings.Contains(got[0], "aliases followed") {
		t.Errorf("problems = %.500q", got)
	}
}

var update = flag.Bool("update", false, "write docs/CONFIGURATION.md")

func TestConfigurationDocument(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../docs/CONFIGURATION.md", "<!-- begin keys: go test ./tenantconfig -update -->\n", "<!-- end keys -->\n"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no lines %q and %q", path, begin, end)
	}
	var table strings.Builder
	table.WriteString("| key | type | default | variable | |\n|---|---|---|---|---|\n")
	for _, key := range tenantconfig.Keys() {
		fmt.Fprintf(&table, "| `%s` | %s | `%s` | `%s` | %s |\n", key.Name, key.Type, key.Default, key.Variable(), key.Doc)
	}
	text := before + begin + table.String() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(old), text); diff != "" {
		t.Errorf("%s is out of date, run go test ./tenantconfig -update (-old +new):\n%s", path, diff)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(everything, "X", "1")
	f.Add("tenancy: {resolution: {resolvers: ${R:[\"header\"]}}}", "LEX_TENANCY__RESOLUTION__RESOLVERS", `["path"]`)
	f.Add("a: &a [*a]\ntenancy: {overrides: {defaults: {x: *a}}}", "LEX_TENANCY__OVERRIDES__DEFAULTS", `{"a":[{}]}`)
	f.Add("tenancy:\n  ? [a]\n  : b\n  <<: *x\n---\n", "LEX_TENANCY__ENABLED", "")
	f.Add("\xff", "lex_tenancy_x", "\x00")
	f.Add("tenancy: {resolution: {header_name: ${A:${B:}}, validator_cache_ttl: 1e400}}", "A", "${A}")
	dir := f.TempDir()
	path := filepath.Join(dir, "application.yaml")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := tenantconfig.Load(tenantconfig.Options{Files: []string{path}, Environ: []string{name + "=" + value}})
		if err != nil {
			if tenancy.CodeOf(err) != tenancy.CodeConfig {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		// What loads is also what the core takes, but for what only the core can know.
		if _, err := tenancy.NewChain(tenancy.ResolutionConfig{
			HeaderName: cfg.Resolution.HeaderName, PathPattern: cfg.Resolution.PathPattern, SubdomainPattern: cfg.Resolution.SubdomainPattern,
		}); err != nil {
			t.Fatalf("%q %q=%q: %v", text, name, value, err)
		}
		if _, err := cfg.Resolution.ProxyPrefixes(); err != nil {
			t.Fatal(err)
		}
	})
}
