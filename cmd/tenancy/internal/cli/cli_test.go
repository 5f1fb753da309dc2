package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy/cmd/tenancy/internal/cli"
)

func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestMistakesInTheCommandLineExitWith2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, says string }{
		{"", "a command is missing"},
		{"dmeo", `unknown command "dmeo": did you mean demo?`},
		{"xyz", `unknown command "xyz": use one of`},
		{"help dmeo", `unknown command "dmeo"`},
		{"version now", "Run 'tenancy version --help' for usage."},
		{"demo --adr x", "unknown flag: --adr"},
		{"demo --isolation schema", "schema is not available on SQLite: use database"},
		{"demo now", `unknown command "now": use one of health, migrate, serve`},
		{"demo serve", "--migrator-role is required"},
		{"demo serve --migrator-role m", "--app-url-file is required: there is no default for a secret"},
		{"demo serve --database-url postgres://h/d", "unknown flag: --database-url"},
		{"demo migrate", "--dba-url-file is required"},
		{"demo migrate now", "Run 'tenancy demo migrate --help' for usage."},
		{"demo health", "accepts 1 arg"},
		{"token --user alice", "--jwt-secret is required"},
		{"token --jwt-secret s", "--user is required"},
		{"token --user alice --jwt-secret s --ttl 0s", "--ttl must be positive"},
		{"completion", "a command is missing: one of bash"},
		{"completion tcsh", `unknown command "tcsh"`},
	} {
		code, out, errs := run(t, strings.Fields(c.line)...)
		if code != cli.ExitUsage || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("tenancy %s: exit code %d, prints %q and %q, want %q", c.line, code, out, errs, c.says)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"--help": "tenancy demo", "help": "tenancy demo", "help demo": "--database-url",
		"demo --help": "--jwt-secret", "token -h": "--ttl", "version": "tenancy ",
	} {
		code, out, errs := run(t, strings.Fields(line)...)
		if code != cli.ExitOK || !strings.Contains(out, says) || errs != "" {
			t.Errorf("tenancy %s: exit code %d, prints %q and %q, want %q", line, code, out, errs, says)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for _, tenant := range []string{"", "acme"} {
		code, out, errs := run(t, "token", "--user", "alice", "--tenant", tenant, "--jwt-secret", "s", "--ttl", "1m")
		if code != cli.ExitOK || errs != "" || strings.Count(out, "\n") != 1 {
			t.Fatalf("exit code %d, prints %q and %q", code, out, errs)
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(out, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		exp, _ := claims["exp"].(float64)
		if left := time.Until(time.Unix(int64(exp), 0)); left <= 0 || left > time.Minute {
			t.Errorf("the token is good for %s", left)
		}
		delete(claims, "exp")
		want := map[string]any{"sub": "alice"}
		if tenant != "" {
			want["tenant_id"] = tenant
		}
		if len(claims) != len(want) || claims["sub"] != "alice" || claims["tenant_id"] != want["tenant_id"] {
			t.Errorf("claims %v, want %v", claims, want)
		}
	}
}
