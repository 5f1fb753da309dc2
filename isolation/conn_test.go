package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

var single = isolation.PoolConfig{MaxConns: 1}

func TestStatementsAreBound(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme, globex := bind(t.Context(), "acme"), bind(t.Context(), "globex")
	_, err := db.ExecContext(acme, "INSERT", 1)
	must(t, err)
	rows, err := db.QueryContext(globex, "SELECT")
	must(t, err)
	must(t, rows.Close())
	must(t, db.InTx(acme, nil, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.Background(), "UPDATE")
		return err
	}))
	ran(t, server, "INSERT 1 [acme]", "SELECT [globex]", "BEGIN []", "UPDATE [acme]", "COMMIT [acme]")
}

func TestSessionIsResetAfterUse(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme := bind(t.Context(), "acme")
	for _, text := range []string{"SET x = 1", "select set_config('a', 'b', false)", "CREATE TEMP TABLE x (y int)", "LISTEN a", "unheard of"} {
		_, err := db.ExecContext(acme, text)
		must(t, err)
		ran(t, server, text+" [acme]", "DISCARD ALL []")
	}
	for _, text := range []string{"SELECT 1", " /* set_ */ (select 1)", "INSERT INTO x VALUES (1)", "SET LOCAL x = 1", "with a as (select 1) select * from a"} {
		_, err := db.ExecContext(acme, text)
		must(t, err)
		ran(t, server, text+" [acme]")
	}
	conn, err := db.Conn(acme)
	must(t, err)
	_, err = conn.ExecContext(acme, "SELECT 1")
	must(t, err)
	must(t, conn.Close())
	ran(t, server, "SELECT 1 [acme]", "DISCARD ALL []")

	server.failOnce("DISCARD ALL", errors.New("no"))
	_, err = db.ExecContext(acme, "SET x = 1")
	must(t, err)
	if n := server.connections(); n != 0 {
		t.Error("a connection that could not be reset was kept")
	}
}

func TestOpenTransactionIsDestroyed(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme := bind(t.Context(), "acme")
	tx, err := db.BeginTx(acme, nil)
	must(t, err)
	server.failOnce("ROLLBACK", errors.New("no"))
	if err := tx.Rollback(); err == nil {
		t.Error("the error of ROLLBACK was swallowed")
	}
	if n := server.connections(); n != 0 {
		t.Error("a connection with an open transaction was kept")
	}
	if s := db.PoolStats(); s.Open != 0 || s.Destroyed != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestC11BadConnIsNotRepeated(t *testing.T) {
	t.Parallel()
	db, server := open(t, isolation.PoolConfig{})
	acme := bind(t.Context(), "acme")
	t.Run("in a transaction", func(t *testing.T) {
		tx, err := db.BeginTx(acme, nil)
		must(t, err)
		server.failOnce("UPDATE", driver.ErrBadConn)
		_, err = tx.ExecContext(acme, "UPDATE")
		mustBe(t, err, isolation.ErrConnectionLost)
		if errors.Is(err, driver.ErrBadConn) {
			t.Error("driver.ErrBadConn left")
		}
		_ = tx.Rollback()
		ran(t, server, "BEGIN []", "UPDATE [acme]", "ROLLBACK [acme]")
	})
	t.Run("on a leased connection", func(t *testing.T) {
		conn, err := db.Conn(acme)
		must(t, err)
		_, err = conn.ExecContext(acme, "INSERT")
		must(t, err)
		server.failOnce("UPDATE", driver.ErrBadConn)
		_, err = conn.ExecContext(acme, "UPDATE")
		mustBe(t, err, isolation.ErrConnectionLost)
		_, err = conn.ExecContext(acme, "DELETE")
		mustBe(t, err, isolation.ErrConnectionLost)
		_ = conn.Close()
		ran(t, server, "INSERT [acme]", "UPDATE [acme]")
	})
	t.Run("but a failed BEGIN is", func(t *testing.T) {
		server.failOnce("BEGIN", driver.ErrBadConn)
		must(t, db.InTx(acme, nil, func(*sql.Tx) error { return nil }))
		ran(t, server, "BEGIN []", "BEGIN []", "COMMIT [acme]")
	})
	t.Run("and COMMIT is not", func(t *testing.T) {
		server.failOnce("COMMIT", driver.ErrBadConn)
		mustBe(t, db.InTx(acme, nil, func(*sql.Tx) error { return nil }), isolation.ErrConnectionLost)
		ran(t, server, "BEGIN []", "COMMIT [acme]")
	})
}

func TestValuesAreTheInnerDrivers(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme := bind(t.Context(), "acme")
	_, err := db.ExecContext(acme, "INSERT", "kept", "removed", int32(7), sql.NullString{String: "valued", Valid: true})
	must(t, err)
	ran(t, server, "INSERT kept 7 valued [acme]")
	plain := sql.OpenDB(&fake{})
	t.Cleanup(func() { _ = plain.Close() })
	for name, args := range map[string][]any{
		"refused by the driver":   {"kept", "refused"},
		"after a removed one":     {"removed", "refused"},
		"named":                   {sql.Named("body", "refused")},
		"nobody can convert it":   {struct{}{}},
		"named, nobody converts":  {"kept", sql.Named("body", struct{}{})},
		"its own Value fails":     {failing{}},
		"its own Value is no use": {odd{}},
	} {
		_, want := plain.ExecContext(acme, "INSERT", args...)
		_, got := db.ExecContext(acme, "INSERT", args...)
		if want == nil || got == nil || got.Error() != want.Error() {
			t.Errorf("%s: the error is %v, want that of database/sql: %v", name, got, want)
		}
	}
	ran(t, server)
}

// failing and odd are values that cannot be sent.
type (
	failing struct{}
	odd     struct{}
)

func (failing) Value() (driver.Value, error) { return nil, errors.New("not today") }
func (odd) Value() (driver.Value, error)     { return struct{}{}, nil }

func TestMisuseIsRefusedBeforeTheServer(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	_, err := db.ExecContext(t.Context(), "SELECT 1")
	mustBe(t, err, tenancy.ErrNoTenant)
	_, err = db.BeginTx(t.Context(), nil)
	mustBe(t, err, tenancy.ErrNoTenant)
	_, err = db.ExecContext(tenancy.AsSystem(t.Context(), "test"), "SELECT 1")
	mustBe(t, err, isolation.ErrNoSystemLogin)
	_, err = db.ExecContext(bind(t.Context(), "acme"), "COMMIT")
	mustBe(t, err, isolation.ErrTransactionControl)
	ran(t, server)
	stmt, err := db.PrepareContext(t.Context(), "SELECT 1")
	must(t, err)
	must(t, stmt.Close())
	if s := db.PoolStats(); s.Open-s.Idle != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestConfigReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := isolation.Open(isolation.Config{
		Servers: map[string]isolation.Server{
			"a": isolation.PostgreSQL{}, "b": isolation.SQLite{Driver: "unheard-of"}, "c": nil,
			"d": isolation.PostgreSQL{App: &fake{}, RLS: &isolation.RLS{
				Setting: "tenant'; --", Roles: isolation.Roles{App: "x", System: "x"},
				Tables: []isolation.Table{{Name: "a", Type: "text); drop"}, {Name: "a"}, {Name: ""}, {Name: "$tenancy$"}},
				Shared: []string{"a"},
			}},
		},
		Strategy: "rowlevel", Pool: isolation.PoolConfig{MaxConns: -1},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"PostgreSQL.App", "SQLite.Dir", "unheard-of", `Servers["c"]`, "Setting", "named twice", "text); drop", "listed twice",
		"name is empty", "$tenancy$", "Shared", `"rowlevel"`, "MaxConns", "Config.Server is empty",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
	for _, strategy := range []string{"", tenancy.StrategyRowLevel} {
		if _, err := isolation.NewRegistry(named(strategy)); err == nil {
			t.Errorf("a strategy named %q was registered", strategy)
		}
	}
}

type namedStrategy struct {
	isolation.Strategy
	name string
}

func (s namedStrategy) Name() string { return s.name }

func named(name string) isolation.Strategy { return namedStrategy{name: name} }
