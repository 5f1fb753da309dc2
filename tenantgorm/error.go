package tenantgorm

import "lexigram.dev/tenancy"

var (
	// ErrUnfiltered says that a statement cannot be filtered by tenant, and why not.
	ErrUnfiltered = tenancy.NewError(tenancy.CodeTenant, "tenantgorm cannot filter the statement by tenant "+
		"(write it with GORM's own methods, or say tenantgorm.UnsafeRaw(ctx, reason) and filter it yourself)")
	// ErrUnclassified says that a table is neither known to belong to tenants nor to be shared.
	ErrUnclassified = tenancy.NewError(tenancy.CodeTenant, "the table is not known: "+
		"give its model the tenant column, or name it in tenantgorm.Config.Tables or Shared")
	// ErrForeignTenant says that a row was to be written for another tenant than the context's.
	ErrForeignTenant = tenancy.NewError(tenancy.CodeTenant, "the row names another tenant than the context: "+
		"leave the tenant column empty, or do the work in the context of the row's tenant")
	// ErrForeignRow says that an upsert met a row that the tenant may not change: its unique key
	// is taken by another tenant. The statement is rolled back.
	ErrForeignRow = tenancy.NewError(tenancy.CodeTenant, "the key of the row is taken by a row that is not the tenant's: "+
		"choose another key, and make the table's keys include the tenant column")
)
