package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft/eval"
)

// stopper is a rule, or a chain's policy, that stops packets of pods.
type stopper struct {
	way   string
	hit   eval.Hit
	maybe bool
	pods  []probe

	siblings string // names of the table's chains
}

// note notes that a rule stops a pod's packet.
func (p *prober) note(pod *probe, way string, hit eval.Hit, maybe bool) {
	for _, s := range p.verdicts {
		if s.way == way && s.hit.Table == hit.Table && s.hit.Chain == hit.Chain && s.hit.Handle == hit.Handle && s.pods[0].network.Name == pod.network.Name {
			s.pods, s.maybe = append(s.pods, *pod), s.maybe && maybe
			return
		}
	}
	p.verdicts = append(p.verdicts, &stopper{way, hit, maybe, []probe{*pod}, p.chains[hit.Table]})
}

// tell makes findings of what was noted.
func (p *prober) tell(l *list) {
	for _, s := range p.verdicts {
		severity := Problem
		admits := s.pods[0].network.has("firewall")
		if s.pods[0].name == "" && admits && s.hit.Handle == 0 {
			continue // the first pod brings the rule that lets it pass
		}
		if s.maybe || s.pods[0].name == "" {
			severity = Warning
		}
		if s.way == toHost {
			severity = Note
		}
		f := l.add(severity, s.what(), s.why(), s.repair(p.f, admits))
		if admits && s.lacking() && s.pods[0].name != "" && s.way != toHost {
			f.by(p.f.syncFilter)
		}
	}
}

// rule is where the rule stands, and what it says.
func (s *stopper) rule() string {
	text := fmt.Sprintf("table %s, chain %s", s.hit.Table, s.hit.Chain)
	if s.hit.Handle == 0 {
		return text + ": the policy drop"
	}
	text += fmt.Sprintf(", handle %d: %q", s.hit.Handle, s.hit.Rule)
	if s.hit.Comment != "" {
		text += " (" + s.hit.Comment + ")"
	}
	if s.hit.Element != "" {
		text += " by the element " + s.hit.Element
	}
	return text
}

func (s *stopper) what() string {
	stops := "stops"
	if s.maybe {
		stops = "may stop"
	}
	return fmt.Sprintf("%s %s %s, of %s", s.rule(), stops, s.way, s.whose())
}

// whose are the pods, or the network if it hits several.
func (s *stopper) whose() string {
	var names []string
	for _, p := range s.pods {
		if p.name != "" && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	switch {
	case len(names) == 0:
		return "the next pod of network " + s.pods[0].network.Name
	case len(names) <= few:
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%d pods of network %s, as of %s", len(names), s.pods[0].network.Name, names[0])
}

// program is whose chain it seems to be; empty if that cannot be told.
func (s *stopper) program() string {
	marks := [][2]string{
		{"firewalld", "firewalld"}, {"ufw", "ufw"}, {"DOCKER", "docker"}, {"KUBE", "kube-proxy"}, {"kube-proxy", "kube-proxy"}, {"cali", "Calico"},
	}
	for _, where := range []string{s.hit.Table + " " + s.hit.Chain, s.siblings} {
		for _, m := range marks {
			if strings.Contains(where, m[0]) {
				return m[1]
			}
		}
	}
	return ""
}

func (s *stopper) why() string {
	if s.way == among {
		return "net.bridge.bridge-nf-call-iptables is 1, so rules for what is routed apply to what a bridge forwards"
	}
	if name := s.program(); name != "" {
		return "it seems to be " + name + "'s; each program's chains must let a packet pass"
	}
	return "it is another program's; each program's chains must let a packet pass"
}

// lacking tells that the chain drops whatever it does not know, where the plugin firewall puts a rule in front.
func (s *stopper) lacking() bool {
	return s.hit.Handle == 0 || s.hit.Rule == "" || strings.TrimSpace(strings.ReplaceAll(s.hit.Rule, "counter", "")) == s.hit.Does
}

func (s *stopper) repair(f *facts, admits bool) string {
	n := s.pods[0].network
	var subnets []string
	for _, p := range n.Subnets {
		if p.Addr().Is4() == s.pods[0].addr.Is4() {
			subnets = append(subnets, p.String())
		}
	}
	from := strings.Join(subnets, ",")
	if from == "" {
		from = s.pods[0].addr.String()
	}
	switch {
	case s.way == toHost:
		return "if pods are to reach services of the host, let them: by " + s.pods[0].addr.String() + " or " + from
	case s.lacking() && admits:
		return "cnibox sync"
	case s.way == among:
		return "sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0, unless something relies on it; else " + s.open(from)
	case s.lacking() && n.File != "":
		return `add {"type": "firewall"} to the plugins of ` + n.File + ", for the pods to come; until then " + s.open(from)
	case s.hit.Handle != 0:
		return fmt.Sprintf("nft delete rule %s %s handle %d, if nobody needs it; else %s", s.hit.Table, s.hit.Chain, s.hit.Handle, s.open(from))
	}
	return s.open(from)
}

// open is how the program itself is told to let pods pass.
func (s *stopper) open(from string) string {
	switch s.program() {
	case "firewalld":
		return "firewall-cmd --permanent --zone=trusted --add-source=" + from + " and --reload"
	case "ufw":
		return "ufw route allow from " + from + " and ufw route allow to " + from
	case "docker":
		return "iptables -I DOCKER-USER -s " + from + " -j ACCEPT, and the same with -d"
	}
	word := "ip"
	if s.pods[0].addr.Is6() {
		word = "ip6"
	}
	return fmt.Sprintf("nft insert rule %s %s %s saddr { %s } accept, and the same with daddr", s.hit.Table, s.hit.Chain, word, from)
}
