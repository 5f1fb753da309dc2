package tenancy_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

func TestRefsAreCanonicalFromTheStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		ref  tenancy.Ref
		want string
		key  string
	}{
		{"a slug is folded", tenancy.BySlug(" ACME "), "slug:acme", "acme"},
		{"an IDN slug becomes ASCII", tenancy.BySlug("Bücher"), "slug:xn--bcher-kva", "xn--bcher-kva"},
		{"a full-width slug is folded", tenancy.BySlug("ａｃｍｅ"), "slug:acme", "acme"},
		{"an id keeps its case, its key does not", tenancy.ByID("org_2Ab"), "id:org_2Ab", "org_2ab"},
		{"a UUID is an id", tenancy.ByID("0197a2b4-7c1e-7000-8000-0123456789ab"), "id:0197a2b4-7c1e-7000-8000-0123456789ab", "0197a2b4-7c1e-7000-8000-0123456789ab"},
		{"an id or slug may be either", tenancy.ByIDOrSlug("Acme"), "id-or-slug:Acme", "acme"},
		{"an alias keeps its value", tenancy.Alias("stripe", "cus_Ab"), "stripe:cus_Ab", "stripe:cus_Ab"},
		{"a domain is folded", tenancy.Alias("domain", "Shop.Example."), "domain:shop.example", "domain:shop.example"},
		{"an empty slug", tenancy.BySlug(""), "malformed", ""},
		{"a slug of 64", tenancy.BySlug(strings.Repeat("a", 64)), "malformed", ""},
		{"a slug with an underscore", tenancy.BySlug("a_b"), "malformed", ""},
		{"a slug with a dot", tenancy.BySlug("a.b"), "malformed", ""},
		{"a slug that begins with a hyphen", tenancy.BySlug("-a"), "malformed", ""},
		{"a slug with NUL", tenancy.BySlug("a\x00b"), "malformed", ""},
		{"an id of two dots", tenancy.ByID(".."), "malformed", ""},
		{"an id with a slash", tenancy.ByID("a/b"), "malformed", ""},
		{"an id with a colon", tenancy.ByID("stripe:cus"), "malformed", ""},
		{"10 kB", tenancy.ByIDOrSlug(strings.Repeat("a", 10_000)), "malformed", ""},
		{"10 kB of umlauts", tenancy.BySlug(strings.Repeat("ü", 10_000)), "malformed", ""},
		{"an alias kind that is none", tenancy.Alias("id", "x"), "malformed", ""},
		{"an alias with a space", tenancy.Alias("stripe", "a b"), "malformed", ""},
		{"nobody", tenancy.Ref{}, "none", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tc.ref.String(); got != tc.want {
				t.Errorf("String() = %q, want %q", got, tc.want)
			}
			if got := tc.ref.Key(); got != tc.key {
				t.Errorf("Key() = %q, want %q", got, tc.key)
			}
		})
	}
}

func TestRefMatchesOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	acme := tenancy.Tenant{ID: "T1", Slug: "acme", Aliases: []tenancy.Ref{tenancy.Alias("stripe", "cus_1")}}
	for ref, want := range map[tenancy.Ref]bool{
		tenancy.ByID("t1"):               true,
		tenancy.ByID("acme"):             false, // B14: a slug is no id
		tenancy.BySlug("acme"):           true,
		tenancy.BySlug("t1"):             false,
		tenancy.ByIDOrSlug("T1"):         true,
		tenancy.ByIDOrSlug("ACME"):       true,
		tenancy.Alias("stripe", "cus_1"): true,
		tenancy.Alias("stripe", "CUS_1"): false,
		tenancy.Alias("auth0", "cus_1"):  false,
		{}:                               false,
	} {
		if got := ref.Matches(acme); got != want {
			t.Errorf("%s matches: %v, want %v", ref, got, want)
		}
	}
}

func TestRefsSurviveJSON(t *testing.T) {
	t.Parallel()
	for _, want := range []tenancy.Ref{
		{}, tenancy.ByID("T1"), tenancy.BySlug("acme"), tenancy.ByIDOrSlug("x"), tenancy.Alias("stripe", "cus:1"),
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got tenancy.Ref
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s came back as %v, %v", text, got, err)
		}
	}
	var r tenancy.Ref
	if err := json.Unmarshal([]byte(`"slug:a b"`), &r); err == nil {
		t.Error("a malformed reference was accepted")
	}
}

func TestInvalidNamesSayWhatIsAllowed(t *testing.T) {
	t.Parallel()
	_, slugErr := tenancy.CanonicalSlug("a b")
	for _, err := range []error{slugErr, tenancy.CheckID("a/b"), tenancy.CheckAlias(tenancy.ByID("x"))} {
		var invalid *tenancy.InvalidError
		if !errors.As(err, &invalid) || invalid.Remedy == "" {
			t.Errorf("%v names no remedy", err)
		}
	}
}

func FuzzSlug(f *testing.F) {
	for _, s := range []string{"acme", " ACME ", "bücher", "xn--bcher-kva", "a\x00b", "-a", strings.Repeat("ü", 70), "ａｃｍｅ", "a.b", "İ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		slug, err := tenancy.CanonicalSlug(s)
		if err != nil {
			if tenancy.BySlug(s).Kind() != tenancy.RefMalformed {
				t.Fatalf("BySlug accepts %q, CanonicalSlug does not", s)
			}
			return
		}
		if len(slug) > 63 || strings.ContainsFunc(slug, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			t.Fatalf("%q became %q", s, slug)
		}
		if again, err := tenancy.CanonicalSlug(slug); err != nil || again != slug {
			t.Fatalf("%q is not stable: %q, %v", slug, again, err)
		}
		if ref := tenancy.ByIDOrSlug(slug); ref.Key() != slug {
			t.Fatalf("by id or slug, %q is %q", slug, ref.Key())
		}
	})
}
