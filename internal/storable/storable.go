// Package storable answers which values every store accepts, and in which one form it keeps
// them, so that a tenant written to one store reads the same from another. It does not know
// what is stored already.
package storable

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lexigram.dev/tenancy"
)

// The longest values, in bytes. They fit into an index of every engine.
const (
	MaxName     = 320       // of a slug or alias, as its key
	MaxSink     = 128       // of a sink, a process
	MaxKey      = 255       // of a user id, a configuration key, an event id
	MaxText     = 4 << 10   // of a tenant's name, reason, region or placement
	MaxMetadata = 64 << 10  // of a tenant's metadata, keys and values together
	MaxValue    = 256 << 10 // of an override
)

// MaxAliases is how many aliases a tenant may have.
const MaxAliases = 1000

// Tenant returns t as stores keep it: a copy, with times in UTC and whole microseconds and
// no empty slice or map. A value that no store keeps is a [*tenancy.InvalidError].
func Tenant(t tenancy.Tenant) (tenancy.Tenant, error) {
	if err := tenancy.CheckID(t.ID); err != nil {
		return t, err
	}
	slug, err := tenancy.CanonicalSlug(t.Slug)
	if err != nil {
		return t, err
	}
	if slug != t.Slug {
		return t, &tenancy.InvalidError{
			Field: "slug", Value: t.Slug, Remedy: fmt.Sprintf("store its canonical form, %q", slug),
		}
	}
	if !t.Status.Valid() {
		return t, &tenancy.InvalidError{
			Field: "status", Value: string(t.Status), Remedy: fmt.Sprintf("use one of %v", tenancy.Statuses()),
		}
	}
	if t.Parent != "" {
		if err := tenancy.CheckID(t.Parent); err != nil {
			return t, err
		}
	}
	if len(t.Aliases) > MaxAliases {
		return t, &tenancy.InvalidError{
			Field: "aliases", Value: fmt.Sprintf("%d of them", len(t.Aliases)),
			Remedy: fmt.Sprintf("keep at most %d", MaxAliases),
		}
	}
	for _, alias := range t.Aliases {
		if err := tenancy.CheckAlias(alias); err != nil {
			return t, err
		}
	}
	for _, text := range []struct{ field, value string }{
		{"name", t.Name},
		{"status reason", t.StatusReason},
		{"region", t.Region},
		{"placement strategy", t.Placement.Strategy},
		{"placement server", t.Placement.Server},
		{"placement database", t.Placement.Database},
		{"placement schema", t.Placement.Schema},
	} {
		if err := checkText(text.field, text.value, MaxText); err != nil {
			return t, err
		}
	}
	size := 0
	for k, v := range t.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return t, &tenancy.InvalidError{Field: "metadata", Value: k, Remedy: "use valid UTF-8"}
		}
		size += len(k) + len(v)
	}
	if size > MaxMetadata {
		return t, &tenancy.InvalidError{
			Field: "metadata", Value: fmt.Sprintf("%d bytes", size),
			Remedy: fmt.Sprintf("keep at most %d bytes, keys and values together", MaxMetadata),
		}
	}
	t = t.Clone()
	if len(t.Aliases) == 0 {
		t.Aliases = nil
	}
	if len(t.Metadata) == 0 {
		t.Metadata = nil
	}
	t.CreatedAt, t.UpdatedAt, t.PurgeAfter = Time(t.CreatedAt), Time(t.UpdatedAt), Time(t.PurgeAfter)
	if err := former(&t); err != nil {
		return t, err
	}
	return t, journal(t.Journal)
}

// former brings the former names of t into the form that stores keep.
func former(t *tenancy.Tenant) error {
	if len(t.Former) == 0 {
		t.Former = nil
	}
	for i, name := range t.Former {
		if err := checkText("former name", name.Key, MaxName); err != nil {
			return err
		}
		t.Former[i].Until = Time(name.Until)
	}
	return nil
}

// journal brings a journal, which is the store's own copy, into the form that stores keep.
func journal(j *tenancy.Journal) error {
	if j == nil {
		return nil
	}
	j.Started, j.Due, j.Until = Time(j.Started), Time(j.Due), Time(j.Until)
	if len(j.Done) == 0 {
		j.Done = nil
	}
	if j.Manifest != nil {
		j.Manifest.Time = Time(j.Manifest.Time)
	}
	for _, text := range append([]string{string(j.Work), j.Reason, j.LastError, j.Owner}, j.Done...) {
		if err := checkText("journal", text, MaxText); err != nil {
			return err
		}
	}
	return nil
}

// Listing returns the statuses that a listing wants, in the order of [tenancy.Statuses].
// None means that nothing can match. A cursor that no page gave is an error.
func Listing(opts tenancy.ListOptions) ([]tenancy.Status, error) {
	if opts.After != "" && !IsTenantID(opts.After) { // a slug cursor also looks like an id
		return nil, badCursor(opts.After)
	}
	if opts.Parent != "" && !IsTenantID(opts.Parent) {
		return nil, nil
	}
	for _, c := range []byte(opts.Prefix) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return nil, nil
		}
	}
	var statuses []tenancy.Status
	for _, status := range tenancy.Statuses() {
		if opts.Includes(status) {
			statuses = append(statuses, status)
		}
	}
	return statuses, nil
}

// Names returns the keys of t in the shared namespace, each once: id, slug, aliases, and the former
// ones that nobody else may have yet.
func Names(t tenancy.Tenant) []string {
	names := make([]string, 0, 2+len(t.Aliases)+len(t.Former))
	seen := make(map[string]bool, cap(names))
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			names = append(names, key)
		}
	}
	for _, ref := range t.Names() {
		add(ref.Key())
	}
	for _, name := range t.Former {
		add(name.Key)
	}
	return names
}

// Without returns the strings of a that are not in b.
func Without(a, b []string) []string {
	drop := make(map[string]bool, len(b))
	for _, s := range b {
		drop[s] = true
	}
	var rest []string
	for _, s := range a {
		if !drop[s] {
			rest = append(rest, s)
		}
	}
	return rest
}

// Created fills the revision and the times of a new tenant. Times that the caller gave stay.
func Created(t tenancy.Tenant, now time.Time) tenancy.Tenant {
	t.Revision = 1
	if t.CreatedAt.IsZero() {
		t.CreatedAt = Time(now)
	}
	if t.UpdatedAt.IsZero() {
		t.UpdatedAt = t.CreatedAt
	}
	return t
}

// Updated fills what an update of old may not choose. UpdatedAt is the caller's when it is
// later than the stored one, else the store's own time.
func Updated(t, old tenancy.Tenant, now time.Time) tenancy.Tenant {
	t.Revision = old.Revision + 1
	t.CreatedAt = old.CreatedAt
	if !t.UpdatedAt.After(old.UpdatedAt) {
		t.UpdatedAt = Time(now)
	}
	return t
}

// Events checks events that are to be kept. An event without an ID, by which it is de-duplicated, or
// without a tenant, by which it is ordered, is refused.
func Events(events []tenancy.Event) error {
	for _, e := range events {
		if e.ID == "" {
			return &tenancy.InvalidError{
				Field: "event id", Value: "", Remedy: fmt.Sprintf("give the %s event a unique id", e.Type),
			}
		}
		for _, text := range []struct{ field, value string }{
			{"event id", e.ID}, {"event tenant id", e.TenantID},
		} {
			if err := checkKey(text.field, text.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// IsTenantID reports whether a tenant could have this id. A store need not be asked about
// one that could not.
func IsTenantID(id string) bool { return tenancy.CheckID(id) == nil }

// IsUserID reports whether a membership could name this user.
func IsUserID(id string) bool { return id != "" && checkText("user id", id, MaxKey) == nil }

// CheckUserID says why [IsUserID] is false.
func CheckUserID(id string) error { return checkKey("user id", id) }

// CheckConfigKey returns an error when key cannot name an override.
func CheckConfigKey(key string) error { return checkKey("configuration key", key) }

// CheckConfigValue returns an error when value, which may be nil for none, cannot be kept.
func CheckConfigValue(key string, value json.RawMessage) error {
	switch {
	case value == nil:
		return nil
	case len(value) > MaxValue:
		return &tenancy.InvalidError{
			Field: "value of " + key, Value: fmt.Sprintf("%d bytes", len(value)),
			Remedy: fmt.Sprintf("keep at most %d bytes", MaxValue),
		}
	case !json.Valid(value) || !utf8.Valid(value):
		return &tenancy.InvalidError{
			Field: "value of " + key, Value: shorten(string(value)), Remedy: "use JSON in UTF-8, or nil to remove it",
		}
	}
	return nil
}

// ConfigWrite returns w as stores keep it: the history's times in UTC and whole microseconds.
func ConfigWrite(w tenancy.ConfigWrite) (tenancy.ConfigWrite, error) {
	for key, value := range w.Values {
		if err := CheckConfigKey(key); err != nil {
			return w, err
		}
		if err := CheckConfigValue(key, value); err != nil {
			return w, err
		}
	}
	history := make([]tenancy.ConfigRecord, len(w.History))
	for i, r := range w.History {
		for _, err := range []error{
			CheckConfigKey(r.Key), CheckConfigValue(r.Key, r.Old), CheckConfigValue(r.Key, r.New), checkText("actor", r.By, MaxKey),
		} {
			if err != nil {
				return w, err
			}
		}
		if r.Time.IsZero() {
			return w, &tenancy.InvalidError{Field: "time of a record", Value: "", Remedy: "say when it was"}
		}
		r.Old, r.New, r.Time = slices.Clone(r.Old), slices.Clone(r.New), Time(r.Time)
		history[i] = r
	}
	w.History = history
	return w, Events(w.Events)
}

// Cursor is the place of a record in a history: the revision of its write and where it stood there.
type Cursor struct {
	Revision int64
	Position int
}

func (c Cursor) String() string { return fmt.Sprintf("%d.%d", c.Revision, c.Position) }

// ParseCursor reads what String wrote. "" is behind the newest record.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{Revision: math.MaxInt64}, nil
	}
	revision, position, _ := strings.Cut(s, ".")
	var c Cursor
	var err error
	if c.Revision, err = strconv.ParseInt(revision, 10, 64); err == nil {
		c.Position, err = strconv.Atoi(position)
	}
	if err != nil || c.String() != s {
		return c, badCursor(s)
	}
	return c, nil
}

func badCursor(s string) error {
	return &tenancy.InvalidError{Field: "cursor", Value: shorten(s), Remedy: "give the Next of the page before, or nothing"}
}

// Member returns m as stores keep it: a copy, no empty slice, times in UTC and whole microseconds.
func Member(m tenancy.Member) (tenancy.Member, error) {
	var roles []string
	for _, role := range m.Roles {
		if !utf8.ValidString(role) || len(role) > MaxText {
			return m, &tenancy.InvalidError{
				Field: "role", Value: shorten(role), Remedy: fmt.Sprintf("use valid UTF-8 of at most %d bytes", MaxText),
			}
		}
		roles = append(roles, role)
	}
	if err := checkText("reason", m.Reason, MaxText); err != nil {
		return m, err
	}
	if err := checkText("actor", m.GrantedBy, MaxKey); err != nil {
		return m, err
	}
	m.Roles, m.Expires, m.GrantedAt = roles, Time(m.Expires), Time(m.GrantedAt)
	return m, nil
}

// MemberListing returns an error when a listing is not of one tenant or of one user, or has a cursor
// that no page gave; and false when nothing can match.
func MemberListing(opts tenancy.MemberListOptions) (bool, error) {
	if (opts.TenantID == "") == (opts.UserID == "") {
		return false, &tenancy.InvalidError{
			Field: "listing", Value: shorten(opts.TenantID + opts.UserID), Remedy: "give either a tenant or a user",
		}
	}
	if opts.TenantID != "" {
		if opts.After != "" && !IsUserID(opts.After) {
			return false, badCursor(opts.After)
		}
		return IsTenantID(opts.TenantID), nil
	}
	if opts.After != "" && !IsTenantID(opts.After) {
		return false, badCursor(opts.After)
	}
	return IsUserID(opts.UserID), nil
}

// Time returns t in UTC, cut to whole microseconds, which every engine can keep. The zero
// time stays zero.
func Time(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func checkKey(field, s string) error {
	if s == "" {
		return &tenancy.InvalidError{Field: field, Value: s, Remedy: "it must not be empty"}
	}
	return checkText(field, s, MaxKey)
}

func checkText(field, s string, limit int) error {
	if len(s) > limit || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return &tenancy.InvalidError{
			Field: field, Value: shorten(s),
			Remedy: fmt.Sprintf("use valid UTF-8 without NUL of at most %d bytes", limit),
		}
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// CheckSink returns an error when name cannot name a sink of events.
func CheckSink(name string) error { return checkName("sink", name) }

// CheckOwner returns an error when a process cannot be called so.
func CheckOwner(name string) error { return checkName("owner of a sink", name) }

func checkName(field, s string) error {
	if s == "" || len(s) > MaxSink || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return &tenancy.InvalidError{
			Field: field, Value: shorten(s), Remedy: fmt.Sprintf("use 1 to %d bytes of valid UTF-8 without NUL", MaxSink),
		}
	}
	return nil
}

// HoldChange returns an error when the change cannot be kept.
func HoldChange(c tenancy.HoldChange) error {
	if c.From == nil && c.To == nil || c.From != nil && c.To != nil && c.From.TenantID != c.To.TenantID {
		return &tenancy.InvalidError{Field: "change of a hold", Value: HoldTenant(c), Remedy: "give From, To or both, of one tenant"}
	}
	if c.To == nil {
		return nil
	}
	if err := checkText("event tenant id", c.To.TenantID, MaxKey); err != nil {
		return err
	}
	return checkText("error of a hold", c.To.Error, MaxText)
}

// HoldTenant returns the tenant whose hold changes.
func HoldTenant(c tenancy.HoldChange) string {
	switch {
	case c.To != nil:
		return c.To.TenantID
	case c.From != nil:
		return c.From.TenantID
	default:
		return ""
	}
}

// SameHold reports whether two holds, nil for none, are the same to a change.
func SameHold(a, b *tenancy.Hold) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Position == b.Position && a.Attempts == b.Attempts && Time(a.Due).Equal(Time(b.Due))
}
