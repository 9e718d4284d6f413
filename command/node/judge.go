package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/record"
)

// This file says what is not right of an attachment. Rather too little is told than what is not so: who looks at a healthy node must see nothing.

// What to do about findings.
const (
	fixGC      = "cnibox gc --runtime ..."
	fixFilter  = "cnibox sync"
	fixOverlay = "cnibox overlay sync"
	fixCheck   = "CHECK tells more; delete the pod, so that it is made anew"
)

// alive tells whether the sandbox is there.
func (a *Attachment) alive() bool { return a.sources.sandbox != nil || a.sources.unseen }

// state sums the findings up.
func (a *Attachment) state() State {
	state := OK
	if !a.alive() && len(a.held()) == 0 {
		state = Gone
	}
	for _, f := range a.Findings {
		if state != Orphan {
			state = f.Kind
		}
	}
	return state
}

func (a *Attachment) drift(fix, format string, args ...any) {
	a.Findings = append(a.Findings, Finding{Drift, fmt.Sprintf(format, args...), fix})
}

func (r *reader) judge(a *Attachment) {
	for _, h := range a.sources.held {
		if len(h.Missing) > 0 && a.alive() {
			a.drift(fixFilter, "packet filter: %s lacks %s", h.Feature, some(h.Missing))
		}
	}
	if !a.Since.IsZero() && r.node.Time.Sub(a.Since) < r.Youth {
		return
	}
	if !a.alive() {
		// Without the right to enter namespaces nobody can tell that there is none of it.
		if left := a.held(); len(left) > 0 && r.unseen == 0 {
			a.Findings = append(a.Findings, Finding{Orphan, "its sandbox is gone, and there is left: " + strings.Join(left, ", "), fixGC})
		}
		return
	}
	if a.sources.unseen {
		return
	}
	if a.Link == nil {
		a.drift(fixCheck, "the sandbox has no interface %s", a.IfName)
		return
	}
	r.judgeLinks(a)
	r.judgeAddresses(a)
}

// held is what is kept for an attachment besides what its runtime keeps.
func (a *Attachment) held() (left []string) {
	if a.HostLink != nil {
		left = append(left, "interface "+a.HostLink.Name)
	}
	if a.sources.ifb != nil {
		left = append(left, "interface "+a.sources.ifb.Name)
	}
	if a.sources.returned != nil {
		left = append(left, "the mark of interface "+a.sources.returned.Name)
	}
	if n := len(a.Reserved); n > 0 {
		left = append(left, "reserved "+joined(a.Reserved))
	}
	if a.Leased {
		left = append(left, "a lease")
	}
	for _, h := range a.sources.held {
		left = append(left, h.Feature.String())
	}
	return left
}

func (r *reader) judgeLinks(a *Attachment) {
	if !a.Link.Up {
		a.drift(fixCheck, "interface %s of the sandbox is down", a.Link.Name)
	}
	host := a.HostLink
	if host == nil {
		return
	}
	if !host.Up {
		a.drift("ip link set "+host.Name+" up", "interface %s of the host is down", host.Name)
	}
	if host.MTU != a.Link.MTU && !r.hasTuning(a) {
		a.drift(fixCheck, "MTU %d of %s is not that of %s on the host, %d", a.Link.MTU, a.Link.Name, host.Name, host.MTU)
	}
	if bridge := r.bridgeOf(a); bridge != "" && a.Bridge == "" {
		a.drift("ip link set "+host.Name+" master "+bridge, "interface %s of the host is no port of the bridge %s", host.Name, bridge)
	}
}

// hasTuning tells whether the role tuning may have given the container's interface another MTU.
func (r *reader) hasTuning(a *Attachment) bool {
	return r.confOf(a).has("tuning") || r.tuned[record.Name(a.Owner(), "_", ".json")]
}

// bridgeOf is the bridge of the host that the result names, if there is one.
func (r *reader) bridgeOf(a *Attachment) string {
	for _, name := range a.sources.hostLinks {
		if l := r.node.Host.Named(name); l != nil && l.Kind == "bridge" {
			return name
		}
	}
	return ""
}

func (r *reader) judgeAddresses(a *Attachment) {
	held := func(addr netip.Addr) bool {
		return slices.ContainsFunc(a.sources.sandbox.Links, func(l *Link) bool {
			return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
		})
	}
	var missing []netip.Addr
	for _, addr := range a.Reserved {
		if !held(addr) {
			missing = append(missing, addr)
		}
	}
	c := r.confOf(a)
	if !a.Leased && c != nil && c.ipam != "dhcp" { // a lease may bring another address
		for _, p := range a.Result {
			if !held(p.Addr()) && !slices.Contains(missing, p.Addr()) {
				missing = append(missing, p.Addr())
			}
		}
	}
	if len(missing) > 0 {
		a.drift(fixCheck, "the sandbox does not have %s", joined(missing))
	}
	if own := a.sources.conf; own != nil && own.ipam == "host-local" && len(a.Reserved) == 0 && len(a.Addresses) > 0 {
		a.drift(fixCheck, "%s is not reserved: another pod can get it", a.Addresses[0].Addr())
	}
}

// some are the first few of a list.
func some(list []string) string {
	const few = 3
	if len(list) <= few {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:few], "; "), len(list)-few)
}

func joined(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}
