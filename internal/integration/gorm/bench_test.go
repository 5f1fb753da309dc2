package gorm_test

import (
	"testing"

	"gorm.io/gorm"
)

// BenchmarkFind compares a query that the plugin filters with the same query filtered by hand. Both
// find one row by its key.
func BenchmarkFind(b *testing.B) {
	for _, prepared := range []bool{false, true} {
		w := newWorld(b, engines[0], prepared)
		admin := w.admin.Session(&gorm.Session{PrepareStmt: prepared})
		name := map[bool]string{false: "", true: ", prepared"}[prepared]
		b.Run("by hand"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var n note
				must(b, admin.WithContext(w.acme).Where("tenant_id = ?", "acme").First(&n, w.ofAcme.ID).Error)
			}
		})
		b.Run("by tenantgorm"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var n note
				must(b, w.as(w.acme).First(&n, w.ofAcme.ID).Error)
			}
		})
	}
}
