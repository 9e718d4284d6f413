package validate

import (
	"slices"
	"strings"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// capabilities compares what the runtime is asked to hand over with what the plugin makes use of.
func (p *plugin) capabilities() {
	at := p.path("capabilities")
	declared := p.n.get("capabilities")
	if declared == nil {
		declared = &node{pos: p.n.pos}
	}
	meant := map[string]bool{}
	known, open := p.known()
	for _, m := range declared.members {
		if m.value.text != "true" || slices.Contains(known, m.key) || open || strings.ContainsAny(m.key, "./") {
			continue
		}
		suggestion := nearest(m.key, known)
		for _, k := range known {
			if strings.EqualFold(k, m.key) {
				suggestion = k
			}
		}
		severity := Warning
		if suggestion != "" {
			severity, meant[suggestion] = Error, true
		}
		p.f.report(severity, m.pos, join(at, m.key), suggestion, "%s makes no use of this capability; %s", p.kind, uses(known))
	}
	p.needed(declared, at, meant)
}

func uses(known []string) string {
	if len(known) == 0 {
		return "it uses none"
	}
	return "it uses " + strings.Join(known, ", ")
}

// known are the capabilities that the plugin makes use of, its ipam plugin's included; open tells that there may be more.
func (p *plugin) known() (known []string, open bool) {
	add := func(k *keys.Key) {
		if k = k.Find("runtimeConfig"); k == nil {
			return
		}
		for _, sub := range k.Keys {
			if !slices.Contains(known, sub.Name) {
				known = append(known, sub.Name)
			}
		}
	}
	add(p.own)
	add(p.ipam.keys)
	if d := p.own.Find("delegate"); d != nil {
		kind := d.Default
		if n := p.n.get("delegate"); n != nil && n.str("type") != "" {
			kind = n.str("type")
		}
		open = p.table[kind] == nil
		add(p.keysOf(kind))
	}
	for _, inner := range p.inners() {
		for _, m := range inner.caps {
			if !slices.Contains(known, m) {
				known = append(known, m)
			}
		}
	}
	return known, open || p.ipam.n != nil && p.ipam.role == nil
}

// inner is a plugin that this one calls, and the capabilities that it has.
type inner struct {
	at, kind string
	caps     []string
}

// inners are the plugins of the plugin's own list.
func (p *plugin) inners() (out []inner) {
	list := p.n.get("plugins")
	if list == nil || !p.callsOthers(p.kind) {
		return nil
	}
	for i, e := range list.elems {
		one := inner{at: roles.Elem(p.path("plugins"), i), kind: e.str("type")}
		if c := e.get("capabilities"); c != nil {
			for _, m := range c.members {
				if m.value.text == "true" {
					one.caps = append(one.caps, m.key)
				}
			}
		}
		out = append(out, one)
	}
	return out
}

// needed tells of capabilities without which the plugin has nothing to do.
func (p *plugin) needed(declared *node, at string, meant map[string]bool) {
	has := func(name string) bool {
		v := declared.get(name)
		given := p.n.get("runtimeConfig")
		return v != nil && v.text == "true" || meant[name] || given != nil && given.get(name) != nil
	}
	switch {
	case p.kind == "portmap" && !has("portMappings"):
		p.f.report(Warning, declared.pos, join(at, "portMappings"), "", "missing; without it the runtime hands over no ports, and portmap maps none")
	case p.kind == "bandwidth" && !has("bandwidth") && p.n.get("ingressRate") == nil && p.n.get("egressRate") == nil:
		p.f.report(Warning, declared.pos, join(at, "bandwidth"), "", "missing, and so are ingressRate and egressRate: nothing is limited")
	}
	told := map[string]bool{}
	for _, i := range p.inners() {
		for _, name := range i.caps {
			if !has(name) && !told[name] {
				told[name] = true
				p.f.report(Error, declared.pos, join(at, name), "", "missing; %s (%s) has this capability, but is handed only what the runtime hands to %s", i.at, i.kind, p.kind)
			}
		}
	}
}
