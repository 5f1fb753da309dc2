// Package storetest answers whether a [tenancy.Store] keeps its promises. An implementation
// calls [Run] in a test of its own. It does not measure speed, and it does not know what is
// special to one engine, such as its schema.
package storetest
