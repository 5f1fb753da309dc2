// Package howto holds the snippets of docs/HOWTOS.md as code that compiles and runs. It has no code of
// its own.
package howto
