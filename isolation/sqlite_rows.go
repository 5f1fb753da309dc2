package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// The methods of this file are row_level on SQLite: one file for all tenants. SQLite can keep a
// connection from writing others' rows (TEMP triggers), but not from reading them.

// SQLiteRows are the tables of the file that tenants share under the strategy row_level, which
// [SQLite.Dir] holds as shared.sqlite. Its tables are a wall for writes only. Reads, like all
// statements, must come through a query layer that filters them, see [UnsafeFiltered]; without it they
// fail with [ErrUnfiltered].
type SQLiteRows struct {
	// Tables are the tables that belong to tenants, by name with their tenant column; "" means
	// tenant_id. Required.
	Tables map[string]string
	// Shared are the tables that all tenants read and write alike.
	Shared []string
}

// sharedFile is no name that checkDatabase accepts, so that no placement leads to it.
const sharedFile = "shared.sqlite"

const defaultTenantColumn = "tenant_id"

var _ rowServer = SQLite{}

func (r *SQLiteRows) validate() error {
	if len(r.Tables) == 0 {
		return errors.New("SQLite.Rows.Tables is empty: name the tables that belong to tenants")
	}
	var errs []error
	for _, name := range r.Shared {
		if _, both := r.Tables[name]; both {
			errs = append(errs, fmt.Errorf("SQLite.Rows: table %q is in Tables and in Shared: it can be only one of them", name))
		}
	}
	return errors.Join(errs...)
}

// column returns the tenant column of a table.
func (r *SQLiteRows) column(table string) string {
	if column := r.Tables[table]; column != "" {
		return column
	}
	return defaultTenantColumn
}

func (s SQLite) supportsRows() error {
	if s.Rows == nil {
		return unsupported(tenancy.StrategyRowLevel, EngineSQLite, "SQLite cannot keep a tenant from reading others' rows: "+
			"use the strategy database, or PostgreSQL, or set SQLite.Rows and read through GORM with tenantgorm")
	}
	return nil
}

func (SQLite) placeRows(tenancy.Tenant) (tenancy.Placement, error) { return tenancy.Placement{}, nil }

func (s SQLite) routeRows(t *tenancy.Tenant, r *Route) error {
	if s.Rows == nil {
		return s.supportsRows()
	}
	r.Pool, r.Connector, r.Engine = Pool{Database: sharedFile, Login: t.ID}, fencedFile{file{s, sharedFile}, t.ID}, EngineSQLite
	r.Fenced = true
	return nil
}

// fencedFile opens the shared file for one tenant.
type fencedFile struct {
	file
	tenant string
}

// Connect opens the file and makes it refuse writes to rows that are not the tenant's. The triggers
// belong to the connection and end with it.
func (f fencedFile) Connect(ctx context.Context) (driver.Conn, error) {
	script, err := dialect.SQLiteWriteWall(f.server.Rows.walled(), f.tenant)
	if err != nil {
		return nil, err
	}
	c, err := f.file.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range script {
		if err := execInner(ctx, c, statement); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("wall %s for writes (SQLite.Rows.Tables must name its tables): %w", sharedFile, err)
		}
	}
	return c, nil
}

func (r *SQLiteRows) walled() []dialect.SQLiteTable {
	tables := make([]dialect.SQLiteTable, 0, len(r.Tables))
	for _, name := range slices.Sorted(maps.Keys(r.Tables)) {
		tables = append(tables, dialect.SQLiteTable{Name: name, Column: r.column(name)})
	}
	return tables
}

// setupRows makes the file and migrates it.
func (s SQLite) setupRows(ctx context.Context, name string, m Migrator) (version int64, err error) {
	if err := s.create(sharedFile); err != nil {
		return 0, err
	}
	db := s.open(sharedFile)
	defer db.Close()
	if m != nil {
		if version, err = m.Migrate(ctx, Target{DB: db, Engine: EngineSQLite, Name: name}); err != nil {
			return version, fmt.Errorf("migrate server %q: %w", name, err)
		}
	}
	return version, s.Rows.check(ctx, db)
}

func (s SQLite) checkRows(ctx context.Context) error {
	db := s.open(sharedFile)
	defer db.Close()
	return s.Rows.check(ctx, db)
}

// check reports tables that nobody has classified, those without the tenant column, and those where two
// tenants' ids can be equal. [SQLiteRows.Verify] finds more.
func (r *SQLiteRows) check(ctx context.Context, db *sql.DB) error {
	f, err := readSQLite(ctx, db, r.walled())
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range sortedKeys(f.tables) {
		_, owned := r.Tables[name]
		kind := f.tables[name].kind
		switch {
		case slices.Contains(r.Shared, name):
		case !owned:
			errs = append(errs, fmt.Errorf("%s %q is not classified: name it in SQLite.Rows.Tables or Shared", kind, name))
		case kind == "view":
			errs = append(errs, fmt.Errorf("view %q cannot be walled: name it in SQLite.Rows.Shared if it shows no tenant's rows, or drop it", name))
		case f.tables[name].column(r.column(name)) == nil:
			errs = append(errs, fmt.Errorf("table %q has no column %q: add it, or give its name in SQLite.Rows.Tables", name, r.column(name)))
		default:
			if why := f.tables[name].equal(r.column(name)); why != "" {
				errs = append(errs, fmt.Errorf("table %q: %s: declare the column as text", name, why))
			}
		}
	}
	for _, name := range sortedKeys(r.Tables) {
		if f.tables[name] == nil {
			errs = append(errs, fmt.Errorf("table %q of SQLite.Rows.Tables does not exist: run the migrations", name))
		}
	}
	return errors.Join(errs...)
}

func (s SQLite) provisionRows(ctx context.Context, _ tenancy.Tenant) error { return s.checkRows(ctx) }

func (s SQLite) versionRows(ctx context.Context, m Migrator) (int64, error) {
	db := s.open(sharedFile)
	defer db.Close()
	return m.Version(ctx, Target{DB: db, Engine: EngineSQLite})
}

func (s SQLite) manifestRows(ctx context.Context, t tenancy.Tenant) (items []tenancy.ManifestItem, err error) {
	if err := s.checkRows(ctx); err != nil {
		return nil, err
	}
	db := s.open(sharedFile)
	defer db.Close()
	for _, table := range s.Rows.walled() {
		item := tenancy.ManifestItem{Kind: itemRows, Name: table.Name}
		if err := db.QueryRowContext(ctx, dialect.CountOwn(table), t.ID).Scan(&item.Rows); err != nil {
			return nil, fmt.Errorf("count the rows of %q: %w", table.Name, err)
		}
		items = append(items, item)
	}
	return items, nil
}

func (s SQLite) deprovisionRows(ctx context.Context, t tenancy.Tenant) error {
	if t.ID == "" {
		return errors.New("the tenant has no id")
	}
	db := sql.OpenDB(fencedFile{file{s, sharedFile}, t.ID})
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if _, err := tx.ExecContext(ctx, "PRAGMA defer_foreign_keys = ON"); err != nil {
		return err
	}
	for _, table := range s.Rows.walled() {
		if _, err := tx.ExecContext(ctx, dialect.DeleteOwn(table), t.ID); err != nil {
			return fmt.Errorf("delete the rows of %q: %w", table.Name, err)
		}
	}
	return tx.Commit()
}

// create makes the folder and an empty file, and leaves one that exists as it is.
func (s SQLite) create(name string) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
