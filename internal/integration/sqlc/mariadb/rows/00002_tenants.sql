-- Tables that tenants share have the tenant's column, and keys with it. Columns that are NOT NULL have a
-- default, because behind views with triggers MariaDB takes them for NULL otherwise (docs/STRATEGIES.md).

-- +goose Up
ALTER TABLE items DROP FOREIGN KEY items_order, DROP FOREIGN KEY items_product;
ALTER TABLE orders DROP FOREIGN KEY orders_customer;

ALTER TABLE customers ADD tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST,
    MODIFY email varchar(100) NOT NULL DEFAULT '', MODIFY name varchar(100) NOT NULL DEFAULT '',
    MODIFY settings json NOT NULL DEFAULT '{}', MODIFY created_at datetime(6) NOT NULL DEFAULT '0001-01-01',
    DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, email);
ALTER TABLE products ADD tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST,
    MODIFY sku varchar(40) NOT NULL DEFAULT '', MODIFY title varchar(100) NOT NULL DEFAULT '',
    MODIFY price decimal(12, 2) NOT NULL DEFAULT 0, MODIFY stock int NOT NULL DEFAULT 0 CHECK (stock >= 0),
    DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, id), ADD KEY (id),
    DROP KEY products_sku, ADD UNIQUE KEY products_sku (tenant_id, sku);
ALTER TABLE orders ADD tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST,
    MODIFY ref char(36) NOT NULL DEFAULT '', MODIFY email varchar(100) NOT NULL DEFAULT '',
    MODIFY placed_at datetime(6) NOT NULL DEFAULT '0001-01-01',
    DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, ref), DROP KEY orders_customer,
    ADD CONSTRAINT orders_customer FOREIGN KEY (tenant_id, email) REFERENCES customers (tenant_id, email);
ALTER TABLE items ADD tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST,
    MODIFY ref char(36) NOT NULL DEFAULT '', MODIFY sku varchar(40) NOT NULL DEFAULT '',
    MODIFY quantity int unsigned NOT NULL DEFAULT 0, MODIFY price decimal(12, 2) NOT NULL DEFAULT 0,
    DROP PRIMARY KEY, ADD PRIMARY KEY (tenant_id, ref, sku), DROP KEY items_product,
    ADD CONSTRAINT items_order FOREIGN KEY (tenant_id, ref) REFERENCES orders (tenant_id, ref) ON DELETE CASCADE,
    ADD CONSTRAINT items_product FOREIGN KEY (tenant_id, sku) REFERENCES products (tenant_id, sku);
ALTER TABLE visits ADD tenant_id varchar(128) COLLATE utf8mb4_bin NOT NULL FIRST,
    MODIFY at datetime(6) NOT NULL DEFAULT '0001-01-01', MODIFY path varchar(100) NOT NULL DEFAULT '',
    MODIFY took double NOT NULL DEFAULT 0, ADD KEY (tenant_id, at);
