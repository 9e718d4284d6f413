package doctor

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/gc"
	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
)

// facts is what all checks look at. It is read once.
type facts struct {
	gc      *gc.Node
	host    *netutil.Namespace
	node    *node.Node
	nets    []network
	bad     []networks.Bad
	confErr error // why the folder could not be read
	confDir string
	plugins string            // folder
	kinds   map[string]string // of the roles
	roles   []string
	older   time.Duration
	ctx     context.Context
}

// network is a network configuration with what checks need of it.
type network struct {
	networks.Network
	Subnets []netip.Prefix
	ranges  []store.Range // of host-local on this node, which may be parts of the subnets
	main    mainConf      // of the first plugin
}

// mainConf is what is read of the plugin that makes pods' interfaces.
type mainConf struct {
	Bridge string `json:"bridge"`
	Master string `json:"master"`
	MTU    int    `json:"mtu"`

	IsGateway        bool `json:"isGateway"`
	IsDefaultGateway bool `json:"isDefaultGateway"`
	IPMasq           bool `json:"ipMasq"`
}

// youth is how long an attachment may be unfinished.
const youth = 5 * time.Second

func gather(c *cli.Context, table roles.Table, kinds map[string]string) (*facts, error) {
	host, err := netutil.Current()
	if err != nil {
		return nil, err
	}
	host.WaitAtMost(node.LockWait)
	f := &facts{
		host: host, kinds: kinds, confDir: c.String("conf-dir"), plugins: c.String("plugin-dir"), roles: c.StringSlice("role"), older: c.Duration("older-than"), ctx: c.Context,
	}
	f.gc = &gc.Node{
		Host: host, Table: table, ConfDir: f.confDir, DataDir: c.String("data-dir"), LeaseDir: daemon.DefaultState, Plugins: f.plugins,
	}
	f.gc.Networks, f.bad, f.confErr = networks.Load(f.confDir)
	if f.node, err = f.gc.Snapshot(f.ctx, min(f.older, youth)); err != nil {
		host.Close()
		return nil, err
	}
	for _, n := range f.gc.Networks {
		f.nets = append(f.nets, f.describe(n))
	}
	return f, nil
}

func (f *facts) describe(n networks.Network) network {
	out := network{Network: n}
	for i, p := range n.Plugins {
		if i == 0 {
			_ = json.Unmarshal(p.Conf, &out.main)
			if p.Type == "bridge" && out.main.Bridge == "" {
				out.main.Bridge = "cni0"
			}
		}
		if p.IPAM == "host-local" {
			pools, _ := hostlocal.ReadPools(p.Conf)
			out.Subnets = append(out.Subnets, pools.Subnets...)
			for _, set := range pools.Sets {
				out.ranges = append(out.ranges, set.Ranges...)
			}
		}
	}
	for _, o := range f.node.Overlays {
		if o.Network == n.Name {
			out.Subnets = append(out.Subnets, o.Subnets...)
		}
	}
	return out
}

// uses tells whether one of the networks has a plugin, or the node is to be fit for it.
func (f *facts) uses(plugins ...string) bool {
	for _, name := range plugins {
		if slices.Contains(f.roles, name) || slices.ContainsFunc(f.nets, func(n network) bool { return n.has(name) }) {
			return true
		}
	}
	return false
}

// has tells whether a network has a plugin, for addresses too.
func (n *network) has(plugin string) bool {
	return slices.ContainsFunc(n.Plugins, func(p networks.Plugin) bool { return p.Type == plugin || p.IPAM == plugin })
}

// routed tells whether the host forwards what pods of the network send beyond it. A bridge without a gateway is a switch: the host routes nothing.
func (n *network) routed() bool {
	if n.has("bridge") {
		return n.main.IsGateway || n.main.IsDefaultGateway || n.main.IPMasq
	}
	return slices.ContainsFunc([]string{"ptp", "vxlan", "flannel", "tap"}, n.has)
}

// routesFor tells whether the host forwards what a pod sends beyond it. Where the network's configuration is not known, an address on the bridge tells.
func (f *facts) routesFor(a *node.Attachment) bool {
	if a.HostLink == nil {
		return false
	}
	if n := f.networkOf(a.Network); len(n.Plugins) > 0 {
		return n.routed()
	}
	bridge := f.node.Host.Named(a.Bridge)
	return bridge == nil || slices.ContainsFunc(bridge.Addresses, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
}

// is6 tells whether a network has addresses of a family.
func (n *network) is6(v6 bool) bool {
	return slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 })
}

// gives tells whether pods of this node may have an address of a prefix, which is in one of the network's subnets.
func (n *network) gives(p netip.Prefix) bool {
	return len(n.ranges) == 0 || slices.ContainsFunc(n.ranges, func(r store.Range) bool { return r.Contains(p.Addr()) || p.Contains(r.First) })
}

// sysctl is a number under /proc/sys; ok is false if it is not there.
func (f *facts) sysctl(parts ...string) (n int, ok bool) {
	text, err := f.host.Sysctl(parts...)
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil
}

// podsLink tells whether a link of the host is one that pods are behind.
func (f *facts) podsLink(l *node.Link) bool {
	if l.Name == "lo" {
		return false
	}
	for i := range f.nets {
		if l.Name == f.nets[i].main.Bridge {
			return true
		}
	}
	for _, a := range f.node.Attachments {
		if a.HostLink != nil && a.HostLink.Name == l.Name || a.Bridge == l.Name {
			return true
		}
	}
	return slices.ContainsFunc(f.node.Overlays, func(o *node.Overlay) bool { return o.Device == l.Name || o.Bridge == l.Name })
}

// linkWith is the link of the host that has an address; nil if there is none.
func (f *facts) linkWith(addr netip.Addr) *node.Link {
	for _, l := range f.node.Host.Links {
		if slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l
		}
	}
	return nil
}
