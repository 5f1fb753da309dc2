package isolation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The functions of this file call a driver's connection as database/sql would.

// convert checks the values of a statement, in place: by the driver's checker, else by its converter
// for the column, else by the default.
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
			switch {
			case columns == nil:
				arg.Value, err = driver.DefaultParameterConverter.ConvertValue(arg.Value)
			case arg.Ordinal <= s.NumInput():
				arg.Value, err = columnValue(columns.ColumnConverter(arg.Ordinal-1), arg.Value)
			default: // the driver does not expect the column; the count is checked next
				err = nil
			}
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

// columnValue converts a value by the driver's converter for its column. The converter sees what a
// driver.Valuer returns and not the Valuer.
func columnValue(converter driver.ValueConverter, value any) (converted driver.Value, err error) {
	if _, ok := value.(driver.Valuer); ok {
		if value, err = driver.DefaultParameterConverter.ConvertValue(value); err != nil {
			return nil, err
		}
	}
	if converted, err = converter.ConvertValue(value); err != nil {
		return nil, err
	}
	if !driver.IsValue(converted) {
		return nil, fmt.Errorf("driver ColumnConverter error converted %T to unsupported type %T", value, converted)
	}
	return converted, nil
}

func innerExec(ctx context.Context, c driver.Conn, query string, args []driver.NamedValue) (driver.Result, error) {
	if execer := execerOf(c); execer != nil {
		// A driver that answers ErrSkip gets the values once more, as the caller gave them.
		converted, err := convert(c, nil, slices.Clone(args))
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
	values, err := positional(ctx, args)
	if err != nil {
		return nil, err
	}
	return s.Exec(values) //nolint:staticcheck // older drivers know nothing else
}

func innerQuery(ctx context.Context, c driver.Conn, query string, args []driver.NamedValue) (driver.Rows, error) {
	if queryer := queryerOf(c); queryer != nil {
		converted, err := convert(c, nil, slices.Clone(args))
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
	values, err := positional(ctx, args)
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
	s, err := c.Prepare(query)
	if err == nil && ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), s.Close())
	}
	return s, err
}

// execerOf returns how a connection runs a statement without preparing it; nil if it cannot.
func execerOf(c driver.Conn) driver.ExecerContext {
	switch c := c.(type) {
	case driver.ExecerContext:
		return c
	case driver.Execer: //nolint:staticcheck // older drivers know nothing else
		return oldExecer{c}
	}
	return nil
}

// queryerOf is execerOf for a statement that has rows.
func queryerOf(c driver.Conn) driver.QueryerContext {
	switch c := c.(type) {
	case driver.QueryerContext:
		return c
	case driver.Queryer: //nolint:staticcheck // older drivers know nothing else
		return oldQueryer{c}
	}
	return nil
}

// oldExecer and oldQueryer are of drivers that know no context.
type (
	oldExecer  struct{ driver.Execer }
	oldQueryer struct{ driver.Queryer }
)

func (o oldExecer) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	values, err := positional(ctx, args)
	if err != nil {
		return nil, err
	}
	return o.Exec(query, values)
}

func (o oldQueryer) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	values, err := positional(ctx, args)
	if err != nil {
		return nil, err
	}
	return o.Query(query, values)
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

// positional returns the values for a call that takes no context and no names. After the end of ctx
// there is none: such a call could not be stopped.
func positional(ctx context.Context, args []driver.NamedValue) ([]driver.Value, error) {
	values := make([]driver.Value, len(args))
	for i, arg := range args {
		if arg.Name != "" {
			return nil, errors.New("sql: driver does not support the use of Named Parameters")
		}
		values[i] = arg.Value
	}
	return values, ctx.Err()
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
	t, err := c.Begin() //nolint:staticcheck // for drivers without ConnBeginTx
	if err != nil || ctx.Err() == nil {
		return t, err
	}
	if t.Rollback() != nil {
		return nil, driver.ErrBadConn // the transaction may be open still
	}
	return nil, ctx.Err()
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
