-- The one table of all tenants. Who may see which row is not decided here: views are put over it
-- when the migrations are done, and triggers fill in tenant_id.

-- +goose Up
CREATE TABLE IF NOT EXISTS notes (
    tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    id        char(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    text      text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);

-- +goose Down
DROP TABLE notes;
