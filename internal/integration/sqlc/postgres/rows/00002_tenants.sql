-- Tables that tenants share have the tenant's column, and keys with it.

-- +goose Up
ALTER TABLE lines DROP CONSTRAINT lines_order, DROP CONSTRAINT lines_product, DROP CONSTRAINT lines_key;
ALTER TABLE orders DROP CONSTRAINT orders_customer, DROP CONSTRAINT orders_key;
ALTER TABLE products DROP CONSTRAINT products_key;
ALTER TABLE customers DROP CONSTRAINT customers_key;

ALTER TABLE customers ADD tenant_id text NOT NULL, ADD CONSTRAINT customers_key PRIMARY KEY (tenant_id, email);
ALTER TABLE products ADD tenant_id text NOT NULL, ADD CONSTRAINT products_key PRIMARY KEY (tenant_id, sku);
ALTER TABLE orders ADD tenant_id text NOT NULL, ADD CONSTRAINT orders_key PRIMARY KEY (tenant_id, key),
    ADD CONSTRAINT orders_customer FOREIGN KEY (tenant_id, email) REFERENCES customers;
ALTER TABLE lines ADD tenant_id text NOT NULL, ADD CONSTRAINT lines_key PRIMARY KEY (tenant_id, key, sku),
    ADD CONSTRAINT lines_order FOREIGN KEY (tenant_id, key) REFERENCES orders ON DELETE CASCADE,
    ADD CONSTRAINT lines_product FOREIGN KEY (tenant_id, sku) REFERENCES products;
ALTER TABLE visits ADD tenant_id text NOT NULL;
