package roles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Decode reads a network configuration into a role's own struct. Keys that the struct lacks are passed over (CNI spec, section 1: a
// plugin may be handed keys that are not its own).
//
// What is not JSON is an error with code errcode.DecodingFailure, a key of the wrong type one with errcode.InvalidConfig that names the
// key. DEL and GC read leniently: then a key of the wrong type keeps its default, for they must work with a configuration that ADD refused.
func Decode(conf []byte, into any, lenient bool) error {
	return decode("the network configuration", conf, into, lenient)
}

// decode is Decode for any JSON text; what names the text as a whole in errors.
func decode(what string, text []byte, into any, lenient bool) error {
	err := json.Unmarshal(text, into)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return errcode.Errorf(errcode.DecodingFailure, "%s is not JSON: %w (at byte %d)", what, err, syntax.Offset)
	}
	if lenient {
		return nil
	}
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return errcode.Errorf(errcode.InvalidConfig, "%s: %w", what, err)
	}
	key, _ := keyAt(json.NewDecoder(bytes.NewReader(text)), "", kind.Offset)
	if key == "" {
		return errcode.Errorf(errcode.InvalidConfig, "%s is a JSON %s, where %s belongs", what, kind.Value, wanted(kind.Type.Kind()))
	}
	return errcode.Errorf(errcode.InvalidConfig, "%s: it is a JSON %s, where %s belongs", key, kind.Value, wanted(kind.Type.Kind()))
}

// keyAt is the key of the value that the offset is in, if it is in the next one. Package json knows only a path in Go's types, which names
// embedded structs, and neither elements of lists nor keys of maps.
func keyAt(d *json.Decoder, key string, offset int64) (string, bool) {
	d.UseNumber() // there are numbers that Go has no type for
	token, err := d.Token()
	if err != nil || d.InputOffset() >= offset {
		return key, true
	}
	if token != json.Delim('{') && token != json.Delim('[') {
		return "", false
	}
	for i := 0; d.More(); i++ {
		at := Elem(key, i)
		if token == json.Delim('{') {
			name, err := d.Token()
			if err != nil {
				return key, true
			}
			at = strings.TrimPrefix(fmt.Sprintf("%s.%v", key, name), ".")
		}
		if at, found := keyAt(d, at, offset); found {
			return at, true
		}
	}
	_, _ = d.Token() // the closing bracket
	return "", false
}

// WithKeys is a network configuration with the keys set, as a runtime makes it for a call. What the keys held before is replaced.
func WithKeys(conf []byte, set map[string]any) ([]byte, error) {
	return withKeys("the network configuration", conf, set)
}

// withKeys is WithKeys for any JSON object; what names it in errors.
func withKeys(what string, text []byte, set map[string]any) ([]byte, error) {
	keys := map[string]json.RawMessage{}
	if err := decode(what, text, &keys, false); err != nil {
		return nil, err
	}
	if keys == nil { // it was null
		keys = map[string]json.RawMessage{}
	}
	for key, value := range set {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, errcode.Errorf(errcode.Internal, "%s: set %s: %w", what, key, err)
		}
		keys[key] = raw
	}
	return json.Marshal(keys)
}

// wanted names a Go kind as somebody who writes JSON knows it.
func wanted(kind reflect.Kind) string {
	switch kind {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0"
	}
	return "a " + kind.String()
}
