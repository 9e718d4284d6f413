package validate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// This file has the roles themselves judge a configuration. A role tells of one thing at a time, so each that is wrong is mended in the copy that
// the role is asked about next: left out, or replaced by something that it takes.

// asking is what a role is asked about.
type asking struct {
	*plugin
	all     *keys.Key
	without map[*node]string // values that are left out (empty) or replaced
	extra   map[string]any   // keys that were missing
}

// ask makes findings of what ADD would refuse. Values of a wrong type are told of already.
func (p *plugin) ask(role roles.Role, all *keys.Key) {
	d, ok := role.(roles.Described)
	if !ok {
		return
	}
	a := &asking{plugin: p, all: all, without: map[*node]string{}, extra: map[string]any{}}
	for n, text := range p.bad {
		a.without[n] = text
	}
	const most = 64 // findings
	for range most {
		conf, err := p.conf(a.without, a.extra)
		if err != nil {
			return
		}
		if err = d.CheckConf(roles.Rehearse(p.network, p.version, conf)); err == nil || !a.report(err.Error()) {
			return
		}
	}
}

// conf is the configuration as a runtime would hand it over, but for what is mended.
func (p *plugin) conf(without map[*node]string, extra map[string]any) ([]byte, error) {
	set := map[string]any{"name": p.network, "cniVersion": p.version}
	for _, more := range []map[string]any{p.set, extra} {
		for key, value := range more {
			set[key] = value
		}
	}
	return roles.WithKeys(p.n.encode(p.f.text, without), set)
}

// report makes a finding of an error, unless it only follows from what was mended, and mends what it is about; false: it cannot.
func (a *asking) report(text string) bool {
	key, msg := split(text)
	found, suffix, rest := a.n.resolve(key, msg)
	at, first := a.path(key)+suffix, a.first
	if a.inList && key == "name" {
		at, first = key, 0
	}
	if a.f.told(first, at) || a.mended(key) || strings.Contains(msg, standIPv4) || strings.Contains(msg, standIPv6) {
		return a.leaveOutMore(key)
	}
	if rest != "" && a.holes(found) {
		return false // it may have been one of several of which one is needed
	}
	a.f.report(Error, found.pos, at, a.meant(key, found), "%s", msg)
	if rest != "" {
		return a.supply(key, found, rest)
	}
	if found == a.n {
		return false
	}
	a.mend(key, found)
	return true
}

// mended tells whether the key, or something that it is in, is not what stands in the file any more.
func (a *asking) mended(key string) bool {
	n := a.n
	for _, step := range steps(key) {
		if n = n.step(step); n == nil {
			return false
		}
		if _, ok := a.without[n]; ok {
			return true
		}
	}
	return false
}

// holes tells whether keys of the object were left out.
func (a *asking) holes(n *node) bool {
	return slices.ContainsFunc(n.members, func(m member) bool {
		text, ok := a.without[m.value]
		return ok && text == ""
	})
}

// mend leaves a value out, or puts one in its place that says nothing.
func (a *asking) mend(key string, found *node) {
	parts := steps(key)
	a.without[found] = ""
	if meant := a.meant(key, found); meant != "" {
		a.without[found] = strconv.Quote(meant)
		return
	}
	if len(parts) > 2 && parts[1] == "ranges" {
		a.mendRange(parts)
		return
	}
	if len(parts) == 1 || len(a.key(key).Enum) > 0 {
		if k := a.key(key); k.Min != nil {
			a.without[found] = strconv.FormatInt(*k.Min, 10)
		}
		return
	}
	last := parts[len(parts)-1]
	switch text := a.stand(last); {
	case parts[0] == "vlanTrunk" && found.kind == '{':
		a.without[found] = oneVLAN
	case parts[0] == "vlanTrunk":
		a.without[found] = "1"
	case text != "":
		a.without[found] = strconv.Quote(text)
	}
}

// mendRange replaces the range that a value is in, or the whole set.
func (a *asking) mendRange(parts []string) {
	at := strings.Join(parts[:2], ".") + strings.Join(parts[2:min(len(parts), 4)], "")
	found, _, _ := a.n.resolve(at, "")
	text := string(a.f.text[found.pos:found.end])
	name := "subnet"
	if strings.Count(text, ":") > strings.Count(text, `":`)+strings.Count(text, `" :`) {
		name = "subnet6"
	}
	one := `{"subnet": "` + a.stand(name) + `"}`
	if found.kind == '[' {
		one = "[" + one + "]"
	}
	a.without[found] = one
}

// What stands for an address that is wrong begins so.
const (
	standIPv4 = "10.255."
	standIPv6 = "fdff:ffff:"
)

// oneVLAN stands for an element of vlanTrunk.
const oneVLAN = `{"id": 1}`

// stand is a value for a key of that name, and no other's; empty if there is none.
func (a *asking) stand(name string) string {
	n := strconv.Itoa(len(a.without))
	switch name {
	case "dst":
		return "0.0.0.0/0"
	case "option":
		return "1"
	case "subnet":
		return standIPv4 + n + ".0/24"
	case "subnet6":
		return standIPv6 + n + "::/64"
	case "address":
		return standIPv4 + n + ".5/24"
	}
	return ""
}

// supply gives the role what is missing.
func (a *asking) supply(key string, found *node, rest string) bool {
	text := a.stand(rest)
	switch {
	case found != a.n && text != "":
		a.without[found] = `{"` + rest + `": "` + text + `"}`
	case found != a.n && found.kind == '[': // a set without a range
		a.mendRange(steps(key))
	case found != a.n:
		return false
	case rest == "ipam", strings.HasPrefix(rest, "ipam."):
		a.extra["ipam"] = standIPAM()
	case a.key(key).Kind == keys.String && len(steps(key)) == 1 && a.extra[key] == nil:
		a.extra[key] = "x0"
	default:
		return false
	}
	return true
}

// standIPAM is an ipam configuration for what is missing, or what somebody else will have said until the plugin is called.
func standIPAM() map[string]any {
	return map[string]any{"type": "host-local", "ranges": [][]map[string]string{{{"subnet": standIPv4 + "0.0/24"}}}}
}

// leaveOutMore leaves out what the key's value is in, as it is still wrong.
func (a *asking) leaveOutMore(key string) bool {
	parts := steps(key)
	if len(parts) > 2 && parts[1] == "ranges" {
		set, _, _ := a.n.resolve("ipam.ranges"+parts[2], "")
		if a.without[set] == "" {
			a.without[set] = `[{"subnet": "` + a.stand("subnet") + `"}]`
			return true
		}
	}
	for n := len(parts); n > 0; n-- {
		at := ""
		for _, part := range parts[:n] {
			if at != "" && part[0] != '[' {
				at += "."
			}
			at += part
		}
		found, _, rest := a.n.resolve(at, "")
		text, ok := a.without[found]
		if rest != "" || found == a.n || ok && text == "" {
			continue
		}
		a.without[found] = ""
		if n == 2 && parts[0] == "vlanTrunk" {
			a.without[found] = oneVLAN
		}
		return true
	}
	return false
}

// split takes an error of a role apart: the key that it is about, which must be one, and what it says.
func split(text string) (key, msg string) {
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
func (a *asking) meant(key string, n *node) string {
	k := a.key(key)
	if n.kind != '"' {
		return ""
	}
	return nearest(n.text, slices.DeleteFunc(slices.Clone(k.Enum), func(s string) bool { return strings.EqualFold(s, n.text) }))
}

// key is what is known of a key.
func (a *asking) key(key string) *keys.Key {
	k := a.all
	list := &keys.Key{}
	for _, step := range steps(key) {
		if step[0] == '[' {
			list, k = k, k.Elem
		} else if k = k.Find(step); k != nil && k.Plugin == "ipam" {
			k = a.keysOf(a.ipamKind()).Find(step)
		}
		if k == nil {
			return &keys.Key{}
		}
	}
	if k.Name == "" && len(k.Enum) == 0 { // an element
		k = &keys.Key{Kind: k.Kind, Enum: list.Enum}
	}
	return k
}
