package tenantpgx

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy/isolation"
)

// maxOpened bounds the connectors that an opener keeps.
const maxOpened = 4096

// Opener returns a function for isolation.Databases: it connects to any database of the server
// that the URL names, as the URL's own user where the login says none. The server, its TLS and all
// other parameters are the URL's. The function may be called concurrently; for equal logins it
// returns one connector, so that what is known of their statements is shared.
func Opener(url string) (func(isolation.Login) (driver.Connector, error), error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("tenantpgx: %w", err)
	}
	return OpenerConfig(config), nil
}

// OpenerConfig is Opener for a config that came from pgx.ParseConfig and was edited. The config is copied.
// Its Tracer, as [NewConnectorConfig] says, sees what the callers' statements are in every tenant's
// database; the options are those of each connector.
func OpenerConfig(config *pgx.ConnConfig, opts ...stdlib.OptionOpenDB) func(isolation.Login) (driver.Connector, error) {
	o := &opener{config: config.Copy(), options: slices.Clone(opts), opened: make(map[isolation.Login]*Connector)}
	return o.open
}

type opener struct {
	config  *pgx.ConnConfig
	options []stdlib.OptionOpenDB

	mu     sync.Mutex
	opened map[isolation.Login]*Connector
}

func (o *opener) open(login isolation.Login) (driver.Connector, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.opened[login]; c != nil {
		return c, nil
	}
	config := o.config.Copy()
	config.Database = login.Database
	if login.User != "" {
		config.User, config.Password = login.User, login.Password
	}
	c, err := NewConnectorConfig(config, o.options...)
	if err != nil {
		return nil, err
	}
	if len(o.opened) >= maxOpened {
		clear(o.opened) // they are cheap to make again
	}
	o.opened[login] = c
	return c, nil
}
