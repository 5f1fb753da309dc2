// Package hunt runs the suites of package isolationtest on real servers, over every strategy,
// engine and access path, and shows that they reject handles that leak. It has no code of its own.
package hunt
