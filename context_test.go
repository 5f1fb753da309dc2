package tenancy_test

import (
	"context"
	"errors"
	"testing"

	"lexigram.dev/tenancy"
)

var acme = tenancy.Tenant{ID: "t1", Slug: "acme", Status: tenancy.StatusActive}

func TestContextWithoutATenantIsAnError(t *testing.T) {
	t.Parallel()
	suspended := acme
	suspended.Status = tenancy.StatusSuspended
	bound := tenancy.UnsafeBind(t.Context(), acme, "test")
	for _, tc := range []struct {
		name           string
		ctx            context.Context
		require, scope error
	}{
		{"an empty context", t.Context(), tenancy.ErrNoTenant, tenancy.ErrNoTenant},
		{"a bound one", bound, nil, nil},
		{"one without a reason", tenancy.UnsafeBind(t.Context(), acme, " "), tenancy.ErrReasonRequired, tenancy.ErrReasonRequired},
		{"one bound to nobody", tenancy.UnsafeBind(t.Context(), tenancy.Tenant{Status: tenancy.StatusActive}, "test"), tenancy.ErrNotFound, tenancy.ErrNotFound},
		{"one bound to a suspended tenant", tenancy.UnsafeBind(t.Context(), suspended, "test"), tenancy.ErrSuspended, tenancy.ErrSuspended},
		{"system scope", tenancy.AsSystem(t.Context(), "nightly report"), tenancy.ErrSystemScope, nil},
		{"system scope without a reason", tenancy.AsSystem(t.Context(), ""), tenancy.ErrReasonRequired, tenancy.ErrReasonRequired},
		{"system scope without a reason inside a tenant", tenancy.AsSystem(bound, ""), tenancy.ErrReasonRequired, tenancy.ErrReasonRequired},
		{"unverified work allowed, nothing bound", tenancy.AllowUnverified(t.Context(), "login"), tenancy.ErrNoTenant, tenancy.ErrNoTenant},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := tenancy.Require(tc.ctx); !errors.Is(err, tc.require) {
				t.Errorf("Require: %v, want %v", err, tc.require)
			}
			if _, err := tenancy.ScopeOf(tc.ctx); !errors.Is(err, tc.scope) {
				t.Errorf("ScopeOf: %v, want %v", err, tc.scope)
			}
			if _, ok := tenancy.FromContext(tc.ctx); ok != (tc.require == nil) {
				t.Errorf("FromContext: %v", ok)
			}
		})
	}
}

func TestInnermostScopeCounts(t *testing.T) {
	t.Parallel()
	ctx := tenancy.UnsafeBind(tenancy.AsSystem(tenancy.UnsafeBind(t.Context(), acme, "test"), "report"), tenancy.Tenant{
		ID: "t2", Slug: "globex", Status: tenancy.StatusActive,
	}, "test")
	if b, err := tenancy.Require(ctx); err != nil || b.Tenant.ID != "t2" {
		t.Errorf("%v, %v", b, err)
	}
	s, err := tenancy.ScopeOf(tenancy.AsSystem(ctx, "report"))
	if err != nil || !s.System() || s.Reason != "report" {
		t.Errorf("%v, %v", s, err)
	}
}

func TestBoundTenantDoesNotFollowItsSource(t *testing.T) {
	t.Parallel()
	source := acme
	source.Metadata = map[string]string{"plan": "free"}
	ctx := tenancy.UnsafeBind(t.Context(), source, "test")
	source.Metadata["plan"] = "gold"
	if b, _ := tenancy.FromContext(ctx); b.Tenant.Metadata["plan"] != "free" {
		t.Error("the caller's map is shared with the context")
	}
}

func TestScopeOfAllocatesNothing(t *testing.T) {
	ctx := tenancy.ReadOnly(tenancy.UnsafeBind(t.Context(), acme, "test"))
	if n := testing.AllocsPerRun(1000, func() { _, _ = tenancy.ScopeOf(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestZeroValuesAreTheSafeOnes(t *testing.T) { // B18
	t.Parallel()
	if _, err := tenancy.New(tenancy.Config{}); err == nil {
		t.Error("a configuration without a directory was accepted")
	}
	tn := newTenancy(t, newDirectory(), func(*tenancy.Config) {})
	cfg := tn.Config()
	if cfg.Disabled || cfg.Resolution.LaxMembership || cfg.Resolution.UnsafeTrustClient || cfg.Lifecycle.NoAutoProvision ||
		cfg.Integration.NoCacheKeyPrefix || cfg.Integration.NoSQLContextBridge || len(cfg.Resolution.TrustedProxies) > 0 {
		t.Errorf("%+v", cfg)
	}
	var status tenancy.Status
	if status.Err() == nil || status.Valid() || len(status.Next()) > 0 {
		t.Error("the zero status may work")
	}
	var ref tenancy.Ref
	if ref.Matches(tenancy.Tenant{}) {
		t.Error("the zero reference names somebody")
	}
}
