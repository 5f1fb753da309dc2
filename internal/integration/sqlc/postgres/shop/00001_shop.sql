-- The shop as it is for one customer. Where tenants share its tables, 00002_tenants.sql follows.

-- +goose Up
CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent');

CREATE TABLE customers (
    email      text        CONSTRAINT customers_key PRIMARY KEY,
    name       text        NOT NULL,
    settings   jsonb       NOT NULL DEFAULT '{}',
    born       date,
    created_at timestamptz NOT NULL
);

CREATE TABLE products (
    sku     text           CONSTRAINT products_key PRIMARY KEY,
    title   text           NOT NULL,
    price   numeric(12, 2) NOT NULL,
    stock   integer        NOT NULL CHECK (stock >= 0),
    tags    text[]         NOT NULL DEFAULT '{}',
    sizes   integer[],
    details jsonb
);

CREATE TABLE orders (
    key       uuid        CONSTRAINT orders_key PRIMARY KEY,
    email     text        NOT NULL CONSTRAINT orders_customer REFERENCES customers,
    state     order_state NOT NULL DEFAULT 'open',
    placed_at timestamptz NOT NULL,
    note      text
);

CREATE TABLE lines (
    key      uuid           NOT NULL CONSTRAINT lines_order REFERENCES orders ON DELETE CASCADE,
    sku      text           NOT NULL CONSTRAINT lines_product REFERENCES products,
    quantity integer        NOT NULL CHECK (quantity > 0),
    price    numeric(12, 2) NOT NULL,
    CONSTRAINT lines_key PRIMARY KEY (key, sku)
);

CREATE TABLE visits (
    at      timestamptz      NOT NULL,
    path    text             NOT NULL,
    took    double precision NOT NULL,
    address text,
    tags    text[]
);
