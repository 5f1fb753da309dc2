// Package scale holds the tests of many tenants under few connections. They are small in an ordinary
// run; `make scale` runs them at the size that DESIGN promises and prints what they measured.
package scale
