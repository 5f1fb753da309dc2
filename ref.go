package tenancy

import (
	"encoding"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// RefKind says how a [Ref] names a tenant.
type RefKind uint8

// The kinds of reference. RefNone names nobody; RefMalformed names nobody either, and no
// store is asked about it.
const (
	RefNone RefKind = iota
	RefMalformed
	RefID
	RefSlug
	RefIDOrSlug
	RefAlias
)

// Ref is a reference to a tenant as an outside source gave it. It is canonical from the
// start: its constructors trim, fold and check, and what does not fit is RefMalformed. Refs
// are comparable and may be map keys. The zero Ref names nobody.
type Ref struct {
	kind  RefKind
	space string // of an alias: the system that uses the name
	value string
}

// Longest names. A slug is one DNS label; the others keep keys and file names short.
const (
	maxID         = 128
	maxSlug       = 63
	maxAliasKind  = 32
	maxAliasValue = 255
)

// ByID refers to a tenant by its id. Letter case is kept, because ids may come from
// elsewhere: 1 to 128 of A-Z a-z 0-9 . _ ~ -, the first a letter or digit.
func ByID(id string) Ref {
	if id = strings.TrimSpace(id); !isID(id) {
		return Ref{kind: RefMalformed}
	}
	return Ref{kind: RefID, value: id}
}

// BySlug refers to a tenant by its slug: folded to lower case and IDNA's ASCII form, one
// DNS label of 1 to 63 of a-z 0-9 -.
func BySlug(slug string) Ref {
	canonical, err := CanonicalSlug(slug)
	if err != nil {
		return Ref{kind: RefMalformed}
	}
	return Ref{kind: RefSlug, value: canonical}
}

// ByIDOrSlug refers to a tenant by either. The store's shared namespace makes sure that
// only one tenant can be meant.
func ByIDOrSlug(name string) Ref {
	name = strings.TrimSpace(name)
	if isID(name) {
		return Ref{kind: RefIDOrSlug, value: name}
	}
	if r := BySlug(name); r.kind == RefSlug {
		return Ref{kind: RefIDOrSlug, value: r.value}
	}
	return Ref{kind: RefMalformed}
}

// Alias refers to a tenant by the name that another system gives it: Alias("stripe",
// "cus_…"), Alias("auth0", "org_…"), Alias("domain", "shop.example"). The kind is 1 to 32 of
// a-z 0-9 _ -, the value 1 to 255 printable ASCII characters without a space; letter case
// of the value counts, except for the kind "domain".
func Alias(kind, value string) Ref {
	value = strings.TrimSpace(value)
	if !isAliasKind(kind) || value == "" || len(value) > maxAliasValue {
		return Ref{kind: RefMalformed}
	}
	if kind == "domain" {
		ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(value, "."))
		if err != nil || ascii == "" {
			return Ref{kind: RefMalformed}
		}
		value = ascii
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return Ref{kind: RefMalformed}
		}
	}
	return Ref{kind: RefAlias, space: kind, value: value}
}

// Kind says how r names a tenant.
func (r Ref) Kind() RefKind { return r.kind }

// IsZero reports whether r names nobody because no source named anybody.
func (r Ref) IsZero() bool { return r.kind == RefNone }

// Value returns the canonical id, slug or alias value.
func (r Ref) Value() string { return r.value }

// AliasKind returns the kind of an alias, or "".
func (r Ref) AliasKind() string { return r.space }

// Key returns r's name in the namespace that ids, slugs and aliases share: lower case for
// ids and slugs, "kind:value" for aliases. Two tenants with an equal key cannot both exist.
// It is "" for references that name nobody.
func (r Ref) Key() string {
	switch r.kind {
	case RefID, RefSlug, RefIDOrSlug:
		return strings.ToLower(r.value)
	case RefAlias:
		return r.space + ":" + r.value
	default:
		return ""
	}
}

// Matches reports whether r names t, by the rules of the shared namespace. A store that
// found t by [Ref.Key] uses it to keep a lookup by slug from finding an id, and an old name
// from finding anything.
func (r Ref) Matches(t Tenant) bool {
	switch r.kind {
	case RefID:
		return strings.EqualFold(r.value, t.ID)
	case RefSlug:
		return r.value == t.Slug
	case RefIDOrSlug:
		return strings.EqualFold(r.value, t.ID) || strings.EqualFold(r.value, t.Slug)
	case RefAlias:
		for _, a := range t.Aliases {
			if a == r {
				return true
			}
		}
	}
	return false
}

// String returns a form for logs: "id:…", "slug:…", "id-or-slug:…" or "kind:value".
func (r Ref) String() string {
	switch r.kind {
	case RefNone:
		return "none"
	case RefID:
		return "id:" + r.value
	case RefSlug:
		return "slug:" + r.value
	case RefIDOrSlug:
		return "id-or-slug:" + r.value
	case RefAlias:
		return r.Key()
	default:
		return "malformed"
	}
}

var (
	_ encoding.TextMarshaler   = Ref{}
	_ encoding.TextUnmarshaler = (*Ref)(nil)
)

// MarshalText returns [Ref.String].
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote; "id", "slug" and "id-or-slug" are therefore
// no kinds of alias.
func (r *Ref) UnmarshalText(text []byte) error {
	kind, value, found := strings.Cut(string(text), ":")
	switch {
	case !found && kind == "none":
		*r = Ref{}
		return nil
	case !found:
		*r = Ref{kind: RefMalformed}
	case kind == "id":
		*r = ByID(value)
	case kind == "slug":
		*r = BySlug(value)
	case kind == "id-or-slug":
		*r = ByIDOrSlug(value)
	default:
		*r = Alias(kind, value)
	}
	if r.kind == RefMalformed {
		return fmt.Errorf("tenant reference %q is malformed: write id:…, slug:… or kind:value", text)
	}
	return nil
}

// CanonicalSlug returns the canonical form of a slug: trimmed, in lower case, IDNA to
// ASCII, one DNS label. The error says what is allowed.
func CanonicalSlug(slug string) (string, error) {
	s := strings.TrimSpace(slug)
	if isSlug(s) { // the common case: canonical already, nothing allocated
		return s, nil
	}
	if !isASCII(s) {
		if len(s) > 4*maxSlug {
			return "", invalidSlug(s[:4*maxSlug] + "…")
		}
		ascii, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", invalidSlug(s)
		}
		s = ascii
	}
	if len(s) > maxSlug {
		return "", invalidSlug(s[:maxSlug] + "…")
	}
	if s = strings.ToLower(s); !isSlug(s) {
		return "", invalidSlug(s)
	}
	return s, nil
}

func invalidSlug(s string) error {
	return &InvalidError{
		Field: "slug", Value: s,
		Remedy: "use 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends",
	}
}

// CheckID returns an error that says what is allowed when id cannot be a tenant's id.
func CheckID(id string) error {
	if isID(id) {
		return nil
	}
	if len(id) > maxID {
		id = id[:maxID] + "…"
	}
	return &InvalidError{
		Field: "id", Value: id,
		Remedy: "use 1 to 128 of A-Z, a-z, 0-9, '.', '_', '~' and '-', the first a letter or digit",
	}
}

// CheckAlias returns an error that says what is allowed when r cannot be a tenant's alias.
func CheckAlias(r Ref) error {
	if r.kind == RefAlias {
		return nil
	}
	return &InvalidError{
		Field: "alias", Value: r.String(),
		Remedy: "make it with tenancy.Alias(kind, value): kind of a-z 0-9 _ -, value of printable ASCII; id, slug and id-or-slug are no kinds",
	}
}

func isID(s string) bool {
	if s == "" || len(s) > maxID || !isAlnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' && c != '~' {
			return false
		}
	}
	return true
}

func isSlug(s string) bool {
	if s == "" || len(s) > maxSlug || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isAliasKind(s string) bool {
	if s == "" || len(s) > maxAliasKind || s == "id" || s == "slug" || s == "id-or-slug" || s == "none" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
