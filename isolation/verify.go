package isolation

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lexigram.dev/tenancy/isolation/internal/dialect"
)

// Finding is a way past the wall, or a weakness of it.
type Finding struct {
	// Kind is a short name, such as no-force; docs/ADOPTION.md lists all.
	Kind string
	// Object is what it was found at, such as table public.orders.
	Object string
	// Detail says what is wrong, Remedy what to do.
	Detail, Remedy string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s: %s", f.Kind, f.Object, f.Detail, f.Remedy)
}

// Report is what [RLS.Verify] saw.
type Report struct {
	// Findings are ordered by kind and object.
	Findings []Finding
	// Unseen says what was not looked into.
	Unseen []string
}

// Verify looks in the database's catalogue for every way past the wall that it knows: rights of
// the role app, tables without policies, views, functions, keys and publications around them, large
// objects, which have no rows to secure, and indexes that row security disables. It reads the catalogue only, so that any login will do, and
// changes nothing. What has to stay goes into a [Baseline].
func (r RLS) Verify(ctx context.Context, db *sql.DB) (Report, error) {
	var report Report
	if err := r.validate(); err != nil {
		return report, err
	}
	err := r.look(ctx, db, func(tx *sql.Tx, input string) error {
		for _, probe := range dialect.Probes {
			if err := report.probe(ctx, tx, probe, input); err != nil {
				return err
			}
		}
		return eachRow(ctx, tx, dialect.Unseen, func(rows *sql.Rows) error {
			var what string
			err := rows.Scan(&what)
			report.Unseen = append(report.Unseen, what)
			return err
		}, input)
	})
	return report, err
}

// look runs fn in a read-only transaction that sees one state of the catalogue.
func (r RLS) look(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx, input string) error) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has only read
	if _, err := tx.ExecContext(ctx, dialect.SafePath); err != nil {
		return err
	}
	return fn(tx, r.wall().Input())
}

// probe adds the findings of one question.
func (p *Report) probe(ctx context.Context, tx *sql.Tx, probe dialect.Probe, input string) error {
	err := eachRow(ctx, tx, probe.Query, func(rows *sql.Rows) error {
		var f Finding
		err := rows.Scan(&f.Kind, &f.Object, &f.Detail, &f.Remedy)
		p.Findings = append(p.Findings, f)
		return err
	}, input)
	if err != nil {
		return fmt.Errorf("verify the wall: %w", err)
	}
	slices.SortFunc(p.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Detail, b.Detail))
	})
	return nil
}

// Verify looks at the wall of each server that has one for row_level: see [RLS.Verify],
// [MariaDBRows.Verify] and [SQLiteRows.Verify]. With more than one, the objects begin with the server's name. Without any it
// fails.
func (db *DB) Verify(ctx context.Context) (Report, error) {
	walls := map[string]interface {
		verify(ctx context.Context) (Report, error)
	}{}
	for name, s := range db.connector.servers {
		switch s := s.(type) {
		case PostgreSQL:
			if s.RLS != nil {
				walls[name] = s
			}
		case MariaDB:
			if s.Rows != nil {
				walls[name] = s
			}
		case SQLite:
			if s.Rows != nil {
				walls[name] = s
			}
		}
	}
	var all Report
	if len(walls) == 0 {
		return all, errors.New("verify the wall: no server has PostgreSQL.RLS, MariaDB.Rows or SQLite.Rows, so there is none: set it, or do not ask")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(walls)) {
		report, err := walls[name].verify(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("server %q: %w", name, err))
		}
		if len(walls) > 1 {
			for i := range report.Findings {
				report.Findings[i].Object = name + ": " + report.Findings[i].Object
			}
		}
		all.Findings = append(all.Findings, report.Findings...)
		all.Unseen = append(all.Unseen, report.Unseen...)
	}
	return all, errors.Join(errs...)
}

func (p PostgreSQL) verify(ctx context.Context) (Report, error) {
	db := sql.OpenDB(p.App)
	defer db.Close()
	db.SetMaxOpenConns(1)
	return p.RLS.Verify(ctx, db)
}
