package gorm_test

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
)

// openFence opens row_level on SQLite with one customer per tenant.
func openFence(t testing.TB) (*opened, *gorm.DB) {
	t.Helper()
	o := cell{config: func(t testing.TB) isolation.Config { return onSQLite(t, tenancy.StrategyRowLevel) }}.open(t)
	db := o.gorm(t, false)
	must(t, db.WithContext(o.acme).Create(&customer{ID: 1, Name: "of acme"}).Error)
	must(t, db.WithContext(o.globex).Create(&customer{ID: 2, Name: "of globex"}).Error)
	return o, db
}

func TestR04WhatGoesPastGORMIsUnfiltered(t *testing.T) {
	t.Parallel()
	o, db := openFence(t)
	const query = "SELECT name FROM customers WHERE tenant_id = 'acme'" // no text is read to see what it does
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: allowed", what)
		}
		mustBe(t, err, isolation.ErrUnfiltered)
	}
	_, err := scanned(o.handle.QueryContext(o.acme, query))
	refused("query", err)
	refused("row", o.handle.QueryRowContext(o.acme, query).Scan(new(string)))
	_, err = o.handle.ExecContext(o.acme, "INSERT INTO customers (tenant_id, name) VALUES ('acme', 'x')")
	refused("exec", err)
	refused("transaction", o.handle.InTx(o.acme, nil, func(tx *sql.Tx) error {
		_, err := scanned(tx.QueryContext(o.acme, query))
		return err
	}))
	conn, err := o.handle.Conn(o.acme)
	must(t, err)
	_, err = scanned(conn.QueryContext(o.acme, query))
	refused("lease", err)
	must(t, conn.Close())
	prepared, err := o.handle.PrepareContext(o.acme, query)
	must(t, err)
	defer prepared.Close()
	_, err = scanned(prepared.QueryContext(o.acme))
	refused("prepared", err)
	refused("driver", isolation.Raw(o.acme, o.handle, func(any) error { return nil }))
	_, err = scanned(o.handle.QueryContext(isolation.UnsafeFiltered(o.acme, query+" "), query))
	refused("the mark of another text", err)
	refused("GORM without the plugin", func() error {
		bare, err := gorm.Open(dialectorOn(o.engine, o.handle.DB), &gorm.Config{Logger: logger.Discard})
		must(t, err)
		return bare.WithContext(o.acme).Find(&[]customer{}).Error
	}())
	// A hook gets a context that opens nothing else.
	must(t, db.Callback().Query().After("gorm:query").Register("test", func(tx *gorm.DB) {
		_, err := scanned(o.handle.QueryContext(tx.Statement.Context, query))
		refused("hook", err)
	}))
	var all []customer
	must(t, db.WithContext(o.acme).Find(&all).Error)
	if len(all) != 1 || all[0].Name != "of acme" {
		t.Errorf("saw %+v", all)
	}
	_, err = scanned(o.handle.QueryContext(t.Context(), query))
	mustBe(t, err, tenancy.ErrNoTenant)
	_, err = scanned(o.handle.QueryContext(tenancy.AsSystem(t.Context(), "test"), query))
	mustBe(t, err, isolation.ErrNoSystemLogin)
}

func scanned(rows *sql.Rows, err error) (n int, _ error) {
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// The connection refuses writes to others' rows whatever the statement says.
func TestR17TheConnectionIsAWallForWrites(t *testing.T) {
	t.Parallel()
	o, db := openFence(t)
	unsafe := db.WithContext(tenantgorm.UnsafeRaw(o.acme, "test of the wall"))
	for _, statement := range []string{
		"UPDATE customers SET name = 'taken'",
		"UPDATE customers SET name = 'taken' WHERE tenant_id = 'globex'",
		"UPDATE customers SET tenant_id = 'globex' WHERE id = 1",
		"UPDATE customers SET tenant_id = 'acme' WHERE id = 2",
		"UPDATE customers SET tenant_id = NULL WHERE id = 1",
		"UPDATE OR REPLACE customers SET id = 2 WHERE id = 1",
		"DELETE FROM customers",
		"INSERT INTO customers (tenant_id, name) VALUES ('globex', 'planted')",
		"INSERT INTO customers (name) VALUES ('nobody''s')",
		"INSERT INTO customers (tenant_id, name) SELECT tenant_id, name FROM customers",
		"INSERT OR REPLACE INTO customers (id, tenant_id, name) VALUES (2, 'acme', 'stolen')",
		"REPLACE INTO customers (id, tenant_id, name) VALUES (2, 'acme', 'stolen')",
		"INSERT INTO customers (id, tenant_id, name) VALUES (2, 'acme', 'x') ON CONFLICT (id) DO UPDATE SET tenant_id = 'acme'",
		"WITH x AS (SELECT 2 AS id) DELETE FROM customers WHERE id IN (SELECT id FROM x)",
	} {
		if err := unsafe.Exec(statement).Error; err == nil || !strings.Contains(err.Error(), "not the tenant's") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	must(t, unsafe.Exec("UPDATE customers SET name = 'of acme, too' WHERE tenant_id = 'acme'").Error)
	for ctx, want := range map[context.Context]string{o.acme: "of acme, too", o.globex: "of globex"} {
		var names []string
		must(t, db.WithContext(ctx).Model(&customer{}).Pluck("name", &names).Error)
		if len(names) != 1 || names[0] != want {
			t.Errorf("saw %q, want %q", names, want)
		}
	}
	// A tenant's rows go with it, and nobody else's.
	must(t, db.WithContext(o.acme).Create(&order{ID: 7, CustomerID: 1, Number: "1", Lines: []line{{SKU: "x"}}}).Error)
	b, err := tenancy.Require(o.acme)
	must(t, err)
	must(t, o.setup.Deprovision(t.Context(), b.Tenant))
	var count int64
	must(t, db.WithContext(o.acme).Unscoped().Model(&customer{}).Count(&count).Error)
	if count != 0 {
		t.Errorf("%d rows are left", count)
	}
	must(t, db.WithContext(o.globex).Model(&customer{}).Count(&count).Error)
	if count != 1 {
		t.Errorf("globex has %d rows", count)
	}
}

func TestR12ATableThatNobodyClassified(t *testing.T) {
	t.Parallel()
	config := onSQLite(t, tenancy.StrategyRowLevel)
	server := config.Servers["files"].(isolation.SQLite)
	server.Rows.Tables["missing"] = ""
	server.Rows.Tables["labels"] = "owner"
	delete(server.Rows.Tables, "lines")
	provisioner, err := isolation.NewProvisioner(config, autoMigrate{shared: true})
	must(t, err)
	_, err = provisioner.Setup(t.Context())
	for _, want := range []string{`table "lines" is not classified`, `table "missing" of SQLite.Rows.Tables does not exist`, `table "labels" has no column "owner"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	handle, err := isolation.Open(config)
	must(t, err)
	defer handle.Close()
	if err := handle.Check(t.Context()); err == nil {
		t.Error("Check finds nothing")
	}
	server.Rows = nil
	config.Servers["files"] = server
	_, err = isolation.Open(config)
	mustBe(t, err, isolation.ErrUnsupported)
	server.Rows = &isolation.SQLiteRows{Tables: map[string]string{"a": ""}, Shared: []string{"a"}}
	config.Servers["files"] = server
	if _, err = isolation.Open(config); err == nil || !strings.Contains(err.Error(), "only one of them") {
		t.Errorf("got %v", err)
	}
}

// One deployment, one *gorm.DB: some tenants share a file, one has its own.
func TestTenantsOfOneDeploymentMix(t *testing.T) {
	t.Parallel()
	o, _ := openFence(t)
	config := onSQLite(t, tenancy.StrategyRowLevel)
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	shared, err := isolation.NewProvisioner(config, autoMigrate{shared: true})
	must(t, err)
	_, err = shared.Setup(t.Context())
	must(t, err)
	config.Strategy = tenancy.StrategyDatabase
	alone, err := isolation.NewProvisioner(config, autoMigrate{})
	must(t, err)
	config.Strategy = ""
	o.handle, err = isolation.Open(config)
	must(t, err)
	defer o.handle.Close()
	o.setup = shared
	small, other := o.tenant(t, "small"), o.tenant(t, "other")
	o.setup = alone
	big := o.tenant(t, "big")
	db := o.gorm(t, true)
	for ctx, name := range map[context.Context]string{small: "small", other: "other", big: "big"} {
		must(t, db.WithContext(ctx).Create(&customer{Name: name, Orders: []order{{Number: name}}}).Error)
	}
	for range 2 {
		for ctx, name := range map[context.Context]string{small: "small", other: "other", big: "big"} {
			var found []customer
			must(t, db.WithContext(ctx).Preload(clause.Associations).Where("1=2").Or("1=1").Find(&found).Error)
			if len(found) != 1 || found[0].Name != name || len(found[0].Orders) != 1 || found[0].Orders[0].Number != name {
				t.Errorf("%s sees %+v", name, found)
			}
		}
	}
	mustBe(t, db.WithContext(small).Raw("SELECT 1").Row().Scan(new(int)), tenantgorm.ErrUnfiltered)
	must(t, db.WithContext(big).Raw("SELECT 1").Row().Scan(new(int)))
	// The big one's sub-query would read in the small one's database.
	mustBe(t, db.WithContext(big).Where("id IN (?)", db.WithContext(small).Model(&customer{}).Select("id")).Find(&[]customer{}).Error, tenancy.ErrTenantMismatch)
	mustBe(t, db.WithContext(small).Where("id IN (?)", db.WithContext(big).Model(&customer{}).Select("id")).Find(&[]customer{}).Error, tenantgorm.ErrUnfiltered)
	// A placement that leads to the shared file is nobody's.
	stray := tenancy.Tenant{ID: "stray", Status: tenancy.StatusActive, Placement: tenancy.Placement{
		Strategy: tenancy.StrategyDatabase, Server: "files", Database: "shared.sqlite",
	}}
	ctx := tenancy.UnsafeBind(t.Context(), stray, "test")
	if err := db.WithContext(ctx).Find(&[]customer{}).Error; err == nil || !strings.Contains(err.Error(), "placement.database") {
		t.Errorf("got %v", err)
	}
}
