-- The shop as it is for one customer. Where tenants share its tables, 00002_tenants.sql follows.

-- +goose Up
CREATE TABLE customers (
    email      text     NOT NULL PRIMARY KEY,
    name       text     NOT NULL,
    settings   text     NOT NULL CHECK (json_valid(settings)),
    born       date,
    created_at datetime NOT NULL
);

CREATE TABLE products (
    id      integer PRIMARY KEY AUTOINCREMENT,
    sku     text    NOT NULL UNIQUE,
    title   text    NOT NULL,
    cents   integer NOT NULL,
    stock   integer NOT NULL CHECK (stock >= 0),
    details text CHECK (details IS NULL OR json_valid(details)),
    picture blob
);

CREATE TABLE orders (
    ref       text     NOT NULL PRIMARY KEY,
    email     text     NOT NULL REFERENCES customers (email),
    state     text     NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paid', 'sent')),
    placed_at datetime NOT NULL,
    paid_at   datetime,
    note      text
);

CREATE TABLE items (
    ref      text    NOT NULL REFERENCES orders (ref) ON DELETE CASCADE,
    sku      text    NOT NULL REFERENCES products (sku),
    quantity integer NOT NULL,
    cents    integer NOT NULL,
    PRIMARY KEY (ref, sku)
);

CREATE TABLE visits (
    at      datetime NOT NULL,
    path    text     NOT NULL,
    took    real     NOT NULL,
    address text,
    mobile  boolean  NOT NULL DEFAULT false
);
