package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// Dialect is the engine behind a *sql.DB.
type Dialect string

// The engines that hold a catalogue.
const (
	PostgreSQL Dialect = "postgresql" // 12 or later
	SQLite     Dialect = "sqlite"     // 3.35 or later
	MariaDB    Dialect = "mariadb"    // 10.6 or later, and MySQL 8.0 or later
)

// DefaultSchema is the PostgreSQL schema that holds the catalogue.
const DefaultSchema = "tenancy"

// dialect is what differs between the engines. Queries are written once, with tables as
// tenancy.x and values as ?.
type dialect struct {
	tables     string // what stands for "tenancy." in a query
	schema     string // what stands for "tenancy", quotes included, in a schema file
	numbered   bool   // placeholders are $1, $2, …
	txOptions  *sql.TxOptions
	returning  bool     // UPDATE … RETURNING exists
	forceIndex bool     // a row's value cannot bound a range: an index is named instead
	lock       []string // begin a transaction that keeps other migrations out
	locked     string   // a query that answers 1 once others are kept out, or ""
	commit     string   // end a migration
	rollback   string
	hasVersion string // a query that answers whether the table schema_versions exists
	// check returns an error when connections are not set up as the engine needs; nil checks nothing.
	check func(ctx context.Context, q querier) error
	// shutOut says whether a new connection failed only because others were setting the file up;
	// nil never.
	shutOut   func(error) bool
	timeValue func(time.Time) any
	// lostRace says whether a write that failed is to be tried again, else its error; nil never.
	lostRace func(err error, attempt int) (again bool, _ error)
}

func newDialect(name Dialect, schema string) (dialect, error) {
	switch name {
	case PostgreSQL:
		if schema == "" {
			schema = DefaultSchema
		}
		if len(schema) > 63 || strings.ContainsRune(schema, 0) {
			return dialect{}, fmt.Errorf("schema %q is not valid: use at most 63 bytes without NUL", schema)
		}
		quoted := `"` + strings.ReplaceAll(schema, `"`, `""`) + `"`
		return dialect{
			tables:    quoted + ".",
			schema:    quoted,
			numbered:  true,
			returning: true,
			// A writer that waited for the revision must see what the writer before it did,
			// whatever the database's default is.
			txOptions: &sql.TxOptions{Isolation: sql.LevelReadCommitted},
			lock: []string{
				"BEGIN ISOLATION LEVEL READ COMMITTED",
				fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", lockKey(schema)),
			},
			commit:   "COMMIT",
			rollback: "ROLLBACK",
			hasVersion: "SELECT count(*) FROM pg_catalog.pg_class AS c " +
				"JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " +
				"WHERE c.relname = 'schema_versions' AND n.nspname = '" + strings.ReplaceAll(schema, "'", "''") + "'",
			timeValue: func(t time.Time) any { return t },
		}, nil
	case SQLite:
		if schema != "" {
			return dialect{}, fmt.Errorf("schema %q cannot be used: SQLite has no schemas, its tables begin with tenancy_", schema)
		}
		return dialect{
			tables:     "tenancy_",
			returning:  true,
			lock:       []string{"BEGIN IMMEDIATE"},
			commit:     "COMMIT",
			rollback:   "ROLLBACK",
			hasVersion: "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'tenancy_schema_versions'",
			check:      checkSQLite,
			shutOut:    lockedOutOfSQLite,
			timeValue:  microseconds,
		}, nil
	case MariaDB:
		if schema != "" {
			return dialect{}, fmt.Errorf("schema %q cannot be used: on MariaDB the catalogue is in the database that the DSN names, its tables begin with tenancy_", schema)
		}
		return mariaDB, nil
	default:
		return dialect{}, fmt.Errorf("dialect %q is not known: use sqlstore.PostgreSQL, sqlstore.MariaDB or sqlstore.SQLite", name)
	}
}

func microseconds(t time.Time) any { return t.UnixMicro() }

func checkSQLite(ctx context.Context, q querier) error {
	var timeout int64
	if err := q.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout); err != nil {
		return err
	}
	if timeout <= 0 {
		return errors.New("SQLite connections have no busy timeout, so that a second writer would fail at once: " +
			"open the database with _pragma=busy_timeout(10000) (modernc.org/sqlite) or _busy_timeout=10000 (mattn/go-sqlite3)")
	}
	return nil
}

// lockedOutOfSQLite recognizes the error of a connection that meets another one which turns the
// file's journal to WAL: the engine does not wait there, whatever the busy timeout is. The text is
// SQLite's own and the same in every driver.
func lockedOutOfSQLite(err error) bool { return strings.Contains(err.Error(), "database is locked") }

// query writes a query in the engine's words.
func (d dialect) query(text string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(text, "?")
		b.WriteString(strings.ReplaceAll(before, "tenancy.", d.tables))
		if !found {
			return b.String()
		}
		if d.numbered {
			b.WriteString("$" + strconv.Itoa(n))
		} else {
			b.WriteByte('?')
		}
		text = after
	}
}

// time returns t as a parameter; the zero time is NULL.
func (d dialect) time(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return d.timeValue(t)
}

// instant scans a time as any engine returns it, in UTC; NULL is the zero time.
type instant struct{ to *time.Time }

func (i instant) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*i.to = time.Time{}
	case time.Time:
		*i.to = v.UTC()
	case int64:
		*i.to = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time cannot be read from %T", src)
	}
	return nil
}

func lockKey(schema string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("lexigram.dev/tenancy " + schema)) // never fails
	return int64(h.Sum64())                                  // any 64 bits will do
}
