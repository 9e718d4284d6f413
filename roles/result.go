package roles

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
)

// Versions of the specification that every role speaks, oldest first.
func Versions() []string {
	return []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
}

// atLeast compares supported versions: both must be among Versions.
func atLeast(version, least string) bool {
	all := Versions()
	return slices.Index(all, version) >= slices.Index(all, least)
}

// parseResult reads a result of any version into the newest form. The version given counts where the result names none, as some
// plugins' results do.
func parseResult(version string, raw []byte) (*types100.Result, error) {
	var shape struct {
		CNIVersion string             `json:"cniVersion"`
		Interfaces []*json.RawMessage `json:"interfaces"`
		IPs        []*json.RawMessage `json:"ips"`
		Routes     []*json.RawMessage `json:"routes"`
	}
	if err := decode("it", raw, &shape, false); err != nil {
		return nil, err
	}
	for key, list := range map[string][]*json.RawMessage{"interfaces": shape.Interfaces, "ips": shape.IPs, "routes": shape.Routes} {
		// The library's conversions would follow the null pointer.
		if slices.Contains(list, nil) {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s: an entry is null", key)
		}
	}
	if shape.CNIVersion == "" {
		var err error
		if raw, err = withKeys("it", raw, map[string]any{"cniVersion": version}); err != nil {
			return nil, err
		}
		shape.CNIVersion = version
	}
	if !slices.Contains(Versions(), shape.CNIVersion) {
		return nil, errcode.Errorf(errcode.InvalidConfig, "cniVersion: %q is not supported", shape.CNIVersion)
	}
	parsed, err := create.Create(shape.CNIVersion, raw)
	if err != nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%w", err)
	}
	res, err := types100.NewResultFromResult(parsed)
	if err != nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%w", err)
	}
	for _, ip := range res.IPs {
		if _, ok := netutil.Prefix(ip.Address); !ok {
			return nil, errcode.Errorf(errcode.InvalidConfig, "ips: %q is no address with a prefix length", ip.Address.String())
		}
	}
	for _, r := range res.Routes {
		if _, ok := netutil.Prefix(r.Dst); !ok {
			return nil, errcode.Errorf(errcode.InvalidConfig, "routes: dst %q is no prefix", r.Dst.String())
		}
	}
	return res, nil
}

// encodeResult writes a result in the version asked for, with no key that came later. The result itself is not changed.
func encodeResult(res *types100.Result, version string) ([]byte, error) {
	if res == nil {
		res = &types100.Result{}
	}
	var addrs []netip.Addr
	for _, ip := range res.IPs {
		addr, _ := addrOf(ip.Address.IP)
		addrs = append(addrs, addr)
	}
	if err := CheckFamilies("ips", version, addrs); err != nil { // the library would drop all but one
		return nil, err
	}
	asked := types.Result(older(res, version))
	if len(res.IPs) == 0 && !atLeast(version, "0.3.0") {
		// The library knows no result without an address in these versions, but a layer 2 attachment has none.
		asked = &types020.Result{CNIVersion: version, DNS: res.DNS}
	} else {
		var err error
		if asked, err = asked.GetAsVersion(version); err != nil {
			return nil, errcode.Errorf(errcode.IncompatibleVersion, "the result cannot be told in version %s: %w", version, err)
		}
	}
	raw, err := json.MarshalIndent(asked, "", "    ")
	if err != nil {
		return nil, errcode.Errorf(errcode.Internal, "encode the result: %w", err)
	}
	return append(raw, '\n'), nil
}

// older copies a result without what the specification added after the version. The library converts the frame, but hands on the
// attributes of interfaces and routes that came with 1.1.0.
func older(res *types100.Result, version string) *types100.Result {
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, IPs: res.IPs, DNS: res.DNS}
	newest := atLeast(version, "1.1.0")
	for _, i := range res.Interfaces {
		c := i.Copy()
		if !newest {
			c = &types100.Interface{Name: i.Name, Mac: i.Mac, Sandbox: i.Sandbox}
		}
		out.Interfaces = append(out.Interfaces, c)
	}
	for _, r := range res.Routes {
		c := r.Copy()
		if !newest {
			c = &types.Route{Dst: r.Dst, GW: r.GW}
		}
		out.Routes = append(out.Routes, c)
	}
	return out
}
