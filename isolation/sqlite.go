package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lexigram.dev/tenancy"
)

// SQLite is a folder with one database file per tenant, or one file for all of them.
type SQLite struct {
	// Dir is the folder. Required. The first provisioning makes it, for its owner only.
	Dir string
	// Driver is the name under which the program registered a driver with database/sql; "sqlite"
	// is modernc.org/sqlite. Required.
	Driver string
	// BusyTimeout is how long a writer waits for another one. Defaults to 5 seconds.
	BusyTimeout time.Duration
	// Options are further parameters of the DSN, in the language of the driver. For the drivers
	// "sqlite" and "sqlite3", WAL, the busy timeout, foreign keys and immediate transactions are
	// set beside them; another driver gets these Options alone.
	Options url.Values
	// Rows says which tables all tenants share in one file. Required for row_level.
	Rows *SQLiteRows
	// System opens a database for tenancy.AsSystem. Files have no login that sees them all, so
	// without one system scope is refused.
	System driver.Connector
}

// Engine returns EngineSQLite.
func (SQLite) Engine() Engine { return EngineSQLite }

func (s SQLite) validate() error {
	var errs []error
	if s.Dir == "" {
		errs = append(errs, errors.New("SQLite.Dir is empty: name the folder of the tenants' files"))
	}
	switch {
	case s.Driver == "":
		errs = append(errs, errors.New(`SQLite.Driver is empty: import a driver and give its name, such as "sqlite" for modernc.org/sqlite`))
	case !slices.Contains(sql.Drivers(), s.Driver):
		errs = append(errs, fmt.Errorf("SQLite.Driver %q is not registered (there are %q): import the driver's package", s.Driver, sql.Drivers()))
	}
	if s.BusyTimeout < 0 {
		errs = append(errs, errors.New("SQLite.BusyTimeout is negative: leave it 0 for 5 seconds"))
	}
	if s.Rows != nil {
		errs = append(errs, s.Rows.validate())
	}
	return errors.Join(errs...)
}

func (s SQLite) path(name string) string { return filepath.Join(s.Dir, name) }

// memory is a database of no tenant, empty and gone with its connection.
const memory = ":memory:"

// dsn never lets SQLite make a file: a missing one is an error.
func (s SQLite) dsn(name string) string {
	if name == memory {
		return memory
	}
	values := maps.Clone(s.Options)
	if values == nil {
		values = url.Values{}
	}
	busy := strconv.FormatInt(orDefault(s.BusyTimeout, 5*time.Second).Milliseconds(), 10)
	switch s.Driver {
	case "sqlite": // the busy timeout comes first, so that changing the journal waits as well
		values["_pragma"] = append([]string{"busy_timeout(" + busy + ")", "journal_mode(WAL)", "foreign_keys(1)"}, values["_pragma"]...)
		setDefault(values, "_txlock", "immediate")
	case "sqlite3":
		setDefault(values, "_busy_timeout", busy)
		setDefault(values, "_journal_mode", "WAL")
		setDefault(values, "_foreign_keys", "on")
		setDefault(values, "_txlock", "immediate")
	}
	values.Set("mode", "rw")
	// An absolute path, so that a change of the working directory cannot move the tenants.
	path := s.path(name)
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + strings.ReplaceAll(values.Encode(), "+", "%20")
}

func setDefault(values url.Values, key, value string) {
	if !values.Has(key) {
		values.Set(key, value)
	}
}

func (s SQLite) routeSystem(r *Route) error {
	if s.System == nil {
		return fmt.Errorf("%w (each tenant has a file of its own: SQLite.System names a database for the system's tables)", ErrNoSystemLogin)
	}
	r.Pool, r.Connector, r.Engine = Pool{Login: loginSystem}, s.System, EngineSQLite
	return nil
}

func (s SQLite) routeUnbound(r *Route) error {
	r.Pool, r.Connector, r.Engine = Pool{Database: memory}, file{s, memory}, EngineSQLite
	return nil
}

// setup has nothing to do for files that share nothing.
func (s SQLite) setup(ctx context.Context, strategy, name string, m Migrator) (int64, error) {
	if strategy != tenancy.StrategyRowLevel {
		return 0, nil
	}
	return s.setupRows(ctx, name, m)
}

// check has nothing to find in files that share nothing.
func (s SQLite) check(ctx context.Context, strategies []string) error {
	if !slices.Contains(strategies, tenancy.StrategyRowLevel) {
		return nil
	}
	return s.checkRows(ctx)
}

// open returns an ordinary *sql.DB over one file.
func (s SQLite) open(name string) *sql.DB { return sql.OpenDB(file{s, name}) }

// file is the connector of one tenant's file.
type file struct {
	server SQLite
	name   string
}

var _ driver.Connector = file{}

// Connect opens the file. A missing one is ErrMissing.
func (f file) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.name != memory {
		if _, err := os.Stat(f.server.path(f.name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w (%s)", ErrMissing, f.name)
		}
	}
	return f.Driver().Open(f.server.dsn(f.name))
}

// Driver returns the driver that is registered under the server's name.
func (f file) Driver() driver.Driver {
	db, err := sql.Open(f.server.Driver, memory)
	if err != nil {
		return virtualDriver{} // validate has seen the driver; nobody can unregister it
	}
	defer db.Close()
	return db.Driver()
}
