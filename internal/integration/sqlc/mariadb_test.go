package sqlc_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/internal/integration/sqlc/mariashop"
	"lexigram.dev/tenancy/isolation"
)

var sqlcMariaDB = layer{
	name:   "sqlc for MariaDB",
	plain:  func(t *testing.T, db cells.Plain) *diary { return mariaDBDay(t.Context(), t, db.DB) },
	scoped: func(ctx context.Context, t *testing.T, db *isolation.DB) *diary { return mariaDBDay(ctx, t, db.DB) },
}

// MariaDB 10.11 refuses an UPDATE of joined views once it is prepared; as text it is allowed.
func TestAnUpdateOfJoinedTablesOnMariaDB(t *testing.T) {
	t.Parallel()
	e := engines[1]
	for _, c := range cells.All() {
		if c.Engine != e.engine {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Open(t, e.migrator(t, c.Shares()), e.tables...)
			ctx := o.Tenant(t, "acme")
			q := mariashop.New(o.DB)
			mariaDBDay(ctx, t, o.DB.DB)
			before := e.dump(ctx, t, o.DB)
			n, err := q.DiscountJoined(ctx, ref(1))
			refusal, refused := errors.AsType[*mysql.MySQLError](err)
			switch {
			case !c.Shares():
				if n != 2 || err != nil {
					t.Errorf("changed %d rows, error %v; want 2", n, err)
				}
			case !refused || refusal.Number != 1142:
				t.Errorf("got error %v, want 1142: correct docs/STRATEGIES.md if the server has learnt it", err)
			default:
				same(t, "acme", e.dump(ctx, t, o.DB), before)
				result, err := o.DB.ExecContext(ctx, "UPDATE products p JOIN items i ON i.sku = p.sku SET p.price = p.price * 2 WHERE i.ref = '"+ref(1)+"'")
				if n := affected(result); n != 2 || err != nil {
					t.Errorf("as text: changed %d rows, error %v; want 2", n, err)
				}
			}
		})
	}
}

// MariaDB 10.11 takes a column that is NOT NULL and has no default for NULL in the first UPDATE of a table that
// it has just opened, when the table has a trigger that runs before, as each has that tenants share, and
// the UPDATE goes through a view. The row is not found, and nobody is told. A default prevents it.
func TestColumnsOfSharedTablesNeedADefaultOnMariaDB(t *testing.T) {
	t.Parallel()
	e := engines[1]
	for _, c := range cells.All() {
		if c.Engine != e.engine || !c.Shares() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Open(t, e.migrator(t, c.Shares()), e.tables...)
			ctx := o.Tenant(t, "acme")
			q := mariashop.New(o.DB)
			_, err := q.AddProduct(ctx, mariashop.AddProductParams{Sku: "cup", Title: "Cup", Price: "1", Stock: 1000})
			must(t, err)
			server := servers.MariaDB(t)
			admin, err := sql.Open("mysql", server.DSN(server.CreateDatabase(t)))
			must(t, err)
			defer admin.Close()
			for range 50 {
				_, err := admin.ExecContext(ctx, "FLUSH TABLES")
				must(t, err)
				n, err := q.TakeStock(ctx, mariashop.TakeStockParams{Sku: "cup", Quantity: 1})
				must(t, err)
				if n != 1 {
					t.Fatalf("changed %d rows, want 1", n)
				}
			}
		})
	}
}

// ref returns the nth order's key.
func ref(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }

func mariaDBDay(ctx context.Context, t *testing.T, db *sql.DB) *diary {
	t.Helper()
	d, q := &diary{}, mariashop.New(db)
	raw := func(text string) *json.RawMessage { m := json.RawMessage(text); return &m }

	for _, c := range []mariashop.UpsertCustomerParams{
		{Email: "ann@x", Name: "Ann", Settings: json.RawMessage(`{"lang": "de", "vip": true}`), Born: sql.NullTime{Time: born, Valid: true}, CreatedAt: noon},
		{Email: "bob@x", Name: "Bob 'Bobby'; DROP TABLE", Settings: json.RawMessage(`{"lang": "fr"}`), CreatedAt: precise},
		{Email: "ann@x", Name: "Änna 🙂", Settings: json.RawMessage(`{"vip": false, "lang": null}`), CreatedAt: precise},
		{Email: "bad@x", Name: "Bad", Settings: json.RawMessage(`{`), CreatedAt: noon},
	} {
		n, err := q.UpsertCustomer(ctx, c)
		d.note("customers", n, err)
		row, err := q.Customer(ctx, c.Email)
		d.note("customer", row, err)
	}
	for _, lang := range []string{"fr", "none"} {
		found, err := q.CustomersWithLanguage(ctx, mariashop.CustomersWithLanguageParams{
			Lang: json.RawMessage(lang), Before: sql.NullTime{Time: noon, Valid: true},
		})
		d.note("customers by language", found, err)
	}

	// Tenants that share a table share its counter: what counts is which row a key leads to.
	for _, p := range []mariashop.AddProductParams{
		{Sku: "cup", Title: "Cup", Price: "9.90", Stock: 5, Details: raw(`{"colour": "red", "sizes": [1, 2.5]}`), Picture: []byte{0, 1, 255}},
		{Sku: "mug", Title: "Mug", Price: "12345678.01", Stock: 1},
		{Sku: "cup", Title: "again", Price: "1", Stock: 1},
		{Sku: "hat", Title: "Hat", Price: "-1.5", Stock: -1},
		{Sku: "bad", Title: "Bad", Price: "1", Stock: 1, Details: raw(`{`)},
	} {
		id, err := q.AddProduct(ctx, p)
		d.note("add "+p.Title, id > 0, err)
		row, err := q.ProductByID(ctx, id)
		d.note("added "+p.Title, row, err)
	}
	result, err := q.AddTwoProducts(ctx, mariashop.AddTwoProductsParams{
		Sku: "pan", Title: "Pan", Price: "0.005", Stock: 3, Sku_2: "mug", Title_2: "Mug, new", Price_2: "1", Stock_2: 2,
	})
	d.note("a batch", affected(result), err)
	n, err := q.ReplaceProduct(ctx, mariashop.ReplaceProductParams{Sku: "pan", Title: "Pan, new", Price: "20", Stock: 4})
	d.note("replace", n, err)
	n, err = q.IgnoreProduct(ctx, mariashop.IgnoreProductParams{Sku: "pan", Title: "Pan, ignored", Price: "20", Stock: 4})
	d.note("ignored", n, err)
	products, err := q.Products(ctx)
	d.note("products", products, err)
	some, err := q.ProductsBySKU(ctx, mariashop.ProductsBySKUParams{Skus: []string{"cup", "pan", "none"}, Stock: 1})
	d.note("some", some, err)
	some, err = q.ProductsBySKU(ctx, mariashop.ProductsBySKUParams{Stock: 1})
	d.note("none", some, err)

	place := func(order int, email string, quantity int32, skus ...string) error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		q := q.WithTx(tx)
		if err := q.PlaceOrder(ctx, mariashop.PlaceOrderParams{
			Ref: ref(order), Email: email, PlacedAt: noon.Add(time.Duration(order) * time.Minute),
			Note: sql.NullString{String: "for " + email, Valid: order%2 == 1},
		}); err != nil {
			return err
		}
		for _, sku := range skus {
			stock, err := q.LockProduct(ctx, sku)
			d.note("locked "+sku, stock, err)
			n, err := q.TakeStock(ctx, mariashop.TakeStockParams{Sku: sku, Quantity: quantity})
			if err != nil {
				return err
			}
			if n == 0 {
				return errNoMore
			}
			if err := q.AddItem(ctx, mariashop.AddItemParams{Ref: ref(order), Sku: sku, Quantity: uint32(quantity)}); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
	d.note("order", 1, place(1, "ann@x", 2, "cup", "mug"))
	d.note("order", 2, place(2, "bob@x", 1, "cup"))
	d.note("order of too much", 3, place(3, "bob@x", 2, "cup", "mug"))
	d.note("order twice", 1, place(1, "bob@x", 1))
	d.note("order of nobody", 4, place(4, "eve@x", 1))

	// An order in parts: the second is taken back to a savepoint.
	inParts := func() error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		q := q.WithTx(tx)
		order := mariashop.PlaceOrderParams{Ref: ref(5), Email: "ann@x", PlacedAt: precise}
		if err := q.PlaceOrder(ctx, order); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "SAVEPOINT part")
		d.note("a savepoint", 5, err)
		n, err := q.TakeStock(ctx, mariashop.TakeStockParams{Sku: "cup", Quantity: 1})
		d.note("taken", n, err)
		d.note("its second part", 5, q.PlaceOrder(ctx, order))
		_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part")
		d.note("taken back", 5, err)
		if err := q.AddItem(ctx, mariashop.AddItemParams{Ref: ref(5), Sku: "pan", Quantity: 1}); err != nil {
			return err
		}
		return tx.Commit()
	}
	d.note("order in parts", 5, inParts())
	for range 2 {
		n, err := q.Pay(ctx, mariashop.PayParams{Ref: ref(1), State: mariashop.OrdersStatePaid, PaidAt: sql.NullTime{Time: precise, Valid: true}})
		d.note("paid", n, err)
	}
	n, err = q.Pay(ctx, mariashop.PayParams{Ref: ref(2), State: "lost"})
	d.note("no state", n, err)

	report := func() {
		orders, err := q.Orders(ctx, mariashop.OrdersParams{Since: noon, Before: noon.Add(time.Hour)})
		d.note("orders", orders, err)
		best, err := q.BestSellers(ctx, 10)
		for i := range best {
			best[i].Pieces = fmt.Sprintf("%s", best[i].Pieces) // a decimal is bytes
		}
		d.note("best", best, err)
		products, err := q.Products(ctx)
		d.note("products", products, err)
		unsold, err := q.Unsold(ctx)
		d.note("unsold", unsold, err)
	}
	report()
	n, err = q.Discount(ctx, ref(1))
	d.note("discount", n, err)

	for i := range 100 {
		must(t, q.AddVisit(ctx, mariashop.AddVisitParams{
			At: noon.Add(time.Duration(i)*time.Minute + time.Microsecond), Path: "/", Took: float64(i) / 3,
			Address: sql.NullString{String: "::1", Valid: i%3 == 0}, Mobile: i%2 == 0,
		}))
	}
	hours, err := q.VisitsPerHour(ctx, noon)
	for i := range hours {
		hours[i].Mobile = fmt.Sprintf("%s", hours[i].Mobile)
	}
	d.note("visits", hours, err)
	last, err := q.LastVisit(ctx)
	d.note("last visit", last, err)

	for range 2 {
		n, err := q.DeleteOrder(ctx, ref(2))
		d.note("deleted", n, err)
	}
	report()
	all, err := q.Everything(ctx)
	d.note("everything", all, err)
	return d
}
