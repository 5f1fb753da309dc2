package tenancy_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

// only compiles one resolver as a chain does and asks it.
func only(t testing.TB, r tenancy.Resolver, req tenancy.Request) (tenancy.Ref, error) {
	t.Helper()
	chain, err := tenancy.NewChain(tenancy.ResolutionConfig{}, r)
	if err != nil {
		t.Fatal(err)
	}
	answers := chain.Resolve(t.Context(), &req, nil)
	return answers[0].Ref, answers[0].Err
}

func TestB01SubdomainIsExactlyOneLabelUnderItsDomain(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]tenancy.Ref{
		"acme.app.com":            tenancy.BySlug("acme"),
		"ACME.App.Com":            tenancy.BySlug("acme"),
		"acme.app.com:8443":       tenancy.BySlug("acme"),
		"acme.app.com.":           tenancy.BySlug("acme"),
		"acme.app.com.:80":        tenancy.BySlug("acme"),
		"app.com":                 {},
		".app.com":                {},
		"a.b.app.com":             {},
		"evilapp.com":             {},
		"victim.attacker.org":     {},
		"acme.app.com.evil.org":   {},
		"www.app.com":             {}, // B3
		"API.app.com":             {},
		"[::1]:8080":              {},
		"[fe80::1%25acme.app.com": {},
		"127.0.0.1":               {},
		"":                        {},
		"ac_me.app.com":           tenancy.BySlug("?"),
		"ac\x00me.app.com":        tenancy.BySlug("?"),
		"xn--.app.com":            tenancy.BySlug("xn--"),
	} {
		if got, err := only(t, tenancy.Subdomain{Of: "app.com"}, tenancy.Request{Host: host}); err != nil || got != want {
			t.Errorf("host %q: %v, %v; want %v", host, got, err, want)
		}
	}
}

func TestB06PathIsAnchoredAndHasOneReading(t *testing.T) {
	t.Parallel()
	ambiguous := tenancy.ErrAmbiguous
	for _, tc := range []struct {
		path string
		want tenancy.Ref
		err  error
	}{
		{"/tenants/acme/notes", tenancy.ByIDOrSlug("acme"), nil},
		{"/tenants/acme", tenancy.ByIDOrSlug("acme"), nil},
		{"/tenants/acme/", tenancy.ByIDOrSlug("acme"), nil},
		{"/tenants/acme/files/a%2Fb", tenancy.ByIDOrSlug("acme"), nil},
		{"/tenants/", tenancy.Ref{}, nil},
		{"/tenants", tenancy.Ref{}, nil},
		{"/", tenancy.Ref{}, nil},
		{"", tenancy.Ref{}, nil},
		{"*", tenancy.Ref{}, nil},
		{"/x/tenants/evil/", tenancy.Ref{}, nil},
		{"/tenantsx/acme/", tenancy.Ref{}, nil},
		{"/.well-known/tenants/acme", tenancy.Ref{}, nil},
		{"/tenants/a b/", tenancy.BySlug("?"), nil},
		{"/tenants//acme/", tenancy.Ref{}, ambiguous},
		{"//tenants/acme/", tenancy.Ref{}, ambiguous},
		{"/tenants/acme/../globex/notes", tenancy.Ref{}, ambiguous},
		{"/tenants/./acme/", tenancy.Ref{}, ambiguous},
		{"/x/../tenants/acme/", tenancy.Ref{}, ambiguous},
		{"/tenants/%2e%2e/tenants/acme/", tenancy.Ref{}, ambiguous},
		{"/tenants/a%2Fb/", tenancy.Ref{}, ambiguous},
		{"/tenants/%61cme/", tenancy.Ref{}, ambiguous},
		{"/%74enants/acme/", tenancy.Ref{}, ambiguous},
		{"/tenants/acme%252F/", tenancy.Ref{}, ambiguous},
		{`/tenants/acme\..\globex/`, tenancy.Ref{}, ambiguous},
		{"/tenants/acme/%zz", tenancy.Ref{}, ambiguous},
	} {
		got, err := only(t, tenancy.Path{}, tenancy.Request{Path: tc.path})
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("path %q: %v, %v; want %v, %v", tc.path, got, err, tc.want, tc.err)
		}
	}
}

func TestPathPatternMayHaveSegmentsBehindTheTenant(t *testing.T) {
	t.Parallel()
	r := tenancy.Path{Pattern: "/api/v1/{org}/app/"}
	for p, want := range map[string]tenancy.Ref{
		"/api/v1/acme/app/x": tenancy.ByIDOrSlug("acme"),
		"/api/v1/acme/app":   tenancy.ByIDOrSlug("acme"),
		"/api/v1/acme/apple": {},
		"/api/v1/acme/":      {},
		"/api/v1/acme":       {},
	} {
		if got, err := only(t, r, tenancy.Request{Path: p}); got != want || err != nil {
			t.Errorf("path %q: %v, %v; want %v", p, got, err, want)
		}
	}
}

func TestB07HeaderWithTwoValuesIsAmbiguous(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []string
		want   tenancy.Ref
		err    error
	}{
		{[]string{"acme"}, tenancy.ByIDOrSlug("acme"), nil},
		{[]string{" acme "}, tenancy.ByIDOrSlug("acme"), nil},
		{[]string{"acme", "ACME"}, tenancy.ByIDOrSlug("ACME"), nil},
		{[]string{"acme", ""}, tenancy.ByIDOrSlug("acme"), nil},
		{[]string{""}, tenancy.Ref{}, nil},
		{nil, tenancy.Ref{}, nil},
		{[]string{"acme", "globex"}, tenancy.Ref{}, tenancy.ErrAmbiguous},
		{[]string{"acme", "a b"}, tenancy.Ref{}, tenancy.ErrAmbiguous},
		{[]string{"acme,globex"}, tenancy.BySlug("?"), nil},
		{[]string{"ac\x00me"}, tenancy.BySlug("?"), nil},
		{[]string{strings.Repeat("a", 10<<10)}, tenancy.BySlug("?"), nil},
		{[]string{"аcme"}, tenancy.BySlug("xn--cme-5cd"), nil}, // a Cyrillic а: not acme
	} {
		got, err := only(t, tenancy.Header{}, tenancy.Request{Header: http.Header{"X-Tenant-Id": tc.values}})
		if got.Key() != tc.want.Key() || got.IsZero() != tc.want.IsZero() || !errors.Is(err, tc.err) {
			t.Errorf("values %.40q: %v, %v; want %v, %v", tc.values, got, err, tc.want, tc.err)
		}
	}
}

func TestClaimMayBeTextOrAWholeNumber(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		claim any
		want  tenancy.Ref
		err   error
	}{
		{"acme", tenancy.ByIDOrSlug("acme"), nil},
		{json.Number("42"), tenancy.ByIDOrSlug("42"), nil},
		{float64(42), tenancy.ByIDOrSlug("42"), nil},
		{42, tenancy.ByIDOrSlug("42"), nil},
		{int64(42), tenancy.ByIDOrSlug("42"), nil},
		{"", tenancy.Ref{}, nil},
		{nil, tenancy.Ref{}, nil},
		{4.5, tenancy.Ref{}, tenancy.ErrAmbiguous},
		{1e300, tenancy.Ref{}, tenancy.ErrAmbiguous},
		{[]any{"acme"}, tenancy.Ref{}, tenancy.ErrAmbiguous},
		{true, tenancy.Ref{}, tenancy.ErrAmbiguous},
	} {
		got, err := only(t, tenancy.JWTClaim{}, tenancy.Request{
			Identity: tenancy.Identity{UserID: "u", Claims: map[string]any{"tenant_id": tc.claim}},
		})
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("claim %v: %v, %v; want %v, %v", tc.claim, got, err, tc.want, tc.err)
		}
	}
}

func TestClaimOfAnotherIssuerIsIgnored(t *testing.T) {
	t.Parallel()
	r := tenancy.JWTClaim{Key: "org_id", Alias: "auth0", Issuer: "https://good/"}
	claims := map[string]any{"org_id": "org_1"}
	if got, _ := only(t, r, tenancy.Request{Identity: tenancy.Identity{Issuer: "https://good/", Claims: claims}}); got != tenancy.Alias("auth0", "org_1") {
		t.Errorf("the right issuer: %v", got)
	}
	if got, _ := only(t, r, tenancy.Request{Identity: tenancy.Identity{Issuer: "https://evil/", Claims: claims}}); !got.IsZero() {
		t.Errorf("another issuer: %v", got)
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"acme.app.com", "a.b.app.com", "[::1]:80", "acme.app.com.:1", ":", ".", "ü.app.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		ref, err := only(t, tenancy.Subdomain{Of: "app.com"}, tenancy.Request{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		if ref.Kind() == tenancy.RefSlug && !strings.Contains(strings.ToLower(host), ".app.com") {
			t.Fatalf("host %q named %v", host, ref)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/tenants/acme/x", "/tenants/%2e%2e/a", "//tenants/a", "/tenants/a/../b", "%", `\tenants\a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		ref, err := only(t, tenancy.Path{}, tenancy.Request{Path: p})
		if err != nil || ref.IsZero() || ref.Kind() == tenancy.RefMalformed {
			return
		}
		// Whatever a router does with the path, it must see the same tenant.
		decoded, err := url.PathUnescape(p)
		if err != nil {
			t.Fatalf("path %q named %v although it cannot be decoded", p, ref)
		}
		for _, reading := range []string{p, decoded, path.Clean(p), path.Clean(decoded)} {
			segments := strings.Split(reading, "/")
			if len(segments) < 3 || segments[1] != "tenants" || tenancy.ByIDOrSlug(segments[2]) != ref {
				t.Fatalf("path %q named %v, read as %q it does not", p, ref, reading)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("acme", "ACME")
	f.Add("a\x00", "")
	f.Add("ü", "xn--tda")
	f.Fuzz(func(t *testing.T, one, two string) {
		ref, err := only(t, tenancy.Header{}, tenancy.Request{Header: http.Header{"X-Tenant-Id": {one, two}}})
		switch {
		case err != nil:
			if !errors.Is(err, tenancy.ErrAmbiguous) {
				t.Fatal(err)
			}
		case !ref.IsZero() && strings.TrimSpace(one) != "" && strings.TrimSpace(two) != "":
			if tenancy.ByIDOrSlug(one).Key() != tenancy.ByIDOrSlug(two).Key() {
				t.Fatalf("%q and %q named %v", one, two, ref)
			}
		}
	})
}
