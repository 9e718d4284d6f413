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
	Bridge                    string        `json:"bridge" default:"cni0" doc:"name of the bridge, made if it is missing, and kept when the last container goes"`
	IsGateway                 bool          `json:"isGateway" default:"false" doc:"gives the bridge the gateway's address (the first of the subnet where ipam names none; it must not be a container's) and switches forwarding on"`
	IsDefaultGateway          bool          `json:"isDefaultGateway" default:"false" doc:"'isGateway', and a default route in the container for each family where ipam gave none"`
	ForceAddress              bool          `json:"forceAddress" default:"false" doc:"replaces an address of the bridge that stands in the gateway's way; else that is an error"`
	IPMasq                    bool          `json:"ipMasq" default:"false" doc:"traffic that leaves the container's subnet carries the host's address; multicast is left alone"`
	IPMasqBackend             string        `json:"ipMasqBackend" enum:"iptables,nftables" doc:"'iptables' and 'nftables' are accepted for the sake of existing files; it is always nftables, over netlink"`
	MTU                       int           `json:"mtu" min:"68" max:"65535" also:"0" default:"0" doc:"of both ends of the pair, and of the bridge if it is made here; bytes, 0 is the kernel's default; IPv6 needs 1280"`
	HairpinMode               bool          `json:"hairpinMode" default:"false" doc:"the port sends frames back where they came from; not together with 'promiscMode'"`
	PromiscMode               bool          `json:"promiscMode" default:"false" doc:"the bridge receives all frames"`
	VLAN                      int           `json:"vlan" min:"0" max:"4094" default:"0" doc:"access VLAN of the container's port, 1 to 4094; the gateway then lives on '<bridge>.<vlan>'; 0 is none"`
	VLANTrunk                 []vlanTrunk   `json:"vlanTrunk" doc:"tagged VLANs of the port: '[{ \"id\": 7 }, { \"minID\": 100, \"maxID\": 199 }]'"`
	PreserveDefaultVLAN       bool          `json:"preserveDefaultVlan" default:"false" doc:"leaves the port in VLAN 1 as well"`
	MACSpoofChk               bool          `json:"macspoofchk" default:"false" doc:"drops frames that the container sends with another source MAC address"`
	IPSpoofChk                bool          `json:"ipspoofchk" default:"false" doc:"drops besides what claims another IP address than the container's, in packets, ARP and neighbour discovery, what only routers send, and what is neither IP nor ARP"`
	EnableDAD                 bool          `json:"enabledad" default:"false" doc:"IPv6 duplicate address detection, which takes one to two seconds; without it addresses are usable at once"`
	DisableContainerInterface bool          `json:"disableContainerInterface" default:"false" doc:"the container's end stays down and has no addresses; not together with 'ipam'"`
	PortIsolation             bool          `json:"portIsolation" default:"false" doc:"containers with it reach the host and the outside, but not one another"`
	DNS                       types.DNS     `json:"dns" doc:"replaces what ipam says"`
	IPAM                      roles.IPAMKey `json:"ipam" plugin:"ipam" doc:"any ipam plugin; left out: layer 2 only"`
	roles.MACWishes

	mac   net.HardwareAddr // nil: nobody asked for one
	vlans []netutil.VLAN
}

type vlanTrunk struct {
	ID    *int `json:"id" min:"1" max:"4094"`
	MinID *int `json:"minID" min:"1" max:"4094"`
	MaxID *int `json:"maxID" min:"1" max:"4094"`
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
