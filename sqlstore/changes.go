package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
)

// Changes returns which tenants changed after the catalogue's revision since, each once; with
// since < 0 only the current revision. The feed remembers Config.History changes; an older or
// an unknown revision, as after a restored backup, is Lost.
func (s *Store) Changes(ctx context.Context, since int64) (answer tenancy.Changes, err error) {
	fail := func(err error) (tenancy.Changes, error) {
		return tenancy.Changes{}, fmt.Errorf("read changes since revision %d: %w", since, withCause(ctx, err))
	}
	if err := s.ready(ctx); err != nil {
		return fail(err)
	}
	if since < 0 {
		if err := s.row(ctx, `SELECT revision FROM tenancy.meta`).Scan(&answer.Revision); err != nil {
			return fail(err)
		}
		return answer, nil
	}
	// One statement sees one state: a change for every revision, or some were pruned.
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT m.revision, c.tenant_id
		FROM tenancy.meta AS m LEFT JOIN tenancy.changes AS c ON c.revision > ?
		ORDER BY c.revision`), since)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var found int64
	seen := map[string]bool{}
	for rows.Next() {
		var tenantID sql.NullString
		if err := rows.Scan(&answer.Revision, &tenantID); err != nil {
			return fail(err)
		}
		if !tenantID.Valid { // nothing changed
			continue
		}
		found++
		if id := tenantID.String; !seen[id] {
			seen[id] = true
			answer.Tenants = append(answer.Tenants, id)
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	if found != answer.Revision-since {
		answer.Lost, answer.Tenants = true, nil
	}
	return answer, nil
}
