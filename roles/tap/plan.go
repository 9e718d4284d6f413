package tap

import (
	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/roles"
)

// plan is the device; its name, addresses and routes are planned by roles.Inside. Nobody is there to hear where its addresses are: the program
// opens it later.
func (x role) plan(c *conf) *roles.Inside {
	return &roles.Inside{
		Link: netutil.Link{
			Kind: netutil.TapDevice, MTU: c.MTU, MAC: c.mac, Master: c.Bridge,
			Tap: &netutil.Tap{MultiQueue: c.MultiQueue, Owner: c.Owner, Group: c.Group, SELinuxContext: c.SELinuxContext, Device: x.tun},
		},
		DNS: c.DNS,
	}
}
