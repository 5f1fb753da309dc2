package sqlc_test

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"
)

func TestMain(m *testing.M) { servers.Main(m) }

//go:embed schema.sql
var schema string

var tables = []string{"customers", "products", "orders", "lines", "visits"}

// shop is a database with the schema and a login for it.
type shop struct {
	admin *sql.DB
	role  string
	url   string // of the role, directly or through PgBouncer
}

func openShop(t *testing.T, throughPgBouncer bool) *shop {
	t.Helper()
	ctx := context.Background()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	admin, err := sql.Open("pgx", pg.URL(name))
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	s := &shop{admin: admin, role: name + "_app"}
	must(t, s.roles().Create(ctx, admin, isolation.Passwords{App: "a"}))
	t.Cleanup(func() {
		_, _ = admin.ExecContext(ctx, fmt.Sprintf(`DROP OWNED BY "%[1]s" CASCADE; DROP ROLE "%[1]s"`, s.role))
	})
	_, err = admin.ExecContext(ctx, schema)
	must(t, err)
	s.url = pg.URLFor(s.role, "a", name)
	if throughPgBouncer {
		bouncer := servers.PgBouncer(t, pg)
		bouncer.AddUser(t, s.role, "a")
		s.url = bouncer.URLFor(s.role, "a", name)
	}
	return s
}

func (s *shop) roles() isolation.Roles { return isolation.Roles{App: s.role} }

// bare makes the shop one for a single tenant, as it was before there was a second.
func (s *shop) bare(t *testing.T) {
	t.Helper()
	for _, table := range tables {
		_, err := s.admin.Exec(fmt.Sprintf(`ALTER TABLE %[1]s ALTER COLUMN tenant_id SET DEFAULT 'only'; GRANT ALL ON %[1]s TO "%[2]s"`, table, s.role))
		must(t, err)
	}
}

// wall makes the shop one for many.
func (s *shop) wall(t *testing.T) *isolation.DB {
	t.Helper()
	rls := isolation.RLS{Roles: s.roles()}
	for _, table := range tables {
		rls.Tables = append(rls.Tables, isolation.Table{Name: table})
	}
	must(t, rls.Apply(context.Background(), s.admin))
	connector, err := tenantpgx.NewConnector(s.url)
	must(t, err)
	db, err := isolation.Open(isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{App: connector, RLS: &rls}},
		Logger:  slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	must(t, db.Check(context.Background()))
	return db
}

func (s *shop) pgxpool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(s.url)
	must(t, err)
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // what a pooler can stand
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (s *shop) sqlDB(t *testing.T) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(s.url)
	must(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// compare runs a shop's day as its only tenant, by plain means, and as two tenants at once through
// the library, and fails the test unless all three tell the same.
func compare(t *testing.T, plain func(t *testing.T, s *shop) *diary, scoped func(ctx context.Context, t *testing.T, db *isolation.DB) *diary) {
	t.Helper()
	for _, throughPgBouncer := range []bool{false, true} {
		t.Run(fmt.Sprintf("PgBouncer %v", throughPgBouncer), func(t *testing.T) {
			t.Parallel()
			bare := openShop(t, throughPgBouncer)
			bare.bare(t)
			want := plain(t, bare).entries
			if len(want) < 20 {
				t.Fatalf("a short day: %q", want)
			}
			db := openShop(t, throughPgBouncer).wall(t)
			var wg sync.WaitGroup
			for _, tenant := range []string{"acme", "globex"} {
				ctx := tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: tenant, Slug: tenant, Status: tenancy.StatusActive}, "test")
				wg.Go(func() {
					got := scoped(ctx, t, db).entries
					for i := range max(len(got), len(want)) {
						if !slices.Equal(at(got, i), at(want, i)) {
							t.Errorf("%s, entry %d:\n got %s\nwant %s", tenant, i, at(got, i), at(want, i))
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func at(entries []string, i int) []string {
	if i < len(entries) {
		return entries[i : i+1]
	}
	return nil
}

// diary is what a shop's day looked like.
type diary struct{ entries []string }

// note writes down a result and its error.
func (d *diary) note(what string, result any, err error) {
	text, jsonErr := json.Marshal(result)
	if jsonErr != nil {
		text = []byte(jsonErr.Error())
	}
	entry := what + ": " + string(text)
	if err != nil {
		entry += " " + kind(err)
	}
	d.entries = append(d.entries, entry)
}

// kind tells an error without what differs from run to run.
func kind(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code + " " + e.ConstraintName
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "no rows"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// The day's facts.
var (
	noon      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	born      = time.Date(1970, 5, 6, 0, 0, 0, 0, time.UTC)
	errNoMore = errors.New("not enough in stock")
)

func key(n byte) [16]byte { return [16]byte{15: n} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
