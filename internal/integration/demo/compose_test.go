package demo_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
)

// composeDir is where the deployment is described.
const composeDir = "../../../contrib/compose"

// composed is compose.yaml, as far as it may say anything: a key that is not here is refused.
type composed struct {
	Services map[string]service
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]struct{}
	Secrets  map[string]struct{ File string }
}

type service struct {
	Image, User, Restart string
	Build                struct{ Context, Dockerfile, Target string }
	Command, Secrets     []string
	Networks, Volumes    []string
	Ports, Tmpfs         []string
	Environment          map[string]string
	DependsOn            map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck          struct {
		Test                           []string
		Interval, Timeout, StartPeriod string
		Retries                        int
	}
	StopGracePeriod string   `yaml:"stop_grace_period"`
	StopSignal      string   `yaml:"stop_signal"`
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	CapAdd          []string `yaml:"cap_add"`
	SecurityOpt     []string `yaml:"security_opt"`
	Privileged      bool
	EnvFile         string `yaml:"env_file"`
	NetworkMode     string `yaml:"network_mode"`
}

func readCompose(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(composeDir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// strategyVariable is the only variable that compose.yaml may have a default for.
const strategyVariable = "${ISOLATION:-row_level}"

// parseCompose returns what the file says with that strategy.
func parseCompose(text, strategy string) (c composed, err error) {
	// The key of the healthcheck is the only one that the struct above cannot name by its field.
	text = strings.ReplaceAll(text, "start_period:", "startperiod:")
	decoder := yaml.NewDecoder(strings.NewReader(strings.ReplaceAll(text, strategyVariable, strategy)))
	decoder.KnownFields(true)
	return c, decoder.Decode(&c)
}

// Secrets that open more than serving needs.
var powerful = []string{"postgres_password", "dba_url", "migrator_url"}

// shape returns all that is wrong with a deployment.
func (c composed) shape() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	uses := map[string][]string{
		"postgres":  {"postgres_password"},
		"migrate":   {"app_url", "catalogue_url", "dba_url", "migrator_url", "system_url", "tenant_key"},
		"pgbouncer": nil,
		"app":       {"app_url", "catalogue_url", "jwt_secret", "system_url", "tenant_key"},
	}
	for name := range uses {
		if _, ok := c.Services[name]; !ok {
			fail("there is no service %s", name)
		}
	}
	for name, s := range c.Services {
		want, known := uses[name]
		if got := slices.Sorted(slices.Values(s.Secrets)); !known || !slices.Equal(got, want) {
			fail("%s gets the secrets %q, want %q", name, got, want)
		}
		for _, secret := range s.Secrets {
			if at := c.Secrets[secret].File; at != "secrets/"+secret {
				fail("the secret %s comes from %q", secret, at)
			}
			if name == "app" && slices.Contains(powerful, secret) {
				fail("the application gets %s", secret)
			}
		}
		for _, text := range append(slices.Clone(s.Command), values(s.Environment)...) {
			if holdsSecret(text) {
				fail("%s: %q holds a secret, or a default for one", name, text)
			}
		}
		for key := range s.Environment {
			if passwordName.MatchString(key) && !strings.HasSuffix(key, "_FILE") {
				fail("%s: the variable %s holds a secret", name, key)
			}
		}
		if s.EnvFile != "" || s.NetworkMode != "" || s.Privileged {
			fail("%s: env_file, network_mode and privileged are not for a deployment", name)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			fail("%s: its root is writable, or it keeps capabilities", name)
		}
		if name != "postgres" && (s.User != "65532:65532" || len(s.CapAdd) > 0) {
			fail("%s: runs as %q with %q", name, s.User, s.CapAdd)
		}
		for _, port := range s.Ports {
			if name != "app" || !strings.HasPrefix(port, "127.0.0.1:") {
				fail("%s: publishes %s", name, port)
			}
		}
		if name == "migrate" {
			if s.Restart != "no" {
				fail("migrate: restarts %q", s.Restart)
			}
			continue
		}
		if s.Restart != "unless-stopped" || len(s.Healthcheck.Test) == 0 || s.StopGracePeriod == "" {
			fail("%s: wants a healthcheck, a restart policy and time to stop", name)
		}
	}
	app, postgres := c.Services["app"], c.Services["postgres"]
	for _, network := range postgres.Networks {
		if slices.Contains(app.Networks, network) || !c.Networks[network].Internal {
			fail("the application, or the world, reaches the server by the network %s", network)
		}
	}
	if grace, err := time.ParseDuration(app.StopGracePeriod); err != nil || grace < demo.MaxStop {
		fail("the application has %s to stop, want at least %v", app.StopGracePeriod, demo.MaxStop)
	}
	for _, d := range []struct{ service, on, condition string }{
		{"migrate", "postgres", "service_healthy"},
		{"pgbouncer", "migrate", "service_completed_successfully"},
		{"app", "migrate", "service_completed_successfully"},
		{"app", "pgbouncer", "service_healthy"},
	} {
		if got := c.Services[d.service].DependsOn[d.on].Condition; got != d.condition {
			fail("%s begins when %s is %q, want %q", d.service, d.on, got, d.condition)
		}
	}
	for service, want := range map[string]string{"app": "demo serve ", "migrate": "demo migrate "} {
		if !strings.HasPrefix(strings.Join(c.Services[service].Command, " ")+" ", want) {
			fail("%s runs %q", service, c.Services[service].Command)
		}
	}
	return errors.Join(errs...)
}

func values(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

var passwordName = regexp.MustCompile(`(?i)password|secret|token|_key|_url`)

// holdsSecret reports whether a command or a variable could hold a secret itself: a URL with a login,
// a flag of the demo that is one, or any variable.
func holdsSecret(text string) bool {
	return strings.Contains(text, "://") && strings.Contains(text, "@") || strings.Contains(text, "${") ||
		strings.HasPrefix(text, "--jwt-secret=") || strings.HasPrefix(text, "--database-url")
}

func TestTheComposeFileHasTheShapeOfADeployment(t *testing.T) {
	t.Parallel()
	text := readCompose(t)
	c, err := parseCompose(text, "row_level")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.shape(); err != nil {
		t.Error(err)
	}
	for name, broken := range map[string]struct{ old, instead, says string }{
		"the application gets the superuser's login": {"secrets: [app_url, system_url, catalogue_url, tenant_key, jwt_secret]", "secrets: [app_url, system_url, catalogue_url, tenant_key, jwt_secret, dba_url]", "the application gets dba_url"},
		"the application gets the migrator's":        {"secrets: [app_url, system_url, catalogue_url, tenant_key, jwt_secret]", "secrets: [app_url, system_url, migrator_url, catalogue_url, tenant_key, jwt_secret]", "the application gets migrator_url"},
		"it serves by the superuser's URL":           {"--migrator-role=notes_migrator", "--database-url=postgres://postgres:x@postgres/notes", "holds a secret"},
		"a secret with a default":                    {"--migrator-role=notes_migrator", "--jwt-secret=${JWT_SECRET:-changeme}", "holds a secret"},
		"a password in the environment":              {"POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password", "POSTGRES_PASSWORD: hunter2", "POSTGRES_PASSWORD holds a secret"},
		"a secret of the environment":                {"app_url: {file: secrets/app_url}", "app_url: {environment: APP_URL}", "environment"},
		"the superuser's URL under another name":     {"app_url: {file: secrets/app_url}", "app_url: {file: secrets/dba_url}", `app_url comes from "secrets/dba_url"`},
		"the demo in place of the deployment":        {"      - serve\n", "", "app runs"},
		"no migration":                               {"      - migrate\n", "", "migrate runs"},
		"the application beside the server":          {"networks: [pool, front]", "networks: [pool, front, data]", "reaches the server"},
		"a server that the world reaches":            {"  data:\n    internal: true\n", "  data:\n", "reaches the server"},
		"a port for all":                             {"127.0.0.1:8080:8080", "8080:8080", "publishes"},
		"less time to stop than it takes":            {"stop_grace_period: 30s", "stop_grace_period: 10s", "to stop"},
		"no healthcheck":                             {"      test: [CMD, /tenancy, demo, health, \"http://127.0.0.1:8080/healthz\"]\n", "", "wants a healthcheck"},
		"the application before the migration":       {"      pgbouncer:\n        condition: service_healthy\n", "", "app begins"},
		"a root that can be written":                 {"    stop_grace_period: 30s\n    user: \"65532:65532\"\n    read_only: true\n", "    stop_grace_period: 30s\n    user: \"65532:65532\"\n", "its root is writable"},
		"root":                                       {"    stop_grace_period: 30s\n    user: \"65532:65532\"\n", "    stop_grace_period: 30s\n", "runs as"},
		"another role":                               {"  pgbouncer:\n    build:", "  pooler:\n    build:", "no service pgbouncer"},
		"something that is not looked at":            {"    user: \"65532:65532\"\n", "    user: \"65532:65532\"\n    pid: host\n", "pid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(text, broken.old) {
				t.Fatalf("compose.yaml does not have %q: break it in another way", broken.old)
			}
			c, err := parseCompose(strings.Replace(text, broken.old, broken.instead, 1), "row_level")
			if err == nil {
				err = c.shape()
			}
			if err == nil || !strings.Contains(err.Error(), broken.says) {
				t.Errorf("got %v, want that it says %q", err, broken.says)
			}
		})
	}
}
