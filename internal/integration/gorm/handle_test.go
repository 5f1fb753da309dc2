package gorm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
)

// cell is a strategy on an engine by an access path, with the shop's tables.
type cell struct {
	name   string
	config func(t testing.TB) isolation.Config
	fence  bool // the plugin filters
	rare   bool // only the shop runs there: what differs is the driver of the connections, not what GORM says
}

var everyCell = func() (all []cell) {
	for _, c := range cells.All() {
		all = append(all, cell{
			name: c.Name, fence: c.Fence, rare: c.Stdlib && (c.Pooled || !c.Shares()),
			config: func(t testing.TB) isolation.Config { return c.Config(t, shopTables...) },
		})
	}
	return all
}()

func onSQLite(t testing.TB, strategy string) isolation.Config {
	return cells.Cell{Engine: isolation.EngineSQLite, Strategy: strategy}.Config(t, shopTables...)
}

// dialectorOn returns GORM's dialector of an engine over a connection pool.
func dialectorOn(engine isolation.Engine, conn gorm.ConnPool) gorm.Dialector {
	switch engine {
	case isolation.EngineSQLite:
		return sqlite.New(sqlite.Config{Conn: conn})
	case isolation.EngineMariaDB:
		return gormmysql.New(gormmysql.Config{Conn: conn, DefaultStringSize: 255})
	}
	return postgres.New(postgres.Config{Conn: conn})
}

// autoMigrate is a Migrator by GORM. Its models know nothing of tenants; tables that tenants
// share get the column.
type autoMigrate struct{ shared bool }

func (m autoMigrate) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	db, err := gorm.Open(dialectorOn(target.Engine, target.DB), &gorm.Config{
		Logger:                                   logger.Discard,
		DisableForeignKeyConstraintWhenMigrating: m.shared && target.Engine == isolation.EngineMariaDB, // they lack the tenant
	})
	if err != nil {
		return 0, err
	}
	return 1, db.WithContext(ctx).Transaction(m.migrate)
}

func (m autoMigrate) migrate(db *gorm.DB) error {
	// AutoMigrate reads from tables that exist, and behind row security their owner needs a tenant
	// as well: one that owns nothing.
	if m.shared && db.Name() == "postgres" {
		if err := db.Exec("SELECT set_config('app.tenant_id', 'nobody', true)").Error; err != nil {
			return err
		}
	}
	if err := db.AutoMigrate(shopModels...); err != nil || !m.shared {
		return err
	}
	for _, table := range shopTables {
		if !db.Migrator().HasColumn(table, "tenant_id") {
			changes := "ADD COLUMN tenant_id text NOT NULL DEFAULT ''"
			if db.Name() == "mysql" {
				changes = "ADD COLUMN tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST, " + mariaDBKeys[table]
			}
			if err := db.Exec("ALTER TABLE " + db.Statement.Quote(table) + " " + changes).Error; err != nil {
				return err
			}
		}
	}
	return nil
}

// mariaDBKeys are the keys of tables that tenants share on MariaDB. Each has the tenant in it, and what is
// NOT NULL has a default (docs/STRATEGIES.md).
var mariaDBKeys = map[string]string{
	"customers": "DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id)",
	"orders": `DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id),
		DROP KEY idx_orders_number, ADD UNIQUE KEY idx_orders_number (tenant_id, number),
		ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES customers (tenant_id, id)`,
	"lines": `DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id),
		ADD FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id)`,
	"labels": `DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id),
		DROP KEY idx_labels_name, ADD UNIQUE KEY idx_labels_name (tenant_id, name)`,
	"parcels": "MODIFY id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id)",
	"order_labels": `ALTER order_id SET DEFAULT 0, ALTER label_id SET DEFAULT 0, DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, order_id, label_id),
		ADD FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
		ADD FOREIGN KEY (tenant_id, label_id) REFERENCES labels (tenant_id, id)`,
}

func (autoMigrate) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// opened is a cell in use, with two tenants.
type opened struct {
	handle *isolation.DB
	setup  *isolation.Provisioner
	engine isolation.Engine
	acme   context.Context
	globex context.Context
}

func (c cell) open(t testing.TB) *opened {
	t.Helper()
	config := c.config(t)
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	provisioner, err := isolation.NewProvisioner(config, autoMigrate{shared: config.Strategy == tenancy.StrategyRowLevel})
	must(t, err)
	_, err = provisioner.Setup(t.Context())
	must(t, err)
	_, err = provisioner.Setup(t.Context()) // AutoMigrate is idempotent
	must(t, err)
	o := &opened{setup: provisioner}
	for _, server := range config.Servers {
		o.engine = server.Engine()
	}
	o.handle, err = isolation.Open(config)
	must(t, err)
	t.Cleanup(func() {
		if err := o.handle.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	o.acme, o.globex = o.tenant(t, "acme"), o.tenant(t, "globex")
	return o
}

func (o *opened) tenant(t testing.TB, id string) context.Context {
	t.Helper()
	tn := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}
	var err error
	tn.Placement, err = o.setup.Place(t.Context(), tn)
	must(t, err)
	tn.Placement, err = o.setup.Provision(t.Context(), tn)
	must(t, err)
	return tenancy.UnsafeBind(t.Context(), tn, "test")
}

// gorm opens GORM over the handle, with the plugin in every cell: it knows where to step aside.
func (o *opened) gorm(t testing.TB, prepared bool) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialectorOn(o.engine, o.handle.DB), &gorm.Config{
		Logger: logger.Discard, PrepareStmt: prepared, TranslateError: true, NowFunc: shopNow,
	})
	must(t, err)
	tables := map[string]string{}
	for _, table := range shopTables {
		tables[table] = ""
	}
	plugin, err := tenantgorm.New(tenantgorm.Config{Walls: o.handle, Tables: tables})
	must(t, err)
	must(t, db.Use(plugin))
	return db
}

func eachCell(t *testing.T, test func(t *testing.T, c cell)) {
	t.Parallel()
	for _, c := range everyCell {
		if c.rare {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

func TestGORMStaysInItsTenant(t *testing.T) {
	eachCell(t, func(t *testing.T, c cell) {
		o := c.open(t)
		for _, prepared := range []bool{false, true} {
			db := o.gorm(t, prepared)
			sees := func(ctx context.Context, db *gorm.DB, want ...string) {
				t.Helper()
				var names []string
				must(t, db.WithContext(ctx).Model(&customer{}).Order("name").Pluck("name", &names).Error)
				if fmt.Sprint(names) != fmt.Sprint(want) {
					t.Errorf("prepared %t: saw %q, want %q", prepared, names, want)
				}
			}
			add := func(ctx context.Context, db *gorm.DB, name string) error {
				return db.WithContext(ctx).Create(&customer{Name: name}).Error
			}
			sees(o.acme, db)
			must(t, add(o.acme, db, "a"))
			must(t, add(o.globex, db, "g"))
			sees(o.acme, db, "a")
			sees(o.globex, db, "g")
			mustBe(t, add(t.Context(), db, "nobody"), tenancy.ErrNoTenant)

			// A transaction belongs to its tenant, with or without the context in its statements.
			must(t, db.WithContext(o.acme).Transaction(func(tx *gorm.DB) error {
				must(t, add(o.acme, tx, "b"))
				must(t, tx.Create(&customer{Name: "c"}).Error)
				_ = tx.Transaction(func(tx *gorm.DB) error { // a savepoint
					must(t, tx.Create(&customer{Name: "undone"}).Error)
					return errors.New("undo")
				})
				mustBe(t, add(o.globex, tx, "x"), tenancy.ErrTenantMismatch)
				return nil
			}))
			sees(o.acme, db, "a", "b", "c")
			boom := errors.New("boom")
			mustBe(t, db.WithContext(o.acme).Transaction(func(tx *gorm.DB) error {
				must(t, tx.Where("1=1").Delete(&customer{}).Error)
				return boom
			}), boom)
			func() {
				defer func() { _ = recover() }()
				_ = db.WithContext(o.acme).Transaction(func(tx *gorm.DB) error {
					must(t, tx.Where("1=1").Delete(&customer{}).Error)
					panic(boom)
				})
			}()
			sees(o.acme, db, "a", "b", "c")
			must(t, db.WithContext(o.acme).Unscoped().Where("1=1").Or("2=2").Delete(&customer{}).Error)
			sees(o.acme, db)
			sees(o.globex, db, "g")
			must(t, db.WithContext(o.globex).Unscoped().Where("1=1").Delete(&customer{}).Error)
		}
	})
}

// A wall needs no filter: text is run as it is, and the plugin adds nothing to what GORM writes.
func TestThePluginStepsAside(t *testing.T) {
	eachCell(t, func(t *testing.T, c cell) {
		o := c.open(t)
		db := o.gorm(t, false)
		walled, err := o.handle.Walled(o.acme)
		must(t, err)
		if walled == c.fence {
			t.Fatalf("walled = %t", walled)
		}
		must(t, db.WithContext(o.acme).Create(&customer{Name: "a"}).Error)
		must(t, db.WithContext(o.globex).Create(&customer{Name: "g"}).Error)
		text := db.ToSQL(func(tx *gorm.DB) *gorm.DB {
			return tx.WithContext(o.acme).Where("1=1").Find(&[]customer{})
		})
		var names []string
		err = db.WithContext(o.acme).Raw("SELECT name FROM customers WHERE id IN (SELECT id FROM customers)").Scan(&names).Error
		if c.fence {
			mustBe(t, err, tenantgorm.ErrUnfiltered)
			if want := "SELECT * FROM (SELECT * FROM `customers` WHERE `tenant_id` = \"acme\" COLLATE BINARY) AS `customers` WHERE 1=1 AND `customers`.`deleted_at` IS NULL"; text != want {
				t.Errorf("text %q, want %q", text, want)
			}
			return
		}
		must(t, err)
		if len(names) != 1 || names[0] != "a" {
			t.Errorf("saw %q", names)
		}
		if want := "SELECT * FROM " + quoted(o.engine, "customers") + " WHERE 1=1 AND " + quoted(o.engine, "customers", "deleted_at") + " IS NULL"; text != want {
			t.Errorf("text %q, want %q", text, want)
		}
		mustBe(t, db.Raw("SELECT 1").Row().Scan(new(int)), tenancy.ErrNoTenant)
		// Conditions that the fence refuses are the wall's to hold.
		must(t, db.WithContext(o.acme).Where("name IN (SELECT name FROM customers)").Find(&[]customer{}).Error)
		mustBe(t, db.WithContext(o.acme).Where("id IN (?)", db.Model(&customer{}).Select("id")).Find(&[]customer{}).Error, tenancy.ErrNoTenant)
	})
}

// ownedCustomer is a model that names its tenant where a wall does so already.
type ownedCustomer struct {
	ID       int64
	TenantID string
	Name     string
}

func (ownedCustomer) TableName() string { return "customers" }

func TestAModelMayNameItsTenantBehindAWall(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, c cell) {
		t.Parallel()
		o := c.open(t)
		db := o.gorm(t, false)
		mine, theirs := ownedCustomer{Name: "a"}, ownedCustomer{Name: "g"}
		must(t, db.WithContext(o.acme).Create(&mine).Error)
		must(t, db.WithContext(o.globex).Create(&theirs).Error)
		if mine.TenantID != "acme" || theirs.TenantID != "globex" {
			t.Errorf("created %+v and %+v", mine, theirs)
		}
		acme := db.WithContext(o.acme)
		bare, err := gorm.Open(dialectorOn(o.engine, o.handle.DB), &gorm.Config{Logger: logger.Discard})
		must(t, err)
		for what, err := range map[string]error{
			"a row for another":      acme.Create(&ownedCustomer{TenantID: "globex", Name: "planted"}).Error,
			"a row for nobody":       bare.WithContext(o.acme).Create(&ownedCustomer{Name: "nobody's"}).Error,
			"a row given to another": acme.Model(&mine).Update("tenant_id", "globex").Error,
		} {
			if err == nil {
				t.Errorf("%s: allowed", what)
			}
		}
		must(t, acme.Model(&theirs).Update("name", "taken").Error)
		for ctx, want := range map[context.Context]ownedCustomer{
			o.acme: {ID: mine.ID, TenantID: "acme", Name: "a"}, o.globex: {ID: theirs.ID, TenantID: "globex", Name: "g"},
		} {
			var all []ownedCustomer
			must(t, db.WithContext(ctx).Find(&all).Error)
			if len(all) != 1 || all[0] != want {
				t.Errorf("saw %+v, want %+v alone", all, want)
			}
		}
	}
	for _, c := range everyCell {
		if strings.HasPrefix(c.name, "row_level") && !c.fence && !c.rare { // the fence's own tests have such models
			t.Run(c.name, func(t *testing.T) { test(t, c) })
		}
	}
}

// The walls of one handle say nothing about the connections of another.
func TestTheWallsAreThoseOfTheConnections(t *testing.T) {
	t.Parallel()
	config := onSQLite(t, tenancy.StrategyDatabase)
	walled, err := isolation.Open(config)
	must(t, err)
	defer walled.Close()
	other, err := isolation.Open(config)
	must(t, err)
	defer other.Close()
	_, plain := engines[0].open(t)
	for _, test := range []struct {
		name string
		conn gorm.ConnPool
		ok   bool
	}{
		{"its own", walled.DB, true},
		{"another handle", other.DB, false},
		{"a plain database", plain, false},
	} {
		for _, prepared := range []bool{false, true} {
			db, err := gorm.Open(dialectorOn(isolation.EngineSQLite, test.conn), &gorm.Config{Logger: logger.Discard, PrepareStmt: prepared})
			must(t, err)
			plugin, err := tenantgorm.New(tenantgorm.Config{Walls: walled})
			must(t, err)
			if err := db.Use(plugin); (err == nil) != test.ok {
				t.Errorf("%s, prepared %t: %v", test.name, prepared, err)
			}
		}
	}
}

func quoted(engine isolation.Engine, names ...string) string {
	quote := "`"
	if engine == isolation.EnginePostgreSQL {
		quote = `"`
	}
	text := ""
	for i, n := range names {
		if i > 0 {
			text += "."
		}
		text += quote + n + quote
	}
	return text
}

// More goroutines than connections, two tenants, one *gorm.DB.
func TestGORMUnderConcurrency(t *testing.T) {
	eachCell(t, func(t *testing.T, c cell) {
		o := c.open(t)
		for _, prepared := range []bool{false, true} {
			db := o.gorm(t, prepared)
			var group sync.WaitGroup
			for worker := range 8 {
				group.Go(func() {
					ctx, prefix := o.acme, "acme"
					if worker%2 == 1 {
						ctx, prefix = o.globex, "globex"
					}
					for i := range 10 {
						mine := customer{Name: fmt.Sprintf("%s %d %d", prefix, worker, i)}
						if err := db.WithContext(ctx).Create(&mine).Error; err != nil {
							t.Error(err)
							return
						}
						var all []customer
						if err := db.WithContext(ctx).Where("name = ?", mine.Name).Or("1=1").Find(&all).Error; err != nil {
							t.Error(err)
							return
						}
						for _, other := range all {
							if other.Name[:len(prefix)] != prefix {
								t.Errorf("%s reads %q", prefix, other.Name)
							}
						}
						if err := db.WithContext(ctx).Delete(&mine).Error; err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
		}
	})
}
