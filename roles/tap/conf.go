package tap

import (
	"math"
	"net"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	MultiQueue     bool          `json:"multiQueue" default:"false" doc:"the program may open it several times, once for each queue; it must say so too ('IFF_MULTI_QUEUE')"`
	MTU            int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"in bytes; 0 is the kernel's default; IPv6 needs 1280"`
	MAC            string        `json:"mac" doc:"MAC address; one in 'runtimeConfig.mac', 'args.cni.mac' or 'MAC' of CNI_ARGS goes before it, in this order"`
	Owner          *uint32       `json:"owner" min:"0" max:"4294967294" doc:"number of the user who may open the device, besides those with CAP_NET_ADMIN"`
	Group          *uint32       `json:"group" min:"0" max:"4294967294" doc:"number of the group that may"`
	SELinuxContext string        `json:"selinuxContext" alias:"selinuxcontext" doc:"SELinux context that the device is made in (below)"`
	Bridge         string        `json:"bridge" doc:"name of a bridge in the container, which must be there; the device becomes a port of it"`
	DNS            types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM           roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; without, the device has no address. The addresses are the device's own, not those of the program behind it"`
	roles.MACWishes

	mac net.HardwareAddr // who asked for one, by falling precedence: runtimeConfig.mac, args.cni.mac, CNI_ARGS, mac
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if err := roles.CheckMTU(c.MTU); err != nil {
		return nil, err
	}
	for key, id := range map[string]*uint32{"owner": c.Owner, "group": c.Group} {
		if id != nil && *id == math.MaxUint32 {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %d stands for none, and is no number of its own", key, *id)
		}
	}
	if strings.ContainsRune(c.SELinuxContext, 0) {
		return nil, errcode.Errorf(errcode.InvalidConfig, "selinuxContext: %q is no context", c.SELinuxContext)
	}
	if c.Bridge != "" {
		if err := roles.CheckLinkName("bridge", c.Bridge); err != nil {
			return nil, err
		}
	}
	var err error
	if c.mac, err = c.ChooseMAC(r.Args); c.mac == nil && err == nil && c.MAC != "" {
		c.mac, err = roles.ParseMAC("mac", c.MAC)
	}
	return c, err
}

// checkHost refuses what this host, or the sandbox, cannot serve.
func (c *conf) checkHost(sandbox *netutil.Namespace) error {
	if c.SELinuxContext != "" && !netutil.HasSELinux() {
		return errcode.Errorf(errcode.UnsupportedField, "selinuxContext: this host has no SELinux")
	}
	if c.Bridge == "" || sandbox == nil {
		return nil
	}
	bridge, err := netutil.FindLink(sandbox, c.Bridge)
	if err == nil && (bridge == nil || bridge.Kind != "bridge") {
		err = errcode.Errorf(errcode.InvalidConfig, "bridge: the container has no bridge %s", c.Bridge)
	}
	return err
}
