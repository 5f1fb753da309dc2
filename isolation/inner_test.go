package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"lexigram.dev/tenancy/isolation"
)

// oldServer is a server whose drivers know little: each kind has only some of the optional
// interfaces. It records the caller's statements with the tenant that was bound when they ran.
type oldServer struct {
	kind string
	on   func(what string) // if not nil, called before each step

	mu    sync.Mutex
	log   []string
	stmts int // open
}

// oldKinds are what a driver may be. Each has at least what driver.Conn and driver.Stmt demand.
const (
	onlyPrepares = "prepares only"
	oldContext   = "statements take a context"
	oldExecers   = "Execer and Queryer"
	skips        = "ExecerContext that skips"
	columns      = "ColumnConverter"
)

func (o *oldServer) Driver() driver.Driver { return nil }

func (o *oldServer) Connect(context.Context) (driver.Conn, error) {
	c := &oldConn{server: o}
	switch o.kind {
	case oldExecers:
		return oldExecConn{c}, nil
	case skips:
		return skipConn{c}, nil
	}
	return c, nil
}

func (o *oldServer) step(what string) {
	if o.on != nil {
		o.on(what)
	}
}

func (o *oldServer) took() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := o.log
	o.log = nil
	return log
}

func (o *oldServer) left(t testing.TB) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stmts != 0 {
		t.Errorf("%d statements are left open", o.stmts)
	}
}

type oldConn struct {
	server *oldServer
	bound  string
}

// local finds what binds a transaction.
var local = regexp.MustCompile(`'app\.tenant_id', '([^']*)', true|SET LOCAL "app"\."tenant_id" TO '([^']*)'`)

func (c *oldConn) run(query string, args []driver.Value) {
	if found := local.FindStringSubmatch(query); found != nil {
		c.bound = found[1] + found[2]
		return
	}
	if strings.HasPrefix(query, "SET SESSION ") || strings.HasPrefix(query, "DISCARD ") {
		return
	}
	for _, a := range args {
		query += fmt.Sprintf(" %T:%v", a, a)
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.log = append(c.server.log, fmt.Sprintf("%s [%s]", query, c.bound))
}

func (c *oldConn) Close() error { return nil }

func (c *oldConn) Begin() (driver.Tx, error) {
	c.server.step("BEGIN")
	c.run("BEGIN", nil)
	return oldTx{c}, nil
}

func (c *oldConn) Prepare(query string) (driver.Stmt, error) {
	c.server.step(query)
	c.server.mu.Lock()
	c.server.stmts++
	c.server.mu.Unlock()
	s := &oldStmt{conn: c, query: query}
	switch c.server.kind {
	case oldContext:
		return contextStmt{s}, nil
	case columns:
		return columnStmt{s}, nil
	}
	return s, nil
}

type oldTx struct{ conn *oldConn }

func (t oldTx) Commit() error   { return t.end("COMMIT") }
func (t oldTx) Rollback() error { return t.end("ROLLBACK") }

func (t oldTx) end(how string) error {
	t.conn.run(how, nil)
	t.conn.bound = ""
	return nil
}

type oldStmt struct {
	conn  *oldConn
	query string
}

func (s *oldStmt) NumInput() int { return strings.Count(s.query, "?") }

func (s *oldStmt) Close() error {
	s.conn.server.mu.Lock()
	defer s.conn.server.mu.Unlock()
	s.conn.server.stmts--
	return nil
}

func (s *oldStmt) Exec(args []driver.Value) (driver.Result, error) {
	s.conn.run(s.query, args)
	return driver.RowsAffected(1), nil
}

func (s *oldStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.conn.run(s.query, args)
	return &fakeRows{conn: &fakeConn{}}, nil
}

type contextStmt struct{ *oldStmt }

func (s contextStmt) ExecContext(_ context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.Exec(unnamed(args))
}

func (s contextStmt) QueryContext(_ context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.Query(unnamed(args))
}

func unnamed(args []driver.NamedValue) (values []driver.Value) {
	for _, a := range args {
		values = append(values, a.Value)
	}
	return values
}

// columnStmt converts strings to its column's type and knows as many columns as it has parameters.
type columnStmt struct{ *oldStmt }

func (s columnStmt) ColumnConverter(i int) driver.ValueConverter {
	if i >= s.NumInput() {
		panic(fmt.Sprintf("there is no column %d", i))
	}
	return upper{}
}

type upper struct{}

func (upper) ConvertValue(v any) (driver.Value, error) {
	switch v := v.(type) {
	case string:
		return strings.ToUpper(v), nil
	case nil, int64:
		return v, nil
	case int:
		return int64(v), nil
	case bool:
		return struct{}{}, nil
	}
	return nil, fmt.Errorf("the column takes no %T", v)
}

type oldExecConn struct{ *oldConn }

func (c oldExecConn) Exec(query string, args []driver.Value) (driver.Result, error) {
	c.run(query, args)
	return driver.RowsAffected(1), nil
}

func (c oldExecConn) Query(query string, args []driver.Value) (driver.Rows, error) {
	c.run(query, args)
	return &fakeRows{conn: &fakeConn{}}, nil
}

// skipConn sends statements with values back to be prepared, as drivers do whose protocol takes
// values only then.
type skipConn struct{ *oldConn }

func (c skipConn) CheckNamedValue(v *driver.NamedValue) error {
	switch value := v.Value.(type) {
	case sql.Out:
		return driver.ErrRemoveArgument
	case string:
		v.Value = value + "'"
		return nil
	}
	return driver.ErrSkip
}

func (c skipConn) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 {
		return nil, driver.ErrSkip
	}
	c.run(query, nil)
	return driver.RowsAffected(1), nil
}

func (c skipConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, driver.ErrSkip
}

// openOld returns a handle and a plain *sql.DB over servers of one kind.
func openOld(t testing.TB, kind string) (db *isolation.DB, server *oldServer, plain *sql.DB, alone *oldServer) {
	t.Helper()
	server, alone = &oldServer{kind: kind}, &oldServer{kind: kind}
	db, err := isolation.Open(isolation.Config{Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
		App: server, RLS: &isolation.RLS{Roles: isolation.Roles{App: "app"}, Tables: []isolation.Table{{Name: "notes"}}},
	}}})
	must(t, err)
	plain = sql.OpenDB(alone)
	t.Cleanup(func() {
		must(t, errors.Join(db.Close(), plain.Close()))
		server.left(t)
	})
	return db, server, plain, alone
}

var oldKinds = []string{onlyPrepares, oldContext, oldExecers, skips, columns}

func TestOldDriversAreBound(t *testing.T) {
	t.Parallel()
	for _, kind := range oldKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db, server, _, _ := openOld(t, kind)
			acme, globex := bind(t.Context(), "acme"), bind(t.Context(), "globex")
			ran := func(want ...string) {
				t.Helper()
				if got := server.took(); !slices.Equal(got, want) {
					t.Errorf("ran %q, want %q", got, want)
				}
			}
			_, err := db.ExecContext(acme, "INSERT ?", 1)
			must(t, err)
			ran("BEGIN []", "INSERT ? int64:1 [acme]", "COMMIT [acme]")
			rows, err := db.QueryContext(globex, "SELECT ?", 2)
			must(t, err)
			n := 0
			for rows.Next() {
				n++
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil || n != 3 {
				t.Errorf("%d rows: %v", n, err)
			}
			ran("BEGIN []", "SELECT ? int64:2 [globex]", "COMMIT [globex]")
			must(t, db.InTx(acme, nil, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(acme, "UPDATE")
				must(t, err)
				return tx.QueryRowContext(acme, "SELECT ?", 3).Scan(&n)
			}))
			ran("BEGIN []", "UPDATE [acme]", "SELECT ? int64:3 [acme]", "COMMIT [acme]")
			stmt, err := db.PrepareContext(acme, "DELETE ?")
			must(t, err)
			for _, ctx := range []context.Context{acme, globex} {
				_, err = stmt.ExecContext(ctx, 4)
				must(t, err)
			}
			must(t, stmt.Close())
			ran("BEGIN []", "DELETE ? int64:4 [acme]", "COMMIT [acme]", "BEGIN []", "DELETE ? int64:4 [globex]", "COMMIT [globex]")
		})
	}
}

func TestOldDriversRefuseWhatTheyCannot(t *testing.T) {
	t.Parallel()
	for _, kind := range oldKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db, server, plain, _ := openOld(t, kind)
			acme := bind(t.Context(), "acme")
			for _, opts := range []sql.TxOptions{{Isolation: sql.LevelSerializable}, {ReadOnly: true}} {
				_, want := plain.BeginTx(acme, &opts)
				_, got := db.BeginTx(acme, &opts)
				if want == nil || got == nil || got.Error() != want.Error() {
					t.Errorf("%+v: the error is %v, want that of database/sql: %v", opts, got, want)
				}
			}
			if log := server.took(); len(log) != 0 {
				t.Errorf("ran %q", log)
			}
			conn, err := db.Conn(acme)
			must(t, err)
			_, err = conn.ExecContext(acme, "INSERT")
			mustBe(t, err, isolation.ErrSessionUnsupported)
			must(t, conn.Close())
		})
	}
}

func TestOldDriversGetTheValuesOfDatabaseSQL(t *testing.T) {
	t.Parallel()
	for _, kind := range oldKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db, server, plain, alone := openOld(t, kind)
			acme := bind(t.Context(), "acme")
			for _, args := range [][]any{
				{"a", int32(7)},
				{sql.NullString{String: "valued", Valid: true}, sql.NullString{}},
				{"a", sql.NullString{String: "b", Valid: true}},
				{"a", sql.Out{Dest: new(string)}, "b"},
				{sql.Out{Dest: new(string)}, 1, 2},
				{"a", true},
				{"a", 1.5},
				{"a"},
				{"a", "b", "c"},
				{"a", sql.Named("b", 1)},
				{failing{}, 1},
				{odd{}, 1},
				{struct{}{}, 1},
			} {
				const query = "INSERT ?, ?"
				_, want := plain.ExecContext(acme, query, args...)
				_, got := db.ExecContext(acme, query, args...)
				if (got == nil) != (want == nil) || got != nil && text(got) != text(want) {
					t.Errorf("%v: the error is %v, want that of database/sql: %v", args, got, want)
				}
				sent, wanted := statements(server), statements(alone)
				for i := range wanted {
					wanted[i] = strings.Replace(wanted[i], "[]", "[acme]", 1)
				}
				if !slices.Equal(sent, wanted) {
					t.Errorf("%v: ran %q, want %q", args, sent, wanted)
				}
			}
		})
	}
}

// text is what an error says of a value that is of no use; database/sql has two ways to say it.
func text(err error) string {
	return strings.Replace(err.Error(), "non-subset type", "non-Value type", 1)
}

// statements are what ran beside BEGIN and its like.
func statements(server *oldServer) []string {
	return slices.DeleteFunc(server.took(), func(line string) bool { return !strings.HasPrefix(line, "INSERT") })
}

func TestOldDriversStartNothingAfterTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{onlyPrepares, columns} {
		for _, at := range []string{"BEGIN", "INSERT"} {
			t.Run(kind+" at "+at, func(t *testing.T) {
				t.Parallel()
				db, server, _, _ := openOld(t, kind)
				ctx, cancel := context.WithCancel(bind(t.Context(), "acme"))
				defer cancel()
				server.on = func(what string) {
					if what == at {
						cancel()
					}
				}
				_, err := db.ExecContext(ctx, "INSERT")
				mustBe(t, err, context.Canceled)
				log := server.took()
				if len(log) != 2 || log[0] != "BEGIN []" || !strings.HasPrefix(log[1], "ROLLBACK") {
					t.Errorf("ran %q", log)
				}
			})
		}
	}
}
