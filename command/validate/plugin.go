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
	own := keys.OfRole(role)
	all := keys.Merge(own, keys.OfPlugin())
	ipam, ipamRole := p.ipam(own)
	if ipamRole != nil {
		all = keys.Merge(all, keys.OfRole(ipamRole))
	}
	bad := map[*node]string{}
	w := &walker{
		f: p.f, owner: p.kind, bad: bad,
		elsewhere: func(name string) string {
			if ipam != nil && ipamRole != nil && keys.OfRole(ipamRole).Find("ipam", name) != nil {
				return p.path("ipam." + name)
			}
			return ""
		},
		others: p.rolesWith,
		top: func(m member) bool {
			sub := own.Find(m.key)
			if sub == nil && m.key == "ipam" {
				return m.value.kind == '{' // told already
			}
			return sub != nil && sub.Plugin != "" && p.nested(m, sub, ipam, ipamRole, bad)
		},
	}
	w.value(p.n, all, p.at)
	p.files(own, p.n, p.at)
	if ipamRole != nil {
		p.files(keys.OfRole(ipamRole), p.n, p.at)
	}
	p.ask(role, all, bad)
	if ipamRole != nil {
		p.ask(ipamRole, all, bad)
	}
	p.capabilities(own, ipam, ipamRole)
	p.remember(ipam)
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
func (p *plugin) nested(m member, k *keys.Key, ipam *node, ipamRole roles.Role, bad map[*node]string) bool {
	switch k.Plugin {
	case "ipam":
		if ipam == nil || ipamRole == nil {
			return ipam != nil
		}
		all := keys.OfRole(ipamRole)
		w := &walker{f: p.f, owner: p.ipamKind(), bad: bad, elsewhere: func(name string) string {
			if keys.OfRole(p.table[p.kind]).Find(name) != nil {
				return p.path(name)
			}
			return ""
		}, top: func(member) bool { return false }}
		w.value(ipam, keys.Merge(all.Find("ipam"), keys.OfIPAM()), p.path(m.key))
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
		if keys.OfRole(c.table[role]).Find(name) != nil {
			out = append(out, role)
		}
	}
	return out
}
