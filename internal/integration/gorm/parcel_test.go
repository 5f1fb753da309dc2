package gorm_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"lexigram.dev/tenancy/isolation"
)

// A parcel has what engines keep each in its own way: a UUID as its key, a decimal, a list, times of a
// zone, a date, and NULL.
type parcel struct {
	ID      uuid.UUID  `gorm:"type:uuid;primaryKey" db:"id"`
	OrderID *int64     `db:"order_id"`
	Weight  decimal    `gorm:"type:decimal(12,3)" db:"weight"`
	Tags    tags       `db:"tags"`
	SentAt  time.Time  `db:"sent_at"`
	DueOn   *time.Time `gorm:"type:date" db:"due_on"`
	Insured *bool      `db:"insured"`
	Note    string     `db:"note"`
}

// decimal is a number as the server writes it.
type decimal string

// Scan reads text, or a number where the engine has no decimals.
func (d *decimal) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*d = "NULL"
	case []byte:
		*d = decimal(v)
	default:
		*d = decimal(fmt.Sprint(v))
	}
	return nil
}

func (d decimal) Value() (driver.Value, error) { return string(d), nil }

// tags are an array on PostgreSQL, and the same text elsewhere.
type tags []string

func (l *tags) Scan(value any) error        { return (*pq.StringArray)(l).Scan(value) }
func (l tags) Value() (driver.Value, error) { return pq.StringArray(l).Value() }

// GormDataType makes it a column, not a relation.
func (tags) GormDataType() string { return "text" }

func (tags) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Name() == "postgres" {
		return "text[]"
	}
	return "text"
}

var (
	tokyo = time.Date(2029, 5, 6, 7, 8, 9, 123456000, time.FixedZone("JST", 9*60*60))
	due   = time.Date(2029, 12, 31, 0, 0, 0, 0, time.UTC)
)

func parcelID(n byte) uuid.UUID { return uuid.UUID{0: 0xf0, 6: 0x40, 15: n} }

func threeParcels() []parcel {
	yes, first := true, int64(1)
	return []parcel{
		{ID: parcelID(1), OrderID: &first, Weight: "0.125", Tags: tags{"fragile", "a,b", `quo"te`}, SentAt: tokyo, DueOn: &due, Insured: &yes},
		{ID: parcelID(2), Weight: "12345678.5", Tags: tags{}, SentAt: tokyo.UTC().Add(time.Hour)},
		{ID: parcelID(3), OrderID: &first, Weight: "-1", SentAt: tokyo.Add(-time.Hour), Note: "Ünï 🙂 'quoted'; --"},
	}
}

// told is a parcel as text. Times are the same instants in whatever zone.
func told(parcels ...parcel) string {
	for i := range parcels {
		parcels[i].SentAt = parcels[i].SentAt.UTC()
		if parcels[i].DueOn != nil {
			day := parcels[i].DueOn.UTC()
			parcels[i].DueOn = &day
		}
	}
	text, err := json.Marshal(parcels)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// parcelShop is the shop's parcels by GORM.
func parcelShop(db *gorm.DB) (seen []string) {
	see := func(what string, tx *gorm.DB, value any) {
		seen = append(seen, fmt.Sprintf("parcels, %s: %d rows, %v, error %q", what, tx.RowsAffected, value, kindOf(tx.Error)))
	}
	fresh := func() *gorm.DB { return db.Session(&gorm.Session{NewDB: true}) }
	find := func(what string, tx *gorm.DB) {
		var found []parcel
		tx = tx.Order("parcels.id").Find(&found)
		see(what, tx, told(found...))
	}
	parcels := threeParcels()
	see("batches", fresh().CreateInBatches(&parcels, 2), "")
	find("all", fresh())
	var one parcel
	see("by its key", fresh().First(&one, "id = ?", parcelID(1)), told(one))
	see("a duplicate", fresh().Create(&parcel{ID: parcelID(1), Weight: "1"}), "")
	find("by a decimal", fresh().Where("weight > ?", decimal("0.1")))
	find("by times of a zone", fresh().Where("sent_at BETWEEN ? AND ?", tokyo.Add(-time.Minute), tokyo.Add(time.Minute)))
	find("by a date", fresh().Where("due_on = ?", due))
	find("without a date", fresh().Where("due_on IS NULL"))
	find("joined", fresh().Joins("JOIN orders ON orders.id = parcels.order_id").Where("orders.id > ?", 0))
	see("upsert", fresh().Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"weight", "tags"}),
	}).Create(&parcel{ID: parcelID(2), Weight: "7.5", Tags: tags{"late"}}), "")
	see("NULL", fresh().Model(&parcel{}).Where("id = ?", parcelID(1)).Updates(map[string]any{"due_on": nil, "insured": nil, "order_id": nil}), "")
	err := fresh().Transaction(func(tx *gorm.DB) error {
		see("in a transaction", tx.Model(&parcel{}).Where("id = ?", parcelID(3)).Update("note", "kept"), "")
		inner := tx.Transaction(func(tx *gorm.DB) error {
			see("in a savepoint", tx.Where("weight < ?", 0).Delete(&parcel{}), "")
			return errForbidden
		})
		see("undone", &gorm.DB{Error: inner}, "")
		return nil
	})
	see("committed", &gorm.DB{Error: err}, "")
	err = fresh().Transaction(func(tx *gorm.DB) error {
		see("in a transaction that fails", tx.Where("1 = 1").Delete(&parcel{}), "")
		return errForbidden
	})
	see("rolled back", &gorm.DB{Error: err}, "")
	if db.Name() == "postgres" {
		find("by an array", fresh().Where("tags && ?", pq.StringArray{"fragile", "none"}))
		find("by a member", fresh().Where("? = ANY (tags)", "late"))
	}
	find("at last", fresh())
	return seen
}

// parcelSqlx is the shop's parcels by sqlx.
func parcelSqlx(ctx context.Context, db *sqlx.DB, engine isolation.Engine) (seen []string) {
	see := func(what string, value any, err error) {
		failure := ""
		switch {
		case errors.Is(err, errForbidden):
			failure = err.Error()
		case err != nil:
			failure = unnamed
		}
		seen = append(seen, fmt.Sprintf("parcels, %s: %v, error %q", what, value, failure))
	}
	const all = "SELECT p.id, p.order_id, p.weight, p.tags, p.sent_at, p.due_on, p.insured, p.note FROM parcels p "
	find := func(what, conditions string, args ...any) {
		var found []parcel
		err := db.SelectContext(ctx, &found, db.Rebind(all+conditions+" ORDER BY p.id"), args...)
		see(what, told(found...), err)
	}
	count := func(what string, tx sqlx.ExtContext, query string, arg any) {
		n := int64(-1)
		result, err := sqlx.NamedExecContext(ctx, tx, query, arg)
		if err == nil {
			n, err = result.RowsAffected()
		}
		see(what, n, err)
	}
	const insert = "INSERT INTO parcels (id, order_id, weight, tags, sent_at, due_on, insured, note) VALUES (:id, :order_id, :weight, :tags, :sent_at, :due_on, :insured, :note)"
	count("a batch", db, insert, threeParcels())
	find("all", "")
	find("by its key", "WHERE p.id = ?", parcelID(1))
	find("by a decimal", "WHERE p.weight > ?", decimal("0.1"))
	find("by times of a zone", "WHERE p.sent_at BETWEEN ? AND ?", tokyo.Add(-time.Minute), tokyo.Add(time.Minute))
	find("by a date", "WHERE p.due_on = ?", due)
	find("without a date", "WHERE p.due_on IS NULL")
	find("joined", "JOIN orders o ON o.id = p.order_id WHERE o.total > ?", 0)
	late := parcel{ID: parcelID(2), Weight: "7.5", Tags: tags{"late"}}
	upsert := insert + " ON CONFLICT (id) DO UPDATE SET weight = excluded.weight, tags = excluded.tags"
	if engine == isolation.EngineMariaDB {
		upsert = insert + " ON DUPLICATE KEY UPDATE weight = VALUES(weight), tags = VALUES(tags)"
	}
	count("upsert", db, upsert, late)
	count("NULL", db, "UPDATE parcels SET due_on = :none, insured = :none, order_id = :none WHERE id = :id", map[string]any{"none": nil, "id": parcelID(1)})
	inParts := func(end error) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a Commit it does nothing
		count("in a transaction", tx, "UPDATE parcels SET note = :note WHERE id = :id", map[string]any{"note": "kept", "id": parcelID(3)})
		_, err = tx.ExecContext(ctx, "SAVEPOINT part")
		see("a savepoint", "", err)
		count("in a savepoint", tx, "DELETE FROM parcels WHERE weight < :least", map[string]any{"least": 0})
		count("a duplicate", tx, insert, late)
		_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part")
		see("undone", "", err)
		if end != nil {
			return end
		}
		return tx.Commit()
	}
	see("rolled back", "", inParts(errForbidden))
	find("as before", "")
	see("committed", "", inParts(nil))
	if engine == isolation.EnginePostgreSQL {
		find("by an array", "WHERE p.tags && ?", pq.StringArray{"fragile", "none"})
		find("by a member", "WHERE ? = ANY (p.tags)", "late")
	}
	find("at last", "")
	return seen
}
