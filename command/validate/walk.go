package validate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// walker compares values with the keys that there are.
type walker struct {
	f     *file
	owner string           // whose keys they are, for messages
	bad   map[*node]string // what has a wrong type, and what can stand for it
	exact bool             // letter case counts
	// elsewhere tells where a key that is unknown here does belong, if it is one of another place; empty: nowhere.
	elsewhere func(name string) string
	others    func(name string) []string // the plugins that have a key of the name; nil: none
	// top takes care of a key at the top itself; false: it does not.
	top func(m member) bool
}

func (w *walker) value(n *node, k *keys.Key, at string) {
	if n.kind == 'n' || k.Kind == keys.Any {
		return
	}
	if !fits(n, k) {
		w.bad[n] = ""
		if k.Min != nil {
			w.bad[n] = strconv.FormatInt(*k.Min, 10)
		}
		what := n.describe()
		if n.kind == '0' {
			what = n.text
		}
		w.f.report(Error, n.pos, at, unquoted(n, k), "%s, where %s belongs", what, k.Kind)
		return
	}
	switch n.kind {
	case '[':
		for i, e := range n.elems {
			if k.Elem != nil {
				w.value(e, k.Elem, roles.Elem(at, i))
			}
		}
	case '{':
		w.object(n, k, at)
	}
}

// unquoted is what stands in a string, if it is what belongs there.
func unquoted(n *node, k *keys.Key) string {
	if n.kind != '"' || k.Kind == keys.List || k.Kind == keys.Object || len(n.text) > 20 {
		return ""
	}
	inside, err := parse([]byte(n.text))
	if err != nil || !fits(inside, k) {
		return ""
	}
	return n.text
}

// fits tells whether a value is of the kind. As package json does, numbers are taken only if they are whole and not too large.
func fits(n *node, k *keys.Key) bool {
	switch k.Kind {
	case keys.String:
		return n.kind == '"'
	case keys.Bool:
		return n.kind == 't'
	case keys.Flag:
		return n.kind == 't' || n.kind == '"' && (strings.EqualFold(n.text, "true") || strings.EqualFold(n.text, "false"))
	case keys.Int:
		_, err := strconv.ParseInt(n.text, 10, k.Bits)
		return n.kind == '0' && err == nil
	case keys.Uint:
		_, err := strconv.ParseUint(n.text, 10, k.Bits)
		return n.kind == '0' && err == nil
	case keys.List:
		return n.kind == '['
	case keys.Object:
		return n.kind == '{'
	}
	return true
}

func (w *walker) object(n *node, k *keys.Key, at string) {
	w.f.twice(n, at)
	top := w.top
	w.top = nil // only at the top
	for _, m := range n.members {
		if top != nil && top(m) {
			continue
		}
		sub := k.Find(m.key)
		if sub == nil {
			sub = w.folded(m, k, at)
		}
		switch {
		case sub != nil:
			w.value(m.value, sub, join(at, m.key))
		case k.Elem != nil:
			w.value(m.value, k.Elem, join(at, m.key))
		case !k.Open && !isRemark(m.key) && !(w.owner == "bridge" && m.key == "addIf"): // kubenet's, which minikube still writes; nobody reads it
			w.unknown(m, k, at, top != nil)
		}
	}
}

// twice tells of keys that are there several times.
func (f *file) twice(n *node, at string) {
	seen := map[string]int{}
	for _, m := range n.members {
		if first, ok := seen[m.key]; ok {
			f.report(Error, m.pos, join(at, m.key), "", "the key is there already, in line %d; only the last one counts", f.line(first))
			continue
		}
		seen[m.key] = m.pos
	}
}

// folded is the key that one of other letter case is taken for: plugins read it so (package json), other programs may not.
func (w *walker) folded(m member, k *keys.Key, at string) *keys.Key {
	for _, sub := range k.Keys {
		if sub.Alias != "" && sub.Alias == m.key {
			return sub
		}
		if strings.EqualFold(sub.Name, m.key) {
			if w.exact {
				return nil
			}
			w.f.report(Warning, m.pos, join(at, m.key), "", "taken for %s, although the letter case differs; not every program does so", sub.Name)
			return sub
		}
	}
	return nil
}

// isRemark tells keys that are for people, or for others than the plugin: those of a namespace, such as cni.dev/x, and remarks.
func isRemark(key string) bool {
	switch strings.ToLower(key) {
	case "comment", "comments", "description", "documentation", "":
		return true
	}
	return strings.ContainsAny(key, "./") || strings.ContainsAny(key[:1], "_$#")
}

// unknown tells of a key that nobody reads. One that looks like a slip is an error: something else was meant.
func (w *walker) unknown(m member, k *keys.Key, at string, isTop bool) {
	var names []string
	for _, sub := range k.Keys {
		names = append(names, sub.Name)
	}
	suggestion := ""
	if w.elsewhere != nil && isTop {
		suggestion = w.elsewhere(m.key)
	}
	if suggestion == "" {
		suggestion = nearest(m.key, names)
	}
	for _, name := range names {
		if strings.EqualFold(name, m.key) {
			suggestion = name
		}
	}
	severity := Warning
	if suggestion != "" {
		severity = Error
	}
	message := "unknown key of " + w.owner
	if w.others != nil && isTop && suggestion == "" {
		if others := w.others(m.key); len(others) > 0 {
			message += "; it belongs to " + strings.Join(others, ", ")
		}
	}
	const few = 8
	if !isTop && suggestion == "" && len(names) <= few {
		message += "; here belong " + strings.Join(names, ", ")
	}
	w.f.report(severity, m.pos, join(at, m.key), suggestion, "%s", message)
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return fmt.Sprintf("%s.%s", at, key)
}
