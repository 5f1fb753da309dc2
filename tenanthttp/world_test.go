package tenanthttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/memstore"
	"lexigram.dev/tenancy/tenanthttp"
)

// catalogue is a store that counts what the request path asks it, and can be out of order.
type catalogue struct {
	store            *memstore.Store
	lookups, members atomic.Int64
	down             atomic.Bool
}

var errDown = errors.New("dial tcp 10.9.8.7:5432: connection refused")

func (c *catalogue) Lookup(ctx context.Context, ref tenancy.Ref) (tenancy.Tenant, error) {
	c.lookups.Add(1)
	if c.down.Load() {
		return tenancy.Tenant{}, errDown
	}
	return c.store.Lookup(ctx, ref)
}

func (c *catalogue) Member(ctx context.Context, userID, tenantID string) (tenancy.Member, error) {
	c.members.Add(1)
	if c.down.Load() {
		return tenancy.Member{}, errDown
	}
	return c.store.Member(ctx, userID, tenantID)
}

// world is an application with tenants acme and globex (active), initech (suspended), hooli
// (inactive) and umbrella (provisioning); an id is the slug with "t-" in front. alice belongs
// to acme, bob to globex, carol to both, dave to the others, mallory to none.
type world struct {
	*catalogue
	tn  *tenancy.Tenancy
	cfg tenanthttp.Config
}

var states = map[string]tenancy.Status{
	"acme": tenancy.StatusActive, "globex": tenancy.StatusActive, "initech": tenancy.StatusSuspended,
	"hooli": tenancy.StatusInactive, "umbrella": tenancy.StatusProvisioning,
}

var membersOf = map[string][]string{
	"alice": {"acme"}, "bob": {"globex"}, "carol": {"acme", "globex"}, "dave": {"initech", "hooli", "umbrella"},
}

func newWorld(t testing.TB, change ...func(*tenancy.Config)) *world {
	t.Helper()
	w := &world{catalogue: &catalogue{store: memstore.New()}, cfg: tenanthttp.Config{Identity: identityOf}}
	for slug, status := range states {
		w.create(t, tenancy.Tenant{ID: "t-" + slug, Slug: slug, Name: slug, Status: status})
	}
	for user, slugs := range membersOf {
		for _, slug := range slugs {
			w.join(t, user, "t-"+slug)
		}
	}
	cfg := tenancy.Config{
		Directory:  w.catalogue,
		Resolution: tenancy.ResolutionConfig{SubdomainPattern: "app.com"},
		Logger:     slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if w.tn, err = tenancy.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) create(t testing.TB, tenant tenancy.Tenant) {
	t.Helper()
	if _, err := w.store.Create(context.Background(), tenant); err != nil {
		t.Fatal(err)
	}
}

func (w *world) join(t testing.TB, user, tenantID string) {
	t.Helper()
	if err := w.store.SetMember(context.Background(), user, tenantID, tenancy.Member{Roles: []string{"user"}}); err != nil {
		t.Fatal(err)
	}
}

// calls returns how often the catalogue was asked since the last call.
func (w *world) calls() (lookups, members int64) { return w.lookups.Swap(0), w.members.Swap(0) }

// identityOf stands for the application's authentication. Its tokens are user, user:tenant
// and user:tenant:issuer; "bad" is one that is not valid.
func identityOf(r *http.Request) (tenancy.Identity, error) {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return tenancy.Identity{}, nil
	}
	if token == "bad" {
		return tenancy.Identity{UserID: "alice", Claims: map[string]any{"tenant_id": "acme"}}, errors.New("signature of key 7 is wrong")
	}
	user, rest, _ := strings.Cut(token, ":")
	claim, issuer, _ := strings.Cut(rest, ":")
	id := tenancy.Identity{UserID: user, Issuer: issuer}
	if claim != "" {
		id.Claims = map[string]any{"tenant_id": claim}
	}
	return id, nil
}

// whoami answers with the binding; it must be behind a guard or Public.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, ok := tenancy.FromContext(r.Context())
	if !ok {
		fmt.Fprint(w, "nobody")
		return
	}
	fmt.Fprintf(w, "%s by %s for %q verified %t", b.Tenant.Slug, b.Resolver, b.UserID, b.Verified)
})

func (w *world) wrap(next http.Handler) http.Handler { return tenanthttp.Middleware(w.tn, w.cfg)(next) }

func (w *world) guarded() http.Handler { return w.wrap(tenanthttp.Guard(whoami)) }

// ask is a request.
type ask struct {
	method string // defaults to GET
	host   string // defaults to app.com
	path   string // defaults to /
	token  string
	tenant []string // values of X-Tenant-ID
	header http.Header
	remote string
}

func (a ask) request() *http.Request {
	method, host, path := a.method, a.host, a.path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	r := httptest.NewRequest(method, path, nil)
	if r.Host = "app.com"; host != "" {
		r.Host = host
	}
	if a.header != nil {
		r.Header = a.header.Clone()
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	for _, v := range a.tenant {
		r.Header.Add("X-Tenant-Id", v)
	}
	if a.remote != "" {
		r.RemoteAddr = a.remote
	}
	return r
}

func (a ask) of(h http.Handler) *httptest.ResponseRecorder {
	rec, r := httptest.NewRecorder(), a.request()
	ctx, end := context.WithCancel(r.Context()) // as a server's does
	defer end()
	h.ServeHTTP(rec, r.WithContext(ctx))
	return rec
}

// answer is what a test expects: a status and a tenant's slug, or a status and a code.
type answer struct {
	status int
	slug   string
	code   tenancy.Code
}

func bound(slug string) answer                     { return answer{status: 200, slug: slug} }
func refused(status int, code tenancy.Code) answer { return answer{status: status, code: code} }

var (
	outsider    = refused(403, tenancy.CodeTenant)
	nobody      = refused(401, tenancy.CodeResolution)
	noTenant    = refused(400, tenancy.CodeResolution)
	unavailable = refused(503, tenancy.CodeResolution)
)

func (want answer) check(t *testing.T, got *httptest.ResponseRecorder) {
	t.Helper()
	if got.Code != want.status {
		t.Fatalf("status %d, want %d; body %s", got.Code, want.status, got.Body)
	}
	if want.slug != "" {
		if slug, _, _ := strings.Cut(got.Body.String(), " "); slug != want.slug {
			t.Fatalf("bound to %q, want %q", got.Body, want.slug)
		}
		return
	}
	if p := problemIn(t, got); p.Code != want.code {
		t.Fatalf("code %s, want %s; body %s", p.Code, want.code, got.Body)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Length": fmt.Sprint(got.Body.Len()),
	} {
		if got.Header().Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header().Get(name), value)
		}
	}
}

func problemIn(t *testing.T, rec *httptest.ResponseRecorder) tenanthttp.Problem {
	t.Helper()
	var p tenanthttp.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v in %q", err, rec.Body)
	}
	if p.Status != rec.Code || p.Type == "" || p.Title == "" {
		t.Errorf("incomplete problem %+v with status %d", p, rec.Code)
	}
	return p
}

// onTheWire sends a request through a real server and returns the answer's bytes but for the
// date's.
func onTheWire(t *testing.T, address string, a ask) string {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := a.request()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, r.RequestURI, r.Host)
	if r.Method == http.MethodPost {
		fmt.Fprint(conn, "Content-Length: 0\r\n")
	}
	_ = r.Header.Write(conn)
	fmt.Fprint(conn, "\r\n")
	var all strings.Builder
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if !strings.HasPrefix(line, "Date:") {
			all.WriteString(line)
		}
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
