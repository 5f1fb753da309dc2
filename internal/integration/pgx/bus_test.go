package pgx_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/storetest"
	"lexigram.dev/tenancy/tenantpgx"
)

func newBus(t *testing.T, url string) *tenantpgx.Bus {
	t.Helper()
	bus, err := tenantpgx.NewBus(url)
	must(t, err)
	t.Cleanup(func() { must(t, bus.Close()) })
	return bus
}

func TestBus(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	storetest.RunBus(t, func(t *testing.T) (a, b tenancy.Bus) {
		url := pg.URL(pg.CreateDatabase(t))
		return newBus(t, url), newBus(t, url)
	})
}

func TestBusBehindAPoolerIsRefused(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	bus := newBus(t, servers.PgBouncer(t, pg).URL(name))
	_, err := bus.Subscribe(t.Context())
	mustBe(t, err, isolation.ErrSessionUnsupported)
}

// TestSuspensionReachesOtherNodes runs two nodes on one catalogue that do not poll, so that only the
// bus can tell, also after the server has cut its connections.
func TestSuspensionReachesOtherNodes(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	name := pg.CreateDatabase(t)
	url := pg.URL(name)
	connector, err := tenantpgx.NewConnector(url)
	must(t, err)
	catalogue := sql.OpenDB(connector)
	t.Cleanup(func() { must(t, catalogue.Close()) })
	store, err := sqlstore.New(catalogue, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
	must(t, err)
	must(t, store.Migrate(t.Context()))
	node := func() *tenancy.Tenancy {
		tn, err := tenancy.New(tenancy.Config{
			Store: store, Bus: newBus(t, url), Logger: slog.New(slog.DiscardHandler),
			Resolution: tenancy.ResolutionConfig{PollInterval: -1, TrustedResolvers: []string{}},
		})
		must(t, err)
		must(t, tn.Start(t.Context()))
		t.Cleanup(func() { must(t, tn.Stop(context.Background())) })
		return tn
	}
	a, b := node(), node()
	listeners := func() (n int) {
		// A subscription asks last whether it has a process of its own.
		must(t, catalogue.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query = 'SELECT pg_catalog.pg_backend_pid()'", name).Scan(&n))
		return n
	}
	eventually(t, "two subscriptions", func() bool { return listeners() >= 2 })
	acme, err := a.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme"})
	must(t, err)
	must(t, store.SetMember(t.Context(), "alice", acme.ID, tenancy.Member{}))
	must(t, a.Changed(t.Context(), acme.ID))

	var took []time.Duration
	suspend := func() {
		t.Helper()
		parent, end := context.WithCancel(t.Context())
		defer end()
		var ctx context.Context
		eventually(t, "a binding", func() bool {
			ctx = b.Bind(parent, &tenancy.Request{ //nolint:fatcontext // each is made of parent
				Header: http.Header{"X-Tenant-Id": {"acme"}}, Identity: tenancy.Identity{UserID: "alice"},
			})
			_, err := tenancy.Require(ctx)
			return err == nil
		})
		watched := ctx.Done()
		begin := time.Now()
		_, err := a.Lifecycle().Suspend(t.Context(), acme.ID, "unpaid")
		must(t, err)
		select {
		case <-watched:
			took = append(took, time.Since(begin))
			mustBe(t, context.Cause(ctx), tenancy.ErrSuspended)
		case <-time.After(20 * time.Second):
			t.Fatal("the other node goes on")
		}
		_, err = a.Lifecycle().Activate(t.Context(), acme.ID)
		must(t, err)
	}
	for range 50 {
		suspend()
	}
	slices.Sort(took)
	t.Logf("another node's request ended after %v in the middle, %v in 98 of 100, %v at most", took[25], took[48], took[49])

	must(t, second(catalogue.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", name)))
	eventually(t, "an answer of the catalogue", func() bool { _, err := a.Lifecycle().Get(t.Context(), acme.ID); return err == nil })
	suspend() // told by a new connection, or seen when the other node has subscribed again
	suspend()
}

func TestBusServerIsGone(t *testing.T) {
	t.Parallel()
	pg := servers.NewPostgres(t, servers.PostgresConfig{})
	bus := newBus(t, pg.URL(pg.CreateDatabase(t)))
	must(t, bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}))
	sub, err := bus.Subscribe(t.Context())
	must(t, err)
	must(t, pg.Kill())
	if _, err := sub.Next(t.Context()); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next: %v", err)
	}
	must(t, sub.Close())
	if err := bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}); err == nil {
		t.Error("a change was handed over to nobody")
	}
	if _, err := bus.Subscribe(t.Context()); err == nil {
		t.Error("subscribed to nobody")
	}
	must(t, pg.Start())
	sub, err = bus.Subscribe(t.Context())
	must(t, err)
	defer sub.Close()
	must(t, bus.Publish(t.Context(), tenancy.Change{TenantID: "acme"}))
	c, err := sub.Next(t.Context())
	must(t, err)
	if c.TenantID != "acme" {
		t.Errorf("heard %+v", c)
	}
}
