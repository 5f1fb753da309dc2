package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// worker is one goroutine of one tenant. It alone writes its rows, so that it knows what is in
// them.
type worker struct {
	*hunt
	tenant  string
	number  int
	random  *rand.Rand
	account *account
	ledger  *ledger

	// The operation under way.
	name   string
	target *target
}

func newWorker(h *hunt, tenant string, number int) *worker {
	return &worker{
		hunt: h, tenant: tenant, number: number, account: newAccount(), ledger: h.ledgers[tenant],
		random: rand.New(rand.NewPCG(h.plan.Seed, uint64(number))),
	}
}

func (w *worker) chance(percent int) bool { return w.random.IntN(100) < percent }

// operate does one operation of random choice.
func (w *worker) operate(ctx context.Context) {
	o := w.choose()
	w.name, w.target = o.name, w.pick(w.random)
	ctx, cancel := context.WithTimeout(ctx, operationTime)
	defer cancel()
	limit := ctx
	ctx, done := w.endEarly(w.Bind(ctx, w.tenant), o)
	err := o.run(w, ctx)
	done(err)
	w.tally.did(o.name)
	if err == nil || w.over.Load() {
		return
	}
	w.tally.failed(err)
	if limit.Err() != nil || ctx.Err() == nil && !w.disturbed() && !deadlocked(err) {
		w.found(UnexplainedError, "%s: %v", w.where(), err)
	}
}

// deadlocked reports that the server chose a transaction to fail. MySQL locks the gaps between
// rows, so that writers of different rows can meet.
func deadlocked(err error) bool { return strings.Contains(strings.ToLower(err.Error()), "deadlock") }

func (w *worker) choose() operation {
	n := w.random.IntN(weights)
	for _, o := range operations {
		if n -= o.weight; n < 0 {
			if o.fault != "" && !w.may(o.fault) || o.needs != nil && !o.needs(w.Handle) {
				return operations[0]
			}
			return o
		}
	}
	return operations[0]
}

// where says what is under way.
func (w *worker) where() string {
	return fmt.Sprintf("tenant %q, worker %d, %s by %s", w.tenant, w.number, w.name, w.target.name)
}

// endEarly lets the context of some operations end at a random moment.
func (w *worker) endEarly(ctx context.Context, o operation) (_ context.Context, done func(err error)) {
	moment := time.Duration(w.random.IntN(3000)) * time.Microsecond
	fault := Fault("")
	switch dice := w.random.IntN(100); {
	case dice < 6:
		fault = CancelledContext
	case dice < 10:
		fault = PassedDeadline
	}
	if fault == "" || o.steady || !w.may(fault) {
		return ctx, func(error) {}
	}
	limit := moment
	if fault == CancelledContext {
		limit = operationTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	if fault == CancelledContext {
		time.AfterFunc(moment, cancel)
	}
	return ctx, func(err error) {
		if err != nil && ctx.Err() != nil {
			w.tally.happened(fault)
		}
		cancel()
	}
}

// other returns another tenant.
func (w *worker) other() string {
	for {
		if tenant := w.Tenants[w.random.IntN(len(w.Tenants))]; tenant != w.tenant {
			return tenant
		}
	}
}

// way returns the target, or a way to run its prepared statements.
func (w *worker) way() querier {
	if w.chance(35) {
		return prepared{querier: w.target, target: w.target}
	}
	return w.target
}

// wayIn is way inside a transaction.
func (w *worker) wayIn(tx *sql.Tx) querier {
	if w.chance(25) {
		return prepared{querier: tx, target: w.target, tx: tx}
	}
	return tx
}

// prepared runs the texts that are prepared by their statements.
type prepared struct {
	querier
	target *target
	tx     *sql.Tx
}

func (p prepared) stmt(ctx context.Context, query string) *sql.Stmt {
	s := p.target.prepared[query]
	if s != nil && p.tx != nil {
		return p.tx.StmtContext(ctx, s)
	}
	return s
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := p.stmt(ctx, query); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return p.querier.ExecContext(ctx, query, args...)
}

func (p prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := p.stmt(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return p.querier.QueryContext(ctx, query, args...)
}

// inspect reads all rows of the tenant and compares them with what the worker knows. The view is
// the transaction's that q is.
func (w *worker) inspect(ctx context.Context, q querier, v view) error {
	got, err := readRows(ctx, q, w.all)
	if err != nil {
		return err
	}
	w.compare(got, v)
	return nil
}

func (w *worker) compare(got []row, v view) {
	w.tally.read(len(got))
	seen := make(map[string]int64, len(got))
	for _, r := range got {
		if _, twice := seen[r.id]; twice {
			w.found(PhantomRow, "%s: read %v twice", w.where(), r)
		}
		seen[r.id] = r.n
		w.checkRow(w.tenant, r, w.where())
	}
	is := func(id string) int64 {
		if n, ok := seen[id]; ok {
			return n
		}
		return absent
	}
	for id, e := range w.account.entries {
		if version := is(id); v.has(id) && version != v[id] || !v.has(id) && !e.allows(version) {
			w.found(LostWrite, "%s: row %s is at %s; acknowledged was %s", w.where(), id, versionText(version), versionText(w.account.version(v, id)))
		}
	}
	for id, want := range v {
		if w.account.entries[id] == nil && is(id) != want {
			w.found(LostWrite, "%s: row %s, written in this transaction, is at %s; want %s", w.where(), id, versionText(is(id)), versionText(want))
		}
	}
}

func (v view) has(id string) bool { _, ok := v[id]; return ok }

// most is how many rows a worker keeps.
const most = 8

// change chooses a write: an insert, an update or a delete of a row whose state is known.
func (w *worker) change(v view) change {
	var there []string
	for _, id := range w.account.live {
		if w.account.version(v, id) != absent {
			there = append(there, id)
		}
	}
	dice := w.random.IntN(100)
	if len(there) == 0 || len(there) < most && dice < 40 {
		r := newRow(w.tenant)
		w.ledger.issue(r)
		return change{row: r, from: absent, to: 0}
	}
	id := there[w.random.IntN(len(there))]
	r := row{id: id, owner: w.tenant, body: w.account.entries[id].body}
	from := w.account.version(v, id)
	if len(there) >= most || dice < 60 {
		return change{row: r, from: from, to: absent}
	}
	return change{row: r, from: from, to: from + 1}
}

// write runs a change on one row.
func (w *worker) write(ctx context.Context, q querier, c change) error {
	query, args := w.update, []any{c.to, c.id}
	switch {
	case c.from == absent:
		query, args = w.insert, row{c.id, c.owner, c.body, c.to}.values()
	case c.to == absent:
		query, args = w.remove, []any{c.id}
	}
	var n int64
	if standard(w.Engine) && w.chance(25) {
		got, err := readRows(ctx, q, query+" RETURNING "+columns, args...)
		if err != nil {
			return err
		}
		for _, r := range got {
			w.checkRow(w.tenant, r, w.where()+" RETURNING")
		}
		n = int64(len(got))
	} else {
		result, err := q.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err = result.RowsAffected(); err != nil {
			return nil //nolint:nilerr // the driver does not know
		}
	}
	switch {
	case n < 1:
		w.found(LostWrite, "%s: %s of row %s, acknowledged at %s, changed nothing", w.where(), query, c.id, versionText(c.from))
	case n > 1:
		w.found(ForeignRow, "%s: %s of row %s changed %d rows", w.where(), query, c.id, n)
	}
	return nil
}

// book books the outcome of writes that took effect together, or not, or perhaps.
func (w *worker) book(v view, bodies map[string]string, err error) {
	if err == nil {
		w.account.acknowledge(v, bodies)
		w.tally.wrote(len(v), 0)
		return
	}
	w.account.doubt(v, bodies)
	w.tally.wrote(0, len(v))
}

// drop forgets rows whose inserts cannot have taken effect.
func (w *worker) drop(inserted map[string]string, kept view) {
	for id := range inserted {
		if !kept.has(id) {
			w.ledger.forget(id)
		}
	}
}

// bury deletes the rows of which nobody knows, and drops what is known to be gone. Nobody works
// meanwhile.
func (w *worker) bury(ctx context.Context) {
	for id, e := range w.account.entries {
		if e.frozen() {
			if _, err := w.targets[0].ExecContext(w.Bind(ctx, w.tenant), w.remove, id); err != nil {
				continue // at the next audit
			}
			w.ledger.bury(id)
			delete(w.account.entries, id)
			continue
		}
		if e.now == absent {
			w.ledger.forget(id)
			delete(w.account.entries, id)
		}
	}
	w.account.live = slices.DeleteFunc(w.account.live, func(id string) bool { return w.account.entries[id] == nil })
}

// errFailed is what callbacks fail with on purpose.
var errFailed = errors.New("isolationtest: failed on purpose")

// panicked is what callbacks panic with on purpose.
const panicked = "isolationtest: a panic on purpose"
