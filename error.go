package tenancy

import (
	"errors"
	"fmt"
)

// Code is the stable code of an error, the same as in lexigram-tenancy.
type Code string

// The codes of lexigram-tenancy. CodeTenant is the general one.
const (
	CodeTenant       Code = "LEX_ERR_TENANT_001"
	CodeNotFound     Code = "LEX_ERR_TENANT_002"
	CodeInactive     Code = "LEX_ERR_TENANT_003"
	CodeProvisioning Code = "LEX_ERR_TENANT_004"
	CodeResolution   Code = "LEX_ERR_TENANT_005"
	CodeConfig       Code = "LEX_ERR_TENANT_006"
	CodeSlugConflict Code = "LEX_ERR_TENANT_007"
	CodeSuspended    Code = "LEX_ERR_TENANT_008"
	CodeMigration    Code = "LEX_ERR_TENANT_009"
)

// sentinel is an error that is compared by identity and carries a code.
type sentinel struct {
	code Code
	text string
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Code() Code    { return e.code }

// NewError returns a sentinel error with a code, for packages that extend this one.
func NewError(code Code, text string) error { return &sentinel{code, text} }

// The errors to compare with [errors.Is]. Each text names the remedy where a user has one.
var (
	// ErrNoTenant says that the context carries no tenant.
	ErrNoTenant = NewError(CodeResolution, "no tenant in the context: "+
		"run behind tenanthttp.Middleware and Guard, inside Tenancy.Within, or say tenancy.AsSystem(ctx, reason)")
	// ErrUnverified says that the tenant in the context was named by a client and not verified.
	ErrUnverified = NewError(CodeResolution, "the tenant in the context is not verified: "+
		"protect the route with tenanthttp.Guard, or say tenancy.AllowUnverified(ctx, reason)")
	// ErrReasonRequired says that AsSystem, AllowUnverified or Within got an empty reason.
	ErrReasonRequired = NewError(CodeTenant, "a reason is required: name the job or the person that asks")
	// ErrScopeEnded says that a context outlived the Within or Each that made it.
	ErrScopeEnded = NewError(CodeResolution, "the tenant scope of this context has ended: "+
		"start the work inside the function given to Within or Each")
	// ErrSystemScope says that work which needs one tenant runs in system scope.
	ErrSystemScope = NewError(CodeResolution, "the context is in system scope, this needs one tenant: use Tenancy.Within")
	// ErrNotFound says that no tenant has the name that was looked up.
	ErrNotFound = NewError(CodeNotFound, "tenant not found")
	// ErrInactive says that the tenant is inactive, archived or purged.
	ErrInactive = NewError(CodeInactive, "tenant is inactive")
	// ErrSuspended says that the tenant is suspended.
	ErrSuspended = NewError(CodeSuspended, "tenant is suspended")
	// ErrMoved says that the tenant's data went to another place since the request began.
	ErrMoved = NewError(CodeTenant, "the tenant's data has moved since this began: repeat it")
	// ErrProvisioning says that the tenant is not completely provisioned.
	ErrProvisioning = NewError(CodeProvisioning, "tenant is being provisioned")
	// ErrNotMember says that the user is not a member of the tenant.
	ErrNotMember = NewError(CodeTenant, "not a member of the tenant")
	// ErrUnverifiable says that a client named a tenant and nothing can verify the claim.
	ErrUnverifiable = NewError(CodeResolution, "the tenant cannot be verified: configure tenancy.Config.Membership")
	// ErrAmbiguous says that one source of a request names a tenant in a way that has two readings.
	ErrAmbiguous = NewError(CodeResolution, "the request names its tenant ambiguously")
	// ErrConflictingSources says that two sources of a request name different tenants.
	ErrConflictingSources = NewError(CodeResolution, "the request names different tenants")
	// ErrUnauthenticated says that the request carries no credentials, or invalid ones.
	ErrUnauthenticated = NewError(CodeResolution, "not authenticated")
	// ErrUnavailable says that the catalogue of tenants could not be asked.
	ErrUnavailable = NewError(CodeResolution, "the catalogue of tenants is not available")
	// ErrDisabled says that tenancy is switched off by its configuration.
	ErrDisabled = NewError(CodeResolution, "tenancy is disabled: set tenancy.enabled to true")
	// ErrIssuerPinned says that the issuer of a token may speak for another tenant only.
	ErrIssuerPinned = NewError(CodeResolution, "the token's issuer is pinned to another tenant")
	// ErrTenantMismatch says that a connection or transaction of one tenant was used by another.
	ErrTenantMismatch = NewError(CodeTenant, "the connection or transaction belongs to another tenant")
	// ErrConflict says that the record changed since it was read; read it again.
	ErrConflict = NewError(CodeTenant, "the record has changed since it was read: read it again and repeat")
	// ErrNoSink says that no sink of events has the name that was given.
	ErrNoSink = NewError(CodeTenant, "no such sink of events: Events.Sinks lists them")
	// ErrMigration says that a tenant's own tables could not be brought to their version.
	ErrMigration = NewError(CodeMigration, "tenant migration failed")
)

// CodeOf returns the code of the first error in err's tree that has one, or "".
func CodeOf(err error) Code {
	if coded, ok := errors.AsType[interface {
		error
		Code() Code
	}](err); ok {
		return coded.Code()
	}
	return ""
}

// SlugConflictError says that a name is taken: by another tenant's id, slug or alias, or
// because it is reserved.
type SlugConflictError struct {
	Name     string // the name that was asked for
	Reserved bool   // the name is reserved for the application
}

func (e *SlugConflictError) Error() string {
	if e.Reserved {
		return fmt.Sprintf("tenant name %q is reserved: choose another", e.Name)
	}
	return fmt.Sprintf("tenant name %q is taken: choose another", e.Name)
}

// Code returns CodeSlugConflict.
func (e *SlugConflictError) Code() Code { return CodeSlugConflict }

// InvalidError says that a value given by the caller cannot be used, and what can.
type InvalidError struct {
	Field  string
	Value  string
	Remedy string
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%s %q is not valid: %s", e.Field, e.Value, e.Remedy)
}

// Code returns CodeTenant.
func (e *InvalidError) Code() Code { return CodeTenant }

// TransitionError says that a tenant in state From may not change to state To, or not while Work is
// under way.
type TransitionError struct {
	TenantID string
	From, To Status
	Work     Work // "" when there is none
}

func (e *TransitionError) Error() string {
	if e.Work != "" {
		return fmt.Sprintf("tenant %q is %s and cannot become %s while the work %q is under way: wait for its end",
			e.TenantID, e.From, e.To, e.Work)
	}
	return fmt.Sprintf("tenant %q is %s and cannot become %s; from %s it can become %v",
		e.TenantID, e.From, e.To, e.From, e.From.Next())
}

// Code returns CodeTenant.
func (e *TransitionError) Code() Code { return CodeTenant }

// ProvisionError says that a tenant's isolation could not be set up or taken down. The
// tenant keeps its state and the step can be repeated.
type ProvisionError struct {
	TenantID string
	Step     string
	Err      error
}

func (e *ProvisionError) Error() string {
	return fmt.Sprintf("%s tenant %q: %v", e.Step, e.TenantID, e.Err)
}

func (e *ProvisionError) Unwrap() error { return e.Err }

// Code returns CodeProvisioning.
func (e *ProvisionError) Code() Code { return CodeProvisioning }

// ConfigError says that a configuration value, or a tenant's override, cannot be used.
type ConfigError struct {
	Key    string // as in the configuration table, for example resolution.resolvers
	Source string // the file and line, the variable, or "" for a value set in code
	Err    error
}

func (e *ConfigError) Error() string {
	if e.Source == "" {
		return fmt.Sprintf("%s: %v", e.Key, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Source, e.Key, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Code returns CodeConfig.
func (e *ConfigError) Code() Code { return CodeConfig }
