// Package gorm_test runs GORM on real databases: through the handle of package isolation, and with
// the plugin tenantgorm where the database is no wall.
package gorm_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	_ "modernc.org/sqlite"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/integration/cells"
	"lexigram.dev/tenancy/internal/integration/servers"
	"lexigram.dev/tenancy/tenantgorm"
)

func TestMain(m *testing.M) { servers.Main(m) }

// The keys lack the tenant on purpose: a plugin has to stand that.

type author struct {
	ID       int64
	TenantID string `gorm:"not null"`
	Name     string
	Notes    []note
}

type note struct {
	ID       int64
	TenantID string `gorm:"not null"`
	AuthorID *int64
	Author   *author
	PlanID   *int64
	Plan     *plan
	Tags     []tag  `gorm:"many2many:note_tags"`
	Code     string `gorm:"uniqueIndex"`
	Body     string
}

type tag struct {
	ID       int64
	TenantID string `gorm:"not null"`
	Name     string
}

// noteTag is the join table of notes and tags.
type noteTag struct {
	NoteID   int64  `gorm:"primaryKey"`
	TagID    int64  `gorm:"primaryKey"`
	TenantID string `gorm:"not null"`
}

// plan is shared by all tenants.
type plan struct {
	ID   int64
	Name string
}

// secret is a table that nobody has classified.
type secret struct {
	ID   int64
	Text string
}

var models = []any{&author{}, &note{}, &tag{}}

// engine is a database that keeps nobody apart.
type engine struct {
	name string
	open func(t testing.TB) (gorm.Dialector, *sql.DB)
}

var engines = []engine{
	{"SQLite", func(t testing.TB) (gorm.Dialector, *sql.DB) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "all.db")+
			"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate")
		must(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return sqlite.New(sqlite.Config{Conn: db}), db
	}},
	{"PostgreSQL without row security", func(t testing.TB) (gorm.Dialector, *sql.DB) {
		pg := servers.Postgres(t)
		db, err := sql.Open("pgx", pg.URL(pg.CreateDatabase(t)))
		must(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return postgres.New(postgres.Config{Conn: db}), db
	}},
	{"MariaDB", func(t testing.TB) (gorm.Dialector, *sql.DB) {
		server := servers.MariaDB(t)
		db, err := sql.Open("mysql", server.DSN(server.CreateDatabase(t))+cells.MariaDBParams)
		must(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return gormmysql.New(gormmysql.Config{Conn: db, DefaultStringSize: 255}), db
	}},
}

// world is a database with two tenants. Both have a note, an author and a tag.
type world struct {
	admin   *gorm.DB // without the plugin
	db      *gorm.DB
	plain   *sql.DB
	acme    context.Context
	globex  context.Context
	ofAcme  note
	foreign note // of globex
}

// each runs a test on every engine, with and without prepared statements.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, e := range engines {
		for _, prepared := range []bool{false, true} {
			name := e.name
			if prepared {
				name += ", prepared"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, newWorld(t, e, prepared))
			})
		}
	}
}

func newWorld(t testing.TB, e engine, prepared bool) *world {
	t.Helper()
	dialector, plain := e.open(t)
	w := &world{plain: plain, acme: bound(t, "acme"), globex: bound(t, "globex")}
	var err error
	w.admin, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	must(t, err)
	must(t, w.admin.SetupJoinTable(&note{}, "Tags", &noteTag{}))
	must(t, w.admin.AutoMigrate(&plan{}, &author{}, &tag{}, &note{}, &noteTag{}, &secret{}))
	w.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, PrepareStmt: prepared})
	must(t, err)
	must(t, w.db.SetupJoinTable(&note{}, "Tags", &noteTag{}))
	plugin, err := tenantgorm.New(tenantgorm.Config{Models: models, Shared: []string{"plans"}})
	must(t, err)
	must(t, w.db.Use(plugin))
	must(t, w.admin.Create(&plan{Name: "gold"}).Error)
	must(t, w.admin.Create(&secret{Text: "of the operator"}).Error)
	w.ofAcme = w.write(t, w.acme, "acme")
	w.foreign = w.write(t, w.globex, "globex")
	return w
}

func (w *world) write(t testing.TB, ctx context.Context, name string) note {
	t.Helper()
	n := note{
		Code: name + "-1", Body: "of " + name,
		Author: &author{Name: "author of " + name},
		Tags:   []tag{{Name: "tag of " + name}},
	}
	must(t, w.db.WithContext(ctx).Create(&n).Error)
	return n
}

func (w *world) as(ctx context.Context) *gorm.DB { return w.db.WithContext(ctx) }

// bound returns a context inside a tenant.
func bound(t testing.TB, id string) context.Context {
	t.Helper()
	return tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}, "test")
}

// untouched fails the test unless globex' rows are as they were, and acme has taken none.
func (w *world) untouched(t testing.TB) {
	t.Helper()
	rows, err := w.plain.QueryContext(t.Context(), `SELECT tenant_id, body FROM notes
		UNION ALL SELECT tenant_id, name FROM authors UNION ALL SELECT tenant_id, name FROM tags`)
	must(t, err)
	defer rows.Close()
	var got []string
	for rows.Next() {
		var owner, text string
		must(t, rows.Scan(&owner, &text))
		if owner == "globex" || strings.Contains(text, "globex") {
			got = append(got, owner+": "+text)
		}
	}
	must(t, rows.Err())
	slices.Sort(got)
	want := []string{"globex: author of globex", "globex: of globex", "globex: tag of globex"}
	if !slices.Equal(got, want) {
		t.Errorf("globex has %q, want %q", got, want)
	}
}

// foreignKey is the error of an upsert whose key is a foreign row's. ON DUPLICATE KEY UPDATE is
// refused before it can meet one.
func (w *world) foreignKey() error {
	if w.db.Name() == "mysql" {
		return tenantgorm.ErrUnfiltered
	}
	return tenantgorm.ErrForeignRow
}

// own fails the test unless the texts are acme's and there are so many.
func own(t testing.TB, want int, texts ...string) {
	t.Helper()
	if len(texts) != want {
		t.Errorf("read %d rows %q, want %d", len(texts), texts, want)
	}
	for _, text := range texts {
		if strings.Contains(text, "globex") || strings.Contains(text, "operator") {
			t.Errorf("acme reads %q", text)
		}
	}
}

func bodies(notes []note) []string {
	var all []string
	for _, n := range notes {
		all = append(all, n.Body)
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
}

// isRefusal reports whether the plugin has refused a statement.
func isRefusal(err error) bool {
	for _, target := range []error{
		tenantgorm.ErrUnfiltered, tenantgorm.ErrUnclassified, tenantgorm.ErrForeignTenant, tenantgorm.ErrForeignRow,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
