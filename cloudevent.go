package tenancy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// CloudEventType is what the type of a CloudEvent begins with; the [EventType] follows.
const CloudEventType = "dev.lexigram.tenancy."

// CloudEventContentType is the media type of what [CloudEvent] returns.
const CloudEventContentType = "application/cloudevents+json; charset=UTF-8"

// cloudEvent is the structured JSON form of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time,omitempty"`
	DataContentType string `json:"datacontenttype"`
	TenantID        string `json:"tenantid"`
	Data            *Event `json:"data"`
}

// CloudEvent returns e as CloudEvents 1.0 in structured JSON mode. The source is a URI reference that
// names the deployment, such as https://app.example/tenancy; together with the id it identifies the
// event for good. The subject, and the extension tenantid, are the tenant's id; the data is the event
// itself. What CloudEvents cannot hold is an [*InvalidError].
func CloudEvent(e Event, source string) ([]byte, error) {
	c := cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: source, Type: CloudEventType + string(e.Type),
		Subject: e.TenantID, DataContentType: "application/json", TenantID: e.TenantID, Data: &e,
	}
	if !e.Time.IsZero() {
		c.Time = e.Time.UTC().Format(time.RFC3339Nano)
		e.Time = e.Time.UTC()
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("cloud event %q: %w", e.ID, err)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(c); err != nil {
		return nil, fmt.Errorf("cloud event %q: %w", e.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// check returns an error when an attribute breaks a rule of the specification.
func (c cloudEvent) check() error {
	for _, a := range []struct{ name, value string }{
		{"id", c.ID}, {"source", c.Source}, {"type", strings.TrimPrefix(c.Type, CloudEventType)}, {"tenantid", c.TenantID},
	} {
		if a.value == "" || !utf8.ValidString(a.value) || strings.ContainsFunc(a.value, notInCloudEvents) {
			return &InvalidError{
				Field: "cloud event's " + a.name, Value: fmt.Sprintf("%.64s", a.value),
				Remedy: "give one that is not empty, in UTF-8 and without control characters",
			}
		}
	}
	if _, err := url.Parse(c.Source); err != nil || strings.ContainsFunc(c.Source, notInURI) {
		return &InvalidError{
			Field: "cloud event's source", Value: fmt.Sprintf("%.64s", c.Source),
			Remedy: "give a URI or a relative one, such as https://app.example/tenancy or /tenancy",
		}
	}
	return nil
}

// notInCloudEvents tells the characters that a String of CloudEvents must not have.
func notInCloudEvents(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}

func notInURI(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r) }

// ParseCloudEvent reads what [CloudEvent] wrote and returns the event and its source. A CloudEvent of
// another type, and one whose attributes contradict its data, is an error.
func ParseCloudEvent(text []byte) (e Event, source string, err error) {
	fail := func(err error) (Event, string, error) {
		return Event{}, "", fmt.Errorf("parse cloud event: %w", err)
	}
	members := map[string]json.RawMessage{} // since the names of a struct match in any letter case
	if err := json.Unmarshal(text, &members); err != nil {
		return fail(err)
	}
	var c cloudEvent
	for name, to := range map[string]*string{
		"specversion": &c.SpecVersion, "id": &c.ID, "source": &c.Source, "type": &c.Type, "subject": &c.Subject,
		"time": &c.Time, "datacontenttype": &c.DataContentType, "tenantid": &c.TenantID,
	} {
		if value, found := members[name]; found {
			if err := json.Unmarshal(value, to); err != nil {
				return fail(fmt.Errorf("attribute %s: %w", name, err))
			}
		}
	}
	if c.SpecVersion != "1.0" {
		return fail(fmt.Errorf("attribute specversion is %q: this program reads 1.0", c.SpecVersion))
	}
	if !strings.HasPrefix(c.Type, CloudEventType) {
		return fail(fmt.Errorf("attribute type is %q: it must begin with %s", c.Type, CloudEventType))
	}
	if err := c.check(); err != nil {
		return fail(err)
	}
	if media, _, err := mime.ParseMediaType(c.DataContentType); c.DataContentType != "" && (err != nil || media != "application/json") {
		return fail(fmt.Errorf("attribute datacontenttype is %q: this program reads application/json", c.DataContentType))
	}
	data, found := members["data"]
	if !found {
		return fail(errors.New("it has no data"))
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return fail(fmt.Errorf("data: %w", err))
	}
	if err := c.agrees(e); err != nil {
		return fail(err)
	}
	return e, c.Source, nil
}

// agrees returns an error when an attribute says something else than the data.
func (c cloudEvent) agrees(e Event) error {
	var at time.Time
	if c.Time != "" {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, c.Time); err != nil {
			return fmt.Errorf("attribute time: %w", err)
		}
		if year := at.UTC().Year(); year < 0 || year > 9999 {
			return fmt.Errorf("attribute time is %q: it is in year %d of UTC, which RFC 3339 cannot write", c.Time, year)
		}
	}
	for name, agrees := range map[string]bool{
		"id": c.ID == e.ID, "type": c.Type == CloudEventType+string(e.Type), "tenantid": c.TenantID == e.TenantID,
		"subject": c.Subject == e.TenantID, "time": at.Equal(e.Time),
	} {
		if !agrees {
			return fmt.Errorf("attribute %s contradicts the data", name)
		}
	}
	return nil
}
