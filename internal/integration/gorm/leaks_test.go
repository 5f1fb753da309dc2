package gorm_test

import (
	"context"
	"database/sql"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantgorm"
)

// Each test is a row of the list of known leaks.

func TestR01OrBindsTheFilterToItself(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, db := range map[string]func(db *gorm.DB) *gorm.DB{
			"Or":             func(db *gorm.DB) *gorm.DB { return db.Where("body = ?", "none").Or("body <> ?", "none") },
			"Or alone":       func(db *gorm.DB) *gorm.DB { return db.Or("1 = 1") },
			"Or in the text": func(db *gorm.DB) *gorm.DB { return db.Where("body = 'none' OR 1 = 1") },
			"Or of a group":  func(db *gorm.DB) *gorm.DB { return db.Where(w.as(w.acme).Where("1 = 2").Or("1 = 1")) },
			"Not":            func(db *gorm.DB) *gorm.DB { return db.Not("body = ?", "none").Or("2 = 2") },
			"Or of a clause": func(db *gorm.DB) *gorm.DB { return db.Clauses(clause.Or(clause.Expr{SQL: "1 = 1"})) },
			"Or in a scope": func(db *gorm.DB) *gorm.DB {
				return db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("1=2").Or("1=1") })
			},
			"Or with a struct": func(db *gorm.DB) *gorm.DB {
				return db.Where(&note{Body: "none"}).Or(&note{TenantID: "globex"}).Or("1=1")
			},
		} {
			t.Run(name, func(t *testing.T) {
				var notes []note
				must(t, db(w.as(w.acme)).Find(&notes).Error)
				own(t, 1, bodies(notes)...)
				changed := db(w.as(w.acme).Model(&note{})).Update("code", "acme-1")
				must(t, changed.Error)
				if changed.RowsAffected != 1 {
					t.Errorf("changed %d rows", changed.RowsAffected)
				}
				w.untouched(t)
			})
		}
		for _, text := range []string{"1 = 1) OR (1 = 1", "1 = 1 --", "1 = 1 /*", "1 = 1; DELETE FROM notes", "body = 'x\\' OR 1 = 1 --'", "body <> '' OR body = '"} {
			mustBe(t, w.as(w.acme).Where(text).Delete(&note{}).Error, tenantgorm.ErrUnfiltered)
			mustBe(t, w.as(w.acme).Model(&note{}).Where(text).Update("body", "taken").Error, tenantgorm.ErrUnfiltered)
			mustBe(t, w.as(w.acme).Where(text).Find(&[]note{}).Error, tenantgorm.ErrUnfiltered)
		}
		w.untouched(t)
		must(t, w.as(w.acme).Where("note_id > 0").Delete(&noteTag{}).Error)
		deleted := w.as(w.acme).Where("body = ?", "none").Or("1 = 1").Delete(&note{})
		must(t, deleted.Error)
		if deleted.RowsAffected != 1 {
			t.Errorf("deleted %d rows", deleted.RowsAffected)
		}
		w.untouched(t)
	})
}

func TestR02SaveOfAForeignRow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stolen := note{ID: w.foreign.ID, Code: "globex-1", Body: "stolen"}
		mustBe(t, w.as(w.acme).Save(&stolen).Error, w.foreignKey())
		stolen = note{ID: w.foreign.ID, TenantID: "acme", Code: "globex-1", Body: "stolen"}
		mustBe(t, w.as(w.acme).Save(&stolen).Error, w.foreignKey())
		stolen.TenantID = "globex"
		mustBe(t, w.as(w.acme).Save(&stolen).Error, tenantgorm.ErrForeignTenant)
		mustBe(t, w.as(w.acme).Save(&[]note{
			{Code: "acme-2", Body: "new"},
			{ID: w.foreign.ID, Code: "globex-1", Body: "stolen"},
		}).Error, w.foreignKey())
		w.untouched(t)
		var count int64
		must(t, w.as(w.acme).Model(&note{}).Count(&count).Error)
		if count != 1 {
			t.Errorf("a refused statement has left %d notes", count)
		}
		mine := w.ofAcme
		mine.Author, mine.Tags, mine.TenantID, mine.Body = nil, nil, "", "changed"
		must(t, w.as(w.acme).Save(&mine).Error)
		var kept note
		must(t, w.as(w.acme).First(&kept, mine.ID).Error)
		if kept.Body != "changed" || kept.TenantID != "acme" {
			t.Errorf("saved %+v", kept)
		}
		fresh := note{ID: 77, Code: "acme-77", Body: "with a key of its own"}
		if w.db.Name() == "mysql" {
			mustBe(t, w.as(w.acme).Save(&fresh).Error, tenantgorm.ErrUnfiltered)
			return
		}
		must(t, w.as(w.acme).Save(&fresh).Error)
		if fresh.TenantID != "acme" {
			t.Errorf("saved %+v", fresh)
		}
	})
}

func TestR03UpdatesCannotMoveARow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		mine := func() *gorm.DB { return w.as(w.acme).Model(&note{ID: w.ofAcme.ID}) }
		for name, update := range map[string]*gorm.DB{
			"map":                     mine().Updates(map[string]any{"tenant_id": "globex", "body": "of globex"}),
			"map, field name":         mine().Updates(map[string]any{"TenantID": "globex"}),
			"map, upper case":         mine().Updates(map[string]any{"TENANT_ID": "globex"}),
			"map, qualified":          mine().Updates(map[string]any{"notes.tenant_id": "globex"}),
			"struct":                  mine().Updates(note{TenantID: "globex"}),
			"Update":                  mine().Update("tenant_id", "globex"),
			"UpdateColumn":            mine().UpdateColumn("tenant_id", "globex"),
			"UpdateColumns":           mine().UpdateColumns(note{TenantID: "globex"}),
			"Select":                  mine().Select("TenantID").Updates(note{TenantID: "globex"}),
			"other struct":            mine().Updates(struct{ TenantID string }{"globex"}),
			"table alone":             w.as(w.acme).Table("notes").Where("1=1").Updates(map[string]any{"tenant_id": "globex"}),
			"table alone, upper case": w.as(w.acme).Table("notes").Where("1=1").Updates(map[string]any{"TENANT_ID": "globex"}),
			"table alone, quoted":     w.as(w.acme).Table("notes").Where("1=1").Updates(map[string]any{"`notes`.`tenant_id`": "globex"}),
			"clause.Set":              w.as(w.acme).Model(&note{}).Where("1=1").Clauses(clause.Set{{Column: clause.Column{Name: "tenant_id"}, Value: "globex"}}).Updates(map[string]any{}),
			"FirstOrCreate":           w.as(w.acme).Where("id = ?", w.ofAcme.ID).Assign(map[string]any{"tenant_id": "globex"}).FirstOrCreate(&note{}),
		} {
			if update.Error == nil {
				t.Errorf("%s: allowed", name)
				continue
			}
			mustBe(t, update.Error, tenantgorm.ErrForeignTenant)
		}
		for name, update := range map[string]*gorm.DB{
			"expression":         mine().Update("tenant_id", gorm.Expr("'glo' || 'bex'")),
			"sub-query":          mine().Update("tenant_id", w.as(w.acme).Model(&author{}).Select("name").Limit(1)),
			"a list as a value":  mine().Update("body", gorm.Expr("'x', tenant_id = 'globex'")),
			"the rest of it":     mine().Update("body", gorm.Expr("'x' WHERE 1=1; --")),
			"raw column":         w.as(w.acme).Model(&note{}).Where("1=1").Clauses(clause.Set{{Column: clause.Column{Name: "tenant_id = 'globex', body", Raw: true}, Value: "x"}}).Updates(map[string]any{}),
			"raw column as text": mine().Update("body", clause.Column{Name: "code, tenant_id = 'globex'", Raw: true}),
		} {
			if update.Error == nil {
				t.Errorf("%s: allowed", name)
				continue
			}
			mustBe(t, update.Error, tenantgorm.ErrUnfiltered)
		}
		must(t, mine().Update("body", gorm.Expr("upper(?)", "loud")).Error)
		must(t, mine().Updates(map[string]any{"tenant_id": "acme", "body": "kept"}).Error)
		w.untouched(t)
	})
}

func TestR04EveryFinisherIsFiltered(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var count int64
		var texts []string
		var exists bool
		must(t, w.as(w.acme).Model(&note{}).Count(&count).Error)
		own(t, 1, make([]string, count)...)
		must(t, w.as(w.acme).Table("notes").Count(&count).Error)
		own(t, 1, make([]string, count)...)
		must(t, w.as(w.acme).Table("notes AS n").Where("n.id > ?", 0).Count(&count).Error)
		own(t, 1, make([]string, count)...)
		must(t, w.as(w.acme).Model(&note{}).Distinct("body").Count(&count).Error)
		own(t, 1, make([]string, count)...)
		must(t, w.as(w.acme).Model(&note{}).Pluck("body", &texts).Error)
		own(t, 1, texts...)
		must(t, w.as(w.acme).Table("notes").Pluck("body", &texts).Error)
		own(t, 1, texts...)
		must(t, w.as(w.acme).Model(nil).Table("notes").Select("body").Scan(&texts).Error)
		own(t, 1, texts...)
		must(t, w.as(w.acme).Model(&note{}).Select("count(*) > 1").Find(&exists).Error)
		if exists {
			t.Error("a second note exists")
		}
		var found map[string]any
		err := w.as(w.acme).Model(&note{}).Where("body = ?", "of globex").Take(&found).Error
		mustBe(t, err, gorm.ErrRecordNotFound)
		mustBe(t, w.as(w.acme).First(&note{}, w.foreign.ID).Error, gorm.ErrRecordNotFound)
		var body string
		must(t, w.as(w.acme).Model(&note{}).Select("max(body)").Row().Scan(&body))
		own(t, 1, body)
		rows, err := w.as(w.acme).Model(&note{}).Select("body").Rows()
		must(t, err)
		texts = scanAll(t, rows)
		own(t, 1, texts...)
		var batches []string
		var batch []note
		must(t, w.as(w.acme).FindInBatches(&batch, 1, func(*gorm.DB, int) error {
			batches = append(batches, bodies(batch)...)
			return nil
		}).Error)
		own(t, 1, batches...)
		small := []struct{ Body string }{}
		must(t, w.as(w.acme).Model(&note{}).Find(&small).Error)
		own(t, 1, small[0].Body)
		must(t, w.as(w.acme).Model(&note{}).Select("body").Group("body").Having("count(*) > 0").Order("body").Scan(&texts).Error)
		own(t, 1, texts...)
		generic, err := gorm.G[note](w.db).Where("1 = 1").Find(w.acme)
		must(t, err)
		own(t, 1, bodies(generic)...)
	})
}

func TestR04TextIsRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		db := w.as(w.acme)
		var texts []string
		refused := func(err error) {
			t.Helper()
			mustBe(t, err, tenantgorm.ErrUnfiltered)
		}
		refused(db.Raw("SELECT body FROM notes").Scan(&texts).Error)
		refused(db.Raw("SELECT body FROM notes").Find(&[]note{}).Error)
		refused(db.Raw("SELECT body FROM notes").Row().Scan(new(string)))
		if rows, err := db.Raw("SELECT body FROM notes").Rows(); err == nil {
			t.Errorf("Rows: allowed: %q", scanAll(t, rows))
		} else {
			refused(err)
		}
		refused(db.Exec("DELETE FROM notes").Error)
		refused(db.Exec("INSERT INTO notes (tenant_id, code, body) SELECT tenant_id, code || '2', body FROM notes").Error)
		refused(db.Exec("SAVEPOINT x; DELETE FROM notes").Error)
		own(t, 0, texts...)
		if err := db.Table("secrets").Pluck("text", &texts).Error; err == nil {
			t.Error("an unclassified table was read")
		} else {
			mustBe(t, err, tenantgorm.ErrUnclassified)
		}
		mustBe(t, db.Find(&[]secret{}).Error, tenantgorm.ErrUnclassified)
		mustBe(t, db.Create(&secret{Text: "x"}).Error, tenantgorm.ErrUnclassified)
		mustBe(t, db.Where("1=1").Delete(&secret{}).Error, tenantgorm.ErrUnclassified)
		mustBe(t, db.Model(&secret{}).Where("1=1").Update("text", "x").Error, tenantgorm.ErrUnclassified)
		mustBe(t, db.AutoMigrate(&note{}), tenantgorm.ErrUnfiltered)
		w.untouched(t)

		// What is allowed by name is run as it is.
		unsafe := w.as(tenantgorm.UnsafeRaw(w.acme, "a report with a filter of its own"))
		must(t, unsafe.Raw("SELECT body FROM notes WHERE tenant_id = ?", "acme").Scan(&texts).Error)
		own(t, 1, texts...)
		mustBe(t, w.as(tenantgorm.UnsafeRaw(w.acme, " ")).Raw("SELECT 1").Scan(&texts).Error, tenancy.ErrReasonRequired)
		mustBe(t, w.as(tenantgorm.UnsafeRaw(t.Context(), "test")).Raw("SELECT 1").Scan(&texts).Error, tenancy.ErrNoTenant)
		refused(db.Raw("SELECT body FROM notes WHERE tenant_id = ?", "acme").Scan(&texts).Error) // also when it is prepared by now

		// The shared table is open to all, with joins.
		must(t, db.Model(&plan{}).Pluck("name", &texts).Error)
		own(t, 1, texts...)
		must(t, db.Table("plans").Pluck("name", &texts).Error)
		own(t, 1, texts...)
	})
}

func TestR05JoinsPreloadsAndSubqueries(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		// A foreign key that leads to another tenant's row, as keys without the tenant allow it.
		_, err := w.plain.ExecContext(t.Context(), `UPDATE notes SET author_id = (SELECT id FROM authors WHERE tenant_id = 'globex') WHERE tenant_id = 'acme'`)
		must(t, err)
		_, err = w.plain.ExecContext(t.Context(), `UPDATE note_tags SET tag_id = (SELECT id FROM tags WHERE tenant_id = 'globex') WHERE tenant_id = 'acme'`)
		must(t, err)
		db := w.as(w.acme)
		whole := func(name string, query *gorm.DB) {
			t.Helper()
			var notes []note
			if err := query.Find(&notes).Error; err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			own(t, 1, bodies(notes)...)
			for _, n := range notes {
				if n.Author != nil && n.Author.Name != "" || len(n.Tags) > 0 {
					t.Errorf("%s: acme reads %+v and %+v", name, n.Author, n.Tags)
				}
			}
		}
		whole("relation", db.Joins("Author"))
		whole("relation with a condition", db.Joins("Author", w.as(w.acme).Where(&author{Name: "author of globex"})))
		whole("preload", db.Preload("Author").Preload("Tags"))
		whole("preload all", db.Preload(clause.Associations))
		whole("preload with a condition", db.Preload("Tags", "1 = 1").Preload("Author", "name <> ?", "x"))
		var none []note
		must(t, db.InnerJoins("Author").Find(&none).Error)
		own(t, 0, bodies(none)...)

		var texts []string
		for name, query := range map[string]*gorm.DB{
			"join in a text":          db.Model(&note{}).Select("authors.name").Joins("JOIN authors ON authors.id = notes.author_id"),
			"with an alias":           db.Model(&note{}).Select("a.name").Joins("LEFT JOIN authors a ON a.id = notes.author_id").Where("a.name IS NOT NULL"),
			"with AS and a parameter": db.Model(&note{}).Select("a.name").Joins("INNER JOIN authors AS a ON a.id = notes.author_id AND a.name <> ?", "x"),
			"two joins":               db.Model(&note{}).Select("b.name").Joins("JOIN authors a ON a.id <> ? JOIN authors b ON b.id <> a.id", 0),
			"with a name":             db.Model(&note{}).Select("a.name").Joins("JOIN authors a ON a.id = notes.author_id AND a.name <> @name", sql.Named("name", "x")),
			"cross join":              db.Model(&note{}).Select("a.name").Joins("CROSS JOIN authors a").Where("a.name LIKE ?", "%globex"),
			"comma":                   db.Table("notes AS n, authors AS a").Select("a.name").Where("a.name LIKE ?", "%globex"),
			"join in Table":           db.Table("notes AS n JOIN authors a ON a.id = n.author_id").Select("a.name"),
			"sub-query in FROM":       db.Table("(?) AS u", w.as(w.acme).Model(&author{})).Select("u.name").Where("u.name LIKE ?", "%globex"),
			"sub-query in a join":     db.Model(&note{}).Select("u.name").Joins("JOIN (?) AS u ON u.id = notes.author_id", w.as(w.acme).Model(&author{})),
			"sub-query in WHERE":      db.Model(&author{}).Select("name").Where("id IN (?)", w.as(w.acme).Model(&author{}).Select("id").Where("1=1").Or("2=2")).Where("name LIKE ?", "%globex"),
			"sub-query in SELECT":     db.Model(&note{}).Select("(?)", w.as(w.acme).Model(&author{}).Select("max(name)").Where("name LIKE ?", "%globex")).Where("1 = 2"),
			"EXISTS":                  db.Model(&note{}).Select("body").Where("EXISTS (?)", w.as(w.acme).Model(&author{}).Where("authors.id = notes.author_id")),
			"clause.From":             db.Model(&note{}).Clauses(clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "authors", Alias: "a"}, ON: clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "a.id = notes.author_id"}}}}}}).Select("a.name"),
			"clause.From with tables": db.Model(&note{}).Clauses(clause.From{Tables: []clause.Table{{Name: "authors"}}}).Select("authors.name").Where("authors.name LIKE ?", "%globex"),
		} {
			texts = nil
			if err := query.Scan(&texts).Error; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			own(t, 0, texts...)
		}
		count := w.as(w.acme).Model(&note{ID: w.ofAcme.ID}).Association("Tags").Count()
		own(t, 0, make([]string, count)...)

		for name, query := range map[string]*gorm.DB{
			"sub-query in a text":  db.Model(&note{}).Where("author_id IN (SELECT id FROM authors)"),
			"SELECT alone":         db.Model(&note{}).Where("1 = (SELECT 1)"),
			"in SELECT":            db.Model(&note{}).Select("(SELECT max(name) FROM authors)"),
			"in ORDER":             db.Model(&note{}).Order("(SELECT 1 FROM authors)"),
			"UNION":                db.Model(&note{}).Select("body").Where("1=1").Order("1 UNION SELECT name FROM authors"),
			"raw sub-query":        db.Model(&note{}).Where("author_id IN (?)", w.as(w.acme).Raw("SELECT id FROM authors")),
			"join to the unknown":  db.Model(&note{}).Joins("JOIN secrets ON 1=1"),
			"comma in a join":      db.Model(&note{}).Joins("JOIN authors ON 1=1, secrets"),
			"comma in a condition": db.Model(&note{}).Joins("JOIN authors ON ?", gorm.Expr("1=1, secrets")),
			"comma in ON":          db.Model(&note{}).Joins("Author", w.as(w.acme).Where("1=1, secrets")),
			"join in ON":           db.Model(&note{}).Joins("Author", w.as(w.acme).Where("1=1 JOIN secrets ON 1=1")),
			"no join":              db.Model(&note{}).Joins(", secrets"),
			"brackets":             db.Model(&note{}).Joins("JOIN (secrets) ON 1=1"),
			"expression":           db.Model(&note{}).Joins("JOIN (?) AS x ON 1=1", gorm.Expr("secrets")),
			"table as parameter":   db.Model(&note{}).Joins("JOIN ? ON 1=1", clause.Table{Name: "secrets"}),
			"Table of a parameter": db.Table("?", clause.Table{Name: "secrets"}),
			"Table of brackets":    db.Table("(secrets)"),
			"Table and a comment":  db.Table("notes AS n /* */, secrets"),
			"lateral":              db.Model(&note{}).Joins("CROSS JOIN LATERAL secrets"),
			"qualified":            db.Table("main.notes"),
			"raw table":            db.Model(&note{}).Clauses(clause.From{Tables: []clause.Table{{Name: "secrets", Raw: true}}}),
		} {
			texts = nil
			err := query.Scan(&texts).Error
			if err == nil {
				t.Errorf("%s: allowed", name)
				continue
			}
			if !isRefusal(err) {
				t.Errorf("%s: %v", name, err)
			}
			own(t, 0, texts...)
		}
	})
}

func TestR05SubqueryOfAnotherContext(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var notes []note
		db := w.as(w.acme).Where("id NOT IN (?)", w.as(w.globex).Model(&note{}).Select("id"))
		mustBe(t, db.Find(&notes).Error, tenancy.ErrTenantMismatch)
		db = w.as(w.acme).Where("id NOT IN (?)", w.db.Model(&note{}).Select("id"))
		mustBe(t, db.Find(&notes).Error, tenancy.ErrNoTenant)
		db = w.as(w.acme).Where("id NOT IN (?)", w.as(w.acme).Model(&secret{}).Select("id"))
		mustBe(t, db.Find(&notes).Error, tenantgorm.ErrUnclassified)
		own(t, 0, bodies(notes)...)
	})
}

func TestR06NoTenant(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, db := range []*gorm.DB{w.db, w.as(t.Context()), w.as(context.Background())} {
			var notes []note
			var count int64
			mustBe(t, db.Find(&notes).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Unscoped().Find(&notes).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Model(&note{}).Count(&count).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Create(&note{Code: "x"}).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Create(&note{TenantID: "acme", Code: "x"}).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Model(&note{}).Where("1=1").Update("body", "x").Error, tenancy.ErrNoTenant)
			mustBe(t, db.Where("1=1").Delete(&note{}).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&note{}).Error, tenancy.ErrNoTenant)
			mustBe(t, db.Raw("SELECT 1").Row().Scan(new(int)), tenancy.ErrNoTenant)
			mustBe(t, db.Exec("DELETE FROM notes").Error, tenancy.ErrNoTenant)
			mustBe(t, db.Find(&[]plan{}).Error, tenancy.ErrNoTenant)
			own(t, 0, append(bodies(notes), make([]string, count)...)...)
		}
		w.untouched(t)
	})
}

func TestR07CreateForAnotherTenant(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		db := w.as(w.acme)
		for name, err := range map[string]error{
			"struct":      db.Create(&note{TenantID: "globex", Code: "a"}).Error,
			"slice":       db.Create(&[]note{{Code: "b"}, {TenantID: "globex", Code: "c"}}).Error,
			"batches":     db.CreateInBatches([]note{{Code: "d"}, {TenantID: "globex", Code: "e"}}, 1).Error,
			"map":         db.Model(&note{}).Create(map[string]any{"tenant_id": "globex", "code": "f"}).Error,
			"field name":  db.Model(&note{}).Create(map[string]any{"TenantID": "globex", "code": "g"}).Error,
			"upper case":  db.Model(&note{}).Create(map[string]any{"TENANT_ID": "globex", "code": "h"}).Error,
			"twice":       db.Model(&note{}).Create(map[string]any{"TENANT_ID": "globex", "tenant_id": "acme", "code": "i"}).Error,
			"table alone": db.Table("notes").Create(map[string]any{"tenant_id": "globex", "code": "j"}).Error,
			"association": db.Create(&note{Code: "k", Author: &author{TenantID: "globex", Name: "n"}}).Error,
			"append":      db.Model(&note{ID: w.ofAcme.ID}).Association("Tags").Append(&tag{TenantID: "globex"}),
			"expression":  db.Model(&note{}).Create(map[string]any{"tenant_id": gorm.Expr("'globex'"), "code": "l"}).Error,
		} {
			if err == nil {
				t.Errorf("%s: allowed", name)
			} else if !isRefusal(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.untouched(t)
		var count int64
		must(t, w.admin.Model(&note{}).Count(&count).Error)
		if count != 2 {
			t.Errorf("refused creates have left %d notes", count)
		}

		rows := []note{{Code: "m"}, {TenantID: "acme", Code: "n"}}
		must(t, db.Create(&rows).Error)
		must(t, db.Omit("TenantID").Create(&note{Code: "o"}).Error)
		must(t, db.Select("Code").Create(&note{Code: "p"}).Error)
		must(t, db.Table("notes").Create(map[string]any{"code": "q"}).Error)
		must(t, db.Model(&note{}).Create(&[]map[string]any{{"code": "r"}, {"code": "s", "tenant_id": "acme"}}).Error)
		must(t, db.Create(&note{Code: "t"}).Error)
		if rows[0].TenantID != "acme" {
			t.Errorf("the new row says %q", rows[0].TenantID)
		}
		must(t, w.admin.Model(&note{}).Where("tenant_id = ?", "acme").Count(&count).Error)
		if count != 9 {
			t.Errorf("acme has %d notes", count)
		}
	})
}

func TestR07AHookCannotNameAnotherTenant(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		seen, set := "", ""
		hook := func(tx *gorm.DB) {
			if n, ok := tx.Statement.Dest.(*note); ok {
				seen = n.TenantID
			}
			if set != "" {
				tx.Statement.SetColumn("TenantID", set)
			}
		}
		must(t, w.db.Callback().Create().Before("gorm:create").Register("test:hook", hook))
		must(t, w.db.Callback().Update().Before("gorm:update").Register("test:hook", hook))
		must(t, w.as(w.acme).Create(&note{Code: "a"}).Error)
		if seen != "acme" {
			t.Errorf("the hook sees tenant %q", seen)
		}
		set = "globex"
		mustBe(t, w.as(w.acme).Create(&note{Code: "b"}).Error, tenantgorm.ErrForeignTenant)
		mine := note{ID: w.ofAcme.ID, TenantID: "acme", Code: "acme-1"}
		mustBe(t, w.as(w.acme).Save(&mine).Error, tenantgorm.ErrForeignTenant)
		mustBe(t, w.as(w.acme).Model(&mine).Updates(map[string]any{"body": "x"}).Error, tenantgorm.ErrForeignTenant)
		w.untouched(t)
	})
}

func TestR08StatementsOverManyRows(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		db := w.as(w.acme)
		global := w.as(w.acme).Session(&gorm.Session{AllowGlobalUpdate: true})
		mustBe(t, db.Model(&note{}).Update("body", "x").Error, gorm.ErrMissingWhereClause)
		mustBe(t, db.Delete(&note{}).Error, gorm.ErrMissingWhereClause)

		// An update with a sub-query, in the condition and in the value.
		ids := func() *gorm.DB { return w.as(w.acme).Model(&author{}).Select("id").Where("1=1").Or("2=2") }
		result := db.Model(&note{}).Where("author_id IN (?)", ids()).Update("body", w.as(w.acme).Model(&author{}).Select("max(name)"))
		must(t, result.Error)
		own(t, 1, make([]string, result.RowsAffected)...)
		var read note
		must(t, db.First(&read, w.ofAcme.ID).Error)
		own(t, 1, read.Body)
		result = global.Model(&note{}).Update("body", "all")
		must(t, result.Error)
		own(t, 1, make([]string, result.RowsAffected)...)
		w.untouched(t)

		// RETURNING gives the tenant's rows only.
		if w.db.Name() != "mysql" { // which has none for UPDATE
			var returned []note
			result = db.Model(&returned).Clauses(clause.Returning{}).Where("1=1").Or("2=2").Update("body", "returned")
			must(t, result.Error)
			own(t, 1, bodies(returned)...)
			w.untouched(t)
		}

		// Upserts change nobody else's row and say so.
		upsert := func(c clause.OnConflict, rows ...note) error { return w.as(w.acme).Clauses(c).Create(&rows).Error }
		byCode := []clause.Column{{Name: "code"}}
		mustBe(t, upsert(clause.OnConflict{Columns: byCode, UpdateAll: true}, note{Code: "globex-1", Body: "stolen"}), w.foreignKey())
		mustBe(t, upsert(clause.OnConflict{Columns: byCode, DoUpdates: clause.Assignments(map[string]any{"body": "stolen"})}, note{Code: "globex-1"}), w.foreignKey())
		must(t, upsert(clause.OnConflict{Columns: byCode, DoNothing: true}, note{Code: "globex-1", Body: "stolen"}))
		if w.db.Name() != "mysql" {
			mustBe(t, upsert(clause.OnConflict{Columns: byCode, DoUpdates: clause.Assignments(map[string]any{"tenant_id": "globex"})}, note{Code: "acme-1"}), tenantgorm.ErrForeignTenant)
			must(t, upsert(clause.OnConflict{Columns: byCode, DoUpdates: clause.AssignmentColumns([]string{"body"}), Where: clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "1=1 OR 2=2"}}}}, note{Code: "globex-1", Body: "stolen"}))
			must(t, upsert(clause.OnConflict{Columns: byCode, DoUpdates: clause.AssignmentColumns([]string{"body", "tenant_id"})}, note{Code: "acme-1", Body: "upserted"}))
		}
		mustBe(t, w.as(w.acme).Clauses(clause.Insert{Modifier: "OR REPLACE"}).Create(&note{Code: "globex-1"}).Error, tenantgorm.ErrUnfiltered)
		// A child with a foreign key, which GORM upserts.
		mustBe(t, w.as(w.acme).Create(&author{Name: "thief", Notes: []note{{ID: w.foreign.ID, Code: "x", Body: "stolen"}}}).Error, w.foreignKey())
		w.untouched(t)
		must(t, db.First(&read, w.ofAcme.ID).Error)
		if read.Body != "upserted" && w.db.Name() != "mysql" {
			t.Errorf("upserted %+v", read)
		}

		// Another table in an UPDATE or DELETE.
		if w.db.Name() != "mysql" { // where GORM's UPDATE has no FROM
			join := clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "authors"}}}}
			mustBe(t, db.Model(&note{}).Clauses(join).Where("1=1").Update("body", "x").Error, tenantgorm.ErrUnfiltered)
		}
		for _, err := range []error{
			db.Table("notes, authors").Where("1=1").Update("body", "x").Error,
			db.Clauses(clause.From{Tables: []clause.Table{{Name: "notes"}, {Name: "authors"}}}).Where("1=1").Delete(&note{}).Error,
			db.Model(&note{}).Clauses(clause.Update{Table: clause.Table{Name: "secrets"}}).Where("1=1").Update("text", "x").Error,
			db.Clauses(clause.Insert{Table: clause.Table{Name: "secrets"}}).Create(&note{Code: "y"}).Error,
			db.Model(&note{}).Where("1=1").Update("body", gorm.Expr("name FROM authors")).Error,
		} {
			if err == nil {
				t.Error("a second table was allowed")
			} else if !isRefusal(err) {
				t.Errorf("refused by: %v", err)
			}
		}
		must(t, w.as(w.acme).Where("1=1").Delete(&noteTag{}).Error)
		result = global.Delete(&note{})
		must(t, result.Error)
		own(t, 1, make([]string, result.RowsAffected)...)
		w.untouched(t)
	})
}

func TestR09PreparedStatementsServeEveryTenant(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, session := range []*gorm.DB{w.db, w.db.Session(&gorm.Session{PrepareStmt: true})} {
			for range 3 {
				for tenant, ctx := range map[string]context.Context{"acme": w.acme, "globex": w.globex} {
					var notes []note
					must(t, session.WithContext(ctx).Where("body LIKE ?", "of%").Find(&notes).Error)
					if len(notes) != 1 || notes[0].TenantID != tenant {
						t.Errorf("%s reads %q", tenant, bodies(notes))
					}
					// The same *gorm.DB, used by one tenant after the other.
					shared := session.Model(&note{}).Where("body LIKE ?", "of%").Session(&gorm.Session{})
					notes = nil
					must(t, shared.WithContext(ctx).Find(&notes).Error)
					if len(notes) != 1 || notes[0].TenantID != tenant {
						t.Errorf("%s reads %q", tenant, bodies(notes))
					}
				}
			}
		}
	})
}

// A locking read locks the rows that it returns, although they come from a filtered source.
// paper is a row whose table may take two tenants' ids for equal.
type paper struct {
	ID       int64
	TenantID string
	Body     string
	NextID   *int64
	Next     *paper
}

func TestR01IDsThatTheColumnTakesForEqual(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		must(t, w.admin.Exec(map[string]string{
			"sqlite":   "CREATE TABLE papers (id INTEGER PRIMARY KEY, tenant_id TEXT COLLATE NOCASE NOT NULL, body TEXT, next_id INTEGER)",
			"postgres": "CREATE TABLE papers (id bigserial PRIMARY KEY, tenant_id text NOT NULL, body text, next_id bigint)",
			"mysql": "CREATE TABLE papers (id bigint AUTO_INCREMENT PRIMARY KEY, tenant_id varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL, " +
				"body text, next_id bigint, KEY (tenant_id))",
		}[w.db.Name()]).Error)
		mine := paper{Body: "of acme"}
		must(t, w.as(w.acme).Create(&mine).Error)
		must(t, w.as(w.acme).Model(&mine).Update("next_id", mine.ID).Error)
		for _, id := range []string{"ACME", "Acme", "acmé", "a\u0301cme"} {
			db := w.as(bound(t, id))
			var papers []paper
			var count int64
			must(t, db.Find(&papers).Error)
			own(t, 0, texts(papers)...)
			must(t, db.Where("id = ?", mine.ID).Or("1 = 1").Find(&papers).Error)
			own(t, 0, texts(papers)...)
			must(t, db.Joins("Next").Find(&papers).Error)
			own(t, 0, texts(papers)...)
			must(t, db.Joins("JOIN papers AS p ON p.id = papers.next_id").Find(&papers).Error)
			own(t, 0, texts(papers)...)
			must(t, db.Where("id IN (?)", db.Model(&paper{}).Select("next_id")).Find(&papers).Error)
			own(t, 0, texts(papers)...)
			must(t, db.Model(&paper{}).Count(&count).Error)
			mustBe(t, db.First(&paper{}, mine.ID).Error, gorm.ErrRecordNotFound)
			update := db.Model(&paper{}).Where("id = ?", mine.ID).Update("body", "taken")
			must(t, update.Error)
			remove := db.Delete(&paper{}, mine.ID)
			must(t, remove.Error)
			mustBe(t, db.Save(&paper{ID: mine.ID, Body: "taken"}).Error, w.foreignKey())
			mustBe(t, db.Create(&paper{TenantID: "acme", Body: "taken"}).Error, tenantgorm.ErrForeignTenant)
			if count+update.RowsAffected+remove.RowsAffected != 0 {
				t.Errorf("tenant %s counts %d, changes %d and deletes %d rows of acme", id, count, update.RowsAffected, remove.RowsAffected)
			}
		}
		var papers []paper
		must(t, w.as(w.acme).Joins("Next").Find(&papers).Error)
		if len(papers) != 1 || papers[0].Next == nil || papers[0].Next.Body != "of acme" {
			t.Errorf("acme has %+v", papers)
		}
		if done := w.as(w.acme).Delete(&paper{}, mine.ID); done.Error != nil || done.RowsAffected != 1 {
			t.Errorf("acme deletes %d rows: %v", done.RowsAffected, done.Error)
		}
	})
}

func texts(papers []paper) []string {
	var all []string
	for _, p := range papers {
		all = append(all, p.Body)
	}
	return all
}

func TestLockingReads(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		lock := clause.Locking{Strength: clause.LockingStrengthUpdate}
		switch w.db.Name() {
		case "sqlite": // SQLite locks the database, and GORM leaves the clause out
			must(t, w.as(w.acme).Clauses(lock).Find(&[]note{}).Error)
			return
		case "mysql": // which locks no rows of a source in FROM
			mustBe(t, w.as(w.acme).Clauses(lock).Find(&[]note{}).Error, tenantgorm.ErrUnfiltered)
			return
		}
		changes := func(n note) error {
			return w.admin.WithContext(t.Context()).Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("SET LOCAL lock_timeout = '1s'").Error; err != nil {
					return err
				}
				return tx.Model(&note{ID: n.ID}).Update("body", n.Body).Error
			})
		}
		must(t, w.as(w.acme).Transaction(func(tx *gorm.DB) error {
			var locked []note
			if err := tx.Clauses(lock).Where("code = ?", "acme-1").Find(&locked).Error; err != nil {
				return err
			}
			own(t, 1, bodies(locked)...)
			if changes(w.ofAcme) == nil {
				t.Error("the row is not locked")
			}
			return changes(w.foreign)
		}))
	})
}

// The generic API of GORM has joins and assignments of its own.
func TestTheGenericAPI(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.plain.ExecContext(t.Context(), `UPDATE notes SET author_id = (SELECT id FROM authors WHERE tenant_id = 'globex') WHERE tenant_id = 'acme'`)
		must(t, err)
		for name, query := range map[string]gorm.ChainInterface[note]{
			"association": gorm.G[note](w.db).Joins(clause.LeftJoin.Association("Author"), nil),
			"with a condition": gorm.G[note](w.db).Joins(clause.LeftJoin.Association("Author").As("a"), func(db gorm.JoinBuilder, _, _ clause.Table) error {
				db.Where("1 = 1").Or("2 = 2")
				return nil
			}),
			"preload": gorm.G[note](w.db).Preload("Author", nil).Preload("Tags", nil),
			"or":      gorm.G[note](w.db).Where("1 = 2").Or("1 = 1"),
		} {
			notes, err := query.Find(w.acme)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			own(t, 1, bodies(notes)...)
			for _, n := range notes {
				if n.Author != nil && n.Author.Name != "" {
					t.Errorf("%s: acme reads %+v", name, n.Author)
				}
			}
		}
		changed, err := gorm.G[note](w.db).Where("1 = 2").Or("1 = 1").Update(w.acme, "body", "of acme")
		must(t, err)
		own(t, 1, make([]string, changed)...)
		_, err = gorm.G[note](w.db).Where("1 = 1").Update(w.acme, "tenant_id", "globex")
		mustBe(t, err, tenantgorm.ErrForeignTenant)
		mustBe(t, gorm.G[note](w.db).Create(w.acme, &note{TenantID: "globex"}), tenantgorm.ErrForeignTenant)
		mustBe(t, gorm.G[note](w.db).Exec(w.acme, "DELETE FROM notes"), tenantgorm.ErrUnfiltered)
		_, err = gorm.G[note](w.db).Raw("SELECT * FROM notes").Find(w.acme)
		mustBe(t, err, tenantgorm.ErrUnfiltered)
		// GORM gives a generic sub-query no context, whatever it was made with.
		sub := gorm.G[note](w.db).Joins(clause.LeftJoin.AssociationFrom("Author", gorm.G[author](w.as(w.acme)).Where("1=1")).As("a"), nil)
		_, err = sub.Find(w.acme)
		mustBe(t, err, tenancy.ErrNoTenant)
		_, err = gorm.G[note](w.db).Find(t.Context())
		mustBe(t, err, tenancy.ErrNoTenant)
		w.untouched(t)
	})
}

func scanAll(t testing.TB, rows *sql.Rows) []string {
	t.Helper()
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		must(t, rows.Scan(&text))
		all = append(all, text)
	}
	must(t, rows.Err())
	return all
}
