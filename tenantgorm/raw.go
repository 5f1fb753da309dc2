package tenantgorm

import (
	"context"
	"strings"
)

type rawKey struct{}

// UnsafeRaw returns a context in which Raw, Exec and conditions with sub-queries in their text
// run as they are. The author answers for their filter; nothing adds one to a text. It does
// not stand in for a tenant: without one the statements fail all the same. The reason is logged;
// without one they fail with tenancy.ErrReasonRequired.
func UnsafeRaw(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, rawKey{}, strings.TrimSpace(reason))
}

// rawReason returns the reason of UnsafeRaw, and whether ctx has one.
func rawReason(ctx context.Context) (string, bool) {
	reason, ok := ctx.Value(rawKey{}).(string)
	return reason, ok
}

// isSavepoint reports whether a text does nothing but set, release or return to a savepoint, as
// GORM's nested transactions do.
func isSavepoint(text string) bool {
	words := strings.Fields(text)
	for i, word := range words {
		words[i] = strings.ToLower(word)
	}
	switch {
	case len(words) < 2 || !isPlainName(words[len(words)-1]):
		return false
	case len(words) == 2:
		return words[0] == "savepoint"
	}
	switch strings.Join(words[:len(words)-1], " ") {
	case "rollback to", "rollback to savepoint", "release savepoint":
		return true
	}
	return false
}

func isPlainName(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}
