-- The one table of all tenants. Who may see which row is not decided here: row security is
-- put over it when the migrations are done, and fills in tenant_id.

-- +goose Up
CREATE TABLE notes (
    tenant_id text NOT NULL,
    id        uuid NOT NULL,
    text      text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- +goose Down
DROP TABLE notes;
