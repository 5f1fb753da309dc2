package tenantjwt

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
)

// Identity returns who sent r, for tenanthttp.Config.Identity. It looks at the first of these
// that is present, and at no other, even if it is not valid: the Bearer token of the
// Authorization header, on a WebSocket handshake the subprotocol, the cookie; never the query.
// Without any the caller is anonymous: the zero Identity and no error. Other schemes, such as
// Basic, are left to others. Credentials that are present and not valid, or present twice,
// are an error that wraps [tenancy.ErrUnauthenticated].
func (v *Verifier) Identity(r *http.Request) (tenancy.Identity, error) {
	token, err := v.credentials(r)
	if err != nil {
		return tenancy.Identity{}, fmt.Errorf("%w: %w", tenancy.ErrUnauthenticated, err)
	}
	if token == "" {
		return tenancy.Identity{}, nil
	}
	return v.Verify(r.Context(), token)
}

// credentials returns the token of r, or "" if it has none.
func (v *Verifier) credentials(r *http.Request) (string, error) {
	authorization := r.Header.Values("Authorization")
	if len(authorization) > 1 {
		return "", errors.New("the request has more than one Authorization header")
	}
	if len(authorization) == 1 {
		scheme, token, _ := strings.Cut(strings.TrimSpace(authorization[0]), " ")
		if strings.EqualFold(scheme, "Bearer") {
			token = strings.TrimSpace(token)
			if token == "" {
				return "", errors.New("the Authorization header has no token after Bearer")
			}
			return token, nil
		}
	}
	webSocket := isWebSocket(r)
	if webSocket && v.cfg.WebSocketProtocolPrefix != "" {
		if token, err := v.subprotocol(r); token != "" || err != nil {
			return token, err
		}
	}
	if v.cfg.Cookie == "" {
		return "", nil
	}
	cookies := r.CookiesNamed(v.cfg.Cookie)
	switch {
	case len(cookies) == 0, len(cookies) == 1 && cookies[0].Value == "":
		return "", nil
	case len(cookies) > 1: // another subdomain can plant a second one
		return "", fmt.Errorf("the request has more than one cookie %s", v.cfg.Cookie)
	case webSocket:
		if err := v.checkOrigin(r); err != nil {
			return "", err
		}
	}
	return cookies[0].Value, nil
}

// subprotocol returns the token among the protocols that a WebSocket handshake offers.
func (v *Verifier) subprotocol(r *http.Request) (string, error) {
	var found []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(protocol), v.cfg.WebSocketProtocolPrefix); ok {
				found = append(found, token)
			}
		}
	}
	switch {
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", fmt.Errorf("the handshake offers more than one subprotocol %s…", v.cfg.WebSocketProtocolPrefix)
	case found[0] == "":
		return "", fmt.Errorf("the subprotocol %s… has no token", v.cfg.WebSocketProtocolPrefix)
	}
	return found[0], nil
}

// checkOrigin reports why the page that opens a WebSocket may not use the browser's cookie.
func (v *Verifier) checkOrigin(r *http.Request) error {
	origins := r.Header.Values("Origin")
	if len(origins) != 1 {
		return errors.New("a WebSocket handshake with a cookie needs one Origin header: " +
			"send the token in the Authorization header instead")
	}
	if slices.Contains(v.cfg.AllowedOrigins, origins[0]) {
		return nil
	}
	u, err := url.Parse(origins[0])
	if err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) && (u.Scheme == "https" || u.Scheme == "http" && r.TLS == nil) {
		return nil
	}
	return errors.New("the WebSocket handshake comes from another origin than its cookie: " +
		"list the origin in tenantjwt.Config.AllowedOrigins")
}

// isWebSocket reports whether r opens a WebSocket, over HTTP/1.1 or HTTP/2 (RFC 8441).
func isWebSocket(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return strings.EqualFold(r.Header.Get(":protocol"), "websocket")
	}
	for _, line := range r.Header.Values("Upgrade") {
		for protocol := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(protocol), "websocket") {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token as RFC 9110 §5.6.2 means it.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
