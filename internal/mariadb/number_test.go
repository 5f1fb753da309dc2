package mariadb_test

import (
	"errors"
	"fmt"
	"testing"

	"lexigram.dev/tenancy/internal/mariadb"
)

// serverError looks as go-sql-driver's does.
type serverError struct {
	Number  uint16
	Message string
}

func (e *serverError) Error() string { return e.Message }

// named has a field of that name that is no number of a server.
type named struct{ Number string }

func (named) Error() string { return "named" }

func TestNumber(t *testing.T) {
	t.Parallel()
	deadlock := &serverError{Number: mariadb.Deadlock, Message: "deadlock"}
	for _, c := range []struct {
		name string
		err  error
		want uint64
	}{
		{"nil", nil, 0},
		{"no server's", errors.New("Error 1213"), 0},
		{"the server's", deadlock, mariadb.Deadlock},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", deadlock)), mariadb.Deadlock},
		{"joined", errors.Join(errors.New("a"), fmt.Errorf("b: %w", deadlock)), mariadb.Deadlock},
		{"joined with none", errors.Join(errors.New("a"), errors.New("b")), 0},
		{"a nil pointer", (*serverError)(nil), 0},
		{"a field that is a text", &named{"1213"}, 0},
	} {
		if got := mariadb.Number(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
