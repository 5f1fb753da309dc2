package tenantpgx

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

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

// bindTexts bind a transaction by one setting or two, in one statement. The parameters are each
// setting's name, its value, and the one that binds nobody. That one first replaces what somebody
// may have set under the name for the session.
var bindTexts = [...]string{
	"SELECT pg_catalog.set_config($1, $3, false), pg_catalog.set_config($1, $2, true)",
	"SELECT pg_catalog.set_config($1, $3, false), pg_catalog.set_config($1, $2, true), " +
		"pg_catalog.set_config($4, $6, false), pg_catalog.set_config($4, $5, true)",
}

func isBind(sql string) bool { return slices.Contains(bindTexts[:], sql) }

// bindFields are what the columns of a binding always are, so that nobody asks for them.
var bindFields = slices.Repeat([]pgconn.FieldDescription{{
	Name: "set_config", DataTypeOID: pgtype.TextOID, DataTypeSize: -1, TypeModifier: -1,
}}, 2*len(bindTexts))

// discardTemp drops temporary tables at the end of a transaction behind a pooler, where nobody
// resets the session: they would come before the tables of the next tenant.
const discardTemp = "DISCARD TEMP"

const searchPath = "search_path"

// exchange is a frame on its way. A connection has one at a time.
type exchange struct {
	conn     *Conn
	pipeline *pgconn.Pipeline
	explicit bool
	sql      string
	place    string
	unnamed  string     // the text that was parsed last without a name, which the server has until the next
	running  *statement // the caller's that was sent last, if by name
	answers  []answer   // what the server will say, in order
	read     int        // how many of them were read
}

// answer is what the server will say to one message of a frame.
type answer struct {
	prepared *statement // to Parse: from then on the statement exists; nil for anything else
	wanted   bool       // it is the caller's
}

// open opens the pipeline and writes what comes before the statement.
func (c *Conn) open(ctx context.Context, f frame, query string) (*exchange, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.pg.IsClosed() {
		return nil, driver.ErrBadConn // nothing was written
	}
	if c.pg.IsBusy() {
		return nil, errBusy
	}
	x := &c.exchange
	*x = exchange{conn: c, explicit: f.explicit, sql: query, place: c.place(f), answers: x.answers[:0]}
	x.pipeline = c.pg.StartPipeline(ctx)
	for _, name := range c.prepared.takeDropped() {
		x.pipeline.SendDeallocate(name)
		x.expect(answer{})
	}
	for _, sql := range c.begin {
		x.sendText(sql)
	}
	c.begin = nil
	if f.explicit {
		x.sendText("BEGIN")
	}
	for sql, params := range c.bindings(f.bind) {
		x.sendStatement(statementKey{sql: sql}, nil, params, nil, nil)
		x.expect(answer{})
	}
	return x, nil
}

var errBusy = errors.New("tenantpgx: rows or a batch of this connection are open: close them first")

// expect notes what the server will say to the message that was just written.
func (x *exchange) expect(a answer) { x.answers = append(x.answers, a) }

// bindings returns the statements that bind a transaction, with their parameters, which hold until
// the next one.
func (c *Conn) bindings(bind []isolation.Setting) iter.Seq2[string, [][]byte] {
	return func(yield func(string, [][]byte) bool) {
		for len(bind) > 0 {
			n := min(len(bind), len(bindTexts))
			for i, s := range bind[:n] {
				c.setParams(c.params[3*i:3*i+3], s)
			}
			if !yield(bindTexts[n-1], c.params[:3*n]) {
				return
			}
			bind = bind[n:]
		}
	}
}

func (c *Conn) setParams(params [][]byte, s isolation.Setting) {
	params[0] = append(params[0][:0], s.Name...)
	params[1] = append(params[1][:0], s.Value...)
	params[2] = append(params[2][:0], s.Off...)
	if s.Off == "" && s.Name == searchPath {
		params[2] = nil // NULL, which for set_config is the login's own
	}
}

// sendText writes a command of our own.
func (x *exchange) sendText(sql string) {
	x.sendUnnamed(sql, nil, nil, nil, nil)
	x.expect(answer{})
}

// sendUnnamed writes a statement without a name. What repeats the statement before it is not parsed
// again: a frame has one server, behind a pooler too.
func (x *exchange) sendUnnamed(sql string, oids []uint32, params [][]byte, formats, resultFormats []int16) {
	if x.unnamed == sql {
		x.pipeline.SendQueryPrepared("", params, formats, resultFormats)
		return
	}
	x.unnamed = sql
	x.pipeline.SendQueryParams(sql, params, oids, formats, resultFormats)
}

// sendStatement writes a statement: by name where the server is sure to know it.
func (x *exchange) sendStatement(key statementKey, oids []uint32, params [][]byte, formats, resultFormats []int16) {
	c := x.conn
	if x.running = nil; !c.direct {
		x.sendUnnamed(key.sql, oids, params, formats, resultFormats)
		return
	}
	s := c.prepared.get(key)
	if s == nil {
		s = c.prepared.add(key)
		x.pipeline.SendPrepare(s.name, key.sql, oids)
		x.expect(answer{prepared: s})
	}
	x.running = s
	if s.known != nil {
		x.pipeline.SendQueryStatement(s.known, params, formats, resultFormats)
		return
	}
	x.pipeline.SendQueryPrepared(s.name, params, formats, resultFormats)
}

// call is a statement with its values, as pgx has them.
type call struct {
	sql     string
	values  []any
	rows    bool    // somebody wants the rows
	formats formats // of the rows
}

// sendCall writes the caller's statement; b holds its encoded values. Without a description it has
// none.
func (x *exchange) sendCall(s call, desc *description, b *pgx.ExtendedQueryBuilder) {
	if desc == nil {
		x.running = nil
		x.sendUnnamed(s.sql, nil, nil, nil, nil)
	} else {
		x.sendStatement(statementKey{s.sql, x.place}, desc.ParamOIDs, b.ParamValues, b.ParamFormats, s.formats.of(desc, b))
	}
	x.expect(answer{wanted: true})
}

// sendEnd ends a frame, and writes it to the server.
func (x *exchange) sendEnd(f frame) error {
	if f.explicit {
		// Again: the statement may have set it for the session. The tenant stays bound for what
		// runs at COMMIT.
		for sql, params := range x.conn.bindings(f.bind) {
			x.sendUnnamed(sql, nil, params, nil, nil)
			x.expect(answer{})
		}
		if !x.conn.direct {
			x.sendText(discardTemp)
		}
		x.sendText("COMMIT")
	}
	return x.flush()
}

// send writes a frame with a statement in one network write.
func (c *Conn) send(ctx context.Context, f frame, s call) (*exchange, error) {
	var desc *description
	if s.rows || len(s.values) > 0 {
		var err error
		if desc, err = c.describe(ctx, f, s.sql); err != nil {
			return nil, err
		}
		if err := c.encode(s, desc, &c.builder); err != nil {
			return nil, err
		}
	}
	x, err := c.open(ctx, f, s.sql)
	if err != nil {
		return nil, err
	}
	x.sendCall(s, desc, &c.builder)
	return x, x.sendEnd(f)
}

// encode encodes the values of a statement into b.
func (c *Conn) encode(s call, desc *description, b *pgx.ExtendedQueryBuilder) error {
	if len(desc.ParamOIDs) != len(s.values) {
		return fmt.Errorf("expected %d arguments, got %d", len(desc.ParamOIDs), len(s.values))
	}
	return b.Build(c.pgx.TypeMap(), desc.StatementDescription, s.values)
}

// flush ends the frame and writes it.
func (x *exchange) flush() error {
	err := x.pipeline.Sync()
	if err != nil && pgconn.SafeToRetry(err) && x.conn.bound == nil {
		return driver.ErrBadConn // nothing was written
	}
	return err
}

// next reads up to an answer that is wanted, and returns it. It is nil when there is none any more.
func (x *exchange) next() (result any, tag pgconn.CommandTag, err error) {
	for x.read < len(x.answers) {
		a := x.answers[x.read]
		result, err := x.pipeline.GetResults()
		if err != nil {
			return nil, tag, err
		}
		x.read++
		if a.prepared != nil {
			x.conn.prepared.made(a.prepared)
		}
		if a.wanted {
			return result, tag, nil
		}
		if r, ok := result.(*pgconn.ResultReader); ok {
			if tag, err = r.Close(); err != nil {
				return nil, tag, err
			}
		}
	}
	return nil, tag, nil
}

// results reads up to the next results of the caller's.
func (x *exchange) results() (*pgconn.ResultReader, error) {
	result, _, err := x.next()
	if err != nil {
		return nil, err
	}
	r, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("tenantpgx: unexpected answer %T in a pipeline", result)
	}
	return r, nil
}

// description reads up to the next description that was asked for.
func (x *exchange) description() (*pgconn.StatementDescription, error) {
	result, _, err := x.next()
	if err != nil {
		return nil, err
	}
	d, ok := result.(*pgconn.StatementDescription)
	if !ok {
		return nil, fmt.Errorf("tenantpgx: unexpected answer %T to a description", result)
	}
	return d, nil
}

// end reads the rest of the frame and returns the last command's tag, and the first error, which
// may be COMMIT's. With a cause nothing but the rest is of interest.
func (x *exchange) end(ctx context.Context, cause error) (tag pgconn.CommandTag, err error) {
	c := x.conn
	for cause == nil && x.read < len(x.answers) {
		_, tag, cause = x.next()
	}
	if err := x.pipeline.Close(); cause == nil {
		cause = err // for example of a deferred constraint
	}
	c.lastUse = time.Now()
	if cause == nil {
		return tag, nil
	}
	c.prepared.dropMissing(x.answers)
	if misdescribed(cause) {
		c.descriptions.drop(x.sql)
		c.prepared.drop(statementKey{x.sql, x.place})
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

// run runs a framed statement whose rows nobody wants.
func (c *Conn) run(ctx context.Context, f frame, s call) (pgconn.CommandTag, error) {
	tag, err := c.runOnce(ctx, f, s)
	if c.stale(err) {
		tag, err = c.runOnce(ctx, f, s)
	}
	return tag, err
}

func (c *Conn) runOnce(ctx context.Context, f frame, s call) (tag pgconn.CommandTag, err error) {
	x, err := c.send(ctx, f, s)
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

// start runs a framed statement up to its rows; its transaction ends with them.
func (c *Conn) start(ctx context.Context, f frame, s call) (*exchange, *pgconn.ResultReader, error) {
	x, r, err := c.startOnce(ctx, f, s)
	if c.stale(err) {
		x, r, err = c.startOnce(ctx, f, s)
	}
	return x, r, err
}

func (c *Conn) startOnce(ctx context.Context, f frame, s call) (*exchange, *pgconn.ResultReader, error) {
	x, err := c.send(ctx, f, s)
	if err != nil {
		return nil, nil, err
	}
	r, err := x.results()
	if err != nil {
		_, err = x.end(ctx, err)
		return nil, nil, err
	}
	if x.running != nil {
		x.running.learn(r.FieldDescriptions())
	}
	return x, r, nil
}

// exec is run for database/sql.
func (c *Conn) exec(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Result, error) {
	values := values(args)
	ctx, tracer := c.traceStart(ctx, values)
	s, err := c.newCall(ctx, query, values)
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = c.run(ctx, f, s)
	}
	c.traceEnd(ctx, tracer, tag, err)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// traceStart shows the tracer a statement that was announced as the caller's. It returns nil where
// there is nothing to trace.
func (c *Conn) traceStart(ctx context.Context, values []any) (context.Context, pgx.QueryTracer) {
	if c.caller == "" {
		return ctx, nil
	}
	data := pgx.TraceQueryStartData{SQL: c.caller, Args: values}
	c.caller = ""
	return c.tracer.TraceQueryStart(ctx, c.pgx, data), c.tracer
}

// traceEnd takes what traceStart returned.
func (c *Conn) traceEnd(ctx context.Context, tracer pgx.QueryTracer, tag pgconn.CommandTag, err error) {
	if tracer != nil {
		tracer.TraceQueryEnd(ctx, c.pgx, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
}

// query is start for database/sql.
func (c *Conn) query(ctx context.Context, f frame, query string, args []driver.NamedValue) (driver.Rows, error) {
	values := values(args)
	ctx, tracer := c.traceStart(ctx, values)
	s, err := c.newCall(ctx, query, values)
	var x *exchange
	var r *pgconn.ResultReader
	if err == nil {
		s.rows, s.formats = true, formats{}
		x, r, err = c.start(ctx, f, s)
	}
	if err != nil {
		c.traceEnd(ctx, tracer, pgconn.CommandTag{}, err)
		return nil, err
	}
	rows := &Rows{ctx: ctx, exchange: x, result: r, fields: r.FieldDescriptions(), tracer: tracer}
	if f.explicit { // pgconn keeps the next statement's in the same place
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
	if desc := c.descriptions.get(query, c.place(f)); desc != nil {
		return desc, nil
	}
	descs, err := c.ask(ctx, f, query)
	if err != nil {
		return nil, err
	}
	return descs[0], nil
}

// place returns the schemas in which a frame's statements find their names, if the binding says so.
func (c *Conn) place(f frame) string {
	bind := f.bind
	if c.bound != nil {
		bind = c.bound.bind
	}
	for _, s := range bind {
		if s.Name == searchPath {
			return s.Value
		}
	}
	return ""
}

// ask asks the server, in one write, to describe statements.
func (c *Conn) ask(ctx context.Context, f frame, queries ...string) ([]*description, error) {
	x, err := c.open(ctx, frame{bind: f.bind}, queries[0])
	if err != nil {
		return nil, err
	}
	for _, query := range queries {
		x.unnamed = query
		x.pipeline.SendPrepare("", query, nil)
		x.expect(answer{wanted: true})
	}
	if err := x.flush(); err != nil {
		return nil, err
	}
	descs := make([]*description, len(queries))
	for i, query := range queries {
		described, err := x.description()
		if err != nil {
			_, err = x.end(ctx, err)
			return nil, err
		}
		descs[i] = c.descriptions.put(query, c.place(f), described)
	}
	_, err = x.end(ctx, nil)
	return descs, err
}

func values(args []driver.NamedValue) []any {
	if len(args) == 0 {
		return nil
	}
	values := make([]any, len(args))
	for i, arg := range args {
		values[i] = arg.Value
	}
	return values
}

// newCall takes pgx's options from the front of the values, and applies a rewriter such as
// pgx.NamedArgs. A pgx.QueryExecMode has no effect: the frame decides.
func (c *Conn) newCall(ctx context.Context, query string, values []any) (s call, err error) {
	s = call{sql: query, values: values}
	var rewriter pgx.QueryRewriter
	for options := true; options && len(s.values) > 0; {
		switch option := s.values[0].(type) {
		case pgx.QueryResultFormats:
			s.formats.byPosition = option
		case pgx.QueryResultFormatsByOID:
			s.formats.byOID = option
		case pgx.QueryExecMode:
		case pgx.QueryRewriter:
			rewriter = option
		default:
			options = false
			continue
		}
		s.values = s.values[1:]
	}
	if rewriter == nil {
		return s, nil
	}
	s.sql, s.values, err = rewriter.RewriteQuery(ctx, c.pgx, s.sql, s.values)
	if err != nil {
		return s, fmt.Errorf("rewrite query failed: %w", err)
	}
	return s, nil
}
