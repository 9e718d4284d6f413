package roles

import (
	"encoding/json"
	"errors"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// Decode reads a network configuration into a role's own struct. Keys that the struct lacks are passed over (CNI spec, section 1: a
// plugin may be handed keys that are not its own).
//
// What is not JSON is an error with code errcode.DecodingFailure, a key of the wrong type one with errcode.InvalidConfig that names the
// key. DEL and GC read leniently: then a key of the wrong type keeps its default, for they must work with a configuration that ADD refused.
func Decode(conf []byte, into any, lenient bool) error {
	err := json.Unmarshal(conf, into)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return errcode.Errorf(errcode.DecodingFailure, "the network configuration is not JSON: %w (at byte %d)", err, syntax.Offset)
	}
	if lenient {
		return nil
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return errcode.Errorf(errcode.InvalidConfig, "%s: it is a JSON %s, where a %s belongs", kind.Field, kind.Value, wanted(kind))
	}
	return errcode.Errorf(errcode.InvalidConfig, "the network configuration: %w", err)
}

// wanted names a Go type as somebody who writes JSON knows it.
func wanted(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "bool":
		return "boolean"
	case "string":
		return "string"
	case "slice", "array":
		return "list"
	case "struct", "map":
		return "object"
	case "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64":
		return "whole number"
	}
	return e.Type.String()
}
