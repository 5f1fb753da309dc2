package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
)

func newDemo() *cobra.Command {
	var opts demo.Options
	var addr string
	var verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a notes application for three customers",
		Long: `Run a notes application for the customers acme, globex and initech, and print curl
lines to try it with. Without flags it needs no server: each customer has a SQLite
file of its own. Ctrl-C stops it.

  SQLite (--data)                           --isolation database
  PostgreSQL (--database-url postgres://…)  --isolation row_level (default), schema or database
  MariaDB (--database-url mysql://…)        --isolation database (default), schema or row_level

"tenancy demo migrate" and "tenancy demo serve" are the same as a deployment.
Variables LEX_TENANCY__… and --config say the rest, as docs/CONFIGURATION.md explains.`,
		Example: `  tenancy demo
  tenancy demo --addr :9000 --data ./demo-data
  tenancy demo --database-url postgres://postgres@localhost/postgres
  tenancy demo --database-url mysql://root:secret@localhost/ --isolation schema`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			opts.Logger = newLogger(c, level)
			if err := opts.Validate(); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return serve(c, addr, func(ctx context.Context) (*demo.App, error) { return demo.New(ctx, opts) }, (*demo.App).Guide)
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:8080", "listen on `HOST:PORT`; port 0 takes a free one")
	f.StringVar(&opts.DataDir, "data", "", "keep the data in `DIR` (default a temporary folder, removed at the end)")
	f.StringVar(&opts.DatabaseURL, "database-url", "", "keep the data in PostgreSQL or MariaDB: the `URL` of a superuser, or on PostgreSQL of an owner who may create roles")
	f.StringVar(&opts.PoolerURL, "pooler-url", "", "reach PostgreSQL through PgBouncer at this `URL`; only --database-url's own work goes direct")
	f.StringVar(&opts.Isolation, "isolation", "", "the isolation `STRATEGY`, see above")
	f.StringVar(&opts.ConfigFile, "config", "", "read the tenancy section of an application.yaml `FILE`")
	f.StringVar(&opts.JWTSecret, "jwt-secret", "", "the HS256 `SECRET` of the tokens (default random)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log every request's decision")
	c.AddCommand(newMigrate(), newServe(), newHealth())
	return c
}

// newLogger makes the program's logger, which is also where tenanthttp says what went wrong.
func newLogger(c *cobra.Command, level slog.Level) *slog.Logger {
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	slog.SetDefault(logger)
	return logger
}

// serve opens a demo, says what say returns, and serves until a signal.
func serve(c *cobra.Command, addr string, open func(context.Context) (*demo.App, error), say func(a *demo.App, addr string) (string, error)) (err error) {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// Listen first: a taken address is told before anything is created.
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use by another program: choose another with --addr, such as --addr 127.0.0.1:0", addr)
		}
		return fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	app, err := open(ctx)
	if err != nil {
		_ = ln.Close()
		if ctx.Err() != nil {
			return nil // Ctrl-C while it started
		}
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	text, err := say(app, ln.Addr().String())
	if err != nil {
		_ = ln.Close()
		return err
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), text); err != nil {
		_ = ln.Close()
		return err
	}
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the program at once
	}()
	return app.Serve(ctx, ln)
}
