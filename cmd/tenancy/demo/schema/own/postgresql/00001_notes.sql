-- +goose Up
CREATE TABLE notes (
    id   uuid PRIMARY KEY,
    text text NOT NULL
);

-- +goose Down
DROP TABLE notes;
