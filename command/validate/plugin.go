package validate

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
	bad := map[*node]bool{}
	w := &walker{
		f: p.f, owner: p.kind, bad: bad,
		elsewhere: func(name string) string {
			if ipam != nil && ipamRole != nil && keys.OfRole(ipamRole).Find("ipam", name) != nil {
				return "ipam." + name
			}
			return ""
		},
		top: func(m member) bool {
			sub := own.Find(m.key)
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
				suggestion = "type in place of " + m.key
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
func (p *plugin) nested(m member, k *keys.Key, ipam *node, ipamRole roles.Role, bad map[*node]bool) bool {
	switch k.Plugin {
	case "ipam":
		if ipam == nil || ipamRole == nil {
			return ipam != nil
		}
		all := keys.OfRole(ipamRole)
		w := &walker{f: p.f, owner: p.ipamKind(), bad: bad, elsewhere: func(name string) string {
			if keys.OfRole(p.table[p.kind]).Find(name) != nil {
				return name + " beside ipam"
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
		d.set = map[string]any{"ipam": stand()}
		d.check()
		return true
	}
	return false
}

// stand is an ipam configuration for what somebody else will have said until the plugin is called.
func stand() map[string]any {
	return map[string]any{"type": "host-local", "ranges": [][]map[string]string{{{"subnet": "10.0.0.0/24"}}}}
}

// ask has the role itself judge the configuration: what ADD refuses is an error. As it tells of one thing at a time, it is asked again without that.
func (p *plugin) ask(role roles.Role, all *keys.Key, bad map[*node]bool) {
	d, ok := role.(roles.Described)
	if !ok {
		return
	}
	const most = 32
	without := map[*node]string{}
	for n := range bad {
		without[n] = ""
	}
	for range most {
		conf, err := p.conf(without)
		if err != nil {
			return
		}
		err = d.CheckConf(roles.Rehearse(p.network, p.version, conf))
		if err == nil {
			return
		}
		key, msg := p.split(err.Error())
		found, rest := p.n.resolve(key, msg)
		at := p.path(key)
		if p.inList && key == "name" {
			at = key
		}
		if p.f.told(at) || rest != "" && len(without) > 0 {
			return // what follows from what was left out is no finding
		}
		p.f.report(Error, found.pos, at, p.meant(all, key, found), "%s", msg)
		if rest != "" || found == p.n {
			return
		}
		p.leaveOut(key, found, without)
	}
}

// leaveOut has a value that is wrong be left out. In place of a range comes one that has nothing to do with others.
func (p *plugin) leaveOut(key string, found *node, without map[*node]string) {
	without[found] = ""
	parts := steps(key)
	if len(parts) < 3 || parts[1] != "ranges" {
		return
	}
	text := string(p.f.text[found.pos:found.end])
	for _, step := range parts[3:] {
		key = strings.TrimSuffix(strings.TrimSuffix(key, step), ".")
		if step[0] != '[' {
			found, _ = p.n.resolve(key, "")
			text = string(p.f.text[found.pos:found.end])
		}
	}
	subnet := "10.255." + strconv.Itoa(len(without)) + ".0/24"
	if strings.Count(text, ":") > strings.Count(text, `":`) {
		subnet = "fdff:ffff:" + strconv.Itoa(len(without)) + "::/64"
	}
	one := `{"subnet": "` + subnet + `"}`
	if found.kind == '[' {
		one = "[" + one + "]"
	}
	without[found] = one
}

// conf is the configuration as a runtime would hand it over, but for what is left out or replaced.
func (p *plugin) conf(without map[*node]string) ([]byte, error) {
	set := map[string]any{"name": p.network, "cniVersion": p.version}
	for key, value := range p.set {
		set[key] = value
	}
	return roles.WithKeys(p.n.encode(p.f.text, without), set)
}

// split takes an error of a role apart: the key that it is about, which must be one, and what it says.
func (p *plugin) split(text string) (key, msg string) {
	text, _, _ = strings.Cut(text, "\n")
	head, msg, ok := strings.Cut(text, ": ")
	if !ok {
		head, msg = text, text
	}
	if word, _, several := strings.Cut(head, " "); several {
		head, msg = strings.Trim(word, ","), text
	}
	if strings.Trim(head, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/[]") != "" || head == text {
		return "", text
	}
	return head, msg
}

// meant is which of the values that a key takes is the nearest to what it has.
func (p *plugin) meant(all *keys.Key, key string, n *node) string {
	if n.kind != '"' {
		return ""
	}
	k := all
	for _, step := range steps(key) {
		if step[0] == '[' {
			k = k.Elem
		} else if k = k.Find(step); k != nil && k.Plugin == "ipam" {
			k = keys.OfRole(p.table[p.ipamKind()]).Find(step)
		}
		if k == nil {
			return ""
		}
	}
	return nearest(n.text, slices.DeleteFunc(slices.Clone(k.Enum), func(s string) bool { return strings.EqualFold(s, n.text) }))
}
