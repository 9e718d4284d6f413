package static

import (
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is what the role reads of the network configuration; README.md explains the keys.
type conf struct {
	IPAM *struct {
		Addresses []struct {
			Address string `json:"address" required:"true" doc:"an address with the length of its prefix"`
			Gateway string `json:"gateway" doc:"of the address's family; it may be outside the prefix. Where it is left out and the host is to be the gateway, 'bridge' and 'ptp' take the subnet's first address"`
		} `json:"addresses" doc:"the addresses"`
		Routes []roles.RouteConf `json:"routes" doc:"answered as they are"`
		DNS    types.DNS         `json:"dns" doc:"answered as it is: 'nameservers', 'domain', 'search', 'options'"`
	} `json:"ipam"`
	RuntimeConfig struct {
		IPs []string `json:"ips" doc:"capability 'ips': addresses with the lengths of their prefixes, in place of all others"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips" doc:"the same, in place of those of the configuration"`
		} `json:"cni"`
	} `json:"args"`
}

// address is an address to give out, and the key that it is from.
type address struct {
	prefix  netip.Prefix
	gateway netip.Addr // the zero Addr if there is none
	key     string
}

// config is a configuration that was found right.
type config struct {
	addresses []address
	routes    []*types.Route
	dns       types.DNS
}

// load reads and checks the configuration.
func load(r *roles.Request) (*config, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if c.IPAM == nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam: missing")
	}
	out := &config{dns: c.IPAM.DNS}
	var err error
	if out.addresses, err = c.addresses(r.Args); err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range out.addresses {
		addrs = append(addrs, a.prefix.Addr())
	}
	if err := roles.CheckFamilies("ipam.addresses", r.CNIVersion, addrs); err != nil {
		return nil, err
	}
	if out.routes, err = roles.ParseRoutes("ipam.routes", c.IPAM.Routes); err != nil {
		return nil, err
	}
	return out, nil
}

// addresses are those of the configuration with those of CNI_ARGS behind them; or, in place of all of these, those of args; or,
// in place of all, those of the runtime.
func (c *conf) addresses(cniArgs string) ([]address, error) {
	own, err := c.own()
	if err != nil {
		return nil, err
	}
	replaced := len(c.Args.CNI.IPs) > 0 || len(c.RuntimeConfig.IPs) > 0
	if own, err = withArgs(own, cniArgs, !replaced); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		key    string
		values []string
	}{{"args.cni.ips", c.Args.CNI.IPs}, {"runtimeConfig.ips", c.RuntimeConfig.IPs}} {
		if len(list.values) == 0 {
			continue
		}
		own = nil
		for i, value := range list.values {
			if own, err = appendAddress(own, roles.Elem(list.key, i), value, errcode.InvalidConfig); err != nil {
				return nil, err
			}
		}
	}
	return own, nil
}

// own reads ipam.addresses.
func (c *conf) own() (out []address, err error) {
	for i, a := range c.IPAM.Addresses {
		key := roles.Elem("ipam.addresses", i)
		if out, err = appendAddress(out, key+".address", a.Address, errcode.InvalidConfig); err != nil {
			return nil, err
		}
		if a.Gateway == "" {
			continue
		}
		last := &out[len(out)-1]
		if last.gateway, err = roles.ParseAddr(key+".gateway", a.Gateway); err != nil {
			return nil, err
		}
		if last.gateway.IsUnspecified() || last.gateway.IsMulticast() {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s.gateway: %s is no address that a gateway can have", key, last.gateway)
		}
		if last.gateway.BitLen() != last.prefix.Addr().BitLen() {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s.gateway: %s is not of the family of the address, %s",
				key, last.gateway, last.prefix)
		}
	}
	return out, nil
}

// withArgs appends the addresses of IP in CNI_ARGS, and gives those of GATEWAY to the addresses in whose subnets they are. With
// strict a gateway that is in none of them is an error.
func withArgs(addresses []address, cniArgs string, strict bool) ([]address, error) {
	args, err := roles.ParseArgs(cniArgs)
	if err != nil {
		return nil, err
	}
	for _, value := range list(args["IP"]) {
		if addresses, err = appendAddress(addresses, "CNI_ARGS IP", value, errcode.InvalidEnvironment); err != nil {
			return nil, err
		}
	}
	for _, value := range list(args["GATEWAY"]) {
		gateway, err := roles.ParseAddr("CNI_ARGS GATEWAY", value)
		if err != nil {
			return nil, errcode.Errorf(errcode.InvalidEnvironment, "CNI_ARGS GATEWAY: %q is no IP address", value)
		}
		used := false
		for i := range addresses {
			if addresses[i].prefix.Masked().Contains(gateway) {
				addresses[i].gateway, used = gateway, true
			}
		}
		if !used && strict {
			return nil, errcode.Errorf(errcode.InvalidEnvironment, "CNI_ARGS GATEWAY: %s is in the subnet of no address", gateway)
		}
	}
	return addresses, nil
}

// appendAddress checks an address of a key, whose errors have the code.
func appendAddress(addresses []address, key, value string, code uint) ([]address, error) {
	prefix, err := roles.ParsePrefix(key, value)
	if err != nil {
		return nil, errcode.Errorf(code, "%s", err.Error())
	}
	addr := prefix.Addr()
	if addr.IsUnspecified() || addr.IsMulticast() {
		return nil, errcode.Errorf(code, "%s: %s is no address that an interface can have", key, addr)
	}
	for _, a := range addresses {
		if a.prefix.Addr() == addr {
			return nil, errcode.Errorf(code, "%s: %s is the address of %s too", key, addr, a.key)
		}
	}
	return append(addresses, address{prefix: prefix, key: key}), nil
}

// list splits the value of a key of CNI_ARGS at its commas.
func list(value string) []string {
	if value == "" {
		return nil
	}
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
