-- Tables that tenants share have the tenant's column.

-- +goose Up
ALTER TABLE customers ADD COLUMN tenant_id text NOT NULL DEFAULT '';
ALTER TABLE products ADD COLUMN tenant_id text NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN tenant_id text NOT NULL DEFAULT '';
ALTER TABLE items ADD COLUMN tenant_id text NOT NULL DEFAULT '';
ALTER TABLE visits ADD COLUMN tenant_id text NOT NULL DEFAULT '';
