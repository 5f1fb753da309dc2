package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/mariadb"
)

// mariaDBLock is the expression that names the lock of a migration, apart for each database of
// the server.
const mariaDBLock = "concat('tenancy:', sha1(lower(database())))"

var mariaDB = dialect{
	tables: "tenancy_",
	// A writer that waited for the revision must see what the writer before it did, and no
	// statement locks gaps that another one inserts into.
	txOptions: &sql.TxOptions{Isolation: sql.LevelReadCommitted},
	// The engine commits each DDL statement, so that only a lock of the session lasts.
	locked:     "SELECT get_lock(" + mariaDBLock + ", 86400)",
	commit:     "DO release_lock(" + mariaDBLock + ")",
	rollback:   "DO release_lock(" + mariaDBLock + ")",
	hasVersion: "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = 'tenancy_schema_versions'",
	check:      checkMariaDB,
	timeValue:  microseconds,
	forceIndex: true,
	lostRace:   lostRaceOnMariaDB,
}

// checkMariaDB finds what a server or a DSN can set so that values would change or work would
// stay uncommitted. All of it names the remedy.
func checkMariaDB(ctx context.Context, q querier) error {
	var database, charsets sql.NullString
	var mode string
	var autocommit bool
	err := q.QueryRowContext(ctx, "SELECT database(), @@sql_mode, @@autocommit, "+
		"concat_ws(' ', @@character_set_client, @@character_set_connection, @@character_set_results)").
		Scan(&database, &mode, &autocommit, &charsets)
	if err != nil {
		return err
	}
	var problems []error
	if !database.Valid {
		problems = append(problems, errors.New("the connection names no database: open one that has, such as user:password@tcp(host:3306)/catalogue"))
	}
	if !strings.Contains(mode, "STRICT_TRANS_TABLES") && !strings.Contains(mode, "STRICT_ALL_TABLES") {
		problems = append(problems, fmt.Errorf("the sql_mode %q lets the server cut values silently: "+
			"open the database with the parameter sql_mode='STRICT_TRANS_TABLES' (URL-encoded: sql_mode=%%27STRICT_TRANS_TABLES%%27)", mode))
	}
	if charsets.String != "utf8mb4 utf8mb4 utf8mb4" {
		problems = append(problems, fmt.Errorf("the connection's character sets are %q and would change text: "+
			"open the database with charset=utf8mb4, or without a charset", charsets.String))
	}
	if !autocommit {
		problems = append(problems, errors.New("autocommit is off, so that a pooled connection would read an old state for ever: "+
			"open the database without autocommit=false"))
	}
	return errors.Join(problems...)
}

// maxDeadlocks is how often a write is tried that others deadlock with.
const maxDeadlocks = 10

// lostRaceOnMariaDB says what is to become of a write that failed, and of which nothing is left.
func lostRaceOnMariaDB(err error, attempt int) (again bool, _ error) {
	switch number := mariadb.Number(err); {
	case number == mariadb.Deadlock && attempt < maxDeadlocks:
		return true, nil
	case number == mariadb.Deadlock || number == mariadb.LockWaitTimeout:
		return false, fmt.Errorf("%w: others hold the catalogue's rows: %w", tenancy.ErrConflict, err)
	default:
		return false, err
	}
}
