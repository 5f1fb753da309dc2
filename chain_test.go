package tenancy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"lexigram.dev/tenancy"
)

type namedResolver struct {
	name string
	ref  tenancy.Ref
}

func (r namedResolver) Name() string { return r.name }

func (r namedResolver) Resolve(context.Context, *tenancy.Request) (tenancy.Ref, error) {
	return r.ref, nil
}

func names(c *tenancy.Chain) []string {
	var all []string
	for _, r := range c.Resolvers() {
		all = append(all, r.Name())
	}
	return all
}

func TestChainHasTheSeedsOrderAndNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		cfg    tenancy.ResolutionConfig
		custom []tenancy.Resolver
		want   []string
	}{
		{"without a domain the subdomain resolver is off", tenancy.ResolutionConfig{}, nil, []string{"jwt_claim", "header", "path"}},
		{"the default order", tenancy.ResolutionConfig{SubdomainPattern: "app.com"}, nil, []string{"jwt_claim", "header", "subdomain", "path"}},
		{"an order of one's own", tenancy.ResolutionConfig{Resolvers: []string{"header", "jwt_claim"}}, nil, []string{"header", "jwt_claim"}},
		{"resolvers in code are the chain", tenancy.ResolutionConfig{}, []tenancy.Resolver{tenancy.Path{}, namedResolver{name: "mine"}}, []string{"path", "mine"}},
		{"names place custom ones", tenancy.ResolutionConfig{Resolvers: []string{"header", "mine"}}, []tenancy.Resolver{namedResolver{name: "mine"}}, []string{"header", "mine"}},
		{"a static tenant needs code", tenancy.ResolutionConfig{Resolvers: []string{"static"}}, []tenancy.Resolver{tenancy.Static{Tenant: "acme"}}, []string{"static"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			chain, err := tenancy.NewChain(tc.cfg, tc.custom...)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(chain); !slices.Equal(got, tc.want) {
				t.Errorf("the chain is %v, want %v", got, tc.want)
			}
		})
	}
}

func TestChainReportsEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	_, err := tenancy.NewChain(tenancy.ResolutionConfig{
		Resolvers:        []string{"hedaer", "path", "path", "subdomain", "jwt_claim"},
		TrustedResolvers: []string{"header", "subdomain", "path"},
		PathPattern:      "tenants",
		SubdomainPattern: "*.app.com",
	}, namedResolver{name: "jwt_claim"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`no resolver "hedaer"`, `"path" is listed twice`, `path pattern "tenants"`, `subdomain pattern "*.app.com"`,
		`"header" is chosen by the client`, `"subdomain" is chosen by the client`, `"path" is chosen by the client`,
		`the name "jwt_claim" belongs to a built-in resolver`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
	if tenancy.CodeOf(err) != tenancy.CodeConfig {
		t.Errorf("its code is %s", tenancy.CodeOf(err))
	}
}

func TestB02NothingThatAClientChoosesIsTrustedByDefault(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"header", "subdomain", "path"} {
		cfg := tenancy.ResolutionConfig{TrustedResolvers: []string{name}}
		if _, err := tenancy.NewChain(cfg); err == nil {
			t.Errorf("%s may be trusted", name)
		}
		cfg.UnsafeTrustClient = true
		if _, err := tenancy.NewChain(cfg); err != nil {
			t.Errorf("%s with unsafe_trust_client: %v", name, err)
		}
	}
	// A resolver cannot become trusted by taking the trusted one's name.
	if _, err := tenancy.NewChain(tenancy.ResolutionConfig{}, namedResolver{name: "jwt_claim"}); err == nil {
		t.Error("a custom resolver may be called jwt_claim")
	}
}

func TestFirstAnswerWinsAndAnErrorStops(t *testing.T) {
	t.Parallel()
	chain, err := tenancy.NewChain(tenancy.ResolutionConfig{},
		namedResolver{name: "none"}, namedResolver{name: "one", ref: tenancy.BySlug("one")}, namedResolver{name: "two", ref: tenancy.BySlug("two")})
	if err != nil {
		t.Fatal(err)
	}
	answers := chain.Resolve(t.Context(), &tenancy.Request{}, nil)
	if len(answers) != 2 || answers[1].Resolver != "one" {
		t.Errorf("the answers are %v", answers)
	}
	chain, err = tenancy.NewChain(tenancy.ResolutionConfig{Resolvers: []string{"path", "header"}})
	if err != nil {
		t.Fatal(err)
	}
	answers = chain.Resolve(t.Context(), &tenancy.Request{Path: "/tenants/a/../b"}, nil)
	if len(answers) != 1 || !errors.Is(answers[0].Err, tenancy.ErrAmbiguous) {
		t.Errorf("the answers are %v", answers)
	}
}
