package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lexigram.dev/tenancy"
)

// Config says where the catalogue is and how it is kept.
type Config struct {
	// Dialect is the engine behind the database. Required.
	Dialect Dialect
	// Schema is the PostgreSQL schema of the catalogue's tables. Defaults to "tenancy". SQLite
	// and MariaDB have none: their tables begin with tenancy_.
	Schema string
	// History is how many changes the change feed remembers. A node that was away for longer
	// drops its caches. Defaults to 10 000.
	History int
	// Now is the clock that dates tenants. Defaults to time.Now.
	Now func() time.Time
}

// Store keeps a catalogue of tenants in a database. It is safe for concurrent use, also by
// several processes. Make one with [New].
type Store struct {
	db         *sql.DB
	dialect    dialect
	migrations []migration
	history    int64
	now        func() time.Time
	queries    sync.Map     // the text of a query → the same in the engine's words
	found      atomic.Int64 // the schema's version when it was last checked, 0 before
	foundAt    atomic.Int64 // when that was, in nanoseconds
}

var (
	_ tenancy.Store       = (*Store)(nil)
	_ tenancy.ConfigStore = (*Store)(nil)
	_ tenancy.MemberStore = (*Store)(nil)
	_ tenancy.ChangeFeed  = (*Store)(nil)
	_ tenancy.Outbox      = (*Store)(nil)
	_ tenancy.DueStore    = (*Store)(nil)
	_ tenancy.NodeStore   = (*Store)(nil)
)

// New returns a store in db. It does not touch the database: call [Store.Migrate] or
// [Store.Check] before the first use. The caller closes db.
func New(db *sql.DB, cfg Config) (*Store, error) {
	var problems []error
	if db == nil {
		problems = append(problems, errors.New("no database: open one with sql.Open"))
	}
	d, err := newDialect(cfg.Dialect, cfg.Schema)
	problems = append(problems, err)
	if cfg.History < 0 {
		problems = append(problems, fmt.Errorf("history %d is not valid: use a number of changes, or 0 for the default", cfg.History))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("new catalogue of tenants: %w", err)
	}
	files, err := migrations(cfg.Dialect)
	if err != nil {
		return nil, fmt.Errorf("new catalogue of tenants: %w", err)
	}
	s := &Store{db: db, dialect: d, migrations: files, history: int64(cfg.History), now: cfg.Now}
	if s.history == 0 {
		s.history = 10_000
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// query returns text in the engine's words.
func (s *Store) query(text string) string {
	if known, ok := s.queries.Load(text); ok {
		return known.(string)
	}
	query := s.dialect.query(text)
	s.queries.Store(text, query)
	return query
}

// row runs a query that answers one row.
func (s *Store) row(ctx context.Context, query string, args ...any) *sql.Row {
	return s.db.QueryRowContext(ctx, s.query(query), args...)
}

// withCause makes sure that an error which came from an ended context says so: some drivers
// only report that the statement was interrupted.
func withCause(ctx context.Context, err error) error {
	if cause := ctx.Err(); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
