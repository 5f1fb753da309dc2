package pgx_test

import (
	"testing"
	"time"
)

// TestSlowWritesDoNotHangTheNextUse makes writes slow enough for pgx to start a reader of its own,
// which stays in its read until the server says something. Whoever looks at the socket then must
// not wait for that reader: the connection is idle, and the server says nothing unasked.
func TestSlowWritesDoNotHangTheNextUse(t *testing.T) {
	for _, path := range paths {
		t.Run(string(path), func(t *testing.T) {
			w := open(t, path)
			w.wire.slow.Store(int64(60 * time.Millisecond)) // pgx waits 15 ms
			for range 5 {
				done := make(chan error, 1)
				go func() {
					var n int64
					done <- w.db.QueryRowContext(w.acme, "SELECT count(*) FROM notes").Scan(&n)
				}()
				select {
				case err := <-done:
					must(t, err)
				case <-time.After(20 * time.Second):
					t.Fatal("the statement hangs")
				}
			}
			if n := w.wire.dials.Load(); n != 1 {
				t.Errorf("%d connections, want 1: an idle one was taken for a dead one", n)
			}
		})
	}
}
