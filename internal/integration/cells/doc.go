// Package cells opens isolation.DB on throwaway servers in every cell: a strategy on an engine by an access
// path. It serves tests that run one application in all of them, and beside it on a database of its own.
package cells
