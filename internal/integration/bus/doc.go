// Package bus holds the tests of every bus and publisher on real brokers: what nodes hear, how soon, and
// what happens when the broker is cut off, restarts, says nothing or says nonsense. It has no code of its
// own.
package bus
