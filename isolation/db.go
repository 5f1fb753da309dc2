package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"lexigram.dev/tenancy"
)

// DB is a *sql.DB whose every call runs inside the tenant of its context. Give its DB field to
// what wants a plain *sql.DB; that is as safe.
//
// It has no limit of its own: SetMaxOpenConns on it would let one busy tenant starve the others.
// [PoolConfig] bounds the connections.
type DB struct {
	*sql.DB
	connector *connector
}

// Open returns a DB over the servers of config. It reports all problems of config at once and
// does no I/O; [DB.Check] does.
func Open(config Config) (*DB, error) {
	s, err := config.settle()
	if err != nil {
		return nil, err
	}
	c := &connector{settled: s, pool: newPool(s.pool)}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(s.pool.MaxConns) // a virtual connection holds nothing while idle
	return &DB{DB: db, connector: c}, nil
}

// Conn leases one connection for several statements. It belongs to the tenant of ctx, each
// statement on it is bound by itself, and what the statements leave on the session is gone when
// it is closed. Behind a pooler its statements fail with [ErrSessionUnsupported].
func (db *DB) Conn(ctx context.Context) (*sql.Conn, error) {
	return db.DB.Conn(context.WithValue(ctx, sessionKey{}, true))
}

// InTx runs fn in a transaction of ctx's tenant: it commits when fn returns nil, and rolls back
// when fn fails or panics. fn's error comes back as it is.
func (db *DB) InTx(ctx context.Context, opts *sql.TxOptions, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// PoolStats counts the connections under db. db.Stats counts virtual ones.
func (db *DB) PoolStats() PoolStats { return db.connector.pool.snapshot() }

// Check asks every server whether its walls stand: see [RLS.Check]. It refuses connectors whose driver
// prepares statements that a pooler loses, and asks the strategies that are a [Checker]. Call it at the
// start of the program and do not serve if it fails. It reports all findings at once.
func (db *DB) Check(ctx context.Context) error {
	servers := db.connector.servers
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		if server, ok := servers[name].(home); ok {
			if err := server.check(ctx, db.connector.strategiesOn(server)); err != nil {
				errs = append(errs, fmt.Errorf("server %q: %w", name, err))
			}
		}
		if err := db.connector.registry.check(ctx, servers[name]); err != nil {
			errs = append(errs, fmt.Errorf("server %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Raw gives fn the driver's own connection, leased for the tenant of ctx: a *tenantpgx.Conn, or
// whatever the driver's type is. Where connections are shared between tenants, fn runs inside a
// bound transaction, which is committed when it returns nil; it must not end it. The connection is
// reset, or closed, afterwards and must not be kept.
func Raw(ctx context.Context, db *DB, fn func(driverConn any) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	err = c.Raw(func(virtual any) error { return virtual.(*conn).raw(ctx, fn) })
	return errors.Join(err, c.Close())
}

// connector makes the virtual connections of a DB.
type connector struct {
	*settled
	pool *pool
}

var _ driver.Connector = (*connector)(nil)

// Connect returns a virtual connection. It does no I/O.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	v := &conn{connector: c}
	v.start(ctx)
	return v, nil
}

// Driver returns a driver that cannot open anything by name.
func (c *connector) Driver() driver.Driver { return virtualDriver{} }

// Close closes the pools; (*sql.DB).Close calls it.
func (c *connector) Close() error { return c.pool.close() }

type virtualDriver struct{}

func (virtualDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("isolation: open tenants' databases with isolation.Open")
}

// recordSystem tells the log and the application that system scope is used.
func (c *connector) recordSystem(ctx context.Context, reason string) {
	c.logger.LogAttrs(ctx, slog.LevelInfo, "tenancy: system scope", slog.String("reason", reason))
	if c.onSystem != nil {
		c.onSystem(ctx, reason)
	}
}

// owner is whom a leased connection belongs to.
type owner struct {
	kind       ownerKind
	tenant     string
	generation int64
}

type ownerKind uint8

const (
	ownerNone ownerKind = iota
	ownerTenant
	ownerSystem
	ownerUnbound // a version query, which belongs to nobody
)

// systemShare is what the system's connections are counted under; no id can be empty.
const systemShare = ""

func ownerOf(s tenancy.Scope) owner {
	if s.System() {
		return owner{kind: ownerSystem}
	}
	return owner{kind: ownerTenant, tenant: s.Tenant.ID, generation: s.Tenant.Placement.Generation}
}

func (o owner) String() string {
	switch o.kind {
	case ownerTenant:
		return fmt.Sprintf("tenant %q", o.tenant)
	case ownerSystem:
		return "the system"
	default:
		return "nobody"
	}
}
