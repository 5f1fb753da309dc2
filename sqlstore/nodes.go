package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lexigram.dev/tenancy"
)

// SaveNode keeps a node's record and removes those that were not seen since before. It is no change
// of the catalogue. A catalogue of version 1 keeps none: [*SchemaError].
func (s *Store) SaveNode(ctx context.Context, n tenancy.Node, before time.Time) error {
	fail := func(err error) error {
		return fmt.Errorf("save node %q: %w", n.ID, withCause(ctx, err))
	}
	if err := errors.Join(s.ready(ctx), s.needSecond()); err != nil {
		return fail(err)
	}
	result, err := s.db.ExecContext(ctx, s.query(`UPDATE tenancy.nodes SET revision = ?, started_at = ?, seen_at = ? WHERE id = ?`),
		n.Revision, s.dialect.time(n.Started), s.dialect.time(n.Seen), n.ID)
	if err != nil {
		return fail(err)
	}
	if changed, err := result.RowsAffected(); err != nil || changed > 0 {
		return err
	}
	for _, statement := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM tenancy.nodes WHERE seen_at < ?`, []any{s.dialect.time(before)}},
		{`DELETE FROM tenancy.nodes WHERE id = ?`, []any{n.ID}},
		{
			`INSERT INTO tenancy.nodes (id, revision, started_at, seen_at) VALUES (?, ?, ?, ?)`,
			[]any{n.ID, n.Revision, s.dialect.time(n.Started), s.dialect.time(n.Seen)},
		},
	} {
		if _, err := s.db.ExecContext(ctx, s.query(statement.query), statement.args...); err != nil {
			return fail(err)
		}
	}
	return nil
}

// RemoveNode removes a record. An unknown id is no error.
func (s *Store) RemoveNode(ctx context.Context, id string) error {
	err := errors.Join(s.ready(ctx), s.needSecond())
	if err == nil {
		_, err = s.db.ExecContext(ctx, s.query(`DELETE FROM tenancy.nodes WHERE id = ?`), id)
	}
	if err != nil {
		return fmt.Errorf("remove node %q: %w", id, withCause(ctx, err))
	}
	return nil
}

// Nodes returns all records, ordered by id.
func (s *Store) Nodes(ctx context.Context) (nodes []tenancy.Node, err error) {
	fail := func(err error) ([]tenancy.Node, error) {
		return nil, fmt.Errorf("list nodes: %w", withCause(ctx, err))
	}
	if err := errors.Join(s.ready(ctx), s.needSecond()); err != nil {
		return fail(err)
	}
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT id, revision, started_at, seen_at FROM tenancy.nodes ORDER BY id`))
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var n tenancy.Node
		if err := rows.Scan(&n.ID, &n.Revision, instant{&n.Started}, instant{&n.Seen}); err != nil {
			return fail(err)
		}
		nodes = append(nodes, n)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return nodes, nil
}
