-- name: CopyVisits :copyfrom
INSERT INTO visits (at, path, took, address, tags) VALUES ($1, $2, $3, $4, $5);

-- name: Restock :batchexec
UPDATE products SET stock = stock + $2 WHERE sku = $1;

-- name: StockOf :batchone
SELECT sku, stock FROM products WHERE sku = $1;

-- name: LinesOf :batchmany
SELECT sku, quantity FROM lines WHERE key = $1 ORDER BY sku;
