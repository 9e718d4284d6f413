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
	owner string // whose keys they are, for messages
	bad   map[*node]bool
	// elsewhere tells where a key that is unknown here does belong, if it is one of another place; empty: nowhere.
	elsewhere func(name string) string
	// top takes care of a key at the top itself; false: it does not.
	top func(m member) bool
}

func (w *walker) value(n *node, k *keys.Key, at string) {
	if n.kind == 'n' || k.Kind == keys.Any {
		return
	}
	if !fits(n, k) {
		w.bad[n] = true
		what := n.describe()
		if n.kind == '0' || n.kind == '"' && k.Kind == keys.Flag {
			what = n.text
		}
		w.f.report(Error, n.pos, at, "", "%s, where %s belongs", what, k.Kind)
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
		case !k.Open && !isRemark(m.key):
			w.unknown(m, k, at, top != nil)
		}
	}
}

// twice tells of keys that are there several times.
func (f *file) twice(n *node, at string) {
	seen := map[string]int{}
	for _, m := range n.members {
		if first, ok := seen[m.key]; ok {
			line := 1 + strings.Count(string(f.text[:first]), "\n")
			f.report(Error, m.pos, join(at, m.key), "", "the key is there already, in line %d; only the last one counts", line)
			continue
		}
		seen[m.key] = m.pos
	}
}

// folded is the key that one of other letter case is taken for: plugins read it so (package json), other programs may not.
func (w *walker) folded(m member, k *keys.Key, at string) *keys.Key {
	for _, sub := range k.Keys {
		if strings.EqualFold(sub.Name, m.key) {
			w.f.report(Warning, m.pos, join(at, m.key), sub.Name, "other letter case than %s has; it is taken for it, but not by every program", sub.Name)
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
	severity := Warning
	if suggestion != "" {
		severity = Error
	}
	w.f.report(severity, m.pos, join(at, m.key), suggestion, "unknown key of %s", w.owner)
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return fmt.Sprintf("%s.%s", at, key)
}
