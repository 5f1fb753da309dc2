package demo

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"lexigram.dev/tenancy"
)

// Guide returns what to try on a server at addr: what runs, and lines for a shell, each of
// which works by itself. The rest is comments, so that all of it can be pasted at once.
func (a *App) Guide(addr string) (string, error) {
	lines, err := a.examples(addr)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Notes for acme, globex and initech (suspended) on http://%s\n# %s\n", reachable(addr), a.place)
	for _, line := range lines {
		fmt.Fprintf(&b, "\n# %s\n%s\n", line.about, line.command)
	}
	b.WriteString("\n# GET /live is a WebSocket that tells the tenant's new notes. Ctrl-C stops the demo.\n")
	return b.String(), nil
}

type example struct{ about, command string }

// examples returns lines for the resolvers that are configured.
func (a *App) examples(addr string) ([]example, error) {
	cfg := a.tn.Config().Resolution
	base := "http://" + reachable(addr)
	tokens := map[string]string{}
	for _, user := range []string{"alice", "bob", "carol", "dave", "mallory"} {
		token, err := a.Token(user, claims[user])
		if err != nil {
			return nil, err
		}
		tokens[user] = token
	}
	curl := func(user string, args ...string) string {
		line := "curl "
		if user != "" {
			line += "-H 'Authorization: Bearer " + tokens[user] + "' "
		}
		return line + strings.Join(args, " ")
	}
	header := func(tenant string) string {
		return fmt.Sprintf("-H '%s: %s'", headerName(cfg.HeaderName), tenant)
	}

	var lines []example
	has := func(resolver string) bool { return slices.Contains(cfg.Resolvers, resolver) }
	if has(tenancy.ResolverJWTClaim) {
		lines = append(lines,
			example{"alice works for acme: her token says so (jwt_claim)", curl("alice", base+"/whoami")},
			example{"she writes a note", curl("alice", `-d '{"text":"Hello from acme"}'`, base+"/notes")})
	}
	if has(tenancy.ResolverHeader) {
		lines = append(lines,
			example{"carol works for both, her header chooses (header): acme's notes …", curl("carol", header("acme"), base+"/notes")},
			example{"… and globex's, among which is none of acme's", curl("carol", header("globex"), base+"/notes")})
	}
	if has(tenancy.ResolverSubdomain) && cfg.SubdomainPattern != "" {
		lines = append(lines, example{"the same by subdomain", curl("carol", subdomainURL(addr, "acme."+cfg.SubdomainPattern, "/notes"))})
	}
	if has(tenancy.ResolverPath) {
		lines = append(lines, example{"the same by path", curl("carol", base+a.pathPrefix("acme")+"/notes")})
	}
	if has(tenancy.ResolverHeader) {
		if has(tenancy.ResolverJWTClaim) {
			lines = append(lines, example{"bob's token says globex, and a header cannot change that", curl("bob", header("acme"), base+"/whoami")})
		}
		lines = append(lines,
			example{"mallory belongs to nobody: 403, whether the tenant exists or not", curl("mallory", header("acme"), base+"/notes")},
			example{"dave belongs to initech and learns that it is suspended", curl("dave", header("initech"), base+"/notes")},
			example{"acme has a setting of its own", curl("carol", "-X PUT", header("acme"), `-d '{"value":100}'`, base+"/settings/max_users")})
	}
	if has(tenancy.ResolverSubdomain) && cfg.SubdomainPattern != "" {
		lines = append(lines, example{"a public page greets by tenant", curl("", subdomainURL(addr, "acme."+cfg.SubdomainPattern, "/login"))})
	}
	return lines, nil
}

// reachable returns an address that a client on this machine can call: for a server on all
// addresses the loopback.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// subdomainURL returns curl's arguments for a host that need not be in any name server. curl
// knows by itself that *.localhost is the loopback.
func subdomainURL(addr, host, path string) string {
	ip, port, err := net.SplitHostPort(reachable(addr))
	if err != nil {
		return "http://" + host + path
	}
	args := "http://" + net.JoinHostPort(host, port) + path
	if strings.HasSuffix(host, ".localhost") && ip == "127.0.0.1" {
		return args
	}
	return fmt.Sprintf("--resolve %s:%s:%s %s", host, port, ip, args)
}

// headerName writes X-Tenant-ID as people do.
func headerName(name string) string {
	name = http.CanonicalHeaderKey(name)
	if rest, ok := strings.CutSuffix(name, "-Id"); ok {
		return rest + "-ID"
	}
	return name
}
