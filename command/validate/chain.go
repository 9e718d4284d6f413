package validate

import (
	"github.com/cnibox/cnibox/roles"
)

// chain is plugins that are called one after the other.
type chain struct {
	f                *file
	n                *node // a list
	at               string
	network, version string
	inner            bool // another plugin calls them, not the runtime
}

func (c *checker) chain(ch *chain) {
	if len(ch.n.elems) == 0 {
		ch.f.report(Error, ch.n.pos, ch.at, "", "it is empty; a list needs a plugin")
		return
	}
	var plugins []*plugin
	for i, e := range ch.n.elems {
		at := roles.Elem(ch.at, i)
		if e.kind != '{' {
			ch.f.report(Error, e.pos, at, "", "%s, where the configuration of a plugin belongs", e.describe())
			continue
		}
		p := &plugin{checker: c, f: ch.f, n: e, at: at, network: ch.network, version: ch.version, inList: true, inner: ch.inner}
		p.check()
		plugins = append(plugins, p)
	}
	c.order(plugins)
}

// order looks at what plugins make of what those before them have made.
func (c *checker) order(plugins []*plugin) {
	var maker *plugin // of the container's interface
	for i, p := range plugins {
		pos, key := p.valueAt("type").pos, p.path("type")
		switch {
		case i == 0 && c.needsPrev(p.kind):
			p.f.report(Error, pos, key, "", "%s belongs behind the plugin that makes the container's interface, and is the first here", p.kind)
		case !c.makesInterface(p.kind):
		case maker != nil:
			p.f.report(Error, pos, key, "", "the container's interface is made by %s already (%s), so ADD fails; a list makes one", maker.kind, maker.at)
		default:
			maker = p
		}
	}
}

// needsPrev tells the plugins that change what others have made.
func (c *checker) needsPrev(kind string) bool {
	return c.kinds[kind] == "meta" && !c.callsOthers(kind)
}

// callsOthers tells the plugins that hand the work over.
func (c *checker) callsOthers(kind string) bool {
	for _, k := range c.keysOf(kind).Keys {
		if k.Plugin == "list" || k.Plugin == "delegate" {
			return true
		}
	}
	return false
}

// makesInterface tells the plugins that make the interface whose name the runtime asks for. An ipvlan can be made on another's.
func (c *checker) makesInterface(kind string) bool {
	switch kind {
	case "loopback", "ipvlan":
		return false
	case "flannel":
		return true
	}
	return c.kinds[kind] == "main"
}
