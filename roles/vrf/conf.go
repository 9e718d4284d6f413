package vrf

import (
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	VRFName string `json:"vrfname" required:"true" doc:"name of the VRF's device in the container"`
	Table   uint32 `json:"table" min:"0" max:"4294967295" default:"0" doc:"number of its routing table; 0 is a free one. 253 to 255 are the kernel's own"`
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.VRFName == "" {
		return nil, errcode.Errorf(errcode.InvalidConfig, "vrfname: missing")
	}
	if err := roles.CheckLinkName("vrfname", c.VRFName); err != nil {
		return nil, err
	}
	if c.VRFName == r.Owner.IfName {
		return nil, errcode.Errorf(errcode.InvalidConfig, "vrfname: %s is the name of the interface itself", c.VRFName)
	}
	switch c.Table {
	case unix.RT_TABLE_DEFAULT, unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL:
		return nil, errcode.Errorf(errcode.InvalidConfig, "table: %d is one of the kernel's own (253 to 255)", c.Table)
	}
	return c, nil
}

func (c *conf) vrf() netutil.VRF { return netutil.VRF{Name: c.VRFName, Table: c.Table} }
