package hunt_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

// byPool makes a layer of a tenantpgx.Pool.
func byPool(db *isolation.DB) (layer, error) {
	pool := tenantpgx.New(db)
	return poolLayer{pgxLeased: pgxLeased{pgxStatements{pool}, pool}, pool: pool}, nil
}

// pgxQuerier is a tenantpgx.Pool, a tenantpgx.PoolConn or a pgx.Tx.
type pgxQuerier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error)
}

type pgxStatements struct{ db pgxQuerier }

// exec runs a statement by one of the ways that pgx has for it.
func (s pgxStatements) exec(ctx context.Context, query string, args []any) (driver.Result, error) {
	dice := rand.IntN(10)
	if columns, rows := copied(query, args); rows != nil && dice == 0 {
		n, err := s.db.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
		return driver.RowsAffected(n), err
	}
	if dice > 4 {
		tag, err := s.db.Exec(ctx, query, args...)
		return driver.RowsAffected(tag.RowsAffected()), err
	}
	results := s.db.SendBatch(ctx, batchOf(query, args))
	_, err := results.Exec()
	tag, second := results.Exec()
	return driver.RowsAffected(tag.RowsAffected()), firstOf(second, err, results.Close())
}

// batchOf puts a statement behind another.
func batchOf(query string, args []any) *pgx.Batch {
	var b pgx.Batch
	b.Queue("SELECT count(*) FROM " + table)
	b.Queue(query, args...)
	return &b
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// copied returns the rows of a plain insert, which COPY can write too.
func copied(query string, args []any) (columns []string, rows [][]any) {
	const head, values = "INSERT INTO " + table + " (", ") VALUES "
	rest, is := strings.CutPrefix(query, head)
	names, rest, found := strings.Cut(rest, values)
	if !is || !found || len(args) == 0 || strings.Trim(rest, "$0123456789(), ") != "" { // what follows the values
		return nil, nil
	}
	columns = strings.Split(names, ", ")
	for ; len(args) >= len(columns); args = args[len(columns):] {
		rows = append(rows, args[:len(columns)])
	}
	return columns, rows
}

func (s pgxStatements) query(ctx context.Context, query string, args []any) (driver.Rows, error) {
	if rand.IntN(10) > 4 {
		rows, err := s.db.Query(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		return pgxRows{rows, func() error { return nil }}, nil
	}
	results := s.db.SendBatch(ctx, batchOf(query, args))
	_, err := results.Exec()
	rows, second := results.Query()
	if err := firstOf(second, err); err != nil {
		return nil, firstOf(err, results.Close())
	}
	return pgxRows{rows, results.Close}, nil
}

type pgxBeginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

type pgxLeased struct {
	pgxStatements
	beginner pgxBeginner
}

func (s pgxLeased) begin(ctx context.Context, _ driver.TxOptions) (transaction, error) {
	tx, err := s.beginner.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		return nil, err
	}
	return newPgxTx(ctx, tx), nil
}

type poolLayer struct {
	pgxLeased
	pool *tenantpgx.Pool
}

func (l poolLayer) lease(ctx context.Context) (leased, func() error, error) {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	release := func() error { conn.Release(); return nil }
	return pgxLeased{pgxStatements{conn}, conn}, release, nil
}

func (l poolLayer) inTx(ctx context.Context, fn func(tx transaction) error) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return fn(newPgxTx(ctx, tx)) })
}

// pgxTx is a transaction, whose end has the context of its beginning.
type pgxTx struct {
	pgxStatements
	ctx context.Context
	tx  pgx.Tx
}

func newPgxTx(ctx context.Context, tx pgx.Tx) pgxTx { return pgxTx{pgxStatements{tx}, ctx, tx} }

func (t pgxTx) commit() error   { return t.tx.Commit(t.ctx) }
func (t pgxTx) rollback() error { return t.tx.Rollback(t.ctx) }

type pgxRows struct {
	rows pgx.Rows
	end  func() error // of what the rows came in
}

func (r pgxRows) Columns() []string {
	fields := r.rows.FieldDescriptions()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

func (r pgxRows) Next(into []driver.Value) error {
	if !r.rows.Next() {
		return firstOf(r.Close(), io.EOF)
	}
	got, err := r.rows.Values()
	if err != nil {
		return errors.Join(err, r.Close())
	}
	for i, v := range got {
		into[i] = v
	}
	return nil
}

func (r pgxRows) Close() error {
	r.rows.Close()
	return firstOf(r.rows.Err(), r.end())
}
