package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"lexigram.dev/tenancy/isolation"
)

// leak is a row of the list of known leaks, as a test.
type leak struct {
	name string
	// conns is how many connections the test wants, where the handle can choose; 0 for its own.
	conns int
	// needs returns why the leak does not apply, or "".
	needs func(h Handle) string
	run   func(f *fixture)
}

// Run looks for every known leak, with a subtest for each, named by its row: C01 to C22 for
// connections, R01 to R18 for rows. What does not apply to the handle is a skipped subtest that says
// why. R11, R12 and R15 are about tables that it makes by Handle.Migrate; for those of the application,
// and for its foreign keys (R10, R16), ask [Covered] as well. A t that is no *testing.T must have a method
// Run(string, func(testing.TB)) bool. The subtests do not run in parallel: they share the table.
func Run(t testing.TB, h Handle) {
	t.Helper()
	h, end := start(t, h)
	defer end()
	for _, l := range slices.Concat(connectionLeaks, rowLeaks, schemaLeaks) {
		subtest(t, l.name, func(t testing.TB) {
			t.Helper()
			if l.needs != nil {
				if why := l.needs(h); why != "" {
					t.Skipf("does not apply: %s", why)
				}
			}
			f := newFixture(t, h, l.conns)
			l.run(f)
			f.intact()
		})
	}
}

func subtest(t testing.TB, name string, test func(t testing.TB)) {
	t.Helper()
	switch t := t.(type) {
	case *testing.T:
		t.Run(name, func(t *testing.T) { test(t) })
	case interface {
		Run(name string, test func(t testing.TB)) bool
	}:
		t.Run(name, test)
	default:
		t.Fatalf("isolationtest: %T cannot run subtests: give a *testing.T", t)
	}
}

// caseTime bounds a test, so that a connection that never comes back fails it.
const caseTime = time.Minute

// fixture is one test of a leak: the handle, and the rows that its tenants must have.
type fixture struct {
	testing.TB
	texts
	h    Handle
	db   DB
	base context.Context
	a, b string // two tenants

	steps float64 // that SQLite counts in a second; 0 until somebody asks

	mu    sync.Mutex
	rows  map[string]map[string]row // by tenant and id
	maybe map[string]row            // by id; written by statements whose outcome nobody knows
}

// newFixture empties the table and gives each tenant a few rows.
func newFixture(t testing.TB, h Handle, conns int) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	t.Cleanup(cancel)
	f := &fixture{
		TB: t, texts: newTexts(h), h: h, db: h.DB, base: ctx, a: h.Tenants[0], b: h.Tenants[1],
		rows: map[string]map[string]row{}, maybe: map[string]row{},
	}
	if h.Open != nil && conns > 0 {
		db, err := h.Open(conns)
		f.must(err, "open a handle of %d connections", conns)
		f.db = db
		t.Cleanup(func() {
			cancel()
			if err := closeDB(db); err != nil {
				t.Errorf("close the handle: %v", err)
			}
		})
	}
	for _, tenant := range h.Tenants {
		f.rows[tenant] = map[string]row{}
		_, err := f.db.ExecContext(f.ctx(tenant), "DELETE FROM "+h.Table)
		f.must(err, "empty the table of tenant %q", tenant)
	}
	for _, tenant := range h.Tenants {
		for range 3 {
			f.add(tenant)
		}
	}
	return f
}

func closeDB(db DB) error {
	if c, ok := db.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (f *fixture) ctx(tenant string) context.Context { return f.h.Bind(f.base, tenant) }

func (f *fixture) must(err error, format string, args ...any) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// kept reports that the handle did not run a statement because it cannot keep it in its tenant.
func (f *fixture) kept(err error) bool {
	if err == nil || f.h.Refuses == nil || !f.h.Refuses(err) {
		return false
	}
	f.Logf("refused: %v", err)
	return true
}

// refused fails the test unless err is an error, and the one that is wanted.
func (f *fixture) refused(err, want error, format string, args ...any) {
	f.Helper()
	switch what := fmt.Sprintf(format, args...); {
	case err == nil:
		f.Errorf("%s: allowed; it must fail", what)
	case want != nil && !errors.Is(err, want):
		f.Errorf("%s: the error is %v; want %v", what, err, want)
	}
}

// expect notes that a row is the tenant's from now on. Goroutines may call it.
func (f *fixture) expect(tenant string, r row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[tenant][r.id] = r
}

func (f *fixture) forget(tenant string, r row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.rows[tenant], r.id)
}

// add writes a row of a tenant.
func (f *fixture) add(tenant string) row {
	f.Helper()
	r := newRow(tenant)
	_, err := f.db.ExecContext(f.ctx(tenant), f.insert, r.values()...)
	f.must(err, "insert a row of tenant %q", tenant)
	f.expect(tenant, r)
	return r
}

// any returns one of the rows of a tenant.
func (f *fixture) any(tenant string) row {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rows[tenant] {
		return r
	}
	return row{}
}

// count returns how many rows a tenant must have.
func (f *fixture) count(tenant string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.rows[tenant]))
}

// sees fails the test unless q shows the tenant exactly its rows.
func (f *fixture) sees(q querier, tenant string) {
	f.Helper()
	f.seesIn(f.ctx(tenant), q, tenant)
}

func (f *fixture) seesIn(ctx context.Context, q querier, tenant string) {
	f.Helper()
	got, err := readRows(ctx, q, f.all)
	f.must(err, "read as tenant %q", tenant)
	if err := f.compare(tenant, got); err != nil {
		f.Fatal(err)
	}
}

// own returns an error if one of the rows is not the tenant's. Goroutines may call it.
func own(tenant string, got []row) error {
	for _, r := range got {
		if r.owner != tenant {
			return fmt.Errorf("tenant %q read %v", tenant, r)
		}
	}
	return nil
}

func (f *fixture) compare(tenant string, got []row) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := own(tenant, got); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, r := range got {
		if seen[r.id] {
			return fmt.Errorf("tenant %q read %v twice", tenant, r)
		}
		seen[r.id] = true
		if want, ok := f.rows[tenant][r.id]; !ok && f.maybe[r.id] != r {
			return fmt.Errorf("tenant %q read %v, which must not be there", tenant, r)
		} else if ok && want != r {
			return fmt.Errorf("tenant %q read %v; want %v", tenant, r, want)
		}
	}
	for id, r := range f.rows[tenant] {
		if !seen[id] {
			return fmt.Errorf("tenant %q does not see its %v", tenant, r)
		}
	}
	return nil
}

// intact checks what must hold at the end of every test: each tenant has exactly its rows, and
// nobody has none.
func (f *fixture) intact() {
	f.Helper()
	for range 2 {
		for _, tenant := range f.h.Tenants {
			f.sees(f.db, tenant)
			f.unbound()
		}
	}
}

// unbound checks that without a tenant nothing can be read or written.
func (f *fixture) unbound() {
	f.Helper()
	f.nothing(f.db, f.h.ErrNoTenant, "without a tenant")
	if f.h.Plain != nil {
		f.nothing(f.h.Plain, nil, "past the handle")
	}
}

// nothing checks that statements outside every tenant fail. No rows would not do: whoever asked
// would believe it.
func (f *fixture) nothing(q querier, want error, how string) {
	f.Helper()
	got, err := readRows(f.base, q, f.all)
	f.refused(err, want, "a SELECT %s, which found %d rows", how, len(got))
	_, err = f.execChanged(f.base, q, "UPDATE "+f.table+" SET n = n")
	f.refused(err, want, "an UPDATE %s", how)
	db, ok := q.(DB)
	if !ok {
		return
	}
	tx, err := db.BeginTx(f.base, nil)
	if err == nil {
		got, err = readRows(f.base, tx, f.all)
		_ = tx.Rollback()
	}
	f.refused(err, want, "a SELECT in a transaction %s, which found %d rows", how, len(got))
}

// execChanged runs a statement and returns how many rows it changed; -1 if the driver does not
// know.
func (f *fixture) execChanged(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return -1, nil //nolint:nilerr // the driver does not know
	}
	return n, nil
}

// changes runs a statement as a tenant that must change so many rows.
func (f *fixture) changes(q querier, tenant string, want int64, query string, args ...any) {
	f.Helper()
	n, err := f.execChanged(f.ctx(tenant), q, query, args...)
	f.must(err, "%s", query)
	if n >= 0 && n != want {
		f.Errorf("%s: changed %d rows; want %d", query, n, want)
	}
}

// inTx runs fn by the handle's own way to do it.
func (f *fixture) inTx(tenant string, fn func(tx *sql.Tx) error) error {
	f.Helper()
	db, ok := f.db.(callbackDB)
	if !ok {
		f.Fatalf("%T has no InTx", f.db)
	}
	return db.InTx(f.ctx(tenant), nil, fn)
}

// begin begins a transaction that ends with the test.
func (f *fixture) begin(ctx context.Context) *sql.Tx {
	f.Helper()
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err, "begin")
	f.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// eventually waits for a condition.
func (f *fixture) eventually(what string, condition func() bool) {
	f.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			f.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// slow is an insert of the row that takes about that many seconds.
func (f *fixture) slow(r row, seconds float64) (query string, args []any) {
	f.Helper()
	if f.engine == isolation.EngineSQLite && f.steps == 0 {
		const steps = 100_000
		begin := time.Now()
		_, err := f.db.ExecContext(f.ctx(f.a), counting(steps))
		f.must(err, "let SQLite count")
		f.steps = steps / time.Since(begin).Seconds()
	}
	return f.texts.slow(r, seconds, f.steps)
}

// kill ends the connections of the handle; it waits until there is one to end.
func (f *fixture) kill() {
	f.Helper()
	f.eventually("a connection to kill", func() bool {
		n, err := f.h.Kill(f.base, 0)
		f.must(err, "kill")
		return n > 0
	})
}

// together runs fn for i = 0 … n-1 at once and fails the test with what they return.
func (f *fixture) together(n int, fn func(i int) error) {
	f.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	f.must(errors.Join(errs...), "of %d goroutines", n)
}
