package tenancy

import (
	"log/slog"
	"slices"
	"strings"
)

// Outcome is what came of resolving a request. The texts appear in logs.
type Outcome string

// The outcomes. OutcomeBound is the only one that binds.
const (
	OutcomeBound           Outcome = "bound"
	OutcomeNoTenant        Outcome = "no tenant named"
	OutcomeUnauthenticated Outcome = "credentials not valid"
	OutcomeAmbiguous       Outcome = "ambiguous"
	OutcomeConflict        Outcome = "sources conflict"
	OutcomeNotFound        Outcome = "unknown tenant"
	OutcomeNotMember       Outcome = "not a member"
	OutcomeUnverifiable    Outcome = "cannot be verified"
	OutcomeNotActive       Outcome = "tenant not active"
	OutcomeVetoed          Outcome = "vetoed by a hook"
	OutcomeUnavailable     Outcome = "catalogue unavailable"
	OutcomeDisabled        Outcome = "tenancy disabled"
)

// Decision explains how a request's tenant was decided. It tells everything and is meant
// for the operators: a guard's answer tells an outsider none of it.
type Decision struct {
	Outcome Outcome
	// Err is why the request was not bound, nil when it was. [CodeOf] finds its code.
	Err error
	// Resolver is the name of the resolver whose answer counted, or "".
	Resolver string
	// Ref is what that resolver answered.
	Ref Ref
	// TenantID and Slug are the tenant that was found, bound or not.
	TenantID, Slug string
	// UserID and Issuer are the caller, "" when anonymous.
	UserID, Issuer string
	// Insider says that the caller may learn the tenant's state: a member, or named by a
	// trusted source.
	Insider bool
	// Stale says that the answer came from a cache that could not be refreshed.
	Stale bool
	// Hint names a likely mistake in the set-up, or "".
	Hint string

	chain   *Chain
	asked   int      // how many of the chain's resolvers were asked
	answers []Answer // what they said; nil when only the last one named a tenant, by Ref
}

// Asked returns how many of the chain's resolvers were asked.
func (d Decision) Asked() int { return d.asked }

// Answers returns what each resolver said, in order, as far as they were asked.
func (d Decision) Answers() []Answer {
	if d.answers != nil {
		return slices.Clone(d.answers)
	}
	answers := make([]Answer, d.asked)
	for i := range answers {
		answers[i].Resolver = d.chain.resolvers[i].Name()
		if i == d.asked-1 {
			answers[i].Ref = d.Ref
		}
	}
	return answers
}

// Answer is what one resolver said.
type Answer struct {
	Resolver string
	Ref      Ref   // zero: the request does not name a tenant for this resolver
	Err      error // the request names one in a way that cannot be read
}

// Explain returns the decision as text of several lines.
func (d Decision) Explain() string {
	var b strings.Builder
	b.WriteString(string(d.Outcome))
	if d.Slug != "" {
		b.WriteString(": tenant " + d.Slug + " (" + d.TenantID + ")")
	}
	if d.UserID != "" {
		b.WriteString(", user " + d.UserID)
	} else {
		b.WriteString(", anonymous")
	}
	for _, a := range d.Answers() {
		b.WriteString("\n  " + a.Resolver + ": ")
		switch {
		case a.Err != nil:
			b.WriteString(a.Err.Error())
		case a.Ref.IsZero():
			b.WriteString("not mine")
		default:
			b.WriteString(a.Ref.String())
		}
		if a.Resolver == d.Resolver {
			b.WriteString("  <- this counted")
		}
	}
	if d.Err != nil {
		b.WriteString("\n  error: " + d.Err.Error())
	}
	if d.Hint != "" {
		b.WriteString("\n  hint: " + d.Hint)
	}
	return b.String()
}

// LogValue returns the decision for slog.
func (d Decision) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("outcome", string(d.Outcome)), slog.String("resolver", d.Resolver),
		slog.String("ref", d.Ref.String()), slog.String("tenant_id", d.TenantID),
		slog.String("user", d.UserID),
	}
	if d.Err != nil {
		attrs = append(attrs, slog.String("error", d.Err.Error()), slog.String("code", string(CodeOf(d.Err))))
	}
	if d.Stale {
		attrs = append(attrs, slog.Bool("stale", true))
	}
	if d.Hint != "" {
		attrs = append(attrs, slog.String("hint", d.Hint))
	}
	return slog.GroupValue(attrs...)
}
