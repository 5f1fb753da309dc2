package tenantriver_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenantriver"
)

// undue is a Store that cannot tell what is due.
type undue struct{ tenancy.Store }

func newTenancy(t *testing.T, store tenancy.Store, noRunner bool) *tenancy.Tenancy {
	t.Helper()
	tn, err := tenancy.New(tenancy.Config{Store: store, Directory: memstore.New(), Lifecycle: tenancy.LifecycleConfig{NoRunner: noRunner}})
	if err != nil {
		t.Fatal(err)
	}
	return tn
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := newTenancy(t, memstore.New(), true)
	for name, c := range map[string]struct {
		tn     *tenancy.Tenancy
		cfg    tenantriver.Config
		remedy string
	}{
		"nothing to run":                     {nil, tenantriver.Config{}, "tenancy.New"},
		"a second runner":                    {newTenancy(t, memstore.New(), false), tenantriver.Config{}, "Lifecycle.NoRunner"},
		"a store that tells nothing":         {newTenancy(t, undue{memstore.New()}, true), tenantriver.Config{}, "DueTenants"},
		"an interval that River cannot keep": {good, tenantriver.Config{Interval: time.Millisecond}, "a second or more"},
		"an interval that goes backwards":    {good, tenantriver.Config{Interval: -time.Hour}, "a second or more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tenantriver.New[pgx.Tx](c.tn, c.cfg)
			if err == nil || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("got %v, want an error that names %s", err, c.remedy)
			}
		})
	}
	if _, err := tenantriver.New[pgx.Tx](newTenancy(t, undue{memstore.New()}, true), tenantriver.Config{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

func TestRegisterRefusesASecondTime(t *testing.T) {
	t.Parallel()
	r, err := tenantriver.New[pgx.Tx](newTenancy(t, memstore.New(), true), tenantriver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	workers := river.NewWorkers()
	if err := r.Register(workers); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(workers); err == nil {
		t.Error("the workers were added twice")
	}
}
