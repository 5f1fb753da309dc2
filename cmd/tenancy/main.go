// Command tenancy runs a demonstration of lexigram.dev/tenancy and makes tokens for it.
package main

import (
	"context"
	"os"

	"lexigram.dev/tenancy/cmd/tenancy/internal/cli"
)

func main() { os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }
