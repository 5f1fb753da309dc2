package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
)

// secretFiles are flags that name files with one secret each, so that none is in the arguments or the
// environment, which others can read.
type secretFiles struct {
	command *cobra.Command
	files   []secretFile
}

type secretFile struct {
	name     string
	secret   *string
	optional bool
}

func (s *secretFiles) add(secret *string, name, usage string, optional bool) {
	s.files = append(s.files, secretFile{name: name, secret: secret, optional: optional})
	if !optional {
		usage += " (required)"
	}
	s.command.Flags().String(name, "", "read "+usage+" from `FILE`")
}

// read fills in the secrets. It reports all that are missing, and none of their content.
func (s *secretFiles) read() error {
	var errs []error
	for _, f := range s.files {
		path := s.command.Flags().Lookup(f.name).Value.String()
		if path == "" {
			if !f.optional {
				errs = append(errs, &usageError{s.command.CommandPath(), fmt.Errorf("--%s is required: there is no default for a secret", f.name)})
			}
			continue
		}
		content, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(content)) == "" {
			err = fmt.Errorf("%s is empty", path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", f.name, err))
			continue
		}
		*f.secret = strings.TrimSpace(string(content))
	}
	return errors.Join(errs...)
}

// addLogins adds the flags that both commands of a deployment have.
func addLogins(s *secretFiles, f *pflag.FlagSet, l *demo.Logins) {
	s.add(&l.AppURL, "app-url-file", "the URL of the login that serves requests", false)
	s.add(&l.SystemURL, "system-url-file", "the URL of the login that sees all tenants", false)
	s.add(&l.CatalogueURL, "catalogue-url-file", "the URL of the login that keeps the tenants' records", false)
	s.add(&l.TenantKey, "tenant-key-file", "the key of tenants' own logins, for --isolation database,", true)
	f.StringVar(&l.Isolation, "isolation", "", "the isolation `STRATEGY`: row_level (default), schema or database")
	f.StringVar(&l.ConfigFile, "config", "", "read the tenancy section of an application.yaml `FILE`")
}

func newServe() *cobra.Command {
	var d demo.Deployment
	var addr string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the demo as a deployment",
		Long: `Serve the notes application as a deployment on PostgreSQL: with logins that may do
nothing but serve, from files with secrets, by PgBouncer in transaction mode or
past it. It makes nothing, it prints no token, and it refuses logins that may do more.
"tenancy demo migrate" makes what it needs; contrib/compose shows both.`,
		Args: cobra.NoArgs,
	}
	secrets := &secretFiles{command: c}
	addLogins(secrets, c.Flags(), &d.Logins)
	secrets.add(&d.JWTSecret, "jwt-secret-file", "the HS256 secret of the tokens", false)
	c.Flags().StringVar(&d.MigratorRole, "migrator-role", "", "the `ROLE` that owns the tables (required)")
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:8080", "listen on `HOST:PORT`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d.Logger = newLogger(c, slog.LevelInfo)
		if d.MigratorRole == "" {
			return &usageError{c.CommandPath(), errors.New("--migrator-role is required")}
		}
		if err := secrets.read(); err != nil {
			return err
		}
		return serve(c, addr, func(ctx context.Context) (*demo.App, error) { return demo.Serve(ctx, d) },
			func(_ *demo.App, addr string) (string, error) { return "serving on http://" + addr + "\n", nil })
	}
	return c
}

func newMigrate() *cobra.Command {
	var m demo.Migration
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Make the roles, tables and tenants of the demo's deployment",
		Long: `Make what "tenancy demo serve" needs: the roles, the catalogue, the tables behind
their walls and the demo's tenants. It alone gets the DBA's and the migrator's login,
and goes past every pooler. It may be repeated: what is there stays as it is.`,
		Args: cobra.NoArgs,
	}
	secrets := &secretFiles{command: c}
	addLogins(secrets, c.Flags(), &m.Logins)
	secrets.add(&m.DBAURL, "dba-url-file", "a superuser's URL", false)
	secrets.add(&m.MigratorURL, "migrator-url-file", "the URL of the login that is to own the tables", false)
	c.Flags().StringVar(&m.PoolerUsers, "pooler-users", "", "write PgBouncer's list of users to `FILE`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		m.Logger = newLogger(c, slog.LevelWarn)
		if err := secrets.read(); err != nil {
			return err
		}
		if err := demo.Migrate(c.Context(), m); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "migrated")
		return err
	}
	return c
}

// healthTimeout bounds a question for the health.
const healthTimeout = 5 * time.Second

// newHealth asks a server in place of curl, which an image without a shell does not have.
func newHealth() *cobra.Command {
	return &cobra.Command{
		Use:     "health URL",
		Short:   "Ask a demo whether it serves",
		Long:    `Ask a demo whether it serves. The exit code is 0 if it does and 1 if it does not.`,
		Example: `  tenancy demo health http://127.0.0.1:8080/healthz`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			ctx, cancel := context.WithTimeout(c.Context(), healthTimeout)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
			if err != nil {
				return &usageError{c.CommandPath(), err}
			}
			res, err := (&http.Client{Transport: &http.Transport{}}).Do(req) // past every proxy
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, res.Body.Close()) }()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("%s answers %s", args[0], res.Status)
			}
			_, err = io.Copy(c.OutOrStdout(), io.LimitReader(res.Body, 100))
			return err
		},
	}
}
