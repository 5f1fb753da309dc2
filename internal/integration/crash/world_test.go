package crash_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/sqlstore"
	"lexigram.dev/tenancy/tenantgoose"
	"lexigram.dev/tenancy/tenantpgx"
)

// key is what the logins of tenants' databases are derived from.
var key = []byte("0123456789abcdef0123456789abcdef")

// versions is the table of the migrations.
const versions = "goose_db_version"

// lease is short, so that a dead node's work is soon another's.
const lease = time.Second

// world is a deployment as a process must know it to be a node of it.
type world struct {
	Name     string
	Engine   isolation.Engine
	Strategy string
	Addr     string // of the database server
	Database string // the tenants' shared one
	Catalog  string // the catalogue's database; a file on SQLite
	Dir      string // of the tenants' files
	Root     isolation.Login
	App      isolation.Login
	System   isolation.Login
	Migrator isolation.Login
	Log      string        // what subscribers and callers were told
	Work     time.Duration // what a tenant's provisioning waits for outside of the database
}

func (w world) rows() bool { return w.Strategy == tenancy.StrategyRowLevel }

func (w world) views() string { return w.Database + "_views" }

// roles are those of PostgreSQL.
func (w world) roles() isolation.Roles {
	return isolation.Roles{App: w.App.User, System: w.System.User, Migrator: w.Migrator.User, Creates: true}
}

func (w world) url(l isolation.Login) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(l.User, l.Password), Host: w.Addr, Path: "/" + l.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (w world) mysql(l isolation.Login) *mysql.Config {
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", w.Addr, l.User, l.Password, l.Database
	config.Logger = &mysql.NopLogger{}
	return config
}

// catalogue opens the catalogue's database.
func (w world) catalogue(p *points) (*sql.DB, sqlstore.Dialect, error) {
	root := w.Root
	root.Database = w.Catalog
	var db *sql.DB
	var err error
	dialect := sqlstore.SQLite
	switch w.Engine {
	case isolation.EnginePostgreSQL:
		dialect = sqlstore.PostgreSQL
		db, err = openCounted("pgx", w.url(root), p)
	case isolation.EngineMariaDB:
		dialect = sqlstore.MariaDB
		db, err = openCounted("mysql", w.mysql(root).FormatDSN(), p)
	default:
		db, err = openCounted("sqlite", "file:"+w.Catalog+"?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)", p)
	}
	if err == nil {
		db.SetMaxOpenConns(8)
	}
	return db, dialect, err
}

// isolation is where the tenants' data goes.
func (w world) isolation() (isolation.Config, error) {
	var server isolation.Server
	var err error
	switch w.Engine {
	case isolation.EnginePostgreSQL:
		server, err = w.postgres()
	case isolation.EngineMariaDB:
		server, err = w.mariaDB()
	default:
		files := isolation.SQLite{Dir: w.Dir, Driver: "sqlite", BusyTimeout: 30 * time.Second}
		if w.rows() {
			files.Rows = &isolation.SQLiteRows{Tables: map[string]string{"notes": ""}, Shared: []string{versions}}
		}
		server = files
	}
	return isolation.Config{
		Servers: map[string]isolation.Server{"main": server}, Strategy: w.Strategy,
		Pool: isolation.PoolConfig{MaxConns: 8}, Logger: slog.New(slog.DiscardHandler),
	}, err
}

func (w world) postgres() (isolation.Server, error) {
	app, err1 := tenantpgx.NewConnector(w.url(w.App))
	system, err2 := tenantpgx.NewConnector(w.url(w.System))
	migrator, err3 := tenantpgx.NewConnector(w.url(w.Migrator))
	open, err4 := tenantpgx.Opener(w.url(w.Migrator))
	server := isolation.PostgreSQL{App: app, System: system, Migrator: migrator}
	switch w.Strategy {
	case tenancy.StrategyRowLevel:
		server.RLS = &isolation.RLS{Roles: w.roles(), Tables: []isolation.Table{{Name: "notes"}}, Private: []string{versions}}
	case tenancy.StrategySchema:
		server.Schemas = &isolation.Schemas{Roles: w.roles()}
	default:
		server.Databases = &isolation.Databases{Open: open, Key: key}
	}
	return server, errors.Join(err1, err2, err3, err4)
}

func (w world) mariaDB() (isolation.Server, error) {
	connector := func(l isolation.Login) (driver.Connector, error) { return mysql.NewConnector(w.mysql(l)) }
	app, err1 := connector(w.App)
	system, err2 := connector(w.System)
	server := isolation.MariaDB{App: app, System: system, Key: key, Open: func(l isolation.Login) (driver.Connector, error) {
		if l.User == "" {
			l.User, l.Password = w.Migrator.User, w.Migrator.Password
		}
		return connector(l)
	}}
	if w.rows() {
		server.Rows = &isolation.MariaDBRows{Base: w.Database, Views: w.views(), Tables: map[string]string{"notes": ""}, Private: []string{versions}}
	}
	return server, errors.Join(err1, err2)
}

// migrator makes the application's table, and where a tenant has its own, a ledger with a row for
// each time that the second migration was applied.
func (w world) migrator() (*tenantgoose.Migrator, error) {
	notes := "CREATE TABLE IF NOT EXISTS notes (id varchar(36) PRIMARY KEY, body text NOT NULL)"
	switch {
	case w.rows() && w.Engine != isolation.EngineMariaDB:
		notes = "CREATE TABLE notes (id varchar(36) NOT NULL, tenant_id text NOT NULL, body text NOT NULL, PRIMARY KEY (tenant_id, id))"
	case w.rows():
		notes = "CREATE TABLE notes (id varchar(36) NOT NULL DEFAULT '', tenant_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, " +
			"body text NOT NULL DEFAULT '', PRIMARY KEY (tenant_id, id))"
	}
	files := fstest.MapFS{"00001_notes.sql": {Data: []byte("-- +goose Up\n" + notes + ";\n")}}
	if !w.rows() {
		files["00002_ledger.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE IF NOT EXISTS ledger (entry integer NOT NULL);\n")}
		files["00003_entry.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nINSERT INTO ledger (entry) VALUES (1);\n")}
	}
	return tenantgoose.New(map[isolation.Engine]fs.FS{w.Engine: files})
}

// site is a node of a world.
type site struct {
	world
	*tenancy.Tenancy
	db          *isolation.DB
	catalogue   *sql.DB
	store       *sqlstore.Store
	provisioner *isolation.Provisioner
	points      *points
	log         *os.File
}

// open makes this process a node. Nothing is started.
func (w world) open(p *points, node string, options ...func(*tenancy.Config)) (_ *site, err error) {
	s := &site{world: w, points: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var dialect sqlstore.Dialect
	if s.catalogue, dialect, err = w.catalogue(p); err != nil {
		return nil, err
	}
	if s.store, err = sqlstore.New(s.catalogue, sqlstore.Config{Dialect: dialect}); err != nil {
		return nil, err
	}
	config, err := w.isolation()
	if err != nil {
		return nil, err
	}
	migrator, err := w.migrator()
	if err != nil {
		return nil, err
	}
	if s.provisioner, err = isolation.NewProvisioner(config, migrator); err != nil {
		return nil, err
	}
	if s.db, err = isolation.Open(config); err != nil {
		return nil, err
	}
	if s.log, err = os.OpenFile(w.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	cfg := tenancy.Config{
		Store: s.store, Provisioner: countedProvisioner{s.provisioner, p}, NodeID: node,
		Lifecycle:   tenancy.LifecycleConfig{IsolationStrategy: w.Strategy, Lease: lease, ArchiveGrace: -1},
		Resolution:  tenancy.ResolutionConfig{PollInterval: 50 * time.Millisecond},
		Subscribers: []tenancy.Subscriber{s.hear},
		Logger:      slog.New(slog.DiscardHandler),
		Steps: tenancy.Steps{
			Provision: []tenancy.Step{p.step("seed", s.seed)},
			Archive:   []tenancy.Step{p.step("goodbye", func(context.Context, *tenancy.Tenant) error { return nil })},
			Purge:     []tenancy.Step{p.step("export", s.export)},
		},
	}
	for _, option := range options {
		option(&cfg)
	}
	s.Tenancy, err = tenancy.New(cfg)
	return s, err
}

func (s *site) close() error {
	var errs []error
	if s.Tenancy != nil {
		errs = append(errs, s.Stop(context.Background()))
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.catalogue != nil {
		errs = append(errs, s.catalogue.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}

// as binds to a tenant whatever its state is: the steps of its work are done before and after it is
// active.
func as(ctx context.Context, t tenancy.Tenant) context.Context {
	t = t.Clone()
	t.Status = tenancy.StatusActive
	return tenancy.UnsafeBind(ctx, t, "a step of its work")
}

func (s *site) count(ctx context.Context, t tenancy.Tenant, query string) (n int, err error) {
	ctx, query = s.own(as(ctx, t), t, query)
	err = s.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

func (s *site) exec(ctx context.Context, t tenancy.Tenant, query string) error {
	ctx, query = s.own(as(ctx, t), t, query)
	_, err := s.db.ExecContext(ctx, query)
	return err
}

// own filters a statement by hand where the database does not.
func (s *site) own(ctx context.Context, t tenancy.Tenant, query string) (context.Context, string) {
	if s.Engine != isolation.EngineSQLite || !s.rows() {
		return ctx, query
	}
	query = strings.NewReplacer(
		"(id, body) VALUES (", "(tenant_id, id, body) VALUES ('"+t.ID+"', ",
		"count(*) FROM notes", "count(*) FROM (SELECT id, body FROM notes WHERE tenant_id = '"+t.ID+"') AS notes",
		"DELETE FROM notes WHERE", "DELETE FROM notes WHERE tenant_id = '"+t.ID+"' AND",
	).Replace(query)
	return isolation.UnsafeFiltered(ctx, query), query
}

const seeds = "SELECT count(*) FROM notes WHERE id = 'seed'"

// What the ids of tenants begin with: those of one kind fail at the last step of their provisioning and
// are given up.
const (
	kept    = "k"
	givenUp = "g"
)

func refused(id string) bool { return strings.HasPrefix(id, givenUp) }

var errRefused = errors.New("the payment provider refuses")

// seed is the application's step of a provisioning: a first row. A second one at the same time would
// break the key.
func (s *site) seed(ctx context.Context, t *tenancy.Tenant) error {
	if refused(t.ID) {
		return errRefused
	}
	select { // what else is done for a new tenant
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(s.Work):
	}
	n, err := s.count(ctx, *t, seeds)
	if err != nil || n == 1 {
		return err
	}
	return s.exec(ctx, *t, "INSERT INTO notes (id, body) VALUES ('seed', 'of "+t.ID+"')")
}

// export is the application's step of a purge: the data is still there. One that was given up has none,
// and perhaps no tables.
func (s *site) export(ctx context.Context, t *tenancy.Tenant) error {
	if refused(t.ID) {
		return nil
	}
	n, err := s.count(ctx, *t, "SELECT count(*) FROM notes WHERE body = 'of "+t.ID+"'")
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows to export", n)
	}
	return err
}

// line is what the log keeps.
type line struct {
	Told     tenancy.EventType      `json:",omitempty"` // an event
	ID       string                 `json:",omitempty"` // the event's
	Revision int64                  `json:",omitempty"`
	Stored   int64                  `json:",omitempty"` // the tenant's revision when the event came
	Manifest []tenancy.ManifestItem `json:",omitempty"` // the event's
	Placed   bool                   `json:",omitempty"` // the tenant has its tables, or had them
	Accepted string                 `json:",omitempty"` // a call that has returned
	Tenant   string
	Node     string
}

func (s *site) write(l line) error {
	l.Node = s.Config().NodeID
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := s.log.Write(append(text, '\n')); err != nil { // one write: processes append at once
		return err
	}
	return s.log.Sync()
}

// hear is the subscriber.
func (s *site) hear(ctx context.Context, e tenancy.Event) error {
	t, err := s.store.Lookup(ctx, tenancy.ByID(e.TenantID))
	if err != nil {
		return err
	}
	l := line{Told: e.Type, ID: e.ID, Revision: e.Revision, Stored: t.Revision, Placed: t.Placement.SchemaVersion > 0, Tenant: e.TenantID}
	if e.Manifest != nil {
		l.Manifest = e.Manifest.Items
	}
	return s.points.around("the delivery of an event", func() error { return s.write(l) })
}

// heard returns what the log of a world says.
func (w world) heard(t *testing.T) []line {
	t.Helper()
	text, err := os.ReadFile(w.Log)
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for row := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(row), &l); err != nil {
			t.Fatalf("log: %v in %q", err, row)
		}
		lines = append(lines, l)
	}
	return lines
}

// bring does what is left until the tenant is where it belongs: active, or purged.
func (s *site) bring(ctx context.Context, g goal) error {
	l, id := s.Lifecycle(), g.Tenant
	for {
		t, err := l.Get(ctx, id)
		if err != nil && !errors.Is(err, tenancy.ErrNotFound) {
			return err
		}
		verb := ""
		switch {
		case err != nil:
			verb = "create"
			_, err = l.Create(ctx, tenancy.CreateTenant{ID: id, Slug: id})
			if errors.Is(err, errRefused) {
				continue
			}
		case t.Status == g.Status:
			return nil
		case t.Status == tenancy.StatusProvisioning && refused(id):
			verb = "give up"
			_, err = l.Delete(ctx, id)
		case t.Status == tenancy.StatusProvisioning:
			verb = "create"
			_, err = l.Provision(ctx, id)
		case t.Status == tenancy.StatusActive:
			verb = "deactivate"
			_, err = l.Deactivate(ctx, id)
		case t.Status == tenancy.StatusInactive:
			verb = "archive"
			_, err = l.Archive(ctx, id)
		case t.Status == tenancy.StatusArchived:
			verb = "purge"
			_, err = l.Purge(ctx, id)
		default:
			err = fmt.Errorf("tenant %s is %s", id, t.Status)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		if err := s.write(line{Accepted: verb, Tenant: id}); err != nil {
			return err
		}
	}
}

// countedProvisioner passes boundaries around what it does.
type countedProvisioner struct {
	*isolation.Provisioner
	points *points
}

func (c countedProvisioner) wrap(steps []tenancy.Step) []tenancy.Step {
	for i, step := range steps {
		steps[i] = c.points.step(step.Name, step.Run)
	}
	return steps
}

func (c countedProvisioner) ProvisionSteps() []tenancy.Step {
	return c.wrap(c.Provisioner.ProvisionSteps())
}

func (c countedProvisioner) DeprovisionSteps() []tenancy.Step {
	return c.wrap(c.Provisioner.DeprovisionSteps())
}

func (c countedProvisioner) Manifest(ctx context.Context, t tenancy.Tenant) (m tenancy.Manifest, err error) {
	err = c.points.around("the step manifest", func() error {
		m, err = c.Provisioner.Manifest(ctx, t)
		return err
	})
	return m, err
}

// step passes boundaries around a step.
func (p *points) step(name string, run func(context.Context, *tenancy.Tenant) error) tenancy.Step {
	return tenancy.Step{Name: name, Run: func(ctx context.Context, t *tenancy.Tenant) error {
		return p.around("the step "+name, func() error { return run(ctx, t) })
	}}
}

// newWorld makes a deployment without tenants.
func newWorld(t *testing.T, engine isolation.Engine, strategy string) world {
	t.Helper()
	dir := t.TempDir()
	w := world{
		Name: strategy + " on " + string(engine), Engine: engine, Strategy: strategy,
		Log: filepath.Join(dir, "log"), Dir: filepath.Join(dir, "tenants"), Catalog: filepath.Join(dir, "catalogue.db"),
	}
	switch engine {
	case isolation.EnginePostgreSQL:
		w.onPostgres(t, servers.Postgres(t))
	case isolation.EngineMariaDB:
		w.onMariaDB(t, servers.MariaDB(t))
	}
	s, err := w.open(&points{}, "setup")
	must(t, err)
	defer func() { must(t, s.close()) }()
	must(t, s.store.Migrate(t.Context()))
	_, err = s.provisioner.Setup(t.Context())
	must(t, err)
	return w
}

func (w *world) onPostgres(t *testing.T, pg *servers.PostgresServer) {
	t.Helper()
	w.Addr, w.Database = pg.Addr(), pg.CreateDatabase(t)
	w.Catalog = w.Database
	w.Root = isolation.Login{User: "postgres", Password: pg.Password(), Database: w.Database}
	w.App = isolation.Login{User: w.Database + "_app", Password: "a", Database: w.Database}
	w.System = isolation.Login{User: w.Database + "_system", Password: "s", Database: w.Database}
	w.Migrator = isolation.Login{User: w.Database + "_migrator", Password: "m", Database: w.Database}
	db, err := sql.Open("pgx", w.url(w.Root))
	must(t, err)
	defer db.Close()
	must(t, w.roles().Create(t.Context(), db, isolation.Passwords{App: "a", System: "s", Migrator: "m"}))
}

func (w *world) onMariaDB(t *testing.T, server *servers.MariaDBServer) {
	t.Helper()
	w.Addr, w.Database, w.Catalog = server.Addr(), server.CreateDatabase(t), server.CreateDatabase(t)
	w.Root = isolation.Login{User: "root", Password: server.Password(), Database: w.Catalog}
	user := func(database string, grants ...string) isolation.Login {
		name, password := server.CreateUser(t, grants...)
		return isolation.Login{User: name, Password: password, Database: database}
	}
	w.App = user("")
	if !w.rows() {
		w.System = user("", "SELECT, INSERT, UPDATE, DELETE ON *.*")
		w.Migrator = user("", "CREATE USER ON *.*", "ALL PRIVILEGES ON `t\\_%`.*", "GRANT OPTION ON `t\\_%`.*")
		return
	}
	pattern := strings.NewReplacer("_", `\_`)
	base, views := "`"+pattern.Replace(w.Database)+"`.*", "`"+pattern.Replace(w.views())+"`.*"
	w.System = user(w.Database, "SELECT, INSERT, UPDATE, DELETE ON "+base)
	w.Migrator = user("", "CREATE USER ON *.*", "ALL PRIVILEGES ON "+base, "GRANT OPTION ON "+base, "ALL PRIVILEGES ON "+views, "GRANT OPTION ON "+views)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
