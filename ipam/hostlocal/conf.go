package hostlocal

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is what the role reads of the network configuration; README.md explains the keys.
type conf struct {
	IPAM *struct {
		Ranges [][]rangeConf `json:"ranges" doc:"a list of range sets. An attachment gets one address of each set; a set is a list of ranges that serve one after the other. Ranges must not overlap, and those of a set are of one family"`
		shortConf
		Routes     []roles.RouteConf `json:"routes" doc:"answered as they are"`
		ResolvConf string            `json:"resolvConf" file:"any" doc:"a file in the format of resolv.conf(5) that is answered as 'dns'"`
		DataDir    string            `json:"dataDir" default:"/var/lib/cni/networks" doc:"where the reservations are, in a folder for each network; an absolute path"`
	} `json:"ipam"`
	RuntimeConfig struct {
		IPRanges [][]rangeConf `json:"ipRanges" doc:"capability 'ipRanges': range sets that come before those of the configuration"`
		IPs      []string      `json:"ips" doc:"capability 'ips': addresses to give out, instead of the next free ones; a prefix length behind them is passed over. Each must be in a range, and at most one in a range set"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips" doc:"the same"`
		} `json:"cni"`
	} `json:"args"`
}

// place is all that DEL and GC read: they work whatever the rest is like.
type place struct {
	IPAM struct {
		DataDir string `json:"dataDir"`
	} `json:"ipam"`
}

// config is a configuration that was found right.
type config struct {
	dataDir    string
	resolvConf string
	asked      *conf // holds what requests reads
	sets       [][]pool
	routes     []*types.Route
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
	if dir := c.IPAM.DataDir; dir != "" && !filepath.IsAbs(dir) { // DEL and GC take it: the reference plugin may have been there
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.dataDir: %q is no absolute path", dir)
	}
	if n := len(r.Owner.Network); n > unix.NAME_MAX {
		return nil, errcode.Errorf(errcode.InvalidConfig, "name: the addresses are kept in a folder of this name, and its %d bytes are more than %d",
			n, unix.NAME_MAX)
	}
	out := &config{dataDir: c.IPAM.DataDir, resolvConf: c.IPAM.ResolvConf, asked: c}
	var err error
	if out.sets, err = c.sets(); err != nil {
		return nil, err
	}
	var firsts []netip.Addr
	for _, set := range out.sets {
		firsts = append(firsts, set[0].First)
	}
	if err := roles.CheckFamilies("ipam.ranges", r.CNIVersion, firsts); err != nil {
		return nil, err
	}
	if out.routes, err = roles.ParseRoutes("ipam.routes", c.IPAM.Routes); err != nil {
		return nil, err
	}
	return out, nil
}

// sets are the range sets in the order in which an attachment gets its addresses: those of the runtime first, then the short
// form, then ranges.
func (c *conf) sets() ([][]pool, error) {
	var sets [][]pool
	var keys []string
	add := func(key string, ranges []rangeConf) error {
		set, err := parseSet(key, ranges)
		sets, keys = append(sets, set), append(keys, key)
		return err
	}
	for i, set := range c.RuntimeConfig.IPRanges {
		if err := add(roles.Elem("runtimeConfig.ipRanges", i), set); err != nil {
			return nil, err
		}
	}
	if c.IPAM.Subnet != "" {
		short, err := rangeConf(c.IPAM.shortConf).parse("ipam")
		if err != nil {
			return nil, err
		}
		sets, keys = append(sets, []pool{short}), append(keys, "ipam.subnet")
	}
	for i, set := range c.IPAM.Ranges {
		if err := add(roles.Elem("ipam.ranges", i), set); err != nil {
			return nil, err
		}
	}
	if len(sets) == 0 {
		return nil, errcode.Errorf(errcode.InvalidConfig, "ipam.ranges: missing, and so is ipam.subnet: there is no address to give out")
	}
	for i, a := range sets {
		for j, b := range sets[:i] {
			if p, q, yes := overlap(b, a); yes {
				return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %s overlaps with %s of %s", keys[i], q, p, keys[j])
			}
		}
	}
	return sets, nil
}

// request is an address that the runtime asks for, and the key by which it does.
type request struct {
	addr netip.Addr
	key  string
	code uint // of an error in it
}

// requests are the addresses that the runtime asks for, each once. A prefix length behind an address is passed over, as the
// range's counts.
func (c *conf) requests(cniArgs string) ([]request, error) {
	args, err := roles.ParseArgs(cniArgs)
	if err != nil {
		return nil, err
	}
	var out []request
	add := func(key, value string, code uint) error {
		text, _, hasBits := strings.Cut(value, "/")
		addr, err := roles.ParseAddr(key, text)
		if err == nil && hasBits {
			_, err = roles.ParsePrefix(key, value)
		}
		if err != nil {
			return errcode.Errorf(code, "%s: %q is no IP address", key, value)
		}
		if !slices.ContainsFunc(out, func(r request) bool { return r.addr == addr }) {
			out = append(out, request{addr, key, code})
		}
		return nil
	}
	if args["IP"] != "" {
		for _, value := range strings.Split(args["IP"], ",") {
			if err := add("CNI_ARGS IP", strings.TrimSpace(value), errcode.InvalidEnvironment); err != nil {
				return nil, err
			}
		}
	}
	for i, value := range c.Args.CNI.IPs {
		if err := add(roles.Elem("args.cni.ips", i), value, errcode.InvalidConfig); err != nil {
			return nil, err
		}
	}
	for i, value := range c.RuntimeConfig.IPs {
		if err := add(roles.Elem("runtimeConfig.ips", i), value, errcode.InvalidConfig); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// assign gives each request to the first set that has the address and no request yet.
func assign(sets [][]pool, asked []request) ([]store.Set, error) {
	out := storeSets(sets)
	var left []string
	var code uint
	for _, q := range asked {
		i := slices.IndexFunc(out, func(s store.Set) bool { return s.Contains(q.addr) })
		switch {
		case i >= 0 && slices.Contains(out[i].Skip, q.addr):
			return nil, errcode.Errorf(q.code, "%s: %s is the gateway of range set %d", q.key, q.addr, i)
		case i >= 0 && !out[i].Want.IsValid():
			out[i].Want = q.addr
		case i >= 0:
			left = append(left, q.key+": "+q.addr.String()+" is a second address of one range set")
			code = q.code
		default:
			left = append(left, q.key+": "+q.addr.String()+" is in no range")
			code = q.code
		}
	}
	if len(left) > 0 {
		return nil, errcode.Errorf(code, "%s", strings.Join(left, "; "))
	}
	return out, nil
}
