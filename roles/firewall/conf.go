package firewall

import (
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Backend                string `json:"backend" enum:"nftables,iptables,firewalld" default:"nftables" doc:"who is told to let the containers' traffic pass: 'nftables': our own table, and the chains of other programs that stand in nftables and would drop it. 'firewalld': firewalld too, by D-Bus. 'iptables': legacy iptables too, on a host where that is in use; elsewhere the same as 'nftables'"`
	IPTablesAdminChainName string `json:"iptablesAdminChainName" default:"CNI-ADMIN" doc:"the chain for an administrator's own rules, which come before all others; letters, digits, '-' and '_', at most 28"`
	FirewalldZone          string `json:"firewalldZone" default:"trusted" doc:"the zone of firewalld that the addresses are put into, with '\"backend\": \"firewalld\"'"`
	IngressPolicy          string `json:"ingressPolicy" enum:"open,same-bridge,isolated" default:"open" doc:"which other containers may connect to this one: 'open': all. 'same-bridge': those behind the same bridge. 'isolated': none"`
}

// Values of the key backend.
const (
	backendNFTables  = "nftables"
	backendIPTables  = "iptables"
	backendFirewalld = "firewalld"
)

// Values of the key ingressPolicy.
const (
	policyOpen       = "open"
	policySameBridge = "same-bridge"
	policyIsolated   = "isolated"
)

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	c.setDefaults()
	return c, c.check()
}

func (c *conf) setDefaults() {
	for key, value := range map[*string]string{
		&c.Backend: backendNFTables, &c.IPTablesAdminChainName: "CNI-ADMIN", &c.FirewalldZone: "trusted", &c.IngressPolicy: policyOpen,
	} {
		if *key == "" {
			*key = value
		}
	}
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}

func (c *conf) check() error {
	switch c.Backend {
	case backendNFTables, backendIPTables, backendFirewalld:
	default:
		return invalid("backend: %q is none of nftables, iptables and firewalld", c.Backend)
	}
	switch c.IngressPolicy {
	case policyOpen, policySameBridge, policyIsolated:
	default:
		return invalid("ingressPolicy: %q is none of open, same-bridge and isolated", c.IngressPolicy)
	}
	for _, b := range []byte(c.FirewalldZone) {
		if b <= ' ' || b >= 0x7f || b == '/' {
			return invalid("firewalldZone: %q has a character that no zone's name may have", c.FirewalldZone)
		}
	}
	return nft.CheckAdminChain("iptablesAdminChainName", c.IPTablesAdminChainName)
}
