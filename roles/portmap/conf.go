package portmap

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	SNAT                 bool     `json:"snat" default:"true" doc:"masquerades connections that the container could not answer otherwise: from its own subnet, itself included, and from the host's 127.0.0.0/8"`
	MasqAll              bool     `json:"masqAll" default:"false" doc:"masquerades all mapped connections: the container sees the host as their source"`
	ConditionsV4         []string `json:"conditionsV4" doc:"further conditions for this network's mappings of IPv4, in the words of iptables ('[\"!\", \"-d\", \"192.0.2.0/24\"]') or of nft ('[\"ip daddr != 192.0.2.0/24\"]'): source, destination, input interface, mark"`
	ConditionsV6         []string `json:"conditionsV6" doc:"the same for IPv6"`
	Backend              string   `json:"backend" enum:"iptables,nftables" doc:"'iptables' and 'nftables' are accepted for the sake of existing files; it is always nftables, over netlink"`
	MarkMasqBit          *int     `json:"markMasqBit" min:"0" max:"31" doc:"accepted (0 to 31) and without effect: which packets to masquerade is decided by the connection's target, see below"`
	ExternalSetMarkChain *string  `json:"externalSetMarkChain" doc:"accepted and without effect; not together with 'markMasqBit'"`
	RuntimeConfig        struct {
		PortMappings []portMapping `json:"portMappings" doc:"capability 'portMappings': the mappings, from the runtime"`
	} `json:"runtimeConfig"`

	mappings                 []mapping
	conditions4, conditions6 []nft.Condition
}

// portMapping is a mapping as runtimes hand it over. Package json takes the keys in any letter case, which containerd relies on.
type portMapping struct {
	HostPort      json.RawMessage `json:"hostPort" type:"int" min:"1" max:"65535" also:"0" doc:"a port of the host, 1 to 65535; ranges are refused, since every port is an entry of its own. Without, or with 0, nothing is mapped"`
	ContainerPort json.RawMessage `json:"containerPort" type:"int" min:"1" max:"65535" doc:"the container's port"`
	Range         json.RawMessage `json:"range" type:"int" min:"0" max:"1" doc:"refused unless it is 1: every port is a mapping of its own"` // Podman's own word for the number of ports in a row
	Protocol      string          `json:"protocol" enum:"tcp,udp,sctp" default:"tcp" doc:"'tcp', 'udp' or 'sctp', in any letter case"`
	HostIP        string          `json:"hostIP" doc:"an address of the host, IPv4 or IPv6, '127.0.0.1' included. Left out: every address; '0.0.0.0' or '::': every address of that family"`
}

// mapping is a portMapping that has been checked.
type mapping struct {
	key                     string     // where the configuration has it, for errors
	protocol                uint8      // IPPROTO_
	hostIP                  netip.Addr // the zero Addr: every address; unspecified: every address of that family
	hostPort, containerPort uint16
}

const mappingsKey = "runtimeConfig.portMappings"

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{SNAT: true}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	var err error
	if c.conditions4, err = parseConditions("conditionsV4", c.ConditionsV4, false); err != nil {
		return nil, err
	}
	if c.conditions6, err = parseConditions("conditionsV6", c.ConditionsV6, true); err != nil {
		return nil, err
	}
	for i, p := range c.RuntimeConfig.PortMappings {
		m, err := p.parse(roles.Elem(mappingsKey, i))
		if err != nil {
			return nil, err
		}
		if m.hostPort != 0 {
			c.mappings = append(c.mappings, m)
		}
	}
	return c, checkDistinct(c.mappings)
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

func (c *conf) check() error {
	const maxBit = 31 // a packet mark has 32 bits
	switch {
	case c.Backend != "" && c.Backend != "iptables" && c.Backend != "nftables":
		return invalid("backend: %q is neither iptables nor nftables", c.Backend)
	case c.MarkMasqBit != nil && c.ExternalSetMarkChain != nil:
		return invalid("markMasqBit and externalSetMarkChain exclude each other")
	case c.MarkMasqBit != nil && (*c.MarkMasqBit < 0 || *c.MarkMasqBit > maxBit):
		return invalid("markMasqBit: %d is not within 0 and %d", *c.MarkMasqBit, maxBit)
	}
	return nil
}

// parse checks a mapping that the key (named in errors) holds. Runtimes list ports that the container merely exposes without a host
// port, or with 0: of those only that is looked at.
func (p *portMapping) parse(key string) (m mapping, err error) {
	m.key = key
	if m.hostPort, err = parsePort(key+".hostPort", p.HostPort); err != nil || m.hostPort == 0 {
		return m, err
	}
	if m.containerPort, err = parsePort(key+".containerPort", p.ContainerPort); err != nil {
		return m, err
	}
	if m.containerPort == 0 {
		return m, invalid("%s.containerPort: 0 or missing, where 1 to 65535 belongs", key)
	}
	switch string(p.Range) {
	case "", "null", "0", "1":
	default:
		return m, invalid("%s.range: ranges are not supported; every port is a mapping of its own", key)
	}
	if m.protocol, err = parseProtocol(key+".protocol", p.Protocol); err != nil {
		return m, err
	}
	m.hostIP, err = parseHostIP(key+".hostIP", p.HostIP)
	return m, err
}

// parsePort reads a port; 0 stands for none.
func parsePort(key string, raw json.RawMessage) (uint16, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	const maxPort = 65535
	port, err := strconv.Atoi(string(raw))
	switch {
	case raw[0] == '"':
		return 0, invalid("%s: %s is text, where a number belongs (ranges are not supported; every port is a mapping of its own)", key, raw)
	case raw[0] == '[' || raw[0] == '{':
		return 0, invalid("%s: it is a list or an object, where a number belongs", key)
	case err != nil:
		return 0, invalid("%s: %s is no whole number", key, raw)
	case port < 0 || port > maxPort:
		return 0, invalid("%s: %d is not within 1 and %d", key, port, maxPort)
	}
	return uint16(port), nil
}

func parseProtocol(key, name string) (uint8, error) {
	switch strings.ToLower(name) {
	case "", "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	case "sctp":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, invalid("%s: %q is none of tcp, udp, sctp", key, name)
}

func parseHostIP(key, value string) (netip.Addr, error) {
	if value == "" {
		return netip.Addr{}, nil
	}
	ip, err := roles.ParseAddr(key, value)
	if err == nil && ip == netip.IPv6Loopback() {
		return ip, invalid("%s: ::1 cannot be mapped, since the kernel never routes it", key)
	}
	return ip, err
}

// serves tells whether the mapping is for addresses of the family.
func (m *mapping) serves(is6 bool) bool {
	return !m.hostIP.IsValid() || m.hostIP.Is6() == is6
}

// address is the only address of the host that the mapping is for, the zero Addr if it is for all.
func (m *mapping) address() netip.Addr {
	if m.hostIP.IsValid() && m.hostIP.IsUnspecified() {
		return netip.Addr{}
	}
	return m.hostIP
}

func (m *mapping) String() string {
	port := strconv.Itoa(int(m.hostPort))
	if m.hostIP.IsValid() {
		port = netip.AddrPortFrom(m.hostIP, m.hostPort).String()
	}
	return port + "/" + nft.ProtocolName(m.protocol)
}

// checkDistinct refuses a host port that two mappings claim.
func checkDistinct(mappings []mapping) error {
	type claim struct {
		is6      bool
		protocol uint8
		address  netip.Addr
		port     uint16
	}
	claims := map[claim]*mapping{}
	for i := range mappings {
		m := &mappings[i]
		for _, is6 := range []bool{false, true} {
			if !m.serves(is6) {
				continue
			}
			c := claim{is6, m.protocol, m.address(), m.hostPort}
			if other := claims[c]; other != nil {
				return invalid("%s and %s: both map the host's port %s", other.key, m.key, m)
			}
			claims[c] = m
		}
	}
	return nil
}
