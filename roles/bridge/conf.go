package bridge

import (
	"net"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Bridge                    string      `json:"bridge"`
	IsGateway                 bool        `json:"isGateway"`
	IsDefaultGateway          bool        `json:"isDefaultGateway"`
	ForceAddress              bool        `json:"forceAddress"`
	IPMasq                    bool        `json:"ipMasq"`
	IPMasqBackend             string      `json:"ipMasqBackend"`
	MTU                       int         `json:"mtu"`
	HairpinMode               bool        `json:"hairpinMode"`
	PromiscMode               bool        `json:"promiscMode"`
	VLAN                      int         `json:"vlan"`
	VLANTrunk                 []vlanTrunk `json:"vlanTrunk"`
	PreserveDefaultVLAN       bool        `json:"preserveDefaultVlan"`
	MACSpoofChk               bool        `json:"macspoofchk"`
	IPSpoofChk                bool        `json:"ipspoofchk"`
	EnableDAD                 bool        `json:"enabledad"`
	DisableContainerInterface bool        `json:"disableContainerInterface"`
	PortIsolation             bool        `json:"portIsolation"`
	DNS                       types.DNS   `json:"dns"`
	IPAM                      struct {
		Type string `json:"type"`
	} `json:"ipam"`
	roles.MACWishes

	mac   net.HardwareAddr // nil: nobody asked for one
	vlans []netutil.VLAN
}

type vlanTrunk struct {
	ID    *int `json:"id"`
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
}

const (
	defaultBridge = "cni0"
	maxVLAN       = 4094 // IEEE 802.1Q: 4095 is reserved
)

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{Bridge: defaultBridge}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.Bridge == "" {
		c.Bridge = defaultBridge
	}
	c.IsGateway = c.IsGateway || c.IsDefaultGateway
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := c.trunk(); err != nil {
		return nil, err
	}
	var err error
	c.mac, err = c.ChooseMAC(r.Args)
	return c, err
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

func (c *conf) check() error {
	if err := roles.CheckLinkName("bridge", c.Bridge); err != nil {
		return err
	}
	if err := roles.CheckMasqueradeBackend(c.IPMasqBackend); err != nil {
		return err
	}
	if err := roles.CheckMTU(c.MTU); err != nil {
		return err
	}
	switch {
	case c.HairpinMode && c.PromiscMode:
		return invalid("hairpinMode and promiscMode exclude each other: a bridge that takes all frames in itself would get each twice")
	case c.VLAN < 0 || c.VLAN > maxVLAN:
		return invalid("vlan: %d is not within 0 and %d", c.VLAN, maxVLAN)
	case c.VLAN != 0 && c.IsGateway && len(vlanLinkName(c.Bridge, c.VLAN)) > maxLinkName:
		return invalid("bridge: the name of the gateway's interface, %s, is longer than %d bytes", vlanLinkName(c.Bridge, c.VLAN), maxLinkName)
	case c.IPSpoofChk && c.IPAM.Type == "":
		return invalid("ipspoofchk: without ipam there is no address that the container may send with")
	case c.IPSpoofChk && len(c.VLANTrunk) > 0:
		return invalid("ipspoofchk: not together with vlanTrunk, where a container has addresses that nobody here knows")
	case c.DisableContainerInterface && c.IPAM.Type != "":
		return invalid("disableContainerInterface: an interface that stays down can have no addresses, so ipam must be left out")
	}
	return nil
}

// maxLinkName is IFNAMSIZ less the final NUL, in bytes.
const maxLinkName = 15

func vlanLinkName(bridge string, vlan int) string { return bridge + "." + strconv.Itoa(vlan) }

func (c *conf) trunk() error {
	for i, t := range c.VLANTrunk {
		at := "vlanTrunk[" + strconv.Itoa(i) + "]"
		switch {
		case t.ID == nil && t.MinID == nil && t.MaxID == nil:
			return invalid("%s: neither id nor minID and maxID", at)
		case (t.MinID == nil) != (t.MaxID == nil):
			return invalid("%s: minID and maxID go together", at)
		case t.ID != nil && badVLAN(*t.ID):
			return invalid("%s.id: %d is not within 1 and %d", at, *t.ID, maxVLAN)
		case t.MinID != nil && (badVLAN(*t.MinID) || badVLAN(*t.MaxID) || *t.MaxID < *t.MinID):
			return invalid("%s: minID %d to maxID %d is no range within 1 and %d", at, *t.MinID, *t.MaxID, maxVLAN)
		}
		if t.ID != nil {
			c.vlans = append(c.vlans, netutil.VLAN{First: uint16(*t.ID), Last: uint16(*t.ID)})
		}
		if t.MinID != nil {
			c.vlans = append(c.vlans, netutil.VLAN{First: uint16(*t.MinID), Last: uint16(*t.MaxID)})
		}
	}
	if c.VLAN != 0 {
		c.vlans = append(c.vlans, netutil.VLAN{First: uint16(c.VLAN), Last: uint16(c.VLAN), Access: true})
	}
	return nil
}

func badVLAN(id int) bool { return id < 1 || id > maxVLAN }

// filtersVLANs tells whether the bridge must tell VLANs apart.
func (c *conf) filtersVLANs() bool { return len(c.vlans) > 0 }
