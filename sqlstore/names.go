package sqlstore

import (
	"errors"

	"lexigram.dev/tenancy"
)

// namesFreeFor returns which of the names the tenant has already. If another tenant has one,
// the first such is a [*tenancy.SlugConflictError]. No name can be taken between this answer
// and the end of the write.
func (w *write) namesFreeFor(tenantID string, names []string) (owned []string, err error) {
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	rows, err := w.tx.QueryContext(w.ctx, w.store.query(
		`SELECT name, tenant_id FROM tenancy.names WHERE name IN (`+list(len(names), "?")+`)`), args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	owners := make(map[string]string, len(names))
	for rows.Next() {
		var name, owner string
		if err := rows.Scan(&name, &owner); err != nil {
			return nil, err
		}
		owners[name] = owner
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, name := range names {
		switch owner, taken := owners[name]; {
		case !taken:
		case owner != tenantID:
			return nil, &tenancy.SlugConflictError{Name: name}
		default:
			owned = append(owned, name)
		}
	}
	return owned, nil
}

// claimNames gives free names to the tenant.
func (w *write) claimNames(tenantID string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(names))
	for _, name := range names {
		args = append(args, name, tenantID)
	}
	_, err := w.exec(`INSERT INTO tenancy.names (name, tenant_id) VALUES `+list(len(names), "(?, ?)"), args...)
	return err
}

// freeNames takes names from the tenant.
func (w *write) freeNames(tenantID string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	args := []any{tenantID}
	for _, name := range names {
		args = append(args, name)
	}
	_, err := w.exec(`DELETE FROM tenancy.names WHERE tenant_id = ? AND name IN (`+list(len(names), "?")+`)`, args...)
	return err
}
