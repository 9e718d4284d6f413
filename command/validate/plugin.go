package validate

import (
	"path/filepath"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// plugin is a plugin's configuration, and what is around it.
type plugin struct {
	*checker
	f    *file
	n    *node
	at   string // where it is
	kind string // the plugin's name

	network, version string
	inList           bool           // name and version are the list's
	inner            bool           // another plugin calls it, not the runtime
	set              map[string]any // what a plugin around it sets before it hands it on

	first int       // findings of the file before the plugin's own
	own   *keys.Key // of its role
	bad   map[*node]string
	ipam  ipam
}

// ipam is the ipam plugin that a plugin asks.
type ipam struct {
	n    *node      // its configuration; nil: none is asked
	role roles.Role // nil: it is another's
	keys *keys.Key  // of the role; without keys if it is another's
}

// path is the key as a whole.
func (p *plugin) path(key string) string {
	switch {
	case key == "":
		return p.at
	case p.at == "":
		return key
	}
	return join(p.at, key)
}

// check finds what is wrong with a plugin's configuration.
func (p *plugin) check() {
	p.first = len(p.f.findings)
	if p.kind == "" && !p.readType() {
		return
	}
	p.executable(p.kind, p.valueAt("type"), p.path("type"))
	role := p.table[p.kind]
	if role == nil { // what it reads is not known
		p.f.twice(p.n, p.at)
		return
	}
	if p.kinds[p.kind] == "ipam" {
		p.f.report(Error, p.valueAt("type").pos, p.path("type"), "", "%s is an ipam plugin; it belongs into the key ipam of another", p.kind)
		return
	}
	p.own, p.bad = p.keysOf(p.kind), map[*node]string{}
	p.ipam = p.asked()
	all := keys.Merge(keys.Merge(p.own, p.common), p.ipam.keys)
	w := &walker{
		f: p.f, owner: p.kind, bad: p.bad, others: p.rolesWith, top: p.top,
		elsewhere: func(name string) string {
			if p.ipam.keys.Find("ipam", name) != nil {
				return p.path("ipam." + name)
			}
			return ""
		},
	}
	w.value(p.n, all, p.at)
	p.files(p.own, p.n, p.at)
	p.ask(role, all)
	if p.ipam.role != nil {
		p.files(p.ipam.keys, p.n, p.at)
		p.ask(p.ipam.role, all)
	}
	p.capabilities()
	p.remember()
}

// top takes care of those keys of the plugin that hold other plugins' configurations.
func (p *plugin) top(m member) bool {
	sub := p.own.Find(m.key)
	if sub == nil && m.key == "ipam" {
		return m.value.kind == '{' // told already
	}
	return sub != nil && sub.Plugin != "" && p.nested(m, sub)
}

// readType reads the plugin's name.
func (p *plugin) readType() bool {
	t := p.n.get("type")
	switch {
	case t == nil:
		suggestion := ""
		for _, m := range p.n.members {
			if nearest(m.key, []string{"type"}) != "" {
				suggestion = "type"
			}
		}
		p.f.report(Error, p.n.pos, p.path("type"), suggestion, "missing; it is the name of the plugin")
		return false
	case t.kind != '"':
		p.f.report(Error, t.pos, p.path("type"), "", "%s, where a string belongs", t.describe())
		return false
	case !isName(t.text):
		p.f.report(Error, t.pos, p.path("type"), "", "%q is no plugin's name, which is that of a file in the plugin folder", t.text)
		return false
	}
	p.kind = t.text
	return true
}

func isName(kind string) bool {
	return kind != "" && kind == filepath.Base(kind) && kind != "/" && kind != "." && kind != ".."
}

// valueAt is the value of a key, or what it should be in.
func (p *plugin) valueAt(key string) *node {
	if v := p.n.get(key); v != nil {
		return v
	}
	return p.n
}

// nested checks a key that holds configurations of other plugins.
func (p *plugin) nested(m member, k *keys.Key) bool {
	switch k.Plugin {
	case "ipam":
		if p.ipam.role == nil {
			return p.ipam.n != nil // what another's reads is not known
		}
		w := &walker{f: p.f, owner: p.ipamKind(), bad: p.bad, top: func(member) bool { return false }, elsewhere: func(name string) string {
			if p.own.Find(name) != nil {
				return p.path(name)
			}
			return ""
		}}
		w.value(p.ipam.n, keys.Merge(p.ipam.keys.Find("ipam"), keys.OfIPAM()), p.path(m.key))
		return true
	case "list":
		if m.value.kind != '[' {
			return false
		}
		p.chain(&chain{f: p.f, n: m.value, at: p.path(m.key), network: p.network, version: p.version, inner: true})
		return true
	case "delegate":
		d := *p
		if d.kind = m.value.str("type"); d.kind == "" {
			d.kind = k.Default
		}
		if m.value.kind != '{' || !isName(d.kind) {
			return false
		}
		d.n, d.at, d.inList, d.inner = m.value, p.path(m.key), true, true
		d.set = map[string]any{"ipam": standIPAM()}
		d.check()
		return true
	}
	return false
}

// rolesWith are the roles that have a key of the name.
func (c *checker) rolesWith(name string) (out []string) {
	for _, role := range c.names {
		if c.keysOf(role).Find(name) != nil {
			out = append(out, role)
		}
	}
	return out
}
