package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// The functions of this file call a driver's connection as database/sql would.

// convert checks the values of a statement: by the driver's checker, else by its converter for
// the column, else by the default.
func convert(c driver.Conn, s driver.Stmt, args []driver.NamedValue) ([]driver.NamedValue, error) {
	checker, _ := c.(driver.NamedValueChecker)
	if own, ok := s.(driver.NamedValueChecker); ok {
		checker = own
	}
	columns, _ := s.(driver.ColumnConverter) //nolint:staticcheck // older drivers know nothing else
	kept := args[:0]
	for _, arg := range args {
		arg.Ordinal = len(kept) + 1
		err := driver.ErrSkip
		if checker != nil {
			err = checker.CheckNamedValue(&arg)
		}
		if errors.Is(err, driver.ErrSkip) {
			var converter driver.ValueConverter = driver.DefaultParameterConverter
			if columns != nil {
				converter = columns.ColumnConverter(arg.Ordinal - 1)
			}
			arg.Value, err = converter.ConvertValue(arg.Value)
		}
		switch {
		case errors.Is(err, driver.ErrRemoveArgument):
			continue
		case err != nil && arg.Name != "":
			return nil, fmt.Errorf("sql: converting argument with name %q type: %w", arg.Name, err)
		case err != nil:
			return nil, fmt.Errorf("sql: converting argument $%d type: %w", arg.Ordinal, err)
		}
		kept = append(kept, arg)
	}
	return kept, nil
}

func innerExec(ctx context.Context, c driver.Conn, query string, args []driver.NamedValue) (driver.Result, error) {
	if execer, ok := c.(driver.ExecerContext); ok {
		converted, err := convert(c, nil, args)
		if err != nil {
			return nil, err
		}
		result, err := execer.ExecContext(ctx, query, converted)
		if !errors.Is(err, driver.ErrSkip) {
			return result, err
		}
	}
	s, err := innerPrepare(ctx, c, query)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if args, err = stmtArgs(c, s, args); err != nil {
		return nil, err
	}
	if execer, ok := s.(driver.StmtExecContext); ok {
		return execer.ExecContext(ctx, args)
	}
	values, err := positional(args)
	if err != nil {
		return nil, err
	}
	return s.Exec(values) //nolint:staticcheck // older drivers know nothing else
}

func innerQuery(ctx context.Context, c driver.Conn, query string, args []driver.NamedValue) (driver.Rows, error) {
	if queryer, ok := c.(driver.QueryerContext); ok {
		converted, err := convert(c, nil, args)
		if err != nil {
			return nil, err
		}
		rows, err := queryer.QueryContext(ctx, query, converted)
		if !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
	}
	s, err := innerPrepare(ctx, c, query)
	if err != nil {
		return nil, err
	}
	rows, err := stmtQuery(ctx, c, s, args)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return &stmtRows{boundRows{Rows: rows}, s}, nil
}

func stmtQuery(ctx context.Context, c driver.Conn, s driver.Stmt, args []driver.NamedValue) (driver.Rows, error) {
	args, err := stmtArgs(c, s, args)
	if err != nil {
		return nil, err
	}
	if queryer, ok := s.(driver.StmtQueryContext); ok {
		return queryer.QueryContext(ctx, args)
	}
	values, err := positional(args)
	if err != nil {
		return nil, err
	}
	return s.Query(values) //nolint:staticcheck // older drivers know nothing else
}

// stmtRows close the statement that was prepared for them. Of boundRows they take the optional
// interfaces only.
type stmtRows struct {
	boundRows
	stmt driver.Stmt
}

func (r *stmtRows) Next(dest []driver.Value) error { return r.Rows.Next(dest) }
func (r *stmtRows) Close() error                   { return errors.Join(r.Rows.Close(), r.stmt.Close()) }

func innerPrepare(ctx context.Context, c driver.Conn, query string) (driver.Stmt, error) {
	if preparer, ok := c.(driver.ConnPrepareContext); ok {
		return preparer.PrepareContext(ctx, query)
	}
	return c.Prepare(query)
}

func stmtArgs(c driver.Conn, s driver.Stmt, args []driver.NamedValue) ([]driver.NamedValue, error) {
	args, err := convert(c, s, args)
	if err != nil {
		return nil, err
	}
	if n := s.NumInput(); n >= 0 && n != len(args) {
		return nil, fmt.Errorf("sql: expected %d arguments, got %d", n, len(args))
	}
	return args, nil
}

func positional(args []driver.NamedValue) ([]driver.Value, error) {
	values := make([]driver.Value, len(args))
	for i, arg := range args {
		if arg.Name != "" {
			return nil, errors.New("sql: driver does not support the use of Named Parameters")
		}
		values[i] = arg.Value
	}
	return values, nil
}

func innerBegin(ctx context.Context, c driver.Conn, opts driver.TxOptions) (driver.Tx, error) {
	if beginner, ok := c.(driver.ConnBeginTx); ok {
		return beginner.BeginTx(ctx, opts)
	}
	switch {
	case opts.Isolation != driver.IsolationLevel(sql.LevelDefault):
		return nil, errors.New("sql: driver does not support non-default isolation level")
	case opts.ReadOnly:
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	return c.Begin() //nolint:staticcheck // for drivers without ConnBeginTx
}

// execInner runs a statement of the library's own.
func execInner(ctx context.Context, c driver.Conn, query string) error {
	_, err := innerExec(ctx, c, query, nil)
	return err
}

// The states of PostgreSQL that tell of a statement that does not fit into a transaction.
const (
	stateNoTransaction    = "25001" // active_sql_transaction: VACUUM, CREATE INDEX CONCURRENTLY
	stateEndedTransaction = "2D000" // invalid_transaction_termination: CALL of a procedure with COMMIT
	stateSyntax           = "42601"
	stateParameter        = "22023" // invalid_parameter_value: the role to take does not exist
)

// sqlState returns the SQLSTATE of an error, as drivers for PostgreSQL offer it.
func sqlState(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return ""
}

// explain adds the remedy to errors that come from the way statements are run here. The driver's
// error stays in the tree.
func explain(err error) error {
	switch sqlState(err) {
	case stateNoTransaction, stateEndedTransaction:
		return fmt.Errorf("%w: %w", ErrNoTransaction, err)
	case stateParameter:
		if strings.Contains(err.Error(), "role ") {
			return fmt.Errorf("%w: %w", ErrMissing, err)
		}
	case stateSyntax:
		if strings.Contains(err.Error(), "multiple commands") {
			return fmt.Errorf("%w: %w", ErrSeveralStatements, err)
		}
	}
	return err
}
