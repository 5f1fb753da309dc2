package tenantgoose

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"lexigram.dev/tenancy/isolation"
)

// namedLock keeps two migrations of one MariaDB database apart. It belongs to the session, so that
// a process that dies gives it up.
type namedLock struct{ name string }

var _ lock.SessionLocker = namedLock{}

// newNamedLock stays within the 64 characters that a lock's name may have. Names belong to the
// whole server.
func newNamedLock(id int64) namedLock {
	return namedLock{"tenancy_goose_" + strconv.FormatUint(uint64(id), 16)}
}

// SessionLock waits for the lock as long as PostgreSQL's is waited for.
func (l namedLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", l.name, lockTries).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another migration of this database did not end in time")
	}
	return nil
}

// SessionUnlock gives the lock up.
func (l namedLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	var given sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT RELEASE_LOCK(?)", l.name).Scan(&given); err != nil {
		return err
	}
	if given.Int64 != 1 {
		return errors.New("the lock of the migration was lost while it ran")
	}
	return nil
}

// prepare makes goose's table of versions with its first row. Elsewhere goose does both in one
// transaction; MariaDB commits the table by itself, so that a process that came, or died, between the
// two would leave every other with a table that goose refuses.
func prepare(ctx context.Context, target isolation.Target) (err error) {
	store, err := database.NewStore(database.DialectMySQL, versionTable)
	if err != nil {
		return err
	}
	conn, err := target.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	l := newNamedLock(lockID(target))
	if err := l.SessionLock(ctx, conn); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.SessionUnlock(context.WithoutCancel(ctx), conn)) }()
	var exists bool
	if err := conn.QueryRowContext(ctx, tableExists[target.Engine], versionTable).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if err := store.CreateVersionTable(ctx, conn); err != nil {
			return err
		}
	}
	_, err = store.GetLatestVersion(ctx, conn)
	if errors.Is(err, database.ErrVersionNotFound) {
		return store.Insert(ctx, conn, database.InsertRequest{Version: 0})
	}
	return err
}
