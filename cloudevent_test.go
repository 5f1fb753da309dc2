package tenancy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"lexigram.dev/tenancy"
)

const cloudSource = "https://app.example/tenancy"

func anEvent() tenancy.Event {
	return tenancy.Event{
		ID: "0192b6a0-0000-7000-8000-000000000001", Type: tenancy.TenantConfigChanged, TenantID: "t-1", Slug: "acme", Revision: 7,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC), Reason: `<"é"> 👍`,
		Config: &tenancy.ConfigChange{Key: "plan", Old: json.RawMessage(`"free"`), New: json.RawMessage(`{"a":1}`)},
	}
}

func TestCloudEventsFollowTheSpecification(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9]{1,20}$`)
	for _, e := range documentedEvents() {
		text := must[[]byte](t)(tenancy.CloudEvent(e, cloudSource))
		var attributes map[string]any
		if err := json.Unmarshal(text, &attributes); err != nil {
			t.Fatal(err)
		}
		for key, value := range attributes {
			if !name.MatchString(key) {
				t.Errorf("%s: the attribute name %q is not of lower-case letters and digits", e.Type, key)
			}
			if s, isString := value.(string); key != "data" && (!isString || s == "") {
				t.Errorf("%s: the attribute %s is %v", e.Type, key, value)
			}
		}
		for _, required := range []string{"id", "source", "specversion", "type", "subject", "time", "datacontenttype", "tenantid", "data"} {
			if attributes[required] == nil {
				t.Errorf("%s: there is no %s in %s", e.Type, required, text)
			}
		}
		if attributes["specversion"] != "1.0" || attributes["type"] != "dev.lexigram.tenancy."+string(e.Type) ||
			attributes["subject"] != e.TenantID || attributes["tenantid"] != e.TenantID || attributes["id"] != e.ID {
			t.Errorf("%s", text)
		}
		if _, err := time.Parse(time.RFC3339, attributes["time"].(string)); err != nil {
			t.Error(err)
		}
		if _, err := url.Parse(attributes["source"].(string)); err != nil {
			t.Error(err)
		}
	}
}

func TestCloudEventsComeBack(t *testing.T) {
	t.Parallel()
	later := anEvent()
	later.Time = later.Time.In(time.FixedZone("CET", 3600))
	bare := tenancy.Event{ID: "e", Type: "TenantRenamed", TenantID: "t"}
	for _, e := range append(documentedEvents(), anEvent(), later, bare) {
		text := must[[]byte](t)(tenancy.CloudEvent(e, cloudSource))
		got, source, err := tenancy.ParseCloudEvent(text)
		if e.Time = e.Time.UTC(); err != nil || source != cloudSource || !reflect.DeepEqual(got, e) {
			t.Errorf("%s came back as %+v from %q, %v", text, got, source, err)
		}
	}
}

func TestWhatCloudEventsCannotHoldIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(e *tenancy.Event, source *string){
		"no id":              func(e *tenancy.Event, _ *string) { e.ID = "" },
		"control characters": func(e *tenancy.Event, _ *string) { e.ID = "a\nb" },
		"C1 characters":      func(e *tenancy.Event, _ *string) { e.ID = "a\u0085b" },
		"noncharacters":      func(e *tenancy.Event, _ *string) { e.ID = "a\ufffe" },
		"broken UTF-8":       func(e *tenancy.Event, _ *string) { e.ID = "a\xff" },
		"no type":            func(e *tenancy.Event, _ *string) { e.Type = "" },
		"no tenant":          func(e *tenancy.Event, _ *string) { e.TenantID = "" },
		"no source":          func(_ *tenancy.Event, source *string) { *source = "" },
		"a blank in source":  func(_ *tenancy.Event, source *string) { *source = "my app" },
		"a source of é":      func(_ *tenancy.Event, source *string) { *source = "/é" },
		"no URI":             func(_ *tenancy.Event, source *string) { *source = "http://[::1" },
	} {
		e, source := anEvent(), cloudSource
		change(&e, &source)
		var invalid *tenancy.InvalidError
		if text, err := tenancy.CloudEvent(e, source); !errors.As(err, &invalid) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}

func TestForeignAndContradictingCloudEventsAreRefused(t *testing.T) {
	t.Parallel()
	good := string(must[[]byte](t)(tenancy.CloudEvent(anEvent(), cloudSource)))
	for old, replacement := range map[string]string{
		`"specversion":"1.0"`:                    `"specversion":"0.3"`,
		`"specversion"`:                          `"SpecVersion"`,
		`"dev.lexigram.tenancy.`:                 `"com.example.`,
		`"subject":"t-1"`:                        `"subject":"t-2"`,
		`"tenantid":"t-1"`:                       `"tenantid":"t-2"`,
		`"tenant_id":"t-1"`:                      `"tenant_id":"t-2"`,
		`"tenantid":`:                            `"tenantId":`,
		`TenantConfigChanged","sub`:              `TenantPurged","sub`,
		`123456Z","data`:                         `123457Z","data`,
		`"time":"2026-01-02T`:                    `"time":"2026-01-02 `,
		`application/json`:                       `application/xml`,
		`"data"`:                                 `"data_base64"`,
		`"source":"https://app.example/tenancy"`: `"source":""`,
		`"id":"0192b6a0`:                         `"id":"1192b6a0`,
		`"revision":7`:                           `"revision":"7"`,
		`{`:                                      `[`,
	} {
		bad := strings.Replace(good, old, replacement, 1)
		if bad == good {
			t.Fatalf("%s is not in %s", old, good)
		}
		if e, _, err := tenancy.ParseCloudEvent([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, e)
		}
	}
}

func FuzzParseCloudEvent(f *testing.F) {
	text, err := tenancy.CloudEvent(anEvent(), cloudSource)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"specversion":"1.0","id":"e","source":"/","type":"dev.lexigram.tenancy.X","subject":"t","tenantid":"t","data":{"id":"e","type":"X","tenant_id":"t"}}`))
	const early = "0000-01-01T00:00:00+23:00" // which is the year before in UTC
	f.Add([]byte(strings.ReplaceAll(string(text), anEvent().Time.UTC().Format(time.RFC3339Nano), early)))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, source, err := tenancy.ParseCloudEvent(text)
		if err != nil {
			return
		}
		again, err := tenancy.CloudEvent(e, source)
		if err != nil {
			t.Fatalf("%s was read, and cannot be written again: %v", text, err)
		}
		if _, _, err := tenancy.ParseCloudEvent(again); err != nil {
			t.Errorf("%s was read, and not once more as %s: %v", text, again, err)
		}
	})
}

// TestTheCatalogueOfEventsIsTrue: docs/EVENTS.md shows each event as it is. With UPDATE_EVENTS it is written.
func TestTheCatalogueOfEventsIsTrue(t *testing.T) {
	const begin, end = "<!-- begin events: UPDATE_EVENTS=1 go test -run CatalogueOfEvents . -->\n", "<!-- end events -->"
	doc, err := os.ReadFile("docs/EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(doc), begin)
	shown, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("docs/EVENTS.md has no %s", begin)
	}
	var want strings.Builder
	for _, e := range documentedEvents() {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, must[[]byte](t)(tenancy.CloudEvent(e, cloudSource)), "", "  "); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "\n### %s\n\n```json\n%s\n```\n", e.Type, pretty.String())
	}
	want.WriteString("\n")
	if os.Getenv("UPDATE_EVENTS") != "" {
		if err := os.WriteFile("docs/EVENTS.md", []byte(before+begin+want.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want.String() {
		t.Errorf("docs/EVENTS.md is out of date; run this test with UPDATE_EVENTS=1. It should show:\n%s", want.String())
	}
	declared, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`EventType = "(\w+)"`).FindAllStringSubmatch(string(declared), -1) {
		if !strings.Contains(shown, "### "+m[1]+"\n") {
			t.Errorf("the catalogue does not show %s", m[1])
		}
	}
}

// documentedEvents are one of each type, as docs/EVENTS.md shows them.
func documentedEvents() []tenancy.Event {
	types := []tenancy.EventType{
		tenancy.TenantProvisioned, tenancy.TenantUpdated, tenancy.TenantActivated, tenancy.TenantDeactivated,
		tenancy.TenantSuspended, tenancy.TenantArchived, tenancy.TenantPurged, tenancy.TenantConfigChanged,
	}
	var events []tenancy.Event
	for i, typ := range types {
		e := tenancy.Event{
			ID: "019b7d3e-4c80-7000-8000-00000000000" + string(rune('1'+i)), Type: typ,
			TenantID: "019b7d3e-0000-7000-8000-0000000000aa", Slug: "acme", Revision: int64(i + 1),
			Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		}
		switch typ {
		case tenancy.TenantSuspended:
			e.Reason = "unpaid since December"
		case tenancy.TenantPurged:
			e.Manifest = &tenancy.Manifest{Time: e.Time, Items: []tenancy.ManifestItem{{Kind: "rows", Name: "orders", Rows: 1200}}}
		case tenancy.TenantConfigChanged:
			e.Config = &tenancy.ConfigChange{Key: "max_users", Old: json.RawMessage(`10`), New: json.RawMessage(`25`)}
		}
		events = append(events, e)
	}
	return events
}
