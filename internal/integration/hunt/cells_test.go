package hunt_test

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/isolationtest"
	"lexigram.dev/tenancy/tenantpgx"
)

// TestMain lets more tests run at a time than there are processors: they wait for servers, for
// locks and for contexts to end.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	servers.Main(m)
}

// cells are the strategies, engines and access paths that are searched for leaks.
var cells = []struct {
	name string
	open func(t testing.TB) isolationtest.Handle
}{
	{name: "row_level by tenantpgx", open: onPostgreSQL(tenancy.StrategyRowLevel, direct, pipelined)},
	{name: "row_level by tenantpgx through PgBouncer", open: onPostgreSQL(tenancy.StrategyRowLevel, pooled, pipelined)},
	{name: "row_level by pgx stdlib", open: onPostgreSQL(tenancy.StrategyRowLevel, direct, standard)},
	{name: "row_level by pgx stdlib through PgBouncer", open: onPostgreSQL(tenancy.StrategyRowLevel, pooled, unnamed)},
	{name: "schema by tenantpgx", open: onPostgreSQL(tenancy.StrategySchema, direct, pipelined)},
	{name: "schema by tenantpgx through PgBouncer", open: onPostgreSQL(tenancy.StrategySchema, pooled, pipelined)},
	{name: "schema by pgx stdlib", open: onPostgreSQL(tenancy.StrategySchema, direct, standard)},
	{name: "database on PostgreSQL", open: onPostgreSQL(tenancy.StrategyDatabase, direct, pipelined)},
	{name: "database on PostgreSQL through PgBouncer", open: onPostgreSQL(tenancy.StrategyDatabase, pooled, pipelined)},
	{name: "database by pgx stdlib through PgBouncer", open: onPostgreSQL(tenancy.StrategyDatabase, pooled, unnamed)},
	{name: "row_level on MariaDB", open: onMariaDBRows},
	{name: "schema on MariaDB", open: onMariaDB(tenancy.StrategySchema)},
	{name: "database on MariaDB", open: onMariaDB(tenancy.StrategyDatabase)},
	{name: "database on SQLite", open: onSQLite(tenancy.StrategyDatabase)},
	{name: "schema by pgx stdlib through PgBouncer", open: onPostgreSQL(tenancy.StrategySchema, pooled, unnamed)},
	{name: "database by pgx stdlib", open: onPostgreSQL(tenancy.StrategyDatabase, direct, standard)},
	{name: "row_level by Pool", open: by(byPool, onPostgreSQL(tenancy.StrategyRowLevel, direct, pipelined))},
	{name: "row_level by Pool through PgBouncer", open: by(byPool, onPostgreSQL(tenancy.StrategyRowLevel, pooled, pipelined))},
	{name: "schema by Pool", open: by(byPool, onPostgreSQL(tenancy.StrategySchema, direct, pipelined))},
	{name: "schema by Pool through PgBouncer", open: by(byPool, onPostgreSQL(tenancy.StrategySchema, pooled, pipelined))},
	{name: "database by Pool", open: by(byPool, onPostgreSQL(tenancy.StrategyDatabase, direct, pipelined))},
	{name: "database by Pool through PgBouncer", open: by(byPool, onPostgreSQL(tenancy.StrategyDatabase, pooled, pipelined))},
	{name: "row_level by GORM", open: by(byGORM(isolation.EnginePostgreSQL, false, false), onPostgreSQL(tenancy.StrategyRowLevel, direct, pipelined))},
	{name: "row_level by GORM through PgBouncer", open: by(byGORM(isolation.EnginePostgreSQL, true, false), onPostgreSQL(tenancy.StrategyRowLevel, pooled, pipelined))},
	{name: "schema by GORM", open: by(byGORM(isolation.EnginePostgreSQL, true, false), onPostgreSQL(tenancy.StrategySchema, direct, pipelined))},
	{name: "schema by GORM through PgBouncer", open: by(byGORM(isolation.EnginePostgreSQL, true, false), onPostgreSQL(tenancy.StrategySchema, pooled, pipelined))},
	{name: "database on PostgreSQL by GORM", open: by(byGORM(isolation.EnginePostgreSQL, false, false), onPostgreSQL(tenancy.StrategyDatabase, direct, pipelined))},
	{name: "database on PostgreSQL by GORM through PgBouncer", open: by(byGORM(isolation.EnginePostgreSQL, true, false), onPostgreSQL(tenancy.StrategyDatabase, pooled, pipelined))},
	{name: "row_level on MariaDB by GORM", open: by(byGORM(isolation.EngineMariaDB, true, false), onMariaDBRows)},
	{name: "schema on MariaDB by GORM", open: by(byGORM(isolation.EngineMariaDB, true, false), onMariaDB(tenancy.StrategySchema))},
	{name: "database on MariaDB by GORM", open: by(byGORM(isolation.EngineMariaDB, false, false), onMariaDB(tenancy.StrategyDatabase))},
	{name: "database on SQLite by GORM", open: by(byGORM(isolation.EngineSQLite, true, false), onSQLite(tenancy.StrategyDatabase))},
	{name: "row_level on SQLite by GORM", open: by(byGORM(isolation.EngineSQLite, false, true), onSQLite(tenancy.StrategyRowLevel))},
}

// by lets the suites drive a cell through a layer over its handle.
func by(newLayer func(db *isolation.DB) (layer, error), open func(t testing.TB) isolationtest.Handle,
) func(t testing.TB) isolationtest.Handle {
	return func(t testing.TB) isolationtest.Handle {
		t.Helper()
		h, err := over(open(t), newLayer)
		must(t, err)
		if g, ok := h.DB.(*layered).layer.(gormLayer); ok && g.fenced {
			h.Refuses = isRefusal
		}
		if _, pgx := h.DB.(*layered).layer.(poolLayer); pgx && (h.OwnConns || h.TenantColumn != "") {
			h.FailsOnce = true // as batches do, unless their texts name versions
		}
		return h
	}
}

// direct and pooled say whether PgBouncer is in between.
const direct, pooled = false, true

const table = "leak_hunt"

// tables are those of the suites.
var tables = []string{table, table + "_parent", table + "_child"}

// tablesOf are the tables with their tenant column, "" for the usual one.
func tablesOf() map[string]string {
	all := map[string]string{}
	for _, name := range tables {
		all[name] = ""
	}
	return all
}

// migration is a Migrator of a few statements.
type migration []string

func (m migration) Migrate(ctx context.Context, target isolation.Target) (int64, error) {
	for _, statement := range m {
		if _, err := target.DB.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func (m migration) Version(context.Context, isolation.Target) (int64, error) { return 1, nil }

// connect makes the connector of a URL.
type connect func(t testing.TB, url string) driver.Connector

func pipelined(t testing.TB, url string) driver.Connector {
	c, err := tenantpgx.NewConnector(url)
	must(t, err)
	return c
}

func standard(t testing.TB, url string) driver.Connector {
	config, err := pgx.ParseConfig(url)
	must(t, err)
	return stdlib.GetConnector(*config)
}

// unnamed is standard without prepared statements, which PgBouncer loses.
func unnamed(t testing.TB, url string) driver.Connector {
	config, err := pgx.ParseConfig(url)
	must(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return stdlib.GetConnector(*config)
}

// plain opens the application's login past the library. It works behind a pooler too.
func plain(t testing.TB, text string) *sql.DB {
	db := sql.OpenDB(unnamed(t, text))
	db.SetMaxOpenConns(3)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// onPostgreSQL sets a database up on a server of the test's own, which may be restarted.
func onPostgreSQL(strategy string, pool bool, c connect) func(t testing.TB) isolationtest.Handle {
	return func(t testing.TB) isolationtest.Handle {
		t.Helper()
		pg := servers.NewPostgres(t, servers.PostgresConfig{})
		s := &site{pg: pg, connect: c, name: pg.CreateDatabase(t)}
		if pool {
			s.bouncer = servers.NewPgBouncer(t, pg, servers.PgBouncerConfig{
				PoolSize: 6,
				Settings: map[string]string{"server_login_retry": "0.1"}, // seconds; a killed login holds all others up
			})
			s.bouncer.Supervise(t)
		}
		s.admin = sql.OpenDB(standard(t, pg.URL(s.name)))
		t.Cleanup(func() { _ = s.admin.Close() })
		s.roles = isolation.Roles{App: "app", System: "system", Migrator: "migrator", Creates: true}
		must(t, s.roles.Create(t.Context(), s.admin, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
		return s.open(t, strategy)
	}
}

// site is a PostgreSQL server with a database.
type site struct {
	pg      *servers.PostgresServer
	bouncer *servers.PgBouncerServer // nil when clients connect directly
	connect connect
	name    string
	admin   *sql.DB // past all walls
	roles   isolation.Roles
}

// url returns the URL of a login.
func (s *site) url(t testing.TB, user, password, database string) string {
	if s.bouncer == nil {
		return s.pg.URLFor(user, password, database)
	}
	s.bouncer.AddUser(t, user, password)
	return s.bouncer.URLFor(user, password, database)
}

func (s *site) open(t testing.TB, strategy string) isolationtest.Handle {
	t.Helper()
	server := isolation.PostgreSQL{
		App:      s.connect(t, s.url(t, s.roles.App, "a", s.name)),
		System:   s.connect(t, s.url(t, s.roles.System, "s", s.name)),
		Migrator: pipelined(t, s.pg.URLFor(s.roles.Migrator, "m", s.name)),
	}
	column := ""
	switch strategy {
	case tenancy.StrategyRowLevel:
		column = "tenant_id"
		server.RLS = &isolation.RLS{Roles: s.roles, Tables: []isolation.Table{{Name: tables[0]}, {Name: tables[1]}, {Name: tables[2]}}}
	case tenancy.StrategySchema:
		server.Schemas = &isolation.Schemas{Roles: s.roles}
	case tenancy.StrategyDatabase:
		server.Databases = s.databases(t)
	}
	config := isolation.Config{Servers: map[string]isolation.Server{"main": server}, Strategy: strategy}
	h, tenants := handle(t, config, isolation.EnginePostgreSQL, column)
	h.Plain = plain(t, s.url(t, s.roles.App, "a", s.name))
	h.Pooled = s.bouncer != nil
	h.Restart = func(context.Context) error { return s.pg.Restart() }
	s.describe(&h, strategy, tenants)
	_, pipelines := s.connect(t, s.pg.URL(s.name)).(*tenantpgx.Connector)
	h.FailsOnce = !pipelines && strategy != tenancy.StrategySchema // as pgx stdlib does, unless texts name versions
	h.Copies = copies(pipelines)
	return h
}

// databases opens tenants' databases, through the pooler if there is one.
func (s *site) databases(t testing.TB) *isolation.Databases {
	known := sync.Map{}
	return &isolation.Databases{
		Key: []byte("0123456789abcdef0123456789abcdef"),
		Open: func(l isolation.Login) (driver.Connector, error) {
			url := s.pg.URLFor(s.roles.Migrator, "m", l.Database)
			if l.User != "" {
				made, _ := known.LoadOrStore(l.User, sync.OnceValue(func() string { return s.url(t, l.User, l.Password, l.Database) }))
				url = made.(func() string)()
			}
			return s.connect(t, url), nil
		},
	}
}

// versions are tenants whose tables change. They may be used concurrently.
type versions struct {
	mu      sync.RWMutex
	tenants map[string]tenancy.Tenant
}

func newVersions(tenants map[string]tenancy.Tenant) *versions {
	return &versions{tenants: maps.Clone(tenants)}
}

// raise notes that a tenant's tables were migrated.
func (v *versions) raise(tenant string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	tn := v.tenants[tenant]
	tn.Placement.SchemaVersion++
	v.tenants[tenant] = tn
}

func (v *versions) bind(ctx context.Context, tenant string) context.Context {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return tenancy.UnsafeBind(ctx, v.tenants[tenant], "hunt")
}

// describe says what the strategy allows a test to do.
func (s *site) describe(h *isolationtest.Handle, strategy string, tenants map[string]tenancy.Tenant) {
	versions := newVersions(tenants)
	h.Bind = versions.bind
	logins := []string{s.roles.App}
	switch strategy {
	case tenancy.StrategyRowLevel:
		h.System = func(ctx context.Context) context.Context { return tenancy.AsSystem(ctx, "leak hunt") }
		h.SetSession = func(tenant string) []string {
			return []string{
				fmt.Sprintf("SELECT set_config('app.tenant_id', '%s', false)", tenant),
				fmt.Sprintf("SET app.tenant_id = '%s'", tenant),
			}
		}
		h.Qualified = func(string) string { return "public." + table }
		h.Keeps = map[string]string{"SHOW search_path": `"$user", public`}
		h.Migrate = func(ctx context.Context, _, statement string) error {
			_, err := s.admin.ExecContext(ctx, statement)
			return err
		}
	case tenancy.StrategySchema:
		schema := func(tenant string) string { return tenants[tenant].Placement.Schema }
		h.SetSession = func(tenant string) []string {
			return []string{
				fmt.Sprintf("SELECT set_config('role', '%s', false)", schema(tenant)),
				fmt.Sprintf("SET ROLE %s", schema(tenant)),
				fmt.Sprintf("SELECT set_config('search_path', '%s', false)", schema(tenant)),
				fmt.Sprintf("SET search_path = %s", schema(tenant)),
			}
		}
		h.Qualified = func(tenant string) string { return schema(tenant) + "." + table }
		h.Migrate = func(ctx context.Context, tenant, statement string) error {
			_, err := s.admin.ExecContext(ctx, strings.ReplaceAll(statement, table, schema(tenant)+"."+table))
			versions.raise(tenant)
			return err
		}
	case tenancy.StrategyDatabase:
		h.OwnConns = true
		logins = nil
		for _, tenant := range tenants {
			logins = append(logins, tenant.Placement.Database)
		}
		h.Qualified = func(tenant string) string { return tenants[tenant].Placement.Database + ".public." + table }
		h.SetSession = func(tenant string) []string { // the login is the binding
			return []string{"SET ROLE " + tenants[tenant].Placement.Database, "SET SESSION AUTHORIZATION " + tenants[tenant].Placement.Database}
		}
		h.Keeps = map[string]string{"SHOW search_path": `"$user", public`}
		h.Migrate = func(ctx context.Context, tenant, statement string) error {
			conn, err := pgx.Connect(ctx, s.pg.URL(tenants[tenant].Placement.Database))
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, statement)
			return err
		}
	}
	h.Kill = func(ctx context.Context, most int) (killed int, err error) {
		err = s.admin.QueryRowContext(ctx, `SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
			WHERE usename = ANY($1) ORDER BY random() LIMIT nullif($2, 0)) AS x`, logins, most).Scan(&killed)
		return killed, err
	}
}

// onMariaDB sets a server of the test's own up.
func onMariaDB(strategy string) func(t testing.TB) isolationtest.Handle {
	return func(t testing.TB) isolationtest.Handle {
		t.Helper()
		server := servers.NewMariaDB(t, servers.MariaDBConfig{})
		open := func(l isolation.Login) (driver.Connector, error) {
			dsn := server.DSN(l.Database)
			if l.User != "" {
				dsn = server.DSNFor(l.User, l.Password, l.Database)
			}
			config, err := mysql.ParseDSN(dsn)
			if err != nil {
				return nil, err
			}
			config.Logger = &mysql.NopLogger{} // a lost connection is what is tested
			return mysql.NewConnector(config)
		}
		user, password := server.CreateUser(t)
		app, err := open(isolation.Login{User: user, Password: password})
		must(t, err)
		root, err := open(isolation.Login{})
		must(t, err)
		admin := sql.OpenDB(root)
		t.Cleanup(func() { _ = admin.Close() })
		config := isolation.Config{
			Servers: map[string]isolation.Server{"main": isolation.MariaDB{
				App: app, Open: open, Key: []byte("0123456789abcdef0123456789abcdef"),
			}},
			Strategy: strategy,
		}
		h, tenants := handle(t, config, isolation.EngineMariaDB, "")
		name := func(tenant string) string {
			return tenants[tenant].Placement.Schema + tenants[tenant].Placement.Database // one of them is empty
		}
		h.Plain = sql.OpenDB(app)
		t.Cleanup(func() { _ = h.Plain.Close() })
		h.Restart = func(context.Context) error { return server.Restart() }
		h.SetSession = func(tenant string) []string { return []string{"USE " + name(tenant)} }
		h.Qualified = func(tenant string) string { return name(tenant) + "." + table }
		h.Migrate = func(ctx context.Context, tenant, statement string) error {
			_, err := admin.ExecContext(ctx, strings.ReplaceAll(statement, table, name(tenant)+"."+table))
			return err
		}
		h.Copies = loads
		h.Kill = func(ctx context.Context, most int) (int, error) { return killMariaDB(ctx, admin, user, most) }
		return h
	}
}

// killMariaDB ends connections of tenants' logins.
func killMariaDB(ctx context.Context, admin *sql.DB, app string, most int) (killed int, err error) {
	rows, err := admin.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE user NOT IN ('root', 'system user', 'unauthenticated user', ?) ORDER BY rand()", app)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if most > 0 && killed == most {
			break
		}
		if _, err := admin.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id)); err == nil { // else it has ended
			killed++
		}
	}
	return killed, nil
}

func onSQLite(strategy string) func(t testing.TB) isolationtest.Handle {
	return func(t testing.TB) isolationtest.Handle {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "tenants")
		server := isolation.SQLite{
			Dir: dir, Driver: "sqlite", Options: url.Values{"_pragma": {"synchronous(0)"}}, // the machine does not crash
		}
		column := ""
		if strategy == tenancy.StrategyRowLevel {
			column = "tenant_id"
			server.Rows = &isolation.SQLiteRows{Tables: tablesOf()}
		}
		config := isolation.Config{Servers: map[string]isolation.Server{"files": server}, Strategy: strategy}
		h, tenants := handle(t, config, isolation.EngineSQLite, column)
		h.OwnConns = true
		h.Migrate = func(ctx context.Context, tenant, statement string) error {
			name := cmp.Or(tenants[tenant].Placement.Database, "shared.sqlite")
			path := "file:" + filepath.Join(dir, name) + "?" + url.Values{"_pragma": {"busy_timeout(5000)"}}.Encode()
			db, err := sql.Open("sqlite", path)
			if err != nil {
				return err
			}
			defer db.Close()
			_, err = db.ExecContext(ctx, statement)
			return err
		}
		return h
	}
}

// handle sets the server up, provisions three tenants and opens the handle.
func handle(t testing.TB, config isolation.Config, engine isolation.Engine, column string,
) (isolationtest.Handle, map[string]tenancy.Tenant) {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	provisioner, err := isolation.NewProvisioner(config, append(migration{isolationtest.CreateTable(engine, table, column)},
		isolationtest.CreateRelated(engine, table, column)...))
	must(t, err)
	_, err = provisioner.Setup(t.Context())
	must(t, err)
	var tenants []tenancy.Tenant
	byID := map[string]tenancy.Tenant{}
	for _, id := range []string{"acme", "globex", "0199b2f4-7e1a-7c3e-9d55-3f1f8a0b6c2d"} {
		tn := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}
		tn.Placement, err = provisioner.Place(t.Context(), tn)
		must(t, err)
		tn.Placement, err = provisioner.Provision(t.Context(), tn)
		must(t, err)
		tenants = append(tenants, tn)
		byID[id] = tn
	}
	const perTenant = 4
	open := func(conns int) (*isolation.DB, error) {
		config := config
		config.Pool.MaxConns, config.Pool.MaxPerTenant = conns, min(conns, perTenant)
		if config.Strategy == tenancy.StrategyDatabase { // a connection for each, or all time goes into connecting
			config.Pool.MaxConns = conns * len(tenants)
		}
		return isolation.Open(config)
	}
	db, err := open(2 * perTenant)
	must(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	h := isolationtest.NewHandle(db, engine, tenants...)
	h.TenantColumn, h.PerTenant, h.Related = column, perTenant, true
	h.Open = func(conns int) (isolationtest.DB, error) {
		db, err := open(conns)
		if err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
		return db, nil
	}
	return h, byID
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
