CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent');

CREATE TABLE customers (
    tenant_id  text        NOT NULL,
    email      text        NOT NULL,
    name       text        NOT NULL,
    settings   jsonb       NOT NULL DEFAULT '{}',
    born       date,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, email)
);

CREATE TABLE products (
    tenant_id text           NOT NULL,
    sku       text           NOT NULL,
    title     text           NOT NULL,
    price     numeric(12, 2) NOT NULL,
    stock     integer        NOT NULL CHECK (stock >= 0),
    tags      text[]         NOT NULL DEFAULT '{}',
    sizes     integer[],
    details   jsonb,
    PRIMARY KEY (tenant_id, sku)
);

CREATE TABLE orders (
    tenant_id text        NOT NULL,
    key       uuid        NOT NULL,
    email     text        NOT NULL,
    state     order_state NOT NULL DEFAULT 'open',
    placed_at timestamptz NOT NULL,
    note      text,
    PRIMARY KEY (tenant_id, key),
    FOREIGN KEY (tenant_id, email) REFERENCES customers
);

CREATE TABLE lines (
    tenant_id text           NOT NULL,
    key       uuid           NOT NULL,
    sku       text           NOT NULL,
    quantity  integer        NOT NULL CHECK (quantity > 0),
    price     numeric(12, 2) NOT NULL,
    PRIMARY KEY (tenant_id, key, sku),
    FOREIGN KEY (tenant_id, key) REFERENCES orders ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, sku) REFERENCES products
);

CREATE TABLE visits (
    tenant_id text             NOT NULL,
    at        timestamptz      NOT NULL,
    path      text             NOT NULL,
    took      double precision NOT NULL,
    address   text,
    tags      text[]
);
