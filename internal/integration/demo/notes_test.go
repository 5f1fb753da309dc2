package demo_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"lexigram.dev/tenancy"
)

func TestNotesBelongToTheTenant(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		for _, resolver := range resolvers {
			t.Run(resolver, func(t *testing.T) {
				acme := func(c call) call { return s.naming(t, resolver, "carol", "acme", c) }
				globex := func(c call) call { return s.naming(t, resolver, "carol", "globex", c) }

				created := s.do(t, acme(call{method: "POST", path: "/notes", body: `{"text":"plans of acme"}`})).want(t, http.StatusCreated)
				mine := decode[note](t, created)
				if _, err := uuid.Parse(mine.ID); err != nil || mine.Text != "plans of acme" {
					t.Fatalf("created %s: %v", created.body, err)
				}
				path := "/notes/" + mine.ID
				if got := created.header.Get("Location"); got != acme(call{path: path}).path {
					t.Errorf("Location %q, want %q", got, acme(call{path: path}).path)
				}
				if got := decode[note](t, s.do(t, acme(call{path: path})).want(t, http.StatusOK)); got != mine {
					t.Errorf("got %+v", got)
				}

				// What does not exist and what is another tenant's look the same.
				missing := "/notes/" + uuid.NewString()
				for _, c := range []call{{}, {method: "PUT", body: `{"text":"defaced"}`}, {method: "DELETE"}} {
					theirs, none := c, c
					theirs.path, none.path = path, missing
					got := s.do(t, globex(theirs))
					got.problem(t, http.StatusNotFound, "")
					if want := s.do(t, globex(none)); got.text() != want.text() {
						t.Errorf("%s of another tenant's note:\n%s\nof none at all:\n%s", c.method, got.text(), want.text())
					}
				}
				for _, n := range decode[[]note](t, s.do(t, globex(call{path: "/notes"})).want(t, http.StatusOK)) {
					if n.ID == mine.ID || strings.Contains(n.Text, "acme") {
						t.Errorf("globex sees %+v", n)
					}
				}
				if got := decode[note](t, s.do(t, acme(call{path: path})).want(t, http.StatusOK)); got != mine {
					t.Errorf("after globex tried to change it: %+v", got)
				}

				for range 2 { // the second changes nothing, and is no 404
					s.do(t, acme(call{method: "PUT", path: path, body: `{"text":"other plans"}`})).want(t, http.StatusOK)
				}
				if got := decode[[]note](t, s.do(t, acme(call{path: "/notes"})).want(t, http.StatusOK)); len(got) != 1 || got[0] != (note{mine.ID, "other plans"}) {
					t.Errorf("listed %+v", got)
				}
				s.do(t, acme(call{method: "DELETE", path: path})).want(t, http.StatusNoContent)
				s.do(t, acme(call{path: path})).problem(t, http.StatusNotFound, "")
				if got := s.do(t, acme(call{path: "/notes"})).want(t, http.StatusOK).body; got != "[]\n" {
					t.Errorf("listed %s", got)
				}
			})
		}
	})
}

func TestNotesArePaged(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		for _, text := range []string{"one", "two", "three"} {
			s.do(t, s.as(t, "alice", "acme", call{method: "POST", path: "/notes", body: `{"text":"` + text + `"}`})).want(t, http.StatusCreated)
		}
		var texts []string
		path := "/notes?limit=2"
		for path != "" {
			page := s.do(t, s.as(t, "alice", "acme", call{path: path})).want(t, http.StatusOK)
			for _, n := range decode[[]note](t, page) {
				texts = append(texts, n.Text)
			}
			path, _, _ = strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), ">")
		}
		if got := strings.Join(texts, " "); got != "one two three" {
			t.Errorf("listed %s", got)
		}
		for _, query := range []string{"limit=0", "limit=x", "limit=1000000", "after=x"} {
			s.do(t, s.as(t, "alice", "acme", call{path: "/notes?" + query})).problem(t, http.StatusBadRequest, "")
		}
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		post := func(body string) call { return call{method: "POST", path: "/notes", body: body} }
		kept := decode[note](t, s.do(t, s.as(t, "alice", "acme", post(`{"text":"kept"}`))).want(t, http.StatusCreated))
		one := "/notes/" + kept.ID
		for name, c := range map[string]struct {
			call   call
			status int
		}{
			"unknown field":           {post(`{"text":"x","tenant_id":"globex"}`), 400},
			"no object":               {post(`["x"]`), 400},
			"no JSON":                 {post(`text=x`), 400},
			"trailing garbage":        {post(`{"text":"x"} x`), 400},
			"a second value":          {post(`{"text":"x"}{"text":"y"}`), 400},
			"no text":                 {post(`{}`), 400},
			"null":                    {post(`{"text":null}`), 400},
			"an empty text":           {post(`{"text":" "}`), 400},
			"a number":                {post(`{"text":1}`), 400},
			"a NUL":                   {post(`{"text":"a\u0000b"}`), 400},
			"broken UTF-8":            {post("{\"text\":\"a\xff\"}"), 400},
			"a text too long":         {post(`{"text":"` + strings.Repeat("ä", 8001) + `"}`), 400},
			"a body too long":         {post(`{"text":"` + strings.Repeat("x", 64<<10) + `"}`), 413},
			"no body":                 {call{method: "POST", path: "/notes"}, 400},
			"another type":            {call{method: "POST", path: "/notes", body: `{"text":"x"}`, header: http.Header{"Content-Type": {"text/plain"}}}, 415},
			"PUT of an unknown field": {call{method: "PUT", path: one, body: `{"text":"x","id":"y"}`}, 400},
			"PUT too long":            {call{method: "PUT", path: one, body: strings.Repeat(" ", 65<<10)}, 413},
			"an id that is none":      {call{path: "/notes/1"}, 404},
			"an id of SQL":            {call{path: "/notes/'%20OR%201=1--"}, 404},
			"PUT to no id":            {call{method: "PUT", path: "/notes/1", body: `{"text":"x"}`}, 404},
			"DELETE of no id":         {call{method: "DELETE", path: "/notes/1"}, 404},
			"no such path":            {call{path: "/nothing"}, 404},
			"no such method":          {call{method: "PATCH", path: one, body: `{}`}, 405},
			"settings unknown field":  {call{method: "PUT", path: "/settings/max_users", body: `{"value":1,"x":2}`}, 400},
			"settings no value":       {call{method: "PUT", path: "/settings/max_users", body: `{}`}, 400},
			"settings wrong key":      {call{method: "PUT", path: "/settings/a%20b", body: `{"value":1}`}, 422},
			"live without WebSocket":  {call{path: "/live"}, 426},
		} {
			t.Run(name, func(t *testing.T) {
				got := s.do(t, s.as(t, "alice", "acme", c.call))
				got.problem(t, c.status, "")
				if c.status == http.StatusMethodNotAllowed && !strings.Contains(got.header.Get("Allow"), "DELETE") {
					t.Errorf("Allow %q", got.header.Get("Allow"))
				}
			})
		}
		if got := decode[[]note](t, s.do(t, s.as(t, "alice", "acme", call{path: "/notes"}))); len(got) != 1 || got[0] != kept {
			t.Errorf("afterwards there is %+v", got)
		}
		t.Run("the longest text is kept as it is", func(t *testing.T) {
			text := strings.Repeat("ä", 8000)
			got := decode[note](t, s.do(t, s.as(t, "alice", "acme", post(`{"text":"`+text+`"}`))).want(t, http.StatusCreated))
			if got = decode[note](t, s.do(t, s.as(t, "alice", "acme", call{path: "/notes/" + got.ID}))); got.Text != text {
				t.Error("the text has changed")
			}
		})
		t.Run("what curl says of every body is read as JSON", func(t *testing.T) {
			c := s.as(t, "alice", "acme", post(`{"text":"x"}`))
			c.header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			s.do(t, c).want(t, http.StatusCreated)
		})
	})
}

func TestSettingsBelongToTheTenant(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		put := func(value string) answer {
			return s.do(t, s.as(t, "alice", "acme", call{method: "PUT", path: "/settings/max_users", body: `{"value":` + value + `}`})).want(t, http.StatusOK)
		}
		read := func(user, tenant string) any {
			return decode[map[string]any](t, s.do(t, s.as(t, user, tenant, call{path: "/settings"})).want(t, http.StatusOK))["max_users"]
		}
		if got := read("alice", "acme"); got != 50.0 {
			t.Errorf("at first max_users is %v, want the default 50", got)
		}
		if got := put("200").body; got != `{"key":"max_users","value":200}`+"\n" {
			t.Errorf("PUT answers %s", got)
		}
		if acme, globex := read("alice", "acme"), read("bob", "globex"); acme != 200.0 || globex != 50.0 {
			t.Errorf("max_users is %v for acme and %v for globex, want 200 and 50", acme, globex)
		}
		put("null")
		if got := read("alice", "acme"); got != 50.0 {
			t.Errorf("after null max_users is %v, want the default 50", got)
		}
	})
}

func TestTheLoginPageGreetsByTenant(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		_, err := s.Tenancy().Lifecycle().Create(t.Context(), tenancy.CreateTenant{Slug: "bobby", Name: `<script>alert("1")</script>`})
		if err != nil {
			t.Fatal(err)
		}
		page := func(c call) string {
			c.path = orElse(c.path, "/login")
			return s.do(t, c).want(t, http.StatusOK).body
		}
		plain := page(call{})
		if got := page(call{host: "acme"}); !strings.Contains(got, "Welcome to ACME Corp") {
			t.Errorf("acme's page is %s", got)
		}
		if got := page(call{path: "/tenants/globex/login"}); !strings.Contains(got, "Welcome to Globex Corporation") {
			t.Errorf("globex's page is %s", got)
		}
		if got := page(call{host: "bobby"}); strings.Contains(got, "<script>") || !strings.Contains(got, "&lt;script&gt;") {
			t.Errorf("bobby's page is %s", got)
		}
		for _, host := range []string{"initech", "nobody", "www", "a.b"} {
			if got := page(call{host: host}); got != plain {
				t.Errorf("the page of %s is %s", host, got)
			}
		}
		if got := page(call{host: "acme", token: "garbage"}); !strings.Contains(got, "Welcome to ACME Corp") {
			t.Errorf("with a bad token acme's page is %s", got)
		}
	})
}

func TestThePublicParts(t *testing.T) {
	t.Parallel()
	onEachBackend(t, func(t *testing.T, s *site) {
		s.do(t, call{path: "/healthz"}).want(t, http.StatusOK)
		s.do(t, call{path: "/nothing"}).problem(t, http.StatusNotFound, "")
		s.do(t, call{method: "POST", path: "/login"}).problem(t, http.StatusMethodNotAllowed, "")
		if got := s.do(t, call{path: "//notes"}).status; got != http.StatusMovedPermanently && got != http.StatusTemporaryRedirect {
			t.Errorf("a path that is not clean: status %d", got)
		}
	})
}
