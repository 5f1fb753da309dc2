package tenanthttp

import (
	"net/http"
	"net/netip"
	"strings"
)

const forwardedHost = "X-Forwarded-Host"

// proxies are the peers whose X-Forwarded-Host counts.
type proxies []netip.Prefix

// host returns the host that the client asked for, or "" when that cannot be said: a trusted
// proxy passed on more than one value, and whichever is taken, one of them may be forged.
func (p proxies) host(r *http.Request) string {
	if len(p) == 0 {
		return r.Host
	}
	values := r.Header[forwardedHost]
	if len(values) == 0 || !p.trust(r.RemoteAddr) {
		return r.Host
	}
	if len(values) > 1 || strings.IndexByte(values[0], ',') >= 0 {
		return ""
	}
	if value := strings.TrimSpace(values[0]); value != "" {
		return value
	}
	return r.Host
}

// trust reports whether the peer's address is a trusted proxy's. An address that is no IP
// address, such as a Unix socket's, is not.
func (p proxies) trust(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
