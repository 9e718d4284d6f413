package dummy

import (
	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	DNS  types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM roles.IPAMKey `json:"ipam" plugin:"ipam" required:"true" doc:"any ipam plugin"`
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if r.IPAM == nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.type: missing; an interface that leads nowhere is of use for its addresses only")
	}
	return c, nil
}
