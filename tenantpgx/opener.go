package tenantpgx

import (
	"database/sql/driver"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

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
	o := &opener{config: config, opened: make(map[isolation.Login]*Connector)}
	return o.open, nil
}

type opener struct {
	config *pgx.ConnConfig

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
	c, err := NewConnectorConfig(config)
	if err != nil {
		return nil, err
	}
	if len(o.opened) >= maxOpened {
		clear(o.opened) // they are cheap to make again
	}
	o.opened[login] = c
	return c, nil
}
