package explain

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft/eval"
)

// Hooks of the packet filter have the same numbers for IP and for bridges.
func hookName(hook uint32) string {
	return [...]string{"prerouting", "input", "forward", "output", "postrouting"}[min(hook, 4)]
}

// filter has the packet pass a hook. It tells what changed, by what it says of the packet before and after.
func (w *walker) filter(s *space, bridge bool, hook uint32, nextHop netip.Addr) (passed bool, err error) {
	if !bridge {
		w.legacy(s)
	}
	rules, err := s.ruleset()
	if err != nil || rules == nil {
		return err == nil, err
	}
	before := describe(w.p)
	out := rules.Hook(env{s, nextHop}, bridge, hook, w.p)
	if c := w.p.Conn; c != nil && !w.p.Reply {
		s.remember(c)
	}
	where := hookName(hook)
	if bridge {
		where = "bridge " + where
	}
	return w.told(s, where, before, out), nil
}

// filterAt has the packet pass the hook of a link, where it comes in or goes out.
func (w *walker) filterAt(l *link, egress bool) (passed bool, err error) {
	rules, err := l.space.ruleset()
	if err != nil || rules == nil {
		return err == nil, err
	}
	where := "ingress of " + l.Name
	if egress {
		where = "egress of " + l.Name
	}
	before := describe(w.p)
	return w.told(l.space, where, before, rules.AtDevice(env{l.space, netip.Addr{}}, l.Name, egress, w.p)), nil
}

// told adds a step of what rules did to a packet, if any did, and tells whether they let it pass.
func (w *walker) told(s *space, where, before string, out eval.Outcome) (passed bool) {
	if len(out.Hits) == 0 {
		return true
	}
	step := w.step(s, "filter", "%s: %s", where, before)
	step.Rules = rulesOf(out.Hits)
	if after := describe(w.p); after != before {
		step.Text = fmt.Sprintf("%s: %s becomes %s", where, before, after)
	}
	for i := range step.Rules {
		if h := &step.Rules[i]; h.DrawnOf > 1 {
			w.doubts = append(w.doubts, fmt.Sprintf("at step %d chance chooses one of %d, of which this is the first; the others may fare otherwise", step.Number, h.DrawnOf))
		} else if out.Doubt && h.Maybe && !h.Leads() {
			w.doubts = append(w.doubts, fmt.Sprintf("at step %d it depends on what cannot be told whether this applies: %s", step.Number, dropText(h)))
		}
	}
	last := &step.Rules[len(step.Rules)-1]
	switch {
	case out.Dropped:
		step.Drop = true
		step.Text = where + ": drops " + before
		w.end(Dropped, s.name, fmt.Sprintf("DROPPED at step %d, in %s: %s", step.Number, s.name, dropText(last)))
		return false
	case out.Handed:
		w.end(Unknown, s.name, fmt.Sprintf("UNKNOWN from step %d on: %s hands the packet over", step.Number, last.Rule))
		return false
	}
	return true
}

// dropText is the rule that ends a packet's way.
func dropText(h *Rule) string {
	if h.Handle == 0 {
		return "the policy of chain " + h.Table + " " + h.Chain + " is drop"
	}
	text := fmt.Sprintf("rule handle %d of chain %s %s: %s", h.Handle, h.Table, h.Chain, h.Rule)
	if h.Comment != "" {
		text += " (" + h.Comment + ")"
	}
	if h.Element != "" {
		text += "; in " + h.Set + ": " + h.Element
	}
	return text + h.whose()
}

// legacy notes that a space has rules that are not nftables', and cannot be told.
func (w *walker) legacy(s *space) {
	file := "/proc/thread-self/net/ip_tables_names"
	if w.p.Is6() {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	var text []byte
	_ = s.Do(func() (err error) {
		text, err = os.ReadFile(file)
		return err
	})
	doubt := fmt.Sprintf("%s has tables of legacy iptables (%s), which are not looked at", s.name, strings.Join(strings.Fields(string(text)), ", "))
	if len(text) > 0 && !slices.Contains(w.doubts, doubt) {
		w.doubts = append(w.doubts, doubt)
	}
}
