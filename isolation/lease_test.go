package isolation_test

import (
	"database/sql/driver"
	"errors"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

func TestLeaseBelongsToOneTenant(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme, globex := bind(t.Context(), "acme"), bind(t.Context(), "globex")
	_, err := db.Lease(t.Context(), false)
	mustBe(t, err, tenancy.ErrNoTenant)

	l, err := db.Lease(acme, false)
	must(t, err)
	settings, atomic, err := l.Admit(acme, "SELECT 1", "INSERT INTO x")
	must(t, err)
	if len(settings) != 1 || settings[0].Value != "acme" || !atomic {
		t.Errorf("admitted with %v, atomic %v", settings, atomic)
	}
	_, _, err = l.Admit(globex, "SELECT 1")
	mustBe(t, err, tenancy.ErrTenantMismatch)
	_, _, err = l.Admit(tenancy.AsSystem(t.Context(), "test"), "SELECT 1")
	mustBe(t, err, tenancy.ErrTenantMismatch)
	_, _, err = l.Admit(globex)
	mustBe(t, err, tenancy.ErrTenantMismatch)
	_, _, err = l.Admit(acme, "SELECT 1", "COMMIT")
	mustBe(t, err, isolation.ErrTransactionControl)
	l.Release()
	l.Release()
	if _, _, err := l.Admit(acme, "SELECT 1"); err == nil {
		t.Error("a released lease took a connection again")
	}
	if _, err := l.Begin(acme, driver.TxOptions{}); err == nil {
		t.Error("a released lease began")
	}
	ran(t, server, "DISCARD ALL []") // several statements, of which none was sent
	if s := db.PoolStats(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestLeaseInATransactionNeedsNoBinding(t *testing.T) {
	t.Parallel()
	db, _ := open(t, single)
	acme := bind(t.Context(), "acme")
	l, err := db.Lease(acme, false)
	must(t, err)
	tx, err := l.Begin(acme, driver.TxOptions{})
	must(t, err)
	settings, _, err := l.Admit(t.Context(), "SELECT 1") // without a tenant it inherits
	must(t, err)
	if settings != nil {
		t.Errorf("bound again: %v", settings)
	}
	_, _, err = l.Admit(bind(t.Context(), "globex"))
	mustBe(t, err, tenancy.ErrTenantMismatch)
	must(t, tx.Commit())
	l.Release()

	l, err = db.Lease(acme, false)
	must(t, err)
	_, err = l.Begin(acme, driver.TxOptions{})
	must(t, err)
	l.Release() // with the transaction open
	if s := db.PoolStats(); s.Open != 0 || s.Destroyed != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestLeaseTakesALabel(t *testing.T) {
	t.Parallel()
	db, _ := open(t, single)
	acme := bind(t.Context(), "acme")
	l, err := db.Lease(acme, false)
	must(t, err)
	l.Label(isolation.Setting{Name: "application_name", Value: "x"})
	settings, _, err := l.Admit(acme, "SELECT 1")
	must(t, err)
	if len(settings) != 2 || settings[0].Value != "acme" || settings[1].Value != "x" {
		t.Errorf("admitted with %v", settings)
	}
	l.Release()
	l, err = db.Lease(acme, false)
	must(t, err)
	defer l.Release()
	settings, _, err = l.Admit(acme, "SELECT 1")
	must(t, err)
	if len(settings) != 1 {
		t.Errorf("the label stays: %v", settings)
	}
}

func TestLeaseOfASessionIsReset(t *testing.T) {
	t.Parallel()
	db, server := open(t, single)
	acme := bind(t.Context(), "acme")
	l, err := db.Lease(acme, true)
	must(t, err)
	for range 2 {
		_, _, err = l.Admit(acme, "SELECT 1")
		must(t, err)
	}
	l.Release()
	ran(t, server, "DISCARD ALL []")
}

func TestLeaseGivesNoBadConn(t *testing.T) {
	t.Parallel()
	db, _ := open(t, single)
	l, err := db.Lease(bind(t.Context(), "acme"), false)
	must(t, err)
	err = l.Explain(driver.ErrBadConn)
	mustBe(t, err, isolation.ErrConnectionLost)
	if errors.Is(err, driver.ErrBadConn) {
		t.Error("driver.ErrBadConn left")
	}
	l.Release()
	mustBe(t, l.Explain(driver.ErrBadConn), isolation.ErrConnectionLost) // of rows that were left open
	if s := db.PoolStats(); s.Open != 0 {
		t.Errorf("stats %+v", s)
	}
}
