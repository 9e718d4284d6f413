package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// feature is something that plugins need of the kernel.
type feature struct {
	name    string
	options string // of the kernel's configuration
	module  string // empty: it is in no module of its own
	plugins string // that cannot do without it
	keys    string // parts of their configurations that need it, apart by blanks; empty: they always do
	try     func(*trial) error
}

// kernel tries all features. One that a network of the node needs is a problem, another a note.
func kernel(f *facts, l *list) {
	t, err := newTrial()
	if err != nil {
		l.cannot("the kernel: a network namespace", err)
		return
	}
	defer t.Close()
	for _, x := range features() {
		if !f.tries(&x) {
			continue
		}
		err := x.try(t)
		switch {
		case err == nil:
			continue
		case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
			l.cannot("the kernel's "+x.name, err)
			continue
		}
		severity, needs := Note, "needed by "+strings.ReplaceAll(x.plugins, " ", ", ")
		if f.needs(&x) {
			severity = Problem
		}
		if x.keys != "" {
			needs += " with " + strings.ReplaceAll(x.keys, " ", " or ")
		}
		repair := "a kernel with " + x.options
		if x.module != "" {
			repair = fmt.Sprintf("modprobe %s; where there is no such module, %s", x.module, repair)
		}
		var number unix.Errno
		if errors.As(err, &number) { // without who says so
			err = number
		}
		l.add(severity, fmt.Sprintf("this kernel has no %s (%v)", x.name, err), needs, repair)
	}
}

// needs tells whether a network of the node, or a plugin that it is to be fit for, cannot do without a feature.
func (f *facts) needs(x *feature) bool {
	plugins := strings.Fields(x.plugins)
	if x.keys == "" {
		return f.uses(plugins...)
	}
	for i := range f.nets {
		for _, p := range f.nets[i].Plugins {
			for _, key := range strings.Fields(x.keys) {
				if slices.Contains(plugins, p.Type) && strings.Contains(string(p.Conf), key) {
					return true
				}
			}
		}
	}
	return false
}

// tries tells whether a feature is tried. The modules dummy and ifb make devices on the host as they are loaded (dummy0, ifb0, ifb1), and these stay: where nobody
// needs them, they are not loaded just to know.
func (f *facts) tries(x *feature) bool {
	if x.module != "dummy" && x.module != "ifb" || f.needs(x) {
		return true
	}
	_, err := os.Stat("/sys/module/" + x.module)
	return err == nil
}

// features are all of them.
func features() []feature {
	on := func(kind string, c rtnl.Child) func(*trial) error {
		return func(t *trial) error { return t.kind(kind, c) }
	}
	s := rtnl.Shape{Rate: 1 << 20, Burst: 1 << 16, Limit: 1 << 17}
	shape := func(discipline func(int) rawnl.Message) func(*trial) error {
		return func(t *trial) error { return t.shape(discipline) }
	}
	made := func(m func(name string) rawnl.Message) func(*trial) error {
		return func(t *trial) error { return t.ask(m(t.name())) }
	}
	bridge := func(b rtnl.Bridge) func(*trial) error {
		return made(func(name string) rawnl.Message { return rtnl.NewBridge(rtnl.End{Name: name}, b, false) })
	}
	vxlan := rtnl.VXLAN{VNI: 7, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")}
	rule := rtnl.Rule{Source: netip.MustParsePrefix("192.0.2.1/32"), Table: 100}
	const veths, filters = "bridge ptp vxlan", "bridge ptp portmap firewall vxlan"
	return []feature{
		{"veth pairs", "CONFIG_VETH", "veth", veths, "", func(t *trial) error {
			return t.ask(rtnl.NewVeth(rtnl.End{Name: t.name()}, rtnl.End{Name: t.name()}, 0, 0))
		}},
		{"bridges", "CONFIG_BRIDGE", "bridge", "bridge", "", bridge(rtnl.Bridge{})},
		{"VLANs on bridges", "CONFIG_BRIDGE_VLAN_FILTERING", "", "bridge", `"vlan" "vlanTrunk"`, bridge(rtnl.Bridge{VLANFiltering: true})},
		{"vxlan", "CONFIG_VXLAN", "vxlan", "vxlan", "", made(func(name string) rawnl.Message { return rtnl.NewVXLAN(rtnl.End{Name: name}, vxlan) })},
		{"macvlan", "CONFIG_MACVLAN", "macvlan", "macvlan", "", on("macvlan", rtnl.Child{Mode: rtnl.MacvlanBridge})},
		{"ipvlan", "CONFIG_IPVLAN", "ipvlan", "ipvlan", "", on("ipvlan", rtnl.Child{Mode: rtnl.IPvlanL2})},
		{"VLANs", "CONFIG_VLAN_8021Q", "8021q", "vlan", "", on("vlan", rtnl.Child{ID: 7, Protocol: unix.ETH_P_8021Q})},
		{"dummy interfaces", "CONFIG_DUMMY", "dummy", "dummy", "", on("dummy", rtnl.Child{})},
		{"tap devices", "CONFIG_TUN", "tun", "tap", "", (*trial).tun},
		{"VRFs", "CONFIG_NET_VRF", "vrf", "vrf", "", made(func(name string) rawnl.Message { return rtnl.NewVRF(name, 10) })},
		{"routing rules", "CONFIG_IP_MULTIPLE_TABLES", "", "sbr", "", func(t *trial) error { return t.ask(rtnl.NewRule(rule)) }},
		{"token bucket filter", "CONFIG_NET_SCH_TBF", "sch_tbf", "bandwidth", "", shape(func(i int) rawnl.Message { return rtnl.NewTBF(i, s) })},
		{"ifb devices", "CONFIG_IFB", "ifb", "bandwidth", "", on("ifb", rtnl.Child{})},
		{
			"redirection of what comes in", "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED", "act_mirred", "bandwidth", "",
			(*trial).redirect,
		},
		{
			"hierarchical token bucket", "CONFIG_NET_SCH_HTB", "sch_htb", "bandwidth", `"shapedSubnets" "unshapedSubnets"`,
			shape(func(i int) rawnl.Message { return rtnl.NewHTB(i, true) }),
		},
		{
			"nftables with address translation", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT and CONFIG_NFT_FIB_INET",
			"nf_tables nft_chain_nat nft_masq nft_ct nft_fib_inet", filters, "", (*trial).nat,
		},
		{"nftables for what is forwarded", "CONFIG_NF_TABLES_INET and CONFIG_NFT_CT", "nft_ct", "firewall vxlan", "", (*trial).admission},
		{"nftables with conditions for ports", "CONFIG_NF_TABLES_INET", "", "portmap", `"conditionsV4" "conditionsV6"`, (*trial).conditions},
		{"nftables on bridges", "CONFIG_NF_TABLES_BRIDGE", "nf_tables", "bridge", `"macspoofchk"`, (*trial).spoofCheck},
		{
			"connection tracking on bridges", "CONFIG_NF_CONNTRACK_BRIDGE", "nf_conntrack_bridge", "firewall", `"isolated"`,
			func(t *trial) error { return t.entries(nft.IsolateEntry{Port: "veth0"}) },
		},
		{"IPv6", "CONFIG_IPV6, and no ipv6.disable=1 at boot", "ipv6", "bridge ptp vxlan macvlan ipvlan vlan", "::", (*trial).ipv6},
	}
}
