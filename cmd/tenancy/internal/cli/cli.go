// Package cli is the command line of tenancy: its commands, flags and exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	ExitOK    = 0
	ExitError = 1 // the command could not do its work
	ExitUsage = 2 // the command line is wrong
)

// usageError is a mistake in the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nRun '%s --help' for usage.", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// Run runs the command line args and returns the exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	_, _ = fmt.Fprintf(stderr, "tenancy: %v\n", err)
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tenancy",
		Short: "One application, many customers, nobody sees another's data",
		Long: `tenancy belongs to lexigram.dev/tenancy, the Go library that lets one
deployment of a web application serve many customers.

Begin with:  tenancy demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newDemo(), newToken(), newVersion())
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultCompletionCmd()
	finish(root)
	return root
}

// finish makes every mistake on c's command line, and on those of its sub-commands, a usage error, a
// mistyped sub-command too.
func finish(c *cobra.Command) {
	for _, sub := range c.Commands() {
		finish(sub)
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	if c.HasSubCommands() {
		c.Args = unknown
		if c.RunE == nil {
			c.RunE = func(c *cobra.Command, _ []string) error {
				return &usageError{c.CommandPath(), errors.New("a command is missing: one of " + names(c))}
			}
		}
		return
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return nil
		}
	}
}

func unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	if similar := c.SuggestionsFor(args[0]); len(similar) > 0 {
		return &usageError{c.CommandPath(), fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(similar, " or "))}
	}
	return &usageError{c.CommandPath(), fmt.Errorf("unknown command %q: use one of %s", args[0], names(c))}
}

func names(c *cobra.Command) string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}

func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Print the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = unknown(c, rest)
			}
			if err != nil {
				return err
			}
			return c.Help()
		},
	}
}
