package gorm_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"lexigram.dev/tenancy/isolation"
)

// sqlxNames are the drivers whose marks for parameters sqlx writes.
var sqlxNames = map[isolation.Engine]string{
	isolation.EnginePostgreSQL: "pgx", isolation.EngineMariaDB: "mysql", isolation.EngineSQLite: "sqlite",
}

// unnamed is what becomes of an error that only the server's own words tell.
const unnamed = "an error"

type sqlxOrder struct {
	ID         int64        `db:"id"`
	CustomerID int64        `db:"customer_id"`
	Number     string       `db:"number"`
	PlacedAt   sql.NullTime `db:"placed_at"`
	Total      float64      `db:"total"`
	Paid       bool         `db:"paid"`
}

// sqlxShop works on the tables of the shop by sqlx and returns what it saw.
func sqlxShop(ctx context.Context, db *sqlx.DB, engine isolation.Engine) (seen []string) {
	see := func(what string, value any, err error) {
		text, jsonErr := json.Marshal(value)
		if jsonErr != nil {
			text = []byte(jsonErr.Error())
		}
		failure := ""
		switch {
		case errors.Is(err, sql.ErrNoRows), errors.Is(err, errForbidden):
			failure = err.Error()
		case err != nil:
			failure = unnamed
		}
		seen = append(seen, fmt.Sprintf("%s: %s, error %q", what, text, failure))
	}
	count := func(what string, result sql.Result, err error) {
		n := int64(-1)
		if err == nil {
			n, err = result.RowsAffected()
		}
		see(what, n, err)
	}
	lines := "lines"
	if engine == isolation.EngineMariaDB {
		lines = "`lines`" // a word of its own
	}
	placed := time.Date(2029, 5, 6, 7, 8, 9, 0, time.UTC)

	result, err := db.NamedExecContext(ctx, "INSERT INTO customers (id, name, profile, created_at) VALUES (:id, :name, :profile, :created_at)",
		[]map[string]any{
			{"id": 1, "name": "Ann", "profile": `{"emails": ["o'brien@example.org"], "extra": {"n": 1.5}}`, "created_at": placed},
			{"id": 2, "name": "Bob 'x'; DROP TABLE", "profile": "{}", "created_at": placed},
		})
	count("batch of maps", result, err)
	orders := []sqlxOrder{
		{ID: 1, CustomerID: 1, Number: "A-1", PlacedAt: sql.NullTime{Time: placed, Valid: true}, Total: 12.5},
		{ID: 2, CustomerID: 1, Number: "A-2", Total: 0.25, Paid: true},
		{ID: 3, CustomerID: 2, Number: "B-1", Total: 3},
	}
	const insert = "INSERT INTO orders (id, customer_id, number, placed_at, total, paid) VALUES (:id, :customer_id, :number, :placed_at, :total, :paid)"
	result, err = db.NamedExecContext(ctx, insert, orders)
	count("batch of structs", result, err)
	_, err = db.NamedExecContext(ctx, insert, orders[0])
	see("a duplicate", nil, err)
	upsert := insert + " ON CONFLICT (id) DO UPDATE SET total = excluded.total"
	if engine == isolation.EngineMariaDB {
		upsert = insert + " ON DUPLICATE KEY UPDATE total = VALUES(total)"
	}
	orders[1].Total = 99
	_, err = db.NamedExecContext(ctx, upsert, orders[1])
	see("upsert", nil, err)

	const all = "SELECT id, customer_id, number, placed_at, total, paid FROM orders "
	tell := func(what string, got []sqlxOrder, err error) {
		for i := range got {
			got[i].PlacedAt.Time = got[i].PlacedAt.Time.UTC()
		}
		see(what, got, err)
	}
	var got []sqlxOrder
	err = db.SelectContext(ctx, &got, all+"ORDER BY id")
	tell("select", got, err)
	query, args, err := sqlx.In(all+"WHERE number IN (?) AND total > ? ORDER BY id", []string{"A-2", "B-1", "none"}, 1)
	see("in", len(args), err)
	got = nil
	err = db.SelectContext(ctx, &got, db.Rebind(query), args...)
	tell("in", got, err)
	var one sqlxOrder
	err = db.GetContext(ctx, &one, db.Rebind(all+"WHERE number = ?"), "A-1")
	tell("get", []sqlxOrder{one}, err)
	see("get nothing", nil, db.GetContext(ctx, &one, db.Rebind(all+"WHERE number = ?"), "none"))
	var profile string
	err = db.GetContext(ctx, &profile, db.Rebind("SELECT profile FROM customers WHERE id = ?"), 1)
	see("JSON", profile, err)

	transact := func(paid bool, end error) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		result, err := tx.NamedExecContext(ctx, "UPDATE orders SET paid = :paid WHERE customer_id = :customer", map[string]any{"paid": paid, "customer": 1})
		count("in a transaction", result, err)
		add, err := tx.PreparexContext(ctx, tx.Rebind("INSERT INTO "+lines+" (id, order_id, sku, qty, payload) VALUES (?, ?, ?, ?, ?)"))
		if err != nil {
			return err
		}
		defer add.Close()
		for i := range 3 {
			if _, err := add.ExecContext(ctx, i+1, 1+i/2, fmt.Sprintf("sku %d", i), i, []byte{0, byte(i), 255}); err != nil {
				return err
			}
		}
		var n int
		err = tx.GetContext(ctx, &n, "SELECT count(*) FROM "+lines)
		see("its own lines", n, err)
		if end != nil {
			return end
		}
		return tx.Commit()
	}
	see("rolled back", nil, transact(true, errForbidden))
	see("committed", nil, transact(true, nil))
	see("again", nil, transact(true, nil)) // the lines are there

	named, err := db.PrepareNamedContext(ctx, `SELECT c.name, count(l.id) AS pieces, sum(l.qty) AS qty FROM customers c
		JOIN orders o ON o.customer_id = c.id LEFT JOIN `+lines+` l ON l.order_id = o.id AND l.qty >= :least
		GROUP BY c.name ORDER BY c.name`)
	see("prepared", nil, err)
	if err == nil {
		defer named.Close()
		var report []struct {
			Name   string
			Pieces int
			Qty    sql.NullInt64
		}
		err = named.SelectContext(ctx, &report, map[string]any{"least": 0})
		see("report", report, err)
	}
	rows, err := db.QueryxContext(ctx, "SELECT id, sku, payload FROM "+lines+" WHERE order_id IN (SELECT id FROM orders WHERE paid) ORDER BY id")
	see("rows", nil, err)
	if err == nil {
		defer rows.Close()
		for rows.Next() {
			var l struct {
				ID      int64
				SKU     string `db:"sku"`
				Payload []byte
			}
			err := rows.StructScan(&l)
			see("row", l, err)
		}
		see("end of rows", nil, rows.Err())
	}
	result, err = db.ExecContext(ctx, "DELETE FROM "+lines+" WHERE qty = 0")
	count("delete", result, err)
	var left []int
	err = db.SelectContext(ctx, &left, "SELECT count(*) FROM customers UNION ALL SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM "+lines)
	slices.Sort(left)
	see("left", left, err)
	return append(seen, parcelSqlx(ctx, db, engine)...)
}

// Where only GORM's own statements can be filtered, the texts of sqlx are refused.
func TestSqlxIsRefusedByTheFence(t *testing.T) {
	eachCell(t, func(t *testing.T, c cell) {
		if !c.fence {
			return
		}
		o := c.open(t)
		db := sqlx.NewDb(o.handle.DB, sqlxNames[o.engine])
		must(t, o.gorm(t, false).WithContext(o.acme).Create(&customer{Name: "Ann"}).Error)
		_, err := db.ExecContext(o.acme, "DELETE FROM customers")
		mustBe(t, err, isolation.ErrUnfiltered)
		_, err = db.NamedExecContext(o.acme, "UPDATE customers SET name = :name", map[string]any{"name": "x"})
		mustBe(t, err, isolation.ErrUnfiltered)
		var n int
		mustBe(t, db.GetContext(o.acme, &n, "SELECT count(*) FROM customers"), isolation.ErrUnfiltered)
		var customers []customer
		must(t, o.gorm(t, false).WithContext(o.acme).Find(&customers).Error)
		if len(customers) != 1 || customers[0].Name != "Ann" {
			t.Errorf("acme has %+v", customers)
		}
	})
}
