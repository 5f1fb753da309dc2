// Package river_test runs tenantriver on a real PostgreSQL, on nodes of one process and of several.
package river_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	_ "github.com/jackc/pgx/v5/stdlib"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantriver"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		child(url, os.Getenv(childName))
	}
	servers.Main(m)
}

// node is one process of an application, as far as River and the catalogue can tell.
type node struct {
	tn     *tenancy.Tenancy
	runner *tenantriver.Runner[pgx.Tx]
	client *river.Client[pgx.Tx]
	pool   *pgxpool.Pool
	db     *sql.DB
}

type nodeConfig struct {
	name     string
	steps    func(*node) []tenancy.Step
	lease    time.Duration // 0 is the default
	interval time.Duration // 0 is the default
	timeout  time.Duration // of River's jobs; 0 is the default
	change   func(*tenancy.Config)
}

// open composes a node on a database and does not start it.
func open(ctx context.Context, url string, cfg nodeConfig) (n *node, err error) {
	n = &node{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.db, err = sql.Open("pgx", url); err != nil {
		return n, err
	}
	n.db.SetMaxOpenConns(6)
	settings, err := pgxpool.ParseConfig(url)
	if err != nil {
		return n, err
	}
	settings.MaxConns = 6
	if n.pool, err = pgxpool.NewWithConfig(ctx, settings); err != nil {
		return n, err
	}
	store, err := sqlstore.New(n.db, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
	if err != nil {
		return n, err
	}
	tenancyConfig := tenancy.Config{
		Store: store, NodeID: cfg.name,
		Lifecycle: tenancy.LifecycleConfig{Async: true, NoRunner: true, Lease: cfg.lease},
	}
	if cfg.steps != nil {
		tenancyConfig.Steps.Provision = cfg.steps(n)
	}
	if cfg.change != nil {
		cfg.change(&tenancyConfig)
	}
	if n.tn, err = tenancy.New(tenancyConfig); err != nil {
		return n, err
	}
	if n.runner, err = tenantriver.New[pgx.Tx](n.tn, tenantriver.Config{Interval: cfg.interval}); err != nil {
		return n, err
	}
	workers := river.NewWorkers()
	if err := n.runner.Register(workers); err != nil {
		return n, err
	}
	n.client, err = river.NewClient(riverpgxv5.New(n.pool), &river.Config{
		ID: cfg.name, Workers: workers, JobTimeout: cfg.timeout,
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		PeriodicJobs: []*river.PeriodicJob{n.runner.PeriodicJob()},
		Logger:       slog.New(slog.DiscardHandler),
	})
	return n, err
}

func (n *node) close() {
	if n.pool != nil {
		n.pool.Close()
	}
	if n.db != nil {
		_ = n.db.Close()
	}
}

// world is a database with River's tables, the catalogue's, and one of effects.
type world struct {
	url string
	db  *pgxpool.Pool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := servers.Postgres(t)
	w := &world{url: server.URL(server.CreateDatabase(t))}
	n, err := open(t.Context(), w.url, nodeConfig{name: "migrator"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	w.db = n.pool
	migrator, err := rivermigrate.New(riverpgxv5.New(n.pool), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	store, ok := n.tn.Config().Store.(*sqlstore.Store)
	if !ok {
		t.Fatalf("the catalogue is a %T", n.tn.Config().Store)
	}
	if err := errors.Join(err, store.Migrate(t.Context())); err != nil {
		t.Fatal(err)
	}
	w.exec(t, "CREATE TABLE effects (tenant text NOT NULL, node text NOT NULL, begun timestamptz NOT NULL DEFAULT clock_timestamp())")
	return w
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := w.db.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// count returns the number that a query answers.
func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := w.db.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// await waits until a query answers a number, for at most so long.
func (w *world) await(t *testing.T, most time.Duration, want int, query string, args ...any) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for begun := time.Now(); ; <-ticker.C {
		got := w.count(t, query, args...)
		if got == want {
			return
		}
		if time.Since(begun) > most {
			t.Fatalf("after %s %q answers %d, want %d\n%s", most, query, got, want, w.state(t))
		}
	}
}

// state tells what the works and jobs are at.
func (w *world) state(t *testing.T) (state string) {
	t.Helper()
	err := w.db.QueryRow(t.Context(), `SELECT coalesce((SELECT string_agg(concat_ws(' ', kind, state, count), E'\n') FROM (SELECT kind, state, count(*) FROM river_job GROUP BY 1, 2) AS jobs), '')
		|| E'\n' || coalesce((SELECT string_agg(progress, E'\n') FROM (SELECT progress FROM tenancy.tenants WHERE progress IS NOT NULL LIMIT 5) AS works), '')`).Scan(&state)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

const active = "SELECT count(*) FROM tenancy.tenants WHERE status = 'active' AND due IS NULL"

// start opens a node and starts it; the end of the test stops it.
func (w *world) start(t *testing.T, cfg nodeConfig) *node {
	t.Helper()
	n := w.open(t, cfg)
	if err := n.client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.client.StopAndCancel(context.Background()); err != nil {
			t.Errorf("stop %s: %v", cfg.name, err)
		}
	})
	return n
}

func (w *world) open(t *testing.T, cfg nodeConfig) *node {
	t.Helper()
	n, err := open(t.Context(), w.url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

// create adds tenants that nobody has worked on yet and returns their ids.
func (n *node) create(t *testing.T, count int) []string {
	t.Helper()
	ids := make([]string, count)
	for i := range ids {
		tenant, err := n.tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: fmt.Sprintf("tenant-%d", i), Name: "Tenant"})
		if err != nil {
			t.Fatal(err)
		}
		if tenant.Status != tenancy.StatusProvisioning {
			t.Fatalf("a new tenant is %s", tenant.Status)
		}
		ids[i] = tenant.ID
	}
	return ids
}

func (n *node) enqueue(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := n.runner.Enqueue(t.Context(), n.client, id); err != nil {
			t.Fatal(err)
		}
	}
}

// effect is a step that takes 200 ms in the database and leaves one row.
func effect(name string) func(n *node) []tenancy.Step {
	return func(n *node) []tenancy.Step {
		return []tenancy.Step{{Name: "effect", Run: func(ctx context.Context, t *tenancy.Tenant) error {
			_, err := n.pool.Exec(ctx, "INSERT INTO effects (tenant, node) SELECT $1, $2 FROM pg_sleep(0.2)", t.ID, name)
			return err
		}}}
	}
}
