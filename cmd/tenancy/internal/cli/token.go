package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lexigram.dev/tenancy/cmd/tenancy/demo"
)

func newToken() *cobra.Command {
	var user, tenant, secret string
	var ttl time.Duration
	var secrets secretFiles
	c := &cobra.Command{
		Use:   "token --user USER --jwt-secret SECRET",
		Short: "Print a token for the demo",
		Long: `Print an HS256 token for a demo that runs with the same --jwt-secret. Its claims
are sub (the user), exp and, with --tenant, tenant_id.`,
		Example: `  tenancy token --user alice --tenant acme --jwt-secret "$SECRET"`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := secrets.read(); err != nil {
				return err
			}
			for _, f := range []struct{ name, value string }{{"user", user}, {"jwt-secret", secret}} {
				if f.value == "" {
					return &usageError{c.CommandPath(), fmt.Errorf("--%s is required", f.name)}
				}
			}
			if ttl <= 0 {
				return &usageError{c.CommandPath(), errors.New("--ttl must be positive: a token that has expired is of no use")}
			}
			token, err := demo.Token(secret, user, tenant, time.Now().Add(ttl))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), token)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&user, "user", "", "the user that the token is for (required)")
	f.StringVar(&tenant, "tenant", "", "the tenant, by id or slug, that the token names; none by default")
	f.StringVar(&secret, "jwt-secret", "", "the secret of the demo that shall accept it (required)")
	secrets.command = c
	secrets.add(&secret, "jwt-secret-file", "the secret, in place of --jwt-secret,", true)
	f.DurationVar(&ttl, "ttl", time.Hour, "how long the token is good for")
	return c
}
