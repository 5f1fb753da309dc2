-- name: UpsertCustomer :one
INSERT INTO customers (email, name, settings, born, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (email) DO UPDATE SET name = excluded.name, settings = json_patch(customers.settings, excluded.settings)
RETURNING email, name, settings, born, created_at;

-- name: CustomersWithLanguage :many
SELECT email, name, born FROM customers
WHERE json_extract(settings, '$.lang') = CAST(sqlc.arg(lang) AS text) AND (born IS NULL OR born < sqlc.arg(before))
ORDER BY email;

-- name: AddProduct :execlastid
INSERT INTO products (sku, title, cents, stock, details, picture) VALUES (?, ?, ?, ?, ?, ?);

-- name: ProductByID :one
SELECT sku, title, cents, stock, details, picture FROM products WHERE id = ?;

-- name: AddTwoProducts :execresult
INSERT INTO products (sku, title, cents, stock) VALUES (?, ?, ?, ?), (?, ?, ?, ?)
ON CONFLICT (sku) DO UPDATE SET title = excluded.title, stock = stock + excluded.stock;

-- name: ReplaceProduct :execrows
INSERT OR REPLACE INTO products (sku, title, cents, stock) VALUES (?, ?, ?, ?);

-- name: IgnoreProduct :execrows
INSERT INTO products (sku, title, cents, stock) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: Products :many
SELECT sku, title, cents, stock, details FROM products ORDER BY sku;

-- name: ProductsBySKU :many
SELECT sku, stock FROM products WHERE sku IN (sqlc.slice(skus)) AND stock >= ? ORDER BY sku;

-- name: TakeStock :execrows
UPDATE products SET stock = stock - sqlc.arg(quantity) WHERE sku = sqlc.arg(sku) AND stock >= sqlc.arg(quantity);

-- name: PlaceOrder :exec
INSERT INTO orders (ref, email, placed_at, note) VALUES (?, ?, ?, ?);

-- name: AddItem :exec
INSERT INTO items (ref, sku, quantity, cents)
SELECT sqlc.arg(ref), p.sku, sqlc.arg(quantity), p.cents FROM products p WHERE p.sku = sqlc.arg(sku);

-- name: Pay :one
UPDATE orders SET state = ?, paid_at = ? WHERE ref = ? AND state = 'open' RETURNING ref, state, paid_at;

-- name: Orders :many
SELECT o.ref, o.state, o.placed_at, o.paid_at, o.note, c.name AS customer, count(i.sku) AS items,
       CAST(coalesce(sum(i.quantity * i.cents), 0) AS integer) AS total, CAST(json_group_array(p.title) AS text) AS titles
FROM orders o
JOIN customers c ON c.email = o.email
LEFT JOIN items i ON i.ref = o.ref
LEFT JOIN products p ON p.sku = i.sku
WHERE o.placed_at >= sqlc.arg(since) AND o.placed_at < sqlc.arg(before)
GROUP BY o.ref, o.state, o.placed_at, o.paid_at, o.note, c.name
ORDER BY o.placed_at, o.ref;

-- name: BestSellers :many
WITH sold AS (
    SELECT sku, CAST(sum(quantity) AS integer) AS pieces FROM items GROUP BY sku
)
SELECT p.sku, s.pieces, CAST(rank() OVER (ORDER BY s.pieces DESC) AS integer) AS place
FROM sold s JOIN products p ON p.sku = s.sku
ORDER BY place, p.sku LIMIT ?;

-- name: Discount :execrows
UPDATE products SET cents = cents / 2 WHERE sku IN (SELECT sku FROM items WHERE ref = ?);

-- name: DeleteOrder :execrows
DELETE FROM orders WHERE ref = ?;

-- name: Unsold :many
SELECT p.sku FROM products p WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.sku = p.sku) ORDER BY p.sku;

-- name: AddVisit :exec
INSERT INTO visits (at, path, took, address, mobile) VALUES (?, ?, ?, ?, ?);

-- name: VisitsPerPath :many
SELECT path, count(*) AS visits, CAST(max(took) AS real) AS slowest, CAST(sum(mobile) AS integer) AS mobile
FROM visits WHERE at > ? GROUP BY path ORDER BY path;

-- name: LastVisit :one
SELECT at, path, took, address, mobile FROM visits ORDER BY at DESC LIMIT 1;

-- name: Everything :one
SELECT (SELECT count(*) FROM customers) AS customers, (SELECT count(*) FROM products) AS products,
       (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM items) AS items, (SELECT count(*) FROM visits) AS visits;
