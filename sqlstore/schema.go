package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

//go:embed schema/*/*.sql
var schemaFiles embed.FS

// Schema returns the catalogue's DDL, one file per version: 0001_catalogue.sql and so on.
// Each file records its own version, so that what a DBA applies by hand, in order, and what
// [Store.Migrate] applies are the same. For PostgreSQL the tables are in the schema
// "tenancy"; for another, replace that word with its quotes. An unknown dialect has no files.
func Schema(d Dialect) fs.FS {
	files, err := fs.Sub(schemaFiles, path.Join("schema", string(d)))
	if err != nil { // not a valid path, so no dialect of ours
		return embed.FS{}
	}
	return files
}

// SchemaError says that the catalogue's tables are not those that this program works with.
type SchemaError struct {
	Have int // the version found, 0 for none
	Want int // the version of this program, which also works with the one before
}

func (e *SchemaError) Error() string {
	switch {
	case e.Have == 0:
		return "the database holds no catalogue of tenants: call Store.Migrate, or apply the files of sqlstore.Schema"
	case e.Have < e.Want:
		return fmt.Sprintf("the catalogue of tenants has version %d, this program needs %d: "+
			"call Store.Migrate, or apply the newer files of sqlstore.Schema", e.Have, e.Want)
	default:
		return fmt.Sprintf("the catalogue of tenants has version %d, this program knows %d at most: "+
			"deploy a newer version of the program", e.Have, e.Want)
	}
}

// Code returns tenancy.CodeTenant.
func (e *SchemaError) Code() tenancy.Code { return tenancy.CodeTenant }

// migration is one file of the schema.
type migration struct {
	name       string
	version    int
	statements []string
}

// migrations reads the files of a dialect, in order of version.
func migrations(d Dialect) ([]migration, error) {
	files := Schema(d)
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("schema file %s: the name must begin with %04d_", entry.Name(), i+1)
		}
		text, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return nil, err
		}
		var statements []string
		for _, s := range strings.SplitAfter(string(text), ";\n") {
			if s = strings.TrimSpace(s); s != "" {
				statements = append(statements, s)
			}
		}
		all = append(all, migration{entry.Name(), version, statements})
	}
	return all, nil
}

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version returns the version of the catalogue's tables, 0 when there are none.
func (s *Store) version(ctx context.Context, q querier) (int, error) {
	var tables int
	if err := q.QueryRowContext(ctx, s.dialect.hasVersion).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	var version int
	err := q.QueryRowContext(ctx, s.query("SELECT coalesce(max(version), 0) FROM tenancy.schema_versions")).Scan(&version)
	return version, err
}

// Check returns a [*SchemaError] when the catalogue's tables are missing, older or newer than
// this program works with, and an error when connections are not set up as the engine needs.
// Every other method checks once, before its first use of the database.
func (s *Store) Check(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("check the catalogue of tenants: %w", err)
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	have, err := s.version(ctx, conn)
	if err != nil {
		return fmt.Errorf("check the catalogue of tenants: %w", withCause(ctx, err))
	}
	if err := checkVersion(have, len(s.migrations)); err != nil {
		return err
	}
	s.found.Store(int64(have))
	s.foundAt.Store(time.Now().UnixNano())
	return nil
}

// checkVersion accepts the version of the program and the one before it.
func checkVersion(have, want int) error {
	if have < 1 || have < want-1 || have > want {
		return &SchemaError{Have: have, Want: want}
	}
	return nil
}

// connectTimeout bounds how long a connection is tried again that others do not let in.
const connectTimeout = 30 * time.Second

// connect returns a connection that is set up as the engine needs.
func (s *Store) connect(ctx context.Context) (*sql.Conn, error) {
	for began := time.Now(); ; {
		conn, err := s.db.Conn(ctx)
		if err == nil && s.dialect.check != nil {
			if err = s.dialect.check(ctx, conn); err != nil {
				_ = conn.Close() // gives it back to the pool
			}
		}
		if err == nil {
			return conn, nil
		}
		if !s.mayRetry(ctx, err, began) {
			return nil, withCause(ctx, err)
		}
	}
}

// ready checks the schema until it was found to be this program's version; an older one that the
// program works with, once a second.
func (s *Store) ready(ctx context.Context) error {
	found := int(s.found.Load())
	if found == len(s.migrations) || found > 0 && time.Since(time.Unix(0, s.foundAt.Load())) < time.Second {
		return nil
	}
	return s.Check(ctx)
}

// second reports whether the catalogue has version 2, as of when it was last checked.
func (s *Store) second() bool { return s.found.Load() >= 2 }

// needSecond returns a [*SchemaError] when the catalogue is of version 1 yet. It is called after ready.
func (s *Store) needSecond() error {
	if s.second() {
		return nil
	}
	return &SchemaError{Have: int(s.found.Load()), Want: 2}
}

// Migrate brings the catalogue's tables to this program's version, in one transaction; on
// MariaDB, which has none for DDL, a failed one leaves tables of no version and is repeated. It
// may be repeated, and run by several processes at once: they wait for each other. A newer
// catalogue is left alone with a [*SchemaError]. The role needs CREATE on the database and owns
// the tables; on MariaDB it needs ALTER, INDEX, REFERENCES, SELECT and INSERT as well.
func (s *Store) Migrate(ctx context.Context) error {
	for began := time.Now(); ; {
		err := s.migrateOnce(ctx)
		if err == nil {
			s.found.Store(int64(len(s.migrations)))
			return nil
		}
		if !s.mayRetry(ctx, err, began) {
			return fmt.Errorf("migrate the catalogue of tenants: %w", withCause(ctx, err))
		}
	}
}

func (s *Store) migrateOnce(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	if err := s.migrate(ctx, conn); err != nil {
		// The transaction, or the lock, ends with its connection even if the context or the server
		// is gone.
		if _, failed := conn.ExecContext(context.WithoutCancel(ctx), s.dialect.rollback); failed != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		return err
	}
	return nil
}

// mayRetry waits a moment and returns true if err only says that others were setting the file up.
func (s *Store) mayRetry(ctx context.Context, err error, began time.Time) bool {
	if s.dialect.shutOut == nil || !s.dialect.shutOut(err) || time.Since(began) > connectTimeout {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

func (s *Store) migrate(ctx context.Context, conn *sql.Conn) error {
	for _, statement := range s.dialect.lock {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if s.dialect.locked != "" {
		var locked sql.NullInt64
		if err := conn.QueryRowContext(ctx, s.dialect.locked).Scan(&locked); err != nil {
			return err
		}
		if locked.Int64 != 1 {
			return errors.New("the lock of the migration was not given: another one has run for a day, look for it in the server's process list")
		}
	}
	have, err := s.version(ctx, conn)
	if err != nil {
		return err
	}
	if have > len(s.migrations) {
		return &SchemaError{Have: have, Want: len(s.migrations)}
	}
	for _, m := range s.migrations[have:] {
		for _, statement := range m.statements {
			if s.dialect.schema != "" {
				statement = strings.ReplaceAll(statement, `"`+DefaultSchema+`"`, s.dialect.schema)
			}
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	_, err = conn.ExecContext(ctx, s.dialect.commit)
	return err
}
