package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
)

// openSQLite keeps the catalogue in one file and each tenant in another.
func openSQLite(ctx context.Context, opts Options, _ string) (_ *backend, err error) {
	b := &backend{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close.run())
		}
	}()
	dir, life := opts.DataDir, ""
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tenancy-demo-"); err != nil {
			return nil, err
		}
		b.close.add(func() error { return os.RemoveAll(dir) })
		life = ", which goes when the demo ends"
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data folder: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, "catalogue.db"), RawQuery: url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}.Encode()}
	catalogue, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	b.close.add(catalogue.Close)
	if err := catalogue.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("open the catalogue in %s: %w", dir, err)
	}
	if b.store, err = sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.SQLite}); err != nil {
		return nil, err
	}
	if err := b.store.Migrate(ctx); err != nil {
		return nil, err
	}
	b.server = isolation.SQLite{Dir: filepath.Join(dir, "tenants"), Driver: "sqlite"}
	// SQLite lets one writer work at a time and wakes the waiting ones in no order: few of
	// them, and a fair queue in front.
	b.pool = isolation.PoolConfig{MaxPerTenant: 4}
	b.place = "one SQLite file per tenant in " + dir + life
	return b, nil
}
