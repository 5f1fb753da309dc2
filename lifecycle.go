package tenancy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of what a tenant's record may hold.
const (
	maxName     = 200
	maxMetadata = 64 << 10
	maxAliases  = 100
	maxFormer   = 2 * maxAliases // names that others cannot take yet
	maxReason   = 1000
)

// recordTimeout bounds the record of a failure that is made although the caller has gone.
const recordTimeout = 5 * time.Second

// Lifecycle creates tenants and changes their state. Every change is stored together with
// its event. Who may call it is the application's to check. It is safe for concurrent use;
// of two changes that race, one gets [ErrConflict].
type Lifecycle struct {
	tn *Tenancy
}

// CreateTenant asks for a new tenant.
type CreateTenant struct {
	// ID defaults to a UUIDv7.
	ID string
	// Slug is required.
	Slug string
	// Name is for people; at most 200 bytes.
	Name string
	// Parent is the id of an existing tenant, or "".
	Parent string
	// Region names where the tenant's data must live, or "".
	Region string
	// Aliases are further names, each made by [Alias].
	Aliases []Ref
	// Metadata is the application's own, at most 64 KiB.
	Metadata map[string]string
	// IsolationStrategy departs from the configured one for this tenant. Defaults to
	// lifecycle.isolation_strategy.
	IsolationStrategy string
}

// Create adds a tenant and, unless the configuration says otherwise, provisions it. With a
// taken or reserved name it fails with a [*SlugConflictError] and nothing has happened. When
// the provisioning fails, or ctx ends, it returns the tenant, which stays in provisioning with the
// reason in its journal, and a [*ProvisionError]: a started [Tenancy], here or on another node, goes
// on with it; [Lifecycle.Provision] does so at once, [Lifecycle.Delete] gives it up. With
// LifecycleConfig.Async it returns before the first step.
func (l *Lifecycle) Create(ctx context.Context, cmd CreateTenant) (Tenant, error) {
	if err := l.supported(); err != nil {
		return Tenant{}, err
	}
	t, err := l.draft(cmd)
	if err != nil {
		return Tenant{}, fmt.Errorf("create tenant: %w", err)
	}
	if t.Parent != "" {
		if _, err := l.Get(ctx, t.Parent); err != nil {
			return Tenant{}, fmt.Errorf("create tenant %q: parent: %w", t.Slug, err)
		}
	}
	if len(l.steps(WorkProvision)) == 0 {
		t.Status = StatusActive
		if err := l.tn.hook(ctx, HookProvisioned, t); err != nil {
			return Tenant{}, fmt.Errorf("create tenant %q: %w", t.Slug, err)
		}
		event, err := l.event(t, TenantProvisioned, "")
		if err != nil {
			return Tenant{}, err
		}
		stored, err := l.tn.cfg.Store.Create(ctx, t, event)
		return l.written(ctx, t, "create", stored, err)
	}
	t.Status = StatusProvisioning
	if p := l.tn.cfg.Provisioner; p != nil {
		if t.Placement, err = p.Place(ctx, t); err != nil {
			return Tenant{}, fmt.Errorf("create tenant %q: %w", t.Slug, err)
		}
	}
	cfg := l.tn.cfg.Lifecycle
	if !cfg.NoAutoProvision {
		t.Journal = l.journal(WorkProvision, "")
	}
	if t.Journal != nil && !cfg.Async {
		t = l.leased(t)
	}
	stored, err := l.tn.cfg.Store.Create(ctx, t)
	t, err = l.written(ctx, t, "create", stored, err)
	if err != nil || t.Journal == nil || cfg.Async {
		return t, err
	}
	return l.carryOut(ctx, t)
}

// journal begins a work.
func (l *Lifecycle) journal(w Work, reason string) *Journal {
	now := l.now()
	return &Journal{Work: w, Reason: reason, Started: now, Due: now}
}

// draft turns a command into a tenant, or says everything that is wrong with it.
func (l *Lifecycle) draft(cmd CreateTenant) (Tenant, error) {
	now := l.now()
	t := Tenant{
		ID: cmd.ID, Name: strings.TrimSpace(cmd.Name), Parent: cmd.Parent, Region: cmd.Region,
		Aliases: cmd.Aliases, Metadata: cmd.Metadata, CreatedAt: now, UpdatedAt: now,
		Placement: Placement{Strategy: cmp.Or(cmd.IsolationStrategy, l.tn.cfg.Lifecycle.IsolationStrategy)},
	}
	if l.tn.cfg.Provisioner == nil {
		t.Placement = Placement{}
	}
	var problems []error
	var err error
	if t.Slug, err = CanonicalSlug(cmd.Slug); err != nil {
		problems = append(problems, err)
	}
	if t.ID == "" {
		if t.ID, err = l.tn.cfg.NewID(); err != nil {
			return Tenant{}, fmt.Errorf("make an id: %w", err)
		}
	}
	problems = append(problems, l.check(t))
	return t.Clone(), errors.Join(problems...)
}

// check reports what is wrong with a tenant's own values.
func (l *Lifecycle) check(t Tenant) error {
	problems := []error{CheckID(t.ID)}
	for _, name := range []string{t.Slug, strings.ToLower(t.ID)} {
		if isReserved(name) || slices.Contains(l.tn.cfg.Lifecycle.ReservedSlugs, name) {
			problems = append(problems, &SlugConflictError{Name: name, Reserved: true})
		}
	}
	if len(t.Name) > maxName || strings.ContainsFunc(t.Name, isControl) {
		problems = append(problems, &InvalidError{
			Field: "name", Value: fmt.Sprintf("%.20q…", t.Name),
			Remedy: fmt.Sprintf("use at most %d bytes without control characters", maxName),
		})
	}
	if len(t.Aliases) > maxAliases {
		problems = append(problems, &InvalidError{
			Field: "aliases", Value: fmt.Sprint(len(t.Aliases)), Remedy: fmt.Sprintf("use at most %d", maxAliases),
		})
	}
	for i, a := range t.Aliases {
		problems = append(problems, CheckAlias(a))
		if slices.Contains(t.Aliases[:i], a) {
			problems = append(problems, &InvalidError{Field: "alias", Value: a.String(), Remedy: "give each alias once"})
		}
	}
	size := 0
	for k, v := range t.Metadata {
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		problems = append(problems, &InvalidError{
			Field: "metadata", Value: fmt.Sprintf("%d bytes", size), Remedy: fmt.Sprintf("use at most %d bytes", maxMetadata),
		})
	}
	return errors.Join(problems...)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Provision completes a tenant whose provisioning was left to later or failed: it does the steps
// that are not done yet. When another node is at it, it waits for that. A tenant that is active
// already, or went on from there, is returned as it is; one that was given up or is gone is a
// [*TransitionError].
func (l *Lifecycle) Provision(ctx context.Context, id string) (Tenant, error) {
	t, err := l.acquire(ctx, id, func(t *Tenant) error {
		switch {
		case t.Status == StatusPurged, t.Journal != nil && t.Journal.Work == WorkPurge:
			return &TransitionError{TenantID: t.ID, From: t.Status, To: StatusActive}
		case t.Status != StatusProvisioning:
			t.Journal = nil
		case t.Journal == nil:
			t.Journal = l.journal(WorkProvision, "")
		}
		return nil
	})
	if err != nil {
		return Tenant{}, fmt.Errorf("provision tenant: %w", err)
	}
	if t.Status != StatusProvisioning {
		return t, nil
	}
	return l.carryOut(ctx, t)
}

// provisionError leaves alone what the provisioner has named already.
func provisionError(t Tenant, step string, err error) error {
	if _, named := errors.AsType[*ProvisionError](err); named {
		return err
	}
	return &ProvisionError{TenantID: t.ID, Step: step, Err: err}
}

// Get returns the tenant with this id as the store has it now, or [ErrNotFound].
func (l *Lifecycle) Get(ctx context.Context, id string) (Tenant, error) { return l.Find(ctx, ByID(id)) }

// Find returns the tenant that ref names, by id, slug or alias, as the store has it now, or
// [ErrNotFound].
func (l *Lifecycle) Find(ctx context.Context, ref Ref) (Tenant, error) {
	if err := l.supported(); err != nil {
		return Tenant{}, err
	}
	if ref.Key() == "" {
		return Tenant{}, fmt.Errorf("find tenant %s: %w", ref, ErrNotFound)
	}
	t, err := l.tn.cfg.Store.Lookup(ctx, ref)
	if err != nil {
		return Tenant{}, fmt.Errorf("find tenant %s: %w", ref, err)
	}
	return t, nil
}

// List returns one page of tenants, ordered by id.
func (l *Lifecycle) List(ctx context.Context, opts ListOptions) (Page, error) {
	if err := l.supported(); err != nil {
		return Page{}, err
	}
	for _, s := range opts.Statuses {
		if !s.Valid() {
			return Page{}, &InvalidError{Field: "status", Value: string(s), Remedy: fmt.Sprintf("use one of %v", Statuses())}
		}
	}
	return l.tn.cfg.Store.List(ctx, opts)
}

// UpdateTenant changes what is not nil.
type UpdateTenant struct {
	// ID is required.
	ID string
	// Revision is the one that the change is based on; 0 means whatever is current.
	Revision int64
	Slug     *string
	Name     *string
	Region   *string
	Aliases  *[]Ref
	Metadata *map[string]string
}

// Update changes a tenant's own values. The old slug and aliases name nobody from then on, and nobody
// else can take them before their quarantine is over (LifecycleConfig.SlugQuarantine); the tenant
// itself can. A tenant may have 200 names in quarantine at most. A revision that is not current is
// [ErrConflict], a taken name a [*SlugConflictError].
func (l *Lifecycle) Update(ctx context.Context, cmd UpdateTenant) (Tenant, error) {
	t, err := l.Get(ctx, cmd.ID)
	if err != nil {
		return Tenant{}, fmt.Errorf("update tenant: %w", err)
	}
	if cmd.Revision != 0 && cmd.Revision != t.Revision {
		return Tenant{}, fmt.Errorf("update tenant %q: %w", t.Slug, ErrConflict)
	}
	if t.Status == StatusPurged {
		return Tenant{}, fmt.Errorf("update tenant %q: %w", t.Slug, ErrInactive)
	}
	before, names := t.Slug, t.Names()
	if cmd.Slug != nil {
		if t.Slug, err = CanonicalSlug(*cmd.Slug); err != nil {
			return Tenant{}, fmt.Errorf("update tenant %q: %w", before, err)
		}
	}
	if cmd.Name != nil {
		t.Name = strings.TrimSpace(*cmd.Name)
	}
	if cmd.Region != nil {
		t.Region = *cmd.Region
	}
	if cmd.Aliases != nil {
		t.Aliases = slices.Clone(*cmd.Aliases)
	}
	if cmd.Metadata != nil {
		t.Metadata = maps.Clone(*cmd.Metadata)
	}
	if err := l.check(t); err != nil {
		return Tenant{}, fmt.Errorf("update tenant %q: %w", before, err)
	}
	t.free(l.now())
	t.quarantine(names, l.now(), l.tn.cfg.Lifecycle.SlugQuarantine)
	if len(t.Former) > maxFormer {
		return Tenant{}, fmt.Errorf("update tenant %q: %w", before, &InvalidError{
			Field: "names in quarantine", Value: fmt.Sprint(len(t.Former)),
			Remedy: fmt.Sprintf("a tenant may have given up at most %d within lifecycle.slug_quarantine: wait until the oldest is free", maxFormer),
		})
	}
	return l.update(ctx, t, TenantUpdated, "")
}

// Activate lets a suspended or inactive tenant work again. A tenant in provisioning becomes
// active only by [Lifecycle.Provision].
func (l *Lifecycle) Activate(ctx context.Context, id string) (Tenant, error) {
	return l.transition(ctx, id, StatusActive, TenantActivated, "")
}

// Deactivate stops a tenant that is not used any more. An archived one comes back by it, as by
// [Lifecycle.Unarchive].
func (l *Lifecycle) Deactivate(ctx context.Context, id string) (Tenant, error) {
	return l.transition(ctx, id, StatusInactive, TenantDeactivated, "")
}

// Suspend stops a tenant for a reason, which is required and may be shown to its members.
func (l *Lifecycle) Suspend(ctx context.Context, id, reason string) (Tenant, error) {
	if strings.TrimSpace(reason) == "" {
		return Tenant{}, fmt.Errorf("suspend tenant %q: %w", id, ErrReasonRequired)
	}
	return l.transition(ctx, id, StatusSuspended, TenantSuspended, truncate(reason, maxReason))
}

func (l *Lifecycle) transition(ctx context.Context, id string, to Status, event EventType, reason string) (Tenant, error) {
	t, err := l.Get(ctx, id)
	if err != nil {
		return Tenant{}, err
	}
	if t.Status == StatusProvisioning && to == StatusActive {
		return Tenant{}, fmt.Errorf("activate tenant %q: %w: use Lifecycle.Provision", t.Slug, ErrProvisioning)
	}
	if err := t.may(to); err != nil {
		return Tenant{}, err
	}
	t.Status, t.StatusReason, t.Journal, t.PurgeAfter = to, reason, nil, time.Time{}
	return l.update(ctx, t, event, reason)
}

// update stores t with its event and tells this process's caches and subscribers.
func (l *Lifecycle) update(ctx context.Context, t Tenant, typ EventType, reason string) (Tenant, error) {
	return l.change(ctx, t, typ, reason, nil)
}

// change stores t with its event, unless a hook vetoes it.
func (l *Lifecycle) change(ctx context.Context, t Tenant, typ EventType, reason string, manifest *Manifest) (Tenant, error) {
	if err := l.tn.hook(ctx, hookOf[typ], t); err != nil {
		return Tenant{}, err
	}
	event, err := l.event(t, typ, reason)
	if err != nil {
		return Tenant{}, err
	}
	event.Revision, event.Manifest = t.Revision+1, manifest
	return l.store(ctx, t, event)
}

// store stores t and tells this process's caches and, of events, the subscribers.
func (l *Lifecycle) store(ctx context.Context, t Tenant, events ...Event) (Tenant, error) {
	t.UpdatedAt = l.now()
	stored, err := l.tn.cfg.Store.Update(ctx, t, events...)
	return l.written(ctx, t, "update", stored, err)
}

// written finishes a write: the caches forget, the subscribers hear. After an error nobody
// knows whether the write was committed, so the caches forget then too.
func (l *Lifecycle) written(ctx context.Context, t Tenant, verb string, stored Tenant, err error) (Tenant, error) {
	l.tn.validator.Invalidate(t.ID)
	_ = l.tn.tell(ctx, Change{TenantID: t.ID, Revision: stored.Revision}) // which has logged its error
	if err != nil {
		return Tenant{}, fmt.Errorf("%s tenant %q: %w", verb, t.Slug, err)
	}
	l.tn.relay.deliver(ctx)
	return stored, nil
}

func (l *Lifecycle) event(t Tenant, typ EventType, reason string) (Event, error) {
	id, err := l.tn.cfg.NewID()
	if err != nil {
		return Event{}, fmt.Errorf("make an id: %w", err)
	}
	return Event{ID: id, Type: typ, TenantID: t.ID, Slug: t.Slug, Revision: 1, Time: l.now(), Reason: reason}, nil
}

func (l *Lifecycle) now() time.Time { return l.tn.cfg.Now().UTC().Truncate(time.Microsecond) }

func (l *Lifecycle) supported() error {
	if l.tn.cfg.Store == nil {
		return fmt.Errorf("the lifecycle of tenants: %w: configure tenancy.Config.Store", errors.ErrUnsupported)
	}
	return nil
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
