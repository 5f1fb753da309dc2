package tenanthttp

import (
	"net/http"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
)

// varyByAnswers returns for each n the Vary value of an answer for which the first n
// resolvers were asked.
func varyByAnswers(resolvers []tenancy.Resolver, credentials []string, forwarded bool) []string {
	values := make([]string, 0, len(resolvers)+1)
	values = append(values, varyValue(credentials))
	var names []string
	for _, r := range resolvers {
		if v, ok := r.(tenancy.VaryingResolver); ok {
			names = append(names, v.Vary()...)
		}
		if forwarded && readsHost(r) {
			names = append(names, forwardedHost)
		}
		values = append(values, varyValue(slices.Concat(names, credentials)))
	}
	return values
}

// readsHost reports whether a resolver may look at the host. Of one that is not known it
// must be assumed.
func readsHost(r tenancy.Resolver) bool {
	switch r.(type) {
	case tenancy.JWTClaim, tenancy.Header, tenancy.Path, tenancy.Static:
		return false
	default:
		return true
	}
}

// varyValue joins header names, each once.
func varyValue(names []string) string {
	var once []string
	for _, name := range names {
		if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return strings.Join(once, ", ")
}

// addVary adds the one value to what is there already. It keeps the slice.
func addVary(h http.Header, value []string) {
	if value[0] == "" {
		return
	}
	switch old := h["Vary"]; {
	case len(old) == 0:
		h["Vary"] = value
	case !slices.Contains(old, value[0]):
		h["Vary"] = append(old, value[0])
	}
}
