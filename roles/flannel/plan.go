package flannel

import (
	"encoding/json"
	"maps"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// delegate is the configuration of the plugin that does the work: that of the key delegate, and what follows from the node's subnet where it
// leaves that open. Without a subnet it is just what DEL and GC need.
func (c *conf) delegate(r *roles.Request, s *subnet) (keys, error) {
	out := maps.Clone(c.Delegate)
	if out == nil {
		out = keys{}
	}
	ipam, err := c.ipam(s)
	if err != nil {
		return nil, err
	}
	set := map[string]any{"name": r.Owner.Network, "type": c.kind, "cniVersion": r.CNIVersion, "ipam": ipam}
	if c.RuntimeConfig != nil {
		set["runtimeConfig"] = c.RuntimeConfig
	}
	if s != nil {
		// Somebody has to masquerade: if flanneld does not, the plugin does.
		unless(c.Delegate, set, "ipMasq", !s.masq)
		unless(c.Delegate, set, "mtu", s.mtu)
	}
	if c.kind == "bridge" {
		unless(c.Delegate, set, "isGateway", true)
	}
	for key, value := range set {
		if out[key], err = json.Marshal(value); err != nil {
			return nil, errcode.Errorf(errcode.Internal, "delegate.%s: %w", key, err)
		}
	}
	return out, nil
}

// unless sets a key that the configuration does not have.
func unless(has keys, set map[string]any, key string, value any) {
	if _, ok := has[key]; !ok {
		set[key] = value
	}
}

// ipam is the key of the delegate: the node's subnets as ranges, and a route to the networks of all nodes behind those of the configuration.
func (c *conf) ipam(s *subnet) (map[string]any, error) {
	out := map[string]any{"type": "host-local"}
	for key, value := range c.IPAM {
		out[key] = value
	}
	if s == nil {
		return out, nil
	}
	type ofSubnet struct {
		Subnet string `json:"subnet"`
	}
	type route struct {
		Dst string `json:"dst"`
	}
	var ranges [][]ofSubnet
	for _, p := range s.subnets {
		ranges = append(ranges, []ofSubnet{{p.String()}})
	}
	routes := []any{}
	var given []json.RawMessage
	if text, ok := c.IPAM["routes"]; ok {
		if err := json.Unmarshal(text, &given); err != nil {
			return nil, invalid("ipam.routes: %v", err)
		}
	}
	for _, r := range given {
		routes = append(routes, r)
	}
	for _, p := range s.networks {
		routes = append(routes, route{p.String()})
	}
	out["ranges"], out["routes"] = ranges, routes
	return out, nil
}
