package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// GraceError says that the data of an archived tenant is still kept.
type GraceError struct {
	TenantID string
	Until    time.Time
}

func (e *GraceError) Error() string {
	return fmt.Sprintf("tenant %q is archived and its data is kept until %s: wait, or use Lifecycle.PurgeNow with a reason",
		e.TenantID, e.Until.Format(time.RFC3339))
}

// Code returns CodeInactive.
func (e *GraceError) Code() Code { return CodeInactive }

// Archive puts an inactive tenant away: it does the steps that the application has for that. The
// data stays for the grace that is configured, and [Lifecycle.Unarchive] brings the tenant back.
// An archived tenant is returned as it is.
func (l *Lifecycle) Archive(ctx context.Context, id string) (Tenant, error) {
	t, err := l.acquire(ctx, id, func(t *Tenant) error {
		switch {
		case t.Status == StatusArchived:
			t.Journal = nil // what is planned there stays: nothing is stored
		case t.Journal != nil && t.Journal.Work == WorkArchive:
		case t.Journal != nil || !t.Status.CanBecome(StatusArchived):
			return &TransitionError{TenantID: t.ID, From: t.Status, To: StatusArchived}
		case len(l.steps(WorkArchive)) == 0:
		default:
			t.Journal = l.journal(WorkArchive, "")
		}
		return nil
	})
	switch {
	case err != nil:
		return Tenant{}, fmt.Errorf("archive tenant: %w", err)
	case t.Status == StatusArchived:
		return l.Get(ctx, id)
	case t.Journal != nil:
		return l.carryOut(ctx, t)
	}
	t.Status, t.StatusReason = StatusArchived, ""
	l.archived(&t)
	return l.update(ctx, t, TenantArchived, "")
}

// archived sets when the data of a tenant that becomes archived may go, and plans its end.
func (l *Lifecycle) archived(t *Tenant) {
	cfg := l.tn.cfg.Lifecycle
	t.PurgeAfter = l.now().Add(max(0, cfg.ArchiveGrace))
	if cfg.AutoPurge {
		t.Journal = l.journal(WorkPurge, "the grace was over")
		t.Journal.Due = t.PurgeAfter
	}
}

// Unarchive makes an archived tenant inactive again, unless its purge has begun.
func (l *Lifecycle) Unarchive(ctx context.Context, id string) (Tenant, error) {
	t, err := l.Get(ctx, id)
	if err != nil {
		return Tenant{}, fmt.Errorf("unarchive tenant: %w", err)
	}
	if t.Status != StatusArchived {
		return Tenant{}, &TransitionError{TenantID: t.ID, From: t.Status, To: StatusInactive}
	}
	return l.transition(ctx, id, StatusInactive, TenantDeactivated, "")
}

// Manifest tells what a purge of the tenant would remove, as the databases have it now. It changes
// nothing. It fails when there is something that nobody has classified as the tenant's or shared.
func (l *Lifecycle) Manifest(ctx context.Context, id string) (Manifest, error) {
	t, err := l.Get(ctx, id)
	if err != nil {
		return Manifest{}, err
	}
	if t.Status == StatusPurged {
		return Manifest{Time: l.now()}, nil
	}
	return l.manifest(ctx, t)
}

// Purge removes the data of an archived tenant for good, once the grace is over, and keeps the
// record, purged, so that nobody can take its names and receive what was meant for it. What was
// removed is told by the event [TenantPurged]. Before the end of the grace it is a [*GraceError].
// When it fails, or ctx ends, the tenant stays archived with the reason in its journal, and a
// started [Tenancy] goes on with it.
func (l *Lifecycle) Purge(ctx context.Context, id string) (Tenant, error) {
	return l.purge(ctx, id, "", func(t *Tenant) error {
		if now := l.now(); now.Before(t.PurgeAfter) {
			return &GraceError{TenantID: t.ID, Until: t.PurgeAfter}
		}
		return nil
	})
}

// PurgeNow is [Lifecycle.Purge] without the grace. The reason, which is required, is told by the
// event.
func (l *Lifecycle) PurgeNow(ctx context.Context, id, reason string) (Tenant, error) {
	if strings.TrimSpace(reason) == "" {
		return Tenant{}, fmt.Errorf("purge tenant %q: %w", id, ErrReasonRequired)
	}
	return l.purge(ctx, id, truncate(reason, maxReason), func(*Tenant) error { return nil })
}

// purge brings a tenant's data to its end if allowed says so.
func (l *Lifecycle) purge(ctx context.Context, id, reason string, allowed func(*Tenant) error) (Tenant, error) {
	t, err := l.acquire(ctx, id, func(t *Tenant) error {
		switch {
		case t.Status == StatusPurged:
			return nil
		case !t.Status.CanBecome(StatusPurged):
			return &TransitionError{TenantID: t.ID, From: t.Status, To: StatusPurged}
		case t.Journal != nil && t.Journal.Work == WorkPurge && t.Journal.begun():
			return nil // it goes on
		}
		if err := allowed(t); err != nil {
			return err
		}
		t.Journal = l.journal(WorkPurge, reason)
		return nil
	})
	if err != nil {
		return Tenant{}, fmt.Errorf("purge tenant: %w", err)
	}
	if t.Status == StatusPurged {
		return t, nil
	}
	return l.carryOut(ctx, t)
}

// Delete is the short way out. An inactive tenant is archived, and purged as well when there is no
// grace or it is over; so is an archived one, before the end of the grace with a [*GraceError]. A
// tenant in provisioning is given up: what was made of it is removed. Any other state is a
// [*TransitionError]: [Lifecycle.Deactivate] comes first.
func (l *Lifecycle) Delete(ctx context.Context, id string) (Tenant, error) {
	t, err := l.Get(ctx, id)
	if err != nil {
		return Tenant{}, fmt.Errorf("delete tenant: %w", err)
	}
	switch t.Status {
	case StatusProvisioning:
		return l.PurgeNow(ctx, id, "the provisioning was given up")
	case StatusInactive:
		if t, err = l.Archive(ctx, id); err != nil {
			return t, err
		}
		purged, err := l.Purge(ctx, id)
		if grace := (*GraceError)(nil); errors.As(err, &grace) {
			return t, nil
		}
		return purged, err
	default:
		return l.Purge(ctx, id)
	}
}
