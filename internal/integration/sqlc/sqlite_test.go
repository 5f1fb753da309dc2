package sqlc_test

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"testing"
	"time"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/sqlc/liteshop"
	"lexigram.dev/tenancy/isolation"
)

var sqlcSQLite = layer{
	name:   "sqlc for SQLite",
	plain:  func(t *testing.T, db cells.Plain) *diary { return sqliteDay(t.Context(), t, db.DB) },
	scoped: func(ctx context.Context, t *testing.T, db *isolation.DB) *diary { return sqliteDay(ctx, t, db.DB) },
}

// Where the database filters no read, each of sqlc's queries is refused, in a transaction too, and
// nothing is written.
func TestSqlcIsRefusedByTheFence(t *testing.T) {
	t.Parallel()
	e := engines[2]
	for _, c := range cells.All() {
		if c.Engine != e.engine || !c.Fence {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Shared = []string{"goose_db_version"}
			o := c.Open(t, e.migrator(t, c.Shares()), e.tables...)
			ctx := o.Tenant(t, "acme")
			// What a zero value would change or remove.
			filtered := func(query string) []string {
				return queryRows(isolation.UnsafeFiltered(ctx, query), t, o.DB, query)
			}
			filtered("INSERT INTO customers (tenant_id, email, name, settings, created_at) VALUES ('acme', '', 'Ann', '{}', '2026-03-01')")
			filtered("INSERT INTO products (tenant_id, sku, title, cents, stock) VALUES ('acme', '', 'Cup', 990, 5)")
			filtered("INSERT INTO orders (tenant_id, ref, email, placed_at) VALUES ('acme', '', '', '2026-03-01')")
			rows := func() (all []string) {
				for _, table := range e.tables {
					all = append(all, filtered("SELECT * FROM "+table+" WHERE tenant_id = 'acme'")...)
				}
				return all
			}
			before := rows()
			if len(before) != 3 {
				t.Fatalf("acme has %q, want 3 rows", before)
			}
			tx, err := o.DB.BeginTx(ctx, nil)
			must(t, err)
			for name, q := range map[string]*liteshop.Queries{"the handle": liteshop.New(o.DB), "a transaction": liteshop.New(tx)} {
				eachQuery(t, q, func(method string, call func(context.Context) error) {
					if err := call(ctx); !errors.Is(err, isolation.ErrUnfiltered) {
						t.Errorf("%s by %s: got error %v, want ErrUnfiltered", method, name, err)
					}
				})
			}
			must(t, tx.Commit())
			same(t, "acme", rows(), before)
		})
	}
}

// eachQuery visits the methods that sqlc generated, each called with zero values.
func eachQuery(t *testing.T, q *liteshop.Queries, visit func(method string, call func(context.Context) error)) {
	t.Helper()
	value, visited := reflect.ValueOf(q), 0
	for i := range value.NumMethod() {
		method := value.Method(i)
		if method.Type().NumIn() == 0 || method.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue // WithTx
		}
		visited++
		visit(value.Type().Method(i).Name, func(ctx context.Context) error {
			in := []reflect.Value{reflect.ValueOf(ctx)}
			for j := 1; j < method.Type().NumIn(); j++ {
				in = append(in, reflect.Zero(method.Type().In(j)))
			}
			out := method.Call(in)
			err, _ := out[len(out)-1].Interface().(error)
			return err
		})
	}
	if visited < 20 {
		t.Fatalf("sqlc generated %d queries", visited)
	}
}

func sqliteDay(ctx context.Context, t *testing.T, db *sql.DB) *diary {
	t.Helper()
	d, q := &diary{}, liteshop.New(db)

	for _, c := range []liteshop.UpsertCustomerParams{
		{Email: "ann@x", Name: "Ann", Settings: `{"lang": "de", "vip": true}`, Born: sql.NullTime{Time: born, Valid: true}, CreatedAt: noon},
		{Email: "bob@x", Name: "Bob 'Bobby'; DROP TABLE", Settings: `{"lang": "fr"}`, CreatedAt: precise},
		{Email: "ann@x", Name: "Änna 🙂", Settings: `{"vip": false, "lang": null}`, CreatedAt: precise},
		{Email: "bad@x", Name: "Bad", Settings: `{`, CreatedAt: noon},
	} {
		row, err := q.UpsertCustomer(ctx, c)
		d.note("customer", row, err)
		d.note("at", row.CreatedAt.UTC(), nil)
	}
	for _, lang := range []string{"fr", "none"} {
		found, err := q.CustomersWithLanguage(ctx, liteshop.CustomersWithLanguageParams{Lang: lang, Before: sql.NullTime{Time: noon, Valid: true}})
		d.note("customers by language", found, err)
	}

	for _, p := range []liteshop.AddProductParams{
		{Sku: "cup", Title: "Cup", Cents: 990, Stock: 5, Details: sql.NullString{String: `{"sizes": [1, 2.5]}`, Valid: true}, Picture: []byte{0, 1, 255}},
		{Sku: "mug", Title: "Mug", Cents: 1234567801, Stock: 1},
		{Sku: "cup", Title: "again", Cents: 1, Stock: 1},
		{Sku: "hat", Title: "Hat", Cents: -150, Stock: -1},
		{Sku: "bad", Title: "Bad", Cents: 1, Stock: 1, Details: sql.NullString{String: "{", Valid: true}},
	} {
		id, err := q.AddProduct(ctx, p)
		d.note("add "+p.Title, id, err)
		row, err := q.ProductByID(ctx, id)
		d.note("added "+p.Title, row, err)
	}
	result, err := q.AddTwoProducts(ctx, liteshop.AddTwoProductsParams{
		Sku: "pan", Title: "Pan", Cents: 1, Stock: 3, Sku_2: "mug", Title_2: "Mug, new", Cents_2: 1, Stock_2: 2,
	})
	d.note("a batch", affected(result), err)
	n, err := q.ReplaceProduct(ctx, liteshop.ReplaceProductParams{Sku: "pan", Title: "Pan, new", Cents: 2000, Stock: 4})
	d.note("replace", n, err)
	n, err = q.IgnoreProduct(ctx, liteshop.IgnoreProductParams{Sku: "pan", Title: "Pan, ignored", Cents: 2000, Stock: 4})
	d.note("ignored", n, err)
	some, err := q.ProductsBySKU(ctx, liteshop.ProductsBySKUParams{Skus: []string{"cup", "pan", "none"}, Stock: 1})
	d.note("some", some, err)
	some, err = q.ProductsBySKU(ctx, liteshop.ProductsBySKUParams{Stock: 1})
	d.note("none", some, err)

	place := func(order int, email string, quantity int64, skus ...string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		q := q.WithTx(tx)
		if err := q.PlaceOrder(ctx, liteshop.PlaceOrderParams{
			Ref: ref(order), Email: email, PlacedAt: noon.Add(time.Duration(order) * time.Minute),
			Note: sql.NullString{String: "for " + email, Valid: order%2 == 1},
		}); err != nil {
			return err
		}
		for _, sku := range skus {
			n, err := q.TakeStock(ctx, liteshop.TakeStockParams{Sku: sku, Quantity: quantity})
			if err != nil {
				return err
			}
			if n == 0 {
				return errNoMore
			}
			if err := q.AddItem(ctx, liteshop.AddItemParams{Ref: ref(order), Sku: sku, Quantity: quantity}); err != nil {
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
		order := liteshop.PlaceOrderParams{Ref: ref(5), Email: "ann@x", PlacedAt: precise.UTC()}
		if err := q.PlaceOrder(ctx, order); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "SAVEPOINT part")
		d.note("a savepoint", 5, err)
		n, err := q.TakeStock(ctx, liteshop.TakeStockParams{Sku: "cup", Quantity: 1})
		d.note("taken", n, err)
		d.note("its second part", 5, q.PlaceOrder(ctx, order))
		_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part")
		d.note("taken back", 5, err)
		if err := q.AddItem(ctx, liteshop.AddItemParams{Ref: ref(5), Sku: "pan", Quantity: 1}); err != nil {
			return err
		}
		return tx.Commit()
	}
	d.note("order in parts", 5, inParts())
	for _, state := range []string{"lost", "paid", "paid"} {
		row, err := q.Pay(ctx, liteshop.PayParams{Ref: ref(1), State: state, PaidAt: sql.NullTime{Time: precise.UTC(), Valid: true}})
		d.note(state, row, err)
	}

	report := func() {
		orders, err := q.Orders(ctx, liteshop.OrdersParams{Since: noon, Before: noon.Add(time.Hour)})
		d.note("orders", orders, err)
		best, err := q.BestSellers(ctx, 10)
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
		must(t, q.AddVisit(ctx, liteshop.AddVisitParams{
			At: noon.Add(time.Duration(i)*time.Minute + time.Microsecond), Path: "/", Took: float64(i) / 3,
			Address: sql.NullString{String: "::1", Valid: i%3 == 0}, Mobile: i%2 == 0,
		}))
	}
	visits, err := q.VisitsPerPath(ctx, noon)
	d.note("visits", visits, err)
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
