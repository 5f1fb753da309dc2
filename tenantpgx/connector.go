package tenantpgx

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Connector opens connections by pgx. It is a driver.Connector that isolation.PostgreSQL and
// sql.OpenDB take. It may be used concurrently.
type Connector struct {
	inner        driver.Connector
	descriptions *descriptions
}

var _ driver.Connector = (*Connector)(nil)

// NewConnector returns a connector for a URL or DSN, as pgx.ParseConfig reads it. It does no I/O.
func NewConnector(url string, opts ...stdlib.OptionOpenDB) (*Connector, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("tenantpgx: %w", err)
	}
	return NewConnectorConfig(config, opts...)
}

// NewConnectorConfig returns a connector for a config that came from pgx.ParseConfig and was
// edited. The config is copied. Its DefaultQueryExecMode counts only for what the application does
// with the connection beneath (isolation.Raw); where it is pgx's default, it becomes
// QueryExecModeExec, which a pooler in transaction mode can stand. Its Tracer sees the statements of
// a [Pool] and of isolation.DB as their caller wrote them, and those that the application runs on the
// connection beneath; not those of this library, nor those of a plain sql.OpenDB.
func NewConnectorConfig(config *pgx.ConnConfig, opts ...stdlib.OptionOpenDB) (*Connector, error) {
	config = config.Copy()
	if config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	// pgx's own caches would describe statements once per connection; descriptions does so once
	// for all of them.
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	if config.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe {
		config.DescriptionCacheCapacity = maxDescriptions
	}
	return &Connector{
		inner:        stdlib.GetConnector(*config, opts...),
		descriptions: newDescriptions(maxDescriptions),
	}, nil
}

// Connect opens a connection; it is a [*Conn]. One more round trip finds out whether there is a
// pooler between.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := newConn(inner.(*stdlib.Conn), c.descriptions)
	if err := conn.findPooler(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// Driver returns pgx's driver.
func (c *Connector) Driver() driver.Driver { return c.inner.Driver() }
