package isolation

import (
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
)

var (
	// ErrPoolExhausted says that no connection became free in time. The caller's context error,
	// if that ended the wait, is in the tree as well.
	// It is a [tenancy.ErrUnavailable] too, which tenanthttp.WriteError answers with 503.
	ErrPoolExhausted error = exhausted{tenancy.NewError(tenancy.CodeTenant, "no database connection became free: "+
		"raise isolation.PoolConfig.MaxConns or MaxPerTenant, or close rows and transactions sooner")}
	// ErrSessionUnsupported says that several statements on one sql.Conn need a session, and that
	// the connection has none: it goes through a pooler.
	ErrSessionUnsupported = tenancy.NewError(tenancy.CodeTenant, "the connection goes through a pooler and has no session: "+
		"use a transaction (db.BeginTx), or connect this server directly, past the pooler")
	// ErrNoSystemLogin says that system scope was asked of a server without a system login.
	ErrNoSystemLogin = tenancy.NewError(tenancy.CodeTenant, "the server has no system login: "+
		"set System in its configuration, or do the work per tenant with Tenancy.Each")
	// ErrTransactionControl says that a statement's text begins or ends a transaction.
	ErrTransactionControl = tenancy.NewError(tenancy.CodeTenant, "the statement controls the transaction that carries the tenant: "+
		"use db.BeginTx, tx.Commit and tx.Rollback, not the text of the statement")
	// ErrNoTransaction says that a statement cannot run in the transaction that carries the tenant.
	ErrNoTransaction = tenancy.NewError(tenancy.CodeTenant, "the statement cannot run inside a transaction, and the tenant is bound by one: "+
		"run maintenance as the migrator, on its own *sql.DB; on a direct connection db.Conn(ctx) runs it unbound")
	// ErrSeveralStatements says that one text holds several statements. The second could end the
	// transaction that carries the tenant.
	ErrSeveralStatements = tenancy.NewError(tenancy.CodeTenant, "the text holds several statements: "+
		"send one per call, in a transaction if they belong together")
	// ErrMissing says that the place of a tenant does not exist.
	ErrMissing = tenancy.NewError(tenancy.CodeProvisioning, "the tenant's database does not exist: "+
		"provision the tenant (Lifecycle.Provision), or restore its file")
	// ErrUnsupported says that a strategy does not work on a server. It is in the tree of the
	// error that says why and what to do.
	ErrUnsupported = tenancy.NewError(tenancy.CodeConfig, "not supported")
	// ErrConnectionLost says that the connection broke while a statement may have been under way.
	// Whether it took effect is not known; it is never repeated silently.
	ErrConnectionLost = tenancy.NewError(tenancy.CodeTenant, "the database connection was lost and the statement may have run: "+
		"read before you repeat it")
	// ErrClosed says that the DB was closed.
	ErrClosed = errors.New("isolation: the database is closed")
)

// unsupported builds the error of a combination that does not work.
func unsupported(strategy string, engine Engine, remedy string) error {
	return fmt.Errorf("strategy %q on %s: %w: %s", strategy, engine, ErrUnsupported, remedy)
}

// exhausted is an error that is of two kinds.
type exhausted struct{ error }

func (e exhausted) Code() tenancy.Code { return tenancy.CodeOf(e.error) }

func (exhausted) Is(target error) bool { return target == tenancy.ErrUnavailable }
