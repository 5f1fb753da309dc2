package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

// The tests of this file are named after the rows of the list of known leaks: B1 is the first
// way in which comparable libraries let a stranger in while resolving and binding.

func TestB01AHostOutsideOfTheDomainNamesNobody(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	for host, want := range map[string]answer{
		"acme.app.com":              bound("acme"),
		"acme.app.com:8443":         bound("acme"),
		"ACME.App.COM":              bound("acme"),
		"acme.app.com.":             bound("acme"),
		"acme.app.com.:80":          bound("acme"),
		"acme.attacker.org":         noTenant,
		"acme.evilapp.com":          noTenant,
		"acmeapp.com":               noTenant,
		"acme.app.com.attacker.org": noTenant,
		"x.acme.app.com":            noTenant,
		"acme.globex.app.com":       noTenant,
		".app.com":                  noTenant,
		"app.com":                   noTenant,
		"[2001:db8::1]:80":          noTenant,
		"[acme.app.com]":            noTenant,
		"192.0.2.1:80":              noTenant,
		"globex.app.com":            outsider,
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			want.check(t, ask{host: host, token: "alice"}.of(h))
		})
	}
}

func TestB02AVerifiedClaimWinsOverWhateverTheClientAdds(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	for name, a := range map[string]ask{
		"header":          {tenant: []string{"acme"}},
		"two headers":     {tenant: []string{"acme", "hooli"}},
		"subdomain":       {host: "acme.app.com"},
		"path":            {path: "/tenants/acme/notes"},
		"query parameter": {path: "/?tenant_id=acme&X-Tenant-ID=acme&tenant=acme"},
		"all":             {tenant: []string{"acme"}, host: "acme.app.com", path: "/tenants/acme/?tenant_id=acme"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.token = "bob:globex"
			bound("globex").check(t, a.of(h))
			a.token = "carol:t-globex" // also for somebody who might have the other one
			bound("globex").check(t, a.of(h))
		})
	}
	t.Run("a query parameter alone names nobody", func(t *testing.T) {
		t.Parallel()
		noTenant.check(t, ask{path: "/?tenant_id=acme", token: "alice"}.of(h))
	})
}

func TestB03ReservedNamesAreNoTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *tenancy.Config) { c.Lifecycle.ReservedSlugs = []string{"billing"} })
	for _, name := range []string{"www", "api"} { // as if somebody had written to the table by hand
		w.create(t, tenancy.Tenant{ID: "t-" + name, Slug: name, Name: name, Status: tenancy.StatusActive})
		w.join(t, "alice", "t-"+name)
	}
	h := w.guarded()
	for _, host := range []string{"www.app.com", "WWW.app.com", "api.app.com:443", "pg_catalog.app.com"} {
		noTenant.check(t, ask{host: host, token: "alice"}.of(h))
	}
	for _, name := range []string{"pg_catalog", "information_schema", "pg_toast", "postgres"} {
		outsider.check(t, ask{tenant: []string{name}, token: "alice"}.of(h))
		outsider.check(t, ask{path: "/tenants/" + name + "/", token: "alice"}.of(h))
	}

	manager, err := tenancy.New(tenancy.Config{Store: w.store, Lifecycle: tenancy.LifecycleConfig{ReservedSlugs: []string{"billing"}}})
	if err != nil {
		t.Fatal(err)
	}
	create := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := manager.Lifecycle().Create(r.Context(), tenancy.CreateTenant{Slug: r.URL.Query().Get("slug"), Name: "x"})
		tenanthttp.WriteError(w, r, err)
	})
	for _, slug := range []string{"www", "WWW", "pg-catalog", "admin", "information-schema", "billing"} {
		refused(409, tenancy.CodeSlugConflict).check(t, ask{path: "/?slug=" + slug}.of(create))
	}
	for _, slug := range []string{"pg_catalog", "information_schema"} {
		if rec := (ask{path: "/?slug=" + slug}).of(create); rec.Code != 409 && rec.Code != 422 {
			t.Errorf("%s: status %d", slug, rec.Code)
		}
	}
}

func TestB04NoTenantIsNeverAPassAndNeverAServerError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reached := false
	h := w.wrap(tenanthttp.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })))
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		if rec := (ask{method: method}).of(h); rec.Code != 401 || rec.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s by nobody: status %d, %v", method, rec.Code, rec.Header())
		}
		if rec := (ask{method: method, token: "alice"}).of(h); rec.Code != 400 || rec.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%s by a user: status %d", method, rec.Code)
		}
	}
	if reached {
		t.Error("the handler ran without a tenant")
	}
}

func TestB05ASlugAndAnIDBothFindTheTenant(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	for _, name := range []string{"acme", "t-acme", "ACME", " acme "} {
		bound("acme").check(t, ask{tenant: []string{name}, token: "alice"}.of(h))
		bound("acme").check(t, ask{token: "alice:" + name}.of(h))
	}
	for _, name := range []string{"acme", "t-acme", "Acme"} {
		bound("acme").check(t, ask{path: "/tenants/" + name + "/notes", token: "alice"}.of(h))
	}
	bound("acme").check(t, ask{host: "acme.app.com", token: "alice"}.of(h))
	outsider.check(t, ask{host: "t-acme.app.com", token: "alice"}.of(h)) // a subdomain is a slug
}

func TestB06APathIsAnchoredAndHasOneReading(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	ambiguous := noTenant // the same code and status
	for path, want := range map[string]answer{
		"/tenants/acme":                  bound("acme"),
		"/tenants/acme/":                 bound("acme"),
		"/tenants/acme/notes/7?x=/../":   bound("acme"),
		"/tenants/acme/a%20b":            bound("acme"),
		"/x/tenants/acme/":               noTenant,
		"/tenants":                       noTenant,
		"/tenantsacme/":                  noTenant,
		"/TENANTS/acme/":                 noTenant,
		"//tenants/acme/":                ambiguous,
		"/tenants//acme/":                ambiguous,
		"/tenants/globex/../acme/":       ambiguous,
		"/tenants/globex/%2e%2e/acme/":   ambiguous,
		"/tenants/globex/..%2facme/":     ambiguous,
		"/tenants/acme%2Fnotes":          ambiguous,
		"/tenants/%61cme/":               ambiguous,
		"/%74enants/acme/":               ambiguous,
		"/tenants/./acme/":               ambiguous,
		`/tenants/globex/..%5c..%5cacme`: ambiguous,
		"/tenants/acme%00/":              ambiguous,
		"/x/../tenants/acme/":            ambiguous,
		"/tenants/globex/":               outsider,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			want.check(t, ask{path: path, token: "alice"}.of(h))
		})
	}
}

func TestB07HostileHeadersNameNobody(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	for name, c := range map[string]struct {
		values []string
		want   answer
	}{
		"two values that differ":   {[]string{"acme", "globex"}, noTenant},
		"slug and id":              {[]string{"acme", "t-acme"}, noTenant},
		"one value twice":          {[]string{"acme", "acme"}, bound("acme")},
		"one value twice, in caps": {[]string{"acme", "ACME"}, bound("acme")},
		"empty and one value":      {[]string{"", "acme"}, bound("acme")},
		"a list":                   {[]string{"acme,globex"}, outsider},
		"a list of one":            {[]string{"acme,"}, outsider},
		"spaces inside":            {[]string{"ac me"}, outsider},
		"NUL at the end":           {[]string{"acme\x00"}, outsider},
		"NUL before another":       {[]string{"acme\x00globex"}, outsider},
		"line feed":                {[]string{"acme\nX-Tenant-Id: globex"}, outsider},
		"10 kB":                    {[]string{strings.Repeat("a", 10<<10)}, outsider},
		"10 kB of unicode":         {[]string{strings.Repeat("ä", 5<<10)}, outsider},
		"Cyrillic a":               {[]string{"аcme"}, outsider},
		"zero width joiner":        {[]string{"ac\u200dme"}, outsider},
		"soft hyphen":              {[]string{"ac\u00adme"}, bound("acme")}, // IDNA ignores it
		"not UTF-8":                {[]string{"acme\xff"}, outsider},
		"SQL":                      {[]string{"acme' OR '1'='1"}, outsider},
		"dots":                     {[]string{"../acme"}, outsider},
		"only spaces":              {[]string{"   "}, noTenant},
		"1 000 values":             {make([]string, 1000), noTenant},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.check(t, ask{tenant: c.values, token: "alice"}.of(h))
		})
	}
}

// outsiders are all ways in which somebody without a right names a tenant, or none.
func outsiders() map[string]ask {
	asks := map[string]ask{}
	for _, token := range []string{"mallory", ""} {
		for _, name := range []string{"acme", "globex", "initech", "hooli", "umbrella", "unknown", "-malformed-"} {
			asks[fmt.Sprintf("%q %s by header", token, name)] = ask{token: token, tenant: []string{name}}
			asks[fmt.Sprintf("%q %s by subdomain", token, name)] = ask{token: token, host: name + ".app.com"}
			asks[fmt.Sprintf("%q %s by path", token, name)] = ask{token: token, path: "/tenants/" + name + "/notes"}
		}
		asks[fmt.Sprintf("%q an id by header", token)] = ask{token: token, tenant: []string{"t-acme"}}
		asks[fmt.Sprintf("%q an id by path", token)] = ask{token: token, path: "/tenants/t-initech"}
	}
	asks["alice globex by header"] = ask{token: "alice", tenant: []string{"globex"}}
	asks["alice initech by path"] = ask{token: "alice", path: "/tenants/initech/"}
	asks["a claim that names nobody's tenant"] = ask{token: "alice:unknown"}
	return asks
}

func TestB11OutsidersGetOneAnswerToTheByte(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newWorld(t).guarded())
	defer server.Close()
	address := server.Listener.Addr().String()
	want := onTheWire(t, address, ask{token: "mallory", tenant: []string{"unknown"}})
	if !strings.HasPrefix(want, "HTTP/1.1 403 ") {
		t.Fatal(want)
	}
	head, body, _ := strings.Cut(want, "\r\n\r\n")
	if body == "" {
		t.Fatal("no body")
	}
	for name, a := range outsiders() {
		for range 2 { // cold caches and warm ones
			for _, a.method = range []string{"GET", "POST", "HEAD"} {
				want := want
				if a.method == "HEAD" {
					want = head + "\r\n\r\n"
				}
				if got := onTheWire(t, address, a); got != want {
					t.Errorf("%s %s:\n%s\nwant\n%s", a.method, name, got, want)
				}
			}
		}
	}
}

func TestB11OutsidersCauseEqualNumbersOfCalls(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"mallory", "alice", ""} {
		for _, source := range []string{"header", "subdomain", "path"} {
			t.Run(fmt.Sprintf("%q by %s", token, source), func(t *testing.T) {
				t.Parallel()
				count := func(name string) string {
					w := newWorld(t)
					h := w.guarded()
					a := ask{token: token}
					switch source {
					case "header":
						a.tenant = []string{name}
					case "subdomain":
						a.host = name + ".app.com"
					default:
						a.path = "/tenants/" + name
					}
					outsider.check(t, a.of(h))
					lookups, members := w.calls()
					outsider.check(t, a.of(h))
					againLookups, againMembers := w.calls()
					return fmt.Sprint(lookups, " + ", members, ", then ", againLookups, " + ", againMembers)
				}
				want := "1 + 1, then 0 + 0"
				if token == "" {
					want = "1 + 0, then 0 + 0"
				}
				for _, name := range []string{"globex", "initech", "hooli", "umbrella", "unknown"} {
					if got := count(name); got != want {
						t.Errorf("%s: %s lookups and membership questions, want %s", name, got, want)
					}
				}
			})
		}
	}
}

func TestB11AnOutageDoesNotTellWhichTenantsAreCached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.guarded()
	bound("acme").check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h))
	w.down.Store(true)
	bound("acme").check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h)) // from the cache
	unavailable.check(t, ask{token: "bob", tenant: []string{"globex"}}.of(h))
	for _, name := range []string{"acme", "globex", "unknown"} {
		outsider.check(t, ask{tenant: []string{name}}.of(h))
		unavailable.check(t, ask{token: "mallory", tenant: []string{name}}.of(h))
	}
	unavailable.check(t, ask{token: ":globex"}.of(h)) // a machine's token: a claim and no user
}

func TestB11AnOutageDoesNotTellWhomAnOutsiderAskedForBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.guarded()
	names := []string{"acme", "initech", "unknown"}
	for _, name := range names {
		outsider.check(t, ask{token: "mallory", tenant: []string{name}}.of(h))
	}
	w.tn.Validator().Invalidate("t-globex") // another tenant changes, which ends what is known of free names
	w.down.Store(true)
	for _, name := range names {
		outsider.check(t, ask{token: "mallory", tenant: []string{name}}.of(h))
	}
}

func TestB11MembersLearnTheStateOfTheirTenant(t *testing.T) {
	t.Parallel()
	h := newWorld(t).guarded()
	for slug, code := range map[string]tenancy.Code{
		"initech": tenancy.CodeSuspended, "hooli": tenancy.CodeInactive, "umbrella": tenancy.CodeProvisioning,
	} {
		for _, a := range []ask{
			{token: "dave", tenant: []string{slug}},
			{token: "dave", host: slug + ".app.com"},
			{token: "dave", path: "/tenants/" + slug + "/"},
			{token: "dave:" + slug},
			{token: "dave:t-" + slug},
		} {
			refused(403, code).check(t, a.of(h))
		}
	}
}

// query stands for everything that touches data: it asks for the scope, as isolation does.
func query(ctx context.Context) (string, error) {
	scope, err := tenancy.ScopeOf(ctx)
	if err != nil {
		return "", err
	}
	return scope.Tenant.Slug, nil
}

func TestB13APublicRouteHasATenantToGreetAndNoneForData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	greet := w.wrap(tenanthttp.Public(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		slug, err := query(r.Context())
		if !errors.Is(err, tenancy.ErrUnverified) {
			t.Errorf("data of %q, error %v, want ErrUnverified", slug, err)
		}
		if _, err := tenancy.Require(r.Context()); !errors.Is(err, tenancy.ErrUnverified) {
			t.Errorf("Require: %v, want ErrUnverified", err)
		}
		if slug, err := query(tenancy.AllowUnverified(r.Context(), "logo on the login page")); slug != "acme" || err != nil {
			t.Errorf("AllowUnverified: %q, %v", slug, err)
		}
		whoami(rw, r)
	})))
	for _, token := range []string{"", "mallory", "bad"} {
		rec := ask{token: token, host: "acme.app.com"}.of(greet)
		if got := rec.Body.String(); !strings.HasPrefix(got, "acme by subdomain") || !strings.HasSuffix(got, "verified false") {
			t.Errorf("token %q: %s", token, got)
		}
	}
	unguarded := w.wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if slug, err := query(r.Context()); !errors.Is(err, tenancy.ErrNoTenant) {
			t.Errorf("a route without a guard: data of %q, error %v", slug, err)
		}
		whoami(rw, r)
	}))
	if got := (ask{host: "acme.app.com"}).of(unguarded).Body.String(); got != "nobody" {
		t.Errorf("a route without a guard sees %s", got)
	}
}

func TestB13AGuardBelowPublicStillRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.wrap(tenanthttp.Public(tenanthttp.Guard(whoami)))
	outsider.check(t, ask{host: "acme.app.com"}.of(h))
	outsider.check(t, ask{host: "acme.app.com", token: "mallory"}.of(h))
	bound("acme").check(t, ask{host: "acme.app.com", token: "alice"}.of(h))
	allowed := w.wrap(tenanthttp.Public(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		tenanthttp.Guard(whoami).ServeHTTP(rw, r.WithContext(tenancy.AllowUnverified(r.Context(), "a logo")))
	})))
	outsider.check(t, ask{host: "acme.app.com"}.of(allowed))
}

func TestB13APublicRouteGreetsActiveTenantsOnly(t *testing.T) {
	t.Parallel()
	h := newWorld(t).wrap(tenanthttp.Public(whoami))
	for _, slug := range []string{"initech", "hooli", "umbrella", "unknown"} {
		for _, token := range []string{"", "mallory", "dave", "bad"} {
			if got := (ask{host: slug + ".app.com", token: token}).of(h).Body.String(); got != "nobody" {
				t.Errorf("%s, token %q: %s", slug, token, got)
			}
		}
	}
}

func TestB15AForwardedHostCountsFromATrustedProxyOnly(t *testing.T) {
	t.Parallel()
	forwarded := func(values ...string) http.Header { return http.Header{"X-Forwarded-Host": values} }
	acme := forwarded("acme.app.com")
	for name, c := range map[string]struct {
		proxies []string
		a       ask
		want    answer
	}{
		"no proxy is trusted":         {nil, ask{header: acme, remote: "10.0.0.1:999"}, noTenant},
		"loopback is not trusted":     {nil, ask{header: acme, remote: "127.0.0.1:999"}, noTenant},
		"another peer":                {[]string{"10.0.0.0/8"}, ask{header: acme, remote: "192.0.2.1:999"}, noTenant},
		"another peer, host kept":     {[]string{"10.0.0.0/8"}, ask{header: forwarded("globex.app.com"), host: "acme.app.com", remote: "192.0.2.1:9"}, bound("acme")},
		"a trusted prefix":            {[]string{"10.0.0.0/8"}, ask{header: acme, remote: "10.1.2.3:999"}, bound("acme")},
		"a trusted address":           {[]string{"10.1.2.3"}, ask{header: acme, remote: "10.1.2.3:999"}, bound("acme")},
		"its neighbour":               {[]string{"10.1.2.3"}, ask{header: acme, remote: "10.1.2.4:999"}, noTenant},
		"IPv4 in IPv6":                {[]string{"10.0.0.0/8"}, ask{header: acme, remote: "[::ffff:10.1.2.3]:999"}, bound("acme")},
		"IPv6 with a zone":            {[]string{"fe80::/10"}, ask{header: acme, remote: "[fe80::1%eth0]:999"}, bound("acme")},
		"no address":                  {[]string{"0.0.0.0/0", "::/0"}, ask{header: acme, remote: "@"}, noTenant},
		"the forged address counts":   {[]string{"10.0.0.0/8"}, ask{header: http.Header{"X-Forwarded-Host": {"acme.app.com"}, "X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"host=acme.app.com"}}, remote: "192.0.2.1:9"}, noTenant},
		"no forwarded host":           {[]string{"10.0.0.0/8"}, ask{host: "acme.app.com", remote: "10.1.2.3:999"}, bound("acme")},
		"an empty one":                {[]string{"10.0.0.0/8"}, ask{header: forwarded(" "), host: "acme.app.com", remote: "10.1.2.3:999"}, bound("acme")},
		"it replaces the host":        {[]string{"10.0.0.0/8"}, ask{header: acme, host: "globex.app.com", remote: "10.1.2.3:999"}, bound("acme")},
		"two header lines":            {[]string{"10.0.0.0/8"}, ask{header: forwarded("globex.app.com", "acme.app.com"), host: "acme.app.com", remote: "10.1.2.3:999"}, noTenant},
		"a list, the forgery first":   {[]string{"10.0.0.0/8"}, ask{header: forwarded("acme.app.com, globex.app.com"), remote: "10.1.2.3:999"}, noTenant},
		"a list, the forgery is last": {[]string{"10.0.0.0/8"}, ask{header: forwarded("globex.app.com,acme.app.com"), remote: "10.1.2.3:999"}, noTenant},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(cfg *tenancy.Config) { cfg.Resolution.TrustedProxies = c.proxies })
			c.a.token = "alice"
			c.want.check(t, c.a.of(w.guarded()))
		})
	}
}

func TestB16ACustomersOwnIssuerSpeaksForThatCustomerOnly(t *testing.T) {
	t.Parallel()
	h := newWorld(t, func(c *tenancy.Config) {
		c.Resolution.IssuerTenants = map[string]string{"idp.globex.example": "globex"}
	}).guarded()
	bound("globex").check(t, ask{token: "bob:globex:idp.globex.example"}.of(h))
	bound("globex").check(t, ask{token: "bob:t-globex:idp.globex.example"}.of(h))
	outsider.check(t, ask{token: "alice:acme:idp.globex.example"}.of(h))
	outsider.check(t, ask{token: "dave:initech:idp.globex.example"}.of(h)) // nor does it learn the state
	// Nor does it say who a user is: its "alice" need not be ours.
	outsider.check(t, ask{token: "alice::idp.globex.example", tenant: []string{"acme"}}.of(h))
	bound("acme").check(t, ask{token: "alice:acme:another"}.of(h))
}

func TestB17AnswersVaryByWhatDecided(t *testing.T) {
	t.Parallel()
	const all = "Authorization, Cookie, X-Tenant-Id"
	w := newWorld(t)
	for name, c := range map[string]struct {
		h    http.Handler
		a    ask
		want string
	}{
		"bound by claim":         {w.guarded(), ask{token: "alice:acme"}, "Authorization, Cookie"},
		"bound by header":        {w.guarded(), ask{token: "alice", tenant: []string{"acme"}}, all},
		"bound by subdomain":     {w.guarded(), ask{token: "alice", host: "acme.app.com"}, all},
		"bound by path":          {w.guarded(), ask{token: "alice", path: "/tenants/acme/"}, all},
		"refused":                {w.guarded(), ask{token: "mallory", host: "acme.app.com"}, all},
		"refused for the header": {w.guarded(), ask{token: "mallory", tenant: []string{"acme"}}, all},
		"no tenant":              {w.guarded(), ask{}, all},
		"bad credentials":        {w.guarded(), ask{token: "bad"}, all},
		"public":                 {w.wrap(tenanthttp.Public(whoami)), ask{host: "acme.app.com"}, all},
		"without a guard":        {w.wrap(whoami), ask{host: "acme.app.com"}, all},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.a.of(c.h).Header().Values("Vary"); len(got) != 1 || got[0] != c.want {
				t.Errorf("Vary: %q, want %q", got, c.want)
			}
		})
	}
}

func TestB17ASharedCacheNeverMixesTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	origin := w.wrap(tenanthttp.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "public, max-age=60") // the application's own mistake
		rw.Header().Add("Vary", "Accept-Encoding")
		whoami(rw, r)
	})))
	// A cache as RFC 9111 has it: by address, and by the request headers that Vary names.
	type stored struct {
		vary http.Header
		rec  *httptest.ResponseRecorder
	}
	kept := map[string][]stored{}
	get := func(a ask) (*httptest.ResponseRecorder, bool) {
		r := a.request()
		address := r.Host + r.RequestURI
	next:
		for _, s := range kept[address] {
			for name, values := range s.vary {
				if strings.Join(r.Header.Values(name), ",") != strings.Join(values, ",") {
					continue next
				}
			}
			return s.rec, true
		}
		rec := a.of(origin)
		if rec.Header().Get("Cache-Control") != "no-store" {
			vary := http.Header{}
			for name := range strings.SplitSeq(strings.Join(rec.Header().Values("Vary"), ","), ",") {
				vary[strings.TrimSpace(name)] = r.Header.Values(strings.TrimSpace(name))
			}
			kept[address] = append(kept[address], stored{vary, rec})
		}
		return rec, false
	}
	check := func(a ask, want answer, wantCached bool) {
		t.Helper()
		rec, cached := get(a)
		want.check(t, rec)
		if cached != wantCached {
			t.Errorf("from the cache: %t, want %t", cached, wantCached)
		}
	}
	for _, again := range []bool{false, true} {
		check(ask{token: "carol", tenant: []string{"acme"}}, bound("acme"), again)
		check(ask{token: "carol", tenant: []string{"globex"}}, bound("globex"), again)
		check(ask{token: "alice:acme"}, bound("acme"), again)
		check(ask{token: "bob:globex"}, bound("globex"), again)
		check(ask{token: "alice", host: "acme.app.com"}, bound("acme"), again)
		check(ask{token: "mallory", host: "acme.app.com"}, outsider, false)
		check(ask{host: "acme.app.com"}, outsider, false)
		check(ask{}, nobody, false)
		check(ask{token: "bad", tenant: []string{"acme"}}, refused(401, tenancy.CodeResolution), false)
	}
}

func TestB17VaryKeepsWhatOthersAdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.wrap(w.wrap(tenanthttp.Guard(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Add("Vary", "Accept")
	}))))
	outer := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Vary", "Origin")
		h.ServeHTTP(rw, r)
	})
	for range 3 { // nor does one answer's end up in the next one's
		got := ask{token: "alice:acme"}.of(outer).Header().Values("Vary")
		if want := []string{"Origin", "Authorization, Cookie", "Accept"}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("Vary: %q, want %q", got, want)
		}
	}
}

func TestB18TheZeroConfigurationIsStrict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tn, err := tenancy.New(tenancy.Config{Directory: tenancy.DirectoryFunc(w.store.Lookup)})
	if err != nil {
		t.Fatal(err)
	}
	h := tenanthttp.Middleware(tn, tenanthttp.Config{Identity: identityOf})(tenanthttp.Guard(whoami))
	bound("acme").check(t, ask{token: "alice:acme"}.of(h))
	outsider.check(t, ask{token: "alice", tenant: []string{"acme"}}.of(h)) // nobody can be asked
	outsider.check(t, ask{token: "alice", path: "/tenants/acme/"}.of(h))
	noTenant.check(t, ask{token: "alice", host: "acme.app.com"}.of(h))
	anonymous := tenanthttp.Middleware(w.tn, tenanthttp.Config{})(tenanthttp.Guard(whoami))
	outsider.check(t, ask{token: "alice:acme", tenant: []string{"acme"}}.of(anonymous))
}
