package roles

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
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
	switch {
	case !errors.As(err, &kind):
		return errcode.Errorf(errcode.InvalidConfig, "%s: %w", what, err)
	case kind.Field == "":
		return errcode.Errorf(errcode.InvalidConfig, "%s is a JSON %s, where %s belongs", what, kind.Value, wanted(kind.Type.Kind()))
	}
	return errcode.Errorf(errcode.InvalidConfig, "%s: it is a JSON %s, where %s belongs", keyOf(kind.Field), kind.Value, wanted(kind.Type.Kind()))
}

// keyOf is the key as the configuration has it. In the path of a key that an embedded struct holds, package json also names the struct's
// type, which is the only part that begins with a capital.
func keyOf(path string) string {
	parts := strings.Split(path, ".")
	parts = slices.DeleteFunc(parts, func(p string) bool { return p != "" && p[0] >= 'A' && p[0] <= 'Z' })
	return strings.Join(parts, ".")
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
