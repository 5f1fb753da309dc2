package sqlc_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/sqlc/sqlshop"
	"lexigram.dev/tenancy/isolation"
)

var sqlcSQL = layer{
	name:   "sqlc for database-sql",
	plain:  func(t *testing.T, db cells.Plain) *diary { return sqlDay(t.Context(), t, db.DB) },
	scoped: func(ctx context.Context, t *testing.T, db *isolation.DB) *diary { return sqlDay(ctx, t, db.DB) },
}

func sqlDay(ctx context.Context, t *testing.T, db *sql.DB) *diary {
	t.Helper()
	d, q := &diary{}, sqlshop.New(db)

	for _, c := range []sqlshop.UpsertCustomerParams{
		{Email: "ann@x", Name: "Ann", Settings: json.RawMessage(`{"lang": "de", "vip": true}`), Born: sql.NullTime{Time: born, Valid: true}, CreatedAt: noon},
		{Email: "bob@x", Name: "Bob 'Bobby'; DROP TABLE", Settings: json.RawMessage(`{"lang": "fr"}`), CreatedAt: precise},
		{Email: "ann@x", Name: "Anna", Settings: json.RawMessage(`{"vip": false}`), CreatedAt: precise},
		{Email: "bad@x", Name: "Bad", Settings: json.RawMessage(`{`), CreatedAt: noon},
	} {
		row, err := q.UpsertCustomer(ctx, c)
		row.CreatedAt = row.CreatedAt.UTC()
		d.note("customer", row, err)
	}
	found, err := q.CustomersWithSetting(ctx, sqlshop.CustomersWithSettingParams{Settings: json.RawMessage(`{"lang": "de"}`), Before: noon})
	d.note("customers", found, err)

	for _, p := range []sqlshop.PutProductParams{
		{Sku: "cup", Title: "Cup", Price: "9.90", Stock: 5, Tags: []string{"kitchen", "a,b", `quo"te`}, Sizes: []int32{1, 2, 3}, Details: json.RawMessage(`{"colour": "red"}`)},
		{Sku: "mug", Title: "Mug", Price: "12345678.01", Stock: 1, Tags: []string{"heavy", ""}, Details: json.RawMessage(`{"colour": "blue"}`)},
		{Sku: "cup", Title: "Cup, new", Price: "10", Stock: 2, Tags: []string{"kitchen"}, Sizes: []int32{-4, 5}, Details: json.RawMessage(`{"colour": null}`)},
		{Sku: "hat", Title: "Hat", Price: "-1.5", Stock: -1, Tags: []string{"x"}},
	} {
		d.note("put", p.Sku, q.PutProduct(ctx, p))
	}
	for _, sku := range []string{"cup", "mug", "hat"} {
		p, err := q.Product(ctx, sku)
		d.note("product", p, err)
	}
	tagged, err := q.ProductsTagged(ctx, []string{"kitchen", "none"})
	d.note("tagged, without a colour", tagged, err)
	tagged, err = q.ProductsTagged(ctx, []string{"heavy"})
	d.note("tagged", tagged, err)

	place := func(order byte, email string, lines map[string]int32, skus ...string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		q := q.WithTx(tx)
		if err := q.PlaceOrder(ctx, sqlshop.PlaceOrderParams{
			Key: key(order), Email: email, PlacedAt: noon.Add(time.Duration(order) * time.Minute),
			Note: sql.NullString{String: "for " + email, Valid: order%2 == 1},
		}); err != nil {
			return err
		}
		for _, sku := range skus {
			n, err := q.TakeStock(ctx, sqlshop.TakeStockParams{Sku: sku, Quantity: lines[sku]})
			if err != nil {
				return err
			}
			if n == 0 {
				return errNoMore
			}
			if err := q.AddLine(ctx, sqlshop.AddLineParams{Key: key(order), Sku: sku, Quantity: lines[sku]}); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
	d.note("order", 1, place(1, "ann@x", map[string]int32{"cup": 3, "mug": 1}, "cup", "mug"))
	d.note("order", 2, place(2, "bob@x", map[string]int32{"cup": 1}, "cup"))
	d.note("order of too much", 3, place(3, "bob@x", map[string]int32{"cup": 1, "mug": 1}, "cup", "mug"))
	d.note("order twice", 1, place(1, "bob@x", nil))
	d.note("order of nobody", 4, place(4, "eve@x", nil))
	// An order in parts: the second is taken back to a savepoint.
	inParts := func() error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		q := q.WithTx(tx)
		order := sqlshop.PlaceOrderParams{Key: key(5), Email: "ann@x", PlacedAt: precise}
		if err := q.PlaceOrder(ctx, order); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "SAVEPOINT part")
		d.note("a savepoint", 5, err)
		n, err := q.TakeStock(ctx, sqlshop.TakeStockParams{Sku: "cup", Quantity: 1})
		d.note("taken", n, err)
		d.note("its second part", 5, q.PlaceOrder(ctx, order))
		_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part")
		d.note("taken back", 5, err)
		if err := q.AddLine(ctx, sqlshop.AddLineParams{Key: key(5), Sku: "cup", Quantity: 1}); err != nil {
			return err
		}
		return tx.Commit()
	}
	d.note("order in parts", 5, inParts())
	state, err := q.SetState(ctx, sqlshop.SetStateParams{Key: key(1), State: sqlshop.OrderStatePaid})
	d.note("state", state, err)
	_, err = q.SetState(ctx, sqlshop.SetStateParams{Key: key(1), State: sqlshop.OrderStatePaid})
	d.note("state again", nil, err)
	_, err = q.SetState(ctx, sqlshop.SetStateParams{Key: key(1), State: "lost"})
	d.note("no state", nil, err)

	report := func() {
		orders, err := q.Orders(ctx, sqlshop.OrdersParams{Since: noon, Until: noon.Add(time.Hour)})
		for i := range orders {
			orders[i].PlacedAt = orders[i].PlacedAt.UTC()
		}
		d.note("orders", orders, err)
		best, err := q.BestSellers(ctx, 10)
		d.note("best", best, err)
		stock, err := q.ProductsBySKU(ctx, []string{"cup", "mug", "none"})
		d.note("stock", stock, err)
	}
	report()

	for i := range 100 {
		err := q.AddVisit(ctx, sqlshop.AddVisitParams{
			At: noon.Add(time.Duration(i) * time.Minute), Path: "/", Took: float64(i) / 3,
			Address: sql.NullString{String: "::1", Valid: i%3 == 0}, Tags: []string{"a", "b"}[:i%3],
		})
		must(t, err)
	}
	hours, err := q.VisitsPerHour(ctx, noon.Add(24*time.Hour))
	for i := range hours {
		hours[i].Hour = hours[i].Hour.UTC()
	}
	d.note("visits", hours, err)

	deleted, err := q.DeleteOrder(ctx, key(2))
	d.note("deleted", deleted, err)
	deleted, err = q.DeleteOrder(ctx, key(2))
	d.note("deleted again", deleted, err)
	report()
	all, err := q.Everything(ctx)
	d.note("everything", all, err)
	return d
}
