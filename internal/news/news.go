// Package news answers the question "what does a bus send?": the text of a [tenancy.Change], the same
// over every broker. A text that cannot be understood is news of any tenant, so that what somebody else
// writes to the channel, or a later version, makes nodes look up more than they need, never less.
package news

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"

	"lexigram.dev/tenancy"
)

// MaxSize is the most bytes of a text that is read or written.
const MaxSize = 4096

// Encode returns the text of a change. A tenant's id that has no such text, for it is too long or not
// UTF-8, becomes news of any tenant.
func Encode(c tenancy.Change) ([]byte, error) {
	if utf8.ValidString(c.TenantID) {
		if text, err := json.Marshal(c); err != nil || len(text) <= MaxSize {
			return text, err
		}
	}
	return json.Marshal(tenancy.Change{})
}

// Decode returns the change that a text tells of, and news of any tenant when it cannot be understood
// whole.
func Decode(text []byte) tenancy.Change {
	if len(text) > MaxSize || !utf8.Valid(text) {
		return tenancy.Change{}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var c tenancy.Change
	if decoder.Decode(&c) != nil {
		return tenancy.Change{}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return tenancy.Change{}
	}
	return c
}
