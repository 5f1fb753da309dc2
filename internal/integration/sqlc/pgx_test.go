package sqlc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/sqlc/pgxshop"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// The pool of the library has what sqlc's code for pgx asks for.
var sqlcPgx = layer{
	name: "sqlc for pgx",
	plain: func(t *testing.T, db cells.Plain) *diary {
		pool, err := pgxpool.New(t.Context(), db.URL)
		must(t, err)
		defer pool.Close()
		return pgxDay(t.Context(), t, pool)
	},
	scoped: func(ctx context.Context, t *testing.T, db *isolation.DB) *diary {
		return pgxDay(ctx, t, tenantpgx.New(db))
	},
	pgxOnly: true,
}

// The connections of another driver are no pgx connections of the library.
func TestSqlcForPgxNeedsItsConnections(t *testing.T) {
	t.Parallel()
	for _, c := range cells.All() {
		if !c.Stdlib {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			e := engines[0]
			o := c.Open(t, e.migrator(t, c.Shares()), e.tables...)
			_, err := pgxshop.New(tenantpgx.New(o.DB)).Everything(o.Tenant(t, "acme"))
			if !errors.Is(err, isolation.ErrUnsupported) {
				t.Errorf("got error %v, want ErrUnsupported", err)
			}
		})
	}
}

// pgxDB is what the day needs: a *pgxpool.Pool or a *tenantpgx.Pool.
type pgxDB interface {
	pgxshop.DBTX
	Begin(ctx context.Context) (pgx.Tx, error)
}

var (
	_ pgxshop.DBTX = (*tenantpgx.Pool)(nil)
	_ pgxshop.DBTX = (*tenantpgx.PoolConn)(nil)
)

func pgxDay(ctx context.Context, t *testing.T, db pgxDB) *diary {
	t.Helper()
	d, q := &diary{}, pgxshop.New(db)
	stamp := func(at time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: at, Valid: true} }
	date := func(at time.Time) pgtype.Date { return pgtype.Date{Time: at, Valid: true} }
	uuid := func(n byte) pgtype.UUID { return pgtype.UUID{Bytes: key(n), Valid: true} }
	number := func(text string) (n pgtype.Numeric) { must(t, n.Scan(text)); return n }

	for _, c := range []pgxshop.UpsertCustomerParams{
		{Email: "ann@x", Name: "Ann", Settings: []byte(`{"lang": "de", "vip": true}`), Born: date(born), CreatedAt: stamp(noon)},
		{Email: "bob@x", Name: "Bob 'Bobby'; DROP TABLE", Settings: []byte(`{"lang": "fr"}`), CreatedAt: stamp(precise)},
		{Email: "ann@x", Name: "Anna", Settings: []byte(`{"vip": false}`), CreatedAt: stamp(precise)},
		{Email: "bad@x", Name: "Bad", Settings: []byte(`{`), CreatedAt: stamp(noon)},
	} {
		row, err := q.UpsertCustomer(ctx, c)
		row.CreatedAt.Time = row.CreatedAt.Time.UTC()
		d.note("customer", row, err)
	}
	found, err := q.CustomersWithSetting(ctx, pgxshop.CustomersWithSettingParams{Settings: []byte(`{"lang": "de"}`), Before: date(noon)})
	d.note("customers", found, err)

	for _, p := range []pgxshop.PutProductParams{
		{Sku: "cup", Title: "Cup", Price: number("9.90"), Stock: 5, Tags: []string{"kitchen", "a,b", `quo"te`}, Sizes: []int32{1, 2, 3}, Details: []byte(`{"colour": "red"}`)},
		{Sku: "mug", Title: "Mug", Price: number("12345678.01"), Stock: 1, Tags: []string{"heavy", ""}, Details: []byte(`{"colour": "blue"}`)},
		{Sku: "cup", Title: "Cup, new", Price: number("10"), Stock: 2, Tags: []string{"kitchen"}, Sizes: []int32{-4, 5}, Details: []byte(`{"colour": null}`)},
		{Sku: "hat", Title: "Hat", Price: number("-1.5"), Stock: -1, Tags: []string{"x"}},
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
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			q := q.WithTx(tx)
			if err := q.PlaceOrder(ctx, pgxshop.PlaceOrderParams{
				Key: uuid(order), Email: email, PlacedAt: stamp(noon.Add(time.Duration(order) * time.Minute)),
				Note: pgtype.Text{String: "for " + email, Valid: order%2 == 1},
			}); err != nil {
				return err
			}
			for _, sku := range skus {
				n, err := q.TakeStock(ctx, pgxshop.TakeStockParams{Sku: sku, Quantity: lines[sku]})
				if err != nil {
					return err
				}
				if n == 0 {
					return errNoMore
				}
				if err := q.AddLine(ctx, pgxshop.AddLineParams{Key: uuid(order), Sku: sku, Quantity: lines[sku]}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	d.note("order", 1, place(1, "ann@x", map[string]int32{"cup": 3, "mug": 1}, "cup", "mug"))
	d.note("order", 2, place(2, "bob@x", map[string]int32{"cup": 1}, "cup"))
	d.note("order of too much", 3, place(3, "bob@x", map[string]int32{"cup": 1, "mug": 1}, "cup", "mug"))
	d.note("order twice", 1, place(1, "bob@x", nil))
	d.note("order of nobody", 4, place(4, "eve@x", nil))
	// An order in parts: the second is taken back to a savepoint.
	d.note("order in parts", 5, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		order := pgxshop.PlaceOrderParams{Key: uuid(5), Email: "ann@x", PlacedAt: stamp(precise)}
		if err := q.WithTx(tx).PlaceOrder(ctx, order); err != nil {
			return err
		}
		d.note("its second part", 5, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			n, err := q.WithTx(tx).TakeStock(ctx, pgxshop.TakeStockParams{Sku: "cup", Quantity: 1})
			d.note("taken", n, err)
			return q.WithTx(tx).PlaceOrder(ctx, order)
		}))
		return q.WithTx(tx).AddLine(ctx, pgxshop.AddLineParams{Key: uuid(5), Sku: "cup", Quantity: 1})
	}))
	state, err := q.SetState(ctx, pgxshop.SetStateParams{Key: uuid(1), State: pgxshop.OrderStatePaid})
	d.note("state", state, err)
	_, err = q.SetState(ctx, pgxshop.SetStateParams{Key: uuid(1), State: pgxshop.OrderStatePaid})
	d.note("state again", nil, err)
	_, err = q.SetState(ctx, pgxshop.SetStateParams{Key: uuid(1), State: "lost"})
	d.note("no state", nil, err)

	report := func() {
		orders, err := q.Orders(ctx, pgxshop.OrdersParams{Since: stamp(noon), Until: stamp(noon.Add(time.Hour))})
		for i := range orders {
			orders[i].PlacedAt.Time = orders[i].PlacedAt.Time.UTC()
		}
		d.note("orders", orders, err)
		best, err := q.BestSellers(ctx, 10)
		d.note("best", best, err)
		stock, err := q.ProductsBySKU(ctx, []string{"cup", "mug", "none"})
		d.note("stock", stock, err)
	}
	report()

	q.Restock(ctx, []pgxshop.RestockParams{{Sku: "cup", Stock: 10}, {Sku: "mug", Stock: 20}}).Exec(func(i int, err error) { d.note("restock", i, err) })
	// The second cannot be: the whole batch is taken back.
	q.Restock(ctx, []pgxshop.RestockParams{{Sku: "cup", Stock: 10}, {Sku: "mug", Stock: -1000}, {Sku: "cup", Stock: 1}}).
		Exec(func(i int, err error) { d.note("restock too little", i, err) })
	q.StockOf(ctx, []string{"cup", "none", "mug"}).QueryRow(func(i int, row pgxshop.StockOfRow, err error) { d.note("stock of", row, err) })
	q.LinesOf(ctx, []pgtype.UUID{uuid(1), uuid(9), uuid(2)}).Query(func(i int, rows []pgxshop.LinesOfRow, err error) { d.note("lines of", rows, err) })

	visits := make([]pgxshop.CopyVisitsParams, 1000)
	for i := range visits {
		visits[i] = pgxshop.CopyVisitsParams{
			At: stamp(noon.Add(time.Duration(i) * time.Minute)), Path: "/", Took: float64(i) / 3,
			Address: pgtype.Text{String: "::1", Valid: i%3 == 0}, Tags: []string{"a", "b"}[:i%3],
		}
	}
	n, err := q.CopyVisits(ctx, visits)
	d.note("copied", n, err)
	d.note("visit", nil, q.AddVisit(ctx, pgxshop.AddVisitParams{At: stamp(noon), Path: "/", Took: 0.1}))
	hours, err := q.VisitsPerHour(ctx, stamp(noon.Add(24*time.Hour)))
	for i := range hours {
		hours[i].Hour.Time = hours[i].Hour.Time.UTC()
	}
	d.note("visits", hours, err)

	deleted, err := q.DeleteOrder(ctx, uuid(2))
	d.note("deleted", deleted, err)
	deleted, err = q.DeleteOrder(ctx, uuid(2))
	d.note("deleted again", deleted, err)
	report()
	all, err := q.Everything(ctx)
	d.note("everything", all, err)
	return d
}
