package cells

import (
	"context"
	"log/slog"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/isolation"
)

// Opened is a cell in use.
type Opened struct {
	DB     *isolation.DB
	Engine isolation.Engine

	setup *isolation.Provisioner
}

// Open opens a handle in the cell and lets the migrator make the tables. It is closed at the end of the test.
func (c Cell) Open(t testing.TB, migrator isolation.Migrator, tables ...string) *Opened {
	t.Helper()
	config := c.Config(t, tables...)
	config.Logger = slog.New(slog.DiscardHandler)
	o := &Opened{Engine: c.Engine}
	var err error
	o.setup, err = isolation.NewProvisioner(config, migrator)
	must(t, err)
	for range 2 { // it may be repeated
		_, err = o.setup.Setup(t.Context())
		must(t, err)
	}
	o.DB, err = isolation.Open(config)
	must(t, err)
	t.Cleanup(func() {
		if err := o.DB.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return o
}

// Tenant provisions a tenant and returns a context inside it.
func (o *Opened) Tenant(t testing.TB, id string) context.Context {
	t.Helper()
	tn := tenancy.Tenant{ID: id, Slug: id, Status: tenancy.StatusActive}
	var err error
	tn.Placement, err = o.setup.Place(t.Context(), tn)
	must(t, err)
	tn.Placement, err = o.setup.Provision(t.Context(), tn)
	must(t, err)
	return tenancy.UnsafeBind(t.Context(), tn, "test")
}
