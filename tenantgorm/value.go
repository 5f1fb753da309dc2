package tenantgorm

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// owner reads what was given for a tenant column: empty when it was left out, else the id as
// text. A value that only the database can compute is refused.
func owner(value any) (id string, empty bool, err error) {
	switch value.(type) {
	case nil:
		return "", true, nil
	case clause.Expression, clause.Column, clause.Table, *gorm.DB, gorm.Valuer:
		return "", false, fmt.Errorf("%w: the tenant column is set by an expression: leave it out", ErrUnfiltered)
	}
	rv := reflect.ValueOf(value)
	if rv.IsZero() {
		return "", true, nil
	}
	if valuer, ok := value.(driver.Valuer); ok {
		inner, err := valuer.Value()
		if err != nil {
			return "", false, fmt.Errorf("the value of the tenant column: %w", err)
		}
		if _, again := inner.(driver.Valuer); again {
			return "", false, fmt.Errorf("%w: the tenant column has a value of type %T", ErrUnfiltered, value)
		}
		return owner(inner)
	}
	switch rv.Kind() {
	case reflect.Pointer:
		return owner(rv.Elem().Interface())
	case reflect.String:
		return rv.String(), false, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(rv.Int(), 10), false, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(rv.Uint(), 10), false, nil
	}
	if text, ok := value.([]byte); ok {
		return string(text), len(text) == 0, nil
	}
	return "", false, fmt.Errorf("%w: the tenant column has a value of type %T", ErrUnfiltered, value)
}

// own returns the value to write into a tenant column: the one given if it is the tenant's, the
// tenant's id if none was given.
func own(value any, tenantID string) (any, error) {
	id, empty, err := owner(value)
	switch {
	case err != nil:
		return nil, err
	case empty:
		return tenantID, nil
	case id != tenantID:
		return nil, fmt.Errorf("%w (%q, not %q)", ErrForeignTenant, id, tenantID)
	}
	return value, nil
}

// sameColumn reports whether two names are of one column, as the most lenient engine reads them:
// without regard to letter case, quotes, blanks and the table before the dot.
func sameColumn(written, column string) bool {
	written = strings.Map(func(r rune) rune {
		if strings.ContainsRune("\"'`[] \t\r\n", r) {
			return -1
		}
		return r
	}, written)
	if i := strings.LastIndexByte(written, '.'); i >= 0 {
		written = written[i+1:]
	}
	return strings.EqualFold(written, column)
}
