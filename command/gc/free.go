package gc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/fused"
)

// network is a network's configuration; nil if there is none.
func (n *Node) network(name string) *networks.Network {
	for i := range n.Networks {
		if n.Networks[i].Name == name {
			return &n.Networks[i]
		}
	}
	return nil
}

// confOf is the configuration that an attachment was made with: the node's, or else the one that the runtime remembers; nil if there is none.
func (n *Node) confOf(a *Attachment) *networks.Network {
	if net := n.network(a.Network); net != nil {
		return net
	}
	if a.cache == nil {
		return nil
	}
	net, err := networks.Parse(a.cache.Config)
	if err != nil || net.Name != a.Network {
		return nil
	}
	return net
}

// concerns tells whether a plugin of the attachment's network is one that this executable can be.
func (n *Node) concerns(a *Attachment) bool {
	net := n.confOf(a)
	return net != nil && slices.ContainsFunc(net.Plugins, func(p networks.Plugin) bool { return n.Table[p.Type] != nil })
}

// Free frees what an attachment has: by DEL of the plugins of its network, in reverse, where their configuration is known, and then what is
// left by its parts. So nothing of anybody else's can be caught, also not what an ADD makes at this moment.
func (n *Node) Free(ctx context.Context, a *Attachment) error {
	var errs []error
	if conf := n.confOf(a); conf != nil && !a.Cut && a.IfName != "" {
		errs = append(errs, n.del(ctx, a, conf.CNIVersion, conf.Plugins))
	}
	if kinds := a.keepers(); len(kinds) > 0 && !a.Cut && a.IfName != "" {
		errs = append(errs, n.del(ctx, a, "", kinds))
	}
	errs = append(errs, n.freeParts(a), n.lease(a))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	if a.cache != nil {
		if err := os.Remove(a.cache.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lease is an error if the dhcp daemon has not given the lease back: if it does not run, DEL leaves word for it.
func (n *Node) lease(a *Attachment) error {
	if !a.Leased {
		return nil
	}
	leases, err := daemon.Leases(n.LeaseDir)
	if slices.ContainsFunc(leases, func(l daemon.Lease) bool { return l.Owner == a.Owner() }) {
		return errors.New("the lease is still there: the dhcp daemon gives it back, as soon as it runs")
	}
	return err
}

// keepers are plugins that keep something of an attachment in their usual places, for a DEL without the network's configuration.
func (a *Attachment) keepers() (plugins []networks.Plugin) {
	add := func(kind, conf string) {
		plugins = append(plugins, networks.Plugin{Type: kind, Conf: []byte(conf)})
	}
	if a.Leased {
		add("ptp", `{"type":"ptp","ipam":{"type":"dhcp"}}`)
	}
	for _, t := range a.Things {
		if t.Kind == "record" {
			add(t.Name, `{"type":"`+t.Name+`"}`)
		}
	}
	if len(a.overlays) > 0 {
		add("vxlan", `{"type":"vxlan"}`)
	}
	return plugins
}

// del calls DEL of plugins, as a runtime whose sandbox is gone.
func (n *Node) del(ctx context.Context, a *Attachment, version string, plugins []networks.Plugin) error {
	list := make([]json.RawMessage, len(plugins))
	for i, p := range plugins {
		list[i] = p.Conf
	}
	conf := map[string]any{"cniVersion": cmp.Or(version, "0.1.0"), "name": a.Network, "type": fused.Name, "plugins": list}
	args := ""
	if c := a.cache; c != nil {
		if len(c.Result) > 0 {
			conf["prevResult"] = c.Result
		}
		if len(c.Capabilities) > 0 {
			conf["runtimeConfig"] = c.Capabilities
		}
		var pairs []string
		for _, pair := range c.Args {
			pairs = append(pairs, pair[0]+"="+pair[1])
		}
		args = strings.Join(pairs, ";")
	}
	text, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	env := map[string]string{
		"CNI_COMMAND": "DEL", "CNI_CONTAINERID": a.ContainerID, "CNI_IFNAME": a.IfName, "CNI_ARGS": args, "CNI_PATH": n.Plugins,
	}
	var out, diagnosis bytes.Buffer
	x := roles.Exchange{Getenv: func(k string) string { return env[k] }, Stdin: bytes.NewReader(text), Stdout: &out, Stderr: &diagnosis}
	if roles.Run(ctx, x, fused.Name, n.Table) == 0 {
		return nil
	}
	var said struct{ Msg, Details string }
	if json.Unmarshal(out.Bytes(), &said) != nil {
		return fmt.Errorf("DEL failed: %s", diagnosis.String())
	}
	return errors.New(strings.TrimSpace("DEL: " + said.Msg + " " + said.Details))
}

// freeParts frees what is there of an attachment, one by one.
func (n *Node) freeParts(a *Attachment) error {
	errs := []error{netutil.NFT(n.Host).DeleteHeld(a.Held()...)}
	if a.Returned() != nil && !a.Cut {
		errs = append(errs, netutil.Reclaim(n.Host, a.Owner(), ""))
	}
	for _, l := range []*node.Link{a.HostLink, a.Limiter()} {
		if l != nil {
			errs = append(errs, n.removeLink(l))
		}
	}
	for _, path := range a.files {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	// While a link is left its address must not go to another.
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return n.dropAddresses(a)
}

// removeLink removes a link unless another has come to have its name.
func (n *Node) removeLink(was *node.Link) error {
	now, err := netutil.FindDevice(n.Host, was.Name)
	if now == nil || err != nil || now.Index != was.Index || now.Alias != was.Alias {
		return err
	}
	_, err = netutil.DeleteLink(n.Host, was.Name)
	return err
}

// dropAddresses gives back what host-local has given out, and no more than that.
func (n *Node) dropAddresses(a *Attachment) error {
	var errs []error
	for dir, reservations := range a.drop {
		s, err := store.New(dir, a.Network)
		if err == nil {
			_, err = s.Drop(reservations...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// OlderThan is how old something must be for its runtime to know of it.
const OlderThan = 5 * time.Minute
