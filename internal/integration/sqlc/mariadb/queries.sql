-- name: UpsertCustomer :execrows
INSERT INTO customers (email, name, settings, born, created_at) VALUES (?, ?, ?, ?, ?)
ON DUPLICATE KEY UPDATE name = VALUES(name), settings = JSON_MERGE_PATCH(settings, VALUES(settings));

-- name: Customer :one
SELECT email, name, settings, born, created_at FROM customers WHERE email = ?;

-- name: CustomersWithLanguage :many
SELECT email, name, born FROM customers
WHERE JSON_UNQUOTE(JSON_EXTRACT(settings, '$.lang')) = sqlc.arg(lang) AND (born IS NULL OR born < sqlc.arg(before))
ORDER BY email;

-- name: AddProduct :execlastid
INSERT INTO products (sku, title, price, stock, details, picture) VALUES (?, ?, ?, ?, ?, ?);

-- name: ProductByID :one
SELECT sku, title, price, stock, details, picture FROM products WHERE id = ?;

-- name: AddTwoProducts :execresult
INSERT INTO products (sku, title, price, stock) VALUES (?, ?, ?, ?), (?, ?, ?, ?)
ON DUPLICATE KEY UPDATE title = VALUES(title), stock = stock + VALUES(stock);

-- name: ReplaceProduct :execrows
REPLACE INTO products (sku, title, price, stock) VALUES (?, ?, ?, ?);

-- name: IgnoreProduct :execrows
INSERT IGNORE INTO products (sku, title, price, stock) VALUES (?, ?, ?, ?);

-- name: Products :many
SELECT sku, title, price, stock, details FROM products ORDER BY sku;

-- name: ProductsBySKU :many
SELECT sku, stock FROM products WHERE sku IN (sqlc.slice(skus)) AND stock >= ? ORDER BY sku;

-- name: TakeStock :execrows
UPDATE products SET stock = stock - sqlc.arg(quantity) WHERE sku = sqlc.arg(sku) AND stock >= sqlc.arg(quantity);

-- name: LockProduct :one
SELECT stock FROM products WHERE sku = ? FOR UPDATE;

-- name: PlaceOrder :exec
INSERT INTO orders (ref, email, placed_at, note) VALUES (?, ?, ?, ?);

-- name: AddItem :exec
INSERT INTO items (ref, sku, quantity, price)
SELECT sqlc.arg(ref), p.sku, sqlc.arg(quantity), p.price FROM products p WHERE p.sku = sqlc.arg(sku);

-- name: Pay :execrows
UPDATE orders SET state = ?, paid_at = ? WHERE ref = ? AND state = 'open';

-- name: Orders :many
SELECT o.ref, o.state, o.placed_at, o.paid_at, o.note, c.name AS customer, count(i.sku) AS items,
       CAST(coalesce(sum(i.quantity * i.price), 0) AS decimal(12, 2)) AS total,
       group_concat(p.title ORDER BY i.sku) AS titles
FROM orders o
JOIN customers c ON c.email = o.email
LEFT JOIN items i ON i.ref = o.ref
LEFT JOIN products p ON p.sku = i.sku
WHERE o.placed_at >= sqlc.arg(since) AND o.placed_at < sqlc.arg(before)
GROUP BY o.ref, o.state, o.placed_at, o.paid_at, o.note, c.name
ORDER BY o.placed_at, o.ref;

-- name: BestSellers :many
WITH sold AS (
    SELECT sku, sum(quantity) AS pieces FROM items GROUP BY sku
)
SELECT p.sku, s.pieces, rank() OVER (ORDER BY s.pieces DESC) AS place
FROM sold s JOIN products p ON p.sku = s.sku
ORDER BY place, p.sku LIMIT ?;

-- name: Discount :execrows
UPDATE products SET price = price * 0.5 WHERE sku IN (SELECT sku FROM items WHERE ref = ?);

-- name: DiscountJoined :execrows
UPDATE products p JOIN items i ON i.sku = p.sku SET p.price = p.price * 0.5 WHERE i.ref = ?;

-- name: DeleteOrder :execrows
DELETE FROM orders WHERE ref = ?;

-- name: Unsold :many
SELECT p.sku FROM products p WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.sku = p.sku) ORDER BY p.sku;

-- name: AddVisit :exec
INSERT INTO visits (at, path, took, address, mobile) VALUES (?, ?, ?, ?, ?);

-- name: VisitsPerHour :many
SELECT DATE_FORMAT(at, '%Y-%m-%dT%H') AS hour, count(*) AS visits, max(took) AS slowest, sum(mobile) AS mobile
FROM visits WHERE at > ? GROUP BY hour ORDER BY hour;

-- name: LastVisit :one
SELECT at, path, took, address, mobile FROM visits ORDER BY at DESC LIMIT 1;

-- name: Everything :one
SELECT (SELECT count(*) FROM customers) AS customers, (SELECT count(*) FROM products) AS products,
       (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM items) AS items, (SELECT count(*) FROM visits) AS visits;
