-- +goose Up
CREATE TABLE notes (
    id   text NOT NULL PRIMARY KEY,
    text text NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE notes;
