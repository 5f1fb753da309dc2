package tenantpgx

import (
	"container/list"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// maxDescriptions bounds the statements that a connector remembers.
const maxDescriptions = 1024

// description is what encoding a statement's parameters and asking for its results needs. What
// the results are is told by the server, so that a changed table cannot be misread.
type description struct {
	*pgconn.StatementDescription
	resultFormats []int16
	// local says that a parameter's type is no built-in one: in another schema the same text may
	// mean another type.
	local bool
}

// descriptions remembers the statements used last. All connections of a connector share it.
type descriptions struct {
	mu    sync.Mutex
	size  int
	used  *list.List // of *entry, the one used last in front
	byKey map[string]*list.Element
}

type entry struct {
	sql  string
	desc *description
}

func newDescriptions(size int) *descriptions {
	return &descriptions{size: size, used: list.New(), byKey: make(map[string]*list.Element)}
}

// get returns what is known of a statement at a place, which is a search_path, or nil.
func (d *descriptions) get(sql, place string) *description {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.byKey[sql]
	if e != nil && place != "" && e.Value.(*entry).desc.local {
		e = d.byKey[localKey(sql, place)]
	}
	if e == nil {
		return nil
	}
	d.used.MoveToFront(e)
	return e.Value.(*entry).desc
}

// firstOwnType is the smallest number of a type that is not PostgreSQL's own.
const firstOwnType = 16384

func localKey(sql, place string) string { return place + "\x00" + sql }

func (d *descriptions) put(sql, place string, described *pgconn.StatementDescription) *description {
	desc := &description{StatementDescription: described, resultFormats: make([]int16, len(described.Fields))}
	for i, f := range described.Fields {
		desc.resultFormats[i] = resultFormat(f.DataTypeOID)
	}
	desc.local = slices.ContainsFunc(described.ParamOIDs, func(oid uint32) bool { return oid >= firstOwnType })
	d.mu.Lock()
	defer d.mu.Unlock()
	if desc.local && place != "" {
		d.set(localKey(sql, place), desc)
	}
	return d.set(sql, desc)
}

// set must be called with mu held.
func (d *descriptions) set(sql string, desc *description) *description {
	if e := d.byKey[sql]; e != nil {
		e.Value.(*entry).desc = desc
		return desc
	}
	d.byKey[sql] = d.used.PushFront(&entry{sql, desc})
	if d.used.Len() > d.size {
		last := d.used.Back()
		d.used.Remove(last)
		delete(d.byKey, last.Value.(*entry).sql)
	}
	return desc
}

// drop forgets a statement that failed: its tables may have changed.
func (d *descriptions) drop(sql string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.byKey[sql]; e != nil {
		d.used.Remove(e)
		delete(d.byKey, sql)
	}
}

// formats says in which formats a statement's rows come: pgx stdlib's own, unless it says otherwise.
type formats struct {
	native     bool // pgx's own for the types that the connection knows
	byPosition pgx.QueryResultFormats
	byOID      pgx.QueryResultFormatsByOID
}

// of returns the formats of a statement's columns; b was built for it.
func (f formats) of(desc *description, b *pgx.ExtendedQueryBuilder) []int16 {
	switch {
	case f.byOID != nil:
		chosen := make([]int16, len(desc.Fields))
		for i, field := range desc.Fields {
			chosen[i] = f.byOID[field.DataTypeOID]
		}
		return chosen
	case f.byPosition != nil:
		return f.byPosition
	case f.native:
		return b.ResultFormats
	default:
		return desc.resultFormats
	}
}

// resultFormat chooses the same formats as pgx's stdlib.
func resultFormat(oid uint32) int16 {
	switch oid {
	case pgtype.BoolOID, pgtype.ByteaOID, pgtype.CIDOID, pgtype.DateOID, pgtype.Float4OID, pgtype.Float8OID,
		pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.TimestampOID,
		pgtype.TimestamptzOID, pgtype.XIDOID:
		return pgtype.BinaryFormatCode
	default:
		return pgtype.TextFormatCode
	}
}
