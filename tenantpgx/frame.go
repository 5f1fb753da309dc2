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

// bindSQL binds a transaction; its parameters are a setting's name, its value, and the one that
// binds nobody. That one first replaces what somebody may have set under the name for the session.
const bindSQL = "SELECT pg_catalog.set_config($1, $3, false), pg_catalog.set_config($1, $2, true)"

// exchange is a frame on its way. A connection has one at a time.
type exchange struct {
	conn     *Conn
	pipeline *pgconn.Pipeline
	explicit bool
	sql      string
	before   []answer // what comes before the statement's results, in order
	after    int      // how many results come after them
}

// answer is what the server will say to one message of a frame.
type answer struct {
	prepared *statement // to Parse: from then on the statement exists; nil for anything else
}

// open opens the pipeline and writes what comes before the statement.
func (c *Conn) open(ctx context.Context, f frame, query string) (*exchange, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.pg.IsClosed() {
		return nil, driver.ErrBadConn // nothing was written
	}
	x := &c.exchange
	*x = exchange{conn: c, explicit: f.explicit, sql: query, before: x.before[:0]}
	x.pipeline = c.pg.StartPipeline(ctx)
	for _, name := range c.prepared.takeDropped() {
		x.pipeline.SendDeallocate(name)
		x.before = append(x.before, answer{})
	}
	for _, sql := range c.begin {
		x.sendText(sql)
	}
	c.begin = nil
	if f.explicit {
		x.sendText("BEGIN")
	}
	for _, s := range f.bind {
		c.setParams(s)
		x.sendStatement(bindSQL, nil, c.params[:], nil, nil)
		x.before = append(x.before, answer{})
	}
	return x, nil
}

func (c *Conn) setParams(s isolation.Setting) {
	c.params[0] = append(c.params[0][:0], s.Name...)
	c.params[1] = append(c.params[1][:0], s.Value...)
	c.params[2] = append(c.params[2][:0], s.Off...)
}

// sendText writes a command that comes before the statement.
func (x *exchange) sendText(sql string) {
	x.pipeline.SendQueryParams(sql, nil, nil, nil, nil)
	x.before = append(x.before, answer{})
}

// sendStatement writes a statement: by name where the server is sure to know it.
func (x *exchange) sendStatement(sql string, oids []uint32, params [][]byte, formats, resultFormats []int16) {
	c := x.conn
	if !c.direct {
		x.pipeline.SendQueryParams(sql, params, oids, formats, resultFormats)
		return
	}
	s := c.prepared.get(sql)
	if s == nil {
		s = c.prepared.add(sql)
		x.pipeline.SendPrepare(s.name, sql, oids)
		x.before = append(x.before, answer{prepared: s})
	}
	x.pipeline.SendQueryPrepared(s.name, params, formats, resultFormats)
}

// send writes a frame with a statement in one network write.
func (c *Conn) send(ctx context.Context, f frame, wantRows bool, query string, args []driver.NamedValue) (*exchange, error) {
	query, values, err := c.arguments(ctx, query, args)
	if err != nil {
		return nil, err
	}
	described := wantRows || len(values) > 0
	var desc *description
	if described {
		if desc, err = c.describe(ctx, f, query); err != nil {
			return nil, err
		}
		if len(desc.ParamOIDs) != len(values) {
			return nil, fmt.Errorf("expected %d arguments, got %d", len(desc.ParamOIDs), len(values))
		}
		if err := c.builder.Build(c.pgx.TypeMap(), desc.StatementDescription, values); err != nil {
			return nil, err
		}
	}
	x, err := c.open(ctx, f, query)
	if err != nil {
		return nil, err
	}
	if described {
		x.sendStatement(query, desc.ParamOIDs, c.builder.ParamValues, c.builder.ParamFormats, desc.resultFormats)
	} else {
		x.pipeline.SendQueryParams(query, nil, nil, nil, nil)
	}
	if f.explicit {
		for _, s := range f.bind {
			c.setParams(s)
			// Again: the statement may have set it for the session. The tenant stays bound for what
			// runs at COMMIT.
			x.pipeline.SendQueryParams(bindSQL, c.params[:], nil, nil, nil)
			x.after++
		}
		x.pipeline.SendQueryParams("COMMIT", nil, nil, nil, nil)
		x.after++
	}
	return x, x.flush()
}

// flush ends the frame and writes it.
func (x *exchange) flush() error {
	err := x.pipeline.Sync()
	if err != nil && pgconn.SafeToRetry(err) && x.conn.bound == nil {
		return driver.ErrBadConn // nothing was written
	}
	return err
}

// results reads up to the statement's results.
func (x *exchange) results() (*pgconn.ResultReader, error) {
	if err := x.discard(); err != nil {
		return nil, err
	}
	return x.reader()
}

// discard reads what comes before the statement's results.
func (x *exchange) discard() error {
	for _, a := range x.before {
		result, err := x.pipeline.GetResults()
		if err != nil {
			return err
		}
		if a.prepared != nil {
			a.prepared.exists = true
			continue
		}
		if r, ok := result.(*pgconn.ResultReader); ok {
			if _, err := r.Close(); err != nil {
				return err
			}
		}
	}
	return nil
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

// end reads the rest of the frame and returns the last command's tag, and the first error, which
// may be COMMIT's. With a cause nothing but the rest is of interest.
func (x *exchange) end(ctx context.Context, cause error) (tag pgconn.CommandTag, err error) {
	c := x.conn
	for ; x.after > 0 && cause == nil; x.after-- {
		var r *pgconn.ResultReader
		if r, cause = x.reader(); cause == nil {
			tag, cause = r.Close()
		}
	}
	if err := x.pipeline.Close(); cause == nil {
		cause = err // for example of a deferred constraint
	}
	c.lastUse = time.Now()
	if cause == nil {
		return tag, nil
	}
	c.prepared.dropMissing(x.before)
	if misdescribed(cause) {
		c.descriptions.drop(x.sql)
		c.prepared.drop(x.sql)
	}
	if x.explicit && !c.pg.IsClosed() && c.pg.TxStatus() != 'I' {
		_ = c.rollback(ctx) // a connection on which it fails is closed
	}
	return tag, cause
}

// misdescribed reports whether an error may come from tables that changed since the statement was
// described: a name or type that does not fit, a plan or a value that cannot be read, a statement
// that somebody deallocated.
func misdescribed(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (isStale(e) || strings.HasPrefix(e.Code, "42") || strings.HasPrefix(e.Code, "26") ||
		e.Code == "22P02" || e.Code == "22P03")
}

// isStale reports whether the server refused, before it ran anything, to run a statement as it was
// described: "cached plan must not change result type", or another number of columns than result
// formats. The name of the server's function says so in every language.
func isStale(e *pgconn.PgError) bool {
	return e.Code == "0A000" && e.Routine == "RevalidateCachedQuery" ||
		e.Code == "08P01" && e.Routine == "PortalSetResultFormat"
}

// stale reports whether a statement in a frame of its own failed, unexecuted, only because a table
// has changed since it was described.
func (c *Conn) stale(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && c.bound == nil && isStale(e)
}

// exec runs a framed statement whose rows nobody wants.
func (c *Conn) exec(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Result, error) {
	tag, err := c.execOnce(ctx, f, query, args)
	if c.stale(err) {
		tag, err = c.execOnce(ctx, f, query, args)
	}
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

func (c *Conn) execOnce(ctx context.Context, f frame, query string, args []driver.NamedValue) (tag pgconn.CommandTag, err error) {
	x, err := c.send(ctx, f, false, query, args)
	if err != nil {
		return tag, err
	}
	r, err := x.results()
	if err == nil {
		tag, err = r.Close()
	}
	_, err = x.end(ctx, err)
	if name := tag.String(); strings.HasPrefix(name, "DISCARD") || strings.HasPrefix(name, "DEALLOCATE") {
		c.prepared = statements{serial: c.prepared.serial}
	}
	return tag, err
}

// query runs a framed statement; its transaction ends with its rows.
func (c *Conn) query(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.queryOnce(ctx, f, query, args)
	if c.stale(err) {
		rows, err = c.queryOnce(ctx, f, query, args)
	}
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (c *Conn) queryOnce(ctx context.Context, f frame, query string, args []driver.NamedValue) (*Rows, error) {
	x, err := c.send(ctx, f, true, query, args)
	if err != nil {
		return nil, err
	}
	r, err := x.results()
	if err != nil {
		_, err = x.end(ctx, err)
		return nil, err
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

// describe returns the description of a statement. It asks the server, in the same binding, about
// one that no connection of the connector has used.
func (c *Conn) describe(ctx context.Context, f frame, query string) (*description, error) {
	if desc := c.descriptions.get(query); desc != nil {
		return desc, nil
	}
	x, err := c.open(ctx, frame{bind: f.bind}, query)
	if err != nil {
		return nil, err
	}
	x.pipeline.SendPrepare("", query, nil)
	if err := x.flush(); err != nil {
		return nil, err
	}
	var result any
	if err = x.discard(); err == nil {
		result, err = x.pipeline.GetResults()
	}
	described, ok := result.(*pgconn.StatementDescription)
	if err == nil && !ok {
		err = fmt.Errorf("tenantpgx: unexpected answer %T to a description", result)
	}
	if _, err := x.end(ctx, err); err != nil {
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
	for options := true; options && len(values) > 0; {
		switch option := values[0].(type) {
		case pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryExecMode:
			values = values[1:]
		case pgx.QueryRewriter:
			rewriter = option
			values = values[1:]
		default:
			options = false
		}
	}
	if rewriter == nil {
		return query, values, nil
	}
	query, values, err := rewriter.RewriteQuery(ctx, c.pgx, query, values)
	if err != nil {
		return "", nil, fmt.Errorf("rewrite query failed: %w", err)
	}
	return query, values, nil
}
