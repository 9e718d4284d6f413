package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// endpoint is who sends the packet, or whom it is for.
type endpoint struct {
	space *space       // nil: outside of the machine, as far as can be seen
	addrs []netip.Addr // one of which it is; none: the host, which has not chosen yet
	named bool         // which of them it sends from is its own choice
	in    string       // of an outside source: the host's link that the packet comes in by; empty: that of the route back
}

// outsidePrefix marks a source that is outside even if somebody here has its address.
const outsidePrefix = "outside:"

// find is the endpoint of a name: "host", an address, a container ID or the beginning of one, or a pod's namespace/name.
func (w *world) find(name string) (e endpoint, err error) {
	if rest, ok := strings.CutPrefix(name, outsidePrefix); ok {
		text, in, _ := strings.Cut(rest, "@")
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return e, ui.Usagef("%s: want outside:ADDRESS, or outside:ADDRESS@LINK", name)
		}
		return endpoint{addrs: []netip.Addr{addr.Unmap()}, in: in}, nil
	}
	if name == "host" {
		return endpoint{space: w.host, named: true}, nil
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		addr = addr.Unmap().WithZone("")
		return endpoint{space: w.owner(addr), addrs: []netip.Addr{addr}}, nil
	}
	return w.container(name)
}

// container is the endpoint of a container ID, of the beginning of one, or of a pod's name.
func (w *world) container(name string) (e endpoint, err error) {
	var ids []string
	var found []*node.Attachment
	for _, a := range w.node.Attachments {
		if a.ContainerID == name || a.Pod == name || strings.HasPrefix(a.ContainerID, name) || strings.HasSuffix(a.Pod, "/"+name) {
			found = append(found, a)
			ids = append(ids, a.ContainerID)
		}
	}
	if exact := slices.DeleteFunc(slices.Clone(found), func(a *node.Attachment) bool { return a.ContainerID != name && a.Pod != name }); len(exact) > 0 {
		found, ids = exact, nil
		for _, a := range exact {
			ids = append(ids, a.ContainerID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	switch {
	case name == "" || len(ids) == 0:
		return e, ui.Usagef("%q: no container ID, pod (namespace/name) or address that this node knows; \"host\" is the node itself", name)
	case len(ids) > 1:
		return e, ui.Usagef("%q is not unique: %s", name, strings.Join(ids, ", "))
	}
	e.named = true
	for _, a := range found {
		if s := w.sandbox(a.Sandbox); s != nil {
			e.space = s
			e.addrs = append(e.addrs, a.Addrs()...)
		}
	}
	if e.space == nil {
		return e, noSandbox(ids[0], found)
	}
	if len(e.addrs) == 0 {
		return e, fmt.Errorf("container %s has no address", ids[0])
	}
	return e, nil
}

// noSandbox says of a container that nothing can come from it or reach it, and what is left of it.
func noSandbox(id string, attachments []*node.Attachment) error {
	text := "container " + id + " has no sandbox that can be found"
	for _, a := range attachments {
		for _, f := range a.Findings {
			text += fmt.Sprintf("; %s: %s (%s)", a.Title(), f.Text, f.Fix)
		}
	}
	return errors.New(text)
}

// splitPort takes a port off: ADDRESS:PORT, [ADDRESS]:PORT, NAME:PORT. An address of IPv6 without brackets has none.
func splitPort(text string) (name string, port uint16, err error) {
	if _, err := netip.ParseAddr(text); err == nil {
		return text, 0, nil
	}
	name, rest := text, ""
	if inside, ok := strings.CutPrefix(text, "["); ok {
		if name, rest, ok = strings.Cut(inside, "]"); !ok || rest != "" && rest[0] != ':' {
			return "", 0, ui.Usagef("%s: want [ADDRESS]:PORT", text)
		}
	} else if at := strings.LastIndexByte(text, ':'); at >= 0 && text[:at+1] != outsidePrefix {
		name, rest = text[:at], text[at:]
	}
	if rest == "" {
		return name, 0, nil
	}
	n, err := strconv.ParseUint(rest[1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, ui.Usagef("%s: %q is no port", text, rest[1:])
	}
	return name, uint16(n), nil
}

// pair chooses the addresses of both: of one family, IPv4 if there is a choice. The source is the zero Addr if it
// is yet to choose.
func (w *world) pair(src, dst endpoint) (from, to netip.Addr, err error) {
	if dst.space == w.host && len(dst.addrs) == 0 {
		dst.addrs = w.hostAddrs(src)
	}
	for _, to := range sorted(dst.addrs) {
		if len(src.addrs) == 0 {
			return from, to, nil
		}
		for _, from := range sorted(src.addrs) {
			switch {
			case from.Is4() != to.Is4():
			case src.named:
				return netip.Addr{}, to, nil
			default:
				return from, to, nil
			}
		}
	}
	return from, to, ui.Usagef("source and destination have no addresses of one family")
}

func sorted(addrs []netip.Addr) []netip.Addr {
	return slices.SortedStableFunc(slices.Values(addrs), func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
}

// hostAddrs are the host's addresses, that in the source's subnet first.
func (w *world) hostAddrs(src endpoint) (out []netip.Addr) {
	for _, a := range w.host.addrs {
		addr := a.Prefix.Addr()
		if addr.IsLoopback() || addr.IsLinkLocalUnicast() {
			continue
		}
		if slices.ContainsFunc(src.addrs, a.Prefix.Contains) {
			out = append([]netip.Addr{addr}, out...)
		} else {
			out = append(out, addr)
		}
	}
	return out
}
