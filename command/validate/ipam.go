package validate

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/roles"
)

// ipamKind is the ipam plugin's name; empty if there is none.
func (p *plugin) ipamKind() string {
	if n := p.n.get("ipam"); n != nil && n.str("type") != "" {
		return n.str("type")
	}
	if k := p.keysOf(p.kind).Find("ipam"); k != nil && p.n.get("ipam") != nil {
		return k.Default
	}
	return ""
}

// asked is the ipam plugin that the plugin asks.
func (p *plugin) asked() ipam {
	none := ipam{keys: &keys.Key{}}
	n, uses := p.n.get("ipam"), p.own.Find("ipam")
	if n == nil || n.kind != '{' {
		return none
	}
	if uses == nil || uses.Plugin != "ipam" {
		p.f.report(Warning, n.pos, p.path("ipam"), "", "without effect: %s asks no ipam plugin", p.kind)
		return none
	}
	if p.set != nil { // a delegate's, which its caller refuses
		return none
	}
	if uses.Default != "" { // the caller says the rest
		p.set = map[string]any{"ipam": standIPAM()}
	}
	kind, at := p.ipamKind(), p.path("ipam.type")
	t := n.get("type")
	if t == nil {
		t = n
	}
	switch {
	case kind == "" && len(n.members) == 0: // left out, in another way
		return none
	case kind == "" && t.kind != '"' && t != n:
		return none // of a wrong type, which is told elsewhere
	case kind == "":
		suggestion := ""
		for _, m := range n.members {
			if nearest(m.key, []string{"type"}) != "" {
				suggestion = "type"
			}
		}
		p.f.report(Error, n.pos, at, suggestion, "missing; without it %s asks no ipam plugin", p.kind)
		return none
	case !isName(kind):
		p.f.report(Error, t.pos, at, "", "%q is no plugin's name, which is that of a file in the plugin folder", kind)
		return ipam{n: n, keys: none.keys}
	}
	asked := *p
	asked.inner = true
	asked.executable(kind, t, at)
	role := p.table[kind]
	if role != nil && p.kinds[kind] != "ipam" {
		p.f.report(Error, t.pos, at, "", "%s is no ipam plugin", kind)
		return ipam{n: n, keys: none.keys}
	}
	if role != nil {
		p.routes(n)
	}
	return ipam{n, role, p.keysOf(kind)}
}

// routes tells of destinations that are no subnet. For the pod's own one, as documentation has it, it is plain what is meant.
func (p *plugin) routes(ipam *node) {
	list := ipam.get("routes")
	if list == nil {
		return
	}
	own := ipam.subnets(nil)
	for i, r := range list.elems {
		dst, err := netip.ParsePrefix(r.str("dst"))
		if err == nil && dst != dst.Masked() && !slices.Contains(own, dst.Masked().String()) {
			p.f.report(Warning, r.get("dst").pos, roles.Elem(p.path("ipam.routes"), i)+".dst", dst.Masked().String(), "%s has host bits set", dst)
		}
	}
}

// subnets are those of the keys subnet and address in a value, without host bits.
func (n *node) subnets(out []string) []string {
	for _, e := range n.elems {
		out = e.subnets(out)
	}
	for _, m := range n.members {
		if p, err := netip.ParsePrefix(m.value.text); err == nil && (m.key == "subnet" || m.key == "address") {
			out = append(out, p.Masked().String())
		}
		out = m.value.subnets(out)
	}
	return out
}

// mostFile bounds the files that a configuration names, in bytes; it is more than any role takes.
const mostFile = 8 << 20

// files looks at the files that keys name: they may come later, or be another node's.
func (p *plugin) files(k *keys.Key, n *node, at string) {
	if n == nil || n.kind != '{' {
		return
	}
	for _, sub := range k.Keys {
		v := n.get(sub.Name)
		if v == nil {
			continue
		}
		key := join(at, sub.Name)
		p.files(sub, v, key)
		if sub.File == "" || v.kind != '"' || v.text == "" || v.text[0] != '/' {
			continue
		}
		open := plainfile.Open
		if sub.File == "root" {
			open = plainfile.OpenTrusted
		}
		f, err := open(v.text, mostFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			p.f.report(Warning, v.pos, key, "", "%s is not there (yet)", v.text)
		case err != nil:
			p.f.report(Warning, v.pos, key, "", "%v", err)
		default:
			_ = f.Close()
		}
	}
}
