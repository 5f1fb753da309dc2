package gorm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// TestRandomChains puts pieces of queries together at random: whatever runs stays in its tenant.
func TestRandomChains(t *testing.T) {
	t.Parallel()
	const rounds = 4000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, engines[0], true)
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	condition := func() string {
		return pick("1 = 1", "1 = 2", "body <> ''", "code LIKE '%-1' OR 1 = 1", "(1 = 1) OR (2 = 2)", "1 = 1) OR (1 = 1",
			"tenant_id = 'globex'", "notes.tenant_id = 'globex' OR notes.id > 0", "1 = 1 --", "id IN (SELECT id FROM notes)", "body IS NOT NULL AND 1 = 1 OR 3 = 3")
	}
	var query func(depth int) *gorm.DB
	piece := func(db *gorm.DB, depth int) *gorm.DB {
		switch r.IntN(20) {
		case 0, 1, 2:
			return db.Where(condition())
		case 3, 4, 5:
			return db.Or(condition())
		case 6:
			return db.Not(condition())
		case 7:
			return db.Where(w.as(w.acme).Where(condition()).Or(condition()))
		case 8:
			return db.Or(&note{TenantID: pick("acme", "globex")})
		case 9:
			return db.Or(map[string]any{"tenant_id": pick("acme", "globex")})
		case 10:
			return db.Joins(pick("Author", "Plan", "JOIN authors ON 1 = 1", "LEFT JOIN tags t ON 1 = 1 OR 2 = 2", "CROSS JOIN authors a", "JOIN secrets ON 1 = 1", "JOIN authors ON 1 = 1, secrets"))
		case 11:
			return db.Joins("Author", w.as(w.acme).Where(condition()))
		case 12:
			return db.Preload(pick("Author", "Tags", clause.Associations))
		case 13:
			if depth > 0 {
				return db.Where(pick("notes.id IN (?)", "notes.id NOT IN (?)"), query(depth-1).Select("notes.id"))
			}
			return db.Where("EXISTS (?)", w.as(w.acme).Model(&author{}).Where(condition()))
		case 14:
			return db.Unscoped().Limit(r.IntN(4)).Offset(r.IntN(2))
		case 15:
			return db.Order(pick("notes.id", "notes.body DESC", "(SELECT 1)", "1) OR (1"))
		case 16:
			return db.Group("notes.id").Having(condition())
		case 17:
			return db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Or(condition()) })
		case 18:
			return db.Clauses(clause.Or(clause.Expr{SQL: condition()}))
		default:
			return db.Table(pick("notes", "notes AS notes", "notes, authors", "notes notes, secrets"))
		}
	}
	query = func(depth int) *gorm.DB {
		db := w.as(w.acme).Model(&note{})
		for range r.IntN(6) {
			db = piece(db, depth)
		}
		return db
	}
	undo := errors.New("undo")
	ran := map[string]int{}
	for range rounds {
		var read []string
		var changed int64
		finisher := pick("find", "pluck", "count", "rows", "update", "delete", "create")
		var err error
		sql := ""
		_ = w.as(w.acme).Transaction(func(tx *gorm.DB) error {
			db := query(2)
			db.Statement.ConnPool = tx.Statement.ConnPool
			switch finisher {
			case "find":
				var notes []note
				db = db.Find(&notes)
				for _, n := range notes {
					read = append(read, n.TenantID, n.Body)
					if n.Author != nil {
						read = append(read, n.Author.Name)
					}
					for _, tag := range n.Tags {
						read = append(read, tag.Name)
					}
				}
			case "pluck":
				db = db.Pluck(pick("notes.body", "notes.tenant_id", "max(notes.tenant_id)", "authors.name", "t.name", "a.name"), &read)
			case "count":
				var n int64
				db = db.Select("notes.id").Distinct().Count(&n)
				changed = n
			case "rows":
				db = db.Select("notes.tenant_id").Scan(&read)
			case "update":
				db = db.Updates(map[string]any{pick("body", "code", "tenant_id", "TENANT_ID"): pick("acme", "globex")})
				changed = db.RowsAffected
			case "delete":
				db = db.Delete(&note{})
				changed = db.RowsAffected
			case "create":
				n := note{TenantID: pick("", "acme", "globex"), Code: pick("acme-1", "globex-1", "new"), Body: "x"}
				db = db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, DoUpdates: clause.AssignmentColumns([]string{pick("body", "tenant_id")})}).Create(&n)
			}
			err, sql = db.Error, fmt.Sprint(db.Statement.Clauses["WHERE"].Expression)
			var foreign int64
			must(t, tx.Session(&gorm.Session{NewDB: true, Context: w.globex}).Model(&note{}).Where("body = ? AND code = ?", "of globex", "globex-1").Count(&foreign).Error)
			if foreign != 1 {
				t.Errorf("%s has changed the note of globex: %s", finisher, sql)
			}
			return undo
		})
		if err == nil {
			ran[finisher]++
		}
		if changed > 1 {
			t.Errorf("%s reached %d notes, acme has one: %s", finisher, changed, sql)
		}
		for _, text := range read {
			if strings.Contains(text, "globex") || strings.Contains(text, "operator") {
				t.Errorf("%s: acme reads %q: %s", finisher, text, sql)
			}
		}
	}
	w.untouched(t)
	t.Log(ran)
	for _, finisher := range []string{"find", "pluck", "count", "rows", "update", "delete", "create"} {
		if ran[finisher] < 10 {
			t.Errorf("%s ran %d times: the test tests nothing", finisher, ran[finisher])
		}
	}
}
