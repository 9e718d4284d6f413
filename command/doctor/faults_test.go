package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// fault is something that is planted, what is found then, and whether --fix repairs it.
type fault struct {
	plant func(*patient)
	want  []string // lines, parts apart by "..."
	fixed bool
}

// networkFaults are of sysctls, links, addresses and routes.
func networkFaults() map[string]fault {
	return map[string]fault{
		"forwarding": {func(p *patient) { p.Host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0") }, []string{"forwarding problem net.ipv4.ip_forward is 0: pods of blue"}, true},
		"forwarding of IPv6": {
			func(p *patient) { p.Host.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0") },
			[]string{"forwarding problem net.ipv6.conf.all.forwarding is 0"},
			true,
		},
		"overlap with the host": {
			func(p *patient) { p.Host.Run("ip", "addr", "add", "10.221.0.200/25", "dev", "uplink") },
			[]string{"subnets problem 10.221.0.0/24 of network blue overlaps with the host's own subnet 10.221.0.128/25 on uplink"},
			false,
		},
		"stray route": {
			func(p *patient) { p.Host.Run("ip", "route", "add", "10.221.0.64/26", "via", "192.0.2.100") },
			[]string{"subnets problem the route to 10.221.0.64/26 leads by uplink"},
			false,
		},
		"routes to other nodes' parts of a subnet": {
			func(p *patient) {
				p.write("10-blue.conflist", strings.Replace(list0, `"10.221.0.0/24"`, `"10.221.0.0/24","rangeStart":"10.221.0.2","rangeEnd":"10.221.0.63"`, 1))
				p.Host.Run("ip", "route", "add", "10.221.0.64/26", "via", "192.0.2.100")
			}, nil, false,
		},
		"a stray route to a part of a range": {
			func(p *patient) {
				p.write("10-blue.conflist", strings.Replace(list0, `"10.221.0.0/24"`, `"10.221.0.0/24","rangeStart":"10.221.0.2","rangeEnd":"10.221.0.66"`, 1))
				p.Host.Run("ip", "route", "add", "10.221.0.64/26", "via", "192.0.2.100")
			}, []string{"subnets problem the route to 10.221.0.64/26 leads by uplink"}, false,
		},
		"two networks": {
			func(p *patient) {
				p.write("20-red.conf", `{"name":"red","type":"ptp","ipam":{"type":"host-local","subnet":"10.221.0.0/16"}}`)
			}, []string{"configuration problem ...20-red.conf...the network blue...gives out addresses of these too", "configuration note"}, false,
		},
		"router's advertisements": {
			func(p *patient) {
				p.Host.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "uplink", "proto", "ra")
			},
			[]string{"forwarding warning net.ipv6.conf.uplink.accept_ra is 1 while the host forwards"},
			false,
		},
		"strict": {
			func(p *patient) {
				p.Host.Run("ip", "link", "add", "second", "type", "veth", "peer", "name", "other")
				p.Host.Run("ip", "link", "set", "second", "up")
				p.Host.Run("ip", "route", "add", "default", "via", "192.0.2.100")
				p.Host.Run("ip", "route", "add", "default", "dev", "second", "metric", "5")
				p.Host.Run("sysctl", "-qw", "net.ipv4.conf.second.rp_filter=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.uplink.rp_filter=2")
			}, []string{"forwarding warning net.ipv4.conf.second.rp_filter is 1"}, false,
		},
		"no IPv6": {
			func(p *patient) {
				p.Host.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
			}, []string{"forwarding problem net.ipv6.conf.all.disable_ipv6 is 1"}, false,
		},
		"narrow port": {
			func(p *patient) {
				p.Host.Run("ip", "link", "add", "narrow", "mtu", "1300", "type", "veth", "peer", "name", "other")
				p.Host.Run("ip", "link", "set", "blue0", "mtu", "1500")
				p.Host.Run("ip", "link", "set", "narrow", "master", "blue0")
				p.Host.Run("ip", "link", "set", "blue0", "mtu", "1500")
			}, []string{"mtu warning the bridge blue0 has MTU 1500, but narrow at it 1300"}, false,
		},
		"wide tunnel": {
			func(p *patient) {
				p.Host.Run("ip", "link", "add", "vx", "mtu", "1500", "type", "vxlan", "id", "7", "local", "192.0.2.1", "dstport", "4789")
			}, []string{"mtu warning the tunnel vx has MTU 1500, which with 50 bytes of headers does not fit into 1500 of uplink"}, false,
		},
		"wide network": {
			func(p *patient) {
				p.Host.Run("ip", "route", "add", "default", "via", "192.0.2.100")
				p.write("10-blue.conflist", strings.Replace(list0, `"isGateway"`, `"mtu":9000,"isGateway"`, 1))
			}, []string{"mtu warning network blue has mtu 9000, the link uplink to the outside 1500"}, false,
		},
		"a rule for a pod": {
			func(p *patient) {
				p.Host.Run("nft", "add table ip their; add chain ip their c { type filter hook forward priority -5; }; add rule ip their c ip saddr 10.221.0.2 counter drop comment \"planted\"")
			}, []string{`filter problem table ip their, chain c, handle 2: "ip saddr 10.221.0.2 drop" (planted) stops what pods send outside, of blue/a/eth0`}, false,
		},
	}
}

// filterFaults are rules of other programs.
func filterFaults() map[string]fault {
	return map[string]fault{
		"a policy": { // with a pod that the role firewall does not know yet
			func(p *patient) {
				p.Host.Run("nft", "add table inet other; add chain inet other f { type filter hook forward priority 5; policy drop; }")
			},
			[]string{
				"filter problem table inet other, chain f: the policy drop stops what pods send outside, of blue/a/eth0: it is another program's",
				"filter problem table inet other, chain f: the policy drop stops what comes to pods by a port of the host, of blue/a/eth0",
			},
			true,
		},
		"a policy without the plugin firewall": {
			func(p *patient) {
				p.write("10-blue.conflist", strings.Replace(list0, `,{"type":"firewall"}`, "", 1))
				p.Host.Run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; add chain ip filter DOCKER-USER; add rule ip filter FORWARD jump DOCKER-USER")
			}, []string{"filter problem table ip filter, chain FORWARD: the policy drop stops what ...of blue/a/eth0: it seems to be docker's"}, false,
		},
		"a set of addresses": {
			func(p *patient) {
				p.Host.Run("nft", "add table ip their; add set ip their bad { type ipv4_addr; flags interval; elements = { 10.221.0.0/28 } }; add chain ip their c { type filter hook prerouting priority -300; }; add rule ip their c ip saddr @bad drop")
			}, []string{
				"filter problem table ip their, chain c, handle ...@bad... by the element ...stops what pods send outside, of blue/a/eth0",
				"filter note table ip their, chain c, handle ...stops what pods send to this host",
			}, false,
		},
		"a rule for the answers": {
			func(p *patient) {
				p.Host.Run("nft", "add table ip6 their; add chain ip6 their c { type filter hook forward priority -5; }; add rule ip6 their c ip6 daddr fd15:221::/64 reject")
			}, []string{
				"filter problem table ip6 their, chain c, handle ...the answers to what pods send outside, of blue/a/eth0",
				"filter problem table ip6 their, chain c, handle ...what comes to pods by a port of the host",
			}, false,
		},
		"a rule that does not concern pods": {
			func(p *patient) {
				p.Host.Run("nft", "add table inet their; add chain inet their c { type filter hook forward priority -5; }; add rule inet their c ip saddr 192.0.2.7 drop; add rule inet their c ct state invalid drop; add rule inet their c tcp dport 25 drop")
			}, nil, false,
		},
		"bridges are filtered": {
			func(p *patient) {
				p.bridgeNF(1)
				p.Host.Run("nft", "add table ip their; add chain ip their c { type filter hook forward priority -5; }; add rule ip their c iifname blue0 oifname blue0 drop")
			}, []string{"filter problem table ip their, chain c, handle 2: ...stops what pods on one bridge send each other, of blue/a/eth0: net.bridge.bridge-nf-call-iptables is 1"}, false,
		},
		"pods may not reach the host": {
			func(p *patient) {
				p.Host.Run("nft", "add table inet their; add chain inet their i { type filter hook input priority 0; policy drop; }")
			}, []string{"filter note table inet their, chain i: the policy drop stops what pods send to this host"}, false,
		},
	}
}

// stateFaults are of files, plugins and what attachments have.
func stateFaults() map[string]fault {
	return map[string]fault{
		"flushed":   {func(p *patient) { p.Host.Run("nft", "flush", "ruleset") }, []string{"attachments problem blue/a/eth0: packet filter: ...lacks"}, true},
		"leftovers": {func(p *patient) { p.reserve("lost", "10.221.0.77") }, []string{"attachments warning blue/lost/eth0 is gone, and has left: address 10.221.0.77"}, true},
		"many leftovers": {
			func(p *patient) {
				for _, last := range []string{"71", "72", "73", "74", "75"} {
					p.reserve("lost"+last, "10.221.0."+last)
				}
			}, []string{"attachments warning blue/lost7...is gone, and has left", "attachments warning 2 attachments more are gone"}, true,
		},
		"empty file": {
			func(p *patient) { p.file("10.221.0.78", "") }, []string{"pools note 10.221.0.78 of network blue: it is empty"}, true,
		},
		"outside the range": {func(p *patient) { p.file("10.9.9.9", "a\r\neth0") }, []string{"pools warning 10.9.9.9 of network blue: it is in none", "attachments warning blue/a/eth0: the sandbox does not have 10.9.9.9"}, false},
		"no configuration": {
			func(p *patient) { _ = os.Remove(filepath.Join(p.conf, "10-blue.conflist")) },
			[]string{"configuration warning there is no network configuration in"},
			false,
		},
		"broken file": {func(p *patient) { p.write("20-x.conf", "{") }, []string{"configuration problem ...20-x.conf:1:2: no JSON"}, false},
		"no such plugin": {
			func(p *patient) { p.write("20-x.conf", `{"name":"x","type":"nonsense"}`) },
			[]string{"configuration note of 2 networks", "configuration problem there is no plugin nonsense in"},
			false,
		},
		"not executable": {
			func(p *patient) {
				p.write("20-x.conf", `{"name":"x","type":"calico"}`)
				if err := os.WriteFile(filepath.Join(p.farm, "calico"), nil, 0o600); err != nil {
					p.t.Fatal(err)
				}
			}, []string{"configuration problem ...calico cannot be executed", "configuration note"}, false,
		},
		"foreign plugin": {
			func(p *patient) {
				_ = os.Remove(filepath.Join(p.farm, "portmap"))
				if err := os.WriteFile(filepath.Join(p.farm, "portmap"), []byte("#!"), 0o700); err != nil {
					p.t.Fatal(err)
				}
			}, []string{"configuration note portmap in ...: another program than cnibox"}, false,
		},
		"twice": {
			func(p *patient) { p.write("20-blue.conf", `{"name":"blue","type":"ptp"}`) },
			[]string{"configuration note of 2", "configuration problem ...20-blue.conf:1:9: name: the network blue is in ...10-blue.conflist too", "configuration problem ...ipam.type: missing"},
			false,
		},
		"exhausted": {
			func(p *patient) {
				p.write("10-blue.conflist", strings.Replace(list0, `"10.221.0.0/24"`, `"10.221.0.0/24","rangeStart":"10.221.0.2","rangeEnd":"10.221.0.2"`, 1))
			}, []string{"pools problem network blue has given out 1 of the 1 addresses of 10.221.0.2-10.221.0.2: the next ADD fails"}, false,
		},
		"no daemon": {
			func(p *patient) { p.write("20-lan.conf", `{"name":"lan","type":"bridge","ipam":{"type":"dhcp"}}`) },
			[]string{"dhcp problem no dhcp daemon answers on /run/cni/dhcp.sock: ADD of its networks fails", "configuration note"},
			false,
		},
		"no VLANs": { // which this kernel has not
			func(p *patient) { p.write("20-v.conf", `{"name":"v","type":"vlan","master":"uplink","vlanId":5}`) },
			[]string{"kernel problem this kernel has no VLANs (operation not supported): needed by vlan", "configuration note"},
			false,
		},
		"pod's MTU": {
			func(p *patient) { p.Pod("a").Run("ip", "link", "set", "eth0", "mtu", "1400") },
			[]string{"attachments warning blue/a/eth0: MTU 1400 of eth0"},
			false,
		},
		"leases run out": {
			func(p *patient) {
				dir := filepath.Join(p.Host.VarLib, "cni/dhcp")
				text := `{"owner":{"Network":"lan","ContainerID":"a","IfName":"eth0"},"netns":"` + p.Pod("a").Path + `","family":"ipv4","end":"2999-01-01T00:00:00Z"}`
				if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "x.json"), []byte(text), 0o600)); err != nil {
					p.t.Fatal(err)
				}
			}, []string{"dhcp problem no dhcp daemon answers on /run/cni/dhcp.sock: the leases of 1 attachment are not renewed"}, false,
		},
	}
}
