package tenantgoose

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/pressly/goose/v3/lock"
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
