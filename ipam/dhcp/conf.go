package dhcp

import (
	"path/filepath"

	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the ipam part of the network configuration; README.md explains the keys.
type conf struct {
	IPAM struct {
		DaemonSocketPath string `json:"daemonSocketPath" default:"/run/cni/dhcp.sock" doc:"where the daemon listens; an absolute path"`
		daemon.Wishes
	} `json:"ipam"`
}

// load reads and checks the configuration. DEL and GC read leniently.
func load(r *roles.Request, lenient bool) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, lenient); err != nil {
		return nil, err
	}
	if c.IPAM.DaemonSocketPath == "" {
		c.IPAM.DaemonSocketPath = daemon.DefaultSocket
	}
	if lenient {
		return c, nil
	}
	if !filepath.IsAbs(c.IPAM.DaemonSocketPath) {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.daemonSocketPath: %q is no absolute path", c.IPAM.DaemonSocketPath)
	}
	if err := c.IPAM.Check(); err != nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.%s", err.Error())
	}
	return c, nil
}
