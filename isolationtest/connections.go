package isolationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"lexigram.dev/tenancy/isolation"
)

// connectionLeaks are the leaks of connections and pools.
var connectionLeaks = []leak{
	{"C01 the next borrower sees its own rows", 1, nil, nextBorrower},
	{"C02 more goroutines than connections", 3, nil, (*fixture).hammer},
	{"C03 a cancelled context leaves no binding", 1, nil, cancelledStatement},
	{"C03 a cancelled transaction is not committed", 1, nil, cancelledTransaction},
	{"C04 every connection comes back clean", 6, nil, manyConnections},
	{"C05 behind a transaction pooler", 4, needsPooler, behindPooler},
	{"C06 an error of the callback rolls back and comes back", 1, needsCallback, callbackError},
	{"C07 a panic of the callback rolls back and goes on", 1, needsCallback, callbackPanic},
	{"C08 a callback that rolls back by itself", 1, needsCallback, callbackRollback},
	{"C08 a transaction that is over", 1, nil, finishedTransaction},
	{"C09 the connection keeps its own settings", 1, needsKeeps, ownSettings},
	{"C10 a table that changes", 1, needsMigrate, changedTable},
	{"C11 a connection lost in a transaction", 1, needsKill, lostTransaction},
	{"C11 a connection lost in a statement", 1, needsKill, lostStatement},
	{"C11 a connection lost while unused", 2, needsKill, lostUnused},
	{"C12 another tenant inside a transaction", 2, nil, otherInTransaction},
	{"C12 another tenant on a leased connection", 2, nil, otherOnConn},
	{"C12 another tenant beside a transaction", 2, nil, otherBeside},
	{"C13 no tenant", 1, nil, noTenant},
	{"C13 a goroutine that outlives its request", 1, nil, outlives},
	{"C14 prepared under one tenant, executed under the other", 1, nil, preparedElsewhere},
	{"C15 rows left open", 1, nil, rowsLeftOpen},
	{"C15 rows closed early", 1, nil, rowsClosedEarly},
	{"C16 a setting that was used once", 1, needsPlain, usedSetting},
	{"C17 prepared statements behind a pooler", 4, needsPooler, preparedPooled},
	{"C18 a qualified name", 1, needsQualified, qualifiedName},
	{"C19 the setting set for the session", 1, needsSetSession, sessionSetting},
	{"C20 a text that ends the transaction", 1, nil, transactionControl},
	{"C20 a block that commits", 1, needsPostgreSQL, committingBlock},
	{"C21 what a session keeps", 1, nil, sessionFeatures},
	{"C22 a flood of one tenant", 0, needsPerTenant, flood},
}

func needs(missing bool, why string) string {
	if missing {
		return why
	}
	return ""
}

func needsPooler(h Handle) string    { return needs(!h.Pooled, "Handle.Pooled is false") }
func needsKeeps(h Handle) string     { return needs(len(h.Keeps) == 0, "Handle.Keeps is empty") }
func needsMigrate(h Handle) string   { return needs(h.Migrate == nil, "Handle.Migrate is nil") }
func needsKill(h Handle) string      { return needs(h.Kill == nil, "Handle.Kill is nil") }
func needsPlain(h Handle) string     { return needs(h.Plain == nil, "Handle.Plain is nil") }
func needsPerTenant(h Handle) string { return needs(h.PerTenant == 0, "Handle.PerTenant is 0") }

func needsCallback(h Handle) string {
	_, ok := h.DB.(callbackDB)
	return needs(!ok, "Handle.DB has no InTx")
}

func needsQualified(h Handle) string {
	return needs(h.Qualified == nil, "Handle.Qualified is nil: no name reaches another tenant's table")
}

func needsSetSession(h Handle) string {
	return needs(h.SetSession == nil, "Handle.SetSession is nil: no statement binds the session")
}

func needsPostgreSQL(h Handle) string {
	return needs(h.Engine != isolation.EnginePostgreSQL, "only PostgreSQL has DO blocks")
}

func nextBorrower(f *fixture) {
	for range 5 {
		for _, tenant := range f.h.Tenants {
			f.sees(f.db, tenant)
			f.unbound()
			f.add(tenant)
			f.unbound()
			tx := f.begin(f.ctx(tenant))
			f.sees(tx, tenant)
			f.must(tx.Commit(), "commit")
			f.unbound()
		}
	}
}

// hammer reads and writes as every tenant from many goroutines.
func (f *fixture) hammer() {
	const goroutines, rounds = 8, 20
	tenants := f.h.Tenants
	f.together(goroutines*len(tenants), func(i int) error {
		tenant := tenants[i%len(tenants)]
		ctx := f.ctx(tenant)
		for j := range rounds {
			if j%4 == 0 {
				r := newRow(tenant)
				if _, err := f.db.ExecContext(ctx, f.insert, r.values()...); err != nil {
					return fmt.Errorf("insert as tenant %q: %w", tenant, err)
				}
				f.expect(tenant, r)
			}
			got, err := readRows(ctx, f.db, f.all)
			if err != nil {
				return fmt.Errorf("read as tenant %q: %w", tenant, err)
			}
			if err := own(tenant, got); err != nil {
				return err
			}
		}
		return nil
	})
}

func cancelledStatement(f *fixture) {
	const seconds = 2
	if !standard(f.engine) {
		// Drivers of MySQL cannot cancel: the server goes on, and must be done before the next test.
		defer time.Sleep((seconds + 1) * time.Second)
	}
	for name, run := range map[string]func(ctx context.Context, q string, args []any) error{
		"statement": func(ctx context.Context, q string, args []any) error {
			_, err := f.db.ExecContext(ctx, q, args...)
			return err
		},
		"transaction": func(ctx context.Context, q string, args []any) error {
			tx, err := f.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, q, args...); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
	} {
		for _, tenant := range []string{f.a, f.b} {
			r := newRow(tenant)
			f.maybe[r.id] = r // whether the cancellation reaches the server in time is not the handle's to say
			ctx, cancel := context.WithTimeout(f.ctx(tenant), 50*time.Millisecond)
			q, args := f.slow(r, seconds)
			err := run(ctx, q, args)
			cancel()
			f.refused(err, nil, "a cancelled %s", name)
			f.unbound()
			f.sees(f.db, f.b)
			f.sees(f.db, f.a)
		}
	}
}

func cancelledTransaction(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx(f.a))
	defer cancel()
	tx := f.begin(ctx)
	r := newRow(f.a)
	_, err := tx.ExecContext(ctx, f.insert, r.values()...)
	f.must(err, "insert")
	cancel()
	f.refused(tx.Commit(), nil, "the commit of a cancelled transaction")
	f.unbound()
}

func manyConnections(f *fixture) {
	var open []*sql.Rows
	for i := range 6 {
		ctx := f.ctx(f.h.Tenants[i%len(f.h.Tenants)])
		rows, err := f.db.QueryContext(ctx, f.all)
		f.must(err, "query %d at the same time", i)
		open = append(open, rows)
	}
	for _, rows := range open {
		rows.Next()
		f.must(errors.Join(rows.Err(), rows.Close()), "close rows")
	}
	f.together(12, func(i int) error {
		if i%2 == 0 {
			got, err := readRows(f.base, f.db, f.all)
			if err == nil {
				return fmt.Errorf("a SELECT without a tenant was allowed and found %d rows", len(got))
			}
			return nil
		}
		tenant := f.h.Tenants[i/2%len(f.h.Tenants)]
		got, err := readRows(f.ctx(tenant), f.db, f.all)
		if err != nil {
			return err
		}
		return f.compare(tenant, got)
	})
}

// behindPooler reads and writes while clients without the handle share the server's connections.
func behindPooler(f *fixture) {
	if f.h.Plain == nil {
		f.hammer()
		return
	}
	ctx, cancel := context.WithCancel(f.base)
	found := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			if got, e := readRows(ctx, f.h.Plain, f.all); e == nil {
				err = fmt.Errorf("a client without the handle read %d rows", len(got))
			}
		}
		found <- err
	}()
	f.hammer()
	cancel()
	f.must(<-found, "beside the handle")
}

func callbackError(f *fixture) {
	sentinel := errors.New("the callback's own error")
	err := f.inTx(f.a, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(f.ctx(f.a), f.insert, newRow(f.a).values()...); err != nil {
			return err
		}
		return sentinel
	})
	f.refused(err, sentinel, "a callback that failed")
}

func callbackPanic(f *fixture) {
	const value = "the callback's own panic"
	func() {
		defer func() {
			if got := recover(); got != value {
				f.Errorf("the panic came back as %v", got)
			}
		}()
		err := f.inTx(f.a, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(f.ctx(f.a), f.insert, newRow(f.a).values()...); err != nil {
				return err
			}
			panic(value)
		})
		f.Errorf("a callback that panicked returned %v", err)
	}()
	f.unbound()
}

func callbackRollback(f *fixture) {
	err := f.inTx(f.a, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(f.ctx(f.a), f.insert, newRow(f.a).values()...); err != nil {
			return err
		}
		return tx.Rollback()
	})
	f.refused(err, nil, "the commit of a transaction that was rolled back")
	f.unbound()
}

func finishedTransaction(f *fixture) {
	tx := f.begin(f.ctx(f.a))
	_, err := tx.ExecContext(f.ctx(f.a), f.insert, newRow(f.a).values()...)
	f.must(err, "insert")
	f.must(tx.Rollback(), "roll back")
	f.unbound()
	f.sees(f.db, f.b)
	_, err = tx.ExecContext(f.ctx(f.a), f.insert, newRow(f.a).values()...)
	f.refused(err, sql.ErrTxDone, "a statement after the end of its transaction")
}

func ownSettings(f *fixture) {
	for range 3 {
		for _, tenant := range f.h.Tenants {
			for query, want := range f.h.Keeps {
				rows, err := f.db.QueryContext(f.ctx(tenant), query)
				f.must(err, "%s", query)
				got := ""
				if rows.Next() {
					err = rows.Scan(&got)
				}
				f.must(errors.Join(err, rows.Err(), rows.Close()), "%s", query)
				if got != want {
					f.Errorf("%s as tenant %q answers %q; want %q", query, tenant, got, want)
				}
			}
		}
	}
}

// changedTable adds a column, for one tenant after the other where each has its table, and takes
// it away again. Whose table has changed may see one failure where the driver is known for it; after
// that, and for everybody else, the same text answers with what each has.
func changedTable(f *fixture) {
	shared := f.h.TenantColumn != ""
	places := f.h.Tenants
	if shared {
		places = places[:1]
	}
	query := "SELECT * FROM " + f.table
	width := func(tenant string) (int, error) {
		rows, err := f.db.QueryContext(f.ctx(tenant), query)
		if err != nil {
			return 0, err
		}
		rows.Next()
		names, err := rows.Columns()
		return len(names), errors.Join(err, rows.Err(), rows.Close())
	}
	want := map[string]int{}
	check := func(tenant string, mayFail bool) {
		f.Helper()
		got, err := width(tenant)
		if err != nil && mayFail {
			f.Logf("failed once: %v", err)
			got, err = width(tenant)
		}
		f.must(err, "%s as tenant %q", query, tenant)
		if want[tenant] == 0 {
			want[tenant] = got
		}
		if got != want[tenant] {
			f.Errorf("%s as tenant %q has %d columns; want %d", query, tenant, got, want[tenant])
		}
	}
	for _, tenant := range f.h.Tenants {
		check(tenant, false)
	}
	for _, change := range []struct {
		ddl string
		by  int
	}{{" ADD COLUMN extra bigint", 1}, {" DROP COLUMN extra", -1}} {
		for _, place := range places {
			f.must(f.h.Migrate(f.base, place, "ALTER TABLE "+f.table+change.ddl), "migrate tenant %q", place)
			for _, tenant := range f.h.Tenants {
				if tenant == place || shared {
					want[tenant] += change.by
				}
			}
			check(place, f.h.FailsOnce)
			if f.h.FailsOnce { // each text may
				_, err := readRows(f.ctx(place), f.db, f.all)
				f.Logf("the first read: %v", err)
			}
			for range 2 {
				for _, tenant := range f.h.Tenants {
					check(tenant, false)
					f.sees(f.db, tenant)
				}
			}
		}
	}
}

func lostTransaction(f *fixture) {
	for range 3 {
		tx := f.begin(f.ctx(f.b))
		_, err := tx.ExecContext(f.ctx(f.b), f.insert, newRow(f.b).values()...)
		f.must(err, "insert")
		f.kill()
		_, err = tx.ExecContext(f.ctx(f.b), f.insert, newRow(f.b).values()...)
		f.refused(err, nil, "a statement after the loss of its transaction")
		f.refused(tx.Commit(), nil, "the commit of a lost transaction")
		f.answersAgain()
	}
}

// lostStatement kills once: a handle that repeats the statement would answer in the end. It tries
// again with more patience when the statement had not begun.
func lostStatement(f *fixture) {
	for patience := 250 * time.Millisecond; patience < 10*time.Second; patience *= 2 {
		r := newRow(f.b)
		q, args := f.slow(r, 2*patience.Seconds()+1)
		failed := make(chan error, 1)
		go func() {
			_, err := f.db.ExecContext(f.ctx(f.b), q, args...)
			failed <- err
		}()
		time.Sleep(patience)
		f.kill()
		err := <-failed
		if err == nil {
			f.expect(f.b, r)
		}
		f.answersAgain()
		if err != nil || f.Failed() {
			return
		}
	}
	f.Error("a statement whose connection was lost never fails: it is repeated")
}

// lostUnused allows an error, which the next use must not see again.
func lostUnused(f *fixture) {
	for range 3 {
		f.sees(f.db, f.a)
		_, err := f.h.Kill(f.base, 0)
		f.must(err, "kill")
		f.answersAgain()
	}
}

// answersAgain waits until each tenant gets an answer, which must be its own rows. Until then a use
// may fail, for example on a connection of a pooler's that was killed too.
func (f *fixture) answersAgain() {
	f.Helper()
	for _, tenant := range f.h.Tenants {
		var got []row
		f.eventually("an answer after the loss of a connection", func() bool {
			var err error
			got, err = readRows(f.ctx(tenant), f.db, f.all)
			return err == nil
		})
		f.must(f.compare(tenant, got), "after the loss of a connection")
	}
}

func otherInTransaction(f *fixture) {
	tx := f.begin(f.ctx(f.a))
	f.sees(tx, f.a)
	got, err := readRows(f.ctx(f.b), tx, f.all)
	f.refused(err, f.h.ErrMismatch, "a SELECT of another tenant in a transaction, which found %d rows", len(got))
	_, err = tx.ExecContext(f.ctx(f.b), f.insert, newRow(f.b).values()...)
	f.refused(err, f.h.ErrMismatch, "an INSERT of another tenant in a transaction")
	f.inherits(tx)
	f.must(tx.Rollback(), "roll back")
	f.unbound()
}

// inherits checks that a call without a tenant on the first tenant's transaction or connection
// fails, or is the first tenant's.
func (f *fixture) inherits(q querier) {
	f.Helper()
	if got, err := readRows(f.base, q, f.all); err == nil {
		f.must(f.compare(f.a, got), "without a tenant inside tenant %q", f.a)
	}
}

func otherOnConn(f *fixture) {
	conn, err := f.db.Conn(f.ctx(f.a))
	if err != nil {
		f.unlessPooled(err)
		return
	}
	defer conn.Close()
	if _, err := readRows(f.ctx(f.a), conn, f.all); err != nil {
		f.unlessPooled(err)
		return
	}
	got, err := readRows(f.ctx(f.b), conn, f.all)
	f.refused(err, f.h.ErrMismatch, "a SELECT of another tenant on a leased connection, which found %d rows", len(got))
	f.inherits(conn)
	if _, err := readRows(f.ctx(f.a), conn, f.all); err != nil {
		f.unlessPooled(err)
	}
	f.must(conn.Close(), "close")
}

// unlessPooled fails the test unless the error says that a lease is not possible here.
func (f *fixture) unlessPooled(err error) {
	f.Helper()
	if !errors.Is(err, isolation.ErrSessionUnsupported) {
		f.Fatalf("a leased connection: %v", err)
	}
	f.Logf("does not apply beyond one statement: %v", err)
}

func otherBeside(f *fixture) {
	tx := f.begin(f.ctx(f.a))
	f.sees(tx, f.a)
	f.sees(f.db, f.b)
	f.nothing(f.db, f.h.ErrNoTenant, "without a tenant beside a transaction")
	f.sees(tx, f.a)
	f.must(tx.Commit(), "commit")
}

func noTenant(f *fixture) {
	f.sees(f.db, f.a)
	f.unbound()
	stmt, err := f.db.PrepareContext(f.base, f.all)
	if err == nil {
		var rows *sql.Rows
		rows, err = stmt.QueryContext(f.base)
		if err == nil {
			_, err = scanRows(rows)
		}
		_ = stmt.Close()
	}
	f.refused(err, f.h.ErrNoTenant, "a prepared statement without a tenant")
	conn, err := f.db.Conn(f.base)
	if err == nil {
		_, err = readRows(f.base, conn, f.all)
		_ = conn.Close()
	}
	f.refused(err, f.h.ErrNoTenant, "a leased connection without a tenant")
	_, err = f.db.ExecContext(f.base, f.insert, newRow(f.a).values()...)
	f.refused(err, f.h.ErrNoTenant, "an INSERT without a tenant")
	_, err = f.db.ExecContext(f.base, "DELETE FROM "+f.table)
	f.refused(err, f.h.ErrNoTenant, "a DELETE without a tenant")
}

func outlives(f *fixture) {
	request, end := context.WithCancel(f.ctx(f.a))
	ctx := context.WithoutCancel(request)
	f.sees(f.db, f.a)
	end()
	f.sees(f.db, f.b)
	f.together(1, func(int) error {
		got, err := readRows(ctx, f.db, f.all)
		if err != nil {
			return nil //nolint:nilerr // an error is an answer too
		}
		return f.compare(f.a, got)
	})
}

func preparedElsewhere(f *fixture) {
	for _, under := range append([]string{""}, f.h.Tenants...) {
		ctx := f.base
		if under != "" {
			ctx = f.ctx(under)
		}
		stmt, err := f.db.PrepareContext(ctx, f.all)
		if under == "" && err != nil {
			continue // a handle may ask for a tenant
		}
		f.must(err, "prepare")
		read := func(ctx context.Context, s *sql.Stmt) ([]row, error) {
			rows, err := s.QueryContext(ctx)
			if err != nil {
				return nil, err
			}
			return scanRows(rows)
		}
		for range 3 {
			for _, tenant := range f.h.Tenants {
				got, err := read(f.ctx(tenant), stmt)
				f.must(err, "a statement prepared under %q, executed under %q", under, tenant)
				f.must(f.compare(tenant, got), "a statement prepared under %q", under)
			}
		}
		_, err = read(f.base, stmt)
		f.refused(err, f.h.ErrNoTenant, "a statement prepared under %q, executed without a tenant", under)
		tx := f.begin(f.ctx(f.b))
		got, err := read(f.ctx(f.b), tx.StmtContext(f.ctx(f.b), stmt))
		f.must(err, "a prepared statement in a transaction")
		f.must(f.compare(f.b, got), "a statement prepared under %q, in a transaction", under)
		f.must(errors.Join(tx.Rollback(), stmt.Close()), "close")
	}
}

func rowsLeftOpen(f *fixture) {
	for range 20 {
		f.add(f.a)
	}
	ctx, cancel := context.WithCancel(f.ctx(f.a))
	defer cancel()
	rows, err := f.db.QueryContext(ctx, f.all)
	f.must(err, "query")
	rows.Next()
	cancel() // nobody closes the rows
	f.unbound()
	f.sees(f.db, f.b)
	tx := f.begin(f.ctx(f.a))
	rows, err = tx.QueryContext(f.ctx(f.a), f.all)
	f.must(err, "query in a transaction")
	rows.Next()
	f.must(tx.Rollback(), "roll back")
	f.unbound()
	f.sees(f.db, f.b)
	_ = rows.Err()
	_ = rows.Close()
}

func rowsClosedEarly(f *fixture) {
	for _, tenant := range f.h.Tenants {
		rows, err := f.db.QueryContext(f.ctx(tenant), f.all)
		f.must(err, "query")
		rows.Next()
		f.must(errors.Join(rows.Err(), rows.Close()), "close")
		f.unbound()
	}
}

// usedSetting asks a login whose server connection has carried a tenant before.
func usedSetting(f *fixture) {
	for _, tenant := range f.h.Tenants {
		f.sees(f.db, tenant)
		r := newRow(tenant)
		statements := map[string][]any{f.insert: r.values(), f.remove: {f.any(tenant).id}, "DELETE FROM " + f.table: nil}
		if column := f.h.TenantColumn; column != "" {
			for _, value := range []string{"''", "NULL", "'" + tenant + "'"} {
				statements[f.say("INSERT INTO "+f.table+" ("+columns+", "+column+") VALUES (?, ?, ?, ?, "+value+")")] = r.values()
			}
		}
		for query, args := range statements {
			_, err := f.h.Plain.ExecContext(f.base, query, args...)
			f.refused(err, nil, "%s past the handle", query)
		}
	}
}

func preparedPooled(f *fixture) {
	stmt, err := f.db.PrepareContext(f.ctx(f.a), f.one)
	f.must(err, "prepare")
	defer stmt.Close()
	f.together(16, func(i int) error {
		tenant := f.h.Tenants[i%len(f.h.Tenants)]
		ctx, r := f.ctx(tenant), f.any(tenant)
		for range 15 {
			tx, err := f.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			got, err := readRows(ctx, tx, f.one, r.id)
			if err == nil {
				var rows *sql.Rows
				rows, err = tx.StmtContext(ctx, stmt).QueryContext(ctx, r.id)
				if err == nil {
					var again []row
					again, err = scanRows(rows)
					got = append(got, again...)
				}
			}
			if err = errors.Join(err, tx.Rollback()); err != nil {
				return err
			}
			if len(got) != 2 || got[0] != r || got[1] != r {
				return fmt.Errorf("tenant %q read %v; want %v twice", tenant, got, r)
			}
		}
		return nil
	})
}

func qualifiedName(f *fixture) {
	for _, tenant := range f.h.Tenants {
		if f.h.Plain != nil {
			_, err := readRows(f.base, f.h.Plain, "SELECT "+columns+" FROM "+f.h.Qualified(tenant))
			f.refused(err, nil, "SELECT from %s past the handle", f.h.Qualified(tenant))
		}
	}
	for _, other := range f.h.Tenants[1:] {
		name := f.h.Qualified(other)
		got, err := readRows(f.ctx(f.a), f.db, "SELECT "+columns+" FROM "+name)
		if err == nil {
			f.must(own(f.a, got), "SELECT from %s", name)
		}
		for _, query := range []string{"UPDATE " + name + " SET n = n + 1", "DELETE FROM " + name} {
			tx := f.begin(f.ctx(f.a))
			_, _ = tx.ExecContext(f.ctx(f.a), query+f.say(" WHERE owner = ?"), other)
			if err := tx.Commit(); err != nil {
				f.Logf("%s: %v", query, err)
			}
		}
		r := newRow(f.a)
		if _, err := f.db.ExecContext(f.ctx(f.a), f.say("INSERT INTO "+name+" ("+columns+") VALUES (?, ?, ?, ?)"), r.values()...); err == nil {
			f.expect(f.a, r) // then it must be in its own place
		}
	}
}

func sessionSetting(f *fixture) {
	ctx := f.ctx(f.a)
	for _, text := range f.h.SetSession(f.b) {
		for name, run := range map[string]func() error{
			"in a statement": func() error {
				_, err := f.db.ExecContext(ctx, text)
				return err
			},
			"in a query": func() error {
				rows, err := f.db.QueryContext(ctx, text)
				if err != nil {
					return err
				}
				rows.Next()
				return errors.Join(rows.Err(), rows.Close())
			},
			"in a transaction": func() error {
				tx := f.begin(ctx)
				_, err := tx.ExecContext(ctx, text)
				return errors.Join(err, tx.Commit())
			},
		} {
			if err := run(); err != nil {
				f.Logf("%s %s: refused: %v", text, name, err)
			}
			f.unbound()
			f.sees(f.db, f.a)
			f.sees(f.db, f.b)
		}
	}
}

// transactionControl accepts a handle that refuses, and one whose next statement is still bound.
func transactionControl(f *fixture) {
	for _, text := range []string{"COMMIT", "ROLLBACK", " /* x */ commit", "-- y\nrollback", "BEGIN", "ABORT", "START TRANSACTION"} {
		_, _ = f.db.ExecContext(f.ctx(f.a), text)
		f.unbound()
		f.sees(f.db, f.b)
		tx := f.begin(f.ctx(f.a))
		_, _ = tx.ExecContext(f.ctx(f.a), text)
		if got, err := readRows(f.ctx(f.a), tx, f.all); err == nil {
			f.must(f.compare(f.a, got), "after %q in a transaction", text)
		}
		_ = tx.Rollback()
		f.unbound()
		f.sees(f.db, f.b)
	}
}

func committingBlock(f *fixture) {
	one, two := newRow(f.a), newRow(f.a)
	insert := func(r row) string {
		return fmt.Sprintf("INSERT INTO %s (%s) VALUES ('%s', '%s', 0, '%s'); ", f.table, columns, r.id, r.owner, r.body)
	}
	_, err := f.db.ExecContext(f.ctx(f.a), "DO $$ BEGIN "+insert(one)+"COMMIT; "+insert(two)+"END $$")
	if err == nil {
		f.expect(f.a, one)
		f.expect(f.a, two)
	} else {
		f.Logf("refused: %v", err)
	}
	f.unbound()
}

// sessionFeatures leaves a temporary table on a leased connection, in a statement, in a
// transaction; where tenants share connections also under the name of their table, which it would
// come before.
func sessionFeatures(f *fixture) {
	ctx := f.ctx(f.a)
	texts, strangers := []string{"CREATE TEMPORARY TABLE left_over AS SELECT 1 AS id"}, f.h.Tenants[1:]
	if !f.h.OwnConns {
		texts, strangers = append(texts, "CREATE TEMPORARY TABLE "+f.table+" AS SELECT 1 AS id"), f.h.Tenants
	}
	if f.engine == isolation.EnginePostgreSQL {
		texts = append(texts, "SELECT 1 AS id INTO pg_temp.left_over", "SELECT 1 AS id INTO TEMP\tleft_over")
	}
	for how, run := range map[string]func(text string) error{
		"on a leased connection": func(text string) error {
			conn, err := f.db.Conn(ctx)
			if err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx, text)
			return errors.Join(err, conn.Close())
		},
		"in a statement": func(text string) error {
			_, err := f.db.ExecContext(ctx, text)
			return err
		},
		"in a transaction": func(text string) error {
			tx := f.begin(ctx)
			_, err := tx.ExecContext(ctx, text)
			return errors.Join(err, tx.Commit())
		},
	} {
		for _, text := range texts {
			if err := run(text); err != nil {
				f.Logf("%s %s is refused: %v", text, how, err)
			}
			for _, tenant := range strangers {
				f.sees(f.db, tenant)
				rows, err := f.db.QueryContext(f.ctx(tenant), "SELECT id FROM left_over")
				if err == nil {
					err = errors.Join(rows.Err(), rows.Close())
				}
				f.refused(err, nil, "the table of %q %s of tenant %q, read by tenant %q", text, how, f.a, tenant)
			}
		}
	}
}

func flood(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx(f.a))
	done := make(chan struct{})
	flooders := 4 * f.h.PerTenant
	began := make(chan struct{}, flooders)
	go func() {
		defer close(done)
		f.together(flooders, func(int) error {
			began <- struct{}{}
			rows, err := f.db.QueryContext(ctx, f.all)
			if err != nil {
				return nil //nolint:nilerr // it waited until the end
			}
			rows.Next()
			<-ctx.Done()
			_ = rows.Err()
			_ = rows.Close()
			return nil
		})
	}()
	for range flooders {
		<-began
	}
	time.Sleep(50 * time.Millisecond) // the flood has reached the pool; if not, the test only asks less
	for range 5 {
		quiet, end := context.WithTimeout(f.ctx(f.b), 10*time.Second)
		f.seesIn(quiet, f.db, f.b)
		end()
	}
	cancel()
	<-done
}
