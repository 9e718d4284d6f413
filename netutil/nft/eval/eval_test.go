package eval

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
)

// fakeEnv is a namespace with one set's elements, and no routes.
type fakeEnv struct{ elements []*Element }

func (e fakeEnv) Element(_ *Set, key []byte) (*Element, error) {
	for _, have := range e.elements {
		if bytes.Equal(have.Key, key) {
			return have, nil
		}
	}
	return nil, nil
}

func (e fakeEnv) Elements(*Set) ([]*Element, error) { return e.elements, nil }

func (fakeEnv) Fib(netip.Addr, uint32, int) (uint8, Device, bool) { return 0, Device{}, false }

func (fakeEnv) AddrOf(int, netip.Addr) netip.Addr { return netip.MustParseAddr("192.0.2.1") }

// ruleset is a table inet t with the base chain c, which accepts, and others.
func newRuleset(t testing.TB, chains map[string][][]expr.Any) *Ruleset {
	t.Helper()
	table := &Table{Family: unix.NFPROTO_INET, Name: "t", chains: map[string]*Chain{}, Sets: map[string]*Set{
		"ports":   {Name: "ports", KeySize: 2, kinds: []kind{kindPort}},
		"pairs":   {Name: "pairs", KeySize: 8, kinds: []kind{kindIPv4, kindPort}},
		"verdict": {Name: "verdict", KeySize: 2, Verdicts: true, kinds: []kind{kindPort}},
	}}
	for _, s := range table.Sets {
		s.Table = table
	}
	for name, rules := range chains {
		c := &Chain{Table: table, Name: name, Policy: verdictAccept, Base: name == "c", Hook: unix.NF_INET_FORWARD, Kind: "filter"}
		table.chains[name] = c
		for i, exprs := range rules {
			c.rules = append(c.rules, rule{handle: uint64(i + 1), exprs: encode(t, exprs...)})
		}
	}
	return &Ruleset{tables: []*Table{table}, bases: []*Chain{table.chains["c"]}}
}

func encode(t testing.TB, exprs ...expr.Any) []byte {
	t.Helper()
	var a rawnl.Attrs
	for _, e := range exprs {
		encoded, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			t.Fatal(err)
		}
		a.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, encoded)
	}
	return a
}

func packet() *Packet {
	return &Packet{
		Src: netip.MustParseAddr("10.1.0.5"), Dst: netip.MustParseAddr("192.0.2.7"), Proto: unix.IPPROTO_TCP, DstPort: 80,
		In: Device{1, "cni0", "bridge", 0}, Out: Device{2, "eth0", "", 0}, Received: true,
	}
}

func port(direction uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: direction, Len: 2}
}

func equal(b ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

func leave() expr.Any { return &expr.Verdict{Kind: expr.VerdictReturn} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

// What is not known makes a rule one that may apply; the rest of its way a packet goes as if it did not.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	http, random := []byte{0, 80}, &expr.Numgen{Register: 1, Modulus: 2, Type: unix.NFT_NG_RANDOM}
	type chains = map[string][][]expr.Any
	for _, tt := range []struct {
		name        string
		chains      chains
		env         fakeEnv
		policy      uint32
		drop, doubt bool
		says        string // of the last hit
	}{
		{name: "nothing", chains: chains{"c": {}}, policy: verdictAccept},
		{name: "policy", chains: chains{"c": {}}, policy: verdictDrop, drop: true, says: "policy drop"},
		{name: "port", chains: chains{"c": {{port(2), equal(http...), drop()}}}, policy: verdictAccept, drop: true, says: "tcp dport 80 drop"},
		{name: "source port, not known", chains: chains{"c": {{port(0), equal(0x90, 0), drop()}}}, policy: verdictAccept, doubt: true, says: "tcp sport 36864 drop"},
		{name: "source port, never chosen", chains: chains{"c": {{port(0), equal(http...), drop()}}}, policy: verdictAccept},
		{name: "chance", chains: chains{"c": {{random, equal(0, 0, 0, 0), drop()}}}, policy: verdictAccept, doubt: true, says: "numgen 0 drop"},
		{name: "chance to pass a policy", chains: chains{"c": {{random, equal(0, 0, 0, 0), accept()}}}, policy: verdictDrop, drop: true, doubt: true, says: "policy drop"},
		{name: "chance, and then for sure", chains: chains{"c": {{random, equal(0, 0, 0, 0), accept()}, {drop()}}}, policy: verdictAccept, drop: true, doubt: true, says: "drop"},
		{name: "limit", chains: chains{"c": {{&expr.Limit{Type: expr.LimitTypePkts, Rate: 5, Unit: expr.LimitTimeMinute}, drop()}}}, policy: verdictAccept, doubt: true, says: "limit rate 5/minute drop"},
		{name: "by chance to a chain that drops", chains: chains{"c": {{random, equal(0, 0, 0, 0), jump("d")}}, "d": {{drop()}}}, policy: verdictAccept, doubt: true, says: "drop"},
		{
			name: "by chance not as far as that", chains: chains{"c": {{jump("d")}, {accept()}}, "d": {{random, equal(0, 0, 0, 0), leave()}, {drop()}}},
			policy: verdictAccept, drop: true, doubt: true, says: "drop",
		},
		{
			name: "by chance not as far as what lets it pass", chains: chains{"c": {{random, equal(0, 0, 0, 0), leave()}, {accept()}}},
			policy: verdictDrop, doubt: true, says: "accept",
		},
		{
			name: "one way or the other out of a chain", chains: chains{"c": {{jump("d")}, {drop()}}, "d": {{random, equal(0, 0, 0, 0), leave()}}},
			policy: verdictAccept, drop: true, says: "drop",
		},
		{name: "accepted in the chain", chains: chains{"c": {{jump("d")}, {drop()}}, "d": {{accept()}, {drop()}}}, policy: verdictAccept, says: "accept"},
		{name: "chains in circles", chains: chains{"c": {{jump("c")}, {jump("c")}, {jump("c")}, {drop()}}}, policy: verdictAccept, drop: true},
		{
			name: "set", chains: chains{"c": {{port(2), &expr.Lookup{SourceRegister: 1, SetName: "ports"}, drop()}}},
			env: fakeEnv{[]*Element{{Key: http, Comment: "web"}}}, policy: verdictAccept, drop: true, says: "tcp dport @ports drop",
		},
		{
			name: "set, of what is not known", chains: chains{"c": {{port(0), &expr.Lookup{SourceRegister: 1, SetName: "ports"}, drop()}}},
			env: fakeEnv{[]*Element{{Key: []byte{0x90, 0}}}}, policy: verdictAccept, doubt: true, says: "tcp sport @ports drop",
		},
		{
			name: "set that cannot hold it", chains: chains{"c": {{port(0), &expr.Lookup{SourceRegister: 1, SetName: "ports"}, drop()}}},
			env: fakeEnv{[]*Element{{Key: http}}}, policy: verdictAccept,
		},
		{
			name: "no such set", chains: chains{"c": {{port(2), &expr.Lookup{SourceRegister: 1, SetName: "none"}, drop()}}}, policy: verdictAccept, doubt: true, says: "drop",
		},
		{
			name: "expression that is not known", chains: chains{"c": {{&expr.Socket{Key: expr.SocketKeyMark, Register: 1}, equal(1, 0, 0, 0), drop()}}},
			policy: verdictAccept, doubt: true, says: "socket 1 drop",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRuleset(t, tt.chains)
			r.bases[0].Policy = tt.policy
			out := r.Hook(tt.env, false, unix.NF_INET_FORWARD, packet())
			if out.Dropped != tt.drop || out.Doubt != tt.doubt {
				t.Errorf("dropped %v, doubtful %v: %+v", out.Dropped, out.Doubt, out.Hits)
			}
			if tt.says != "" && (len(out.Hits) == 0 || out.Hits[len(out.Hits)-1].Rule != tt.says) {
				t.Errorf("says %+v, want %q", out.Hits, tt.says)
			}
		})
	}
}

// A value of which some bits are known is compared by those.
func TestKnownBits(t *testing.T) {
	t.Parallel()
	v := value{}.add(0xf0).unknown(1)
	if got := v.equals([]byte{0xf1, 0}); got != no {
		t.Errorf("of another first byte: %v", got)
	}
	if got := v.equals([]byte{0xf0, 7}); got != maybe {
		t.Errorf("of the same first byte: %v", got)
	}
	if got := v.masked([]byte{0xff, 0}, []byte{0, 0}).equals([]byte{0xf0, 0}); got != yes {
		t.Errorf("without what is not known: %v", got)
	}
	if order, ok := v.compare([]byte{0xf1, 0}); !ok || order != -1 {
		t.Errorf("is less: %d, %v", order, ok)
	}
	if _, ok := v.compare([]byte{0xf0, 0}); ok {
		t.Error("it is not known which is less")
	}
}

// The headers are as long as protocols have them, and known where rules look.
func TestHeaders(t *testing.T) {
	t.Parallel()
	p := packet()
	h, _ := p.header(unix.NFT_PAYLOAD_NETWORK_HEADER)
	if len(h.data) != 40 || h.data[9] != unix.IPPROTO_TCP || !bytes.Equal(h.data[12:20], []byte{10, 1, 0, 5, 192, 0, 2, 7}) || h.data[33] != 2 {
		t.Errorf("IPv4 and TCP: %x", h.data)
	}
	p.Src, p.Dst = netip.MustParseAddr("fd00::5"), netip.MustParseAddr("fd00::7")
	h, _ = p.header(unix.NFT_PAYLOAD_NETWORK_HEADER)
	if len(h.data) != 60 || h.data[6] != unix.IPPROTO_TCP || h.data[23] != 5 || h.data[39] != 7 {
		t.Errorf("IPv6 and TCP: %x", h.data)
	}
	p.Received = false
	if _, ok := p.header(unix.NFT_PAYLOAD_LL_HEADER); ok {
		t.Error("what the namespace sends itself has no frame's header yet")
	}
}

// Whatever the kernel says that rules are, evaluating them ends, and never fails.
func FuzzRule(f *testing.F) {
	for _, exprs := range [][]expr.Any{
		{port(2), equal(0, 80), drop()},
		{port(2), &expr.Lookup{SourceRegister: 1, SetName: "pairs"}, jump("c")},
		{port(2), &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: "verdict"}},
		{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte("cni")...), accept()},
		{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{1, 2, 3, 4}, Xor: []byte{0, 0, 0, 1}}, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true}},
		{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, equal(8, 0, 0, 0), &expr.Reject{}},
		{&expr.Ct{Key: expr.CtKeyPROTODST, Register: 1}, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{0, 1}, ToData: []byte{1, 0}}, &expr.Masq{}},
		{&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true}, equal(0, 0, 0, 0), drop()},
		{&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4}, &expr.Immediate{Register: 1, Data: []byte{10, 0, 0, 1}}, &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1}},
		{&expr.Redir{RegisterProtoMin: 1}, &expr.Notrack{}, &expr.Log{}, &expr.Counter{}, &expr.Queue{}},
	} {
		f.Add(encode(f, exprs...), uint8(0))
	}
	for _, name := range []string{"tcp", "udp", "multiport", "conntrack", "state", "mark", "addrtype", "comment"} {
		f.Add(extension("match", unix.NFTA_MATCH_NAME, unix.NFTA_MATCH_INFO, unix.NFTA_MATCH_REV, name, 1), uint8(1))
		f.Add(extension("match", unix.NFTA_MATCH_NAME, unix.NFTA_MATCH_INFO, unix.NFTA_MATCH_REV, name, 3), uint8(2))
	}
	for _, name := range []string{"REJECT", "DNAT", "SNAT", "REDIRECT", "MASQUERADE", "MARK", "CT"} {
		f.Add(extension("target", unix.NFTA_TARGET_NAME, unix.NFTA_TARGET_INFO, unix.NFTA_TARGET_REV, name, 2), uint8(3))
	}
	f.Fuzz(func(t *testing.T, exprs []byte, kind uint8) {
		r := newRuleset(t, map[string][][]expr.Any{"c": {}})
		r.bases[0].rules = []rule{{exprs: exprs}, {exprs: exprs}}
		p := packet()
		p.Proto = []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_SCTP}[kind&3]
		if kind&4 != 0 {
			p.Src, p.Dst = netip.MustParseAddr("fd00::5"), netip.MustParseAddr("fd00::7")
		}
		if kind&8 != 0 {
			p.Conn = &Conn{First: p.Tuple(), Now: p.Tuple()}
		}
		p.Reply = kind&16 != 0
		env := fakeEnv{[]*Element{{Key: exprs[:min(2, len(exprs))], Verdict: exprs, Value: exprs}}}
		out := r.Hook(env, kind&32 != 0, unix.NF_INET_FORWARD, p)
		for i := range out.Hits {
			if strings.Contains(out.Hits[i].Rule, "%!") {
				t.Errorf("%q", out.Hits[i].Rule)
			}
		}
	})
}

// To another port of the namespace, in each of the layouts that iptables and ip6tables have for it.
func TestRedirect(t *testing.T) {
	t.Parallel()
	const byPort = 2
	four := make([]byte, 20) // struct nf_nat_ipv4_multi_range_compat
	four[0], four[4], four[17], four[19] = 1, byPort, 99, 99
	six := make([]byte, 40) // struct nf_nat_range
	six[0], six[37], six[39] = byPort, 99, 99
	for info, dst := range map[string]string{string(four): "192.0.2.7", string(six): "2001:db8::7"} {
		var target rawnl.Attrs
		target.Nested(unix.NFTA_LIST_ELEM, func(a *rawnl.Attrs) {
			a.Text(unix.NFTA_EXPR_NAME, "target")
			a.Nested(unix.NFTA_EXPR_DATA, func(a *rawnl.Attrs) {
				a.Text(unix.NFTA_TARGET_NAME, "REDIRECT")
				a.Bytes(unix.NFTA_TARGET_REV, make([]byte, 4))
				a.Bytes(unix.NFTA_TARGET_INFO, []byte(info))
			})
		})
		r := newRuleset(t, map[string][][]expr.Any{"c": {}})
		c := r.bases[0]
		c.Kind, c.Hook, c.rules = "nat", unix.NF_INET_PRE_ROUTING, []rule{{handle: 1, exprs: target}}
		p := packet()
		p.Dst = netip.MustParseAddr(dst)
		if r.Hook(fakeEnv{}, false, unix.NF_INET_PRE_ROUTING, p); p.DstPort != 99 {
			t.Errorf("%s: to port %d", dst, p.DstPort)
		}
	}
}

func extension(what string, nameAt, infoAt, revAt uint16, name string, rev uint32) []byte {
	var a rawnl.Attrs
	a.Nested(unix.NFTA_LIST_ELEM, func(a *rawnl.Attrs) {
		a.Text(unix.NFTA_EXPR_NAME, what)
		a.Nested(unix.NFTA_EXPR_DATA, func(a *rawnl.Attrs) {
			a.Text(nameAt, name)
			a.Bytes(revAt, binary.BigEndian.AppendUint32(nil, rev))
			a.Bytes(infoAt, bytes.Repeat([]byte{1}, 160))
		})
	})
	return a
}

// Whatever the kernel says that there is, reading it ends, and never fails.
func FuzzRead(f *testing.F) {
	var table, chain, set rawnl.Attrs
	table.Text(unix.NFTA_TABLE_NAME, "t")
	chain.Text(unix.NFTA_CHAIN_TABLE, "t")
	chain.Text(unix.NFTA_CHAIN_NAME, "c")
	chain.Nested(unix.NFTA_CHAIN_HOOK, func(a *rawnl.Attrs) { a.Uint32BE(unix.NFTA_HOOK_HOOKNUM, 2) })
	set.Text(unix.NFTA_SET_TABLE, "t")
	set.Text(unix.NFTA_SET_NAME, "s")
	set.Uint32BE(unix.NFTA_SET_KEY_TYPE, 7<<6|13)
	f.Add([]byte(table), []byte(chain), []byte(set))
	f.Add([]byte(chain), []byte(set), extension("match", unix.NFTA_MATCH_NAME, unix.NFTA_MATCH_INFO, unix.NFTA_MATCH_REV, "tcp", 0))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		r := newRuleset(t, map[string][][]expr.Any{"c": {}})
		for _, attrs := range [][]byte{a, b, c} {
			r.addTable(unix.NFPROTO_INET, attrs)
			r.addChain(unix.NFPROTO_INET, attrs)
			r.addRule(unix.NFPROTO_INET, attrs)
			r.addSet(unix.NFPROTO_INET, attrs)
			for _, e := range decodeElements(attrs) {
				for _, s := range r.tables[0].Sets {
					_ = e.text(s)
				}
				_ = e.applies()
			}
			_ = Comment(attrs)
		}
		r.Hook(fakeEnv{}, false, unix.NF_INET_FORWARD, packet())
	})
}
