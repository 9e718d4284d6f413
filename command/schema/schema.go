package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// object is a JSON object.
type object = map[string]any

// builder makes a schema, and those that it refers to.
type builder struct {
	table roles.Table
	kinds map[string]string // of the roles: main, meta or ipam
	defs  object
}

const dialect = "https://json-schema.org/draft/2020-12/schema"

// OfList is the schema of a network configuration list.
func OfList(table roles.Table, kinds map[string]string) map[string]any {
	b := &builder{table, kinds, object{}}
	out := b.closed(keys.OfList())
	for name, what := range keys.OthersOfList() {
		properties(out)[name] = object{"description": what}
	}
	out["$schema"], out["title"], out["$defs"] = dialect, "CNI network configuration list", b.defs
	return out
}

// OfRole is the schema of a role's configuration; of an ipam role's, that of the key ipam. The role must be in the table.
func OfRole(table roles.Table, kinds map[string]string, name string) map[string]any {
	b := &builder{table, kinds, object{}}
	ref := b.role(name)
	return object{
		"$schema": dialect, "title": "configuration of the CNI plugin " + name,
		"allOf": []any{ref}, "required": []string{"type"}, "properties": object{"type": object{"const": name}}, "$defs": b.defs,
	}
}

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

func properties(o object) object {
	p, ok := o["properties"].(object)
	if !ok {
		p = object{}
		o["properties"] = p
	}
	return p
}

// def makes a schema that others refer to, once.
func (b *builder) def(name string, make func() object) object {
	if b.defs[name] == nil {
		b.defs[name] = object{} // it may refer to itself
		b.defs[name] = make()
	}
	return ref(name)
}

// role is the schema of a role's own configuration, or of its part in the key ipam.
func (b *builder) role(name string) object {
	return b.def(name, func() object {
		own := keys.OfRole(b.table[name])
		if b.kinds[name] == "ipam" {
			own = keys.Merge(own.Find("ipam"), keys.OfIPAM())
			own.Doc, own.Required = "", false
		} else {
			own = keys.Merge(own, keys.OfPlugin())
		}
		out := b.closed(own)
		if name == "bridge" {
			properties(out)["addIf"] = object{"description": "kubenet's, which minikube still writes; nobody reads it"}
		}
		out["required"] = without(out["required"], "type") // told where it is chosen by
		return out
	})
}

func without(list any, name string) []string {
	names, _ := list.([]string)
	return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == name })
}

// plugin is any plugin of a list: one of ours is known by its type.
func (b *builder) plugin() object {
	return b.def("plugin", func() object {
		out := b.byType("main", "meta")
		out["required"] = []string{"type"}
		return out
	})
}

// ipam is the key ipam, whatever plugin it is for.
func (b *builder) ipam() object {
	return b.def("ipam", func() object { return b.byType("ipam") })
}

// byType has the schema of a role of those kinds apply where it is named. Roles of other kinds do not belong there.
func (b *builder) byType(kinds ...string) object {
	var all []any
	ours, others := []string{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(b.table)) {
		if !slices.Contains(kinds, b.kinds[name]) {
			others = append(others, name)
			continue
		}
		ours = append(ours, name)
		all = append(all, object{"if": isType(object{"const": name}), "then": b.role(name)})
	}
	return object{
		"type": "object",
		"properties": object{"type": object{
			"description": "name of the plugin, which is that of its executable",
			"anyOf":       []any{object{"enum": ours}, object{"type": "string", "not": object{"enum": others}}},
		}},
		"allOf": all,
	}
}

func isType(value object) object {
	return object{"properties": object{"type": value}, "required": []string{"type"}}
}

// closed is an object without other keys than those that are known, remarks, and keys of a namespace.
func (b *builder) closed(k *keys.Key) object {
	out := object{"type": "object"}
	props, required := properties(out), []string{}
	for _, sub := range k.Keys {
		props[sub.Name] = b.value(sub)
		if sub.Alias != "" {
			props[sub.Alias] = b.value(sub)
		}
		if sub.Required {
			required = append(required, sub.Name)
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
	if !k.Open {
		out["additionalProperties"] = false
		out["patternProperties"] = object{"[./]|^[_$#]": true, "^([Cc]omments?|[Dd]escription|[Dd]ocumentation)$": true}
	}
	return out
}

// value is the schema of what belongs into a key.
func (b *builder) value(k *keys.Key) object {
	out := b.kind(k)
	if k.Doc != "" {
		out["description"] = k.Doc
	}
	if k.Default != "" && !strings.Contains(k.Default, " ") && k.Plugin == "" {
		var v any = k.Default
		if k.Kind != keys.String {
			v = json.RawMessage(k.Default)
		}
		out["default"] = v
	}
	return out
}

func (b *builder) kind(k *keys.Key) object {
	switch k.Plugin {
	case "ipam":
		return object{"allOf": []any{b.ipam()}}
	case "list":
		return object{"type": "array", "items": b.plugin(), "minItems": 1}
	case "delegate":
		return object{"type": "object"}
	}
	switch k.Kind {
	case keys.String:
		return stringKind(k)
	case keys.Bool:
		return object{"type": "boolean"}
	case keys.Flag:
		return object{"enum": []any{false, true, "false", "true"}}
	case keys.Int, keys.Uint:
		return numberKind(k)
	case keys.List:
		if k.Elem == nil {
			return object{"type": "array"}
		}
		items := b.value(k.Elem)
		if len(k.Enum) > 0 {
			items["enum"] = k.Enum
		}
		return object{"type": "array", "items": items}
	case keys.Object:
		if k.Elem != nil {
			return object{"type": "object", "additionalProperties": b.value(k.Elem)}
		}
		return b.closed(k)
	}
	return object{}
}

func stringKind(k *keys.Key) object {
	out := object{"type": "string"}
	switch {
	case k.Name == "cniVersion":
		out["enum"] = roles.Versions()
	case k.Name == "name" && k.Doc != "":
		out["pattern"] = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"
	case len(k.Enum) > 0 && !k.Required:
		out["enum"] = append(slices.Clone(k.Enum), "") // the default
	case len(k.Enum) > 0:
		out["enum"] = k.Enum
	}
	return out
}

func numberKind(k *keys.Key) object {
	out := object{"type": "integer"}
	limits := out
	if k.Also != nil {
		limits = object{}
		out["anyOf"] = []any{object{"const": *k.Also}, limits}
	}
	switch {
	case k.Min != nil:
		limits["minimum"] = *k.Min
	case k.Kind == keys.Uint:
		limits["minimum"] = 0
	}
	if k.Max != nil {
		limits["maximum"] = *k.Max
	}
	return out
}
