-- MariaDB commits at each statement that changes a table: whoever comes after a crash begins
-- again, hence IF NOT EXISTS.

-- +goose Up
CREATE TABLE IF NOT EXISTS notes (
    id   char(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    text text NOT NULL
);

-- +goose Down
DROP TABLE notes;
