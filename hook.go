package tenancy

import (
	"context"
	"fmt"
)

// HookName says before what a hook is called, by the names of lexigram-tenancy.
type HookName string

// The hooks. All but HookResolved are called before a change of the tenant is stored.
const (
	// HookResolved is called before a request is bound to the tenant; an error leaves it unbound.
	HookResolved HookName = "tenant.resolved"
	// HookProvisioned is called when all steps are done, before the tenant becomes active.
	HookProvisioned   HookName = "tenant.provisioned"
	HookUpdated       HookName = "tenant.updated"
	HookActivated     HookName = "tenant.activated"
	HookDeactivated   HookName = "tenant.deactivated"
	HookSuspended     HookName = "tenant.suspended"
	HookArchived      HookName = "tenant.archived"
	HookPurged        HookName = "tenant.purged"
	HookConfigChanged HookName = "tenant.config_changed"
)

// hookOf returns the hook of the change that an event tells.
var hookOf = map[EventType]HookName{
	TenantProvisioned: HookProvisioned, TenantUpdated: HookUpdated, TenantActivated: HookActivated,
	TenantDeactivated: HookDeactivated, TenantSuspended: HookSuspended, TenantArchived: HookArchived,
	TenantPurged: HookPurged, TenantConfigChanged: HookConfigChanged,
}

// Hook is called on the goroutine of who makes the change, with the tenant as it will be. An error
// vetoes the change, and so does a panic: nothing of it is stored. A hook may be called for a change that fails
// afterwards, or again; what must happen exactly when the change does belongs to a [Subscriber].
type Hook func(ctx context.Context, t Tenant) error

// HookError says that a hook vetoed a change.
type HookError struct {
	Hook     HookName
	TenantID string
	Err      error
}

func (e *HookError) Error() string {
	return fmt.Sprintf("hook %s of tenant %q: %v", e.Hook, e.TenantID, e.Err)
}

func (e *HookError) Unwrap() error { return e.Err }

// Code returns CodeTenant.
func (e *HookError) Code() Code { return CodeTenant }

// hook calls the hooks of that name, in order, until one fails.
func (tn *Tenancy) hook(ctx context.Context, name HookName, t Tenant) error {
	for _, h := range tn.cfg.Hooks[name] {
		err := guarded(ctx, tn.log, "a hook", func() error { return h(ctx, t.Clone()) }, "hook", string(name), "tenant_id", t.ID)
		if err != nil {
			return &HookError{Hook: name, TenantID: t.ID, Err: err}
		}
	}
	return nil
}

// checkHooks reports hooks that nothing would call.
func checkHooks(hooks map[HookName][]Hook) error {
	known := map[HookName]bool{HookResolved: true}
	for _, name := range hookOf {
		known[name] = true
	}
	for name := range hooks {
		if !known[name] {
			return &ConfigError{Key: "Hooks", Err: fmt.Errorf("nothing calls the hook %q: use one of the constants Hook…", name)}
		}
	}
	return nil
}
