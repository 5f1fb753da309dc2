package demo

import (
	"context"
	"errors"
	"fmt"

	"lexigram.dev/tenancy"
)

// Tenants and users of the demo.
var (
	seedTenants = []struct {
		slug, name, suspended string
		users                 []string
	}{
		{slug: "acme", name: "ACME Corp", users: []string{"alice", "carol"}},
		{slug: "globex", name: "Globex Corporation", users: []string{"bob", "carol"}},
		{slug: "initech", name: "Initech", users: []string{"dave"}, suspended: "the invoice is overdue"},
	}
	// claims are the tenants that the printed tokens name. Carol, dave and mallory have none.
	claims = map[string]string{"alice": "acme", "bob": "globex"}
)

// seed makes what of the demo's tenants and members is missing. It may be repeated, and run
// by several processes at once.
func seed(ctx context.Context, tn *tenancy.Tenancy, members tenancy.MemberStore) error {
	for _, s := range seedTenants {
		t, err := seedTenant(ctx, tn.Lifecycle(), s.slug, s.name, s.suspended)
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
		for _, user := range s.users {
			_, err := members.Member(ctx, user, t.ID)
			if errors.Is(err, tenancy.ErrNotMember) {
				err = members.SetMember(ctx, user, t.ID, tenancy.Member{Roles: []string{"member"}})
			}
			if err != nil {
				return fmt.Errorf("seed: make %s a member of %s: %w", user, s.slug, err)
			}
		}
	}
	return nil
}

func seedTenant(ctx context.Context, l *tenancy.Lifecycle, slug, name, suspended string) (tenancy.Tenant, error) {
	t, err := l.Find(ctx, tenancy.BySlug(slug))
	if errors.Is(err, tenancy.ErrNotFound) {
		t, err = l.Create(ctx, tenancy.CreateTenant{Slug: slug, Name: name})
		if taken := (*tenancy.SlugConflictError)(nil); errors.As(err, &taken) && !taken.Reserved {
			t, err = l.Find(ctx, tenancy.BySlug(slug)) // another process was faster
		}
	}
	if err != nil {
		return t, err
	}
	// Also brings the tables of a tenant that was left half-way to their version.
	if t.Status == tenancy.StatusProvisioning {
		id := t.ID
		t, err = l.Provision(ctx, id)
		if later := (*tenancy.TransitionError)(nil); errors.As(err, &later) {
			t, err = l.Get(ctx, id) // another process is past it already
		}
		if err != nil {
			return t, err
		}
	}
	if suspended == "" || t.Status != tenancy.StatusActive {
		return t, nil
	}
	stopped, err := l.Suspend(ctx, t.ID, suspended)
	if err == nil {
		return stopped, nil
	}
	// Of two processes that suspend it at once, one is told that there is nothing to do.
	if now, findErr := l.Get(ctx, t.ID); findErr == nil && now.Status == tenancy.StatusSuspended {
		return now, nil
	}
	return t, err
}
