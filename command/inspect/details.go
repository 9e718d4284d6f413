package inspect

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// details are all that is known of each attachment.
func (v view) details(out io.Writer, n *node.Node) error {
	var b strings.Builder
	for i, a := range n.Attachments {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(v.colours.Strong(a.Owner().String()) + "\n")
		for _, line := range facts(a, n.Time) {
			if line[1] != "" {
				fmt.Fprintf(&b, "  %-11s %s\n", line[0], line[1])
			}
		}
		fmt.Fprintf(&b, "  %-11s %s\n", "state", v.state(a.State))
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	return v.findings(out, n)
}

// facts are what is known, each with its name. What is not known is empty.
func facts(a *node.Attachment, now time.Time) [][2]string {
	sandbox, since := a.Sandbox, ""
	if a.NSID != rtnl.NoNamespace {
		sandbox += ", id " + strconv.Itoa(a.NSID)
	}
	if !a.Since.IsZero() {
		since = a.Since.Format(time.DateTime) + ", " + node.Age(now.Sub(a.Since)) + " ago"
	}
	reserved := make([]string, len(a.Reserved))
	for i, addr := range a.Reserved {
		reserved[i] = addr.String()
	}
	if a.Leased {
		reserved = append(reserved, "a lease (dhcp)")
	}
	return [][2]string{
		{"pod", a.Pod},
		{"plugin", a.Type},
		{"sandbox", sandbox},
		{"interface", link(a.Link)},
		{"made on", a.Parent},
		{"addresses", prefixes(a.Addresses)},
		{"reserved", strings.Join(reserved, ", ")},
		{"result", prefixes(a.Result)},
		{"host side", link(a.HostLink)},
		{"bridge", a.Bridge},
		{"ports", portList(a)},
		{"limits", limits(a.Limits)},
		{"rules", rules(a)},
		{"since", since},
	}
}

func link(l *node.Link) string {
	if l == nil {
		return ""
	}
	words := []string{l.Name}
	if l.Kind != "" {
		words = append(words, l.Kind)
	}
	if l.MAC != "" {
		words = append(words, l.MAC)
	}
	state := "down"
	if l.Up {
		state = "up"
		if !l.Running {
			state = "up, without carrier"
		}
	}
	return strings.Join(append(words, "MTU "+strconv.Itoa(l.MTU), state), ", ")
}

func prefixes(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}

func portList(a *node.Attachment) string {
	words := make([]string, len(a.Ports))
	for i, p := range a.Ports {
		words[i] = p.String()
		if p.Addr.IsValid() && len(a.Addrs()) > 1 {
			words[i] += " of " + p.Addr.String()
		}
		if len(p.Conditions) > 0 {
			words[i] += " if " + strings.Join(p.Conditions, " and ")
		}
	}
	return strings.Join(words, ", ")
}

func limits(l *node.Limits) string {
	if l == nil {
		return ""
	}
	var words []string
	if l.In > 0 {
		words = append(words, "receives at most "+node.Rate(l.In)+"bit/s")
	}
	if l.Out > 0 {
		words = append(words, "sends at most "+node.Rate(l.Out)+"bit/s, by "+l.Device)
	}
	return strings.Join(words, "; ")
}

func rules(a *node.Attachment) string {
	words := make([]string, len(a.Rules))
	for i, r := range a.Rules {
		words[i] = r.Feature + " (" + strconv.Itoa(r.Elements) + ")"
	}
	return strings.Join(words, ", ")
}
