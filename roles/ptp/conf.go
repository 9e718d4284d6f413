package ptp

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	IPMasq        bool          `json:"ipMasq" default:"false" doc:"traffic that leaves the container's subnet carries the host's address; multicast is left alone"`
	IPMasqBackend string        `json:"ipMasqBackend" enum:"iptables,nftables" doc:"'iptables' and 'nftables' are accepted for the sake of existing files; it is always nftables, over netlink"`
	MTU           int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"of both ends, in bytes; 0 is the kernel's default; IPv6 needs 1280"`
	DNS           types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM          roles.IPAMKey `json:"ipam" plugin:"ipam" required:"true" doc:"any ipam plugin"`
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if err := roles.CheckMasqueradeBackend(c.IPMasqBackend); err != nil {
		return nil, err
	}
	if err := roles.CheckMTU(c.MTU); err != nil {
		return nil, err
	}
	if c.IPAM.Type == "" {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.type: missing; a routed interface is nothing without an address")
	}
	return c, nil
}

// routed is how a container is connected.
func (c *conf) routed() roles.Routed { return roles.Routed{MTU: c.MTU, Masquerade: c.IPMasq} }
