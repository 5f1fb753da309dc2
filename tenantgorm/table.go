package tenantgorm

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// tables says which tables belong to tenants. It does not change once the plugin is in use.
type tables struct {
	column string            // of tables that are told by their model
	owned  map[string]string // the tenant column by the table's name in lower case
	shared map[string]bool
}

// register learns the tables of a model and of its relations.
func (t *tables) register(s *schema.Schema) error { return t.registerAll(s, map[*schema.Schema]bool{}) }

func (t *tables) registerAll(s *schema.Schema, seen map[*schema.Schema]bool) error {
	if s == nil || seen[s] {
		return nil
	}
	seen[s] = true
	name := strings.ToLower(s.Table)
	if t.owned[name] == "" && !t.shared[name] {
		if s.LookUpField(t.column) == nil {
			return unclassified(s.Table)
		}
		t.owned[name] = t.column
	}
	for _, rel := range s.Relationships.Relations {
		for _, next := range []*schema.Schema{rel.FieldSchema, rel.JoinTable} {
			if err := t.registerAll(next, seen); err != nil {
				return fmt.Errorf("relation %s of %s: %w", rel.Name, s.Name, err)
			}
		}
	}
	return nil
}

// columnOf returns the tenant column of a table, and "" for a shared one. What is not listed is
// told by the model of the statement and its relations.
func (t *tables) columnOf(stmt *gorm.Statement, name string) (string, error) {
	name = strings.ToLower(name)
	if column := t.owned[name]; column != "" {
		return column, nil
	}
	if t.shared[name] {
		return "", nil
	}
	if t.ownedBy(stmt.Schema, name, map[*schema.Schema]bool{}) {
		return t.column, nil
	}
	return "", unclassified(name)
}

// ownedBy reports whether a model, or one that it is related to, is of this table and has the
// tenant column.
func (t *tables) ownedBy(s *schema.Schema, name string, seen map[*schema.Schema]bool) bool {
	if s == nil || seen[s] {
		return false
	}
	seen[s] = true
	if strings.EqualFold(s.Table, name) {
		return s.LookUpField(t.column) != nil
	}
	for _, rel := range s.Relationships.Relations {
		if t.ownedBy(rel.FieldSchema, name, seen) || t.ownedBy(rel.JoinTable, name, seen) {
			return true
		}
	}
	return false
}

func unclassified(name string) error {
	if name == "" {
		return fmt.Errorf("%w: the statement names no table: use Model or Table", ErrUnclassified)
	}
	return fmt.Errorf("table %q: %w", name, ErrUnclassified)
}
