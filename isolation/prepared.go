package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// preparedRounds is how often two connections take turns, each time with another text. In a quiet pool they
// meet at one server process in the first round; in a busy one they change between several, which loses
// statements as well, until the text is prepared in all of them.
const preparedRounds = 12

// checkPrepared refuses a connector whose statements a pooler loses: its driver prepares named ones, and
// in transaction mode another client's transaction finds them, or its own does not. Two connections
// show it, which run one statement in turns, each in a transaction, as tenants' statements run. On
// connections with a server process each, such an error cannot happen.
func checkPrepared(ctx context.Context, field string, connector driver.Connector) error {
	if connector == nil {
		return nil
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var leases [2]*sql.Conn
	for i := range leases {
		c, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		defer func() { _ = c.Close() }() // the database closes as well
		leases[i] = c
	}
	var bound bool
	err := leases[0].Raw(func(c any) error {
		_, bound = c.(BoundConn)
		return nil
	})
	if err != nil || bound { // a BoundConn keeps no names
		return err
	}
	for i := range preparedRounds {
		for _, c := range []*sql.Conn{leases[0], leases[1], leases[0], leases[1]} {
			err := probePrepared(ctx, c, i)
			switch sqlState(err) {
			case stateDuplicateStatement, stateNoStatement:
				return fmt.Errorf("%s: its driver prepares named statements, and a pooler in transaction mode loses them: "+
					"use tenantpgx.NewConnector; or give pgx's own driver default_query_exec_mode=exec, or the server's own address: %w", field, err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
		}
	}
	return nil
}

func probePrepared(ctx context.Context, c *sql.Conn, round int) (err error) {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if end := tx.Rollback(); !errors.Is(end, sql.ErrTxDone) {
			err = errors.Join(err, end)
		}
	}()
	var answer string
	return tx.QueryRowContext(ctx, fmt.Sprintf("SELECT $1::text AS tenancy_prepared_%d", round), "probe").Scan(&answer)
}

// The states of PostgreSQL that tell of a statement prepared for somebody else, or somewhere else.
const (
	stateDuplicateStatement = "42P05"
	stateNoStatement        = "26000"
)
