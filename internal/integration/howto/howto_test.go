package howto_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/internal/integration/sqlc/pgxshop"
	"lexigram.dev/tenancy/internal/integration/sqlc/sqlshop"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

// products is a Migrator of one table.
type products struct{ shared bool }

func (m products) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	column, key := "", "sku"
	if m.shared {
		column, key = "tenant_id varchar(128) NOT NULL, ", "tenant_id, sku"
		if target.Engine == isolation.EngineMariaDB {
			column = "tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL, "
		}
	}
	_, err := target.DB.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS products ("+column+
		"sku varchar(40) NOT NULL DEFAULT '', stock int NOT NULL DEFAULT 0, PRIMARY KEY ("+key+"))")
	return 1, err
}

func (products) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

type product struct {
	bun.BaseModel `bun:"table:products" gorm:"-"`

	Sku   string
	Stock int32
}

func viaSqlcPgx(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// sqlc for pgx begins
	q := pgxshop.New(tenantpgx.New(db)) // sqlc.yaml: sql_package: pgx/v5
	rows, err := q.ProductsBySKU(ctx, []string{"cup", "mug"})
	// sqlc for pgx ends
	for _, row := range rows {
		found = append(found, row.Sku)
	}
	return found, err
}

func viaSqlcSQL(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// sqlc for database/sql begins
	q := sqlshop.New(db) // sqlc.yaml: sql_package: database/sql
	err = db.InTx(ctx, nil, func(tx *sql.Tx) error {
		_, err := q.WithTx(tx).TakeStock(ctx, sqlshop.TakeStockParams{Sku: "cup", Quantity: 1})
		return err
	})
	// sqlc for database/sql ends
	if err != nil {
		return nil, err
	}
	rows, err := q.ProductsBySKU(ctx, []string{"cup", "mug"})
	for _, row := range rows {
		found = append(found, row.Sku)
	}
	return found, err
}

func viaGORM(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// GORM begins
	g, err := gorm.Open(postgres.New(postgres.Config{Conn: db.DB}), &gorm.Config{})
	if err != nil {
		return nil, err
	}
	plugin, err := tenantgorm.New(tenantgorm.Config{Walls: db, Tables: map[string]string{"products": ""}})
	if err != nil {
		return nil, err
	}
	if err := g.Use(plugin); err != nil {
		return nil, err
	}
	var all []product
	err = g.WithContext(ctx).Where("stock > ?", 0).Find(&all).Error
	// GORM ends
	return skus(all), err
}

func viaSqlx(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// sqlx begins
	x := sqlx.NewDb(db.DB, "pgx") // or "mysql", "sqlite": it is about the marks of parameters
	err = x.SelectContext(ctx, &found, x.Rebind("SELECT sku FROM products WHERE stock > ?"), 0)
	// sqlx ends
	return found, err
}

func viaEnt(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// ent begins
	drv := entsql.OpenDB(dialect.Postgres, db.DB) // client := ent.NewClient(ent.Driver(drv))
	// ent ends
	return entProducts(ctx, drv)
}

func viaBun(ctx context.Context, db *isolation.DB) (found []string, err error) {
	// bun begins
	b := bun.NewDB(db.DB, pgdialect.New())
	var all []product
	err = b.NewSelect().Model(&all).Where("stock > ?", 0).Scan(ctx)
	// bun ends
	return skus(all), err
}

func skus(all []product) (found []string) {
	for _, p := range all {
		found = append(found, p.Sku)
	}
	return found
}

// entProducts does what ent's generated code does: statements of its builder, by its driver.
func entProducts(ctx context.Context, drv *entsql.Driver) (found []string, err error) {
	build := entsql.Dialect(drv.Dialect())
	tx, err := drv.Tx(ctx)
	if err != nil {
		return nil, err
	}
	query, args := build.Update("products").Add("stock", 1).Where(entsql.EQ("sku", "cup")).Query()
	if err := tx.Exec(ctx, query, args, nil); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	query, args = build.Select("sku").From(build.Table("products")).Where(entsql.GT("stock", 0)).OrderBy("sku").Query()
	var rows entsql.Rows
	if err := drv.Query(ctx, query, args, &rows); err != nil {
		return nil, err
	}
	err = entsql.ScanSlice(&rows, &found)
	return found, errors.Join(err, rows.Close())
}

// Each snippet meets its tenant's rows, and without a tenant an error.
func TestTheSnippetsStayInTheirTenant(t *testing.T) {
	t.Parallel()
	o := cells.All()[0].Open(t, products{shared: true}, "products")
	acme, globex := o.Tenant(t, "acme"), o.Tenant(t, "globex")
	fill(acme, globex, t, o.DB)
	for name, snippet := range map[string]func(context.Context, *isolation.DB) ([]string, error){
		"sqlc for pgx": viaSqlcPgx, "sqlc for database-sql": viaSqlcSQL, "GORM": viaGORM, "sqlx": viaSqlx, "ent": viaEnt, "bun": viaBun,
	} {
		t.Run(name, func(t *testing.T) {
			for ctx, want := range map[context.Context]string{acme: "cup", globex: "mug"} {
				if found, err := snippet(ctx, o.DB); err != nil || !slices.Equal(found, []string{want}) {
					t.Errorf("found %q, error %v; want %q", found, err, want)
				}
			}
			if found, err := snippet(t.Context(), o.DB); !errors.Is(err, tenancy.ErrNoTenant) {
				t.Errorf("without a tenant: found %q, error %v; want ErrNoTenant", found, err)
			}
		})
	}
}

// fill gives acme a cup and globex a mug.
func fill(acme, globex context.Context, t *testing.T, db *isolation.DB) {
	t.Helper()
	for ctx, sku := range map[context.Context]string{acme: "cup", globex: "mug"} {
		if _, err := db.ExecContext(ctx, "INSERT INTO products (sku, stock) VALUES ('"+sku+"', 5)"); err != nil {
			t.Fatal(err)
		}
	}
}

// Ent's driver takes the handle in each cell; where the database filters no read, its texts are refused.
func TestEntTakesTheHandle(t *testing.T) {
	t.Parallel()
	dialects := map[isolation.Engine]string{
		isolation.EnginePostgreSQL: dialect.Postgres, isolation.EngineMariaDB: dialect.MySQL, isolation.EngineSQLite: dialect.SQLite,
	}
	for _, c := range cells.All() {
		if c.Stdlib {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Open(t, products{shared: c.Shares()}, "products")
			acme, globex := o.Tenant(t, "acme"), o.Tenant(t, "globex")
			drv := entsql.OpenDB(dialects[c.Engine], o.DB.DB)
			if c.Fence {
				if found, err := entProducts(acme, drv); !errors.Is(err, isolation.ErrUnfiltered) {
					t.Errorf("found %q, error %v; want ErrUnfiltered", found, err)
				}
				return
			}
			fill(acme, globex, t, o.DB)
			for ctx, want := range map[context.Context]string{acme: "cup", globex: "mug"} {
				if found, err := entProducts(ctx, drv); err != nil || !slices.Equal(found, []string{want}) {
					t.Errorf("found %q, error %v; want %q", found, err, want)
				}
			}
		})
	}
}

// The document shows the lines between the marks, without their first tab, and no others.
func TestTheDocumentShowsTheSnippets(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("howto_test.go")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../../docs/HOWTOS.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`(?s)\t// [^\n]+ begins\n(.*?)\t// [^\n]+ ends\n`).FindAllStringSubmatch(string(source), -1) {
		want = append(want, strings.ReplaceAll("\n"+m[1], "\n\t", "\n")[1:])
	}
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```\n").FindAllStringSubmatch(string(document), -1) {
		got = append(got, m[1])
	}
	if len(want) < 6 || !slices.Equal(got, want) {
		t.Errorf("the document shows\n%q\nwant\n%q", got, want)
	}
}
