package cells

import (
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // the driver

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

func (c Cell) sqlite(t testing.TB, tables []string) isolation.SQLite {
	t.Helper()
	server := isolation.SQLite{Dir: filepath.Join(t.TempDir(), "tenants"), Driver: "sqlite"}
	if c.Strategy == tenancy.StrategyRowLevel {
		server.Rows = &isolation.SQLiteRows{Tables: map[string]string{}, Shared: c.Shared}
		for _, table := range tables {
			server.Rows.Tables[table] = ""
		}
	}
	return server
}
