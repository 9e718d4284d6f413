package ptp

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	IPMasq        bool      `json:"ipMasq"`
	IPMasqBackend string    `json:"ipMasqBackend"`
	MTU           int       `json:"mtu"`
	DNS           types.DNS `json:"dns"`
	IPAM          struct {
		Type string `json:"type"`
	} `json:"ipam"`
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
