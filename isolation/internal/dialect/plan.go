package dialect

import (
	"fmt"
	"strings"
)

// TableKinds answers for each table that exists its number from 1, whether it is partitioned, and
// whether it has the tenant's column.
const TableKinds = with + `
SELECT l.i, l.relkind = 'p', l.attnum IS NOT NULL FROM listed l ORDER BY l.i`

// OldKey is a unique index that lacks the column which says whose a row is.
type OldKey struct {
	Table      int // number from 1
	Index      string
	Constraint string // "" when it is an index only
	Primary    bool
	Deferrable string // the constraint's clause, or ""
	Columns    string // what stands behind the opening bracket of its definition
	Kept       bool   // a Via leads to it, or a foreign key that the plan does not replace
	Referenced bool   // a foreign key that the plan replaces leads to it
	Added      bool   // the new one exists
}

// New is the name of the key with the column, until it takes the old one's.
func (k OldKey) New() string { return ShortName("tenancy_" + k.Index) }

const newName = `CASE WHEN octet_length('tenancy_' || %[1]s) <= 63 THEN 'tenancy_' || %[1]s
    ELSE substr('tenancy_' || %[1]s, 1, 46) || '_' || substr(encode(sha256(convert_to('tenancy_' || %[1]s, 'UTF8')), 'hex'), 1, 16) END`

// replaceable tells whether both sides of a crossing foreign key have the tenant's id.
const replaceable = `m.oid IS NOT NULL AND m.parent IS NULL AND l.parent IS NULL`

const crossingKeys = `crossing AS (
    SELECT k.*, m.i AS child, l.i AS parent_i, ` + replaceable + ` AS replaced
    FROM pg_constraint k JOIN listed l ON l.oid = k.confrelid LEFT JOIN listed m ON m.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND NOT coalesce(m.parent = l.oid AND k.conkey = ARRAY[m.attnum] AND k.confkey = ARRAY[m.keynum], false)
      AND NOT (m.oid IS NOT NULL AND m.parent IS NULL AND l.parent IS NULL AND EXISTS (
          SELECT FROM unnest(k.conkey, k.confkey) u(a, b) WHERE u.a = m.attnum AND u.b = l.attnum)))`

// OldKeys answers the fields of OldKey in their order.
var OldKeys = with + `, ` + crossingKeys + `
SELECT l.i, c.relname, coalesce(k.conname, ''), coalesce(k.contype = 'p', false),
       CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END,
       substr(d.text, strpos(d.text, ' USING btree (') + length(' USING btree (')),
       v.via OR EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.indexrelid
                        AND NOT EXISTS (SELECT FROM crossing r WHERE r.oid = f.oid AND r.replaced)),
       EXISTS (SELECT FROM crossing r WHERE r.conindid = x.indexrelid AND r.replaced),
       EXISTS (SELECT FROM pg_index n JOIN pg_class nc ON nc.oid = n.indexrelid WHERE n.indrelid = l.oid AND n.indisvalid
               AND nc.relname = ` + fmt.Sprintf(newName, "c.relname") + `)
FROM listed l JOIN pg_index x ON x.indrelid = l.oid AND x.indisunique AND x.indisvalid JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u')
CROSS JOIN LATERAL (SELECT pg_get_indexdef(x.indexrelid) AS text) d
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM listed p WHERE p.parent = l.oid AND x.indnkeyatts = 1 AND x.indkey[0] = p.keynum) AS via) v
WHERE NOT coalesce(l.attnum = ANY ((string_to_array(x.indkey::text, ' ')::int2[])[1:x.indnkeyatts]), false)
ORDER BY l.i, c.relname`

// OldReference is a foreign key between two tables with the tenant's id that does not compare it.
type OldReference struct {
	Table, Parent      int // numbers from 1
	Constraint         string
	Columns, Keys      string // quoted, with commas
	OnDelete, OnUpdate string
	Deferrable         string
	Refused            string // why the plan cannot replace it, or ""
}

// New is the name of the foreign key with the tenant, until it takes the old one's.
func (r OldReference) New() string { return ShortName("tenancy_" + r.Constraint) }

func action(column string) string {
	return `CASE ` + column + ` WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' ELSE '' END`
}

// OldReferences answers the fields of OldReference in their order.
var OldReferences = with + `, ` + crossingKeys + `
SELECT k.child, k.parent_i, k.conname, ` + columns("k.conrelid", "k.conkey") + `, ` + columns("k.confrelid", "k.confkey") + `,
       ` + action("k.confdeltype") + `, ` + action("k.confupdtype") + `,
       CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END,
       CASE WHEN k.confmatchtype <> 's' THEN 'it is MATCH FULL'
            WHEN k.confupdtype IN ('n', 'd') THEN 'its ON UPDATE action would change the tenant as well'
            WHEN k.confdeltype IN ('n', 'd') AND current_setting('server_version_num')::int < 150000
                 THEN 'its ON DELETE action would change the tenant as well before PostgreSQL 15' ELSE '' END
FROM crossing k WHERE k.replaced ORDER BY k.child, k.conname`

// columnType is the type of the column that the plan adds.
func (t Table) columnType() string { return t.Type }

// adoptedDefault gives the rows of the legacy role to the tenant that adopts, and those of others
// to the tenant that is bound.
func (w Wall) adoptedDefault(t Table, tenant string) string {
	if w.Legacy == "" || tenant == "" {
		return t.tenant()
	}
	return fmt.Sprintf("CASE WHEN CURRENT_USER = %s THEN %s::%s ELSE %s END", literal(w.Legacy), literal(tenant), t.columnType(), t.tenant())
}

// AddColumn adds the tenant's column without a rewrite of the table: a default that is set after
// the column holds for new rows only.
func (w Wall) AddColumn(t Table, tenant string) string {
	c := Ident(t.Column)
	return fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s,\n    ALTER COLUMN %[2]s SET DEFAULT %[4]s", t, c, t.columnType(), w.adoptedDefault(t, tenant))
}

// SetDefault replaces the default of the tenant's column.
func (w Wall) SetDefault(t Table, tenant string) string {
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", t, Ident(t.Column), w.adoptedDefault(t, tenant))
}

// Backfill gives all rows without a tenant to one, a few blocks at a time, each in a transaction
// of its own. It never waits for a row, and comes back for those that were locked.
func Backfill(t Table, tenant string, blocks int) string {
	return fmt.Sprintf(`DO $tenancy$
DECLARE
    tenant CONSTANT %[3]s := %[4]s;
    block bigint;
    first tid;
    behind tid;
BEGIN
    WHILE EXISTS (SELECT FROM %[1]s WHERE %[2]s IS NULL) LOOP
        block := 0;
        WHILE block <= pg_catalog.pg_relation_size(%[5]s::pg_catalog.regclass) / pg_catalog.current_setting('block_size')::bigint LOOP
            first := '(' || block || ',0)';
            behind := '(' || block + %[6]d || ',0)';
            WITH batch AS (
                SELECT ctid FROM %[1]s WHERE ctid >= first AND ctid < behind AND %[2]s IS NULL FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE %[1]s AS t SET %[2]s = tenant FROM batch WHERE t.ctid = batch.ctid;
            COMMIT;
            block := block + %[6]d;
        END LOOP;
        PERFORM pg_catalog.pg_sleep(0.05);
    END LOOP;
END
$tenancy$`, t, Ident(t.Column), t.columnType(), literal(tenant), literal(t.String()), blocks)
}

// NotNull makes the column NOT NULL: the table is read while others write, and the lock that they
// feel is short.
func NotNull(t Table) (add, validate, set string) {
	column, check := Ident(t.Column), Ident("tenancy_not_null")
	return fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s,\n    ADD CONSTRAINT %[2]s CHECK (%s IS NOT NULL) NOT VALID", t, check, column),
		fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", t, check),
		fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL,\n    DROP CONSTRAINT %s", t, column, check)
}

// DropInvalid drops an index that a broken CREATE INDEX CONCURRENTLY left behind.
func DropInvalid(t Table, index string) string {
	name := Ident(t.Schema) + "." + Ident(index)
	return fmt.Sprintf(`DO $tenancy$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass(%s) AND NOT indisvalid) THEN
        EXECUTE %s;
    END IF;
END
$tenancy$`, literal(name), literal("DROP INDEX "+name))
}

// Index is the name and the definition of the index that begins with the tenant's column.
func (t Table) Index() (name, create string) {
	return t.indexName(), fmt.Sprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s (%s)", Ident(t.indexName()), t, Ident(t.Column))
}

// AddKey makes the unique index that a key is replaced by.
func (k OldKey) AddKey(t Table) string {
	return fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS %s ON %s USING btree (%s, %s", Ident(k.New()), t, Ident(t.Column), k.Columns)
}

// Replace lets the new key take the place and the name of the old one.
func (k OldKey) Replace(t Table) []string {
	if k.Constraint == "" {
		schema := Ident(t.Schema)
		return []string{
			fmt.Sprintf("DROP INDEX CONCURRENTLY IF EXISTS %s.%s", schema, Ident(k.Index)),
			fmt.Sprintf("ALTER INDEX %s.%s RENAME TO %s", schema, Ident(k.New()), Ident(k.Index)),
		}
	}
	kind := "UNIQUE"
	if k.Primary {
		kind = "PRIMARY KEY"
	}
	return []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s,\n    ADD CONSTRAINT %[2]s %s USING INDEX %s%s",
		t, Ident(k.Constraint), kind, Ident(k.New()), k.Deferrable)}
}

// Add makes the foreign key with the tenant, Validate reads the rows that are there, Replace lets
// it take the name of the old one.
func (r OldReference) Add(child, parent Table) string {
	actions := ""
	if r.OnDelete != "" {
		actions += " ON DELETE " + r.OnDelete
	}
	if strings.HasPrefix(r.OnDelete, "SET ") {
		actions += " (" + r.Columns + ")"
	}
	if r.OnUpdate != "" {
		actions += " ON UPDATE " + r.OnUpdate
	}
	return fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s,\n    ADD CONSTRAINT %[2]s FOREIGN KEY (%s, %s) REFERENCES %s (%s, %s)%s%s NOT VALID",
		child, Ident(r.New()), Ident(child.Column), r.Columns, parent, Ident(parent.Column), r.Keys, actions, r.Deferrable)
}

// Validate reads the rows that were there before Add.
func (r OldReference) Validate(child Table) string {
	return fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", child, Ident(r.New()))
}

// Replace drops the old foreign key, and then gives its name to the new one.
func (r OldReference) Replace(child Table) []string {
	return []string{
		fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", child, Ident(r.Constraint)),
		fmt.Sprintf("ALTER TABLE %s RENAME CONSTRAINT %s TO %s", child, Ident(r.New()), Ident(r.Constraint)),
	}
}

// Force lets row security hold for the table's owner as well, or no longer.
func Force(t Table, on bool) string {
	if on {
		return fmt.Sprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", t)
	}
	return fmt.Sprintf("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", t)
}

// UpSecurity is the part of UpTable that needs neither scan nor rewrite.
func (w Wall) UpSecurity(t Table, have State) string {
	have.Default, have.NotNull, have.Index = true, true, true
	return w.UpTable(t, have)
}
