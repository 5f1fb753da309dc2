package tenancytest_test

import (
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenancytest"
)

// The lifecycle, without a container.
func ExampleNew() {
	test := func(t *testing.T) { // func TestTenantLifecycle(t *testing.T)
		tn := tenancytest.New(t)
		tenant, err := tn.Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "acme", Name: "ACME Corp"})
		if err != nil {
			t.Fatal(err)
		}
		if tenant.Slug != "acme" {
			t.Errorf("slug = %q", tenant.Slug)
		}
	}
	_ = test
}

// Code that asks the context for its tenant needs nothing else.
func ExampleContext() {
	greet := func(t *testing.T) {
		ctx := tenancytest.Context(t, "acme")
		if b, err := tenancy.Require(ctx); err != nil || b.Tenant.Slug != "acme" {
			t.Errorf("binding = %+v, %v", b, err)
		}
	}
	_ = greet
}
