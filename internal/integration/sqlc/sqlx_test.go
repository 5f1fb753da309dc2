package sqlc_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/isolation"
)

// The same shop by sqlx: named parameters, structs, IN lists.
var sqlxPgx = layer{
	name: "sqlx",
	plain: func(t *testing.T, db cells.Plain) *diary {
		return sqlxDay(t.Context(), t, sqlx.NewDb(db.DB, "pgx"))
	},
	scoped: func(ctx context.Context, t *testing.T, db *isolation.DB) *diary {
		return sqlxDay(ctx, t, sqlx.NewDb(db.DB, "pgx"))
	},
}

type sqlxCustomer struct {
	Email     string
	Name      string
	Settings  json.RawMessage
	Born      sql.NullTime
	CreatedAt time.Time `db:"created_at"`
}

type sqlxProduct struct {
	SKU     string `db:"sku"`
	Title   string
	Price   string
	Stock   int
	Tags    pq.StringArray
	Sizes   pq.Int32Array
	Details *json.RawMessage
}

type sqlxOrder struct {
	Key      uuid.UUID
	Email    string
	State    string
	PlacedAt time.Time `db:"placed_at"`
	Note     *string
}

func sqlxDay(ctx context.Context, t *testing.T, db *sqlx.DB) *diary {
	t.Helper()
	d := &diary{}

	upsert, err := db.PrepareNamedContext(ctx, `INSERT INTO customers (email, name, settings, born, created_at)
		VALUES (:email, :name, :settings, :born, :created_at)
		ON CONFLICT ON CONSTRAINT customers_key DO UPDATE SET name = excluded.name, settings = customers.settings || excluded.settings
		RETURNING email, name, settings, born, created_at`)
	must(t, err)
	defer upsert.Close()
	for _, c := range []sqlxCustomer{
		{Email: "ann@x", Name: "Ann", Settings: json.RawMessage(`{"lang": "de", "vip": true}`), Born: sql.NullTime{Time: born, Valid: true}, CreatedAt: noon},
		{Email: "bob@x", Name: "Bob 'Bobby'; DROP TABLE", Settings: json.RawMessage(`{"lang": "fr"}`), CreatedAt: noon},
		{Email: "ann@x", Name: "Anna", Settings: json.RawMessage(`{"vip": false}`), CreatedAt: noon.Add(time.Hour)},
		{Email: "bad@x", Name: "Bad", Settings: json.RawMessage(`{`), CreatedAt: noon},
	} {
		var row sqlxCustomer
		err := upsert.GetContext(ctx, &row, c)
		row.CreatedAt = row.CreatedAt.UTC()
		d.note("customer", row, err)
	}

	// A batch of structs in one statement.
	two := pq.Int32Array{1, 2}
	blue := json.RawMessage(`{"colour": "blue"}`)
	result, err := db.NamedExecContext(ctx, `INSERT INTO products (sku, title, price, stock, tags, sizes, details)
		VALUES (:sku, :title, :price, :stock, :tags, :sizes, :details)`, []sqlxProduct{
		{SKU: "cup", Title: "Cup", Price: "9.90", Stock: 5, Tags: pq.StringArray{"kitchen", "a,b", `quo"te`}, Sizes: two},
		{SKU: "mug", Title: "Mug", Price: "12345678.01", Stock: 1, Tags: pq.StringArray{"heavy", ""}, Details: &blue},
		{SKU: "pan", Title: "Pan", Price: "1", Stock: 7, Tags: pq.StringArray{}},
	})
	d.note("batch", affected(result), err)
	result, err = db.NamedExecContext(ctx, "UPDATE products SET stock = stock + :more WHERE sku = :sku", map[string]any{"more": 2, "sku": "cup"})
	d.note("a map", affected(result), err)
	_, err = db.NamedExecContext(ctx, "INSERT INTO products (sku, title, price, stock) VALUES (:sku, :title, :price, :stock)",
		sqlxProduct{SKU: "cup", Title: "again", Price: "1"})
	d.note("a duplicate", nil, err)
	_, err = db.ExecContext(ctx, "UPDATE products SET stock = -1 WHERE sku = $1", "pan")
	d.note("a check", nil, err)

	const all = "SELECT sku, title, price, stock, tags, sizes, details FROM products "
	var products []sqlxProduct
	d.note("select", &products, db.SelectContext(ctx, &products, all+"ORDER BY sku"))
	query, args, err := sqlx.In(all+"WHERE sku IN (?) AND stock > ? ORDER BY sku", []string{"cup", "mug", "none"}, 0)
	must(t, err)
	products = nil
	d.note("in", &products, db.SelectContext(ctx, &products, db.Rebind(query), args...))
	products = nil
	d.note("tagged", &products, db.SelectContext(ctx, &products, all+"WHERE tags && $1 ORDER BY sku", pq.StringArray{"kitchen", "none"}))
	var one sqlxProduct
	d.note("get", &one, db.GetContext(ctx, &one, all+"WHERE sku = $1", "mug"))
	d.note("get nothing", nil, db.GetContext(ctx, &one, all+"WHERE sku = $1", "none"))
	var titles []string
	d.note("a column", &titles, db.SelectContext(ctx, &titles, "SELECT title FROM products ORDER BY title"))

	place := func(n byte, email string, quantity int, skus ...string) (err error) {
		tx, err := db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		o := sqlxOrder{Key: key(n), Email: email, PlacedAt: noon.Add(time.Duration(n) * time.Minute)}
		if _, err := tx.NamedExecContext(ctx, "INSERT INTO orders (key, email, placed_at, note) VALUES (:key, :email, :placed_at, :note)", o); err != nil {
			return err
		}
		for _, sku := range skus {
			var left int
			err := tx.GetContext(ctx, &left, "UPDATE products SET stock = stock - $1 WHERE sku = $2 AND stock >= $1 RETURNING stock", quantity, sku)
			if err != nil {
				return err
			}
			if err := sqlxLine(ctx, tx, d, map[string]any{"key": o.Key, "sku": sku, "quantity": quantity}); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
	d.note("order", 1, place(1, "ann@x", 1, "cup", "mug"))
	d.note("order", 2, place(2, "bob@x", 2, "cup"))
	d.note("order of too much", 3, place(3, "bob@x", 3, "cup", "mug"))
	d.note("order twice", 1, place(1, "bob@x", 1))
	d.note("order of nobody", 4, place(4, "eve@x", 1))

	inParts := func() error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		tx.MustExecContext(ctx, "INSERT INTO orders (key, email, placed_at) VALUES ($1, 'ann@x', $2)", uuid.UUID(key(5)), precise)
		tx.MustExecContext(ctx, "SAVEPOINT part")
		tx.MustExecContext(ctx, "UPDATE products SET stock = 0")
		_, err = tx.ExecContext(ctx, "UPDATE products SET stock = -1")
		d.note("its second part", nil, err)
		tx.MustExecContext(ctx, "ROLLBACK TO SAVEPOINT part")
		var stock []int
		d.note("taken back", &stock, tx.SelectContext(ctx, &stock, "SELECT stock FROM products ORDER BY sku"))
		return tx.Commit()
	}
	d.note("order in parts", 5, inParts())

	rows, err := db.QueryxContext(ctx, `SELECT o.key, o.email, o.state, o.placed_at, o.note FROM orders o
		JOIN customers c USING (email) LEFT JOIN lines l USING (key)
		WHERE o.placed_at >= $1 GROUP BY o.key, o.email, o.state, o.placed_at, o.note ORDER BY o.key`, noon)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var o sqlxOrder
		err := rows.StructScan(&o)
		o.PlacedAt = o.PlacedAt.UTC()
		d.note("joined", o, err)
	}
	d.note("rows", nil, rows.Err())

	add, err := db.PreparexContext(ctx, "INSERT INTO visits (at, path, took, tags) VALUES ($1, $2, $3, $4)")
	must(t, err)
	defer add.Close()
	for i := range 50 {
		_, err := add.ExecContext(ctx, noon.Add(time.Duration(i)*time.Minute), fmt.Sprintf("/%d", i%5), float64(i)/3, pq.StringArray{"a", "b"}[:i%3])
		must(t, err)
	}
	var paths []struct {
		Path    string
		Visits  int
		Slowest float64
		Last    time.Time
	}
	err = db.SelectContext(ctx, &paths, "SELECT path, count(*) AS visits, max(took) AS slowest, max(at) AS last FROM visits GROUP BY path ORDER BY path")
	for i := range paths {
		paths[i].Last = paths[i].Last.UTC()
	}
	d.note("visits", paths, err)

	deleted, err := db.ExecContext(ctx, "DELETE FROM orders WHERE key = $1", uuid.UUID(key(2)))
	d.note("deleted", affected(deleted), err)
	var left []int
	d.note("left", &left, db.SelectContext(ctx, &left, "SELECT count(*) FROM customers UNION ALL SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM lines"))
	return d
}

// sqlxLine adds a line to an order and writes down what came back.
func sqlxLine(ctx context.Context, tx *sqlx.Tx, d *diary, line map[string]any) error {
	rows, err := sqlx.NamedQueryContext(ctx, tx, `INSERT INTO lines (key, sku, quantity, price)
		SELECT :key, p.sku, :quantity, p.price FROM products p WHERE p.sku = :sku RETURNING sku, price`, line)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		got := map[string]any{}
		err := rows.MapScan(got)
		d.note("line", fmt.Sprintf("%s for %s", got["sku"], got["price"]), err)
	}
	return rows.Err()
}

// affected returns how many rows a result counts; -1 without one.
func affected(result sql.Result) int64 {
	if result == nil {
		return -1
	}
	n, err := result.RowsAffected()
	if err != nil {
		return -1
	}
	return n
}
