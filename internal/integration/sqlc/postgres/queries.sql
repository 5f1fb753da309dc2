-- name: UpsertCustomer :one
INSERT INTO customers (email, name, settings, born, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT customers_key DO UPDATE
    SET name = excluded.name, settings = customers.settings || excluded.settings
RETURNING email, name, settings, born, created_at, (xmax = 0)::boolean AS created;

-- name: CustomersWithSetting :many
SELECT email, name, born FROM customers
WHERE settings @> sqlc.arg(settings)::jsonb AND (born IS NULL OR born < sqlc.arg(before)::date)
ORDER BY email;

-- name: PutProduct :exec
INSERT INTO products (sku, title, price, stock, tags, sizes, details)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT products_key DO UPDATE
    SET title = excluded.title, price = excluded.price, stock = products.stock + excluded.stock,
        tags = excluded.tags, sizes = excluded.sizes, details = excluded.details;

-- name: Product :one
SELECT sku, title, price, stock, tags, sizes, details FROM products WHERE sku = $1;

-- name: ProductsTagged :many
SELECT sku, title, tags, sizes, (details ->> 'colour')::text AS colour
FROM products WHERE tags && sqlc.arg(tags)::text[] ORDER BY sku;

-- name: ProductsBySKU :many
SELECT sku, stock FROM products WHERE sku = ANY (sqlc.arg(skus)::text[]) ORDER BY sku;

-- name: TakeStock :execrows
UPDATE products SET stock = stock - sqlc.arg(quantity)::integer
WHERE sku = sqlc.arg(sku) AND stock >= sqlc.arg(quantity)::integer;

-- name: PlaceOrder :exec
INSERT INTO orders (key, email, placed_at, note) VALUES ($1, $2, $3, sqlc.narg(note));

-- name: AddLine :exec
INSERT INTO lines (key, sku, quantity, price)
SELECT sqlc.arg(key), p.sku, sqlc.arg(quantity), p.price FROM products p WHERE p.sku = sqlc.arg(sku);

-- name: SetState :one
UPDATE orders SET state = sqlc.arg(state) WHERE key = sqlc.arg(key) AND state <> sqlc.arg(state) RETURNING state, note;

-- name: Orders :many
SELECT o.key, o.state, o.placed_at, o.note, c.name AS customer,
       count(l.sku) AS lines, coalesce(sum(l.quantity * l.price), 0)::numeric(12, 2) AS total,
       coalesce(jsonb_agg(jsonb_build_object('sku', l.sku, 'title', p.title, 'quantity', l.quantity) ORDER BY l.sku)
                FILTER (WHERE l.sku IS NOT NULL), '[]')::jsonb AS items
FROM orders o
JOIN customers c USING (email)
LEFT JOIN lines l USING (key)
LEFT JOIN products p USING (sku)
WHERE o.placed_at >= sqlc.arg(since) AND o.placed_at < sqlc.arg(until)
GROUP BY o.key, o.state, o.placed_at, o.note, c.name
ORDER BY o.placed_at, o.key;

-- name: BestSellers :many
WITH sold AS (
    SELECT sku, sum(quantity) AS pieces FROM lines GROUP BY sku
)
SELECT p.sku, s.pieces::bigint AS pieces, rank() OVER (ORDER BY s.pieces DESC) AS place
FROM sold s JOIN products p USING (sku)
ORDER BY place, p.sku LIMIT $1;

-- name: DeleteOrder :execrows
DELETE FROM orders WHERE key = $1;

-- name: Everything :one
SELECT (SELECT count(*) FROM customers) AS customers, (SELECT count(*) FROM products) AS products,
       (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM lines) AS lines, (SELECT count(*) FROM visits) AS visits;

-- name: VisitsPerHour :many
SELECT date_trunc('hour', at, 'UTC')::timestamptz AS hour, count(*) AS visits, max(took)::double precision AS slowest
FROM visits WHERE at > sqlc.arg(now)::timestamptz - interval '1 day' GROUP BY 1 ORDER BY 1;

-- name: AddVisit :exec
INSERT INTO visits (at, path, took, address, tags) VALUES ($1, $2, $3, $4, $5);
