package demo_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEachResolverReachesTheTenantOfItsMember(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		for _, resolver := range resolvers {
			for _, who := range []struct{ user, tenant, name string }{
				{"alice", "acme", "ACME Corp"},
				{"bob", "globex", "Globex Corporation"},
				{"carol", "acme", "ACME Corp"},
				{"carol", "globex", "Globex Corporation"},
			} {
				t.Run(resolver+" "+who.user+" "+who.tenant, func(t *testing.T) {
					s.checkBound(t, s.naming(t, resolver, who.user, who.tenant, call{}), who.user, who.tenant, who.name, resolver)
				})
			}
		}
		t.Run("the claim and the header may hold the id", func(t *testing.T) {
			acme := decode[who](t, s.do(t, s.as(t, "alice", "acme", call{})))
			if acme.Tenant.ID == "" || acme.Tenant.ID == "acme" {
				t.Fatalf("tenant id %q, want one that differs from the slug", acme.Tenant.ID)
			}
			for _, resolver := range []string{"jwt_claim", "header", "path"} {
				s.checkBound(t, s.naming(t, resolver, "alice", acme.Tenant.ID, call{}), "alice", "acme", "ACME Corp", resolver)
			}
		})
	})
}

func (s *site) checkBound(t *testing.T, c call, user, slug, name, resolver string) {
	t.Helper()
	got := decode[who](t, s.do(t, c).want(t, http.StatusOK))
	if got.Tenant.Slug != slug || got.Tenant.Name != name || got.Resolver != resolver || got.User != user || !got.Verified {
		t.Errorf("got %+v, want %s's binding to %s by %s", got, user, slug, resolver)
	}
}

func TestTheClaimWins(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		for _, other := range []string{"header", "subdomain", "path"} {
			for _, named := range []string{"acme", "initech", "nobody"} {
				t.Run(other+" "+named, func(t *testing.T) {
					c := s.naming(t, other, "", named, call{})
					c.token = s.token(t, "bob", "globex")
					s.checkBound(t, c, "bob", "globex", "Globex Corporation", "jwt_claim")
				})
			}
		}
	})
}

func TestOutsidersGetOneAnswer(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		first := ""
		for range 2 { // from the catalogue, then from the caches
			for _, resolver := range []string{"header", "subdomain", "path"} {
				for _, tenant := range []string{"acme", "globex", "initech", "nobody", "xn--nobody", strings.Repeat("a", 64)} {
					for _, user := range []string{"", "mallory"} {
						for _, path := range []string{"/whoami", "/notes"} {
							got := s.do(t, s.naming(t, resolver, user, tenant, call{path: path}))
							got.problem(t, http.StatusForbidden, codeForbidden)
							if first == "" {
								first = got.text()
							}
							if got.text() != first {
								t.Errorf("%q names %s by %s for %s and gets\n%s\nwhere others get\n%s",
									user, tenant, resolver, path, got.text(), first)
							}
						}
					}
				}
			}
		}
		t.Run("members of another tenant are outsiders too", func(t *testing.T) {
			for _, tenant := range []string{"globex", "initech", "nobody"} {
				c := s.naming(t, "header", "alice", tenant, call{})
				if got := s.do(t, c); got.text() != first {
					t.Errorf("alice names %s and gets\n%s\nwhere others get\n%s", tenant, got.text(), first)
				}
			}
		})
		t.Run("a claim of an unknown tenant is no news either", func(t *testing.T) {
			if got := s.do(t, s.as(t, "mallory", "nobody", call{})); got.body != first[strings.LastIndex(first, "{"):] {
				t.Errorf("got %s", got.body)
			}
		})
	})
}

func TestMembersLearnThatTheirTenantIsSuspended(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		for _, resolver := range resolvers {
			for _, path := range []string{"/whoami", "/notes", "/settings", "/live"} {
				p := s.do(t, s.naming(t, resolver, "dave", "initech", call{path: path})).
					problem(t, http.StatusForbidden, codeSuspended)
				if !strings.HasSuffix(p.Type, "/tenant-suspended") {
					t.Errorf("%s: type %s", resolver, p.Type)
				}
			}
		}
	})
}

func TestWhoNamesNoTenant(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		anonymous := s.do(t, call{})
		anonymous.problem(t, http.StatusUnauthorized, codeResolution)
		if got := anonymous.header.Get("WWW-Authenticate"); got != "Bearer" {
			t.Errorf("WWW-Authenticate %q", got)
		}
		for _, user := range []string{"alice", "mallory"} {
			s.do(t, s.as(t, user, "", call{})).problem(t, http.StatusBadRequest, codeResolution)
		}
		two := s.as(t, "carol", "", call{header: http.Header{"X-Tenant-Id": {"acme", "globex"}}})
		s.do(t, two).problem(t, http.StatusBadRequest, codeResolution)
	})
}

func TestTokensThatAreNotValid(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		now := time.Now()
		good := fmt.Sprintf(`{"sub":"alice","tenant_id":"acme","exp":%d}`, now.Add(time.Hour).Unix())
		hs256 := func(payload, key string) string { return sign(`{"alg":"HS256","typ":"JWT"}`, payload, key, sha256.New) }
		s.do(t, call{token: hs256(good, secret)}).want(t, http.StatusOK) // else all below proves nothing
		valid := hs256(good, secret)
		for name, token := range map[string]string{
			"alg none":         sign(`{"alg":"none","typ":"JWT"}`, good, "", nil),
			"alg None":         sign(`{"alg":"None","typ":"JWT"}`, good, "", nil),
			"alg none, signed": sign(`{"alg":"none","typ":"JWT"}`, good, secret, sha256.New),
			"no signature":     valid[:strings.LastIndex(valid, ".")+1],
			"alg HS512":        sign(`{"alg":"HS512","typ":"JWT"}`, good, secret, sha512.New),
			"expired":          hs256(fmt.Sprintf(`{"sub":"alice","tenant_id":"acme","exp":%d}`, now.Add(-time.Hour).Unix()), secret),
			"without expiry":   hs256(`{"sub":"alice","tenant_id":"acme"}`, secret),
			"not yet valid":    hs256(fmt.Sprintf(`{"sub":"alice","tenant_id":"acme","exp":%d,"nbf":%[1]d}`, now.Add(time.Hour).Unix()), secret),
			"without user":     hs256(fmt.Sprintf(`{"tenant_id":"acme","exp":%d}`, now.Add(time.Hour).Unix()), secret),
			"wrong signature":  hs256(good, secret+"!"),
			"other payload":    valid[:strings.Index(valid, ".")+1] + b64(strings.Replace(good, "acme", "globex", 1)) + valid[strings.LastIndex(valid, "."):],
			"garbage":          "garbage",
		} {
			t.Run(name, func(t *testing.T) {
				for _, resolver := range []string{"", "header", "subdomain", "path"} {
					c := s.naming(t, resolver, "", "acme", call{})
					c.token = token
					got := s.do(t, c)
					got.problem(t, http.StatusUnauthorized, codeResolution)
					if h := got.header.Get("WWW-Authenticate"); h != `Bearer error="invalid_token"` {
						t.Errorf("WWW-Authenticate %q", h)
					}
				}
			})
		}
	})
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func sign(header, payload, key string, h func() hash.Hash) string {
	text := b64(header) + "." + b64(payload)
	if h == nil {
		return text + "."
	}
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(text))
	return text + "." + b64(string(mac.Sum(nil)))
}
