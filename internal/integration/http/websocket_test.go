package http_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenanthttp"
)

// echoTenant answers each message with the tenant that work on the connection belongs to.
type echoTenant struct{ ended chan string }

func (e *echoTenant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("keep") {
		tenancy.KeepRunning(r.Context())
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"notes"}})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		kind, _, err := conn.Read(r.Context())
		scope, scopeErr := tenancy.ScopeOf(r.Context())
		if scopeErr != nil {
			e.ended <- scopeErr.Error()
			return
		}
		if err != nil {
			e.ended <- scope.Tenant.Slug
			return
		}
		if err := conn.Write(r.Context(), kind, []byte(scope.Tenant.Slug)); err != nil {
			return
		}
	}
}

func serveLive(t *testing.T) (*httptest.Server, *tenancy.Tenancy, *echoTenant) {
	t.Helper()
	tn, bind := newTenancy(t)
	live := &echoTenant{ended: make(chan string, 100)}
	server := httptest.NewServer(bind(tenanthttp.Guard(live)))
	t.Cleanup(server.Close)
	return server, tn, live
}

func dial(ctx context.Context, server *httptest.Server, path, user, host string, header http.Header) (*websocket.Conn, *http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	if user != "" {
		header.Set("Authorization", "Bearer "+user)
	}
	return websocket.Dial(ctx, server.URL+path, &websocket.DialOptions{HTTPHeader: header, Host: host})
}

func ask(ctx context.Context, conn *websocket.Conn) (string, error) {
	if err := conn.Write(ctx, websocket.MessageText, []byte("who?")); err != nil {
		return "", err
	}
	_, answer, err := conn.Read(ctx)
	return string(answer), err
}

func TestWebSocketKeepsItsTenantUntilItIsSuspended(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	server, tn, live := serveLive(t)
	alice, _, err := dial(ctx, server, "/live", "alice", "acme.app.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alice.CloseNow() }()
	var group sync.WaitGroup
	for i := range 16 { // others come and go
		user, slug := "alice", "acme"
		if i%2 == 1 {
			user, slug = "bob", "globex"
		}
		group.Go(func() {
			conn, _, err := dial(ctx, server, "/tenants/"+slug+"/live", user, "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.CloseNow() }()
			for range 20 {
				if got, err := ask(ctx, conn); got != slug || err != nil {
					t.Errorf("%s's connection belongs to %q: %v", user, got, err)
					return
				}
				if i > 0 {
					continue
				}
				if got, err := ask(ctx, alice); got != "acme" || err != nil {
					t.Errorf("alice's connection belongs to %q: %v", got, err)
					return
				}
			}
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			if got := <-live.ended; got != "acme" && got != "globex" {
				t.Errorf("a connection ended as %q", got)
			}
		})
	}
	group.Wait()

	// A suspension ends what is open, except where the route has opted out.
	kept, _, err := dial(ctx, server, "/live?keep", "alice", "acme.app.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.CloseNow() }()
	if _, err := tn.Lifecycle().Suspend(ctx, "t-acme", "unpaid"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := alice.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the suspension the connection is open: %v", err)
	}
	if got := <-live.ended; got != tenancy.ErrSuspended.Error() {
		t.Errorf("alice's connection ended as %q", got)
	}
	if got, err := ask(ctx, kept); got != "acme" || err != nil {
		t.Errorf("the connection that opted out: %q, %v", got, err)
	}
	conn, resp, err := dial(ctx, server, "/live", "alice", "acme.app.com", nil)
	if err == nil {
		_ = conn.CloseNow()
		t.Fatal("a suspended tenant opened a connection")
	}
	if body := bodyOf(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, string(tenancy.CodeSuspended)) {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
	if err := kept.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if got := <-live.ended; got != "acme" {
		t.Errorf("the connection that opted out ended as %q", got)
	}
}

func TestWebSocketHandshakesAreRefusedLikeRequests(t *testing.T) {
	t.Parallel()
	server, _, _ := serveLive(t)
	for name, c := range map[string]struct {
		path, user, host string
		header           http.Header
		status           int
	}{
		"nobody":                    {path: "/live", status: 401},
		"a user without a tenant":   {path: "/live", user: "alice", status: 400},
		"an outsider":               {path: "/live", user: "bob", host: "acme.app.com", status: 403},
		"an unknown tenant":         {path: "/live", user: "bob", host: "unknown.app.com", status: 403},
		"anonymous":                 {path: "/live", host: "acme.app.com", status: 403},
		"suspended, by a member":    {path: "/live", user: "dave", host: "initech.app.com", status: 403},
		"a token in the query":      {path: "/live?access_token=alice&token=alice&tenant_id=acme", status: 401},
		"a token as a subprotocol":  {path: "/live", header: http.Header{"Sec-Websocket-Protocol": {"notes, alice"}}, status: 401},
		"a cookie of another's":     {path: "/live", host: "acme.app.com", header: http.Header{"Cookie": {"session=bob"}}, status: 403},
		"a cookie, a foreign page":  {path: "/live", host: "acme.app.com", header: http.Header{"Cookie": {"session=alice"}, "Origin": {"https://evil.example"}}, status: 403},
		"a cookie, another's page":  {path: "/live", host: "acme.app.com", header: http.Header{"Cookie": {"session=alice"}, "Origin": {"https://globex.app.com"}}, status: 403},
		"a cookie and its own page": {path: "/live", host: "acme.app.com", header: http.Header{"Cookie": {"session=alice"}, "Origin": {"http://acme.app.com"}}, status: 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			conn, resp, err := dial(ctx, server, c.path, c.user, c.host, c.header.Clone())
			if conn != nil {
				defer func() { _ = conn.CloseNow() }()
			}
			if resp == nil || resp.StatusCode != c.status {
				t.Fatalf("%v, want status %d", err, c.status)
			}
			if c.status == 101 || c.header.Get("Origin") != "" { // the library's own check of the origin
				return
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			if c.header != nil {
				r.Header = c.header.Clone()
			}
			if c.user != "" {
				r.Header.Set("Authorization", "Bearer "+c.user)
			}
			plain, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			want, got := bodyOf(t, plain), bodyOf(t, resp)
			if got != want || !strings.Contains(got, tenanthttp.ProblemTypes) {
				t.Errorf("answer %s, want %s", got, want)
			}
			for _, name := range []string{"Content-Type", "Cache-Control", "Vary", "Www-Authenticate", "Content-Length"} {
				if resp.Header.Get(name) != plain.Header.Get(name) {
					t.Errorf("%s: %q, want %q", name, resp.Header.Get(name), plain.Header.Get(name))
				}
			}
		})
	}
}

func bodyOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
