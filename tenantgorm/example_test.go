package tenantgorm_test

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
	"lexigram.dev/tenancy/tenantgorm"
)

// Invoice belongs to a tenant, because it has the column.
type Invoice struct {
	ID       int64
	TenantID string
	Number   string
}

// Currency is the same for all tenants.
type Currency struct {
	Code string `gorm:"primaryKey"`
}

// The handle is from isolation.Open, and db is GORM over handle.DB.
func Example() {
	use := func(db *gorm.DB, handle *isolation.DB) error {
		plugin, err := tenantgorm.New(tenantgorm.Config{
			Walls:  handle,
			Models: []any{&Invoice{}, &Currency{}},
			Shared: []string{"currencies"},
		})
		if err != nil {
			return err
		}
		return db.Use(plugin)
	}
	// Handlers do not know about tenants; ctx is the request's.
	list := func(ctx context.Context, db *gorm.DB) (invoices []Invoice, err error) {
		err = db.WithContext(ctx).Where("number LIKE ?", "2030-%").Find(&invoices).Error
		return invoices, err
	}
	_, _ = use, list
}

// What cannot be filtered is refused, until somebody answers for it.
func ExampleUnsafeRaw() {
	total := func(ctx context.Context, db *gorm.DB) (n int64, err error) {
		b, err := tenancy.Require(ctx)
		if err != nil {
			return 0, err
		}
		const query = "SELECT count(*) FROM invoices WHERE tenant_id = ?"
		err = db.WithContext(ctx).Raw(query, b.Tenant.ID).Scan(&n).Error
		if errors.Is(err, tenantgorm.ErrUnfiltered) {
			fmt.Println("say UnsafeRaw")
		}
		ctx = tenantgorm.UnsafeRaw(ctx, "the report filters by itself")
		err = db.WithContext(ctx).Raw(query, b.Tenant.ID).Scan(&n).Error
		return n, err
	}
	_ = total
}
