package tenantjwt_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/tenantjwt"
)

func TestIdentity(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *tenantjwt.Config) {
		c.Cookie, c.WebSocketProtocolPrefix = "session", "bearer."
		c.AllowedOrigins = []string{"https://spa.test"}
	})
	tokenOf := func(user string) string {
		return must(tenantjwt.SignHS256(secret, tenantjwt.Claims{
			UserID: user, Issuer: "https://id.test/", Audience: []string{"app"}, ExpiresAt: now.Add(time.Minute),
		}))
	}
	alice, bob := tokenOf("alice"), tokenOf("bob")
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"}

	for name, test := range map[string]struct {
		header []string // names and values in turn
		tls    bool
		user   string // "" with reason "" means anonymous
		reason string
	}{
		"no credentials":                {},
		"bearer":                        {header: []string{"Authorization", "Bearer " + alice}, user: "alice"},
		"scheme in any case":            {header: []string{"Authorization", "bEARER  " + alice + " "}, user: "alice"},
		"another scheme":                {header: []string{"Authorization", "Basic YWxpY2U6eA=="}},
		"another scheme, cookie":        {header: []string{"Authorization", "Basic YWxpY2U6eA==", "Cookie", "session=" + alice}, user: "alice"},
		"no scheme":                     {header: []string{"Authorization", alice}},
		"bearer without token":          {header: []string{"Authorization", "Bearer"}, reason: "no token after Bearer"},
		"bearer with two tokens":        {header: []string{"Authorization", "Bearer " + alice + " " + bob}, reason: "token refused"},
		"bearer list":                   {header: []string{"Authorization", "Bearer " + alice + ", Bearer " + bob}, reason: "token refused"},
		"two headers":                   {header: []string{"Authorization", "Bearer " + alice, "Authorization", "Bearer " + bob}, reason: "more than one Authorization"},
		"two equal headers":             {header: []string{"Authorization", "Bearer " + alice, "Authorization", "Bearer " + alice}, reason: "more than one Authorization"},
		"basic and bearer":              {header: []string{"Authorization", "Basic x", "Authorization", "Bearer " + alice}, reason: "more than one Authorization"},
		"cookie":                        {header: []string{"Cookie", "a=b; session=" + alice}, user: "alice"},
		"empty cookie":                  {header: []string{"Cookie", "session="}},
		"invalid cookie":                {header: []string{"Cookie", "session=x"}, reason: "token refused"},
		"two cookies":                   {header: []string{"Cookie", "session=" + alice + "; session=" + bob}, reason: "more than one cookie session"},
		"another cookie":                {header: []string{"Cookie", "other=" + alice}},
		"bearer before cookie":          {header: []string{"Authorization", "Bearer " + alice, "Cookie", "session=" + bob}, user: "alice"},
		"bad bearer, good cookie":       {header: []string{"Authorization", "Bearer x", "Cookie", "session=" + bob}, reason: "token refused"},
		"subprotocol, no handshake":     {header: []string{"Sec-WebSocket-Protocol", "bearer." + alice}},
		"subprotocol":                   {header: append([]string{"Sec-WebSocket-Protocol", "notes.v1, bearer." + alice}, upgrade...), user: "alice"},
		"subprotocol, second line":      {header: append([]string{"Sec-WebSocket-Protocol", "notes.v1", "Sec-WebSocket-Protocol", "bearer." + alice}, upgrade...), user: "alice"},
		"two subprotocols":              {header: append([]string{"Sec-WebSocket-Protocol", "bearer." + alice + ",bearer." + bob}, upgrade...), reason: "more than one subprotocol"},
		"subprotocol without token":     {header: append([]string{"Sec-WebSocket-Protocol", "bearer."}, upgrade...), reason: "has no token"},
		"subprotocol before cookie":     {header: append([]string{"Sec-WebSocket-Protocol", "bearer." + alice, "Cookie", "session=" + bob}, upgrade...), user: "alice"},
		"handshake, cookie, no origin":  {header: append([]string{"Cookie", "session=" + alice}, upgrade...), reason: "needs one Origin"},
		"handshake, cookie, own host":   {header: append([]string{"Cookie", "session=" + alice, "Origin", "http://App.test:8080"}, upgrade...), user: "alice"},
		"handshake, cookie, other port": {header: append([]string{"Cookie", "session=" + alice, "Origin", "http://app.test"}, upgrade...), reason: "another origin"},
		"handshake, cookie, allowed":    {header: append([]string{"Cookie", "session=" + alice, "Origin", "https://spa.test"}, upgrade...), user: "alice"},
		"handshake, cookie, evil":       {header: append([]string{"Cookie", "session=" + alice, "Origin", "https://evil.test"}, upgrade...), reason: "another origin"},
		"handshake, cookie, lookalike":  {header: append([]string{"Cookie", "session=" + alice, "Origin", "https://spa.test.evil.test"}, upgrade...), reason: "another origin"},
		"handshake, cookie, userinfo":   {header: append([]string{"Cookie", "session=" + alice, "Origin", "http://app.test:8080@evil.test"}, upgrade...), reason: "another origin"},
		"handshake, cookie, null":       {header: append([]string{"Cookie", "session=" + alice, "Origin", "null"}, upgrade...), reason: "another origin"},
		"handshake, cookie, two":        {header: append([]string{"Cookie", "session=" + alice, "Origin", "http://app.test:8080", "Origin", "https://evil.test"}, upgrade...), reason: "needs one Origin"},
		"handshake, TLS, plain origin":  {tls: true, header: append([]string{"Cookie", "session=" + alice, "Origin", "http://app.test:8080"}, upgrade...), reason: "another origin"},
		"handshake, TLS, own host":      {tls: true, header: append([]string{"Cookie", "session=" + alice, "Origin", "https://app.test:8080"}, upgrade...), user: "alice"},
		"handshake, bearer, no origin":  {header: append([]string{"Authorization", "Bearer " + alice}, upgrade...), user: "alice"},
		"handshake in capitals":         {header: []string{"Cookie", "session=" + alice, "Connection", "upgrade", "Upgrade", "foo, WebSocket"}, reason: "needs one Origin"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?access_token="+bob+"&token="+bob, nil)
			r.Host = "app.test:8080"
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for i := 0; i < len(test.header); i += 2 {
				r.Header.Add(test.header[i], test.header[i+1])
			}
			id, err := v.Identity(r)
			if test.reason == "" {
				if err != nil || id.UserID != test.user {
					t.Fatalf("Identity = %q, %v; want %q", id.UserID, err, test.user)
				}
				return
			}
			if !errors.Is(err, tenancy.ErrUnauthenticated) || !strings.Contains(err.Error(), test.reason) || !id.Anonymous() {
				t.Fatalf("Identity = %q, %v; want %q", id.UserID, err, test.reason)
			}
			if strings.Contains(err.Error(), alice) || strings.Contains(err.Error(), bob) {
				t.Errorf("the reason quotes the token: %v", err)
			}
		})
	}
}

func TestExtendedConnectIsAHandshake(t *testing.T) {
	t.Parallel()
	v := verifier(t, func(c *tenantjwt.Config) { c.Cookie = "session" })
	r := httptest.NewRequestWithContext(t.Context(), http.MethodConnect, "/live", nil)
	r.Header[":protocol"] = []string{"websocket"}
	r.Header.Set("Cookie", "session=x")
	if _, err := v.Identity(r); err == nil || !strings.Contains(err.Error(), "Origin") {
		t.Errorf("a cookie without Origin on HTTP/2: %v", err)
	}
}

// Whatever is not configured is not read.
func TestOnlyTheHeaderByDefault(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	token := must(tenantjwt.SignHS256(secret, tenantjwt.Claims{
		UserID: "alice", Issuer: "https://id.test/", Audience: []string{"app"}, ExpiresAt: now.Add(time.Minute),
	}))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?access_token="+token, nil)
	for name, value := range map[string]string{
		"Cookie": "session=" + token + "; token=" + token, "Upgrade": "websocket",
		"Sec-Websocket-Protocol": "bearer." + token, "X-Access-Token": token,
	} {
		r.Header.Set(name, value)
	}
	if id, err := v.Identity(r); err != nil || !id.Anonymous() {
		t.Errorf("Identity = %+v, %v", id, err)
	}
}
