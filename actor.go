package tenancy

import "context"

// maxActor bounds the name of who did something, as every store can keep it.
const maxActor = 255

type actorKey struct{}

// WithActor returns a context in which changes of overrides and memberships are recorded as made
// by name: a person behind a console, a job. Without it they are recorded as made by the user of
// the bound request ("user:alice"), else with the reason of [Tenancy.Within], [Tenancy.Each]
// ("within:nightly import") or [AsSystem] ("system:invoices"), else by nobody ("").
func WithActor(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actorKey{}, name)
}

// actorOf returns who acts in ctx, "" when nobody said.
func actorOf(ctx context.Context) string {
	if name, ok := ctx.Value(actorKey{}).(string); ok {
		return truncate(name, maxActor)
	}
	s, err := usable(ctx)
	if err != nil {
		return ""
	}
	switch {
	case s.kind == scopeSystem:
		return truncate("system:"+s.reason, maxActor)
	case s.userID != "":
		return truncate("user:"+s.userID, maxActor)
	case s.reason != "":
		return truncate(s.resolver+":"+s.reason, maxActor)
	}
	return ""
}
