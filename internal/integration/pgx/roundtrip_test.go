package pgx_test

import (
	"context"
	"database/sql"
	"testing"
)

// TestOneRoundTripPerStatement counts at the socket.
func TestOneRoundTripPerStatement(t *testing.T) {
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			w := open(t, path)
			for name, statement := range map[string]func(ctx context.Context) error{
				"a query": func(ctx context.Context) error {
					var n int64
					return w.db.QueryRowContext(ctx, "SELECT count(*) FROM notes WHERE body <> $1", "x").Scan(&n)
				},
				"an insert": func(ctx context.Context) error {
					_, err := w.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", "y")
					return err
				},
				"an insert that returns": func(ctx context.Context) error {
					var id int64
					return w.db.QueryRowContext(ctx, "INSERT INTO notes (body) VALUES ($1) RETURNING id", "y").Scan(&id)
				},
				"a statement in an explicit frame": func(ctx context.Context) error {
					_, err := w.db.ExecContext(ctx, "DO $$ BEGIN PERFORM 1; END $$")
					return err
				},
			} {
				must(t, statement(w.acme)) // warm up
				if name == "a statement in an explicit frame" && path == direct {
					continue // it may have changed the session, which is then reset: one more
				}
				for _, ctx := range []context.Context{w.acme, w.other} {
					trips, writes := w.wire.count(func() { must(t, statement(ctx)) })
					if trips != 1 || writes != 1 {
						t.Errorf("%s: %d round trips and %d writes, want 1 and 1", name, trips, writes)
					}
				}
			}
			if n := w.wire.dials.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestTransactionCostsOneMore counts k statements in k+1 round trips.
func TestTransactionCostsOneMore(t *testing.T) {
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			w := open(t, path)
			transaction := func(k int) func() {
				return func() {
					must(t, w.db.InTx(w.acme, nil, func(tx *sql.Tx) error {
						for range k {
							var n int64
							if err := tx.QueryRowContext(w.acme, "SELECT count(*) FROM notes").Scan(&n); err != nil {
								return err
							}
						}
						return nil
					}))
				}
			}
			transaction(1)()
			for k := range 4 {
				trips, _ := w.wire.count(transaction(k))
				want := int64(k + 1)
				if k == 0 {
					want = 0 // nothing was done, nothing is sent
				}
				if trips != want {
					t.Errorf("%d statements: %d round trips, want %d", k, trips, want)
				}
			}
		})
	}
}
