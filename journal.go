package tenancy

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Work is what a [Journal] brings to its end.
type Work string

// The works, and the state that a tenant has when one is done.
const (
	WorkProvision Work = "provision" // active
	WorkArchive   Work = "archive"   // archived
	WorkPurge     Work = "purge"     // purged
)

// outcome returns the state and the event that end the work.
func (w Work) outcome() (Status, EventType) {
	switch w {
	case WorkArchive:
		return StatusArchived, TenantArchived
	case WorkPurge:
		return StatusPurged, TenantPurged
	default:
		return StatusActive, TenantProvisioned
	}
}

// Journal is the work on a tenant that is under way. It is part of the tenant's record: each step is
// recorded when it is done, and whoever goes on after a crash begins at the first that is not.
type Journal struct {
	Work Work `json:"work"`
	// Reason is why, in the words of who asked.
	Reason string `json:"reason,omitempty"`
	// Done are the steps that are done, in order.
	Done []string `json:"done,omitempty"`
	// Attempts counts the failures of the step that comes next, LastError is the last of them.
	Attempts  int    `json:"attempts,omitempty"`
	LastError string `json:"last_error,omitempty"`
	// Started is when the work was asked for. Nothing goes on by itself before Due.
	Started time.Time `json:"started,omitzero"`
	Due     time.Time `json:"due,omitzero"`
	// Owner is the node that does the steps, until Until unless it renews that. Fence is the tenant's
	// revision at which it became the owner: one that was followed by another can record nothing more.
	Owner string    `json:"owner,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Fence int64     `json:"fence,omitempty"`
	// Manifest is what a purge removes, found out by its first step.
	Manifest *Manifest `json:"manifest,omitempty"`
}

// begun reports whether anybody has worked on it.
func (j *Journal) begun() bool { return j.Fence > 0 }

// held reports whether a node has the lease.
func (j *Journal) held(now time.Time) bool { return j.Owner != "" && now.Before(j.Until) }

// next returns when there is something to do for the work.
func (j *Journal) next() time.Time {
	if j.Until.After(j.Due) {
		return j.Until
	}
	return j.Due
}

// clone returns a copy that shares nothing with j.
func (j *Journal) clone() *Journal {
	if j == nil {
		return nil
	}
	c := *j
	c.Done = slices.Clone(j.Done)
	c.Manifest = j.Manifest.clone()
	return &c
}

// Step is one part of a [Work].
type Step struct {
	// Name is how the journal records the step. It is unique within a work and must not change
	// while a tenant's journal may have it.
	Name string
	// Run does the step. It is idempotent: after a crash, and after an error, it runs again, from
	// the beginning, perhaps on another node. What it changes in t.Placement is recorded with the
	// step; other changes are not kept.
	Run func(ctx context.Context, t *Tenant) error
}

// Steps are the application's own parts of each work. Those of Provision run after the
// provisioner's, while the tenant cannot be used yet; those of Purge before its, while the data is
// still there.
type Steps struct {
	Provision []Step
	Archive   []Step
	Purge     []Step
}

// Stepper is an optional interface of a [Provisioner]: its work in parts that are recorded one by
// one. They take the place of Provision and Deprovision.
type Stepper interface {
	ProvisionSteps() []Step
	DeprovisionSteps() []Step
}

// Manifest lists what a purge removes, as the databases themselves tell.
type Manifest struct {
	Time  time.Time      `json:"time"`
	Items []ManifestItem `json:"items"`
}

// ManifestItem is one thing that a purge removes.
type ManifestItem struct {
	Kind string `json:"kind"` // rows, table, schema, database, file or role
	Name string `json:"name"`
	Rows int64  `json:"rows,omitempty"` // of rows and table
}

func (m *Manifest) clone() *Manifest {
	if m == nil {
		return nil
	}
	c := *m
	c.Items = slices.Clone(m.Items)
	return &c
}

// Manifester is an optional interface of a [Provisioner]: it tells what removing a tenant's data
// would remove. It changes nothing, and fails when the database holds what nobody has classified.
type Manifester interface {
	Manifest(ctx context.Context, t Tenant) (Manifest, error)
}

// stepManifest is the first step of a purge.
const stepManifest = "manifest"

// steps returns the steps of a work, in order.
func (l *Lifecycle) steps(w Work) []Step {
	own, p := l.tn.cfg.Steps, l.tn.cfg.Provisioner
	stepper, stepwise := p.(Stepper)
	switch {
	case w == WorkArchive:
		return own.Archive
	case w == WorkPurge:
		steps := append([]Step{{stepManifest, l.takeManifest}}, own.Purge...)
		if stepwise {
			steps = append(steps, stepper.DeprovisionSteps()...)
		} else if p != nil {
			steps = append(steps, Step{"deprovision", func(ctx context.Context, t *Tenant) error { return p.Deprovision(ctx, *t) }})
		}
		return steps
	case stepwise:
		return append(stepper.ProvisionSteps(), own.Provision...)
	case p != nil:
		provision := func(ctx context.Context, t *Tenant) (err error) {
			t.Placement, err = p.Provision(ctx, *t)
			return err
		}
		return append([]Step{{"provision", provision}}, own.Provision...)
	default:
		return own.Provision
	}
}

// takeManifest is the step that finds out what a purge removes.
func (l *Lifecycle) takeManifest(ctx context.Context, t *Tenant) error {
	m, err := l.manifest(ctx, *t)
	if err == nil {
		t.Journal.Manifest = &m
	}
	return err
}

func (l *Lifecycle) manifest(ctx context.Context, t Tenant) (Manifest, error) {
	m := Manifest{Time: l.now()}
	if manifester, ok := l.tn.cfg.Provisioner.(Manifester); ok {
		found, err := manifester.Manifest(ctx, t)
		if err != nil {
			return Manifest{}, fmt.Errorf("find out what a purge of tenant %q removes: %w", t.Slug, err)
		}
		m.Items = found.Items
	}
	return m, nil
}

// checkSteps reports steps without a name or a function, and names that are given twice.
func checkSteps(s Steps) error {
	for work, steps := range map[Work][]Step{WorkProvision: s.Provision, WorkArchive: s.Archive, WorkPurge: s.Purge} {
		for i, step := range steps {
			if step.Name == "" || step.Run == nil {
				return &ConfigError{Key: "Steps", Err: fmt.Errorf("step %d of %s has no name or no function", i+1, work)}
			}
			if slices.ContainsFunc(steps[:i], func(before Step) bool { return before.Name == step.Name }) {
				return &ConfigError{Key: "Steps", Err: fmt.Errorf("two steps of %s are named %q: give each a name of its own", work, step.Name)}
			}
		}
	}
	return nil
}
