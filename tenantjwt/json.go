package tenantjwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a token's JSON.
const maxDepth = 32

// decodeObject decodes one JSON object, numbers as json.Number. Unlike encoding/json alone it
// refuses what two parsers may read differently: a repeated name, invalid UTF-8, and anything
// after the object.
func decodeObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	value, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("JSON is nested too deeply")
	}
	token, err := dec.Token()
	if err != nil {
		return nil, errors.New("not valid JSON") // the decoder's text would quote the token
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			token, err := dec.Token()
			name, ok := token.(string)
			if err != nil || !ok {
				return nil, errors.New("not valid JSON")
			}
			if _, repeated := object[name]; repeated {
				return nil, errors.New("a JSON name is repeated")
			}
			if object[name], err = decodeValue(dec, depth+1); err != nil {
				return nil, err
			}
		}
		return object, closeDelim(dec)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			value, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, closeDelim(dec)
	}
	return token, nil
}

// closeDelim reads the bracket that More has seen coming, or meets the end of the input.
func closeDelim(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return errors.New("not valid JSON")
	}
	return nil
}
