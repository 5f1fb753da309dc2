package isolation_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
)

// pair is one deployment on two PostgreSQL servers. A tenant lives on each; their schemas or
// databases have one name, their rows the same ids.
type pair struct {
	db           *isolation.DB
	config       isolation.Config
	north, south context.Context
	cells        map[string]*cell
}

// openPair ends what the cells themselves have open.
func openPair(t *testing.T, strategy string, second *servers.PostgresServer, option func(*isolation.Config)) *pair {
	t.Helper()
	p := &pair{cells: map[string]*cell{
		"north": openPostgres(t, strategy, servers.Postgres(t), nil, pipelined(t), nil),
		"south": openPostgres(t, strategy, second, nil, pipelined(t), nil),
	}}
	p.config = isolation.Config{Servers: map[string]isolation.Server{}, Server: "north", Strategy: strategy}
	quiet(&p.config)
	for name, c := range p.cells {
		must(t, c.db.Close())
		server := c.config.Servers["main"].(isolation.PostgreSQL)
		server.Replica = readOnly{server.App}
		p.config.Servers[name] = server
	}
	option(&p.config)
	provisioner, err := isolation.NewProvisioner(p.config, p.cells["north"].migration)
	must(t, err)
	p.north = provision(t, provisioner, tenant("acme-1"))
	other := tenant("acme_1") // the same letters in a name
	other.Placement = placementOf(t, p.north)
	other.Placement.Server = "south"
	p.south = provision(t, provisioner, other)
	if north, south := placementOf(t, p.north), placementOf(t, p.south); north.Schema != south.Schema || north.Database != south.Database {
		t.Fatalf("the places have different names: %+v %+v", north, south)
	}
	p.db, err = isolation.Open(p.config)
	must(t, err)
	t.Cleanup(func() { must(t, p.db.Close()) })
	return p
}

func (p *pair) add(t *testing.T, ctx context.Context, body string) {
	t.Helper()
	_, err := p.db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", body)
	must(t, err)
}

// port returns the port of the server that answers, and whether its connection can write.
func (p *pair) port(t *testing.T, ctx context.Context) (port int, writes bool) {
	t.Helper()
	must(t, p.db.QueryRowContext(ctx, "SELECT inet_server_port(), NOT current_setting('transaction_read_only')::bool").Scan(&port, &writes))
	return port, writes
}

// connections counts, on the servers, the application's connections.
func (p *pair) connections(t *testing.T) (n int) {
	t.Helper()
	for _, c := range p.cells {
		var on int
		must(t, c.admin.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND usename IN ($1, $2)`,
			c.roles.App, placementOf(t, p.north).Database).Scan(&on))
		n += on
	}
	return n
}

func TestTenantsOfTwoServers(t *testing.T) {
	t.Parallel()
	second := servers.NewPostgres(t, servers.PostgresConfig{})
	for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase} {
		t.Run(strategy, func(t *testing.T) {
			p := openPair(t, strategy, second, func(*isolation.Config) {})
			must(t, p.db.Check(t.Context()))
			for i := range 3 { // on used connections as well
				p.add(t, p.north, fmt.Sprint("north ", i))
				p.add(t, p.south, fmt.Sprint("south ", i))
			}
			seen := func() {
				t.Helper()
				sees(t, p.north, p.db, "north 0", "north 1", "north 2")
				sees(t, p.south, p.db, "south 0", "south 1", "south 2")
			}
			seen()
			tx, err := p.db.BeginTx(p.north, nil)
			must(t, err)
			_, err = bodies(p.south, tx)
			mustBe(t, err, tenancy.ErrTenantMismatch)
			must(t, tx.Rollback())

			north, south := p.cells["north"].server.Port(), p.cells["south"].server.Port()
			replica := strategy != tenancy.StrategyDatabase
			for _, at := range []struct {
				what   string
				ctx    context.Context
				port   int
				writes bool
			}{
				{"the tenant of north", p.north, north, true},
				{"the tenant of south", p.south, south, true},
				{"the tenant of north, read-only", tenancy.ReadOnly(p.north), north, !replica},
				{"the tenant of south, read-only", tenancy.ReadOnly(p.south), south, !replica},
				{"the system", tenancy.AsSystem(t.Context(), "test"), north, true},
				{"the system, asked for out of a tenant of south", tenancy.AsSystem(p.south, "test"), north, true},
			} {
				if port, writes := p.port(t, at.ctx); port != at.port || writes != at.writes {
					t.Errorf("%s is on port %d and can write: %v; want %d %v", at.what, port, writes, at.port, at.writes)
				}
			}
			if strategy == tenancy.StrategyRowLevel {
				sees(t, tenancy.AsSystem(p.south, "count"), p.db, "of acme", "of globex", "north 0", "north 1", "north 2")
			}

			must(t, second.Kill())
			if _, err := bodies(p.south, p.db); err == nil {
				t.Error("a tenant of the server that is down was answered")
			}
			if _, err := bodies(tenancy.ReadOnly(p.south), p.db); err == nil {
				t.Error("a tenant of the server that is down was answered, read-only")
			}
			sees(t, p.north, p.db, "north 0", "north 1", "north 2")
			if strategy != tenancy.StrategyDatabase { // Check has nothing to ask there
				if err := p.db.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `server "south"`) ||
					strings.Contains(err.Error(), `server "north"`) {
					t.Errorf("Check with south down: %v", err)
				}
			}
			must(t, second.Start())
			_ = p.cells["south"].admin.PingContext(t.Context()) // it has a connection of before
			eventually(t, "south serves again", func() bool { _, err := bodies(p.south, p.db); return err == nil })
			seen()
			if stats := p.db.PoolStats(); stats.Open != stats.Idle {
				t.Errorf("connections are left in use: %+v", stats)
			}
		})
	}
}

// TestBudgetOfTwoServers has one connection per server at most, and two in all.
func TestBudgetOfTwoServers(t *testing.T) {
	t.Parallel()
	second := servers.NewPostgres(t, servers.PostgresConfig{})
	for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase} {
		t.Run(strategy, func(t *testing.T) {
			p := openPair(t, strategy, second, func(c *isolation.Config) {
				c.Pool.MaxConns, c.Pool.MaxPerTenant, c.Pool.MaxWait = 2, 2, 200*time.Millisecond
			})
			hold := func(ctx context.Context) *sql.Tx {
				t.Helper()
				tx, err := p.db.BeginTx(ctx, nil)
				must(t, err)
				_, err = bodies(ctx, tx)
				must(t, err)
				return tx
			}
			full := func(n int) {
				t.Helper()
				if stats := p.db.PoolStats(); stats.Open != n {
					t.Errorf("open: %+v, want %d", stats, n)
				}
				eventually(t, fmt.Sprint(n, " connections on both servers"), func() bool { return p.connections(t) == n })
			}
			north, south := hold(p.north), hold(p.south)
			full(2)
			for _, ctx := range []context.Context{p.north, p.south} {
				_, err := bodies(ctx, p.db)
				mustBe(t, err, isolation.ErrPoolExhausted)
			}
			must(t, south.Rollback())
			again := hold(p.north) // in the place of the idle one of south
			full(2)
			_, err := bodies(p.south, p.db)
			mustBe(t, err, isolation.ErrPoolExhausted)
			must(t, errors.Join(north.Rollback(), again.Rollback()))
			sees(t, p.south, p.db)
			full(2)
		})
	}
}

// population are the contexts of tenants by id.
type population map[string]context.Context

// add provisions a tenant where the placement wants it.
func (all population) add(t *testing.T, p *isolation.Provisioner, id string, at tenancy.Placement) {
	t.Helper()
	tn := tenant(id)
	tn.Placement = at
	all[id] = provision(t, p, tn)
}

// TestTenantsMixOnMariaDB has all strategies on one MariaDB server, and PostgreSQL beside it.
func TestTenantsMixOnMariaDB(t *testing.T) {
	t.Parallel()
	maria, pg := openMariaDBRows(t), openDirect(t)
	var migrator string
	must(t, migratorOf(t, maria).QueryRow("SELECT current_user()").Scan(&migrator))
	user, host, _ := strings.Cut(migrator, "@")
	for _, right := range []string{"ALL PRIVILEGES", "GRANT OPTION"} {
		_, err := maria.admin.Exec("GRANT " + right + " ON `t\\_%`.* TO '" + user + "'@'" + host + "'")
		must(t, err)
	}
	config := isolation.Config{
		Servers: map[string]isolation.Server{"maria": maria.config.Servers["main"], "pg": pg.config.Servers["main"]}, Server: "maria", Strategy: tenancy.StrategySchema,
	}
	quiet(&config)
	p, err := isolation.NewProvisioner(config, migration(mariaDBSchema))
	must(t, err)
	db, err := isolation.Open(config)
	must(t, err)
	defer db.Close()

	tenants := population{}
	for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase} {
		for _, id := range []string{"one", "two"} {
			tenants.add(t, p, strategy+"-"+id, tenancy.Placement{Strategy: strategy})
		}
	}
	tenants.add(t, p, "elsewhere", tenancy.Placement{Strategy: tenancy.StrategyRowLevel, Server: "pg"})
	must(t, db.Check(t.Context()))
	for id, ctx := range tenants {
		_, err := db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", "of "+id)
		must(t, err)
	}
	for range 2 { // on used connections as well
		for id, ctx := range tenants {
			sees(t, ctx, db, "of "+id)
		}
	}
	for id, ctx := range tenants {
		for other, of := range tenants {
			at := placementOf(t, of)
			if other == id || at.Server == "pg" {
				continue
			}
			tables := []string{at.Schema + at.Database}
			if at.Strategy == tenancy.StrategyRowLevel { // the placement names a login; the rows are in the shared table
				tables = []string{maria.name}
				if placementOf(t, ctx).Strategy != tenancy.StrategyRowLevel {
					tables = append(tables, rowsOf(maria).Views)
				}
			}
			for _, in := range tables {
				if rows, err := db.QueryContext(ctx, "SELECT body FROM "+in+".notes"); err == nil {
					rows.Close()
					t.Errorf("%s can read %s.notes of %s", id, in, other)
				}
			}
		}
	}
	gone := tenants["row_level-one"]
	must(t, p.Deprovision(t.Context(), placed(t, gone)))
	if got, err := bodies(gone, db); err == nil && len(got) > 0 {
		t.Errorf("after Deprovision there is %q", got)
	}
	delete(tenants, "row_level-one")
	for id, ctx := range tenants {
		sees(t, ctx, db, "of "+id)
	}
}

// cluster is a kind of server that only the application's own strategy knows.
type cluster struct {
	admin *sql.DB
	url   func(user, password string) string
}

func (cluster) Engine() isolation.Engine { return isolation.EnginePostgreSQL }

// ownLogins is an application's own strategy: a schema for each tenant, and a login that owns it.
type ownLogins struct {
	connector func(url string) driver.Connector
}

const ownLoginsName = "own_logins"

var _ isolation.Strategy = ownLogins{}

func (ownLogins) Name() string { return ownLoginsName }

func (o ownLogins) Supports(s isolation.Server) error {
	if _, ok := s.(cluster); !ok {
		return fmt.Errorf("%s on %T: %w: place the tenant on a cluster", o.Name(), s, isolation.ErrUnsupported)
	}
	return nil
}

func (o ownLogins) Route(s isolation.Server, _ *tenancy.Tenant, p tenancy.Placement, r *isolation.Route) error {
	if err := o.Supports(s); err != nil {
		return err
	}
	r.Pool = isolation.Pool{Login: p.Schema}
	r.Connector, r.Engine = o.connector(s.(cluster).url(p.Schema, "secret")), s.Engine()
	return nil
}

func (ownLogins) RouteSystem(isolation.Server, *isolation.Route) error {
	return isolation.ErrNoSystemLogin
}

func (ownLogins) RouteUnbound(isolation.Server, *isolation.Route) error {
	return isolation.ErrNoSystemLogin
}

func (ownLogins) Place(_ context.Context, _ isolation.Server, t tenancy.Tenant) (tenancy.Placement, error) {
	return tenancy.Placement{Schema: "own_" + t.ID}, nil
}

func (o ownLogins) exists(ctx context.Context, s isolation.Server, name string) (found bool, err error) {
	if err := o.Supports(s); err != nil {
		return false, err
	}
	err = s.(cluster).admin.QueryRowContext(ctx, "SELECT count(*) > 0 FROM pg_roles WHERE rolname = $1", name).Scan(&found)
	return found, err
}

func (o ownLogins) run(ctx context.Context, s isolation.Server, t tenancy.Tenant, unless bool, statements ...string) error {
	found, err := o.exists(ctx, s, t.Placement.Schema)
	if err != nil || found == unless {
		return err
	}
	for _, statement := range statements {
		if _, err := s.(cluster).admin.ExecContext(ctx, fmt.Sprintf(statement, t.Placement.Schema)); err != nil {
			return err
		}
	}
	return nil
}

func (o ownLogins) Provision(ctx context.Context, s isolation.Server, t tenancy.Tenant) error {
	return o.run(ctx, s, t, true, "CREATE ROLE %s LOGIN PASSWORD 'secret'", "CREATE SCHEMA AUTHORIZATION %[1]s", "ALTER ROLE %[1]s SET search_path = %[1]s")
}

func (o ownLogins) Migrate(ctx context.Context, s isolation.Server, t tenancy.Tenant, m isolation.Migrator) (int64, error) {
	own := sql.OpenDB(o.connector(s.(cluster).url(t.Placement.Schema, "secret")))
	defer own.Close()
	return m.Migrate(ctx, isolation.Target{DB: own, Engine: s.Engine(), Tenant: t.ID, Name: t.Placement.Schema})
}

func (o ownLogins) Manifest(ctx context.Context, s isolation.Server, t tenancy.Tenant) ([]tenancy.ManifestItem, error) {
	found, err := o.exists(ctx, s, t.Placement.Schema)
	if err != nil || !found {
		return nil, err
	}
	return []tenancy.ManifestItem{{Kind: "own", Name: t.Placement.Schema}}, nil
}

func (o ownLogins) Deprovision(ctx context.Context, s isolation.Server, t tenancy.Tenant) error {
	return o.run(ctx, s, t, false, "DROP OWNED BY %s CASCADE", "DROP ROLE %s")
}

func TestStrategyOfTheApplicationsOwn(t *testing.T) {
	t.Parallel()
	c := openDirect(t)
	own := cluster{admin: c.admin, url: func(user, password string) string { return c.server.URLFor(user, password, c.name) }}
	registry, err := isolation.NewRegistry(ownLogins{pipelined(t)})
	must(t, err)
	config := c.config
	config.Registry, config.Server = registry, "main"
	config.Servers = map[string]isolation.Server{"main": c.config.Servers["main"], "own": own}
	p, err := isolation.NewProvisioner(config, migration(ownSchema))
	must(t, err)
	db, err := isolation.Open(config)
	must(t, err)
	defer db.Close()

	nonce := strings.TrimPrefix(c.name, "t_") // roles are the whole server's
	var contexts []context.Context
	for _, id := range []string{"a" + nonce, "b" + nonce} {
		tn := tenant(id)
		// Place has the server chosen; the application chooses another one by the whole placement.
		tn.Placement = tenancy.Placement{Strategy: ownLoginsName, Server: "own", Schema: "own_" + id}
		for range 2 { // it is idempotent
			contexts = append(contexts[:len(contexts):len(contexts)], provision(t, p, tn))
		}
	}
	first, second := contexts[1], contexts[3]
	must(t, db.Check(t.Context()))
	for _, ctx := range []context.Context{first, second} {
		_, err := db.ExecContext(ctx, "INSERT INTO notes (body) VALUES ($1)", "of "+placed(t, ctx).ID)
		must(t, err)
	}
	for range 2 {
		for _, ctx := range []context.Context{first, second} {
			sees(t, ctx, db, "of "+placed(t, ctx).ID)
			_, err := db.ExecContext(ctx, "INSERT INTO own_"+placed(t, first).ID+".notes (body) SELECT 'planted' WHERE false")
			if denies := ctx == second; denies != (err != nil) {
				t.Errorf("%s at the table of %s: %v", placed(t, ctx).ID, placed(t, first).ID, err)
			}
		}
		sees(t, c.acme, db, "of acme")
		sees(t, c.globex, db, "of globex")
	}
	if items := kinds(t, p, placed(t, first)); !slices.Equal(items, []string{"own"}) {
		t.Errorf("the manifest has %q", items)
	}
	for range 2 {
		must(t, p.Deprovision(t.Context(), placed(t, first)))
	}
	if items := kinds(t, p, placed(t, first)); len(items) > 0 {
		t.Errorf("after Deprovision there is %q", items)
	}
	sees(t, second, db, "of "+placed(t, second).ID)
	sees(t, c.acme, db, "of acme")

	// Its own strategy may be the deployment's default; the shipped ones refuse a server they do not know.
	config.Server, config.Strategy = "own", ownLoginsName
	p, err = isolation.NewProvisioner(config, migration(ownSchema))
	must(t, err)
	third := provision(t, p, tenant("c"+nonce))
	if at := placementOf(t, third); at.Strategy != ownLoginsName || at.Server != "own" || at.Schema != "own_c"+nonce {
		t.Errorf("placed at %+v", at)
	}
	sees(t, third, db)
	for _, strategy := range []string{tenancy.StrategyRowLevel, tenancy.StrategySchema, tenancy.StrategyDatabase} {
		config.Strategy = strategy
		_, err := isolation.Open(config)
		mustBe(t, err, isolation.ErrUnsupported)
		misplaced := tenant("misplaced")
		misplaced.Placement = tenancy.Placement{Strategy: strategy, Server: "own", Schema: "public", Database: "public"}
		_, err = bodies(tenancy.UnsafeBind(t.Context(), misplaced, "test"), db)
		mustBe(t, err, isolation.ErrUnsupported)
	}
	config.Server, config.Strategy = "main", ownLoginsName
	_, err = isolation.Open(config)
	mustBe(t, err, isolation.ErrUnsupported)
	_, err = isolation.NewRegistry(ownLogins{}, ownLogins{})
	if err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("two strategies of one name: %v", err)
	}
}

// counted counts the connections that are opened.
type counted struct {
	driver.Connector
	opened atomic.Int64
}

func (c *counted) Connect(ctx context.Context) (driver.Conn, error) {
	c.opened.Add(1)
	return c.Connector.Connect(ctx)
}

// sqliteFile connects to one file.
type sqliteFile struct {
	driver driver.Driver
	path   string
}

func (f sqliteFile) Connect(context.Context) (driver.Conn, error) { return f.driver.Open(f.path) }
func (f sqliteFile) Driver() driver.Driver                        { return f.driver }

func TestSystemDoorOfSQLite(t *testing.T) {
	t.Parallel()
	own, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "system.sqlite"))
	must(t, err)
	defer own.Close()
	path := filepath.Join(t.TempDir(), "own.sqlite")
	door := &counted{Connector: sqliteFile{own.Driver(), path}}
	var reasons []string
	c := openSQLite(t, func(config *isolation.Config) {
		files := config.Servers["files"].(isolation.SQLite)
		files.System = door
		config.Servers["files"] = files
		config.OnSystem = func(_ context.Context, reason string) { reasons = append(reasons, reason) }
	})
	tables := func(ctx context.Context) (names string) {
		t.Helper()
		must(t, c.db.QueryRowContext(ctx, "SELECT coalesce(group_concat(name), '') FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").Scan(&names))
		return names
	}
	var version string
	for range 2 {
		sees(t, c.acme, c.db, "of acme")
		sees(t, tenancy.ReadOnly(c.acme), c.db, "of acme")
		must(t, c.db.QueryRow("select sqlite_version()").Scan(&version))
		must(t, c.db.PingContext(t.Context()))
		must(t, c.db.Check(t.Context()))
	}
	if n := door.opened.Load(); n != 0 || len(reasons) != 0 {
		t.Fatalf("tenants and the unbound opened the system's database %d times, for %q", n, reasons)
	}
	system := tenancy.AsSystem(c.acme, "count tenants")
	_, err = c.db.ExecContext(system, "CREATE TABLE jobs (id integer PRIMARY KEY)")
	must(t, err)
	if got := tables(system); got != "jobs" || door.opened.Load() != 1 {
		t.Errorf("the system sees %q after %d connections, want jobs after 1", got, door.opened.Load())
	}
	if len(reasons) != 2 || reasons[0] != "count tenants" {
		t.Errorf("recorded %q", reasons)
	}
	for _, ctx := range []context.Context{c.acme, c.globex, tenancy.ReadOnly(c.acme)} {
		if got := tables(ctx); got != "notes" {
			t.Errorf("a tenant sees %q, want notes", got)
		}
	}
	must(t, c.db.InTx(c.acme, nil, func(tx *sql.Tx) error {
		_, err := bodies(system, tx)
		mustBe(t, err, tenancy.ErrTenantMismatch)
		return nil
	}))
	must(t, c.db.InTx(system, nil, func(tx *sql.Tx) error {
		_, err := bodies(c.acme, tx)
		mustBe(t, err, tenancy.ErrTenantMismatch)
		return nil
	}))
	_, err = c.db.ExecContext(tenancy.AsSystem(t.Context(), ""), "SELECT 1")
	mustBe(t, err, tenancy.ErrReasonRequired)
	_, err = c.db.ExecContext(t.Context(), "SELECT 1 FROM jobs")
	mustBe(t, err, tenancy.ErrNoTenant)
}
