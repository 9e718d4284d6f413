// Package keys tells what keys a configuration has, by the structs that roles read it into (roles.Described).
package keys

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/roles"
)

// Kind is what belongs into a key.
type Kind int

// The kinds of values.
const (
	Any Kind = iota // the role hands it on, or nobody reads it
	String
	Bool
	Flag // a boolean, or the word for one
	Int
	Uint
	List
	Object
)

// String is the kind in the words of roles.Decode.
func (k Kind) String() string {
	switch k {
	case String:
		return "a string"
	case Bool, Flag:
		return "a boolean"
	case Int:
		return "a whole number"
	case Uint:
		return "a whole number from 0"
	case List:
		return "a list"
	case Object:
		return "an object"
	}
	return "any value"
}

// Key is a key of a configuration, or an element of a list. The fields from Doc on are those of the tags that roles.Described tells of.
type Key struct {
	Name string
	Kind Kind
	Bits int    // of a number
	Keys []*Key // of an object that has keys of its own
	Elem *Key   // what a list holds, or an object that takes any key; nil: that is not known

	Doc, Default, Plugin, File, Alias string
	Required                          bool
	Open                              bool // an object that may have others' keys besides
	Enum                              []string
	Min, Max, Also                    *int64
}

// Of are the keys of a configuration that is read into what conf points to.
func Of(conf any) *Key { return ofType(reflect.TypeOf(conf)) }

// OfRole are the keys of a role.
func OfRole(r roles.Role) *Key {
	d, ok := r.(roles.Described)
	if !ok {
		return &Key{Kind: Object}
	}
	return Of(d.Conf())
}

// Find is the key below that path, nil if there is none.
func (k *Key) Find(path ...string) *Key {
	for _, name := range path {
		var found *Key
		for _, sub := range k.Keys {
			if sub.Name == name {
				found = sub
			}
		}
		if k = found; k == nil {
			return nil
		}
	}
	return k
}

// Merge are the keys of both.
func Merge(a, b *Key) *Key {
	if b == nil {
		return a
	}
	if a == nil {
		return b
	}
	out := *a
	out.Keys, out.Open = nil, a.Open || b.Open
	for _, k := range a.Keys {
		if other := b.Find(k.Name); other != nil && k.Kind == Object && k.Plugin == "" {
			k = Merge(k, other)
		}
		out.Keys = append(out.Keys, k)
	}
	for _, k := range b.Keys {
		if a.Find(k.Name) == nil {
			out.Keys = append(out.Keys, k)
		}
	}
	return &out
}

func ofType(t reflect.Type) *Key {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		return &Key{}
	}
	switch t.Kind() {
	case reflect.String:
		return &Key{Kind: String}
	case reflect.Bool:
		return &Key{Kind: Bool}
	case reflect.Int, reflect.Int64, reflect.Int32:
		return &Key{Kind: Int, Bits: t.Bits()}
	case reflect.Uint32, reflect.Uint64:
		return &Key{Kind: Uint, Bits: t.Bits()}
	case reflect.Slice:
		return &Key{Kind: List, Elem: ofType(t.Elem())}
	case reflect.Map:
		return &Key{Kind: Object, Elem: ofType(t.Elem())}
	case reflect.Struct:
		k := &Key{Kind: Object}
		k.add(t)
		return k
	}
	return &Key{}
}

// add takes the fields of a struct in, those of embedded structs in their place.
func (k *Key) add(t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("json")
		if !ok {
			if f.Anonymous && f.Type.Kind() == reflect.Struct {
				k.add(f.Type)
				k.override(f.Tag)
			}
			continue
		}
		sub := ofType(f.Type)
		sub.Name, _, _ = strings.Cut(tag, ",")
		sub.tags(f.Tag)
		k.Keys = append(k.Keys, sub)
	}
}

// override gives one of the keys other tags than the embedded struct has for it.
func (k *Key) override(tag reflect.StructTag) {
	if sub := k.Find(tag.Get("key")); sub != nil {
		sub.Doc, sub.Required = tag.Get("doc"), tag.Get("required") == "true"
	}
}

func (k *Key) tags(tag reflect.StructTag) {
	k.Doc, k.Default, k.Plugin, k.File, k.Alias = tag.Get("doc"), tag.Get("default"), tag.Get("plugin"), tag.Get("file"), tag.Get("alias")
	k.Required, k.Open = tag.Get("required") == "true", tag.Get("open") == "true"
	if enum := tag.Get("enum"); enum != "" {
		k.Enum = strings.Split(enum, ",")
	}
	k.Min, k.Max, k.Also = number(tag.Get("min")), number(tag.Get("max")), number(tag.Get("also"))
	switch tag.Get("type") {
	case "int":
		k.Kind, k.Bits = Int, 64
	case "flag":
		k.Kind = Flag
	case "list":
		k.Kind = List
	case "object":
		k.Kind, k.Open = Object, true
	}
	k.Open = k.Open || k.Plugin != "" // what else is in it is another plugin's business
}

func number(text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}
