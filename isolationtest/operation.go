package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"lexigram.dev/tenancy/isolation"
)

// operation is one thing that a worker does. It returns an error that it cannot explain by
// itself.
type operation struct {
	name   string
	weight int // in percent
	fault  Fault
	needs  func(h Handle) bool
	steady bool // its context does not end early
	run    func(w *worker, ctx context.Context) error
}

// operations are chosen by their weights. The first takes the place of those that the handle or
// the plan excludes.
var operations = []operation{
	{name: "reads of all rows", weight: 16, run: (*worker).readAll},
	{name: "reads of one row", weight: 8, run: (*worker).readOne},
	{name: "reads of another's row", weight: 6, run: (*worker).trespass},
	{name: "writes of one row", weight: 18, run: (*worker).writeOne},
	{name: "batch inserts", weight: 4, run: (*worker).batch},
	{name: "transactions", weight: 18, run: (*worker).transaction},
	{name: "leases", weight: 5, run: (*worker).lease},
	{name: "rows closed early", weight: 3, run: (*worker).closeEarly},
	{name: "rows left open", weight: 3, fault: RowsLeftOpen, steady: true, run: (*worker).leaveOpen},
	{name: "transactions left open", weight: 3, fault: CancelledContext, steady: true, run: (*worker).abandon},
	{name: "other tenants inside", weight: 4, fault: OtherTenant, run: (*worker).otherInside},
	{name: "calls without a tenant", weight: 5, fault: NoTenant, run: (*worker).noTenant},
	{name: "calls past the handle", weight: 2, needs: func(h Handle) bool { return h.Plain != nil }, run: (*worker).pastHandle},
	{name: "session settings", weight: 2, fault: SessionSetting, run: (*worker).setSession},
	{name: "failed statements", weight: 3, fault: FailedStatement, run: (*worker).failStatement},
}

// weights is the sum of all weights.
const weights = 100

func (w *worker) readAll(ctx context.Context) error {
	if w.chance(20) {
		return w.inOwnTx(ctx, func(tx *sql.Tx) error { return w.inspect(ctx, w.wayIn(tx), nil) })
	}
	return w.inspect(ctx, w.way(), nil)
}

// inOwnTx runs fn in a transaction that is rolled back.
func (w *worker) inOwnTx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := w.target.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = fn(tx)
	if end := tx.Rollback(); err == nil && !errors.Is(end, sql.ErrTxDone) {
		err = end
	}
	return err
}

func (w *worker) readOne(ctx context.Context) error {
	if len(w.account.live) == 0 {
		return w.readAll(ctx)
	}
	id := w.account.live[w.random.IntN(len(w.account.live))]
	got, err := readRows(ctx, w.way(), w.one, id)
	if err != nil {
		return err
	}
	w.tally.read(len(got))
	want := row{id: id, owner: w.tenant, body: w.account.entries[id].body, n: w.account.entries[id].now}
	if len(got) != 1 || got[0] != want {
		for _, r := range got {
			w.checkRow(w.tenant, r, w.where())
		}
		w.found(LostWrite, "%s: read %v; acknowledged was %v", w.where(), got, want)
	}
	return nil
}

// trespass tries to reach a row of another tenant by its id.
func (w *worker) trespass(ctx context.Context) error {
	other := w.other()
	id := w.ledgers[other].aRecent()
	own := ""
	if len(w.account.live) > 0 {
		own = w.account.live[w.random.IntN(len(w.account.live))]
	}
	switch w.random.IntN(4) {
	case 0:
		return w.foreign(readRows(ctx, w.way(), w.one, id))
	case 1:
		first, second := id, own
		if w.chance(50) {
			first, second = own, id
		}
		return w.foreign(readRows(ctx, w.target, w.say(w.all+" WHERE id = ? OR id = ?"), first, second))
	case 2:
		return w.foreign(readRows(ctx, w.target, w.say(w.all+" WHERE owner = ? OR 1 = 1"), other))
	default:
		query, args := w.say("UPDATE "+w.Table+" SET n = n + 1 WHERE id = ? OR owner = ?"), []any{id, other}
		if w.chance(50) {
			query, args = w.remove, args[:1]
		}
		result, err := w.way().ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err == nil && n > 0 {
			w.found(ForeignRow, "%s: %s changed %d rows of tenant %q", w.where(), query, n, other)
		}
		return nil
	}
}

// foreign finds rows that are not the tenant's.
func (w *worker) foreign(got []row, err error) error {
	w.tally.read(len(got))
	for _, r := range got {
		w.checkRow(w.tenant, r, w.where())
	}
	return err
}

func (w *worker) writeOne(ctx context.Context) error {
	c := w.change(nil)
	err := w.write(ctx, w.way(), c)
	w.book(view{c.id: c.to}, map[string]string{c.id: c.body}, err)
	return err
}

// batch inserts several rows in one statement, or by one that returns them and is closed early.
func (w *worker) batch(ctx context.Context) error {
	if len(w.account.live) >= most {
		return w.writeOne(ctx)
	}
	v, bodies, args := view{}, map[string]string{}, []any{}
	n := 2 + w.random.IntN(3)
	for range n {
		r := newRow(w.tenant)
		w.ledger.issue(r)
		v[r.id], bodies[r.id] = 0, r.body
		args = append(args, r.values()...)
	}
	err := w.insertAll(ctx, w.insertRows(n), args)
	w.book(v, bodies, err)
	return err
}

func (w *worker) insertAll(ctx context.Context, query string, args []any) error {
	if !standard(w.Engine) || w.chance(50) {
		_, err := w.target.ExecContext(ctx, query, args...)
		return err
	}
	rows, err := w.target.QueryContext(ctx, query+" RETURNING id", args...)
	if err != nil {
		return err
	}
	rows.Next()
	return errors.Join(rows.Err(), rows.Close())
}

// transaction runs a few writes and ends as chance has it.
func (w *worker) transaction(ctx context.Context) error {
	t := &work{worker: w, view: view{}, bodies: map[string]string{}, inserted: map[string]string{}, ending: w.ending()}
	recovered, err := t.run(ctx)
	switch {
	case t.ending == PanickedCallback && t.reached:
		if recovered != panicked {
			w.found(SwallowedError, "%s: a panic of the callback came back as %v and error %v", w.where(), recovered, err)
		}
		err = nil
		w.tally.happened(PanickedCallback)
	case recovered != nil:
		panic(recovered) // not ours
	case t.err != nil && !errors.Is(err, t.err):
		w.found(SwallowedError, "%s: the callback's error %v came back as %v", w.where(), t.err, err)
	case t.reached && t.ending != "":
		err = nil
		w.tally.happened(t.ending)
	}
	if t.reached && t.ending != "" && w.may(NoTenant) && w.chance(50) {
		w.unboundNow() // what was undone left no binding
	}
	if t.committing {
		w.drop(t.inserted, t.view)
		w.book(t.view, t.bodies, err)
	} else {
		w.drop(t.inserted, nil) // it cannot have been committed
	}
	if err == nil && w.chance(30) {
		return w.inspect(ctx, w.target, nil)
	}
	return err
}

// ending chooses how a transaction ends; "" is its commit.
func (w *worker) ending() Fault {
	dice := w.random.IntN(100)
	switch {
	case dice < 12 && w.may(RolledBack):
		return RolledBack
	case dice < 24 && w.may(FailedCallback):
		return FailedCallback
	case dice < 32 && w.may(PanickedCallback):
		return PanickedCallback
	case dice < 38 && w.may(FailedStatement):
		return FailedStatement
	default:
		return ""
	}
}

// work is one transaction of a worker.
type work struct {
	*worker
	view     view              // what it made of rows
	bodies   map[string]string // of the view's rows
	inserted map[string]string // bodies of all rows that it ever inserted
	ending   Fault

	reached    bool  // the callback came to its end
	committing bool  // the callback asked for a commit
	err        error // the callback's
}

// run runs the transaction by the handle's InTx, where there is one, or by hand.
func (t *work) run(ctx context.Context) (recovered any, err error) {
	defer func() { recovered = recover() }()
	if db, ok := t.target.DB.(callbackDB); ok && t.chance(50) {
		return nil, db.InTx(ctx, nil, func(tx *sql.Tx) error { return t.callback(ctx, tx) })
	}
	tx, err := t.target.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
	if err := t.callback(ctx, tx); err != nil {
		return nil, err
	}
	return nil, tx.Commit()
}

func (t *work) callback(ctx context.Context, tx *sql.Tx) error {
	t.err = t.body(ctx, tx)
	t.committing = t.err == nil
	return t.err
}

func (t *work) body(ctx context.Context, tx *sql.Tx) error {
	for range 1 + t.random.IntN(3) {
		err := t.step(ctx, tx)
		if err != nil {
			return err
		}
	}
	if t.may(KilledConnection) && t.chance(2) {
		t.kill(ctx, 0) // certainly before the end of this one
	}
	switch t.ending {
	case RolledBack:
		if err := tx.Rollback(); err != nil {
			return err
		}
		t.reached = true
		return sql.ErrTxDone
	case FailedCallback:
		t.reached = true
		return errFailed
	case PanickedCallback:
		t.reached = true
		panic(panicked)
	case FailedStatement:
		_, err := tx.ExecContext(ctx, t.wrong())
		if err == nil {
			t.found(PhantomRow, "%s: a statement that must fail was accepted", t.where())
		}
		t.reached = ctx.Err() == nil
		return errFailed
	default:
		t.reached = true
		return nil
	}
}

func (t *work) step(ctx context.Context, tx *sql.Tx) error {
	if t.chance(25) {
		return t.savepoint(ctx, tx)
	}
	if err := t.one(ctx, tx, t.view); err != nil {
		return err
	}
	if t.chance(40) {
		return t.inspect(ctx, t.wayIn(tx), t.view)
	}
	return nil
}

// one does one write and notes it in the view.
func (t *work) one(ctx context.Context, tx *sql.Tx, v view) error {
	c := t.change(v)
	if c.from == absent {
		t.inserted[c.id] = c.body
	}
	if err := t.write(ctx, t.wayIn(tx), c); err != nil {
		return err
	}
	v[c.id], t.bodies[c.id] = c.to, c.body
	return nil
}

func (t *work) savepoint(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT s"); err != nil {
		return err
	}
	inner := maps.Clone(t.view)
	if err := t.one(ctx, tx, inner); err != nil {
		return err
	}
	if t.chance(50) {
		t.view = inner
		_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT s")
		return err
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT s"); err != nil {
		return err
	}
	return t.inspect(ctx, tx, t.view)
}

// lease runs several statements on one connection.
func (w *worker) lease(ctx context.Context) error {
	conn, err := w.target.Conn(ctx)
	if err != nil {
		return noSession(err)
	}
	defer conn.Close()
	if err := w.inspect(ctx, conn, nil); err != nil {
		return noSession(err)
	}
	if err := w.inspect(ctx, conn, nil); err != nil {
		return noSession(err)
	}
	c := w.change(nil)
	err = w.write(ctx, conn, c)
	w.book(view{c.id: c.to}, map[string]string{c.id: c.body}, err)
	if err != nil {
		return noSession(err)
	}
	return w.inspect(ctx, conn, nil)
}

// noSession drops the error that says that a lease is not possible here.
func noSession(err error) error {
	if errors.Is(err, isolation.ErrSessionUnsupported) {
		return nil
	}
	return err
}

func (w *worker) closeEarly(ctx context.Context) error {
	rows, err := w.way().QueryContext(ctx, w.all)
	if err != nil {
		return err
	}
	if rows.Next() {
		err = w.checkOpen(rows)
	}
	return errors.Join(err, rows.Err(), rows.Close())
}

// checkOpen checks the row that rows stand at.
func (w *worker) checkOpen(rows *sql.Rows) error {
	var r row
	if err := rows.Scan(&r.id, &r.owner, &r.n, &r.body); err != nil {
		return err
	}
	return w.foreign([]row{r}, nil)
}

// leaveOpen reads one row and never closes the rows; the end of their context or transaction does.
func (w *worker) leaveOpen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := w.way()
	if w.chance(30) {
		tx, err := w.target.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		q = w.wayIn(tx)
	}
	rows, err := q.QueryContext(ctx, w.all)
	if err != nil {
		return err
	}
	if rows.Next() {
		err = w.checkOpen(rows)
	} else {
		err = rows.Err()
	}
	w.tally.happened(RowsLeftOpen)
	return err
}

// abandon writes in a transaction that nobody ends; the end of its context does.
func (w *worker) abandon(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tx, err := w.target.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := &work{worker: w, view: view{}, bodies: map[string]string{}, inserted: map[string]string{}}
	err = t.one(ctx, tx, t.view)
	w.drop(t.inserted, nil) // it is never committed
	w.tally.happened(CancelledContext)
	return err
}

// otherInside calls as another tenant inside a transaction, which must fail, and beside it, which
// must answer with the other's rows.
func (w *worker) otherInside(ctx context.Context) error {
	other := w.other()
	foreign := w.Bind(ctx, other)
	return w.inOwnTx(ctx, func(tx *sql.Tx) error {
		if err := w.inspect(ctx, tx, nil); err != nil {
			return err
		}
		if w.chance(40) {
			// A pool of one connection has none left: the wait ends soon.
			beside, cancel := context.WithTimeout(foreign, 20*time.Millisecond)
			defer cancel()
			got, err := readRows(beside, w.target, w.all)
			if err != nil {
				return nil // it waited in vain
			}
			for _, r := range got {
				w.checkRow(other, r, w.where()+", beside it")
			}
			return nil
		}
		got, err := readRows(foreign, tx, w.all)
		if err == nil {
			w.found(OtherTenantInside, "%s: tenant %q was answered with %d rows inside", w.where(), other, len(got))
		}
		w.tally.happened(OtherTenant)
		return nil
	})
}

// noTenant calls outside every tenant, which must fail.
func (w *worker) noTenant(ctx context.Context) error {
	if w.chance(30) { // right after a use
		if err := w.inspect(ctx, w.way(), nil); err != nil {
			return err
		}
	}
	w.unboundNow()
	return nil
}

func (w *worker) unboundNow() {
	nobody, cancel := context.WithTimeout(w.base, operationTime)
	defer cancel()
	w.unbound(nobody, w.way())
	w.tally.happened(NoTenant)
}

// unbound runs a statement outside every tenant.
func (w *worker) unbound(nobody context.Context, q querier) {
	var err error
	what := "a SELECT"
	switch w.random.IntN(3) {
	case 0:
		_, err = readRows(nobody, q, w.all)
	case 1:
		what = "an UPDATE"
		_, err = q.ExecContext(nobody, "UPDATE "+w.Table+" SET n = n")
	default:
		db, ok := q.(DB)
		if !ok {
			_, err = readRows(nobody, q, w.all)
			break
		}
		what = "a transaction"
		var tx *sql.Tx
		if tx, err = db.BeginTx(nobody, nil); err == nil {
			_, err = readRows(nobody, tx, w.all)
			_ = tx.Rollback()
		}
	}
	if err == nil {
		w.found(UnboundAccess, "%s: %s outside every tenant did not fail", w.where(), what)
	}
}

func (w *worker) pastHandle(ctx context.Context) error {
	var got []row
	var err error
	unlabelled(w.base, func() { got, err = readRows(ctx, w.Plain, w.all) })
	if err == nil {
		w.found(UnboundAccess, "%s: the application's login without the handle read %d rows", w.where(), len(got))
	}
	return nil
}

// setSession binds the session to another tenant, as application code could.
func (w *worker) setSession(ctx context.Context) error {
	texts := w.SetSession(w.other())
	text := texts[w.random.IntN(len(texts))]
	var err error
	if w.chance(60) {
		_, err = w.target.ExecContext(ctx, text)
	} else {
		var tx *sql.Tx
		if tx, err = w.target.BeginTx(ctx, nil); err == nil {
			_, err = tx.ExecContext(ctx, text)
			err = errors.Join(err, tx.Commit())
		}
	}
	if ctx.Err() != nil {
		return err
	}
	w.tally.happened(SessionSetting) // a refusal is an answer too
	w.unbound(w.base, w.target)
	return w.inspect(ctx, w.target, nil)
}

// wrong returns a statement that the server refuses.
func (w *worker) wrong() string {
	values := func(id string, n int) string {
		return fmt.Sprintf("INSERT INTO %s (%s) VALUES ('%s', '%s', %d, 'wrong')", w.Table, columns, id, w.tenant, n)
	}
	switch w.random.IntN(4) {
	case 0:
		return "SELEC " + columns
	case 1:
		return "UPDATE " + w.Table + " SET no_such_column = 1"
	case 2:
		if len(w.account.live) > 0 {
			id := w.account.live[0]
			return values(id, 0) + ", ('" + id + "', '" + w.tenant + "', 0, 'wrong')" // in itself a duplicate
		}
		return values("wrong", -1)
	default:
		return values("wrong", -1)
	}
}

func (w *worker) failStatement(ctx context.Context) error {
	if _, err := w.target.ExecContext(ctx, w.wrong()); err == nil {
		w.found(PhantomRow, "%s: a statement that must fail was accepted", w.where())
	}
	w.tally.happened(FailedStatement)
	return w.inspect(ctx, w.target, nil)
}
