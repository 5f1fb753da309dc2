package news_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"lexigram.dev/tenancy"
	"lexigram.dev/tenancy/internal/news"
)

func TestWhatIsSentIsHeard(t *testing.T) {
	t.Parallel()
	for _, c := range []tenancy.Change{
		{},
		{TenantID: "acme"},
		{TenantID: "acme", Revision: 7},
		{TenantID: "<&>\u2028\"\\\x00é", Revision: 1 << 62},
		{Revision: 3},
		{TenantID: strings.Repeat("\x00", 128)},
	} {
		if got := heard(t, c); got != c {
			t.Errorf("sent %+v, heard %+v", c, got)
		}
	}
}

func TestAnIDWithoutATextIsNewsOfAnyTenant(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a\xff", strings.Repeat("x", news.MaxSize), strings.Repeat("\x00", 1000)} {
		if got := heard(t, tenancy.Change{TenantID: id, Revision: 1}); got != (tenancy.Change{}) {
			t.Errorf("sent %.20q, heard %+v", id, got)
		}
	}
}

func heard(t *testing.T, c tenancy.Change) tenancy.Change {
	t.Helper()
	text, err := news.Encode(c)
	if err != nil || len(text) > news.MaxSize {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	return news.Decode(text)
}

// hostile is what a stranger may write to a channel.
var hostile = []string{
	"", " ", "acme", "null", "[]", "7", `"acme"`, "{}", `{"tenant_id":7}`, `{"tenant_id":null}`, `{"tenant_id":"acme"`, `{"tenant_id":"acme"}}`,
	`{"tenant_id":"acme"} {"tenant_id":"globex"}`, `{"tenant_id":"acme","tenants":["globex"]}`, `{"tenant_id":"acme","revision":1e400}`,
	`{"tenant_id":"acme","revision":"1"}`, "{\"tenant_id\":\"a\xff\"}", strings.Repeat("[", 5000), strings.Repeat("[", 1000),
	`{"tenant_id":"` + strings.Repeat("x", news.MaxSize) + `"}`, "\x00", "PING\r\n",
}

func TestWhatIsNotUnderstoodIsNewsOfAnyTenant(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		if c := news.Decode([]byte(text)); c != (tenancy.Change{}) {
			t.Errorf("%.60q is heard as %+v", text, c)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range hostile {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"tenant_id":"acme","revision":3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := news.Decode(text)
		if c == (tenancy.Change{}) {
			return
		}
		if !json.Valid(text) || !utf8.Valid(text) || len(text) > news.MaxSize || !utf8.ValidString(c.TenantID) {
			t.Errorf("%q is heard as %+v", text, c)
		}
		if again := heard(t, c); again != c && len(text) < news.MaxSize/8 {
			t.Errorf("%+v is passed on as %+v", c, again)
		}
	})
}
