package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantpgx"

	"lexigram.dev/tenancy/internal/integration/servers"
)

// pools are a pgxpool for tables as they would be without the library, and a tenantpgx.Pool for the
// same rows by row and by schema.
type pools struct {
	plain                 *pgxpool.Pool
	scoped                *tenantpgx.Pool
	plainWire, scopedWire wire
	byRow, bySchema       context.Context
}

// notesTable is the notes of one tenant.
type notesTable struct{}

func (notesTable) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	if target.Tenant == "" {
		return 1, nil
	}
	_, err := target.DB.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (id bigint PRIMARY KEY, body text NOT NULL)")
	return 1, err
}

func (notesTable) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

func openPools(b *testing.B, throughPgBouncer bool) *pools {
	b.Helper()
	ctx := context.Background()
	server := servers.Postgres(b)
	database := server.CreateDatabase(b)
	admin, err := sql.Open("pgx", server.URL(database))
	must(b, err)
	defer admin.Close()
	roles := isolation.Roles{App: database + "_app", Migrator: database + "_migrator", Creates: true}
	must(b, roles.Create(ctx, admin, isolation.Passwords{App: "app", Migrator: "m"}))
	for _, table := range []string{"notes", "bare"} {
		_, err := admin.ExecContext(ctx, fmt.Sprintf(`
			CREATE TABLE %[1]s (tenant_id text NOT NULL, id bigint NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id));
			INSERT INTO %[1]s SELECT 't' || t, n, 'note ' || n FROM generate_series(1, 50) t, generate_series(1, %[2]d) n;
			ALTER TABLE %[1]s OWNER TO "%[4]s"; GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s TO "%[3]s"`,
			table, rowsPerTenant, roles.App, roles.Migrator))
		must(b, err)
	}
	url := server.URLFor(roles.App, "app", database)
	if throughPgBouncer {
		bouncer := servers.PgBouncer(b, server)
		bouncer.AddUser(b, roles.App, "app")
		url = bouncer.URLFor(roles.App, "app", database)
	}
	p := &pools{}
	plain, err := pgxpool.ParseConfig(url)
	must(b, err)
	if throughPgBouncer {
		plain.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // what a pooler can stand
	}
	p.plainWire.attach(plain.ConnConfig)
	p.plain, err = pgxpool.NewWithConfig(ctx, plain)
	must(b, err)
	b.Cleanup(p.plain.Close)

	scoped, err := pgx.ParseConfig(url)
	must(b, err)
	p.scopedWire.attach(scoped)
	connector, err := tenantpgx.NewConnectorConfig(scoped)
	must(b, err)
	migrator, err := tenantpgx.NewConnector(server.URLFor(roles.Migrator, "m", database))
	must(b, err)
	config := isolation.Config{
		Servers: map[string]isolation.Server{"main": isolation.PostgreSQL{
			App: connector, Migrator: migrator,
			RLS:     &isolation.RLS{Roles: roles, Tables: []isolation.Table{{Name: "notes"}}},
			Schemas: &isolation.Schemas{Roles: roles},
		}},
		Logger: slog.New(slog.DiscardHandler),
	}
	provisioner, err := isolation.NewProvisioner(config, notesTable{})
	must(b, err)
	_, err = provisioner.Setup(ctx)
	must(b, err)
	db, err := isolation.Open(config)
	must(b, err)
	p.scoped = tenantpgx.New(db)
	b.Cleanup(func() { _ = p.scoped.Close() })
	p.byRow = inTenant("t7", tenancy.Placement{})
	tn := tenancy.Tenant{ID: "s7", Slug: "s7", Status: tenancy.StatusActive, Placement: tenancy.Placement{Strategy: tenancy.StrategySchema}}
	tn.Placement, err = provisioner.Place(ctx, tn)
	must(b, err)
	tn.Placement, err = provisioner.Provision(ctx, tn)
	must(b, err)
	p.bySchema = inTenant("s7", tn.Placement)
	_, err = p.scoped.Exec(p.bySchema, "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, $1) n", rowsPerTenant)
	must(b, err)
	_, err = admin.ExecContext(ctx, "ANALYZE")
	must(b, err)
	return p
}

// pgxQueryer is a pool or a transaction of pgx's kind.
type pgxQueryer interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func pgxOne(ctx context.Context, q pgxQueryer, query string, args ...any) error {
	var id int64
	var body string
	return q.QueryRow(ctx, query, args...).Scan(&id, &body)
}

func pgxMany(ctx context.Context, q pgxQueryer, query string, args ...any) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var id int64
	var body string
	tag, err := pgx.ForEachRow(rows, []any{&id, &body}, func() error { return nil })
	if err == nil && tag.RowsAffected() != rowsPerTenant {
		err = fmt.Errorf("%d rows, want %d", tag.RowsAffected(), rowsPerTenant)
	}
	return err
}

func pgxUpdate(ctx context.Context, q pgxQueryer, query string, args ...any) error {
	tag, err := q.Exec(ctx, query, args...)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%d rows updated", tag.RowsAffected())
	}
	return err
}

func pgxBatch(ctx context.Context, q pgxQueryer, query string, args ...any) error {
	var b pgx.Batch
	for range 10 {
		b.Queue(query, args...)
	}
	return q.SendBatch(ctx, &b).Close()
}

// BenchmarkPool is tenantpgx.Pool against a pgxpool with the tenant in the WHERE clause, direct and
// through PgBouncer in transaction mode.
func BenchmarkPool(b *testing.B) {
	budgets := map[string]float64{"ratio": 1.4, "round-trips/op": 1}
	for _, path := range []struct {
		name      string
		pgBouncer bool
	}{{"direct", false}, {"pgbouncer", true}} {
		b.Run(path.name, func(b *testing.B) {
			p := openPools(b, path.pgBouncer)
			trips := func(w *wire) func(*testing.B, int) { return perOp("round-trips/op", w.trips.Load) }
			for _, c := range []struct {
				name                  string
				run                   func(ctx context.Context, q pgxQueryer, query string, args ...any) error
				plain, scoped         string
				plainArgs, scopedArgs []any
			}{
				{"select-one", pgxOne, selectOnePlain, selectOneScoped, []any{"t7", 50}, []any{50}},
				{"select-100", pgxMany, selectManyPlain, selectManyScoped, []any{"t7"}, nil},
				{"update", pgxUpdate, updatePlain, updateScoped, []any{"t7", 50, "new"}, []any{50, "new"}},
				{"batch-of-10", pgxBatch, selectOnePlain, selectOneScoped, []any{"t7", 50}, []any{50}},
			} {
				for _, strategy := range []struct {
					name string
					ctx  context.Context
				}{{"row", p.byRow}, {"schema", p.bySchema}} {
					b.Run(c.name+"-"+strategy.name, func(b *testing.B) {
						compare(b, budgets,
							side{op: func() error { return c.run(context.Background(), p.plain, c.plain, c.plainArgs...) }, measured: trips(&p.plainWire)},
							side{op: func() error { return c.run(strategy.ctx, p.scoped, c.scoped, c.scopedArgs...) }, measured: trips(&p.scopedWire)})
					})
				}
			}
		})
	}
}
