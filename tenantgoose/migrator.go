package tenantgoose

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// versionTable is where goose keeps a database's version.
const versionTable = goose.DefaultTablename

// tableExists asks without making the table, as goose itself would.
var tableExists = map[isolation.Engine]string{
	isolation.EnginePostgreSQL: "SELECT to_regclass($1) IS NOT NULL",
	isolation.EngineMariaDB:    "SELECT count(*) > 0 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
	isolation.EngineSQLite:     "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = ?",
}

// Another process may be migrating the same database. PostgreSQL has a lock to wait for; for a
// SQLite file the loser of a race tries again.
const (
	maxAttempts  = 20
	attemptPause = 100 * time.Millisecond
	lockTries    = 600 // one each second, for PostgreSQL's lock
)

// Migrator applies goose migrations to the databases of tenants. Make one with [New]. It is safe
// for concurrent use, also by several processes: on PostgreSQL and MariaDB by a lock of the session,
// on SQLite because each migration and its version are one transaction.
//
// MariaDB commits at each statement that changes a table. A migration that fails there leaves the
// statements before the failure: write one such statement per file, or with IF NOT EXISTS.
type Migrator struct {
	files map[isolation.Engine]fs.FS

	mu   sync.Mutex
	busy map[string]*sync.Mutex // by target: calls of this process take turns
}

var _ isolation.Migrator = (*Migrator)(nil)

// New returns a migrator with one folder of goose's SQL files per engine. A folder without
// migrations, or with one that goose cannot read, is an error; so is no folder at all.
func New(files map[isolation.Engine]fs.FS) (*Migrator, error) {
	if len(files) == 0 {
		return nil, errors.New("tenantgoose: no migrations: give a folder of .sql files for each engine")
	}
	var problems []error
	for engine, folder := range files {
		if _, err := dialect(engine); err != nil {
			problems = append(problems, err)
		}
		names, err := fs.Glob(folder, "*.sql")
		if err == nil && len(names) == 0 {
			err = errors.New("there are no .sql files")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("tenantgoose: migrations for %s: %w", engine, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &Migrator{files: files, busy: map[string]*sync.Mutex{}}, nil
}

// Migrate applies what is missing and returns the version that the target is at then. An error
// is [tenancy.ErrMigration]; migrations that were applied before it stay applied, and Migrate may
// be repeated.
func (m *Migrator) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	defer m.take(target)()
	version, err := m.up(ctx, target)
	for attempt := 1; err != nil && target.Engine == isolation.EngineSQLite && attempt < maxAttempts; attempt++ {
		// Whoever lost the race for a version finds it applied at the next attempt.
		reached, versionErr := m.Version(ctx, target)
		if versionErr == nil && reached <= version {
			break // nobody else got on either: the migration itself is at fault
		}
		select {
		case <-ctx.Done():
			return 0, failed(target, errors.Join(err, context.Cause(ctx)))
		case <-time.After(attemptPause):
		}
		version, err = m.up(ctx, target)
	}
	if err != nil {
		return 0, failed(target, err)
	}
	return version, nil
}

// up returns the version that it reached, or with an error the one that it began at.
func (m *Migrator) up(ctx context.Context, target isolation.Target) (int64, error) {
	before, err := m.Version(ctx, target)
	if err != nil {
		return -1, err
	}
	provider, err := m.provider(target)
	if err != nil {
		return before, err
	}
	if target.Engine == isolation.EngineMariaDB {
		if err := prepare(ctx, target); err != nil {
			return before, err
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		return before, err
	}
	return provider.GetDBVersion(ctx)
}

// Version returns the version that the target is at, 0 before the first migration. It changes
// nothing.
func (m *Migrator) Version(ctx context.Context, target isolation.Target) (int64, error) {
	d, err := dialect(target.Engine)
	if err != nil {
		return 0, err
	}
	store, err := database.NewStore(d, versionTable)
	if err != nil {
		return 0, failed(target, err)
	}
	var exists bool
	if err := target.DB.QueryRowContext(ctx, tableExists[target.Engine], versionTable).Scan(&exists); err != nil {
		return 0, failed(target, err)
	}
	if !exists {
		return 0, nil
	}
	version, err := store.GetLatestVersion(ctx, target.DB)
	if errors.Is(err, database.ErrVersionNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, failed(target, err)
	}
	return version, nil
}

func (m *Migrator) provider(target isolation.Target) (*goose.Provider, error) {
	folder, ok := m.files[target.Engine]
	if !ok {
		return nil, fmt.Errorf("there are no migrations for %s: give them to tenantgoose.New", target.Engine)
	}
	d, err := dialect(target.Engine)
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable)}
	switch target.Engine {
	case isolation.EngineMariaDB:
		options = append(options, goose.WithSessionLocker(newNamedLock(lockID(target))))
	case isolation.EnginePostgreSQL:
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID(target)), lock.WithLockTimeout(1, lockTries))
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(d, target.DB, folder, options...)
}

// lockID keeps two migrations of one target apart and lets those of different tenants in one
// database run side by side.
func lockID(target isolation.Target) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("goose " + target.Tenant + " " + target.Name)) // it cannot fail
	return int64(h.Sum64())
}

// take waits for this process's other call for the target and returns what lets the next one in.
func (m *Migrator) take(target isolation.Target) (release func()) {
	key := string(target.Engine) + " " + target.Tenant + " " + target.Name
	m.mu.Lock()
	turn, ok := m.busy[key]
	if !ok {
		turn = &sync.Mutex{}
		m.busy[key] = turn
	}
	m.mu.Unlock()
	turn.Lock()
	return turn.Unlock
}

func dialect(engine isolation.Engine) (database.Dialect, error) {
	switch engine {
	case isolation.EnginePostgreSQL:
		return database.DialectPostgres, nil
	case isolation.EngineMariaDB:
		return database.DialectMySQL, nil
	case isolation.EngineSQLite:
		return database.DialectSQLite3, nil
	default:
		return "", fmt.Errorf("tenantgoose: %q is no engine that it can migrate: use %s, %s or %s",
			engine, isolation.EnginePostgreSQL, isolation.EngineMariaDB, isolation.EngineSQLite)
	}
}

func failed(target isolation.Target, err error) error {
	if errors.Is(err, tenancy.ErrMigration) {
		return err
	}
	return fmt.Errorf("%w: database %q: %w", tenancy.ErrMigration, target.Name, err)
}
