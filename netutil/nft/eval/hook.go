package eval

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Hit is a rule that applies to a packet, or may, and matters for it.
type Hit struct {
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Handle  uint64 `json:"handle,omitempty"` // 0: it is the chain's policy
	Rule    string `json:"rule"`
	Comment string `json:"comment,omitempty"`
	Set     string `json:"set,omitempty"` // in which the element was found
	Element string `json:"element,omitempty"`
	Noted   string `json:"elementComment,omitempty"`
	Does    string `json:"does"`              // "accept", "drop", "dnat to 10.1.0.5:80"
	Maybe   bool   `json:"maybe,omitempty"`   // whether it applies is not known
	DrawnOf int    `json:"drawnOf,omitempty"` // the element is one of so many, of which chance chooses one
}

// Leads tells whether the rule does no more than lead to another chain.
func (h *Hit) Leads() bool {
	return strings.HasPrefix(h.Does, "jump ") || strings.HasPrefix(h.Does, "goto ")
}

// Outcome is what becomes of a packet at a hook.
type Outcome struct {
	Hits    []Hit
	Dropped bool // the last hit says by what
	Doubt   bool // a rule of which it is not known whether it applies could make it otherwise
	Handed  bool // to a program (queue), or another link: what becomes of it is not known
}

// maxDepth is the deepest nesting of chains that the kernel takes (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// Stages of a hook beside the chains (linux/netfilter_ipv4.h). Of chains that translate the kernel asks one after the other at the same place,
// whatever their priorities.
const (
	priorityTrack  = -200
	priorityDest   = -100
	prioritySource = 100
)

// stage is something that is done at a hook.
type stage struct {
	priority int32
	chain    *Chain   // nil: see below
	track    bool     // connection tracking
	nat      []*Chain // translation
	isNAT    bool
}

// Hook has a packet pass a hook (NF_INET_) of the families that see it: of IP's those of its own and inet, or bridge's, or netdev's. The packet
// becomes as the rules make it.
func (r *Ruleset) Hook(env Env, bridge bool, hook uint32, p *Packet) (out Outcome) {
	w := &walk{rules: r, env: env, p: p, out: &out}
	for _, s := range r.stages(bridge, hook, p) {
		switch {
		case s.track:
			p.track()
		case s.isNAT:
			w.translate(s.nat, hook)
		default:
			w.base(s.chain)
		}
		if out.Dropped || out.Handed {
			break
		}
	}
	return out
}

// AtDevice has a packet pass the hook of a link where it comes in, or goes out: of family netdev, and of inet where it comes in.
func (r *Ruleset) AtDevice(env Env, device string, egress bool, p *Packet) (out Outcome) {
	const netdevIngress, netdevEgress, inetIngress = 0, 1, 5 // NF_NETDEV_, NF_INET_INGRESS
	hook := uint32(netdevIngress)
	if egress {
		hook = netdevEgress
	}
	w := &walk{rules: r, env: env, p: p, out: &out}
	var chains []*Chain
	for _, c := range r.bases {
		of := c.Table.Family == unix.NFPROTO_NETDEV && c.Hook == hook || !egress && c.Table.Family == unix.NFPROTO_INET && c.Hook == inetIngress
		if of && slices.Contains(c.devices, device) {
			chains = append(chains, c)
		}
	}
	slices.SortStableFunc(chains, func(a, b *Chain) int { return int(int64(a.Priority) - int64(b.Priority)) })
	for _, c := range chains {
		if w.base(c); out.Dropped || out.Handed {
			break
		}
	}
	return out
}

// stages are what is done at a hook, in order.
func (r *Ruleset) stages(bridge bool, hook uint32, p *Packet) (out []stage) {
	var nat []*Chain
	for _, c := range r.bases {
		f := c.Table.Family
		if c.Hook != hook || bridge != (f == unix.NFPROTO_BRIDGE) || !bridge && f != unix.NFPROTO_INET && f != p.family() {
			continue
		}
		if c.Kind == "nat" {
			nat = append(nat, c)
		} else {
			out = append(out, stage{priority: c.Priority, chain: c})
		}
	}
	if !bridge && len(r.tables) > 0 {
		switch hook {
		case unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT:
			out = append(out, stage{priority: priorityTrack, track: true}, stage{priority: priorityDest, nat: nat, isNAT: true})
		case unix.NF_INET_POST_ROUTING, unix.NF_INET_LOCAL_IN:
			out = append(out, stage{priority: prioritySource, nat: nat, isNAT: true})
		}
	}
	slices.SortStableFunc(out, func(a, b stage) int { return int(int64(a.priority) - int64(b.priority)) })
	slices.SortStableFunc(nat, func(a, b *Chain) int { return int(int64(a.Priority) - int64(b.Priority)) })
	return out
}

// track has the namespace begin to keep the connection. A packet that it has seen keeps what it had; an answer of which it has not seen the question
// begins no connection, but of UDP.
func (p *Packet) track() {
	if p.Conn == nil && !p.NoTrack && (!p.Reply || p.Proto == unix.IPPROTO_UDP) {
		p.Conn = &Conn{Proto: p.Proto, First: p.Tuple(), Now: p.Tuple()}
	}
}

// mostRules bounds how many rules are evaluated at one hook: with chains that lead to many others again and again it could take for ever.
const mostRules = 1 << 18

// walk is a packet's way through the chains of one hook.
type walk struct {
	seen  int      // rules
	stack []*Chain // that the packet is in
	exits []Hit    // by which it may have left those chains before it came as far as this

	rules       *Ruleset
	env         Env
	p           *Packet
	out         *Outcome
	mayAccept   bool // of the base chain that is gone through
	translation *translation
}

// translate has the chains that translate look at the first packet of a connection, once for its destination and once for its source: that which a
// space sends to itself comes by twice. Of others the connection says what to do.
func (w *walk) translate(chains []*Chain, hook uint32) {
	if w.p.Conn == nil || w.p.NoTrack {
		return
	}
	if w.p.Reply {
		if told := w.p.answered(hook); told != "" {
			w.out.Hits = append(w.out.Hits, Hit{Table: "connection tracking", Rule: told, Does: told})
		}
		return
	}
	if w.p.Follows || w.p.Conn.decide(hook) {
		w.p.translated(hook)
		return
	}
	for _, c := range chains {
		w.base(c)
		if w.translation != nil {
			w.translation.apply(w.p)
		}
		if w.translation != nil || w.out.Dropped || w.out.Handed {
			return
		}
	}
}

// base has the packet go through a base chain.
func (w *walk) base(c *Chain) {
	w.mayAccept, w.exits = false, nil
	v := w.through(c, false)
	if v.code == verdictContinue && c.Policy == verdictDrop {
		w.out.Hits = append(w.out.Hits, Hit{Table: c.Table.String(), Chain: c.Name, Rule: "policy drop", Does: "drop"})
		v = verdict{code: verdictDrop}
	}
	if len(w.exits) > 0 {
		w.out.Doubt = true
		w.out.Hits = slices.Insert(w.out.Hits, len(w.out.Hits)-1, w.exits...)
	}
	switch v.code {
	case verdictDrop:
		w.out.Dropped = true
		w.out.Doubt = w.out.Doubt || w.mayAccept
	case verdictQueue, verdictStolen:
		w.out.Handed = true
	}
}

// through has the packet go through a chain's rules. Perhaps says that it is not known whether it comes there at all; then nothing ends its way.
func (w *walk) through(c *Chain, perhaps bool) verdict {
	if len(w.stack) > maxDepth || slices.Contains(w.stack, c) { // the kernel takes no such rules
		return verdict{code: verdictContinue}
	}
	w.stack = append(w.stack, c)
	defer func() { w.stack = w.stack[:len(w.stack)-1] }()
	exits := len(w.exits)
	for i := range c.rules {
		if w.seen++; w.seen > mostRules {
			w.out.Doubt = true
			break
		}
		m := &machine{env: w.env, table: c.Table, chain: c, p: w.p, comment: c.rules[i].comment}
		a := m.run(c.rules[i].exprs, perhaps)
		if a == no {
			continue
		}
		m.say() // what is pending
		v, ended := w.follow(m, c.rules[i].handle, perhaps || a == maybe)
		if ended {
			return v
		}
		if a == maybe && !perhaps && v.code == verdictReturn {
			w.mayExit(m, c.rules[i].handle)
		}
		if a == yes && v.code != verdictContinue && v.code != verdictBreak {
			break // who came here does not come further
		}
	}
	w.exits = w.exits[:exits] // whichever way, it comes out here
	return verdict{code: verdictContinue}
}

// mayExit notes a rule by which the packet may leave its chain, so that what comes next in it is not certain.
func (w *walk) mayExit(m *machine, handle uint64) {
	w.hit(m, handle, true)
	last := len(w.out.Hits) - 1
	exit := w.out.Hits[last]
	exit.Does = "return"
	w.exits, w.out.Hits = append(w.exits, exit), w.out.Hits[:last]
}

// follow does what a rule says that applies, or may. ended says that the packet's way through the base chain is.
func (w *walk) follow(m *machine, handle uint64, perhaps bool) (v verdict, ended bool) {
	at := len(w.out.Hits)
	v = m.verdict
	switch v.code {
	case verdictJump, verdictGoto:
		w.hit(m, handle, perhaps)
		to := m.table.chains[v.chain]
		if to == nil {
			return verdict{code: verdictContinue}, false
		}
		sub := w.through(to, perhaps)
		if len(w.out.Hits) == at+1 {
			w.out.Hits = w.out.Hits[:at] // nothing there concerns the packet
		}
		if sub.code != verdictContinue && !perhaps {
			return sub, true
		}
		if v.code == verdictGoto {
			return verdict{code: verdictReturn}, false
		}
		return verdict{code: verdictContinue}, false
	case verdictContinue, verdictBreak:
		if m.effect != "" {
			w.hit(m, handle, perhaps)
		}
		return v, false
	case verdictReturn:
		return v, false
	}
	w.hit(m, handle, perhaps)
	if perhaps {
		w.mayAccept = w.mayAccept || v.code == verdictAccept && m.nat == nil
		w.out.Doubt = w.out.Doubt || v.code != verdictAccept || m.nat != nil
		return v, false
	}
	w.translation = m.nat
	return v, true
}

// hit notes a rule.
func (w *walk) hit(m *machine, handle uint64, perhaps bool) {
	h := Hit{Table: m.table.String(), Chain: m.chain.Name, Handle: handle, Rule: m.text(), Comment: m.comment, Does: m.verdict.String(), Maybe: perhaps}
	if h.DrawnOf = m.drawnOf; h.DrawnOf > 1 {
		w.out.Doubt = true
	}
	if m.nat != nil {
		h.Does = m.nat.String()
	}
	if m.effect != "" && m.verdict.code == verdictContinue {
		h.Does = m.effect
	}
	if m.element != nil {
		h.Set, h.Element, h.Noted = m.set.Name, m.element.text(m.set), m.element.Comment
		if m.set.Flags&unix.NFT_SET_ANONYMOUS != 0 {
			h.Set = ""
			h.Rule = strings.Replace(h.Rule, "{...}", "{ "+h.Element+", ... }", 1)
			h.Element = ""
		}
	}
	w.out.Hits = append(w.out.Hits, h)
}
