// Package tenantgorm answers how GORM stays inside the tenant of its context where the database
// does not see to it.
//
// Where it does (a tenant with a database or schema of its own, row security on PostgreSQL, or views for
// the login of each tenant on MariaDB) GORM needs nothing: open it over the handle of package isolation.
//
//	handle, err := isolation.Open(config)
//	db, err := gorm.Open(postgres.New(postgres.Config{Conn: handle.DB}), &gorm.Config{})
//	db.WithContext(ctx).Find(&notes) // the notes of ctx's tenant
//
// Where rows of all tenants lie in tables without a wall, as in one SQLite file, add the plugin:
//
//	plugin, err := tenantgorm.New(tenantgorm.Config{
//		Walls:  handle,
//		Models: []any{&Author{}, &Note{}}, // and what they are related to
//		Shared: []string{"plans"},
//	})
//	err = db.Use(plugin)
//
// # What it does
//
// A table belongs to tenants if its model has the tenant column or [Config] lists it, or it is
// listed as shared. Any other is [ErrUnclassified]. In the place of a table that belongs to
// tenants a SELECT reads (SELECT * FROM t WHERE tenant_id = ?): in FROM, in joins and in sub-queries
// made with GORM, so that no condition can reach past it. An UPDATE or DELETE gets the condition
// in front, with the application's own in brackets. A new row gets the tenant's id; one that names
// another tenant is [ErrForeignTenant], and so is a change of the column. An upsert changes the
// tenant's rows only; if its key is taken by another tenant's row it is [ErrForeignRow], and GORM's
// transaction rolls back.
//
// What it cannot filter it refuses with [ErrUnfiltered]: Raw and Exec, and texts with a
// sub-query, a comment, a semicolon, a backslash in quotes, or brackets that do not match.
// Write sub-queries with GORM and pass values as parameters; [UnsafeRaw] is the way out. Without
// a tenant every statement is tenancy.ErrNoTenant, and so is a sub-query: make it with
// db.WithContext(ctx), too. (GORM's generic API gives its sub-queries no context.) In system scope nothing is filtered, but a new
// row must name its tenant.
//
// Asked for each statement, [Config].Walls says whether the tenant's database is a wall; there the
// plugin adds nothing to its text, and only writes the tenant's id into new rows of models that have the
// column. Tenants of one deployment may differ.
//
// # What it does not do
//
// It is a fence against the forgotten filter. It does not see what goes past GORM: db.DB, the
// statements of another library, functions of the database that read tables. (The handle of
// package isolation refuses those where it is no wall itself.) It cannot know that a foreign key
// leads to another tenant's row; make keys and unique indexes include the tenant column. On SQLite, MySQL
// and MariaDB it compares ids byte by byte, also where the column's collation takes acme and ACME for equal;
// keys are still the column's, so that one of them may be told that its row is there already. A column of
// numbers is not safe where ids are 7 and 007 (on SQLite and PostgreSQL they are one, on MySQL 007 finds nothing), nor is
// citext, or a collation that is not deterministic, on PostgreSQL: give the column a type of text and a binary collation. On SQLite
// DB.Check of package isolation refuses others, and DB.Verify looks for the rest. It does not
// hold against SQL injection. On PostgreSQL a GROUP BY of the key alone no longer covers the other
// columns, because what is selected from is no table.
//
// On MySQL and MariaDB without a wall it refuses upserts that update, because ON DUPLICATE KEY UPDATE takes
// no condition, and locking reads, which would lock nothing there. Open the driver with clientFoundRows:
// without it GORM's Save takes an unchanged row for a missing one and upserts it.
//
// # Migrations
//
// AutoMigrate needs a *gorm.DB of its own, without the plugin, over isolation.Target.DB: write an
// isolation.Migrator around it. GORM reads a row of each table that exists, and behind row security
// the owner of the tables needs a tenant as well. Bind its transaction to one that owns nothing:
//
//	db.Transaction(func(tx *gorm.DB) error {
//		if err := tx.Exec("SELECT set_config('app.tenant_id', 'nobody', true)").Error; err != nil {
//			return err
//		}
//		return tx.AutoMigrate(models...)
//	})
//
// On MariaDB each key of a table that tenants share must have the tenant column in it. Models that lack the
// column migrate with DisableForeignKeyConstraintWhenMigrating, and ALTER TABLE then adds it to the keys.
package tenantgorm
