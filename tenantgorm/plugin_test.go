package tenantgorm_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
	"gorm.io/gorm/utils/tests"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantgorm"
)

type note struct {
	ID       int64
	TenantID string
	Body     string
}

type numbered struct {
	ID    int64
	OrgID int64
}

func (numbered) TableName() string { return "app.numbered" }

type parent struct {
	ID       int64
	TenantID string
	Children []child `gorm:"foreignKey:ParentID"`
}

type child struct {
	ID       int64
	ParentID int64
}

// dialect is a dialector of any name that writes text and runs nothing.
type dialect struct {
	tests.DummyDialector
	name string
}

func (d dialect) Name() string { return d.name }

func (d dialect) DefaultValueOf(*schema.Field) clause.Expression { return clause.Expr{SQL: "NULL"} }

func open(t testing.TB, name string, config tenantgorm.Config) (*gorm.DB, error) {
	t.Helper()
	db, err := gorm.Open(dialect{name: name}, &gorm.Config{DryRun: true, Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	plugin, err := tenantgorm.New(config)
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

func bound(t testing.TB, id string) context.Context {
	t.Helper()
	return tenancy.UnsafeBind(t.Context(), tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}, "test")
}

func TestConfigReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := tenantgorm.New(tenantgorm.Config{
		Column: "tenant id", Tables: map[string]string{"a": "x; y", "B": ""}, Shared: []string{"b"},
	})
	for _, want := range []string{`Config.Column is "tenant id"`, `Tables["a"]`, `table "B" is in Tables and in Shared`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	_, err = open(t, "sqlite", tenantgorm.Config{Models: []any{&parent{}, 42}})
	for _, want := range []string{"relation Children of parent", `table "children"`, "int"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if !errors.Is(err, tenantgorm.ErrUnclassified) {
		t.Errorf("got %v", err)
	}
	if _, err = open(t, "sqlite", tenantgorm.Config{Models: []any{&parent{}}, Tables: map[string]string{"children": "org"}}); err != nil {
		t.Error(err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	db, err := open(t, "other", tenantgorm.Config{Tables: map[string]string{"app.numbered": "org_id", "listed": "org"}, Shared: []string{"plans"}})
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() *gorm.DB { return db.WithContext(bound(t, "42")) }
	for _, test := range []struct {
		got  *gorm.DB
		want string
	}{
		{fresh().Find(&[]note{}), "SELECT * FROM (SELECT * FROM `notes` WHERE `tenant_id` = ?) AS `notes`"},
		{fresh().Find(&[]numbered{}), "SELECT * FROM (SELECT * FROM `app`.`numbered` WHERE `org_id` = ?) AS `numbered`"},
		{fresh().Table("listed l, plans").Find(&[]map[string]any{}), "SELECT * FROM (SELECT * FROM listed WHERE `org` = ?) AS l , plans"},
		{fresh().Where("id = ?", 1).Or("id = ?", 2).Delete(&note{}), "DELETE FROM `notes` WHERE `notes`.`tenant_id` = ? AND (id = ? OR id = ?)"},
		{fresh().Model(&note{ID: 1}).Update("body", "x"), "UPDATE `notes` SET `body`=? WHERE `notes`.`tenant_id` = ? AND (`id` = ?)"},
		{fresh().Create(&numbered{}), "INSERT INTO `app`.`numbered` (`org_id`) VALUES (?) RETURNING `id`"},
		{fresh().Table("listed").Create(map[string]any{"a": 1}), "INSERT INTO `listed` (`a`,`org`) VALUES (?,?)"},
		{fresh().Table("plans").Where("1=1").Delete(nil), "DELETE FROM `plans` WHERE 1=1"},
		{fresh().Where("id IN (?)", fresh().Model(&note{}).Select("id")).Find(&[]note{}), "SELECT * FROM (SELECT * FROM `notes` WHERE `tenant_id` = ?) AS `notes` WHERE id IN (SELECT `id` FROM (SELECT * FROM `notes` WHERE `tenant_id` = ?) AS `notes`)"},
		{db.WithContext(tenancy.AsSystem(t.Context(), "test")).Find(&[]note{}), "SELECT * FROM `notes`"},
	} {
		if test.got.Error != nil {
			t.Errorf("%s: %v", test.want, test.got.Error)
		} else if got := strings.Join(strings.Fields(test.got.Statement.SQL.String()), " "); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestSystemScope(t *testing.T) {
	t.Parallel()
	db, err := open(t, "other", tenantgorm.Config{Models: []any{&note{}}, Tables: map[string]string{"app.numbered": "org_id"}})
	if err != nil {
		t.Fatal(err)
	}
	system := func() *gorm.DB { return db.WithContext(tenancy.AsSystem(t.Context(), "test")) }
	for _, err := range []error{
		system().Create(&note{Body: "nobody's"}).Error,
		system().Create(&[]note{{TenantID: "acme"}, {}}).Error,
		system().Table("notes").Create(map[string]any{"body": "x"}).Error,
		system().Create(&numbered{}).Error,
	} {
		if err == nil || !strings.Contains(err.Error(), "names no tenant") {
			t.Errorf("got %v", err)
		}
	}
	if err := system().Create(&note{TenantID: "acme"}).Error; err != nil {
		t.Error(err)
	}
	if err := system().Exec("SELECT 1").Error; err != nil {
		t.Error(err)
	}
	err = system().Where("id IN (?)", db.Model(&note{}).Select("id")).Find(&[]note{}).Error
	if !errors.Is(err, tenancy.ErrNoTenant) {
		t.Errorf("a sub-query without a context: %v", err)
	}
}

func TestWhatAnEngineCannotFilterIsRefused(t *testing.T) {
	t.Parallel()
	db, err := open(t, "mysql", tenantgorm.Config{Models: []any{&note{}}})
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() *gorm.DB { return db.WithContext(bound(t, "acme")) }
	for name, got := range map[string]*gorm.DB{
		"upsert":           fresh().Clauses(clause.OnConflict{UpdateAll: true}).Create(&note{ID: 1}),
		"MySQL comment":    fresh().Where("1=1 # rest").Delete(&note{}),
		"two tables":       fresh().Clauses(clause.Delete{Modifier: "notes, others"}).Where("1=1").Delete(&note{}),
		"update modifier":  fresh().Model(&note{}).Clauses(clause.Update{Modifier: "others,"}).Where("1=1").Update("body", "x"),
		"join type":        fresh().Clauses(clause.From{Joins: []clause.Join{{Type: ", others CROSS", Table: clause.Table{Name: "notes", Alias: "n"}}}}).Find(&[]note{}),
		"constraint":       fresh().Clauses(clause.OnConflict{OnConstraint: "x DO UPDATE SET tenant_id = 'y'", DoNothing: true}).Create(&note{}),
		"raw column":       fresh().Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id) DO UPDATE SET a = (1", Raw: true}}, DoNothing: true}).Create(&note{}),
		"text after WHERE": fresh().Clauses(beside{"WHERE", "OR 1=1"}).Where("1=1").Delete(&note{}),
		"text after SET":   fresh().Clauses(beside{"SET", ", tenant_id = 'globex'"}, clause.Set{{Column: clause.Column{Name: "body"}, Value: "x"}}).Model(&note{}).Where("1=1").Updates(map[string]any{}),
		"text after FROM":  fresh().Clauses(beside{"FROM", ", others"}).Find(&[]note{}),
		"a builder":        fresh().Clauses(beside{"WHERE", ""}).Where("1=1").Delete(&note{}),
		"locking read":     fresh().Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]note{}),
	} {
		if !errors.Is(got.Error, tenantgorm.ErrUnfiltered) {
			t.Errorf("%s: got %v and %s", name, got.Error, got.Statement.SQL.String())
		}
	}
	if err := fresh().Clauses(clause.OnConflict{DoNothing: true}).Create(&note{ID: 1}).Error; err != nil {
		t.Error(err)
	}
}

// beside puts text after a clause, as optimizer hints do, or without a text a builder of its own.
type beside struct{ clause, text string }

func (beside) Build(clause.Builder) {}

func (b beside) ModifyStatement(stmt *gorm.Statement) {
	c := stmt.Clauses[b.clause]
	if c.Name = b.clause; b.text != "" {
		c.AfterExpression = clause.Expr{SQL: b.text}
	} else {
		c.Builder = func(_ clause.Clause, builder clause.Builder) { _, _ = builder.WriteString("WHERE 1=1") }
	}
	stmt.Clauses[b.clause] = c
}

func TestAPluginServesOneDatabase(t *testing.T) {
	t.Parallel()
	plugin, err := tenantgorm.New(tenantgorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		db, err := gorm.Open(dialect{name: "other"}, &gorm.Config{DryRun: true, Logger: logger.Discard})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Use(plugin); (err != nil) != (i == 1) {
			t.Errorf("use %d: %v", i, err)
		}
	}
}
