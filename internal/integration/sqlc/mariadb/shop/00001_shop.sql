-- The shop as it is for one customer. Where tenants share its tables, 00002_tenants.sql follows.

-- +goose Up
CREATE TABLE customers (
    email      varchar(100) NOT NULL,
    name       varchar(100) NOT NULL,
    settings   json         NOT NULL,
    born       date,
    created_at datetime(6)  NOT NULL,
    PRIMARY KEY (email)
);

CREATE TABLE products (
    id      bigint         NOT NULL AUTO_INCREMENT,
    sku     varchar(40)    NOT NULL,
    title   varchar(100)   NOT NULL,
    price   decimal(12, 2) NOT NULL,
    stock   int            NOT NULL CHECK (stock >= 0),
    details json,
    picture blob,
    PRIMARY KEY (id),
    UNIQUE KEY products_sku (sku)
);

CREATE TABLE orders (
    ref       char(36)                      NOT NULL,
    email     varchar(100)                  NOT NULL,
    state     enum ('open', 'paid', 'sent') NOT NULL DEFAULT 'open',
    placed_at datetime(6)                   NOT NULL,
    paid_at   timestamp(6)                  NULL,
    note      text,
    PRIMARY KEY (ref),
    CONSTRAINT orders_customer FOREIGN KEY (email) REFERENCES customers (email)
);

CREATE TABLE items (
    ref      char(36)       NOT NULL,
    sku      varchar(40)    NOT NULL,
    quantity int unsigned   NOT NULL,
    price    decimal(12, 2) NOT NULL,
    PRIMARY KEY (ref, sku),
    CONSTRAINT items_order FOREIGN KEY (ref) REFERENCES orders (ref) ON DELETE CASCADE,
    CONSTRAINT items_product FOREIGN KEY (sku) REFERENCES products (sku)
);

CREATE TABLE visits (
    at      datetime(6)  NOT NULL,
    path    varchar(100) NOT NULL,
    took    double       NOT NULL,
    address varchar(50),
    mobile  boolean      NOT NULL DEFAULT false
);
