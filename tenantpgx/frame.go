package tenantpgx

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy/isolation"
)

// frame is what surrounds a statement in its network write. Everything up to one Sync message is
// one transaction for PostgreSQL, which takes back all of it after an error.
type frame struct {
	bind []isolation.Setting
	// explicit adds BEGIN and COMMIT, so that a statement that could end a transaction is refused
	// by the server instead of going on unbound.
	explicit bool
}

// exchange is a frame on its way: what was sent and is to be read in the same order.
type exchange struct {
	conn     *Conn
	pipeline *pgconn.Pipeline
	before   int // results before the statement's
	after    int // results after the statement's
	explicit bool
	sql      string
}

// undescribed is a statement without parameters whose rows nobody wants.
var undescribed = &description{StatementDescription: &pgconn.StatementDescription{}}

// send writes a frame with a statement in one network write.
func (c *Conn) send(ctx context.Context, f frame, wantRows bool, query string, args []driver.NamedValue) (*exchange, error) {
	query, values, err := c.arguments(ctx, query, args)
	if err != nil {
		return nil, err
	}
	desc := undescribed
	if wantRows || len(values) > 0 {
		if desc, err = c.describe(ctx, f, query); err != nil {
			return nil, err
		}
	}
	if len(desc.ParamOIDs) != len(values) {
		return nil, fmt.Errorf("expected %d arguments, got %d", len(desc.ParamOIDs), len(values))
	}
	if err := c.builder.Build(c.pgx.TypeMap(), desc.StatementDescription, values); err != nil {
		return nil, err
	}
	x := &exchange{conn: c, explicit: f.explicit, sql: query}
	if err := c.start(ctx, x, f); err != nil {
		return nil, err
	}
	x.pipeline.SendQueryParams(query, c.builder.ParamValues, desc.ParamOIDs, c.builder.ParamFormats, desc.resultFormats)
	if f.explicit {
		for _, s := range f.bind {
			x.sendAfter("SELECT pg_catalog.set_config($1, '', false), pg_catalog.set_config($1, $2, true)", s.Name, s.Value)
		}
		x.sendAfter("COMMIT")
	}
	if err := x.pipeline.Sync(); err != nil {
		return nil, c.broken(err)
	}
	return x, nil
}

// start opens the pipeline and writes what comes before the statement.
func (c *Conn) start(ctx context.Context, x *exchange, f frame) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.pg.IsClosed() {
		return driver.ErrBadConn // nothing was written
	}
	x.pipeline = c.pg.StartPipeline(ctx)
	for _, sql := range c.begin {
		x.sendBefore(sql)
	}
	c.begin = nil
	if f.explicit {
		x.sendBefore("BEGIN")
	}
	for _, s := range f.bind {
		x.sendBefore("SELECT pg_catalog.set_config($1, $2, true)", s.Name, s.Value)
	}
	return nil
}

func (x *exchange) sendBefore(sql string, params ...string) {
	x.sendText(sql, params)
	x.before++
}

func (x *exchange) sendAfter(sql string, params ...string) {
	x.sendText(sql, params)
	x.after++
}

func (x *exchange) sendText(sql string, params []string) {
	var values [][]byte
	for _, p := range params {
		values = append(values, []byte(p))
	}
	x.pipeline.SendQueryParams(sql, values, nil, nil, nil)
}

// results reads up to the statement's results.
func (x *exchange) results() (*pgconn.ResultReader, error) {
	for range x.before {
		if _, err := x.next(); err != nil {
			return nil, err
		}
	}
	return x.reader()
}

// next reads the whole result of a statement of the frame.
func (x *exchange) next() (pgconn.CommandTag, error) {
	r, err := x.reader()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return r.Close()
}

func (x *exchange) reader() (*pgconn.ResultReader, error) {
	result, err := x.pipeline.GetResults()
	if err != nil {
		return nil, err
	}
	r, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("tenantpgx: unexpected answer %T in a pipeline", result)
	}
	return r, nil
}

// end reads the rest of the frame and returns the first error, which may be COMMIT's. With a
// cause nothing but the rest is of interest.
func (x *exchange) end(ctx context.Context, cause error) error {
	for range x.after {
		if cause != nil {
			break
		}
		_, cause = x.next()
	}
	if err := x.pipeline.Close(); cause == nil {
		cause = err // for example of a deferred constraint
	}
	c := x.conn
	c.lastUse = time.Now()
	if cause == nil {
		return nil
	}
	if misdescribed(cause) {
		c.descriptions.drop(x.sql)
	}
	if x.explicit && !c.pg.IsClosed() && c.pg.TxStatus() != 'I' {
		c.rollback(ctx)
	}
	return cause
}

// misdescribed reports whether an error may come from tables that changed since the statement was
// described: a name or type that does not fit, a plan or a value that cannot be read.
func misdescribed(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(e.Code, "42") || e.Code == "0A000" || e.Code == "22P02" || e.Code == "22P03")
}

// broken passes on an error of sending. Only if nothing was written may the statement be repeated.
func (c *Conn) broken(err error) error {
	if pgconn.SafeToRetry(err) && c.bound == nil {
		return driver.ErrBadConn
	}
	return err
}

// exec runs a framed statement whose rows nobody wants.
func (c *Conn) exec(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Result, error) {
	x, err := c.send(ctx, f, false, query, args)
	if err != nil {
		return nil, err
	}
	r, err := x.results()
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = r.Close()
	}
	if err := x.end(ctx, err); err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// query runs a framed statement; its transaction ends with its rows.
func (c *Conn) query(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Rows, error) {
	x, err := c.send(ctx, f, true, query, args)
	if err != nil {
		return nil, err
	}
	r, err := x.results()
	if err != nil {
		return nil, x.end(ctx, err)
	}
	rows := &Rows{ctx: ctx, exchange: x, result: r, fields: r.FieldDescriptions()}
	if x.after > 0 { // pgconn keeps the next statement's in the same place
		rows.fields = slices.Clone(rows.fields)
	}
	// An error often comes instead of the first row; it belongs to the call.
	if rows.ahead = r.NextRow(); !rows.ahead {
		if err := rows.finish(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// describe returns the description of a statement. It asks the server, in the same binding, for
// one that no connection has used before.
func (c *Conn) describe(ctx context.Context, f frame, query string) (*description, error) {
	if desc := c.descriptions.get(query); desc != nil {
		return desc, nil
	}
	x := &exchange{conn: c, sql: query}
	if err := c.start(ctx, x, frame{bind: f.bind}); err != nil {
		return nil, err
	}
	x.pipeline.SendPrepare("", query, nil)
	if err := x.pipeline.Sync(); err != nil {
		return nil, c.broken(err)
	}
	for range x.before {
		if _, err := x.next(); err != nil {
			return nil, x.end(ctx, err)
		}
	}
	result, err := x.pipeline.GetResults()
	if err != nil {
		return nil, x.end(ctx, err)
	}
	described, ok := result.(*pgconn.StatementDescription)
	if !ok {
		return nil, x.end(ctx, fmt.Errorf("tenantpgx: unexpected answer %T to a description", result))
	}
	described.SQL = query
	if err := x.end(ctx, nil); err != nil {
		return nil, err
	}
	return c.descriptions.put(query, described), nil
}

// arguments turns the values of database/sql into pgx's, and applies a rewriter such as
// pgx.NamedArgs. Other options of pgx have no effect here.
func (c *Conn) arguments(ctx context.Context, query string, args []driver.NamedValue) (string, []any, error) {
	if len(args) == 0 {
		return query, nil, nil
	}
	values := make([]any, len(args))
	for i, arg := range args {
		values[i] = arg.Value
	}
	var rewriter pgx.QueryRewriter
	for len(values) > 0 {
		switch option := values[0].(type) {
		case pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryExecMode:
		case pgx.QueryRewriter:
			rewriter = option
		default:
			goto done
		}
		values = values[1:]
	}
done:
	if rewriter == nil {
		return query, values, nil
	}
	query, values, err := rewriter.RewriteQuery(ctx, c.pgx, query, values)
	if err != nil {
		return "", nil, fmt.Errorf("rewrite query failed: %w", err)
	}
	return query, values, nil
}
